//! A memtable: the newest writes, every version of them, in key order.

use std::borrow::Borrow;
use std::cmp::Ordering as Order;
use std::fmt;
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use crossbeam_skiplist::SkipMap;
use crossbeam_skiplist::map::Entry;
use xxhash_rust::xxh3::xxh3_64;

use super::filter::Filter;
use crate::engine::{Direction, KeyRange, Sequence};

/// What an entry costs beside its key and value: tower, counters, allocator.
const ENTRY_OVERHEAD: usize = 128;
/// No entry is counted as less.
pub const LEAST_ENTRY_BYTES: u64 = ENTRY_OVERHEAD as u64;
/// Steps over versions of no interest before a search is cheaper.
const STEPS_BEFORE_SEARCH: usize = 8;

/// The hash of a key for [`Memtable`] lookups; made once and used for every memtable of a read.
pub fn key_hash(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// A key at a version. Keys ascend, and the newest version of a key comes first.
#[derive(Debug)]
pub struct VersionedKey {
    key: Bytes,
    sequence: Sequence,
}

impl VersionedKey {}

/// A place in the order of a memtable, so that a lookup need not copy its key.
trait Place {
    fn place(&self) -> (&[u8], Sequence);
}

impl Place for VersionedKey {
    fn place(&self) -> (&[u8], Sequence) {
        (&self.key, self.sequence)
    }
}

impl Place for (&[u8], Sequence) {
    fn place(&self) -> (&[u8], Sequence) {
        *self
    }
}

impl Ord for dyn Place + '_ {
    fn cmp(&self, other: &Self) -> Order {
        let ((key, sequence), (other_key, other_sequence)) = (self.place(), other.place());
        key.cmp(other_key).then_with(|| other_sequence.cmp(&sequence))
    }
}

impl PartialOrd for dyn Place + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Place + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for dyn Place + '_ {}

impl<'a> Borrow<dyn Place + 'a> for VersionedKey {
    fn borrow(&self) -> &(dyn Place + 'a) {
        self
    }
}

impl Ord for VersionedKey {
    fn cmp(&self, other: &Self) -> Order {
        self.key.cmp(&other.key).then_with(|| other.sequence.cmp(&self.sequence))
    }
}

impl PartialOrd for VersionedKey {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl PartialEq for VersionedKey {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for VersionedKey {}

/// A version: the operation that wrote it and the value, none when it removed the key.
pub type Version = (Sequence, Option<Bytes>);

/// Versions of keys since the last checkpoint. One thread writes, any number read.
pub struct Memtable {
    versions: SkipMap<VersionedKey, Option<Bytes>>,
    filter: Filter,
    bytes: AtomicUsize,
}

impl fmt::Debug for Memtable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memtable").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

impl Memtable {
    /// An empty memtable that will take about `budget` bytes.
    pub fn new(budget: usize) -> Self {
        Self { versions: SkipMap::new(), filter: Filter::new(budget / 192), bytes: AtomicUsize::new(0) }
    }

    /// Adds a version; it must be newer than every version of its key.
    pub fn insert(&self, hash: u64, key: Bytes, sequence: Sequence, value: Option<Bytes>) {
        let bytes = ENTRY_OVERHEAD + key.len() + value.as_ref().map_or(0, Bytes::len);
        // The filter first: a reader that finds the bits missing must be right that the key is too.
        self.filter.insert(hash);
        self.versions.insert(VersionedKey { key, sequence }, value);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What it costs in memory, about.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty()
    }

    /// The newest version of `key` that is not newer than `at`.
    pub fn get(&self, hash: u64, key: &[u8], at: Sequence) -> Option<Version> {
        if !self.filter.may_contain(hash) {
            return None;
        }
        let entry = self.seek(key, at)?;
        (entry.key().key[..] == *key).then(|| (entry.key().sequence, entry.value().clone()))
    }

    /// A cursor over the keys of `range` as of `at`.
    pub fn cursor<'a>(&'a self, range: &'a KeyRange, direction: Direction, at: Sequence) -> Cursor<'a> {
        let mut cursor = Cursor { table: self, range, direction, at, head: None };
        cursor.head = match direction {
            Direction::Forward => cursor.settle(self.seek(&range.start, Sequence::MAX), None),
            Direction::Backward => cursor.settle_back(range.end.clone()),
        };
        cursor
    }

    /// The newest version of every key, in key order.
    pub fn newest(&self) -> impl Iterator<Item = (Bytes, Version)> + '_ {
        let mut last: Option<Bytes> = None;
        self.versions.iter().filter_map(move |entry| {
            let key = &entry.key().key;
            if last.as_ref() == Some(key) {
                return None;
            }
            last = Some(key.clone());
            Some((key.clone(), (entry.key().sequence, entry.value().clone())))
        })
    }

    /// The oldest version of every key: what a drain must not write.
    #[cfg(test)]
    pub fn oldest(&self) -> std::collections::BTreeMap<Bytes, Version> {
        let entries = self.versions.iter();
        entries.map(|entry| (entry.key().key.clone(), (entry.key().sequence, entry.value().clone()))).collect()
    }

    fn seek(&self, key: &[u8], at: Sequence) -> Option<Head<'_>> {
        let place: &dyn Place = &(key, at);
        self.versions.lower_bound(Bound::Included(place))
    }

    fn seek_behind(&self, key: &[u8]) -> Option<Head<'_>> {
        let place: &dyn Place = &(key, 0);
        self.versions.lower_bound(Bound::Excluded(place))
    }

    fn seek_before(&self, key: Option<&[u8]>) -> Option<Head<'_>> {
        let Some(key) = key else { return self.versions.back() };
        let place: &dyn Place = &(key, Sequence::MAX);
        self.versions.upper_bound(Bound::Excluded(place))
    }
}

type Head<'a> = Entry<'a, VersionedKey, Option<Bytes>>;

/// Walks the keys of a range, one version each; also stops at keys that were removed.
pub struct Cursor<'a> {
    table: &'a Memtable,
    range: &'a KeyRange,
    direction: Direction,
    at: Sequence,
    head: Option<Head<'a>>,
}

impl<'a> Cursor<'a> {
    /// The key the cursor stands at.
    pub fn key(&self) -> Option<&Bytes> {
        self.head.as_ref().map(|head| &head.key().key)
    }

    /// The version the cursor stands at.
    pub fn version(&self) -> Option<(Sequence, Option<&Bytes>)> {
        self.head.as_ref().map(|head| (head.key().sequence, head.value().as_ref()))
    }

    /// Moves on by one key.
    pub fn advance(&mut self) {
        let Some(head) = self.head.take() else { return };
        self.head = match self.direction {
            Direction::Forward => self.settle(head.next(), Some(&head.key().key)),
            Direction::Backward => self.settle_back(Some(head.key().key.clone())),
        };
    }

    /// Moves on to the far end of `gap` (first key, first key behind) when it stands in it.
    pub fn leave(&mut self, gap: &(Bytes, Bytes)) {
        let (start, end) = gap;
        if self.key().is_some_and(|key| key >= start && key < end) {
            self.head = match self.direction {
                Direction::Forward => self.settle(self.table.seek(end, Sequence::MAX), None),
                Direction::Backward => self.settle_back(Some(start.clone())),
            };
        }
    }

    /// The first visible version from `entry` on whose key is not `passed`.
    fn settle(&self, mut entry: Option<Head<'a>>, passed: Option<&Bytes>) -> Option<Head<'a>> {
        let mut steps = 0;
        loop {
            let candidate = entry?;
            let VersionedKey { key, sequence } = candidate.key();
            if self.range.end.as_ref().is_some_and(|end| key >= end) {
                return None;
            }
            let seen = passed == Some(key);
            if !seen && *sequence <= self.at {
                return Some(candidate);
            }
            steps += 1;
            entry = match (steps % STEPS_BEFORE_SEARCH, seen) {
                (0, true) => self.table.seek_behind(key),
                (0, false) => self.table.seek(key, self.at),
                _ => candidate.next(),
            };
        }
    }

    /// The visible version of the last key before `limit` that has one.
    fn settle_back(&self, mut limit: Option<Bytes>) -> Option<Head<'a>> {
        loop {
            let oldest = self.table.seek_before(limit.as_deref())?;
            let key = &oldest.key().key;
            if *key < self.range.start {
                return None;
            }
            let visible = self.table.seek(key, self.at).filter(|entry| entry.key().key == *key);
            if visible.is_some() {
                return visible;
            }
            limit = Some(key.clone());
        }
    }
}
