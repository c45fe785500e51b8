//! Which block holds a key, how blocks are read in order, and how they are changed.

use std::borrow::Cow;
use std::ops::Bound;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::block::{
    self, BLOCK, INLINE_BYTES, Item, PART, block_place, part_count, part_key, part_of, pieces, start_of,
};
use super::options::{Defect, Planted};
use super::store::{Abandoned, Change, STORE_PAGE_ENTRIES, StoreResult, StoredEntry, StoredValue};
use crate::engine::{Direction, KeyRange, Sequence, Versioned};

/// Readers wait while a block is split, so one write changes at most so many of its entries,
const MAX_RUN: usize = 256;
/// and at most about so many bytes.
const MAX_RUN_BYTES: usize = 32 << 10;

/// The ordered map in which blocks and parts lie. A crash leaves a first part of the changes that were made.
pub trait Places {
    /// Bytes as the map hands them out.
    type Slice: AsRef<[u8]>;

    /// What lies at `place`.
    fn get(&self, place: &[u8]) -> StoreResult<Option<Self::Slice>>;
    /// What lies in a range of places, in their order.
    fn range(
        &self,
        from: Bound<Vec<u8>>,
        to: Bound<Vec<u8>>,
    ) -> impl DoubleEndedIterator<Item = StoreResult<(Self::Slice, Self::Slice)>>;
    /// Puts `bytes` at `place`.
    fn insert(&self, place: Vec<u8>, bytes: Vec<u8>) -> StoreResult<()>;
    /// Leaves nothing at `place`.
    fn remove(&self, place: &[u8]) -> StoreResult<()>;
}

/// Held by readers, and by the writer while entries move from one block to others or a tail goes: a reader that goes
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

    fn still(&self) -> StoreResult<RwLockReadGuard<'_, ()>> {
        self.moves.try_read_for(self.patience).ok_or_else(|| Abandoned::new("a write did not come back"))
    }

    fn moving(&self) -> Option<RwLockWriteGuard<'_, ()>> {
        (!self.defect.is(Planted::BlocksMoveUnseen)).then(|| self.moves.write())
    }
}

/// The entries in a map of places. One thread writes at a time, any number read.
#[derive(Debug)]
pub struct Blocks<'a, P> {
    places: &'a P,
    shape: &'a Shape,
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

    /// As [`super::store::Ordered::sequences_of`]; only the thread that writes may ask.
    pub fn sequences_of(&self, keys: &[Bytes]) -> StoreResult<Vec<Option<Sequence>>> {
        let mut sequences = Vec::with_capacity(keys.len());
        while let Some(key) = keys.get(sequences.len()) {
            let block = self.around(key)?;
            for key in keys[sequences.len()..].iter().take_while(|key| block.covers(key)) {
                sequences.push(block.place_of(key).ok().map(|place| block.items[place].sequence));
            }
        }
        Ok(sequences)
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
            let part = self.places.get(&part_key(&entry.key, number))?;
            value.extend_from_slice(part.ok_or_else(|| Abandoned::new("a part of a value is missing"))?.as_ref());
        }
        if value.len() != length || crc32c::crc32c(&value) != checksum {
            return Err(Abandoned::new(format!("the parts of a value do not fit together: bytes={length}")));
        }
        Ok(value.freeze())
    }

    /// As [`super::store::Ordered::write`].
    pub fn write(&self, changes: Vec<Change>) -> StoreResult<()> {
        let mut left = changes.into_iter().peekable();
        while let Some(first) = left.peek() {
            let block = self.around(&first.key)?;
            let (mut run, mut bytes) = (Vec::new(), 0);
            while let Some(change) = left.next_if(|next| {
                let is_full = run.len() >= MAX_RUN || bytes >= MAX_RUN_BYTES;
                run.is_empty() || !is_full && block.covers(&next.key)
            }) {
                bytes += change.key.len() + change.state.as_ref().map_or(0, |state| state.value.len());
                run.push(change);
            }
            self.change(block, run)?;
        }
        Ok(())
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
    fn at_or_before(&self, place: Bound<Vec<u8>>) -> StoreResult<Option<(P::Slice, P::Slice)>> {
        self.places.range(Bound::Included(vec![BLOCK]), place).next_back().transpose()
    }

    fn entry(&self, key: &[u8]) -> StoreResult<Option<StoredEntry>> {
        let Some((place, bytes)) = self.at_or_before(Bound::Included(block_place(key)))? else { return Ok(None) };
        block::find(&start_of(place.as_ref())?, bytes.as_ref(), key)
    }

    /// Entries end where the next block starts: what a crash in the middle of a split left behind that is there twice.
    fn scan_forward(&self, range: &KeyRange, limit: usize) -> StoreResult<Vec<StoredEntry>> {
        let before = self.at_or_before(Bound::Included(block_place(&range.start)))?;
        let first = before.map_or_else(|| block_place(&range.start), |(place, _)| place.as_ref().to_vec());
        let mut page = Vec::with_capacity(limit);
        let mut blocks = self.places.range(Bound::Included(first), end_of(range)).peekable();
        while let Some(next) = blocks.next() {
            let (place, bytes) = next?;
            let mut range = range.clone();
            match blocks.peek() {
                Some(Ok((behind, _))) if !self.shape.defect.is(Planted::TailsCount) => {
                    range.end = Some(Bytes::copy_from_slice(&start_of(behind.as_ref())?));
                }
                Some(Err(abandoned)) => return Err(abandoned.clone()),
                _ => {}
            }
            let start = start_of(place.as_ref())?;
            block::within(&start, bytes.as_ref(), &range, Direction::Forward, limit, &mut page)?;
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
            let (place, bytes) = next?;
            let start = start_of(place.as_ref())?;
            block::within(&start, bytes.as_ref(), &range, Direction::Backward, limit, &mut page)?;
            if page.len() == limit || *start <= *range.start {
                break;
            }
            range.end = Some(Bytes::copy_from_slice(&start));
        }
        Ok(page)
    }

    /// The block that `key` is in, or would be.
    fn around(&self, key: &[u8]) -> StoreResult<Block> {
        let before = self.at_or_before(Bound::Included(block_place(key)))?;
        let from = before.as_ref().map_or_else(|| block_place(key), |(place, _)| place.as_ref().to_vec());
        let next = self.places.range(Bound::Excluded(from), Bound::Excluded(vec![BLOCK + 1])).next().transpose()?;
        let next = next.map(|(place, _)| start_of(place.as_ref()).map(Cow::into_owned)).transpose()?;
        let mut block = Block { start: None, items: Vec::new(), next, had_tail: false };
        if let Some((place, bytes)) = before {
            let start = start_of(place.as_ref())?;
            block.items = block::decode(&start, bytes.as_ref())?;
            block.start = Some(start.into_owned());
            if let Some(next) = &block.next
                && !self.shape.defect.is(Planted::TailsWritten)
            {
                block.had_tail = drop_tail(&mut block.items, next);
            }
        }
        // Otherwise whoever goes on with the keys behind it would never get there.
        if block.covers(key) { Ok(block) } else { Err(Abandoned::new("blocks lie in each other's places")) }
    }

    /// Makes `changes`, all of which `block` covers. Parts come first: an entry that names parts which are not there yet
    /// would be damage to a later scan. Readers never see the moments between, because a memtable hides every key that
    /// is being drained.
    fn change(&self, mut block: Block, changes: Vec<Change>) -> StoreResult<()> {
        let mut leftover = Vec::new();
        let mut differs = false;
        for Change { key, state } in changes {
            let place = block.place_of(&key);
            let before = place.map_or(0, |place| block.items[place].parts());
            let parts = state.as_ref().map_or(0, |state| part_count(state.value.len()));
            leftover.retain(|(other, _)| *other != key);
            if before > parts {
                leftover.push((key.clone(), parts..before));
            }
            differs |= state.is_some() || place.is_ok();
            match (state, place) {
                (Some(state), place) => {
                    self.put_parts(&key, &state.value)?;
                    let item = Item::new(key, &state);
                    match place {
                        Ok(place) => block.items[place] = item,
                        Err(place) => block.items.insert(place, item),
                    }
                }
                (None, Ok(place)) => drop(block.items.remove(place)),
                // Made and removed since the last checkpoint.
                (None, Err(_)) => {}
            }
        }
        if differs {
            self.store(&block)?;
        }
        // What a crash before this leaves behind is never read and goes with the next sweep.
        for (key, numbers) in leftover {
            for number in numbers {
                self.places.remove(&part_key(&key, number))?;
            }
        }
        Ok(())
    }

    fn put_parts(&self, key: &[u8], value: &[u8]) -> StoreResult<()> {
        if part_count(value.len()) == 0 {
            return Ok(());
        }
        let mut parts = value.chunks(INLINE_BYTES).enumerate();
        parts.try_for_each(|(number, part)| self.places.insert(part_key(key, number), part.to_vec()))
    }

    /// The last block first: a crash in between then leaves entries twice, and never none.
    fn store(&self, block: &Block) -> StoreResult<()> {
        let pieces = pieces(&block.items);
        if pieces.is_empty() {
            return block.start.as_ref().map_or(Ok(()), |start| self.give_up(start));
        }
        let _moves = (pieces.len() > 1 || block.had_tail).then(|| self.shape.moving());
        let put = |number: usize| {
            let first = &pieces[number][0].key[..];
            let start = if number == 0 { block.start.as_deref().unwrap_or(first) } else { first };
            self.places.insert(block_place(start), block::encode(start, pieces[number]))
        };
        if self.shape.defect.is(Planted::SplitFromTheFront) {
            return (0..pieces.len()).try_for_each(put);
        }
        (0..pieces.len()).rev().try_for_each(put)
    }

    /// Takes away the block at `start`, which is empty. What a crash in the middle of its making left of its entries in
    /// the block before would count again, so that goes first.
    fn give_up(&self, start: &[u8]) -> StoreResult<()> {
        let place = block_place(start);
        let before =
            self.at_or_before(Bound::Excluded(place.clone()))?.filter(|_| !self.shape.defect.is(Planted::TailsStay));
        let Some((before, bytes)) = before else { return self.places.remove(&place) };
        let start_before = start_of(before.as_ref())?;
        let mut items = block::decode(&start_before, bytes.as_ref())?;
        if !drop_tail(&mut items, start) {
            return self.places.remove(&place);
        }
        // A reader that has the block before as it was must not look for its end when this one is gone.
        let _moves = self.shape.moving();
        self.places.insert(before.as_ref().to_vec(), block::encode(&start_before, &items))?;
        self.places.remove(&place)
    }
}

/// Takes out what lies at or behind `next`; whether there was anything.
fn drop_tail(items: &mut Vec<Item>, next: &[u8]) -> bool {
    let count = items.len();
    items.truncate(items.partition_point(|item| item.key < next));
    items.len() < count
}

fn end_of(range: &KeyRange) -> Bound<Vec<u8>> {
    Bound::Excluded(range.end.as_ref().map_or_else(|| vec![BLOCK + 1], |end| block_place(end)))
}

/// The entries between the start of a block and that of the next one, in the order of their keys.
struct Block {
    /// None where the keys are below those of every block.
    start: Option<Vec<u8>>,
    items: Vec<Item>,
    next: Option<Vec<u8>>,
    /// There were entries behind them that do not count.
    had_tail: bool,
}

impl Block {
    fn covers(&self, key: &[u8]) -> bool {
        self.start.as_ref().is_none_or(|start| start[..] <= *key)
            && self.next.as_ref().is_none_or(|next| *key < next[..])
    }

    fn place_of(&self, key: &[u8]) -> Result<usize, usize> {
        // Keys in a row are the common case.
        if self.items.last().is_none_or(|last| last.key < key) {
            return Err(self.items.len());
        }
        self.items.binary_search_by(|item| item.key[..].cmp(key))
    }
}
