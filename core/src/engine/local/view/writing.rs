//! How blocks are changed: a draft says what will lie where, and its bytes are written at once, where nothing else lies; sled is
//! told of many of them together, when they are durable.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::mem;
use std::ops::Bound;

use bytes::Bytes;

use super::block::{self, BLOCK, INLINE_BYTES, Item, block_place, part_count, part_key, pieces, start_of};
use super::blocks::{Blocks, Places};
use super::options::Planted;
use super::store::{Abandoned, Change, StoreResult};
use crate::engine::Sequence;

/// Readers wait while a block is split, so one change of a block is of at most so many of its entries,
const MAX_RUN: usize = 256;
/// and at most about so many bytes.
const MAX_RUN_BYTES: usize = 32 << 10;
/// A draft with so many places is made: blocks far apart take their time on a slow disk, and each call has a deadline.
const MOST_PLACES: usize = 2_048;
/// So is one that takes away so many blocks: whoever looks for the block before them goes over each.
const MOST_GONE: usize = 64;

/// What is going to change since the last flush.
#[derive(Debug)]
pub struct Draft<H> {
    /// What will lie at a place.
    latest: BTreeMap<Vec<u8>, Option<H>>,
    steps: Vec<Step<H>>,
    /// How often a place was left empty.
    gone: usize,
}

impl<H> Default for Draft<H> {
    fn default() -> Self {
        Self { latest: BTreeMap::new(), steps: Vec::new(), gone: 0 }
    }
}

/// Changes of places that follow each other.
#[derive(Debug)]
struct Step<H> {
    /// Entries go from one block to others, or a tail goes: readers have to wait.
    moves: bool,
    changes: Vec<(Vec<u8>, Option<H>)>,
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

impl<H> Draft<H> {
    fn step(&mut self, moves: bool, changes: Vec<(Vec<u8>, Option<H>)>)
    where
        H: Copy,
    {
        self.gone += changes.iter().filter(|(_, held)| held.is_none()).count();
        self.latest.extend(changes.iter().cloned());
        self.steps.push(Step { moves, changes });
    }
}

impl<P: Places> Blocks<'_, P> {
    /// Adds `changes` to `draft`, one after another, and makes it where it is full.
    pub fn write(&self, draft: &mut Draft<P::Held>, changes: Vec<Change>) -> StoreResult<()> {
        let mut left = changes.into_iter().peekable();
        while let Some(first) = left.peek() {
            let block = self.around(draft, &first.key)?;
            let (mut run, mut bytes) = (Vec::new(), 0);
            while let Some(change) = left.next_if(|next| {
                let is_full = run.len() >= MAX_RUN || bytes >= MAX_RUN_BYTES;
                run.is_empty() || !is_full && block.covers(&next.key)
            }) {
                bytes += change.key.len() + change.state.as_ref().map_or(0, |state| state.value.len());
                run.push(change);
            }
            self.change(draft, block, run)?;
            if draft.latest.len() >= MOST_PLACES || draft.gone >= MOST_GONE {
                self.make(mem::take(draft))?;
            }
        }
        Ok(())
    }

    /// Makes what was drafted. A crash leaves a first part of its steps.
    pub fn make(&self, draft: Draft<P::Held>) -> StoreResult<()> {
        self.places.sync()?;
        for step in draft.steps {
            let _moves = step.moves.then(|| self.shape.moving());
            for (place, held) in step.changes {
                match held {
                    Some(held) => self.places.insert(place, held)?,
                    None => self.places.remove(&place)?,
                }
            }
        }
        Ok(())
    }

    /// As [`super::store::Ordered::sequences_of`]; only the thread that writes may ask.
    pub fn sequences_of(&self, keys: &[Bytes]) -> StoreResult<Vec<Option<Sequence>>> {
        let nothing = Draft::default();
        let mut sequences = Vec::with_capacity(keys.len());
        while let Some(key) = keys.get(sequences.len()) {
            let block = self.around(&nothing, key)?;
            for key in keys[sequences.len()..].iter().take_while(|key| block.covers(key)) {
                sequences.push(block.place_of(key).ok().map(|place| block.items[place].sequence));
            }
        }
        Ok(sequences)
    }

    /// The last block at or before `place` once the draft is made, where there is one.
    fn drafted_at_or_before(
        &self,
        draft: &Draft<P::Held>,
        place: Bound<Vec<u8>>,
    ) -> StoreResult<Option<(Vec<u8>, P::Held)>> {
        let from = Bound::Included(vec![BLOCK]);
        let mut drafted = draft.latest.range((from.clone(), place.clone())).rev();
        let drafted = drafted.find_map(|(place, held)| held.map(|held| (place, held)));
        for lying in self.places.range(from, place).rev() {
            let (lying, held) = lying?;
            if drafted.is_some_and(|(drafted, _)| drafted[..] >= *lying.as_ref()) {
                break;
            }
            if !draft.latest.contains_key(lying.as_ref()) {
                return Ok(Some((lying.as_ref().to_vec(), held)));
            }
        }
        Ok(drafted.map(|(place, held)| (place.clone(), held)))
    }

    /// Where the first block behind `place` begins once the draft is made.
    fn start_behind(&self, draft: &Draft<P::Held>, place: Vec<u8>) -> StoreResult<Option<Vec<u8>>> {
        let (from, to) = (Bound::Excluded(place), Bound::Excluded(vec![BLOCK + 1]));
        let mut drafted = draft.latest.range((from.clone(), to.clone()));
        let drafted = drafted.find(|(_, held)| held.is_some()).map(|(place, _)| &place[..]);
        for lying in self.places.range(from, to) {
            let (lying, _) = lying?;
            if drafted.is_some_and(|drafted| drafted <= lying.as_ref()) {
                break;
            }
            if !draft.latest.contains_key(lying.as_ref()) {
                return start_of(lying.as_ref()).map(|start| Some(start.into_owned()));
            }
        }
        drafted.map(|place| start_of(place).map(Cow::into_owned)).transpose()
    }

    /// The block that `key` is in, or would be.
    fn around(&self, draft: &Draft<P::Held>, key: &[u8]) -> StoreResult<Block> {
        let before = self.drafted_at_or_before(draft, Bound::Included(block_place(key)))?;
        let from = before.as_ref().map_or_else(|| block_place(key), |(place, _)| place.clone());
        let next = self.start_behind(draft, from)?;
        let mut block = Block { start: None, items: Vec::new(), next, had_tail: false };
        if let Some((place, held)) = before {
            let start = start_of(&place)?;
            block.items = block::decode(&start, &self.places.read(&held)?)?;
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

    /// Drafts `changes`, all of which `block` covers. Parts come first: an entry that names parts which are not there yet
    /// would be damage to a later scan. Readers never see the moments between, because a memtable hides every key that
    /// is being drained.
    fn change(&self, draft: &mut Draft<P::Held>, mut block: Block, changes: Vec<Change>) -> StoreResult<()> {
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
                    self.put_parts(draft, &key, &state.value)?;
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
            self.store(draft, &block)?;
        }
        // What a crash before this leaves behind is never read and goes with the next sweep.
        for (key, numbers) in leftover {
            draft.step(false, numbers.map(|number| (part_key(&key, number), None)).collect());
        }
        Ok(())
    }

    fn put_parts(&self, draft: &mut Draft<P::Held>, key: &[u8], value: &Bytes) -> StoreResult<()> {
        if part_count(value.len()) == 0 {
            return Ok(());
        }
        let parts: Vec<_> = value.chunks(INLINE_BYTES).map(|part| value.slice_ref(part)).collect();
        let kept = self.places.keep(&parts)?.into_iter().enumerate();
        draft.step(false, kept.map(|(number, held)| (part_key(key, number), Some(held))).collect());
        Ok(())
    }

    /// The last block first: a crash in between then leaves entries twice, and never none.
    fn store(&self, draft: &mut Draft<P::Held>, block: &Block) -> StoreResult<()> {
        let pieces = pieces(&block.items);
        if pieces.is_empty() {
            return block.start.as_ref().map_or(Ok(()), |start| self.give_up(draft, start));
        }
        let start = |number: usize| match &block.start {
            Some(start) if number == 0 => &start[..],
            _ => &pieces[number][0].key,
        };
        let starts = (0..pieces.len()).map(start);
        let values: Vec<_> =
            starts.clone().zip(&pieces).map(|(start, piece)| block::encode(start, piece).into()).collect();
        let kept = self.places.keep(&values)?;
        let mut changes: Vec<_> = starts.zip(kept).map(|(start, held)| (block_place(start), Some(held))).collect();
        if !self.shape.defect.is(Planted::SplitFromTheFront) {
            changes.reverse();
        }
        draft.step(changes.len() > 1 || block.had_tail, changes);
        Ok(())
    }

    /// Takes away the block at `start`, which is empty. What a crash in the middle of its making left of its entries in
    /// the block before would count again, so that goes first.
    fn give_up(&self, draft: &mut Draft<P::Held>, start: &[u8]) -> StoreResult<()> {
        let place = block_place(start);
        let before = self.drafted_at_or_before(draft, Bound::Excluded(place.clone()))?;
        let mut changes = Vec::new();
        if let Some((before, held)) = before.filter(|_| !self.shape.defect.is(Planted::TailsStay)) {
            let start_before = start_of(&before)?;
            let mut items = block::decode(&start_before, &self.places.read(&held)?)?;
            if drop_tail(&mut items, start) {
                let kept = self.places.keep(&[block::encode(&start_before, &items).into()])?;
                changes.extend(kept.into_iter().map(|held| (before.clone(), Some(held))));
            }
        }
        // A reader that has the block before as it was must not look for its end when this one is gone.
        let moves = !changes.is_empty();
        changes.push((place, None));
        draft.step(moves, changes);
        Ok(())
    }
}

/// Takes out what lies at or behind `next`; whether there was anything.
fn drop_tail(items: &mut Vec<Item>, next: &[u8]) -> bool {
    let count = items.len();
    items.truncate(items.partition_point(|item| item.key < next));
    items.len() < count
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
