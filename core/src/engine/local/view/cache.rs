//! The record cache: hot values, answered before any memtable or the store is asked.
//!
//! The invariant that makes a hit right: *an entry is the newest version of its key that was ever
//! applied.* A snapshot at S sees only published operations, and those are wholly applied; so an
//! entry that is not newer than S is the newest version that is not newer than S. An entry that is
//! newer says nothing to that snapshot, which asks the memtables instead.
//!
//! Entries are found by the hash of their key, and key and value lie side by side: a read touches one place in memory
//! instead of three. Of two keys with one hash the one written later takes the place, and the other is read from below.

use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::time::Duration;

use bytes::{Buf, Bytes};
use crossbeam_utils::CachePadded;
use quick_cache::sync::{Cache, DefaultLifecycle, GuardResult};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use crate::engine::{Sequence, Versioned};

/// What an entry costs beside its key and value.
const ENTRY_OVERHEAD: usize = 128;
/// Larger values are read from below: a few of them would push out everything else.
const LARGEST_VALUE: usize = 64 << 10;

/// Smaller entries are copied for each reader. A count of those who share one would be written by every reader, and
/// what one core writes the others have to fetch again; beyond this the copy costs more.
const LARGEST_COPY: usize = 2 << 10;

/// A version of a key.
#[derive(Debug)]
struct Kept {
    /// The key, then the value.
    bytes: Bytes,
    key: usize,
    sequence: Sequence,
}

impl Kept {
    fn new(key: &[u8], value: &[u8], sequence: Sequence) -> Self {
        // A copy, because the value may be a slice that keeps a whole record's buffer alive.
        Self { bytes: [key, value].concat().into(), key: key.len(), sequence }
    }

    /// The version, if it is one of `key` and not newer than `at`.
    fn into_state(mut self, key: &[u8], at: Sequence) -> Option<Versioned> {
        if self.sequence > at || self.bytes[..self.key] != *key {
            return None;
        }
        self.bytes.advance(self.key);
        Some(Versioned { value: self.bytes, sequence: self.sequence })
    }
}

impl Clone for Kept {
    fn clone(&self) -> Self {
        let bytes =
            if self.bytes.len() > LARGEST_COPY { self.bytes.clone() } else { Bytes::copy_from_slice(&self.bytes) };
        Self { bytes, ..*self }
    }
}

#[derive(Clone, Copy, Debug)]
struct ByBytes;

impl Weighter<u64, Kept> for ByBytes {
    fn weight(&self, _: &u64, kept: &Kept) -> u64 {
        (ENTRY_OVERHEAD + kept.bytes.len()) as u64
    }
}

/// Newest versions of hot keys, bounded in bytes.
#[derive(Debug)]
pub struct RecordCache {
    entries: Option<Cache<u64, Kept, ByBytes>>,
    largest: usize,
    /// Fills that are under way; apart from what every read looks at.
    fills: CachePadded<AtomicUsize>,
}

impl RecordCache {
    /// A cache of at most `bytes`; 0 keeps nothing.
    pub fn new(bytes: usize) -> Self {
        let shards = (bytes >> 20).clamp(1, 16);
        let largest = LARGEST_VALUE.min(bytes / shards / 4);
        let entries = (bytes > 0).then(|| {
            let options = OptionsBuilder::new()
                .shards(shards)
                .weight_capacity(bytes as u64)
                .estimated_items_capacity(bytes / 512)
                .build()
                .expect("capacity and estimate are set");
            Cache::with_options(options, ByBytes, DefaultHashBuilder::default(), DefaultLifecycle::default())
        });
        Self { entries, largest, fills: CachePadded::default() }
    }

    /// The newest version of `key`, which has this hash, when it is at hand and not newer than `at`.
    pub fn get(&self, hash: u64, key: &[u8], at: Sequence) -> Option<Versioned> {
        self.entries.as_ref()?.get(&hash)?.into_state(key, at)
    }

    /// Tells of a version that is in the memtable already but not yet published. Only a key that is
    /// at hand is kept: a new one is found in the memtable, and most are not read soon.
    pub fn rewrite(&self, hash: u64, key: &[u8], value: Option<&Bytes>, sequence: Sequence) {
        let Some(entries) = &self.entries else { return };
        // The other half of the fence in `fill`: a fill that is not counted here finds what is in the memtable.
        fence(Ordering::SeqCst);
        let fills = self.fills.load(Ordering::Acquire);
        // Behind the count: a fill that ended before it is seen here.
        let is_kept = entries.contains_key(&hash);
        if let Some(value) = value.filter(|value| is_kept && value.len() <= self.largest)
            && entries.replace(hash, Kept::new(key, value, sequence), false).is_ok()
        {
            return;
        }
        // Also where nothing is kept: this takes away the place of a fill that is under way. Where there is none it
        // would cost more than the rest of a write: the lock is made for readers.
        if is_kept || fills > 0 {
            entries.remove(&hash);
        }
    }

    /// Keeps what a read found, if `is_newest` still says so.
    ///
    /// The race: a reader finds version 1, then a writer applies version 2 (and a drain moves it to
    /// the store, and the cache forgets it), then the reader fills in version 1, for ever. So the
    /// fill first takes the key's place in the cache and *then* asks `is_newest`: whoever applied a
    /// version before that is seen by the question, and whoever applies one later sees that a fill is under way and
    /// takes the place away (`rewrite` comes after the memtable), so that the insertion finds it gone.
    pub fn fill(&self, hash: u64, key: &[u8], state: &Versioned, is_newest: impl FnOnce() -> bool) {
        let Some(entries) = self.entries.as_ref().filter(|_| state.value.len() <= self.largest) else { return };
        let _under_way = Filling::begin(&self.fills);
        // Another reader that fills at this moment does it for both; waiting would gain nothing.
        if let GuardResult::Guard(place) = entries.get_value_or_guard(&hash, Some(Duration::ZERO))
            && is_newest()
        {
            // A refusal means that a newer version came in between.
            let _ = place.insert(Kept::new(key, &state.value, state.sequence));
        }
    }
}

/// Counted among the fills that are under way, until it is dropped.
struct Filling<'a>(&'a AtomicUsize);

impl<'a> Filling<'a> {
    fn begin(fills: &'a AtomicUsize) -> Self {
        fills.fetch_add(1, Ordering::AcqRel);
        // Before the question whether it is the newest: see `RecordCache::rewrite`.
        fence(Ordering::SeqCst);
        Self(fills)
    }
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash of the key that these tests use.
    const K: u64 = 1;

    fn state(value: &'static str, sequence: Sequence) -> Versioned {
        Versioned { value: Bytes::from_static(value.as_bytes()), sequence }
    }

    /// A hit that is newer than the snapshot would show half an operation.
    #[test]
    fn a_newer_entry_says_nothing_to_an_older_snapshot() {
        let cache = RecordCache::new(1 << 20);
        cache.fill(K, b"k", &state("old", 3), || true);
        assert_eq!(cache.get(K, b"k", 3), Some(state("old", 3)));
        cache.rewrite(K, b"k", Some(&Bytes::from_static(b"new")), 5);
        assert_eq!(cache.get(K, b"k", 4), None);
        assert_eq!(cache.get(K, b"k", 5), Some(state("new", 5)));
        cache.rewrite(K, b"k", None, 6);
        assert_eq!(cache.get(K, b"k", 9), None);
    }

    /// The race of `fill`: the write lands between the question and the insertion.
    #[test]
    fn a_write_during_a_fill_wins() {
        let cache = RecordCache::new(1 << 20);
        for value in [Some(Bytes::from_static(b"new")), None] {
            cache.fill(K, b"k", &state("old", 3), || {
                cache.rewrite(K, b"k", value.as_ref(), 5);
                true
            });
            assert_eq!(cache.get(K, b"k", 9), None, "an old value was filled in over a newer one");
        }
    }

    /// A value over the bound must not stay behind in its older version.
    #[test]
    fn a_value_that_outgrows_the_cache_leaves_it() {
        let cache = RecordCache::new(1 << 20);
        cache.fill(K, b"k", &state("old", 3), || true);
        cache.rewrite(K, b"k", Some(&Bytes::from(vec![7; LARGEST_VALUE + 1])), 5);
        assert_eq!(cache.get(K, b"k", 9), None);
    }

    /// Keys that share a hash are other people's documents: none may be answered, or kept, for the other.
    #[test]
    fn keys_that_share_a_hash_are_not_taken_for_one_another() {
        let cache = RecordCache::new(1 << 20);
        cache.fill(K, b"k", &state("mine", 3), || true);
        assert_eq!(cache.get(K, b"l", 9), None);
        assert_eq!(cache.get(K, b"", 9), None);
        cache.fill(K, b"l", &state("other", 2), || true);
        assert_eq!(cache.get(K, b"k", 9), Some(state("mine", 3)), "who is there stays");
        cache.rewrite(K, b"l", Some(&Bytes::from_static(b"newer")), 5);
        assert_eq!(cache.get(K, b"k", 9), None);
        assert_eq!(cache.get(K, b"l", 9), Some(state("newer", 5)));
        assert_eq!(cache.get(K, b"l", 4), None);
    }

    /// Small values are copied for their reader and large ones shared; both must be the whole value and nothing else.
    #[test]
    fn values_of_every_size_come_back_whole() {
        let cache = RecordCache::new(8 << 20);
        for length in [0, 1, LARGEST_COPY - 1, LARGEST_COPY, LARGEST_COPY + 1, LARGEST_VALUE] {
            let value = Bytes::from((0..length).map(|n| n as u8).collect::<Vec<_>>());
            let kept = Versioned { value, sequence: 3 };
            cache.fill(length as u64, b"k", &kept, || true);
            for _ in 0..2 {
                assert_eq!(cache.get(length as u64, b"k", 3), Some(kept.clone()), "length={length}");
            }
        }
    }
}
