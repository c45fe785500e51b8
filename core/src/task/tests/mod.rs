//! A partition in memory that runs operations of the queue, and checks that every key follows from the tasks.

mod heavy;
mod life;
mod retries;
mod rules;
mod schedules;
mod shared;
mod simulation;
mod time;
mod unreadable;
mod worker;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::engine::{Direction, Event, KeyRange, KeyValue, MAX_OPERATION_BYTES, MAX_OPERATION_KEYS, Record, Sequence};
use crate::engine::{Versioned, Write};
use crate::error::Result;
use crate::partition::layer::{add, scan_map};
use crate::partition::transaction::{Drawn, Source};
use crate::partition::{Halt, Moment, Run, Transaction};

use super::json::Json;
use super::model::{
    Claimed, Enqueued, Lease, NewTask, Outcome, QueueInfo, Report, Task, TaskId, TaskState, Verdict, Work, Worked,
};
use super::operation::{TaskAnswer, TaskOperation};
use super::{keys, place, record, run};

type Keys = BTreeMap<Bytes, Versioned>;

/// Every read is at hand.
struct AtHand<'a>(&'a Keys);

impl Source for AtHand<'_> {
    fn get(&mut self, key: &[u8]) -> Run<Option<Versioned>> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&mut self, range: &KeyRange, direction: Direction, limit: usize) -> Run<Vec<KeyValue>> {
        Ok(scan_map(self.0, range, direction, limit))
    }

    fn need_stable(&mut self) {}
}

/// A read is answered only in the runs after the one that asked for it first.
struct Fetched<'a> {
    keys: &'a Keys,
    known: BTreeSet<String>,
    missing: BTreeSet<String>,
}

impl Fetched<'_> {
    fn need(&mut self, read: String) -> Run<()> {
        if self.known.contains(&read) {
            return Ok(());
        }
        self.missing.insert(read);
        Err(Halt::NeedsRead)
    }
}

impl Source for Fetched<'_> {
    fn get(&mut self, key: &[u8]) -> Run<Option<Versioned>> {
        self.need(format!("{key:?}"))?;
        Ok(self.keys.get(key).cloned())
    }

    fn scan(&mut self, range: &KeyRange, direction: Direction, limit: usize) -> Run<Vec<KeyValue>> {
        self.need(format!("{range:?}{direction:?}{limit}"))?;
        Ok(scan_map(self.keys, range, direction, limit))
    }

    fn need_stable(&mut self) {}
}

/// Notes what a commit has to check where several processes write: every key that was read, and every entry of a scan.
struct Noted<'a> {
    keys: &'a Keys,
    read: BTreeSet<Bytes>,
}

impl Source for Noted<'_> {
    fn get(&mut self, key: &[u8]) -> Run<Option<Versioned>> {
        self.read.insert(Bytes::copy_from_slice(key));
        Ok(self.keys.get(key).cloned())
    }

    fn scan(&mut self, range: &KeyRange, direction: Direction, limit: usize) -> Run<Vec<KeyValue>> {
        let found = scan_map(self.keys, range, direction, limit);
        self.read.extend(found.iter().map(|entry| entry.key.clone()));
        Ok(found)
    }

    fn need_stable(&mut self) {}
}

/// No operation fetches its reads in more rounds.
const MOST_ROUNDS: usize = 100;

/// One partition with its clock.
#[derive(Clone, Debug, Default)]
pub struct Bench {
    keys: Keys,
    sequence: Sequence,
    moment: Moment,
    events: Vec<Event>,
    /// Whether every operation is also run with reads that have to be fetched.
    both_ways: bool,
}

impl Bench {
    pub fn new() -> Self {
        Self { moment: Moment { ms: 1_700_000_000_000, tick: 0 }, sequence: 100, both_ways: true, ..Self::default() }
    }

    /// Runs each operation once: for simulations.
    pub fn fast() -> Self {
        Self { both_ways: false, ..Self::new() }
    }

    pub fn now(&self) -> i64 {
        self.moment.ms
    }

    pub fn wait(&mut self, ms: i64) {
        self.moment = Moment { ms: self.moment.ms + ms, tick: 0 };
    }

    pub fn call(&mut self, operation: &TaskOperation) -> Result<TaskAnswer> {
        self.moment.tick += 1;
        let number = self.sequence + 1;
        let drawn = Drawn { moment: self.moment, seed: number.wrapping_mul(0x9e37_79b9_7f4a_7c15) };
        let mut source = AtHand(&self.keys);
        let mut tx = Transaction::new(&mut source, drawn, number);
        let answer = run(operation, &mut tx);
        let record = tx.into_record();
        if self.both_ways {
            self.compare(operation, drawn, &answer, &record);
        }
        assert!(!operation.is_read() || record.is_empty(), "a read wrote: {operation:?}");
        match answer {
            Ok(answer) => {
                self.commit(record);
                Ok(answer)
            }
            Err(Halt::Refused(error)) => Err(error),
            Err(Halt::NeedsRead) => panic!("every read is at hand: {operation:?}"),
        }
    }

    /// Runs the operation once more, with reads that are fetched in rounds: it must do the same.
    fn compare(&self, operation: &TaskOperation, drawn: Drawn, answer: &Run<TaskAnswer>, record: &Record) {
        let mut source = Fetched { keys: &self.keys, known: BTreeSet::new(), missing: BTreeSet::new() };
        for _ in 0..MOST_ROUNDS {
            let mut tx = Transaction::new(&mut source, drawn, self.sequence + 8);
            let again = run(operation, &mut tx);
            let other = tx.into_record();
            match (answer, again) {
                (_, Err(Halt::NeedsRead)) => source.known.append(&mut source.missing),
                (Ok(answer), Ok(again)) => {
                    assert_eq!(*answer, again, "{operation:?}");
                    assert_eq!(*record, other, "a second run wrote something else: {operation:?}");
                    return;
                }
                (Err(Halt::Refused(error)), Err(Halt::Refused(again))) => {
                    assert_eq!(error.to_string(), again.to_string(), "{operation:?}");
                    return;
                }
                (answer, again) => panic!("{operation:?}: {answer:?} but {again:?}"),
            }
        }
        panic!("reads are fetched one by one: {operation:?}");
    }

    /// What an operation reads and what it writes, without its being committed.
    pub fn touched(&self, operation: &TaskOperation) -> (BTreeSet<Bytes>, BTreeSet<Bytes>) {
        let mut source = Noted { keys: &self.keys, read: BTreeSet::new() };
        let mut tx = Transaction::new(&mut source, Drawn { moment: self.moment, seed: 1 }, self.sequence + 1);
        run(operation, &mut tx).unwrap();
        let written = tx.into_record().writes.iter().map(|write| write.key().clone()).collect();
        (source.read, written)
    }

    fn commit(&mut self, record: Record) {
        if record.is_empty() {
            return;
        }
        assert!(record.len() <= MAX_OPERATION_BYTES && record.writes.len() <= MAX_OPERATION_KEYS);
        self.sequence += 1;
        let sequence = self.sequence;
        for write in &record.writes {
            let (key, value) = match write {
                Write::Put { key, value } => (key, value.clone()),
                Write::Add { key, delta } => (key, add(self.keys.get(key).map(|old| &old.value), *delta)),
                Write::Delete { key } => {
                    self.keys.remove(key);
                    continue;
                }
            };
            self.keys.insert(key.clone(), Versioned { value, sequence });
        }
        self.events = record.events;
    }

    /// Adds a task.
    pub fn enqueue(&mut self, task: NewTask) -> Enqueued {
        match self.call(&TaskOperation::Enqueue(Box::new(task))).unwrap() {
            TaskAnswer::Enqueued(added) => *added,
            other => panic!("{other:?}"),
        }
    }

    /// Adds a task of the queue `mail`, and answers its number.
    pub fn add(&mut self, params: &str) -> TaskId {
        self.enqueue(NewTask::new("mail", Json::parse(params.to_owned()).unwrap())).task.id
    }

    pub fn get(&mut self, id: TaskId) -> Option<Task> {
        match self.call(&TaskOperation::Get(id)).unwrap() {
            TaskAnswer::Task(task) => task.map(|task| *task),
            other => panic!("{other:?}"),
        }
    }

    pub fn state(&mut self, id: TaskId) -> TaskState {
        self.get(id).unwrap().state
    }

    pub fn work(&mut self, work: Work) -> Worked {
        match self.call(&TaskOperation::Work(Box::new(work))).unwrap() {
            TaskAnswer::Worked(worked) => worked,
            other => panic!("{other:?}"),
        }
    }

    /// Claims up to `n` tasks of the queue `mail`.
    pub fn claim(&mut self, n: usize) -> Vec<Claimed> {
        self.work(Work { worker: "w".into(), queues: vec!["mail".into()], claim: n, ..Work::default() }).claimed
    }

    pub fn report(&mut self, lease: Lease, outcome: Outcome) -> Verdict {
        self.work(Work { reports: vec![Report { lease, outcome }], ..Work::default() }).verdicts[0]
    }

    pub fn complete(&mut self, lease: Lease) -> Verdict {
        self.report(lease, Outcome::Completed { result: Json::null() })
    }

    pub fn fail(&mut self, lease: Lease) -> Verdict {
        self.report(lease, Outcome::Failed { error: "no".into(), retry: true })
    }

    pub fn queue(&mut self) -> QueueInfo {
        match self.call(&TaskOperation::Queue { queue: "mail".into() }).unwrap() {
            TaskAnswer::Queue(info) => *info,
            other => panic!("{other:?}"),
        }
    }

    /// Everything that time alone does.
    pub fn tick(&mut self) {
        let TaskAnswer::Overdue { queues, schedules, .. } =
            self.call(&TaskOperation::Overdue { since: i64::MIN, instance: 0 }).unwrap()
        else {
            panic!("not what was asked for")
        };
        for queue in queues.into_iter().map(Some).chain(schedules.then_some(None)) {
            self.repeat(&TaskOperation::Tick { queue, since: i64::MIN });
        }
    }

    /// Runs an operation until it has no more to do.
    pub fn repeat(&mut self, operation: &TaskOperation) {
        for _ in 0..100_000 {
            if self.call(operation).unwrap() == TaskAnswer::More(false) {
                return;
            }
        }
        panic!("it goes on and on: {operation:?}");
    }

    /// Every stored task.
    pub fn records(&self) -> BTreeMap<TaskId, record::Record> {
        let stored = self.keys.iter().filter_map(|(key, value)| Some((keys::id_of_task(key)?, value)));
        stored.map(|(id, value)| (id, record::Record::decode(&value.value).unwrap())).collect()
    }

    /// Every key of the queue must follow from the tasks, and everything that follows must be there.
    pub fn check(&self) -> std::result::Result<(), String> {
        let mut left: BTreeSet<&Bytes> =
            self.keys.keys().filter(|key| (0x41..=0x45).contains(&key[0]) || key[0] == 0x49).collect();
        let mut counts: BTreeMap<Bytes, i64> = BTreeMap::new();
        let mut take = |key: Bytes, id: TaskId| {
            if left.remove(&key) { Ok(()) } else { Err(format!("task {id} has no key {key:?}")) }
        };
        for (id, record) in self.records() {
            take(place::entry(id, &record), id)?;
            if let Some(unique) = record.unique.as_ref().filter(|_| !record.state.is_final()) {
                take(keys::unique(record.queue, unique), id)?;
            }
            if record.params == record::Params::Apart {
                take(keys::params(id), id)?;
            }
            *counts.entry(keys::count(record.queue, record.state)).or_default() += 1;
            if record.state == TaskState::Waiting
                && let Some(stored) = self.keys.get(&keys::front(record.queue))
                && stored.value[8..] > place::entry(id, &record)[..]
            {
                return Err(format!("task {id} waits before the front of its queue"));
            }
        }
        if let Some(key) = left.first() {
            return Err(format!("no task has the key {key:?}"));
        }
        for (key, stored) in self.keys.iter().filter(|(key, _)| key[0] == 0x4a) {
            let kept = i64::from_be_bytes(stored.value[..].try_into().unwrap());
            let counted = counts.remove(key).unwrap_or(0);
            if kept != counted {
                return Err(format!("{counted} tasks, but the counter {key:?} says {kept}"));
            }
        }
        match counts.first_key_value() {
            Some((key, count)) => Err(format!("{count} tasks without a counter {key:?}")),
            None => Ok(()),
        }
    }

    /// Overwrites one stored value, as damage does.
    pub fn overwrite(&mut self, key: Bytes, value: impl Into<Bytes>) {
        self.keys.insert(key, Versioned { value: value.into(), sequence: self.sequence });
    }

    pub fn check_all(&self) {
        self.check().unwrap();
    }
}
