//! Which parts of a file are free.

use std::collections::{BTreeMap, BTreeSet};

use super::store::{Abandoned, StoreResult};

/// Extents begin at multiples of this many bytes, so that what is left over of one is of use for another. They share sectors:
/// one that is being written when the power goes is taken to be old or new for what is not changed in it, and the
/// checksums of blocks tell where a disk does not hold to that.
const GRAIN: u64 = 64;
/// No file is as long,
const MOST_BYTES: u64 = 1 << 56;
/// and nothing in it.
const MOST_LENGTH: u32 = 64 << 10;
const AT_BYTES: usize = 8;
const LENGTH_BYTES: usize = 4;

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins.
    pub at: u64,
    /// Its bytes.
    pub length: u32,
}

/// The free parts of a file: the smallest that is large enough is taken, neighbours become one again.
#[derive(Debug, Default)]
pub struct Extents {
    /// Behind this everything is free.
    end: u64,
    /// Length of each free part before the end, by where it begins.
    free: BTreeMap<u64, u64>,
    /// The same, as length and where.
    by_length: BTreeSet<(u64, u64)>,
}

impl Extent {
    /// As it is written.
    pub fn to_bytes(self) -> [u8; AT_BYTES + LENGTH_BYTES] {
        let mut bytes = [0; AT_BYTES + LENGTH_BYTES];
        bytes[..AT_BYTES].copy_from_slice(&self.at.to_be_bytes());
        bytes[AT_BYTES..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }

    /// The extent that was written as `bytes`.
    ///
    /// # Errors
    /// [`Abandoned`] where they are none.
    pub fn from_bytes(bytes: &[u8]) -> StoreResult<Self> {
        let extent = bytes.split_first_chunk().and_then(|(at, length)| {
            Some(Self { at: u64::from_be_bytes(*at), length: u32::from_be_bytes(length.try_into().ok()?) })
        });
        extent
            .filter(|extent| (1..MOST_LENGTH).contains(&extent.length))
            .ok_or_else(|| Abandoned::new("the place of a block is of an unknown form"))
    }

    /// The bytes that it takes, with what is lost behind it.
    pub fn taken(self) -> usize {
        u64::from(self.length).next_multiple_of(GRAIN) as usize
    }

    fn end(self) -> u64 {
        self.at + self.taken() as u64
    }
}

impl Extents {
    /// All but `used`, in any order.
    ///
    /// # Errors
    /// [`Abandoned`] where two of them overlap.
    pub fn around(mut used: Vec<Extent>) -> StoreResult<Self> {
        used.sort_unstable_by_key(|extent| extent.at);
        let mut extents = Self::default();
        for extent in used {
            let between = extent
                .at
                .checked_sub(extents.end)
                .filter(|_| extent.at < MOST_BYTES && extent.at.is_multiple_of(GRAIN));
            let between = between.ok_or_else(|| Abandoned::new("two blocks lie in one place, or one nowhere"))?;
            if between > 0 {
                extents.add(extents.end, between);
            }
            extents.end = extent.end();
        }
        Ok(extents)
    }

    /// Behind this everything is free.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// A part of `length` bytes, free no more.
    pub fn take(&mut self, length: u32) -> Extent {
        let wanted = u64::from(length).next_multiple_of(GRAIN);
        let Some(&(found, at)) = self.by_length.range((wanted, 0)..).next() else {
            let at = self.end;
            self.end += wanted;
            return Extent { at, length };
        };
        self.drop(at, found);
        if found > wanted {
            self.add(at + wanted, found - wanted);
        }
        Extent { at, length }
    }

    /// Makes `extent` free.
    pub fn give(&mut self, extent: Extent) {
        let (mut at, mut end) = (extent.at, extent.end());
        if let Some((&before, &length)) = self.free.range(..at).next_back()
            && before + length == at
        {
            self.drop(before, length);
            at = before;
        }
        if let Some(&length) = self.free.get(&end) {
            self.drop(end, length);
            end += length;
        }
        if end == self.end {
            self.end = at;
        } else {
            self.add(at, end - at);
        }
    }

    fn add(&mut self, at: u64, length: u64) {
        self.free.insert(at, length);
        self.by_length.insert((length, at));
    }

    fn drop(&mut self, at: u64, length: u64) {
        self.free.remove(&at);
        self.by_length.remove(&(length, at));
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// Two blocks in one place would damage each other; a part that is never given out again would make the file grow
    /// without end.
    #[test]
    fn what_is_taken_is_nobody_elses_and_what_is_given_is_taken_again() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut extents = Extents::default();
        let mut taken: Vec<Extent> = Vec::new();
        let mut most = 0;
        for _ in 0..20_000 {
            if taken.len() < 200 && rng.random_range(0..100) < 60 {
                let extent = extents.take(rng.random_range(1..5_000));
                let overlaps = |other: &Extent| extent.at < other.end() && other.at < extent.end();
                assert!(!taken.iter().any(overlaps), "{extent:?}");
                taken.push(extent);
            } else if !taken.is_empty() {
                extents.give(taken.swap_remove(rng.random_range(0..taken.len())));
            }
            let end = taken.iter().map(|extent| extent.end()).max().unwrap_or(0);
            assert_eq!(extents.end(), end);
            assert_eq!(extents.free, Extents::around(taken.clone()).expect("none overlap").free);
            assert_eq!(extents.free.len(), extents.by_length.len());
            most = most.max(end);
        }
        assert!(most < 200 * 5_000, "{most} bytes for at most 200 extents of half as much");
        for extent in taken {
            extents.give(extent);
        }
        assert_eq!((extents.end(), extents.free.len()), (0, 0));
    }

    #[test]
    fn the_smallest_part_that_is_large_enough_is_taken() {
        let at = |at, length| Extent { at, length };
        let mut extents = Extents::around(vec![at(1_024, 1), at(0, 64), at(1_280, 10)]).expect("none overlap");
        assert_eq!(extents.take(192), at(1_088, 192));
        assert_eq!(extents.take(192), at(64, 192));
        assert_eq!(extents.take(900), at(1_344, 900));
        assert_eq!(extents.take(700), at(256, 700));
    }

    #[test]
    fn places_that_overlap_and_bytes_that_are_none_are_refused() {
        let at = |at, length| Extent { at, length };
        assert!(Extents::around(vec![at(64, 65), at(128, 1)]).is_err());
        assert!(Extents::around(vec![at(64, 64), at(128, 1), at(0, 1)]).is_ok());
        assert!(Extents::around(vec![at(u64::MAX - 63, 64)]).is_err());
        assert!(Extents::around(vec![at(65, 1)]).is_err());
        assert_eq!(Extent::from_bytes(&at(1 << 40, 7).to_bytes()), Ok(at(1 << 40, 7)));
        for bytes in [&[][..], &[1; 11], &[1; 13], &[0; 12], &[1; 12]] {
            assert!(Extent::from_bytes(bytes).is_err(), "{bytes:?}");
        }
    }
}
