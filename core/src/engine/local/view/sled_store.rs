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

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::blocks::{Blocks, Places, Shape};
use super::directory;
use super::guarded::{Guarded, caught, guarded};
use super::options::ViewOptions;
use super::store::{Abandoned, Change, Ordered, StoreResult, StoredEntry, StoredValue};
use crate::engine::{Direction, KeyRange, Sequence, Versioned};
use crate::env::KeptFromChildren;

/// An open of nothing may take this long,
const OPEN_DEADLINE: Duration = Duration::from_secs(10);
/// and this much longer for every 100 MB, because sled reads all of it.
const OPEN_DEADLINE_PER_PIECE: Duration = Duration::from_secs(5);
const PIECE_BYTES: u64 = 100_000_000;
/// What the places of entries began with when each was one of its own.
const ENTRY_ALONE: u8 = b'k';

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
        let (dir, cache_bytes) = (path.to_owned(), options.sled_cache_bytes);
        let (db, data) = guarded("view-open", deadline, move || {
            let data = directory::prepare(&dir)?;
            let db = open_when_unlocked(&dir, cache_bytes)?;
            directory::sync_names(&dir).map_err(Abandoned::new)?;
            if db.scan_prefix([ENTRY_ALONE]).next().is_some() {
                return Err(Abandoned::new("its entries have an older form"));
            }
            Ok((ManuallyDrop::new(db), data))
        })?;
        let kept = KeptFromChildren::file(&directory::data_file(path));
        let kept = Mutex::new(Some(ManuallyDrop::new(kept)));
        let (db, data) = (RwLock::new(Some(db)), Arc::new(data));
        let shape = Arc::new(Shape::new(options.store_deadline, options.defect));
        Ok(Self {
            db,
            data,
            kept,
            deadline: options.store_deadline,
            failed: OnceLock::new(),
            shape,
            apart: Guarded::default(),
        })
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
        self.call(|db| Blocks::new(db, &self.shape).get(key))
    }

    fn sequences_of(&self, keys: &[Bytes]) -> StoreResult<Vec<Option<Sequence>>> {
        self.call(|db| Blocks::new(db, &self.shape).sequences_of(keys))
    }

    fn scan(&self, range: &KeyRange, direction: Direction, limit: usize) -> StoreResult<Vec<StoredEntry>> {
        self.call(|db| Blocks::new(db, &self.shape).scan(range, direction, limit))
    }

    fn load(&self, entry: &StoredEntry) -> StoreResult<Bytes> {
        match &entry.value {
            StoredValue::Whole(value) => Ok(value.clone()),
            StoredValue::Parts { .. } => self.call(|db| Blocks::new(db, &self.shape).load(entry)),
        }
    }

    fn write(&self, changes: Vec<Change>) -> StoreResult<()> {
        if changes.is_empty() {
            return self.check();
        }
        let shape = Arc::clone(&self.shape);
        self.call_apart("view-write", self.deadline, move |db| Blocks::new(db, &shape).write(changes))
    }

    fn sweep(&self) -> StoreResult<()> {
        let shape = Arc::clone(&self.shape);
        self.call_apart("view-sweep", self.deadline, move |db| Blocks::new(db, &shape).sweep())
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

impl Places for sled::Db {
    type Slice = sled::IVec;

    fn get(&self, place: &[u8]) -> StoreResult<Option<Self::Slice>> {
        sled::Tree::get(self, place).map_err(Abandoned::new)
    }

    fn range(
        &self,
        from: Bound<Vec<u8>>,
        to: Bound<Vec<u8>>,
    ) -> impl DoubleEndedIterator<Item = StoreResult<(Self::Slice, Self::Slice)>> {
        sled::Tree::range::<Vec<u8>, _>(self, (from, to)).map(|next| next.map_err(Abandoned::new))
    }

    fn insert(&self, place: Vec<u8>, bytes: Vec<u8>) -> StoreResult<()> {
        sled::Tree::insert(self, place, bytes).map(drop).map_err(Abandoned::new)
    }

    fn remove(&self, place: &[u8]) -> StoreResult<()> {
        sled::Tree::remove(self, place).map(drop).map_err(Abandoned::new)
    }
}
