//! An engine in memory, for tests and the simulator: one writer with reads at hand, as a local disk
//! gives, or several writers that meet only at commit, as a database server gives.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Result};
use crate::partition::layer::{add, scan_map};

use super::{
    Committed, CommittedRecord, Direction, Durability, Engine, Group, Growth, KeyRange, KeyValue, Sequence, Snapshot,
    Versioned, Write,
};

/// Records that are kept for the feed.
const KEPT_RECORDS: usize = 10_000;

#[derive(Debug, Default)]
struct State {
    keys: Arc<BTreeMap<Bytes, Versioned>>,
    newest: Sequence,
    time: i64,
    /// The newest records; the feed can start behind `forgotten`.
    history: VecDeque<CommittedRecord>,
    forgotten: Sequence,
    closed: bool,
    /// The next commits end like this; taken from the back.
    failures: Vec<Error>,
}

/// A partition in memory. Clones made by [`MemoryEngine::share`] are other writers of the same one.
#[derive(Debug)]
pub struct MemoryEngine {
    state: Arc<Mutex<State>>,
    exclusive: bool,
    at_hand: bool,
}

impl Default for MemoryEngine {
    fn default() -> Self {
        Self { state: Arc::default(), exclusive: true, at_hand: true }
    }
}

impl MemoryEngine {
    #[cfg(test)]
    /// A partition with several writers, whose reads take a round trip.
    pub fn shared() -> Self {
        Self { state: Arc::default(), exclusive: false, at_hand: false }
    }

    #[cfg(test)]
    /// Another writer of the same partition.
    #[must_use]
    pub fn share(&self) -> Self {
        Self { state: Arc::clone(&self.state), exclusive: self.exclusive, at_hand: self.at_hand }
    }

    #[cfg(test)]
    /// Lets a later commit end with `error`, nothing written.
    pub fn fail_commit(&self, error: Error) {
        self.state.lock().failures.insert(0, error);
    }
}

struct MemorySnapshot {
    keys: Arc<BTreeMap<Bytes, Versioned>>,
    sequence: Sequence,
}

impl Snapshot for MemorySnapshot {
    fn sequence(&self) -> Sequence {
        self.sequence
    }

    fn get(&self, key: &[u8]) -> Result<Option<Versioned>> {
        Ok(self.keys.get(key).cloned())
    }

    fn scan(&self, range: &KeyRange, direction: Direction, limit: usize) -> Result<Vec<KeyValue>> {
        Ok(scan_map(&self.keys, range, direction, limit))
    }
}

impl Engine for MemoryEngine {
    fn exclusive(&self) -> bool {
        self.exclusive
    }

    fn reads_at_hand(&self) -> bool {
        self.at_hand
    }

    fn durability(&self) -> Durability {
        Durability::Written
    }

    fn snapshot(&self) -> Result<Arc<dyn Snapshot>> {
        let state = self.state.lock();
        if state.closed {
            return Err(closed());
        }
        Ok(Arc::new(MemorySnapshot { keys: Arc::clone(&state.keys), sequence: state.newest }))
    }

    fn newest(&self) -> (Sequence, i64) {
        let state = self.state.lock();
        (state.newest, state.time)
    }

    fn admit(&self, _growth: Growth) -> Result<()> {
        if self.state.lock().closed { Err(closed()) } else { Ok(()) }
    }

    fn commit(&self, group: Group) -> Result<Committed> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(closed());
        }
        if let Some(error) = state.failures.pop() {
            return Err(error);
        }
        if !self.exclusive && !still_holds(&state, &group) {
            return Ok(Committed::Conflict);
        }
        let first = state.newest + 1;
        for record in group.records {
            let sequence = state.newest + 1;
            let keys = Arc::make_mut(&mut state.keys);
            for write in &record.writes {
                apply(keys, write, sequence);
            }
            state.newest = sequence;
            state.time = state.time.max(record.time);
            state.history.push_back(CommittedRecord { sequence, record });
            if state.history.len() > KEPT_RECORDS
                && let Some(oldest) = state.history.pop_front()
            {
                state.forgotten = oldest.sequence;
            }
        }
        Ok(Committed::At(first))
    }

    fn history(&self, after: Sequence, limit: usize) -> Result<Vec<CommittedRecord>> {
        let state = self.state.lock();
        if state.closed {
            return Err(closed());
        }
        if after < state.forgotten {
            let expired = "records behind this one are no longer kept; start from a fresh list";
            return Err(Error::new(ErrorKind::Expired, expired).with("after", after));
        }
        let start = state.history.partition_point(|committed| committed.sequence <= after);
        Ok(state.history.range(start..).take(limit).cloned().collect())
    }

    fn oldest(&self) -> Sequence {
        self.state.lock().forgotten
    }

    fn check(&self) -> Result<Vec<String>> {
        self.admit(Growth::Shrinks).map(|()| Vec::new())
    }

    fn close(&self, _within: Duration) -> Result<()> {
        self.state.lock().closed = true;
        Ok(())
    }
}

fn still_holds(state: &State, group: &Group) -> bool {
    if group.stable && state.newest + 1 != group.first {
        return false;
    }
    let seen = |key: &Bytes| state.keys.get(key).map(|versioned| versioned.sequence);
    group.checks.iter().all(|check| seen(&check.key) == check.sequence)
}

fn apply(keys: &mut BTreeMap<Bytes, Versioned>, write: &Write, sequence: Sequence) {
    match write {
        Write::Put { key, value } => {
            keys.insert(key.clone(), Versioned { value: value.clone(), sequence });
        }
        Write::Delete { key } => {
            keys.remove(key);
        }
        Write::Add { key, delta } => {
            let value = add(keys.get(key).map(|versioned| &versioned.value), *delta);
            keys.insert(key.clone(), Versioned { value, sequence });
        }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the database is closed")
}
