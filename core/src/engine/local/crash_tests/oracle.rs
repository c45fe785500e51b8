//! What was promised, and whether an engine keeps it.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::engine::local::opening;
use crate::engine::local::view::store::behind;
use crate::engine::local::{LocalEngine, OpenReport};
use crate::engine::{
    CommittedRecord, Direction, Engine, Group, KeyRange, KeyValue, MAX_PAGE_ENTRIES, Record, Sequence, Snapshot,
    Versioned, Write,
};
use crate::env::files::simulated::Crash;
use crate::error::Error;

use super::disk::Place;

/// A broken promise, in words.
pub type Verdict<T> = Result<T, String>;

/// The operations of a workload, each with the number it was given.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    records: Vec<Record>,
    sequences: Vec<Sequence>,
    /// Every value of every key, with the operation that wrote it.
    versions: BTreeMap<Bytes, Vec<(usize, Option<Bytes>)>>,
}

/// How many operations a state must hold, and how many it can.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// All that were acknowledged.
    pub least: usize,
    /// All that were begun.
    pub most: usize,
}

/// Why a sound view may be filled again: it is just being made, or the machine is slow.
const EXCUSES: [&str; 3] = ["nothing is known", "could not acquire lock", "did not answer"];

/// What came out of a crash.
#[derive(Debug)]
pub struct Survived {
    /// How many operations were there.
    pub operations: usize,
    /// Why the view had to be filled again, although MANIFEST said what it held.
    pub rebuilt: Option<String>,
}

impl Survived {
    /// What a view that was sound is held to.
    pub fn keeps_the_view(self) -> Verdict<()> {
        self.rebuilt.map_or(Ok(()), |reason| Err(format!("a sound view was given up: {reason}")))
    }
}

impl Oracle {
    /// How many operations were begun.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// The operation behind the last one was begun and will get the number `sequence`.
    pub fn push(&mut self, record: Record, sequence: Sequence) {
        for write in &record.writes {
            let value = match write {
                Write::Put { value, .. } => Some(value.clone()),
                Write::Delete { .. } | Write::Add { .. } => None,
            };
            self.versions.entry(write.key().clone()).or_default().push((self.records.len(), value));
        }
        self.records.push(record);
        self.sequences.push(sequence);
    }

    fn value(&self, versions: &[(usize, Option<Bytes>)], prefix: usize) -> Option<Versioned> {
        let known = versions.partition_point(|(number, _)| *number < prefix);
        let (number, value) = &versions[known.checked_sub(1)?];
        Some(Versioned { value: value.clone()?, sequence: self.sequences[*number] })
    }

    /// How many operations there are up to and with `sequence`, which one of them has.
    fn prefix_of(&self, sequence: Sequence) -> Verdict<usize> {
        match self.sequences.binary_search(&sequence) {
            _ if sequence == 0 => Ok(0),
            Ok(number) => Ok(number + 1),
            Err(_) => Err(format!("no operation has the number {sequence}")),
        }
    }

    /// Reads everything in every way; answers how many operations the engine holds.
    pub fn examine(&self, engine: &LocalEngine, bounds: Bounds) -> Verdict<usize> {
        let prefix = self.examine_history(engine)?;
        if !(bounds.least..=bounds.most).contains(&prefix) {
            return Err(format!(
                "operations={prefix}, and of them acknowledged={} begun={}",
                bounds.least, bounds.most
            ));
        }
        self.examine_state(engine, prefix)?;
        Ok(prefix)
    }

    /// Whether the newest state is that after `prefix` operations.
    pub fn examine_state(&self, engine: &LocalEngine, prefix: usize) -> Verdict<()> {
        let snapshot = engine.snapshot().map_err(|error| told(&error))?;
        let mut found = everything(&*snapshot)?.into_iter();
        for (key, versions) in &self.versions {
            let expected = self.value(versions, prefix);
            let got = snapshot.get(key).map_err(|error| told(&error))?;
            if got != expected {
                return Err(differs("a read", key, got.as_ref(), expected.as_ref(), prefix));
            }
            let Some(expected) = expected else { continue };
            let entry = found.next();
            let same = entry.as_ref().is_some_and(|entry| {
                entry.key == key && entry.value == expected.value && entry.sequence == expected.sequence
            });
            if !same {
                let got = entry.map(|entry| Versioned { value: entry.value, sequence: entry.sequence });
                return Err(differs("a scan", key, got.as_ref(), Some(&expected), prefix));
            }
        }
        match found.next() {
            Some(more) => Err(format!("a scan: key={:?} should not be there, operations={prefix}", more.key)),
            None => Ok(()),
        }
    }

    /// The feed: every record that is kept, whole and in order; answers how many operations there are.
    fn examine_history(&self, engine: &LocalEngine) -> Verdict<usize> {
        let mut after = engine.oldest();
        let mut prefix = self.prefix_of(after)?;
        loop {
            let page = engine.history(after, usize::MAX).map_err(|error| told(&error))?;
            let Some(last) = page.last() else { return Ok(prefix) };
            after = last.sequence;
            for CommittedRecord { sequence, record } in page {
                if self.sequences.get(prefix) != Some(&sequence) || self.records[prefix] != record {
                    return Err(format!("the feed: number={sequence} is not operation {prefix}"));
                }
                prefix += 1;
            }
        }
    }

    /// Opens what a crash left, and again after the power was cut once more; then goes on writing, and
    /// cuts the power a third time.
    pub fn survives(&self, place: &Place, bounds: Bounds) -> Verdict<Survived> {
        let (survived, place) = self.twice(place, bounds)?;
        let mut longer = self.clone();
        longer.forget_behind(survived.operations);
        let (engine, _) = place.after(Crash::Lost).open_settled()?;
        longer.go_on(&engine.1, self.sequences[..bounds.most].last().copied().unwrap_or_default())?;
        let place = engine.0.after(Crash::Lost);
        drop(engine);
        longer.opened(&place, Bounds { least: longer.len(), most: longer.len() })?.keeps_the_view()?;
        Ok(survived)
    }

    /// As [`Oracle::survives`], and writes nothing more.
    pub fn survives_unchanged(&self, place: &Place, bounds: Bounds) -> Verdict<Survived> {
        self.twice(place, bounds).map(|(survived, _)| survived)
    }

    fn twice(&self, place: &Place, bounds: Bounds) -> Verdict<(Survived, Place)> {
        let survived = self.opened(place, bounds)?;
        let first = survived.operations;
        // Whatever was shown once must be there for good.
        let place = place.after(Crash::Lost);
        self.opened(&place, Bounds { least: first, most: first })?.keeps_the_view()?;
        Ok((survived, place))
    }

    fn opened(&self, place: &Place, bounds: Bounds) -> Verdict<Survived> {
        let (engine, report) = place.open().map_err(|error| told(&error))?;
        let operations = self.examine(&engine, bounds)?;
        // What an opening leaves for later must change nothing that anybody reads.
        if settle(&engine)? {
            self.examine_state(&engine, operations)?;
        }
        Ok(Survived { operations, rebuilt: rebuilt(&report) })
    }

    /// What was begun and never written did not happen.
    pub fn forget_behind(&mut self, prefix: usize) {
        self.records.truncate(prefix);
        self.sequences.truncate(prefix);
        self.versions.retain(|_, versions| {
            versions.retain(|(number, _)| *number < prefix);
            !versions.is_empty()
        });
    }

    /// One small operation more, in a segment that ends behind it.
    fn go_on(&mut self, engine: &LocalEngine, highest: Sequence) -> Verdict<()> {
        let (newest, time) = engine.newest();
        let first = newest + 1;
        if first <= highest {
            return Err(format!("the number {first} is given a second time, highest={highest}"));
        }
        let record = Record { writes: vec![super::workload::put(b"z", b"on")], time, ..Record::default() };
        let group = Group { first, records: vec![record.clone()], ..Group::default() };
        let _ = engine.commit(group).map_err(|error| told(&error))?;
        self.push(record, first);
        engine.shared.log.seal().map_err(|error| told(&error))?;
        self.examine(engine, Bounds { least: self.len(), most: self.len() }).map(drop)
    }
}

/// Why the view was filled again without an excuse.
fn rebuilt(report: &OpenReport) -> Option<String> {
    let found = report.findings.iter().find(|finding| finding.contains("rebuilt"));
    found.filter(|finding| !EXCUSES.iter().any(|excuse| finding.contains(excuse))).cloned()
}

impl Place {
    /// Opens and does at once what the background would do first; says whether the view was rebuilt.
    pub fn open_settled(&self) -> Verdict<((Self, LocalEngine), bool)> {
        let (engine, report) = self.open().map_err(|error| told(&error))?;
        let rebuilt = rebuilt(&report).is_some();
        settle(&engine)?;
        Ok(((self.clone(), engine), rebuilt))
    }
}

/// Whether there was something to drain.
fn settle(engine: &LocalEngine) -> Verdict<bool> {
    let view = engine.shared.view();
    let due = view.checkpoint_due();
    if due {
        let _ = opening::checkpoint(&engine.shared.log, &view).map_err(|error| told(&error))?;
    }
    Ok(due)
}

/// All keys of a snapshot, page by page.
pub fn everything(snapshot: &dyn Snapshot) -> Verdict<Vec<KeyValue>> {
    let mut all: Vec<KeyValue> = Vec::new();
    let mut range = KeyRange { start: Bytes::new(), end: None };
    loop {
        let page = snapshot.scan(&range, Direction::Forward, MAX_PAGE_ENTRIES).map_err(|error| told(&error))?;
        let Some(last) = page.last() else { return Ok(all) };
        range.start = behind(&last.key);
        all.extend(page);
    }
}

/// An error with its kind.
pub fn told(error: &Error) -> String {
    format!("{}: {error}", error.kind())
}

fn differs(how: &str, key: &Bytes, got: Option<&Versioned>, expected: Option<&Versioned>, prefix: usize) -> String {
    let short = |state: Option<&Versioned>| state.map(|state| (state.sequence, state.value.len()));
    format!("{how}: key={key:?} got={:?} expected={:?} operations={prefix}", short(got), short(expected))
}
