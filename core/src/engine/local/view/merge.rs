//! One page over memtables and store, as of one sequence.

use std::collections::VecDeque;

use bytes::Bytes;

use super::gaps::Gaps;
use super::memtable::Cursor;
use super::store::{Ordered, STORE_PAGE_ENTRIES, StoreResult, StoredEntry, behind};
use super::tables::Tables;
use crate::engine::{Direction, KeyRange, KeyValue, MAX_PAGE_BYTES, MAX_PAGE_ENTRIES, Sequence};

/// So many dead keys in a row are worth remembering; few in tests, so that small models get there.
const DEAD_WORTH_KEEPING: usize = if cfg!(test) { 2 } else { 32 };

#[cfg(test)]
thread_local! {
    /// Keys that the scans of this thread stepped over.
    pub static STEPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

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

    /// Leaves out what lies between here and the far end of `gap`.
    fn skip(&mut self, gap: &(Bytes, Bytes)) {
        let (start, end) = gap;
        let dead = |entry: &StoredEntry| entry.key >= start && entry.key < end;
        while self.page.pop_front_if(|entry| dead(entry)).is_some() {}
        if !self.page.is_empty() {
            return;
        }
        match self.direction {
            Direction::Forward if self.range.start < end => self.range.start = end.clone(),
            Direction::Backward if self.range.end.as_ref().is_none_or(|behind| behind > start) => {
                self.range.end = Some(start.clone());
            }
            _ => {}
        }
    }
}

/// Dead keys in a row, on the way to the next live one.
#[derive(Default)]
struct Run {
    /// Where it began: behind the last live key, or at the start of the range.
    border: Option<Bytes>,
    first: Option<Bytes>,
    last: Option<Bytes>,
    dead: usize,
    jumps: usize,
}

/// A scan on its way.
struct Merge<'a> {
    memtables: Vec<Cursor<'a>>,
    stored: StoreCursor<'a>,
    gaps: &'a Gaps,
    direction: Direction,
    at: Sequence,
    run: Run,
}

/// The page of `range` as of `at` that `tables` and `store` hold together.
pub fn page(
    tables: &Tables,
    store: &dyn Ordered,
    gaps: &Gaps,
    range: &KeyRange,
    direction: Direction,
    at: Sequence,
    limit: usize,
) -> StoreResult<Vec<KeyValue>> {
    let limit = limit.min(MAX_PAGE_ENTRIES);
    let mut page = Vec::with_capacity(limit.min(64));
    if limit == 0 || range.is_empty() {
        return Ok(page);
    }
    let mut bytes = 0;
    let mut merge = Merge {
        memtables: tables.newest_first().map(|table| table.cursor(range, direction, at)).collect(),
        stored: StoreCursor::new(store, range, direction, limit),
        gaps,
        direction,
        at,
        run: Run::from_edge(range, direction),
    };
    merge.jump(range.edge(direction));
    while page.len() < limit && bytes < MAX_PAGE_BYTES {
        let Some(key) = merge.next_key()? else { break };
        match merge.take(&key)? {
            Some((sequence, value)) => {
                merge.remember();
                merge.run = Run::from_live(&key, direction);
                bytes += key.len() + value.len();
                page.push(KeyValue { key, value, sequence });
            }
            None => merge.pass(key),
        }
    }
    merge.remember();
    Ok(page)
}

impl Merge<'_> {
    /// The key that comes first in the direction of the scan.
    fn next_key(&mut self) -> StoreResult<Option<Bytes>> {
        self.stored.refill()?;
        let stored = self.stored.page.front().map(|entry| &entry.key);
        let heads = self.memtables.iter().filter_map(Cursor::key).chain(stored);
        let next = match self.direction {
            Direction::Forward => heads.min(),
            Direction::Backward => heads.max(),
        };
        Ok(next.cloned())
    }

    /// Moves past `key`; its version in the newest place that has one, none when it was removed.
    fn take(&mut self, key: &Bytes) -> StoreResult<Option<(Sequence, Bytes)>> {
        #[cfg(test)]
        STEPS.set(STEPS.get() + 1);
        let (mut found, mut hidden) = (None, false);
        for cursor in &mut self.memtables {
            if cursor.key() == Some(key) {
                if !hidden {
                    found = cursor.version().and_then(|(sequence, value)| Some((sequence, value?.clone())));
                    hidden = true;
                }
                cursor.advance();
            }
        }
        if let Some(entry) = self.stored.page.pop_front_if(|entry| entry.key == *key)
            && !hidden
        {
            found = Some((entry.sequence, self.stored.store.load(&entry)?));
        }
        Ok(found)
    }

    /// Counts a dead key, and leaves out what is known to be dead behind it.
    fn pass(&mut self, key: Bytes) {
        self.run.dead += 1;
        self.run.first.get_or_insert_with(|| key.clone());
        let look = match self.direction {
            Direction::Forward => behind(&key),
            Direction::Backward => key.clone(),
        };
        self.run.last = Some(key);
        self.jump(Some(&look));
    }

    /// Leaves out the dead range at `key`, where one is known.
    fn jump(&mut self, key: Option<&Bytes>) {
        let Some(gap) = key.and_then(|key| self.gaps.around(key, self.direction, self.at)) else { return };
        self.run.jumps += 1;
        for cursor in &mut self.memtables {
            cursor.leave(&gap);
        }
        self.stored.skip(&gap);
    }

    /// Keeps the run for later scans, where it saves them enough.
    fn remember(&mut self) {
        let run = std::mem::take(&mut self.run);
        if run.dead < DEAD_WORTH_KEEPING && !(run.dead > 0 && run.jumps > 1) {
            return;
        }
        let (Some(first), Some(last)) = (run.first, run.last) else { return };
        let range = match self.direction {
            Direction::Forward => KeyRange { start: run.border.unwrap_or(first), end: Some(behind(&last)) },
            Direction::Backward => KeyRange { start: last, end: Some(run.border.unwrap_or_else(|| behind(&first))) },
        };
        self.gaps.add(range, self.at);
    }
}

impl Run {
    fn from_edge(range: &KeyRange, direction: Direction) -> Self {
        Self { border: range.edge(direction).cloned(), ..Self::default() }
    }

    fn from_live(key: &Bytes, direction: Direction) -> Self {
        let border = match direction {
            Direction::Forward => behind(key),
            Direction::Backward => key.clone(),
        };
        Self { border: Some(border), ..Self::default() }
    }
}

impl KeyRange {
    /// The border that a scan in `direction` starts from.
    fn edge(&self, direction: Direction) -> Option<&Bytes> {
        match direction {
            Direction::Forward => Some(&self.start),
            Direction::Backward => self.end.as_ref(),
        }
    }
}
