//! Which writes of a group are overtaken by later ones of it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};

use crate::engine::Record;

use super::memtable::key_hash;

/// Room for more keys is given back before the next group.
const MOST_KEPT: usize = 4_096;

/// Which writes of one group readers can see. A group is published as a whole, so of a counter that every record
/// writes only the last value is ever seen; keeping the others would fill the memtable, and so bring drains forward.
#[derive(Debug, Default)]
pub struct Newest {
    /// By the hash of its key, the last record that writes it.
    last: HashMap<u64, usize, BuildHasherDefault<Hashed>>,
    /// For each write of the group, the last one first: the hash of its key, unless a later record writes that too.
    seen: Vec<Option<u64>>,
}

impl Newest {
    /// Starts with the next group.
    pub fn look_at(&mut self, records: &[Record]) {
        self.last.clear();
        self.seen.clear();
        if self.seen.capacity() > 2 * MOST_KEPT {
            *self = Self::default();
        }
        for (number, record) in records.iter().enumerate().rev() {
            for write in record.writes.iter().rev() {
                let hash = key_hash(write.key());
                let is_passed = self.is_passed(hash, number, write.key(), records);
                self.seen.push((!is_passed).then_some(hash));
            }
        }
    }

    /// The hash of the next key in the order of the group; none when a later write hides this one.
    pub fn take(&mut self) -> Option<u64> {
        self.seen.pop().flatten()
    }

    /// Whether a record behind `number` is known to write `key`, which has this hash.
    fn is_passed(&mut self, hash: u64, number: usize, key: &[u8], records: &[Record]) -> bool {
        match self.last.entry(hash) {
            Entry::Vacant(place) => {
                place.insert(number);
                false
            }
            // Two keys may share a hash. The second one does not count as passed then, which costs memory and no more.
            Entry::Occupied(place) => {
                let last = *place.get();
                last > number && records[last].writes.binary_search_by(|write| write.key()[..].cmp(key)).is_ok()
            }
        }
    }
}

/// Takes what is a hash already as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Never called for whole numbers.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::engine::Write;

    fn record(keys: &[&'static str]) -> Record {
        let write = |key: &&'static str| Write::Delete { key: Bytes::from_static(key.as_bytes()) };
        Record { writes: keys.iter().map(write).collect(), ..Record::default() }
    }

    /// A key that counts as overtaken because another one has its hash would be lost to every reader.
    #[test]
    fn a_key_is_passed_only_by_itself() {
        let records = [record(&["a", "b"]), record(&["c", "d"]), record(&["b"])];
        let mut newest = Newest::default();
        assert!(!newest.is_passed(1, 2, b"b", &records));
        assert!(!newest.is_passed(1, 1, b"c", &records), "the same hash, another key");
        assert!(!newest.is_passed(2, 1, b"d", &records));
        assert!(!newest.is_passed(2, 1, b"c", &records), "the same hash within a record");
        assert!(newest.is_passed(1, 0, b"b", &records));
        assert!(!newest.is_passed(2, 0, b"a", &records));
    }

    #[test]
    fn of_each_key_the_last_write_is_seen_whatever_came_before() {
        let mut newest = Newest::default();
        newest.look_at(&[record(&["left over"])]);
        newest.look_at(&[record(&["a", "n"]), record(&["b", "n"]), record(&[]), record(&["a", "c", "n"])]);
        let hash = |key: &str| Some(key_hash(key.as_bytes()));
        let seen: Vec<_> = (0..8).map(|_| newest.take()).collect();
        assert_eq!(seen, [None, None, hash("b"), None, hash("a"), hash("c"), hash("n"), None]);
    }
}
