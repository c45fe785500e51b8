//! Whole databases against a map: random writes, reads, time, pressure, reopens and crashes, view by view.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kappa_core::env::{Clock, Env, ManualClock, SeededEntropy};
use kappa_core::{
    Answer, CallOptions, Collection, Durability, FeedStart, Kappa, Operation, Options, ViewKind, WriteOptions,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value, json};

use crate::database::{self, small};
use crate::ending::EndingFiles;
use crate::oracle::{Oracle, Outcome, compare, indexed};
use crate::plan::{Kind, Plan, Step};
use crate::worker::{content, run};

const STEPS: usize = 60;
/// Time passes in such steps of milliseconds, so that it often reads exactly the end of a document.
const TICK: u32 = 100;
const HOUR: i64 = 3_600_000;

/// One database and the map that says what is in it.
struct Life<'a> {
    directory: &'a Path,
    random: StdRng,
    kind: Kind,
    plan: Plan,
    clock: Arc<ManualClock>,
    oracle: Oracle,
    /// When documents end, in engine time.
    ends: BTreeMap<String, i64>,
    /// Engine time, as it was last told.
    now: i64,
    kappa: Kappa,
    files: EndingFiles,
    story: String,
}

fn start(directory: &Path, random: &mut StdRng, clock: &Arc<ManualClock>) -> (Kappa, EndingFiles) {
    let view = if random.random_bool(0.5) { ViewKind::Sled } else { ViewKind::Memory };
    let files = EndingFiles::default();
    let entropy = Arc::new(SeededEntropy::new(random.random()));
    let env = Env { clock: Arc::clone(clock) as _, entropy, files: Arc::new(files.clone()) };
    // What ends here is a process, not the system: it keeps what is not synced too.
    let durability = if random.random_bool(0.1) { Durability::Synced } else { Durability::Written };
    (Kappa::open_with(directory, &Options { view, durability, ..small() }, &env).unwrap(), files)
}

impl<'a> Life<'a> {
    fn new(directory: &'a Path, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let now = 1_700_000_000_000;
        let clock = Arc::new(ManualClock::new(now));
        let (kappa, files) = start(directory, &mut random, &clock);
        let kind = Kind::ALL[random.random_range(0..Kind::ALL.len())];
        let plan = Plan::new(seed, 0, 0, 4 << 10).of(kind);
        let (oracle, ends, story) = (Oracle::default(), BTreeMap::new(), format!("seed={seed}"));
        Self { directory, random, kind, plan, clock, oracle, ends, now, kappa, files, story }
    }

    fn step(&mut self, things: &mut Collection) {
        match self.random.random_range(0..100) {
            0..66 => self.write(things),
            66..76 => {
                let passed = self.random.random_range(0..40_u32) * TICK;
                self.pass(passed);
            }
            76..86 => self.list(things),
            86..90 => self.press(),
            90..92 => self.sweep(),
            92..95 => self.set_wall(),
            _ => {
                let crash = self.random.random_bool(0.5);
                self.reopen(things, crash);
            }
        }
    }

    /// One step of the plan, now and then with an end.
    fn write(&mut self, things: &Collection) {
        let step = self.plan.next().unwrap();
        let ttl = self.random.random_bool(0.3).then(|| self.random.random_range(1..=40_u32) * TICK);
        let options = |ttl: u32| WriteOptions { ttl: Some(Duration::from_millis(ttl.into())), ..Default::default() };
        let expected = self.oracle.apply(&step);
        let (answered, ttl) = match (&step, ttl) {
            (Step::Create(map), Some(ttl)) => (ended(things.create_with(map, options(ttl)).wait()), Some(ttl)),
            (Step::Replace(map), Some(ttl)) => {
                let id = map["id"].as_str().unwrap();
                (ended(things.replace_with(id, map, options(ttl)).wait()), Some(ttl))
            }
            (Step::Update(id, patch), Some(ttl)) => {
                (ended(things.update_with(id, patch, options(ttl)).wait()), Some(ttl))
            }
            _ => (run(&self.kappa, things, &step).0, None),
        };
        assert_eq!(answered, expected, "{} step={step:?}", self.story);
        if matches!(expected, Outcome::Written | Outcome::Batch | Outcome::Deleted) {
            self.set_ends(&step, ttl);
        }
    }

    fn set_ends(&mut self, step: &Step, ttl: Option<u32>) {
        let id = match step {
            Step::Batch(steps) => return steps.iter().for_each(|step| self.set_ends(step, None)),
            Step::Update(..) if ttl.is_none() => return,
            Step::Create(map) | Step::Replace(map) => map["id"].as_str().unwrap(),
            Step::Update(id, _) | Step::Delete(id) => id,
        };
        match ttl {
            Some(ttl) => self.ends.insert(id.to_owned(), self.now + i64::from(ttl)),
            None => self.ends.remove(id),
        };
    }

    /// Somebody sets the clock of the machine: engine time does not follow before the next open.
    fn set_wall(&mut self) {
        let hours = self.random.random_range(-3..=3);
        self.clock.set_wall(self.clock.wall_ms() + hours * HOUR);
        let now = self.engine_time();
        assert_eq!(now, self.now, "{}: engine time followed a jump of {hours} hours", self.story);
    }

    /// The time of a record made for this; so engine time is in the log before any reopen, too.
    fn engine_time(&self) -> i64 {
        let mut feed = self.kappa.feed(FeedStart::Now).wait().unwrap();
        let id = self.kappa.collection("moments").unwrap().create(json!({})).wait().unwrap().id;
        loop {
            let change = feed.next_within(Duration::ZERO).unwrap().expect("an answered write is in the feed");
            if change.id == id {
                return change.time;
            }
        }
    }

    /// Lets time pass; a wall clock that is nearly right may be followed by a tenth of it at most.
    fn pass(&mut self, ms: u32) {
        self.clock.advance(ms.into());
        let (now, passed) = (self.engine_time(), i64::from(ms));
        let off = now - self.now - passed;
        assert!(now >= self.now && off.abs() <= passed / 10 + 1, "{}: passed={passed} off={off}", self.story);
        self.move_to(now);
    }

    /// What has ended is absent at once.
    fn move_to(&mut self, now: i64) {
        self.now = now;
        let ended: Vec<String> =
            self.ends.iter().filter(|(_, end)| **end <= self.now).map(|(id, _)| id.clone()).collect();
        for id in ended {
            self.ends.remove(&id);
            self.oracle.documents.remove(&id);
            self.oracle.order.retain(|other| *other != id);
        }
    }

    /// A part of the index by `n`, from either end, page by page.
    fn list(&mut self, things: &Collection) {
        let value = |random: &mut StdRng| match random.random_range(0..4) {
            0 => Value::Null,
            1 => json!("t2"),
            _ => json!(random.random_range(-4..13)),
        };
        let (from, to) = (value(&mut self.random), value(&mut self.random));
        let backward = self.random.random_bool(0.5);
        let limit = self.random.random_range(1..20);
        let list = things.list().by("n").from(from.clone()).to(to.clone()).limit(limit);
        let list = list.page_size(self.random.random_range(1..6));
        let list = if backward { list.backward() } else { list };
        let found: Vec<String> = list.iter().map(|entry| entry.unwrap().id).collect();
        let within = |fields: &&Map<String, Value>| {
            fields.get("n").is_some_and(|n| compare(n, &from).is_ge() && compare(n, &to).is_le())
        };
        let mut expected = indexed(self.oracle.order.iter().map(|id| &self.oracle.documents[id]).filter(within), "n");
        if backward {
            expected.reverse();
        }
        expected.truncate(limit);
        assert_eq!(found, expected, "{} from={from} to={to} backward={backward} limit={limit}", self.story);
    }

    /// More than a memtable holds, so that a checkpoint falls between the steps.
    fn press(&mut self) {
        let mut batch = self.kappa.batch();
        for n in 0..40 {
            batch = batch.create("pressure", json!({"id": n.to_string(), "filling": "k".repeat(3_500)}));
        }
        batch.commit().wait().unwrap();
        let mut batch = self.kappa.batch();
        for n in 0..40 {
            batch = batch.delete("pressure", &n.to_string());
        }
        batch.commit().wait().unwrap();
    }

    fn sweep(&mut self) {
        while self.kappa.call(Operation::Sweep, CallOptions::default()).wait().unwrap() == Answer::More(true) {}
    }

    fn reopen(&mut self, things: &mut Collection, crash: bool) {
        if crash {
            self.files.end();
        }
        // Every handle goes before the directory is opened again.
        let memory = Kappa::in_memory(&small(), &Env::default()).unwrap();
        *things = memory.collection(database::THINGS).unwrap();
        self.kappa = memory;
        self.clock.advance(TICK.into());
        (self.kappa, self.files) = start(self.directory, &mut self.random, &self.clock);
        *things = database::indexed(&self.kappa, self.kind.collection());
        // The clock as it is set now, unless that would be before something that was written.
        let now = self.engine_time();
        assert_eq!(now, self.clock.wall_ms().max(self.now + 1), "{}: engine time at open", self.story);
        self.move_to(now);
    }

    fn compare(&mut self, things: &Collection) {
        let content = content(&self.kappa, things, None);
        let found: Vec<_> = content.documents.into_iter().map(|(id, _, text)| (id, text)).collect();
        assert_eq!(found, self.oracle.created(), "{}: documents and their order", self.story);
        let documents = || self.oracle.order.iter().map(|id| &self.oracle.documents[id]);
        assert_eq!(content.by_n, indexed(documents(), "n"), "{}: the index by n", self.story);
        assert_eq!(content.by_u, indexed(documents(), "u"), "{}: the unique index", self.story);
        let living = found.len() as u64;
        assert!(content.count >= living, "{}: count={} living={living}", self.story, content.count);
    }

    /// The feed from its start, folded, is the database; ends apart, it tells what was done.
    fn compare_feed(&mut self, things: &Collection) {
        self.sweep();
        assert_eq!(things.count().wait().unwrap(), self.oracle.order.len() as u64, "{}: the count", self.story);
        let mut feed = self.kappa.feed(FeedStart::Oldest).wait().unwrap();
        let mut folded = BTreeMap::new();
        let mut told = Vec::new();
        while let Some(change) = feed.next_within(Duration::ZERO).unwrap() {
            if change.collection != self.kind.collection() {
                continue;
            }
            let kind = format!("{:?}", change.kind).to_lowercase();
            let before = match &change.document {
                Some(document) => folded.insert(change.id.clone(), document.text().to_owned()),
                None => folded.remove(&change.id),
            };
            assert_eq!(before.is_some(), kind != "created", "{}: {kind} {}", self.story, change.id);
            if kind != "expired" {
                told.push((kind, change.id, change.document.map(|document| document.text().to_owned())));
            }
        }
        let expected: Vec<_> = self.oracle.told.drain(..).map(|t| (t.kind.to_owned(), t.id, t.text)).collect();
        assert_eq!(told, expected, "{}: the changes", self.story);
        let documents: BTreeMap<String, String> = self.oracle.created().into_iter().collect();
        assert_eq!(folded, documents, "{}: the changes, folded", self.story);
    }
}

fn ended(answer: kappa_core::Result<kappa_core::Entry>) -> Outcome {
    match answer {
        Ok(_) => Outcome::Written,
        Err(error) if error.kind() == kappa_core::ErrorKind::NotFound => Outcome::NotFound,
        Err(error) if error.kind() == kappa_core::ErrorKind::AlreadyExists => Outcome::AlreadyExists,
        Err(error) => panic!("no step may fail so: {error}"),
    }
}

/// Each part may be right and the whole wrong: an expired holder of a unique value, a cursor across a
/// checkpoint, a counter after a replay, a view that another kind of view left behind.
#[test]
fn model_of_a_database_holds_over_reopens_and_crashes() {
    let first = database::seed(1_000);
    for seed in first..first + database::rounds(64) {
        let place = tempfile::tempdir().unwrap();
        let mut life = Life::new(place.path(), seed);
        let mut collection = database::indexed(&life.kappa, life.kind.collection());
        for step in 0..STEPS {
            life.story = format!("seed={seed} step={step}");
            life.step(&mut collection);
            if step % 7 == 0 || step + 1 == STEPS {
                life.compare(&collection);
            }
        }
        life.compare_feed(&collection);
    }
}
