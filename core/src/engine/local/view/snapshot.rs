//! Reads: the keys of a partition as of one published sequence.

use std::sync::Arc;

use arc_swap::Guard;

use super::memtable::key_hash;
use super::merge;
use super::store::StoreResult;
use super::tables::Tables;
use super::{Shared, View};
use crate::engine::{Direction, KeyRange, KeyValue, Sequence, Snapshot, Versioned};
use crate::error::Result;

/// A snapshot. The memtables it holds cover every key that a drain writes during its life, so what
/// it reads from the store does not change under it.
#[derive(Debug)]
pub struct ViewSnapshot {
    view: Guard<Arc<View>>,
    tables: Guard<Arc<Tables>>,
    sequence: Sequence,
}

impl ViewSnapshot {
    /// What `tables` and the store below held at `sequence`.
    pub(super) fn new(view: Guard<Arc<View>>, tables: Guard<Arc<Tables>>, sequence: Sequence) -> Self {
        Self { view, tables, sequence }
    }
}

impl Snapshot for ViewSnapshot {
    fn sequence(&self) -> Sequence {
        self.sequence
    }

    fn get(&self, key: &[u8]) -> Result<Option<Versioned>> {
        let shared = &*self.view.shared;
        get(shared, &self.tables, self.sequence, key).map_err(|abandoned| shared.abandon(abandoned))
    }

    fn scan(&self, range: &KeyRange, direction: Direction, limit: usize) -> Result<Vec<KeyValue>> {
        let shared = &*self.view.shared;
        let gaps = &shared.gaps;
        let page = shared
            .sound_store()
            .and_then(|store| merge::page(&self.tables, store, gaps, range, direction, self.sequence, limit));
        page.map_err(|abandoned| shared.abandon(abandoned))
    }
}

/// The newest version of `key` that is not newer than `at`.
pub(super) fn get(shared: &Shared, tables: &Tables, at: Sequence, key: &[u8]) -> StoreResult<Option<Versioned>> {
    // Before the cache too: it was filled from a store that may have been found wrong since.
    let store = shared.sound_store()?;
    let hash = key_hash(key);
    if let Some(state) = shared.cache.get(hash, key, at) {
        return Ok(Some(state));
    }
    let version = tables.newest_first().find_map(|table| table.get(hash, key, at));
    let state = match version {
        Some((sequence, value)) => value.map(|value| Versioned { value, sequence }),
        None => store.get(key)?,
    };
    if let Some(state) = &state {
        // Newest means: no freeze since the snapshot, so that every later version is in `active`
        // (and no drain has begun), and `active` has none.
        shared.cache.fill(hash, key, state, || {
            shared.is_current(tables) && tables.active.get(hash, key, Sequence::MAX).is_none_or(|newest| newest.0 <= at)
        });
    }
    Ok(state)
}
