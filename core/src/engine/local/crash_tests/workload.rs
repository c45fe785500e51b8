//! The reference workload: operations of several keys, checkpoints, merges, a rebuild, restarts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::engine::local::LocalEngine;
use crate::engine::local::log::{Identity, Log, LogOptions};
use crate::engine::local::opening;
use crate::engine::{Committed, Engine, Event, EventKind, Group, Growth, Record, Write};
use crate::env::files::Files;
use crate::env::files::simulated::SimulatedFiles;
use crate::error::Result;

use super::disk::{self, Place};
use super::oracle::{Bounds, Oracle};

/// Documents that the workload writes to.
const DOCUMENTS: u32 = 250;
const LONG: Duration = Duration::from_mins(1);

/// What is done next.
#[derive(Clone, Debug)]
pub enum Step {
    /// One group.
    Commit(Vec<Record>),
    /// The view's memtable goes into its store.
    Checkpoint,
    /// Everything sealed goes into a new base.
    Merge,
    /// The view is thrown away and filled again.
    Rebuild,
    /// A clean end and a new start.
    Restart,
    /// The process ends, another starts.
    Kill,
}

/// A workload, fixed by its seed and size.
pub fn plan(seed: u64, operations: usize) -> Vec<Step> {
    let mut maker = Maker::new(seed);
    let mut extra = BTreeMap::new();
    let eighths = [
        (1, Step::Checkpoint),
        (2, Step::Merge),
        (3, Step::Checkpoint),
        (4, Step::Rebuild),
        (5, Step::Merge),
        (6, Step::Kill),
        (7, Step::Checkpoint),
    ];
    for (eighth, step) in eighths {
        extra.insert(operations * eighth / 8, step);
    }
    extra.insert(operations * 9 / 16, Step::Restart);
    let mut steps = Vec::new();
    let mut made = 0;
    while made < operations {
        let group: Vec<_> = (0..maker.random.random_range(1..=5)).map(|at| maker.record(made + at)).collect();
        made += group.len();
        steps.push(Step::Commit(group));
        while let Some(next) = extra.first_entry().filter(|next| *next.key() <= made) {
            steps.push(next.remove());
        }
    }
    steps
}

/// Values that are a block each, and drains that take away so many of them that sled is told in parts: what the first part
/// gives up must not be written over yet, because the checkpoint before still names it. And views that take the place of others.
pub fn plan_of_blocks() -> Vec<Step> {
    let put_one = |key: u32, byte: u8| put(&key.to_be_bytes(), &[byte; 2_500]);
    let record = |writes| Record { writes, ..Record::default() };
    let mut steps = Vec::new();
    let first: Vec<_> = (0..90).map(|key| put_one(key, 1)).collect();
    let delete_one = |key: u32| Write::Delete { key: Bytes::copy_from_slice(&key.to_be_bytes()) };
    let second = (0..70).map(delete_one).chain((70..90).map(|key| put_one(key, 2))).collect();
    // Leaves nothing, so that the file is cut.
    let third = (70..90).map(delete_one).collect();
    let fourth = (0..10).map(|key| put_one(key, 3)).collect();
    for writes in [first, second, third, fourth] {
        steps.push(Step::Commit(writes.chunks(5).map(|writes| record(writes.to_vec())).collect()));
        steps.push(Step::Checkpoint);
    }
    // The second one takes away what the first put aside.
    steps.extend([Step::Rebuild, Step::Rebuild, Step::Restart, Step::Kill]);
    steps
}

/// A write of one key.
pub fn put(key: &[u8], value: &[u8]) -> Write {
    Write::Put { key: Bytes::copy_from_slice(key), value: Bytes::copy_from_slice(value) }
}

struct Maker {
    random: StdRng,
    colours: BTreeMap<u32, u8>,
    foreign: Bytes,
}

impl Maker {
    fn new(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), colours: BTreeMap::new(), foreign: foreign_frames() }
    }

    /// A document, the index entry of its colour, and the number of all documents.
    fn record(&mut self, number: usize) -> Record {
        let id = self.random.random_range(0..DOCUMENTS);
        let document = Bytes::from(format!("d/{id:04}"));
        let index = |colour: u8| Bytes::from(format!("i/{colour}/{id:04}"));
        let mut writes = BTreeMap::new();
        let before = self.colours.get(&id).copied();
        if let Some(colour) = before {
            writes.insert(index(colour), None);
        }
        let kind = if before.is_some() && self.random.random_bool(0.3) {
            self.colours.remove(&id);
            writes.insert(document.clone(), None);
            EventKind::Deleted
        } else {
            let colour = self.random.random_range(0..4);
            self.colours.insert(id, colour);
            writes.insert(index(colour), Some(Bytes::new()));
            writes.insert(document.clone(), Some(self.value(number)));
            if before.is_some() { EventKind::Updated } else { EventKind::Created }
        };
        let count = (self.colours.len() as u64).to_be_bytes();
        writes.insert(Bytes::from_static(b"c"), Some(Bytes::copy_from_slice(&count)));
        let writes = writes.into_iter().map(|(key, value)| match value {
            Some(value) => Write::Put { key, value },
            None => Write::Delete { key },
        });
        let key = if kind == EventKind::Deleted { Bytes::new() } else { document };
        let event = Event { collection: "c".into(), id: id.to_string().into(), kind, key };
        Record { time: 1_000 * i64::try_from(number).unwrap(), events: vec![event], writes: writes.collect() }
    }

    fn value(&mut self, number: usize) -> Bytes {
        let length =
            if number % 20 == 3 { self.random.random_range(2_900..9_000) } else { self.random.random_range(0..200) };
        if number % 10 == 7 {
            return self.foreign.clone();
        }
        let mut value = vec![0; length];
        self.random.fill_bytes(&mut value);
        value.into()
    }
}

/// Frames of another database's log, at every alignment: a search for records behind a torn end meets them
/// and must not take them for its own.
fn foreign_frames() -> Bytes {
    let files = SimulatedFiles::new(1);
    files.create_dir_all(Path::new("/other")).unwrap();
    let options = LogOptions { segment_bytes: 4_096, ..LogOptions::default() };
    let identity = Identity { database: [9; 16], node: 0, partition: 0, partitions: 1 };
    let log = Log::create(Arc::new(files.clone()), Path::new("/other/log"), options, identity).unwrap();
    for _ in 0..200 {
        let record = Record { writes: vec![put(b"k", &[7; 1_500])], ..Record::default() };
        log.append(&[record]).unwrap();
        log.sync().unwrap();
    }
    let names = files.list(Path::new("/other/log")).unwrap();
    let contents = names.iter().rev().map(|name| files.content(&Path::new("/other/log").join(name)));
    let frame = contents.filter_map(|content| {
        let at = content.windows(4).rposition(|window| window == b"KREC")?;
        Some(content[at..at + 32].to_vec())
    });
    let mut frame = frame.take(1).collect::<Vec<_>>().concat();
    frame.push(0);
    frame.repeat(8).into()
}

/// A workload on its way, and what is known of it.
#[derive(Debug)]
pub struct Run {
    /// Where.
    pub place: Place,
    /// What was begun so far.
    pub oracle: Oracle,
    /// After how many operations of the disk which operations were begun and acknowledged.
    pub moments: Vec<(usize, Bounds)>,
    /// How many operations are acknowledged.
    pub acknowledged: usize,
    /// None between an end and a start that failed.
    pub engine: Option<LocalEngine>,
}

impl Run {
    /// Opens the place.
    pub fn start(place: Place) -> Result<Self> {
        let mut run = Self { place, oracle: Oracle::default(), moments: Vec::new(), acknowledged: 0, engine: None };
        run.note();
        run.open()?;
        Ok(run)
    }

    /// A run that has not been opened.
    pub fn closed(place: Place) -> Self {
        Self { place, oracle: Oracle::default(), moments: Vec::new(), acknowledged: 0, engine: None }
    }

    /// Does one step.
    pub fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Commit(records) => self.commit(records),
            Step::Checkpoint => {
                let shared = &self.engine().shared;
                opening::checkpoint(&shared.log, &shared.view()).map(drop)
            }
            Step::Merge => disk::merge(self.engine()),
            Step::Rebuild => disk::rebuild(self.engine()),
            Step::Restart => {
                let closed = self.engine.take().map_or(Ok(()), |engine| engine.close(LONG));
                closed.and_then(|()| self.open())
            }
            Step::Kill => {
                self.engine = None;
                self.open()
            }
        }
    }

    /// Starts the engine again.
    pub fn open(&mut self) -> Result<()> {
        self.engine = Some(self.place.open()?.0);
        Ok(())
    }

    /// The running engine.
    pub fn engine(&self) -> &LocalEngine {
        self.engine.as_ref().expect("the engine was started")
    }

    fn commit(&mut self, records: &[Record]) -> Result<()> {
        let engine = self.engine.as_ref().expect("the engine was started");
        engine.admit(Growth::Grows)?;
        let first = engine.newest().0 + 1;
        for (sequence, record) in (first..).zip(records) {
            self.oracle.push(record.clone(), sequence);
        }
        self.note();
        let committed = self.engine().commit(Group { first, records: records.to_vec(), ..Group::default() })?;
        assert_eq!(committed, Committed::At(first), "a group got another number than was said before");
        self.acknowledged = self.oracle.len();
        self.note();
        Ok(())
    }

    fn note(&mut self) {
        let bounds = Bounds { least: self.acknowledged, most: self.oracle.len() };
        self.moments.push((self.place.files.operations(), bounds));
    }
}

/// What a state after `operations` of the disk has to hold.
pub fn bounds_at(moments: &[(usize, Bounds)], operations: usize) -> Bounds {
    let known = moments.partition_point(|(at, _)| *at <= operations);
    moments[known.checked_sub(1).expect("a run notes its start")].1
}
