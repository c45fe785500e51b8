//! Which block holds a key, and how blocks are read in order.

use std::ops::Bound;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::block::{self, BLOCK, PART, block_place, part_count, part_key, part_of, start_of};
use super::options::{Defect, Planted};
use super::store::{Abandoned, STORE_PAGE_ENTRIES, StoreResult, StoredEntry, StoredValue};
use crate::engine::{Direction, KeyRange, Versioned};

/// The ordered map in which blocks and parts lie. A crash leaves a first part of the changes that were made.
pub trait Places {
    /// A place as the map hands it out.
    type Place: AsRef<[u8]>;
    /// Where the bytes are.
    type Held: Copy;

    /// What lies at `place`.
    fn get(&self, place: &[u8]) -> StoreResult<Option<Bytes>>;
    /// What lies in a range of places, in their order.
    fn range(
        &self,
        from: Bound<Vec<u8>>,
        to: Bound<Vec<u8>>,
    ) -> impl DoubleEndedIterator<Item = StoreResult<(Self::Place, Self::Held)>>;
    /// The bytes themselves.
    fn read(&self, held: &Self::Held) -> StoreResult<Bytes>;
    /// Writes `values`, which lie at no place as yet.
    fn keep(&self, values: &[Bytes]) -> StoreResult<Vec<Self::Held>>;
    /// Returns when all that was kept survives a power cut.
    fn sync(&self) -> StoreResult<()>;
    /// Puts what was kept at `place`.
    fn insert(&self, place: Vec<u8>, held: Self::Held) -> StoreResult<()>;
    /// Leaves nothing at `place`.
    fn remove(&self, place: &[u8]) -> StoreResult<()>;
}

/// Held by readers, and by the writer until those who look at what is about to be free are gone, and while entries move from one block to others or a tail goes: a reader that goes
/// backwards over the border of two leaves would miss what moved behind it, and one that goes forward would take a tail
/// for entries when the block behind it is gone.
#[derive(Debug)]
pub struct Shape {
    moves: RwLock<()>,
    patience: Duration,
    pub(super) defect: Defect,
}

impl Shape {
    /// Readers wait at most `patience`.
    pub fn new(patience: Duration, defect: Defect) -> Self {
        Self { moves: RwLock::default(), patience, defect }
    }

    /// Keeps what is there where it is. Readers wait at most as long as their patience.
    pub(super) fn still(&self) -> StoreResult<RwLockReadGuard<'_, ()>> {
        self.moves.try_read_for(self.patience).ok_or_else(|| Abandoned::new("a write did not come back"))
    }

    /// Waits until no reader is left and keeps others out.
    pub(super) fn moving(&self) -> Option<RwLockWriteGuard<'_, ()>> {
        (!self.defect.is(Planted::BlocksMoveUnseen)).then(|| self.moves.write())
    }
}

/// The entries in a map of places. One thread writes at a time, any number read.
#[derive(Debug)]
pub struct Blocks<'a, P> {
    pub(super) places: &'a P,
    pub(super) shape: &'a Shape,
}

impl<'a, P: Places> Blocks<'a, P> {
    /// The entries in `places`; all who use them share `shape`.
    pub fn new(places: &'a P, shape: &'a Shape) -> Self {
        Self { places, shape }
    }

    /// As [`super::store::Ordered::get`].
    pub fn get(&self, key: &[u8]) -> StoreResult<Option<Versioned>> {
        let entry = {
            let _still = self.shape.still()?;
            self.entry(key)?
        };
        let Some(entry) = entry else { return Ok(None) };
        let value = self.load(&entry)?;
        Ok(Some(Versioned { value, sequence: entry.sequence }))
    }

    /// As [`super::store::Ordered::scan`].
    pub fn scan(&self, range: &KeyRange, direction: Direction, limit: usize) -> StoreResult<Vec<StoredEntry>> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let limit = limit.min(STORE_PAGE_ENTRIES);
        let _still = self.shape.still()?;
        match direction {
            Direction::Forward => self.scan_forward(range, limit),
            Direction::Backward => self.scan_backward(range, limit),
        }
    }

    /// As [`super::store::Ordered::load`].
    pub fn load(&self, entry: &StoredEntry) -> StoreResult<Bytes> {
        let (length, checksum) = match &entry.value {
            StoredValue::Whole(value) => return Ok(value.clone()),
            StoredValue::Parts { length, checksum } => (*length as usize, *checksum),
        };
        let mut value = BytesMut::with_capacity(length);
        for number in 0..part_count(length) {
            // For one part at a time: a flush that waits for this one would let nobody else read meanwhile.
            let _still = self.shape.still()?;
            let part = self.places.get(&part_key(&entry.key, number))?;
            value.extend_from_slice(&part.ok_or_else(|| Abandoned::new("a part of a value is missing"))?);
        }
        if value.len() != length || crc32c::crc32c(&value) != checksum {
            return Err(Abandoned::new(format!("the parts of a value do not fit together: bytes={length}")));
        }
        Ok(value.freeze())
    }

    /// As [`super::store::Ordered::sweep`]: removes every part that no entry names.
    pub fn sweep(&self) -> StoreResult<()> {
        let mut from = vec![PART];
        let mut named = (Vec::new(), 0);
        loop {
            let page =
                self.places.range(Bound::Included(from), Bound::Excluded(vec![PART + 1])).take(STORE_PAGE_ENTRIES);
            let places = page.map(|next| next.map(|(place, _)| place)).collect::<StoreResult<Vec<_>>>()?;
            let Some(last) = places.last() else { return Ok(()) };
            from = last.as_ref().to_vec();
            from.push(0);
            for place in &places {
                let (key, number) = part_of(place.as_ref())?;
                if named.0 != key {
                    let parts = match self.entry(key)?.map(|entry| entry.value) {
                        Some(StoredValue::Parts { length, .. }) => part_count(length as usize),
                        _ => 0,
                    };
                    named = (key.to_vec(), parts);
                }
                if named.1 <= number {
                    self.places.remove(place.as_ref())?;
                }
            }
        }
    }

    /// The last block at or before `place`, where there is one.
    fn at_or_before(&self, place: Bound<Vec<u8>>) -> StoreResult<Option<(P::Place, P::Held)>> {
        self.places.range(Bound::Included(vec![BLOCK]), place).next_back().transpose()
    }

    fn entry(&self, key: &[u8]) -> StoreResult<Option<StoredEntry>> {
        let Some((place, held)) = self.at_or_before(Bound::Included(block_place(key)))? else { return Ok(None) };
        block::find(&start_of(place.as_ref())?, &self.places.read(&held)?, key)
    }

    /// Entries end where the next block starts: what a crash in the middle of a split left behind that is there twice.
    fn scan_forward(&self, range: &KeyRange, limit: usize) -> StoreResult<Vec<StoredEntry>> {
        let before = self.at_or_before(Bound::Included(block_place(&range.start)))?;
        let first = before.map_or_else(|| block_place(&range.start), |(place, _)| place.as_ref().to_vec());
        let mut page = Vec::with_capacity(limit);
        let mut blocks = self.places.range(Bound::Included(first), end_of(range)).peekable();
        while let Some(next) = blocks.next() {
            let (place, held) = next?;
            let mut range = range.clone();
            match blocks.peek() {
                Some(Ok((behind, _))) if !self.shape.defect.is(Planted::TailsCount) => {
                    range.end = Some(Bytes::copy_from_slice(&start_of(behind.as_ref())?));
                }
                Some(Err(abandoned)) => return Err(abandoned.clone()),
                _ => {}
            }
            let start = start_of(place.as_ref())?;
            block::within(&start, &self.places.read(&held)?, &range, Direction::Forward, limit, &mut page)?;
            if page.len() == limit {
                break;
            }
        }
        Ok(page)
    }

    fn scan_backward(&self, range: &KeyRange, limit: usize) -> StoreResult<Vec<StoredEntry>> {
        let mut page = Vec::with_capacity(limit);
        let mut range = range.clone();
        for next in self.places.range(Bound::Included(vec![BLOCK]), end_of(&range)).rev() {
            let (place, held) = next?;
            let start = start_of(place.as_ref())?;
            block::within(&start, &self.places.read(&held)?, &range, Direction::Backward, limit, &mut page)?;
            if page.len() == limit || *start <= *range.start {
                break;
            }
            range.end = Some(Bytes::copy_from_slice(&start));
        }
        Ok(page)
    }
}

fn end_of(range: &KeyRange) -> Bound<Vec<u8>> {
    Bound::Excluded(range.end.as_ref().map_or_else(|| vec![BLOCK + 1], |end| block_place(end)))
}
