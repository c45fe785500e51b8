//! The digest: a few bytes that tell whether the store holds what the log says.

use xxhash_rust::xxh3::Xxh3;

use crate::engine::Sequence;

/// How many keys there are, and the wrapping sum of a keyed hash of (key, sequence) of each.
///
/// The sum does not depend on the order, so a checkpoint changes it by the keys it touches alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// Live keys.
    pub count: u64,
    /// The sum.
    pub sum: u128,
}

impl Digest {
    /// Counts a key in.
    pub fn add(&mut self, salt: u64, key: &[u8], sequence: Sequence) {
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(entry_hash(salt, key, sequence));
    }

    /// Counts a key out.
    pub fn remove(&mut self, salt: u64, key: &[u8], sequence: Sequence) {
        self.count = self.count.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(entry_hash(salt, key, sequence));
    }
}

/// `salt` differs between databases, so that a foreign directory cannot pass.
fn entry_hash(salt: u64, key: &[u8], sequence: Sequence) -> u128 {
    let mut hasher = Xxh3::with_seed(salt);
    hasher.update(key);
    hasher.update(&sequence.to_be_bytes());
    hasher.digest128()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A delete that is not counted out, or an order that matters, would quarantine a sound store.
    #[test]
    fn a_removed_key_leaves_no_trace_and_order_does_not_matter() {
        let (mut one, mut other) = (Digest::default(), Digest::default());
        one.add(7, b"a", 1);
        one.add(7, b"b", 2);
        one.remove(7, b"a", 1);
        other.add(7, b"b", 2);
        assert_eq!(one, other);
        let mut foreign = Digest::default();
        foreign.add(8, b"b", 2);
        assert_ne!(one, foreign);
    }
}
