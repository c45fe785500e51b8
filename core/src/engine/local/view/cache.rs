//! The record cache: hot values, answered before any memtable or the store is asked.
//!
//! The invariant that makes a hit right: *an entry is the newest version of its key that was ever
//! applied.* A snapshot at S sees only published operations, and those are wholly applied; so an
//! entry that is not newer than S is the newest version that is not newer than S. An entry that is
//! newer says nothing to that snapshot, which asks the memtables instead.

use std::time::Duration;

use bytes::Bytes;
use quick_cache::sync::{Cache, DefaultLifecycle, GuardResult};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use crate::engine::{Sequence, Versioned};

/// What an entry costs beside its key and value.
const ENTRY_OVERHEAD: usize = 128;
/// Larger values are read from below: a few of them would push out everything else.
const LARGEST_VALUE: usize = 64 << 10;

#[derive(Clone, Copy, Debug)]
struct ByBytes;

impl Weighter<Vec<u8>, Versioned> for ByBytes {
    fn weight(&self, key: &Vec<u8>, state: &Versioned) -> u64 {
        (ENTRY_OVERHEAD + key.len() + state.value.len()) as u64
    }
}

/// Newest versions of hot keys, bounded in bytes.
#[derive(Debug)]
pub struct RecordCache {
    entries: Option<Cache<Vec<u8>, Versioned, ByBytes>>,
    largest: usize,
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
        Self { entries, largest }
    }

    /// The newest version of `key`, when it is at hand and not newer than `at`.
    pub fn get(&self, key: &[u8], at: Sequence) -> Option<Versioned> {
        self.entries.as_ref()?.get(key).filter(|state| state.sequence <= at)
    }

    /// Tells of a version that is in the memtable already but not yet published. Only a key that is
    /// at hand is kept: a new one is found in the memtable, and most are not read soon.
    pub fn rewrite(&self, key: &[u8], value: Option<&Bytes>, sequence: Sequence) {
        let Some(entries) = &self.entries else { return };
        if let Some(value) = value.filter(|value| value.len() <= self.largest && entries.contains_key(key)) {
            let state = Versioned { value: Bytes::copy_from_slice(value), sequence };
            if entries.replace(key.to_vec(), state, false).is_ok() {
                return;
            }
        }
        // Also where nothing is kept: this takes away the place of a fill that is under way.
        entries.remove(key);
    }

    /// Keeps what a read found, if `is_newest` still says so.
    ///
    /// The race: a reader finds version 1, then a writer applies version 2 (and a drain moves it to
    /// the store, and the cache forgets it), then the reader fills in version 1, for ever. So the
    /// fill first takes the key's place in the cache and *then* asks `is_newest`: whoever applied a
    /// version before that is seen by the question, and whoever applies one later takes the place
    /// away (`rewrite` comes after the memtable), so that the insertion finds it gone.
    pub fn fill(&self, key: &[u8], state: &Versioned, is_newest: impl FnOnce() -> bool) {
        let Some(entries) = self.entries.as_ref().filter(|_| state.value.len() <= self.largest) else { return };
        // Another reader that fills at this moment does it for both; waiting would gain nothing.
        if let GuardResult::Guard(place) = entries.get_value_or_guard(key, Some(Duration::ZERO))
            && is_newest()
        {
            // A copy, because the value may be a slice that keeps a whole record's buffer alive.
            let state = Versioned { value: Bytes::copy_from_slice(&state.value), sequence: state.sequence };
            // A refusal means that a newer version came in between.
            let _ = place.insert(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(value: &'static str, sequence: Sequence) -> Versioned {
        Versioned { value: Bytes::from_static(value.as_bytes()), sequence }
    }

    /// A hit that is newer than the snapshot would show half an operation.
    #[test]
    fn a_newer_entry_says_nothing_to_an_older_snapshot() {
        let cache = RecordCache::new(1 << 20);
        cache.fill(b"k", &state("old", 3), || true);
        assert_eq!(cache.get(b"k", 3), Some(state("old", 3)));
        cache.rewrite(b"k", Some(&Bytes::from_static(b"new")), 5);
        assert_eq!(cache.get(b"k", 4), None);
        assert_eq!(cache.get(b"k", 5), Some(state("new", 5)));
        cache.rewrite(b"k", None, 6);
        assert_eq!(cache.get(b"k", 9), None);
    }

    /// The race of `fill`: the write lands between the question and the insertion.
    #[test]
    fn a_write_during_a_fill_wins() {
        let cache = RecordCache::new(1 << 20);
        for value in [Some(Bytes::from_static(b"new")), None] {
            cache.fill(b"k", &state("old", 3), || {
                cache.rewrite(b"k", value.as_ref(), 5);
                true
            });
            assert_eq!(cache.get(b"k", 9), None, "an old value was filled in over a newer one");
        }
    }

    /// A value over the bound must not stay behind in its older version.
    #[test]
    fn a_value_that_outgrows_the_cache_leaves_it() {
        let cache = RecordCache::new(1 << 20);
        cache.fill(b"k", &state("old", 3), || true);
        cache.rewrite(b"k", Some(&Bytes::from(vec![7; LARGEST_VALUE + 1])), 5);
        assert_eq!(cache.get(b"k", 9), None);
    }
}
