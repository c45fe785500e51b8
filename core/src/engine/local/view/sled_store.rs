//! The store in sled: the only file that calls it.
//!
//! sled is used for what it does well (single keys, ordered pages) and for nothing else: no batch,
//! transaction, subscriber, merge operator, `generate_id`, `flush_async`, `len` or `clear`, because
//! each of them takes a process-wide lock, blocks writers or is slow without bound. What else sled
//! 0.34.7 does, and where it is answered:
//! - its flush does not reach the disk, and no directory is synced: `flush`, `directory::sync_names`
//! - its flusher thread drops the errors it gets: there is none, the checkpoint flushes
//! - large nodes go to files that it never syncs: values are split, see `block`
//! - a snapshot that was cut short makes every later open fail: `directory::prepare` removes it
//! - every key of its own costs a copy of its leaf, and every ten a leaf on disk: neighbours share a block
//! - recovery skips damage and says nothing: checksums here, the digest of a full scan in `View::verify`
//! - it panics, and a failed I/O thread lets callers wait for ever: `guarded`, and what failed is left alone
//! - its lock outlives its handle: `close` waits for it, `open` tries again
//! - dropping a handle panics when the last sync fails: only `close` drops one, on a thread of its own
//! - it uses more memory than it is told: a small cache; its file shrinks only with a rebuild
//! - snapshots are written at open only, so a long life means a slow open: the deadline grows with the file

use std::fmt;
use std::fs::File;
use std::mem::ManuallyDrop;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use super::block::{
    self, BLOCK, INLINE_BYTES, Item, PART, block_place, part_count, part_key, part_of, pieces, start_of,
};
use super::directory;
use super::guarded::{caught, guarded};
use super::options::ViewOptions;
use super::store::{Abandoned, Change, Ordered, STORE_PAGE_ENTRIES, StoreResult, StoredEntry, StoredValue};
use crate::engine::{Direction, KeyRange, Sequence, Versioned};
use crate::env::KeptFromChildren;

/// An open of nothing may take this long,
const OPEN_DEADLINE: Duration = Duration::from_secs(10);
/// and this much longer for every 100 MB, because sled reads all of it.
const OPEN_DEADLINE_PER_PIECE: Duration = Duration::from_secs(5);
const PIECE_BYTES: u64 = 100_000_000;
/// What the places of entries began with when each was one of its own.
const ENTRY_ALONE: u8 = b'k';

/// A drain changes so many entries in one go: readers wait meanwhile where a block is split.
const MAX_RUN: usize = 256;

/// One sled database, its default tree.
pub struct SledStore {
    /// None after `close`. Never dropped where it stands: dropping does I/O that may panic or hang.
    db: RwLock<Option<ManuallyDrop<sled::Db>>>,
    data: Arc<File>,
    /// Left where it is, as the handle is, when that is not closed.
    kept: Mutex<Option<ManuallyDrop<KeptFromChildren>>>,
    deadline: Duration,
    failed: OnceLock<Abandoned>,
    shape: Arc<Shape>,
}

/// Held by readers, and by the writer while entries move from one block to others: a reader that goes backwards over
/// the border of two leaves would miss what moved behind it.
type Shape = RwLock<()>;

impl fmt::Debug for SledStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledStore").field("failed", &self.failed.get()).finish_non_exhaustive()
    }
}

impl SledStore {
    /// Opens or makes the database in `path`.
    ///
    /// # Errors
    /// [`Abandoned`] when it does not open, panics, or does not answer in time.
    pub fn open(path: &Path, options: &ViewOptions) -> StoreResult<Self> {
        let pieces = u32::try_from(directory::data_bytes(path) / PIECE_BYTES).unwrap_or(u32::MAX);
        let deadline = OPEN_DEADLINE.saturating_add(OPEN_DEADLINE_PER_PIECE.saturating_mul(pieces));
        let (dir, cache_bytes) = (path.to_owned(), options.sled_cache_bytes);
        let (db, data) = guarded("view-open", deadline, move || {
            let data = directory::prepare(&dir)?;
            let db = open_when_unlocked(&dir, cache_bytes)?;
            directory::sync_names(&dir).map_err(Abandoned::new)?;
            if db.range(vec![ENTRY_ALONE]..vec![ENTRY_ALONE + 1]).next().is_some() {
                return Err(Abandoned::new("its entries have an older form"));
            }
            Ok((ManuallyDrop::new(db), data))
        })?;
        let kept = KeptFromChildren::file(&directory::data_file(path));
        let kept = Mutex::new(Some(ManuallyDrop::new(kept)));
        let (db, data) = (RwLock::new(Some(db)), Arc::new(data));
        Ok(Self { db, data, kept, deadline: options.store_deadline, failed: OnceLock::new(), shape: Arc::default() })
    }

    /// Runs `work` on the caller's thread.
    fn call<T>(&self, work: impl FnOnce(&sled::Db) -> StoreResult<T>) -> StoreResult<T> {
        self.check()?;
        let db = self.db.read();
        let db = db.as_ref().ok_or_else(closed)?;
        caught("the view's store", || work(db)).map_err(|abandoned| self.fail(abandoned))
    }

    /// Runs `work` on a thread of its own, within the deadline.
    fn call_apart<T: Send + 'static>(
        &self,
        doing: &'static str,
        deadline: Duration,
        work: impl FnOnce(&sled::Db) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        self.check()?;
        let db = sled::Db::clone(self.db.read().as_ref().ok_or_else(closed)?);
        guarded(doing, deadline, move || work(&db)).map_err(|abandoned| self.fail(abandoned))
    }

    /// While it is held no entry moves to another block.
    fn still(&self) -> StoreResult<RwLockReadGuard<'_, ()>> {
        self.shape.try_read_for(self.deadline).ok_or_else(|| Abandoned::new("a write did not come back"))
    }

    fn check(&self) -> StoreResult<()> {
        self.failed.get().map_or(Ok(()), |abandoned| Err(abandoned.clone()))
    }

    /// From here on the handle is left alone, because nothing is known about its state.
    fn fail(&self, abandoned: Abandoned) -> Abandoned {
        self.failed.get_or_init(|| abandoned).clone()
    }
}

impl Ordered for SledStore {
    fn get(&self, key: &[u8]) -> StoreResult<Option<Versioned>> {
        self.call(|db| {
            let entry = {
                let _still = self.still()?;
                entry(db, key)?
            };
            let Some(entry) = entry else { return Ok(None) };
            let value = load(db, &entry)?;
            Ok(Some(Versioned { value, sequence: entry.sequence }))
        })
    }

    fn sequences_of(&self, keys: &[Bytes]) -> StoreResult<Vec<Option<Sequence>>> {
        self.call(|db| {
            let mut sequences = Vec::with_capacity(keys.len());
            while let Some(key) = keys.get(sequences.len()) {
                let block = Block::around(db, key)?;
                for key in keys[sequences.len()..].iter().take_while(|key| block.covers(key)) {
                    sequences.push(block.place_of(key).ok().map(|place| block.items[place].sequence));
                }
            }
            Ok(sequences)
        })
    }

    fn scan(&self, range: &KeyRange, direction: Direction, limit: usize) -> StoreResult<Vec<StoredEntry>> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let limit = limit.min(STORE_PAGE_ENTRIES);
        self.call(|db| {
            let _still = self.still()?;
            match direction {
                Direction::Forward => scan_forward(db, range, limit),
                Direction::Backward => scan_backward(db, range, limit),
            }
        })
    }

    fn load(&self, entry: &StoredEntry) -> StoreResult<Bytes> {
        match &entry.value {
            StoredValue::Whole(value) => Ok(value.clone()),
            StoredValue::Parts { .. } => self.call(|db| load(db, entry)),
        }
    }

    fn write(&self, changes: Vec<Change>) -> StoreResult<()> {
        if changes.is_empty() {
            return self.check();
        }
        let shape = Arc::clone(&self.shape);
        self.call_apart("view-write", self.deadline, move |db| {
            let mut left = changes.into_iter().peekable();
            while let Some(first) = left.peek() {
                let block = Block::around(db, &first.key)?;
                let mut run = Vec::new();
                while let Some(change) = left.next_if(|next| run.len() < MAX_RUN && block.covers(&next.key)) {
                    run.push(change);
                }
                block.write(db, &shape, run)?;
            }
            Ok(())
        })
    }

    fn sweep(&self) -> StoreResult<()> {
        self.call_apart("view-sweep", self.deadline, sweep)
    }

    fn flush(&self) -> StoreResult<()> {
        let data = Arc::clone(&self.data);
        self.call_apart("view-flush", self.deadline, move |db| {
            db.flush().map_err(Abandoned::new)?;
            // sled's own flush reaches the page cache at best; this one reaches the disk.
            data.sync_data().map_err(|error| Abandoned::new(format!("the view's file cannot be synced: {error}")))
        })
    }

    fn is_persistent(&self) -> bool {
        true
    }

    fn close(&self) -> StoreResult<()> {
        self.check()?;
        let Some(mut db) = self.db.try_write_for(self.deadline) else {
            return Err(self.fail(Abandoned::new("a read did not come back")));
        };
        let Some(db) = db.take() else { return Ok(()) };
        drop(self.kept.lock().take().map(ManuallyDrop::into_inner));
        let data = Arc::clone(&self.data);
        guarded("view-close", self.deadline, move || {
            drop(ManuallyDrop::into_inner(db));
            if directory::wait_for_lock(&data) { Ok(()) } else { Err(Abandoned::new("sled kept its lock")) }
        })
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        if let Err(abandoned) = self.close() {
            tracing::warn!(reason = %abandoned, "the view's files stay in use until the process ends");
        }
    }
}

fn closed() -> Abandoned {
    Abandoned::new("the store is closed")
}

fn open_when_unlocked(dir: &Path, cache_bytes: u64) -> StoreResult<sled::Db> {
    let config =
        sled::Config::new().path(dir).mode(sled::Mode::LowSpace).cache_capacity(cache_bytes).flush_every_ms(None);
    let mut attempts = directory::LOCK_ATTEMPTS;
    loop {
        attempts -= 1;
        match config.open() {
            Ok(db) => return Ok(db),
            // A handle that was just dropped lets go of the lock a moment later.
            Err(error) if attempts > 0 && error.to_string().contains("could not acquire lock") => directory::pause(),
            Err(error) => return Err(Abandoned::new(format!("sled does not open: {error}"))),
        }
    }
}

/// The block whose keys `key` would be among, where there is one.
fn block_before(db: &sled::Db, key: &[u8]) -> StoreResult<Option<(sled::IVec, sled::IVec)>> {
    db.range(vec![BLOCK]..=block_place(key)).next_back().transpose().map_err(Abandoned::new)
}

fn entry(db: &sled::Db, key: &[u8]) -> StoreResult<Option<StoredEntry>> {
    let Some((place, bytes)) = block_before(db, key)? else { return Ok(None) };
    block::find(start_of(&place)?, &bytes, key)
}

/// Entries end where the next block starts: what a crash in the middle of a split left behind that is there twice.
fn scan_forward(db: &sled::Db, range: &KeyRange, limit: usize) -> StoreResult<Vec<StoredEntry>> {
    let first = block_before(db, &range.start)?.map_or_else(|| block_place(&range.start), |(place, _)| place.to_vec());
    let end = range.end.as_ref().map_or_else(|| vec![BLOCK + 1], |end| block_place(end));
    let mut page = Vec::with_capacity(limit);
    let mut blocks = db.range(first..end).peekable();
    while let Some(next) = blocks.next() {
        let (place, bytes) = next.map_err(Abandoned::new)?;
        let mut range = range.clone();
        if let Some(Ok((behind, _))) = blocks.peek() {
            range.end = Some(Bytes::copy_from_slice(start_of(behind)?));
        }
        page.extend(block::within(start_of(&place)?, &bytes, &range)?.into_iter().take(limit - page.len()));
        if page.len() == limit {
            break;
        }
    }
    Ok(page)
}

fn scan_backward(db: &sled::Db, range: &KeyRange, limit: usize) -> StoreResult<Vec<StoredEntry>> {
    let end = range.end.as_ref().map_or_else(|| vec![BLOCK + 1], |end| block_place(end));
    let mut page = Vec::with_capacity(limit);
    let mut range = range.clone();
    for next in db.range(vec![BLOCK]..end).rev() {
        let (place, bytes) = next.map_err(Abandoned::new)?;
        let start = start_of(&place)?;
        page.extend(block::within(start, &bytes, &range)?.into_iter().rev().take(limit - page.len()));
        if page.len() == limit || start <= &*range.start {
            break;
        }
        range.end = Some(Bytes::copy_from_slice(start));
    }
    Ok(page)
}

fn load(db: &sled::Db, entry: &StoredEntry) -> StoreResult<Bytes> {
    let (length, checksum) = match &entry.value {
        StoredValue::Whole(value) => return Ok(value.clone()),
        StoredValue::Parts { length, checksum } => (*length as usize, *checksum),
    };
    let mut value = BytesMut::with_capacity(length);
    for number in 0..part_count(length) {
        let part = db.get(part_key(&entry.key, number)).map_err(Abandoned::new)?;
        value.extend_from_slice(&part.ok_or_else(|| Abandoned::new("a part of a value is missing"))?);
    }
    if value.len() != length || crc32c::crc32c(&value) != checksum {
        return Err(Abandoned::new(format!("the parts of a value do not fit together: bytes={length}")));
    }
    Ok(value.freeze())
}

/// The entries between the start of a block and that of the next one, in the order of their keys.
struct Block {
    /// None where the keys are below those of every block.
    start: Option<Vec<u8>>,
    items: Vec<Item>,
    next: Option<Vec<u8>>,
}

impl Block {
    fn around(db: &sled::Db, key: &[u8]) -> StoreResult<Self> {
        let before = block_before(db, key)?;
        let from = block_place(before.as_ref().map_or(key, |(place, _)| &place[1..]));
        let behind = (Bound::Excluded(from), Bound::Excluded(vec![BLOCK + 1]));
        let next = db.range(behind).next().transpose().map_err(Abandoned::new)?;
        let next = next.map(|(place, _)| start_of(&place).map(<[u8]>::to_vec)).transpose()?;
        let Some((place, bytes)) = before else { return Ok(Self { start: None, items: Vec::new(), next }) };
        let start = start_of(&place)?;
        let mut items = block::decode(start, &bytes)?;
        if let Some(next) = &next {
            // A crash in the middle of a split may have left them here too.
            items.truncate(items.partition_point(|item| item.key < next[..]));
        }
        Ok(Self { start: Some(start.to_vec()), items, next })
    }

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

    /// Makes `changes`, all of which it covers. Parts come first: an entry that names parts which are not there yet
    /// would be damage to a later scan. Readers never see the moments between, because a memtable hides every key that
    /// is being drained.
    fn write(mut self, db: &sled::Db, shape: &Shape, changes: Vec<Change>) -> StoreResult<()> {
        let mut leftover = Vec::new();
        let mut differs = false;
        for Change { key, state } in changes {
            let place = self.place_of(&key);
            let before = place.map_or(0, |place| self.items[place].parts());
            let parts = state.as_ref().map_or(0, |state| part_count(state.value.len()));
            if before > parts {
                leftover.push((key.clone(), parts..before));
            }
            differs |= state.is_some() || place.is_ok();
            match (state, place) {
                (Some(state), place) => {
                    put_parts(db, &key, &state.value)?;
                    let item = Item::new(key, &state);
                    match place {
                        Ok(place) => self.items[place] = item,
                        Err(place) => self.items.insert(place, item),
                    }
                }
                (None, Ok(place)) => drop(self.items.remove(place)),
                // Made and removed since the last checkpoint.
                (None, Err(_)) => {}
            }
        }
        if differs {
            self.store(db, shape)?;
        }
        // What a crash before this leaves behind is never read and goes with the next [`Ordered::sweep`].
        for (key, numbers) in leftover {
            for number in numbers {
                db.remove(part_key(&key, number)).map_err(Abandoned::new)?;
            }
        }
        Ok(())
    }

    /// The last block first: a crash in between then leaves entries twice, and never none.
    fn store(&self, db: &sled::Db, shape: &Shape) -> StoreResult<()> {
        let pieces = pieces(&self.items);
        if pieces.is_empty() {
            let Some(start) = &self.start else { return Ok(()) };
            return db.remove(block_place(start)).map(drop).map_err(Abandoned::new);
        }
        let _moves = (pieces.len() > 1).then(|| shape.write());
        for (number, piece) in pieces.iter().enumerate().rev() {
            let first = &piece[0].key[..];
            let start = if number == 0 { self.start.as_deref().unwrap_or(first) } else { first };
            db.insert(block_place(start), block::encode(start, piece)).map_err(Abandoned::new)?;
        }
        Ok(())
    }
}

fn put_parts(db: &sled::Db, key: &[u8], value: &[u8]) -> StoreResult<()> {
    if part_count(value.len()) == 0 {
        return Ok(());
    }
    value
        .chunks(INLINE_BYTES)
        .enumerate()
        .try_for_each(|(number, part)| db.insert(part_key(key, number), part).map(drop).map_err(Abandoned::new))
}

/// Removes every part that no entry names.
fn sweep(db: &sled::Db) -> StoreResult<()> {
    let mut from = vec![PART];
    loop {
        let page = db.range(from..vec![PART + 1]).keys().take(STORE_PAGE_ENTRIES);
        let places = page.collect::<Result<Vec<_>, _>>().map_err(Abandoned::new)?;
        let Some(last) = places.last() else { return Ok(()) };
        from = last.to_vec();
        from.push(0);
        for place in &places {
            let (key, number) = part_of(place)?;
            let parts = match entry(db, key)?.map(|entry| entry.value) {
                Some(StoredValue::Parts { length, .. }) => part_count(length as usize),
                _ => 0,
            };
            if parts <= number {
                db.remove(place).map_err(Abandoned::new)?;
            }
        }
    }
}
