//! A small filter that says for sure that a key was never written to a memtable.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bits set for one key; all in one word, so that a probe touches one cache line.
const BITS: u32 = 4;

/// A Bloom filter over key hashes; grows fuller, never wrong.
pub struct Filter {
    words: Box<[AtomicU64]>,
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filter").field("words", &self.words.len()).finish()
    }
}

impl Filter {
    /// A filter for about `keys` keys (16 bits each: about one probe in a hundred passes in vain).
    pub fn new(keys: usize) -> Self {
        let words = (keys / 4).next_power_of_two().max(64);
        Self { words: (0..words).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Counts a key in; must come before the key itself can be read.
    pub fn insert(&self, hash: u64) {
        let (word, mask) = self.place(hash);
        if word.load(Ordering::Relaxed) & mask != mask {
            word.fetch_or(mask, Ordering::Release);
        }
    }

    /// Whether the key may have been counted in.
    pub fn may_contain(&self, hash: u64) -> bool {
        let (word, mask) = self.place(hash);
        word.load(Ordering::Acquire) & mask == mask
    }

    fn place(&self, hash: u64) -> (&AtomicU64, u64) {
        // The upper half chooses the word, the lower half the bits: independent for a good hash.
        let index = (hash >> 32) as usize & (self.words.len() - 1);
        let mask = (0..BITS).fold(0, |mask, bit| mask | 1 << (hash >> (bit * 6) & 63));
        (&self.words[index], mask)
    }
}

#[cfg(test)]
mod tests {
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;

    /// A false "no" loses a write for its readers; too many "maybe" cost every read a search.
    #[test]
    fn never_denies_a_key_and_seldom_passes_a_stranger() {
        let filter = Filter::new(10_000);
        for key in 0..10_000_u32 {
            filter.insert(xxh3_64(&key.to_be_bytes()));
        }
        assert!((0..10_000_u32).all(|key| filter.may_contain(xxh3_64(&key.to_be_bytes()))));
        let passed = (10_000..20_000_u32).filter(|key| filter.may_contain(xxh3_64(&key.to_be_bytes()))).count();
        assert!(passed < 500, "passed={passed} of 10000");
    }
}
