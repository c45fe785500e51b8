//! What the operations of one group read: the groups before them, over one snapshot of the engine.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use crate::engine::{Check, Direction, Found, KeyRange, KeyValue, Read, Sequence, Snapshot, Versioned};
use crate::error::Result;

use super::layers::Layers;
use super::transaction::Source;
use super::{Halt, Run};

/// The reads of one group.
pub struct GroupReads {
    snapshot: Arc<dyn Snapshot>,
    /// Reads go straight to the snapshot; otherwise they are collected and fetched together.
    at_hand: bool,
    fetched: HashMap<Read, Found>,
    wanted: Vec<Read>,
    /// What was seen, where a commit has to check it.
    checks: Option<BTreeMap<Bytes, Option<Sequence>>>,
    stable: bool,
}

impl GroupReads {
    /// Reads of `snapshot`; `checked` where other writers may change what was seen.
    pub fn new(snapshot: Arc<dyn Snapshot>, at_hand: bool, checked: bool) -> Self {
        let checks = checked.then(BTreeMap::new);
        Self { snapshot, at_hand, fetched: HashMap::new(), wanted: Vec::new(), checks, stable: false }
    }

    /// The sequence every read is of.
    pub fn sequence(&self) -> Sequence {
        self.snapshot.sequence()
    }

    /// Fetches what the last run asked for in one call; answers whether there was anything.
    pub fn fetch_wanted(&mut self) -> Result<bool> {
        if self.wanted.is_empty() {
            return Ok(false);
        }
        let found = self.snapshot.fetch(&self.wanted)?;
        self.fetched.extend(self.wanted.drain(..).zip(found));
        Ok(true)
    }

    /// What a commit has to check, and whether the whole partition must be unchanged.
    pub fn into_checks(self) -> (Vec<Check>, bool) {
        let checks = self.checks.unwrap_or_default();
        (checks.into_iter().map(|(key, sequence)| Check { key, sequence }).collect(), self.stable)
    }

    fn get(&mut self, key: &[u8]) -> Run<Option<Versioned>> {
        let found = if self.at_hand {
            self.snapshot.get(key)?
        } else {
            match self.look_up(Read::Get(Bytes::copy_from_slice(key)))? {
                Found::Value(value) => value,
                Found::Entries(_) => unreachable!("a get is answered by a value"),
            }
        };
        if let Some(checks) = &mut self.checks {
            checks.insert(Bytes::copy_from_slice(key), found.as_ref().map(|versioned| versioned.sequence));
        }
        Ok(found)
    }

    fn scan(&mut self, range: &KeyRange, direction: Direction, limit: usize) -> Run<Vec<KeyValue>> {
        let entries = if self.at_hand {
            self.snapshot.scan(range, direction, limit)?
        } else {
            match self.look_up(Read::Scan { range: range.clone(), direction, limit })? {
                Found::Entries(entries) => entries,
                Found::Value(_) => unreachable!("a scan is answered by entries"),
            }
        };
        if let Some(checks) = &mut self.checks {
            checks.extend(entries.iter().map(|entry| (entry.key.clone(), Some(entry.sequence))));
        }
        Ok(entries)
    }

    fn look_up(&mut self, read: Read) -> Run<Found> {
        if let Some(found) = self.fetched.get(&read) {
            return Ok(found.clone());
        }
        self.wanted.push(read);
        Err(Halt::NeedsRead)
    }
}

/// [`GroupReads`] under the writes of the groups and operations before.
pub struct LayeredReads<'a> {
    /// Writes that are newer than the snapshot.
    pub before: &'a Layers,
    /// The snapshot.
    pub reads: &'a mut GroupReads,
}

impl Source for LayeredReads<'_> {
    fn get(&mut self, key: &[u8]) -> Run<Option<Versioned>> {
        let reads = &mut *self.reads;
        self.before.get(key, || reads.get(key))
    }

    fn scan(&mut self, range: &KeyRange, direction: Direction, limit: usize) -> Run<Vec<KeyValue>> {
        let reads = &mut *self.reads;
        self.before.scan(range, direction, limit, |range, limit| reads.scan(range, direction, limit))
    }

    fn need_stable(&mut self) {
        self.reads.stable = true;
    }
}
