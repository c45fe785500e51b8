//! The store in sled: the only file that calls it.
//!
//! sled is used for what it does well (single keys, ordered pages) and for nothing else: no batch,
//! transaction, subscriber, merge operator, `generate_id`, `flush_async`, `len` or `clear`, because
//! each of them takes a process-wide lock, blocks writers or is slow without bound. What else sled
//! 0.34.7 does, and where it is answered:
//! - its flush does not reach the disk, and no directory is synced: `flush`, `directory::sync_names`
//! - its flusher thread drops the errors it gets: there is none, the checkpoint flushes
//! - large nodes go to files that it never syncs: it holds places only, what lies there is in a file beside it
//! - a snapshot that was cut short makes every later open fail: `directory::prepare` removes it
//! - every key of its own costs a copy of its leaf, and every ten a leaf on disk: neighbours share a block, see `block`, and
//!   leaves hold where it lies, see `block_file`
//! - recovery skips damage and says nothing: checksums here, the digest of a full scan in `View::verify`
//! - it panics, and a failed I/O thread lets callers wait for ever: `guarded`, and what failed is left alone
//! - its lock outlives its handle: `close` waits for it, `open` tries again
//! - dropping a handle panics when the last sync fails: only `close` drops one, on a thread of its own
//! - it uses more memory than it is told: a small cache; its file shrinks only with a rebuild, so it holds little
//! - snapshots are written at open only, so a long life means a slow open: the deadline grows with the file

use std::fmt;
use std::fs;
use std::mem::{self, ManuallyDrop};
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::block_file::{self, BlockFile, Durable};
use super::blocks::{Blocks, Places, Shape};
use super::directory;
use super::extents::Extent;
use super::guarded::{Guarded, caught, guarded};
use super::options::{Planted, ViewOptions};
use super::store::{Abandoned, Change, Ordered, StoreResult, StoredEntry, StoredValue};
use super::writing::Draft;
use crate::engine::{Direction, KeyRange, Sequence, Versioned};
use crate::env::KeptFromChildren;
use crate::env::files::File;

/// An open of nothing may take this long,
const OPEN_DEADLINE: Duration = Duration::from_secs(10);
/// and this much longer for every 100 MB, because sled reads all of it.
const OPEN_DEADLINE_PER_PIECE: Duration = Duration::from_secs(5);
const PIECE_BYTES: u64 = 100_000_000;
/// So many places are read with one deadline when those in use are counted.
const COUNTED_A_CALL: usize = 16_384;

/// One sled database, its default tree.
pub struct SledStore {
    /// None after `close`. Never dropped where it stands: dropping does I/O that may panic or hang.
    db: RwLock<Option<ManuallyDrop<sled::Db>>>,
    data: Arc<dyn File>,
    /// The same file, for its lock.
    locked: Arc<fs::File>,
    /// What the places in sled point to.
    file: Arc<BlockFile>,
    /// What was written since the last flush.
    draft: Arc<Mutex<Draft<Extent>>>,
    /// Left where it is, as the handle is, when that is not closed.
    kept: Mutex<Option<ManuallyDrop<KeptFromChildren>>>,
    deadline: Duration,
    failed: OnceLock<Abandoned>,
    shape: Arc<Shape>,
    /// Where it is written.
    apart: Guarded,
}

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
        let (dir, of_open) = (path.to_owned(), options.clone());
        let (db, data, locked, file) = guarded("view-open", deadline, move || {
            let data = directory::prepare(&*of_open.files, &dir)?;
            let db = open_when_unlocked(&dir, of_open.sled_cache_bytes)?;
            let blocks = block_file::path(&dir);
            if db.iter().next().is_some() && !of_open.files.exists(&blocks).map_err(Abandoned::new)? {
                return Err(Abandoned::new("the file of its blocks is missing, or its entries have an older form"));
            }
            let file = BlockFile::open(&dir, &of_open)?;
            directory::sync_names(&dir, &of_open).map_err(Abandoned::new)?;
            let locked = directory::locked_file(&dir).map_err(Abandoned::new)?;
            Ok((ManuallyDrop::new(db), data, locked, file))
        })?;
        let kept = KeptFromChildren::file(&directory::data_file(path));
        let kept = Mutex::new(Some(ManuallyDrop::new(kept)));
        let shape = Arc::new(Shape::new(options.store_deadline, options.defect));
        Ok(Self {
            db: RwLock::new(Some(db)),
            data,
            locked: Arc::new(locked),
            file: Arc::new(file),
            draft: Arc::default(),
            kept,
            deadline: options.store_deadline,
            failed: OnceLock::new(),
            shape,
            apart: Guarded::default(),
        })
    }

    fn beside<'a>(&'a self, db: &'a sled::Db) -> Beside<'a> {
        Beside { db, file: &self.file }
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
        self.apart.run(doing, deadline, move || work(&db)).map_err(|abandoned| self.fail(abandoned))
    }

    /// Finds out which of the file is in use, once.
    fn count(&self) -> StoreResult<()> {
        if self.file.is_counted() {
            return Ok(());
        }
        let (data, defect) = (Arc::clone(&self.data), self.shape.defect);
        // A process that was killed may have left more in the file than it synced: what is not named there is not free.
        let durable = self.call_apart("view-count", self.deadline, move |_| {
            Durable::now(&*data, defect, Planted::CountedBeforeSynced)
        })?;
        let (mut used, mut from) = (Vec::new(), Bound::Unbounded);
        loop {
            let page = self.call_apart("view-count", self.deadline, move |db| {
                let page = db.range::<Vec<u8>, _>((from, Bound::Unbounded)).take(COUNTED_A_CALL);
                let page = page.map(|next| next.map_err(Abandoned::new));
                page.map(|next| next.and_then(|(place, held)| Ok((place, Extent::from_bytes(&held)?)))).collect()
            });
            let page: Vec<_> = page?;
            let Some((last, _)) = page.last() else {
                return self.file.count(used, &durable).map_err(|abandoned| self.fail(abandoned));
            };
            from = Bound::Excluded(last.to_vec());
            used.extend(page.iter().map(|(_, extent)| *extent));
        }
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
        self.call(|db| Blocks::new(&self.beside(db), &self.shape).get(key))
    }

    fn sequences_of(&self, keys: &[Bytes]) -> StoreResult<Vec<Option<Sequence>>> {
        self.call(|db| Blocks::new(&self.beside(db), &self.shape).sequences_of(keys))
    }

    fn scan(&self, range: &KeyRange, direction: Direction, limit: usize) -> StoreResult<Vec<StoredEntry>> {
        self.call(|db| Blocks::new(&self.beside(db), &self.shape).scan(range, direction, limit))
    }

    fn load(&self, entry: &StoredEntry) -> StoreResult<Bytes> {
        match &entry.value {
            StoredValue::Whole(value) => Ok(value.clone()),
            StoredValue::Parts { .. } => self.call(|db| Blocks::new(&self.beside(db), &self.shape).load(entry)),
        }
    }

    fn write(&self, changes: Vec<Change>) -> StoreResult<()> {
        if changes.is_empty() {
            return self.check();
        }
        self.count()?;
        let (shape, file, draft) = (Arc::clone(&self.shape), Arc::clone(&self.file), Arc::clone(&self.draft));
        self.call_apart("view-write", self.deadline, move |db| {
            Blocks::new(&Beside { db, file: &file }, &shape).write(&mut draft.lock(), changes)
        })
    }

    fn sweep(&self) -> StoreResult<()> {
        self.count()?;
        let (shape, file) = (Arc::clone(&self.shape), Arc::clone(&self.file));
        self.call_apart("view-sweep", self.deadline, move |db| Blocks::new(&Beside { db, file: &file }, &shape).sweep())
    }

    fn flush(&self) -> StoreResult<()> {
        let (data, shape) = (Arc::clone(&self.data), Arc::clone(&self.shape));
        let (file, draft) = (Arc::clone(&self.file), Arc::clone(&self.draft));
        self.call_apart("view-flush", self.deadline, move |db| {
            Blocks::new(&Beside { db, file: &file }, &shape).make(mem::take(&mut draft.lock()))?;
            db.flush().map_err(Abandoned::new)?;
            // sled's own flush reaches the page cache at best; this one reaches the disk.
            let durable = Durable::now(&*data, shape.defect, Planted::PlacesNotSynced)?;
            // Whoever begins to read now finds nothing any more of what is about to be free.
            drop(shape.moving());
            file.settle(&durable);
            Ok(())
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
        let locked = Arc::clone(&self.locked);
        guarded("view-close", self.deadline, move || {
            drop(ManuallyDrop::into_inner(db));
            if directory::wait_for_lock(&locked) { Ok(()) } else { Err(Abandoned::new("sled kept its lock")) }
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
    let mut attempts = 0;
    loop {
        attempts += 1;
        match config.open() {
            Ok(db) => return Ok(db),
            // A handle that was just dropped lets go of the lock a moment later.
            Err(error)
                if attempts < directory::LOCK_ATTEMPTS && error.to_string().contains("could not acquire lock") =>
            {
                directory::pause_after(attempts);
            }
            Err(error) => return Err(Abandoned::new(format!("sled does not open: {error}"))),
        }
    }
}

/// Places in sled, bytes beside it.
struct Beside<'a> {
    db: &'a sled::Db,
    file: &'a BlockFile,
}

impl Beside<'_> {
    fn give_up(&self, held: Option<sled::IVec>) -> StoreResult<()> {
        held.map_or(Ok(()), |held| Extent::from_bytes(&held).map(|extent| self.file.give_up(extent)))
    }
}

impl Places for Beside<'_> {
    type Place = sled::IVec;
    type Held = Extent;

    fn get(&self, place: &[u8]) -> StoreResult<Option<Bytes>> {
        let held = self.db.get(place).map_err(Abandoned::new)?;
        held.map(|held| self.file.read(Extent::from_bytes(&held)?)).transpose()
    }

    fn range(
        &self,
        from: Bound<Vec<u8>>,
        to: Bound<Vec<u8>>,
    ) -> impl DoubleEndedIterator<Item = StoreResult<(Self::Place, Extent)>> {
        self.db.range::<Vec<u8>, _>((from, to)).map(|next| {
            let (place, held) = next.map_err(Abandoned::new)?;
            Ok((place, Extent::from_bytes(&held)?))
        })
    }

    fn read(&self, held: &Extent) -> StoreResult<Bytes> {
        self.file.read(*held)
    }

    fn keep(&self, values: &[Bytes]) -> StoreResult<Vec<Extent>> {
        self.file.keep(values)
    }

    fn sync(&self) -> StoreResult<()> {
        self.file.sync()
    }

    fn insert(&self, place: Vec<u8>, held: Extent) -> StoreResult<()> {
        self.give_up(self.db.insert(place, &held.to_bytes()).map_err(Abandoned::new)?)
    }

    fn remove(&self, place: &[u8]) -> StoreResult<()> {
        self.give_up(self.db.remove(place).map_err(Abandoned::new)?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// Whoever found a block may read where it lay until it is done: a flush that did not wait for that would let the next
    /// write put something else there.
    #[test]
    fn a_flush_waits_for_readers_before_space_is_free() {
        let scratch = tempfile::tempdir().expect("a directory for tests");
        let store = SledStore::open(&scratch.path().join("view-1"), &ViewOptions::default()).expect("it is new");
        let put = |sequence| {
            let state = Some(Versioned { value: Bytes::from_static(b"value"), sequence });
            store.write(vec![Change { key: Bytes::from_static(b"key"), state }])
        };
        put(1).and_then(|()| store.flush()).expect("there is room");
        put(2).expect("there is room");
        let reader = store.shape.still().expect("nothing moves");
        let (flushed, is_flushed) = mpsc::channel();
        thread::scope(|scope| {
            let store = &store;
            scope.spawn(move || flushed.send(store.flush()));
            // Waits for what must not come: how long decides only how surely a defect is seen.
            let early = is_flushed.recv_timeout(Duration::from_millis(100));
            drop(reader);
            assert!(early.is_err(), "it did not wait");
            assert_eq!(is_flushed.recv().expect("it comes back"), Ok(()));
        });
        store.close().expect("nothing failed");
    }
}
