//! A process that is killed at any moment leaves every answered write, and of each other one all or nothing.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value};

use crate::database::{self, tell};
use crate::oracle::{Oracle, Told, indexed};
use crate::plan::{Plan, Step};
use crate::worker::{Content, Line, Orders, WRITERS, read_line};

/// Values that fill segments within a few lives.
const LARGE: usize = 60 << 10;

/// When a worker is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// Before its so-manieth touch of a file inside open.
    Opening(usize),
    /// At its so-manieth answer.
    Answer(usize),
    /// Before its so-manieth touch of a file inside close, unless it has closed before.
    Closing(usize),
}

/// One writer, as its parent knows it.
#[derive(Debug, Default)]
struct Writer {
    oracle: Oracle,
    /// The step that was under way when the worker was killed.
    doubt: Option<Step>,
    versions: std::collections::BTreeMap<String, u64>,
}

/// What the parent knows of one directory.
struct Parent {
    orders: Orders,
    writers: Vec<Writer>,
    /// How often the last open that came to its end touched a file.
    touches: usize,
    counts: Counts,
}

/// Told at the end, so that a run that tested nothing is seen.
#[derive(Debug, Default)]
struct Counts {
    opened: usize,
    killed_in_open: usize,
    killed_in_close: usize,
    answers: usize,
    in_doubt: usize,
    done_in_doubt: usize,
    findings: usize,
    /// Bases at the end.
    merged: usize,
}

impl Parent {
    fn new(directory: &Path, seed: u64, filling: usize) -> Self {
        let orders = Orders::new(directory, seed, filling);
        let writers = (0..WRITERS).map(|_| Writer::default()).collect();
        Self { orders, writers, touches: 1, counts: Counts::default() }
    }

    /// One worker from its start to its kill; what it said before is taken in, also what was still in the pipe.
    fn life(&mut self, moment: Moment) {
        self.orders.life += 1;
        let mut child = self.orders.spawn();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut plans: Vec<Plan> = (0..WRITERS)
            .map(|writer| Plan::new(self.orders.seed, self.orders.life, writer, self.orders.filling))
            .collect();
        let (mut touches, mut answers, mut opened, mut closing) = (0, 0, false, false);
        for text in out.split(b'\n') {
            let text = text.unwrap();
            let Some(line) = std::str::from_utf8(&text).ok().and_then(read_line) else { continue };
            match line {
                Line::Opening => kill_if(matches!(moment, Moment::Opening(0)), &mut child),
                Line::Touches(_) => {
                    touches += 1;
                    let now = match moment {
                        Moment::Opening(n) => !opened && n == touches,
                        Moment::Closing(n) => closing && n == touches,
                        Moment::Answer(_) => false,
                    };
                    kill_if(now, &mut child);
                }
                Line::Closing => {
                    (touches, closing) = (0, true);
                    kill_if(matches!(moment, Moment::Closing(0)), &mut child);
                }
                Line::Holds(content) => {
                    (opened, self.touches) = (true, touches);
                    self.check(content);
                    kill_if(matches!(moment, Moment::Opening(_) | Moment::Answer(0)), &mut child);
                }
                Line::Answered { writer, outcome, versions } => {
                    let step = plans[usize::try_from(writer).unwrap()].next().unwrap();
                    self.answered(writer, &step, &outcome, versions);
                    answers += 1;
                    kill_if(matches!(moment, Moment::Answer(n) if n == answers), &mut child);
                }
            }
        }
        let status = child.wait().unwrap();
        let killed = ExitStatusExt::signal(&status) == Some(9);
        assert!(killed || (closing && status.success()), "{}: {status}", self.story());
        self.counts.killed_in_close += usize::from(closing && killed);
        self.counts.opened += usize::from(opened);
        self.counts.killed_in_open += usize::from(!opened);
        self.counts.answers += answers;
        if opened && !closing {
            // Each writer was inside its next step, or had not begun it.
            for (writer, plan) in self.writers.iter_mut().zip(&mut plans) {
                writer.doubt = plan.next();
                self.counts.in_doubt += 1;
            }
        }
    }

    fn story(&self) -> String {
        format!("seed={} life={} directory={}", self.orders.seed, self.orders.life, self.orders.directory.display())
    }

    fn answered(&mut self, writer: u64, step: &Step, outcome: &str, versions: Vec<(String, String)>) {
        let story = self.story();
        let writer = &mut self.writers[usize::try_from(writer).unwrap()];
        assert_eq!(format!("{:?}", writer.oracle.apply(step)), outcome, "{story} step={step:?}");
        for (id, version) in versions {
            let version = version.parse().unwrap();
            let before = writer.versions.insert(id, version).unwrap_or(0);
            assert!(before < version, "{story}: a version came twice: {version} after {before}");
        }
    }

    /// Compares what a new worker found with what the ones before it answered.
    fn check(&mut self, content: Content) {
        let story = self.story();
        for (n, writer) in self.writers.iter_mut().enumerate() {
            let mine = |id: &str| id.split('-').next() == Some(&n.to_string());
            let found: Vec<(String, String)> = content
                .documents
                .iter()
                .filter(|(id, ..)| mine(id))
                .map(|(id, _, text)| (id.clone(), text.clone()))
                .collect();
            let told: Vec<Told> = content.changes.iter().filter(|(_, id, ..)| mine(id)).map(Told::from).collect();
            if let Some(step) = writer.doubt.take() {
                let mut after = writer.oracle.clone();
                after.apply(&step);
                if (after.created(), &after.told) == (found.clone(), &told) {
                    self.counts.done_in_doubt += usize::from(after.told.len() > writer.oracle.told.len());
                    writer.oracle = after;
                }
            }
            assert_eq!(found, writer.oracle.created(), "{story} writer={n}: documents and their order");
            assert_eq!(told, writer.oracle.told, "{story} writer={n}: changes");
            writer.oracle.told.clear();
            writer.check_versions(&content, mine, &story);
        }
        let documents: Vec<Map<String, Value>> =
            content.documents.iter().map(|(_, _, text)| serde_json::from_str(text).unwrap()).collect();
        assert_eq!(content.by_n, indexed(&documents, "n"), "{story}: the index by n");
        assert!(content.by_n.iter().eq(content.by_n_backward.iter().rev()), "{story}: the same list backward");
        assert_eq!(content.by_u, indexed(&documents, "u"), "{story}: the unique index");
        assert_eq!(content.count, documents.len() as u64, "{story}: the count");
        let versions: Vec<u64> = content.changes.iter().map(|(_, _, version, _)| version.parse().unwrap()).collect();
        assert!(versions.is_sorted(), "{story}: changes in the order of their versions");
        self.counts.findings += usize::from(!content.recovery.is_empty());
        self.orders.cursor = Some(content.cursor);
    }
}

impl Writer {
    /// An answered version stays; one that was never answered lies above all that were.
    fn check_versions(&mut self, content: &Content, mine: impl Fn(&str) -> bool, story: &str) {
        for (id, version, _) in content.documents.iter().filter(|(id, ..)| mine(id)) {
            let version: u64 = version.parse().unwrap();
            let changed = content.changes.iter().rev().find(|(_, other, ..)| other == id);
            let told = changed.map(|(_, _, version, _)| version.parse().unwrap());
            assert_eq!(version, told.unwrap_or(version), "{story} id={id}: the feed tells another version");
            let known = self.versions.insert(id.clone(), version).unwrap_or(0);
            assert!(known <= version, "{story} id={id}: version {version} after {known} was answered");
            assert!(known == version || told.is_some(), "{story} id={id}: a version that no change explains");
        }
    }
}

impl From<&(String, String, String, Option<String>)> for Told {
    fn from((kind, id, _, text): &(String, String, String, Option<String>)) -> Self {
        let kinds = ["created", "updated", "deleted"];
        let kind = kinds.into_iter().find(|known| known == kind).unwrap();
        Self { kind, id: id.clone(), text: text.clone() }
    }
}

fn kill_if(now: bool, child: &mut Child) {
    if now {
        child.kill().unwrap();
    }
}

/// Kills `kills` workers of one directory: one in five inside open, one in ten inside close, the others within
/// `most` answers.
fn kill_many(seed: u64, kills: u64, filling: usize, most: usize, vary: impl Fn(&mut Orders, &mut StdRng)) -> Counts {
    let place = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(seed);
    let mut parent = Parent::new(place.path(), seed, filling);
    for kill in 0..kills {
        vary(&mut parent.orders, &mut random);
        let moment = match kill % 10 {
            4 | 9 => Moment::Opening(random.random_range(0..=parent.touches)),
            7 => Moment::Closing(random.random_range(0..12)),
            _ => Moment::Answer(random.random_range(0..most)),
        };
        let closes = matches!(moment, Moment::Closing(_));
        parent.orders.close_after = closes.then(|| random.random_range(0..30));
        parent.life(moment);
    }
    parent.orders.close_after = None;
    // Some workers are through with their open before the kill arrives; those do not count.
    let in_open = usize::try_from(kills / 5).unwrap();
    for _ in 0..kills {
        if parent.counts.killed_in_open < in_open {
            parent.life(Moment::Opening(random.random_range(0..=parent.touches)));
        }
    }
    parent.life(Moment::Answer(0));
    parent.counts.merged = merged(&parent.orders);
    tell(&format!("{:?}", parent.counts));
    let Counts { answers, killed_in_open, .. } = parent.counts;
    assert!(answers > 0 && killed_in_open >= in_open, "too little was tried: {:?}", parent.counts);
    parent.counts
}

/// How many bases there are; where segments were filled, once the log had the time that no life before gave it.
fn merged(orders: &Orders) -> usize {
    // A base is written under its own name, so what is there may not be whole until the log is closed.
    let bases = || {
        let files = std::fs::read_dir(orders.directory.join("partition-0000")).unwrap().map(Result::unwrap);
        files.filter(|file| file.file_name().to_string_lossy().starts_with("base-")).count()
    };
    let attempts = if orders.filling >= LARGE { 10 } else { 1 };
    for attempt in 0..attempts {
        let kappa = database::open(&orders.directory, &orders.options());
        // Longer at each attempt: closing gives up a merge that is under way.
        std::thread::park_timeout(Duration::from_millis(500) * attempt);
        kappa.close().unwrap();
        if bases() > 0 {
            break;
        }
    }
    bases()
}

/// An answered write that a kill takes back, half a batch, an index that disagrees with its documents, a
/// change that the feed tells twice or never: each would be seen only after the crash.
#[test]
fn crash_by_kill_loses_nothing_that_was_answered() {
    let seed = database::seed(1);
    kill_many(seed, database::rounds(50), 2 << 10, 150, |_, _| {});
}

/// Large values fill segments, so that kills fall into checkpoints, sealing and merges.
#[test]
fn crash_by_kill_amid_checkpoints_and_merges() {
    let seed = database::seed(2);
    let counts = kill_many(seed, database::rounds(30), LARGE, 400, |_, _| {});
    assert_eq!(counts.merged, 1, "the segments were merged into one base: {counts:?}");
}

/// A directory whose owner changes the view, or answers before it syncs: a kill takes neither from the system.
#[test]
fn crash_by_kill_with_other_views_and_durabilities() {
    let seed = database::seed(3);
    kill_many(seed, database::rounds(20), 8 << 10, 150, |orders, random| {
        orders.memory_view = random.random_bool(0.5);
        orders.written = random.random_bool(0.5);
    });
}
