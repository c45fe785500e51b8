//! Blocks over a map that is cut off in the middle of a write, as sled is by a crash.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::engine::local::view::block::{BLOCK, INLINE_BYTES, PART, block_place};
use crate::engine::local::view::blocks::{Blocks, Places, Shape};
use crate::engine::local::view::options::{Defect, Planted};
use crate::engine::local::view::store::{Abandoned, Change, StoreResult, StoredEntry, behind};
use crate::engine::local::view::writing::Draft;
use crate::engine::{Direction, KeyRange, Versioned};

/// Places, and the numbers of what lies there.
type Map = BTreeMap<Vec<u8>, usize>;
type Lying = (Vec<u8>, usize);

/// A map in two leaves that makes so many changes, and no more.
struct Cut {
    map: Mutex<Map>,
    kept: Mutex<Vec<Bytes>>,
    /// How many of them are durable.
    synced: AtomicUsize,
    left: AtomicI64,
    /// How often a reader went on to another place.
    looks: AtomicUsize,
    /// Where the second leaf begins,
    border: Vec<u8>,
    /// and what happens while a reader goes from one to the other.
    between: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Cut {
    fn new(border: Vec<u8>) -> Self {
        let (map, kept, left) = (Mutex::default(), Mutex::default(), AtomicI64::new(i64::MAX));
        Self { map, kept, synced: AtomicUsize::new(0), left, looks: AtomicUsize::new(0), border, between: None }
    }

    fn step(&self) -> StoreResult<()> {
        if self.left.fetch_sub(1, Ordering::Relaxed) > 0 { Ok(()) } else { Err(Abandoned::new("the power is gone")) }
    }
}

/// Reads a leaf when it gets there, as an iterator of sled does.
struct Leaves<'a> {
    cut: &'a Cut,
    range: (Bound<Vec<u8>>, Bound<Vec<u8>>),
    /// Below the border and above it.
    read: [Option<VecDeque<Lying>>; 2],
}

impl Leaves<'_> {
    fn leaf(&mut self, number: usize) -> &mut VecDeque<Lying> {
        let is_second = self.read.iter().any(Option::is_some) && self.read[number].is_none();
        if let Some(between) = self.cut.between.as_ref().filter(|_| is_second) {
            between();
        }
        self.read[number].get_or_insert_with(|| {
            let map = self.cut.map.lock();
            let lying =
                map.range(self.range.clone()).filter(|(place, _)| (**place >= self.cut.border) == (number == 1));
            lying.map(|(place, held)| (place.clone(), *held)).collect()
        })
    }
}

impl Iterator for Leaves<'_> {
    type Item = StoreResult<Lying>;

    fn next(&mut self) -> Option<Self::Item> {
        self.cut.looks.fetch_add(1, Ordering::Relaxed);
        self.leaf(0).pop_front().or_else(|| self.leaf(1).pop_front()).map(Ok)
    }
}

impl DoubleEndedIterator for Leaves<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.cut.looks.fetch_add(1, Ordering::Relaxed);
        self.leaf(1).pop_back().or_else(|| self.leaf(0).pop_back()).map(Ok)
    }
}

impl Places for Cut {
    type Place = Vec<u8>;
    type Held = usize;

    fn get(&self, place: &[u8]) -> StoreResult<Option<Bytes>> {
        self.map.lock().get(place).map(|number| self.read(number)).transpose()
    }

    fn range(
        &self,
        from: Bound<Vec<u8>>,
        to: Bound<Vec<u8>>,
    ) -> impl DoubleEndedIterator<Item = StoreResult<(Vec<u8>, usize)>> {
        Leaves { cut: self, range: (from, to), read: [None, None] }
    }

    fn read(&self, held: &usize) -> StoreResult<Bytes> {
        Ok(self.kept.lock()[*held].clone())
    }

    fn keep(&self, values: &[Bytes]) -> StoreResult<Vec<usize>> {
        let mut kept = self.kept.lock();
        kept.extend_from_slice(values);
        Ok((kept.len() - values.len()..kept.len()).collect())
    }

    fn sync(&self) -> StoreResult<()> {
        self.synced.store(self.kept.lock().len(), Ordering::Relaxed);
        Ok(())
    }

    fn insert(&self, place: Vec<u8>, held: usize) -> StoreResult<()> {
        assert!(held < self.synced.load(Ordering::Relaxed), "a power cut would leave a place with nothing there");
        self.step()?;
        self.map.lock().insert(place, held);
        Ok(())
    }

    fn remove(&self, place: &[u8]) -> StoreResult<()> {
        self.step()?;
        self.map.lock().remove(place);
        Ok(())
    }
}

/// Makes `changes`, as a write and a flush do.
fn write(blocks: &Blocks<'_, Cut>, changes: Vec<Change>) -> StoreResult<()> {
    write_all(blocks, &[changes])
}

/// Makes each of `writes`, with one flush behind them.
fn write_all(blocks: &Blocks<'_, Cut>, writes: &[Vec<Change>]) -> StoreResult<()> {
    let mut draft = Draft::default();
    writes.iter().try_for_each(|changes| blocks.write(&mut draft, changes.clone()))?;
    blocks.make(draft)
}

/// A drain: keys in order, each once; of few enough keys that blocks are filled, split and emptied again. Most have
/// a few neighbours only: then a split may leave them all in its second half, and nothing touches the first one again.
fn drain(rng: &mut StdRng, sequence: Sequence) -> Vec<Change> {
    let most = if sequence % 8 == 1 { 60 } else { 4 };
    let (from, count) = (rng.random_range(0..120_u8), rng.random_range(1..most));
    let deletes = rng.random_range(0..4) == 0;
    let mut changes = Vec::new();
    for number in from..from + count {
        if rng.random_range(0..4) == 0 {
            continue;
        }
        let key = Bytes::copy_from_slice(&[b'k', number, 255, 255, 255, 255]);
        let length = [0, 80, 80, 600, 1_200, 1_200, 1_800, INLINE_BYTES + 1, 3 * INLINE_BYTES][rng.random_range(0..9)];
        let state = (!deletes && rng.random_range(0..4) > 0)
            .then(|| Versioned { value: Bytes::from(vec![number; length]), sequence });
        changes.push(Change { key, state });
    }
    changes
}

fn all(blocks: &Blocks<'_, Cut>, direction: Direction) -> Vec<(Bytes, Versioned)> {
    let mut range = KeyRange::prefix(b"");
    let mut found = Vec::new();
    loop {
        let page = blocks.scan(&range, direction, 7).unwrap();
        let Some(last) = page.last() else { return found };
        match direction {
            Direction::Forward => range.start = behind(&last.key),
            Direction::Backward => range.end = Some(last.key.clone()),
        }
        let whole = |entry: StoredEntry| {
            let value = blocks.load(&entry).unwrap();
            (entry.key, Versioned { value, sequence: entry.sequence })
        };
        found.extend(page.into_iter().map(whole));
    }
}

fn agree(blocks: &Blocks<'_, Cut>, model: &BTreeMap<Bytes, Versioned>) {
    let mut expected: Vec<_> = model.iter().map(|(key, state)| (key.clone(), state.clone())).collect();
    assert_eq!(all(blocks, Direction::Forward), expected);
    expected.reverse();
    assert_eq!(all(blocks, Direction::Backward), expected);
    let keys: Vec<_> = (0..180).map(|number| Bytes::copy_from_slice(&[b'k', number, 255, 255, 255, 255])).collect();
    let sequences = blocks.sequences_of(&keys).unwrap();
    for (key, sequence) in keys.iter().zip(sequences) {
        assert_eq!(blocks.get(key).unwrap().as_ref(), model.get(key), "{key:?}");
        assert_eq!(sequence, model.get(key).map(|state| state.sequence), "{key:?}");
    }
}

/// Drains that are cut short after any of their changes, and repeated: what is in the map must be what was put there,
/// also when the blocks that a split made are emptied again later.
#[test]
fn what_was_cut_short_and_repeated_is_right() {
    for seed in 0..30 {
        let mut rng = StdRng::seed_from_u64(seed);
        let shape = Shape::new(LONG, Defect::default());
        let places = Cut::new(block_place(&[b'k', 90]));
        let blocks = Blocks::new(&places, &shape);
        let mut model = BTreeMap::new();
        for sequence in 1..120 {
            // What one write puts into blocks the next one finds there, also before the flush.
            let writes: Vec<_> = (0..rng.random_range(1..4)).map(|_| drain(&mut rng, sequence)).collect();
            for Change { key, state } in writes.iter().flatten().cloned() {
                match state {
                    Some(state) => drop(model.insert(key, state)),
                    None => drop(model.remove(&key)),
                }
            }
            // The repeated drain may be cut short as well.
            for _ in 0..rng.random_range(0..3) {
                let most = [2, 8, 30][rng.random_range(0..3)];
                places.left.store(rng.random_range(0..most), Ordering::Relaxed);
                let _ = write_all(&blocks, &writes);
            }
            places.left.store(i64::MAX, Ordering::Relaxed);
            write_all(&blocks, &writes).unwrap();
            agree(&blocks, &model);
        }
        blocks.sweep().unwrap();
        agree(&blocks, &model);
        let parts = |length: usize| if length <= INLINE_BYTES { 0 } else { length.div_ceil(INLINE_BYTES) };
        let expected: usize = model.values().map(|state| parts(state.value.len())).sum();
        let map = places.map.lock();
        let count = |kind| map.keys().filter(|place| place[0] == kind).count();
        assert_eq!(count(PART), expected, "seed={seed}");
        assert!(count(BLOCK) <= model.len(), "seed={seed}");
    }
}

fn put_of(key: u8, length: usize) -> Change {
    let state = Versioned { value: Bytes::from(vec![key; length]), sequence: 1 };
    Change { key: Bytes::copy_from_slice(&[b'k', key, 255, 255, 255, 255]), state: Some(state) }
}

fn delete_of(key: u8) -> Change {
    Change { state: None, ..put_of(key, 0) }
}

/// Makes `changes`, at first only so many steps of them.
fn write_cut(blocks: &Blocks<'_, Cut>, places: &Cut, changes: &[Change], left: i64) {
    places.left.store(left, Ordering::Relaxed);
    let _ = write(blocks, changes.to_vec());
    places.left.store(i64::MAX, Ordering::Relaxed);
    write(blocks, changes.to_vec()).unwrap();
}

/// A split leaves its only change in the second block, and is cut short before the first one: what is there twice
/// counts once, does not come back when the second block is emptied, and is not written again in front of it.
pub(super) fn a_split_cut_short(planted: Option<Planted>) {
    let emptied = [vec![delete_of(9)], vec![delete_of(5)]];
    let grown = [vec![put_of(9, 881)], vec![put_of(1, 2_000)]];
    for then in [emptied, grown] {
        let shape = Shape::new(LONG, planted.into());
        let places = Cut::new(block_place(&[5]));
        let blocks = Blocks::new(&places, &shape);
        let mut model = BTreeMap::new();
        let mut step = |changes: Vec<Change>, left: i64| {
            write_cut(&blocks, &places, &changes, left);
            for Change { key, state } in changes {
                match state {
                    Some(state) => drop(model.insert(key, state)),
                    None => drop(model.remove(&key)),
                }
            }
            agree(&blocks, &model);
        };
        step([(1, 1_800), (2, 1_200), (9, 880)].map(|(key, length)| put_of(key, length)).to_vec(), 0);
        assert_eq!(places.map.lock().len(), 1);
        step(vec![put_of(5, 1_800)], 1);
        assert_eq!(places.map.lock().len(), 2, "the block was split");
        for changes in then {
            step(changes, 0);
        }
    }
}

#[test]
fn a_split_that_was_cut_short_leaves_nothing_behind() {
    a_split_cut_short(None);
}

/// Lets a writer make `changes`, if it may, while a reader is between the leaves; what that reads.
fn read_beside(mut places: Cut, shape: &Shape, direction: Direction, changes: Vec<Change>) -> (Vec<u8>, Arc<Cut>) {
    // Waits for what must not come: how long it would take decides only how surely the defect is seen.
    let moment = if shape.defect.is(Planted::BlocksMoveUnseen) { LONG } else { Duration::from_millis(100) };
    let (wanted, wants) = mpsc::channel();
    let (done, is_done) = mpsc::channel();
    let is_done = Mutex::new(is_done);
    places.between = Some(Box::new(move || {
        if wanted.send(()).is_ok() {
            let _ = is_done.lock().recv_timeout(moment);
        }
    }));
    let places = Arc::new(places);
    let keys = thread::scope(|scope| {
        let places = &*places;
        let writer = scope.spawn(move || {
            wants.recv().unwrap();
            // Its own way between the leaves does not count.
            drop(wants);
            write(&Blocks::new(places, shape), changes).unwrap();
            let _ = done.send(());
        });
        let page = Blocks::new(places, shape).scan(&KeyRange::prefix(b""), direction, 100);
        writer.join().unwrap();
        page.unwrap().iter().map(|entry| entry.key[1]).collect()
    });
    (keys, places)
}

/// A reader that goes backwards has the upper leaf behind it when a block in the lower one is split, and its end goes to
/// the upper one: those entries are in neither of the leaves as the reader sees them, unless the writer waits.
///
/// One that goes forward has read a block with a tail that does not count: if that goes, and the block behind it too,
/// nothing says so any more.
pub(super) fn moved_behind_a_reader(planted: Option<Planted>) {
    let shape = Shape::new(LONG, planted.into());
    let places = Cut::new(block_place(&[b'k', 18]));
    write(&Blocks::new(&places, &shape), [10, 20, 30, 40].map(|key| put_of(key, 1_800)).to_vec()).unwrap();
    assert_eq!(places.map.lock().len(), 2);
    let (mut keys, places) = read_beside(places, &shape, Direction::Backward, vec![put_of(15, 1_800)]);
    keys.retain(|key| *key != 15);
    assert_eq!(keys, [40, 30, 20, 10]);
    assert_eq!(places.map.lock().len(), 3, "the block was split");

    for also in [None, Some(put_of(1, 1_801))] {
        let places = Cut::new(block_place(&[b'k', 4]));
        let blocks = Blocks::new(&places, &shape);
        let first = [(1, 1_800), (2, 1_200), (8, 400), (9, 400)].map(|(key, length)| put_of(key, length));
        write_cut(&blocks, &places, &first, 0);
        write_cut(&blocks, &places, &[put_of(5, 1_800)], 1);
        write_cut(&blocks, &places, &[delete_of(5), delete_of(8)], 0);
        assert_eq!(places.map.lock().len(), 2, "the second block holds the last key");
        let changes = also.into_iter().chain([delete_of(9)]).collect();
        let (mut keys, places) = read_beside(places, &shape, Direction::Forward, changes);
        // A memtable hides what is being written.
        keys.retain(|key| *key != 9);
        assert_eq!(keys, [1, 2]);
        assert_eq!(places.map.lock().len(), 1, "the second block is gone");
    }
}

#[test]
fn nothing_moves_behind_a_reader() {
    moved_behind_a_reader(None);
}

/// Two changes of one key in one call are made one after the other: what the first leaves over is not what the second
/// put there.
#[test]
fn the_last_change_of_a_key_stays() {
    let (places, shape) = (Cut::new(vec![]), Shape::new(LONG, Defect::default()));
    let blocks = Blocks::new(&places, &shape);
    let large = put_of(1, 3 * INLINE_BYTES);
    write(&blocks, vec![large.clone()]).unwrap();
    write(&blocks, vec![put_of(1, 10), large.clone()]).unwrap();
    assert_eq!(blocks.get(&large.key).unwrap(), large.state);
}

/// Blocks in a row that are taken away: whoever looks for the one before them must not go over all of them each time.
#[test]
fn taking_away_many_blocks_takes_few_steps_each() {
    let (places, shape) = (Cut::new(vec![]), Shape::new(LONG, Defect::default()));
    let blocks = Blocks::new(&places, &shape);
    let key = |number: u16| Bytes::copy_from_slice(&number.to_be_bytes());
    let state = || Some(Versioned { value: Bytes::from(vec![7; 2_500]), sequence: 1 });
    let count = 1_000;
    write(&blocks, (0..count).map(|number| Change { key: key(number), state: state() }).collect()).unwrap();
    assert_eq!(places.map.lock().len(), usize::from(count));
    places.looks.store(0, Ordering::Relaxed);
    write(&blocks, (1..count).map(|number| Change { key: key(number), state: None }).collect()).unwrap();
    assert_eq!(places.map.lock().len(), 1);
    let looks = places.looks.load(Ordering::Relaxed);
    assert!(looks < 100 * usize::from(count), "{looks} looks for {count} blocks");
}
