//! One page over memtables and store, as of one sequence.

use std::collections::VecDeque;

use bytes::Bytes;

use super::memtable::Cursor;
use super::store::{Ordered, STORE_PAGE_ENTRIES, StoreResult, StoredEntry, behind};
use crate::engine::{Direction, KeyRange, KeyValue, MAX_PAGE_BYTES, MAX_PAGE_ENTRIES};

/// Pages of the store, fetched as the merge gets to them.
struct StoreCursor<'a> {
    store: &'a dyn Ordered,
    range: KeyRange,
    direction: Direction,
    fetch: usize,
    page: VecDeque<StoredEntry>,
    ended: bool,
}

impl<'a> StoreCursor<'a> {
    fn new(store: &'a dyn Ordered, range: &KeyRange, direction: Direction, limit: usize) -> Self {
        let fetch = limit.clamp(4, STORE_PAGE_ENTRIES);
        Self { store, range: range.clone(), direction, fetch, page: VecDeque::new(), ended: false }
    }

    /// Fetches the next page when the one at hand is used up.
    fn refill(&mut self) -> StoreResult<()> {
        if self.ended || !self.page.is_empty() {
            return Ok(());
        }
        self.page = self.store.scan(&self.range, self.direction, self.fetch)?.into();
        self.ended = self.page.len() < self.fetch;
        if let Some(last) = self.page.back() {
            match self.direction {
                Direction::Forward => self.range.start = behind(&last.key),
                Direction::Backward => self.range.end = Some(last.key.clone()),
            }
        }
        // A page that was used up will be followed by more.
        self.fetch = STORE_PAGE_ENTRIES;
        Ok(())
    }
}

/// The page of `range` that memtables (newest first) and store hold together.
pub fn page<'a>(
    mut memtables: Vec<Cursor<'a>>,
    store: &'a dyn Ordered,
    range: &KeyRange,
    direction: Direction,
    limit: usize,
) -> StoreResult<Vec<KeyValue>> {
    let limit = limit.min(MAX_PAGE_ENTRIES);
    let mut page = Vec::with_capacity(limit.min(64));
    if limit == 0 || range.is_empty() {
        return Ok(page);
    }
    let mut stored = StoreCursor::new(store, range, direction, limit);
    let mut bytes = 0;
    while page.len() < limit && bytes < MAX_PAGE_BYTES {
        stored.refill()?;
        let Some(key) = next_key(&memtables, &stored, direction) else { break };
        let mut found = None;
        let mut hidden = false;
        for cursor in &mut memtables {
            if cursor.key() == Some(&key) {
                if !hidden {
                    found = cursor.version().and_then(|(sequence, value)| Some((sequence, value?.clone())));
                    hidden = true;
                }
                cursor.advance();
            }
        }
        if let Some(entry) = stored.page.pop_front_if(|entry| entry.key == key)
            && !hidden
        {
            found = Some((entry.sequence, store.load(&entry)?));
        }
        if let Some((sequence, value)) = found {
            bytes += key.len() + value.len();
            page.push(KeyValue { key, value, sequence });
        }
    }
    Ok(page)
}

/// The key that comes first in `direction`.
fn next_key(memtables: &[Cursor<'_>], stored: &StoreCursor<'_>, direction: Direction) -> Option<Bytes> {
    let heads = memtables.iter().filter_map(Cursor::key).chain(stored.page.front().map(|entry| &entry.key));
    match direction {
        Direction::Forward => heads.min(),
        Direction::Backward => heads.max(),
    }
    .cloned()
}
