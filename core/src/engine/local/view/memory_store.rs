//! The store in memory: for `view: memory`, for tests and for the simulator.

use bytes::Bytes;
use crossbeam_skiplist::SkipMap;

use super::store::{Change, Ordered, STORE_PAGE_ENTRIES, StoreResult, StoredEntry, StoredValue};
use crate::engine::{Direction, KeyRange, Sequence, Versioned};

/// An ordered map that ends with the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    entries: SkipMap<Bytes, Versioned>,
}

impl Ordered for MemoryStore {
    fn get(&self, key: &[u8]) -> StoreResult<Option<Versioned>> {
        Ok(self.entries.get(key).map(|entry| entry.value().clone()))
    }

    fn sequences_of(&self, keys: &[Bytes]) -> StoreResult<Vec<Option<Sequence>>> {
        Ok(keys.iter().map(|key| self.entries.get(key).map(|entry| entry.value().sequence)).collect())
    }

    fn scan(&self, range: &KeyRange, direction: Direction, limit: usize) -> StoreResult<Vec<StoredEntry>> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let limit = limit.min(STORE_PAGE_ENTRIES);
        let mut entries = self.entries.range(range.bounds());
        let next = || match direction {
            Direction::Forward => entries.next(),
            Direction::Backward => entries.next_back(),
        };
        let page = std::iter::from_fn(next).take(limit).map(|entry| StoredEntry {
            key: entry.key().clone(),
            sequence: entry.value().sequence,
            value: StoredValue::Whole(entry.value().value.clone()),
        });
        Ok(page.collect())
    }

    fn load(&self, entry: &StoredEntry) -> StoreResult<Bytes> {
        match &entry.value {
            StoredValue::Whole(value) => Ok(value.clone()),
            StoredValue::Parts { .. } => unreachable!("this store never splits a value"),
        }
    }

    fn write(&self, changes: Vec<Change>) -> StoreResult<()> {
        for Change { key, state } in changes {
            match state {
                Some(state) => drop(self.entries.insert(key, state)),
                None => drop(self.entries.remove(&key)),
            }
        }
        Ok(())
    }

    fn sweep(&self) -> StoreResult<()> {
        Ok(())
    }

    fn flush(&self) -> StoreResult<()> {
        Ok(())
    }

    fn is_persistent(&self) -> bool {
        false
    }

    fn close(&self) -> StoreResult<()> {
        Ok(())
    }
}
