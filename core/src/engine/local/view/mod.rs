//! The view: versioned memtables over an ordered store that can be rebuilt.

mod block;
mod block_file;
mod blocks;
mod cache;
mod checkpoint;
pub mod digest;
pub mod directory;
mod extents;
mod filter;
mod gaps;
mod guarded;
mod memory_store;
mod memtable;
mod merge;
mod newest;
pub mod options;
pub mod rebuild;
mod sled_store;
mod snapshot;
pub mod store;
mod tables;
mod writing;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use parking_lot::{Condvar, Mutex};

use self::cache::RecordCache;
use self::checkpoint::Maintenance;
pub use self::digest::Digest;
use self::gaps::Gaps;
use self::memory_store::MemoryStore;
use self::memtable::Memtable;
use self::newest::Newest;
use self::options::Planted;
pub use self::options::{Checkpoint, CheckpointLog, StoreState, ViewOptions};
use self::sled_store::SledStore;
use self::snapshot::ViewSnapshot;
use self::store::{Abandoned, Ordered, StoreResult};
use self::tables::{Ended, Tables};
#[cfg(test)]
use crate::engine::Versioned;
use crate::engine::{Direction, KeyRange, Record, Sequence, Snapshot, Write};
use crate::error::{Error, ErrorKind, Result};

/// A whole drain, as [`Shared::drained`] counts.
const DRAIN_PARTS: usize = 1 << 10;

/// The read index of one partition: what the log says, key by key.
///
/// One thread applies and publishes, one makes checkpoints, any number read. The owner opens it in the
/// state that its manifest names, applies the log behind that, and drains when
/// [`View::wait_until_due`] says so; after an unclean end it calls [`View::verify`] in the background.
/// After the store failed every read and checkpoint answers `Unavailable` and [`View::abandoned`] says
/// why: the owner moves the directory aside and fills another with [`rebuild::rebuild`].
#[derive(Clone, Debug)]
pub struct View {
    shared: Arc<Shared>,
}

/// What the handles and snapshots of a view share.
#[derive(Debug)]
struct Shared {
    options: ViewOptions,
    store: Box<dyn Ordered>,
    cache: RecordCache,
    gaps: Gaps,
    /// Readers borrow it and write nothing that other readers see: not even a count, which the writer adds for those
    /// who still read when it replaces the list.
    current: ArcSwap<Tables>,
    generation: AtomicU64,
    published: AtomicU64,
    /// How much of its memtable the drain that is under way has written, in parts of [`DRAIN_PARTS`]; 0 while it has not
    /// begun to write, and where what it has to do is not known.
    drained: AtomicUsize,
    writer: Mutex<Writer>,
    /// Something that a waiting writer or checkpoint looks at has changed.
    moved: Condvar,
    /// Held by a checkpoint or comparison from its beginning to its end.
    maintenance: Mutex<Maintenance>,
    /// The last checkpoint, unless a drain has changed the store since.
    known: Mutex<Option<(Sequence, Digest)>>,
    closing: AtomicBool,
    abandoned: OnceLock<Abandoned>,
    /// How many freezes had to wait for a group to be published.
    #[cfg(test)]
    publish_waits: AtomicUsize,
}

/// What the thread that applies decides with; a freeze happens between two of its groups.
#[derive(Debug)]
struct Writer {
    applied: Sequence,
    /// A checkpoint asked for a freeze while a group was applied and not yet published.
    freeze_wanted: bool,
    /// The freeze that was made for it.
    frozen_at: Option<Sequence>,
    /// The group that was applied last will not be published.
    is_withheld: bool,
    /// The notice of the list in use, and of those before it.
    ended: Vec<Ended>,
    newest: Newest,
}

impl View {
    /// The view over the store in `dir`, or over one in memory, whose content the manifest describes
    /// as `state`. The owner then applies the log behind it: from `at` or `from` on.
    ///
    /// # Errors
    /// [`Abandoned`] when the store does not open; it is not tried again, because sled's open writes.
    pub fn open(dir: Option<&Path>, options: ViewOptions, state: StoreState) -> StoreResult<Self> {
        let store: Box<dyn Ordered> = match dir {
            Some(dir) => Box::new(SledStore::open(dir, &options)?),
            None => Box::new(MemoryStore::default()),
        };
        Self::over(store, options, state)
    }

    /// The view over `store`.
    pub(crate) fn over(store: Box<dyn Ordered>, options: ViewOptions, state: StoreState) -> StoreResult<Self> {
        let at = match state {
            StoreState::Empty => 0,
            StoreState::At { at, .. } => at,
            StoreState::Draining { from, .. } => from,
        };
        let everything = KeyRange { start: bytes::Bytes::new(), end: None };
        let is_empty = store.scan(&everything, Direction::Forward, 1)?.is_empty();
        match state {
            StoreState::Empty if !is_empty => return Err(Abandoned::new("the store of a new view is not empty")),
            // sled takes a lost file for a new one; a full comparison may be some time away.
            StoreState::At { digest, .. } if is_empty && digest.count > 0 => {
                return Err(Abandoned::new("the store is empty and should not be"));
            }
            _ => {}
        }
        let (tables, ended) = Tables::new(Arc::new(Memtable::new(options.memtable_bytes)), None, 0);
        let maintenance = Maintenance::new(state);
        let shared = Shared {
            store,
            cache: RecordCache::new(options.cache_bytes),
            gaps: Gaps::new(at),
            current: ArcSwap::new(tables),
            generation: AtomicU64::new(0),
            published: AtomicU64::new(at),
            drained: AtomicUsize::new(0),
            writer: Mutex::new(Writer {
                applied: at,
                freeze_wanted: false,
                frozen_at: None,
                is_withheld: false,
                ended: vec![ended],
                newest: Newest::default(),
            }),
            moved: Condvar::new(),
            known: Mutex::new(maintenance.known()),
            maintenance: Mutex::new(maintenance),
            closing: AtomicBool::new(false),
            abandoned: OnceLock::new(),
            #[cfg(test)]
            publish_waits: AtomicUsize::new(0),
            options,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Takes in the writes of consecutive records, the first of which is number `first`. They may be on
    /// their way to the disk still: readers see them from [`View::publish`] on, which comes behind the sync.
    ///
    /// # Errors
    /// `Internal` when a record holds an `Add`, which the committer turns into a `Put` before the log.
    pub fn apply(&self, first: Sequence, records: &[Record]) -> Result<()> {
        let shared = &*self.shared;
        let mut writer = shared.writer.lock();
        debug_assert!(records.is_empty() || first > writer.applied, "records are applied in order, each once");
        // Before the memtable: a range must not be called dead while a key in it comes to life.
        let changes = records.iter().flat_map(|record| &record.writes);
        shared.gaps.begin(changes.filter(|_| !shared.options.has(Planted::GapsNotCut)));
        let active = shared.active();
        let before = active.bytes();
        writer.newest.look_at(records);
        for (sequence, record) in (first..).zip(records) {
            for write in &record.writes {
                let (key, value) = match write {
                    Write::Put { key, value } => (key, Some(value)),
                    Write::Delete { key } => (key, None),
                    Write::Add { .. } => return Err(Error::new(ErrorKind::Internal, "an addition reached the view")),
                };
                let Some(hash) = writer.newest.take() else { continue };
                active.insert(hash, key.clone(), sequence, value.cloned());
                // Behind the memtable: `RecordCache::fill` rests on this order.
                if !shared.options.has(Planted::CacheNotTold) {
                    shared.cache.rewrite(hash, key, value, sequence);
                }
            }
            writer.applied = sequence;
        }
        let due = shared.options.due_bytes();
        if before < due && active.bytes() >= due {
            shared.moved.notify_all();
        }
        Ok(())
    }

    /// Makes everything up to `sequence` visible to new snapshots; all of it was applied.
    pub fn publish(&self, sequence: Sequence) {
        let mut writer = self.shared.writer.lock();
        debug_assert!(sequence >= writer.applied, "whole groups are published");
        self.shared.gaps.publish(sequence);
        self.shared.published.store(sequence, Ordering::Release);
        if writer.freeze_wanted {
            self.shared.freeze_at(&mut writer, sequence);
        }
    }

    /// What was applied last will never be published, because its sync failed: no checkpoint can come behind it any more,
    /// and none waits for it.
    pub fn withhold(&self) {
        let mut writer = self.shared.writer.lock();
        writer.is_withheld = true;
        drop(writer);
        self.shared.moved.notify_all();
    }

    /// The newest published sequence.
    #[cfg(test)]
    pub fn published(&self) -> Sequence {
        self.shared.published.load(Ordering::Acquire)
    }

    /// The newest published state of `view`. Hold it for one call or page: checkpoints wait for it.
    pub fn snapshot_of(view: Guard<Arc<Self>>) -> Arc<dyn Snapshot> {
        let (tables, sequence) = view.shared.reading();
        Arc::new(ViewSnapshot::new(view, tables, sequence))
    }

    #[cfg(test)]
    /// The newest published state.
    pub fn snapshot(&self) -> Arc<dyn Snapshot> {
        Self::snapshot_of(Guard::from_inner(Arc::new(self.clone())))
    }

    /// The newest published value of `key`.
    #[cfg(test)]
    pub fn get(&self, key: &[u8]) -> Result<Option<Versioned>> {
        self.snapshot().get(key)
    }

    /// Whether the active memtable is full enough to drain it, or a drain waits to be finished.
    #[cfg(test)]
    pub fn checkpoint_due(&self) -> bool {
        self.shared.checkpoint_due()
    }

    /// What the next drains may take of the disk at most, in bytes.
    pub fn drain_room(&self) -> u64 {
        let undrained: usize = self.shared.current.load().newest_first().map(Memtable::bytes).sum();
        checkpoint::room_for(undrained as u64)
    }

    /// Whether the active memtable is full enough to drain it, whatever else waits to be drained.
    pub fn is_filling(&self) -> bool {
        self.shared.current.load().active.bytes() >= self.shared.options.due_bytes()
    }

    /// Waits until a checkpoint is due, at most `within`, or until `given_up`, which [`View::wake`] has looked
    /// at again; whether it is due.
    pub fn wait_until_due(&self, within: Duration, given_up: impl Fn() -> bool) -> bool {
        let shared = &*self.shared;
        let waits = || !shared.checkpoint_due() && !shared.is_ending() && !given_up();
        let mut writer = shared.writer.lock();
        shared.moved.wait_while_for(&mut writer, |_| waits(), within);
        shared.checkpoint_due()
    }

    /// Lets those who wait look again at what they wait for.
    pub fn wake(&self) {
        // Under the lock, so that nobody starts to wait between its look and this call.
        drop(self.shared.writer.lock());
        self.shared.moved.notify_all();
    }

    #[cfg(test)]
    /// Whether the active memtable takes another group at once.
    pub fn has_room(&self) -> bool {
        self.shared.has_room()
    }

    /// Waits until the memtables take another group.
    ///
    /// # Errors
    /// `Overloaded` when the drain did not make room in time, `Unavailable` when the view was
    /// abandoned, `Closed` when it is being closed.
    pub fn wait_for_room(&self, within: Duration) -> Result<()> {
        let shared = &*self.shared;
        if !shared.has_room() {
            let mut writer = shared.writer.lock();
            shared.moved.wait_while_for(&mut writer, |_| !shared.has_room() && !shared.is_ending(), within);
        }
        shared.check()?;
        if shared.has_room() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Overloaded, "writes wait for the view's drain"))
    }

    #[cfg(test)]
    /// The last checkpoint and what the store held then; none while its content is not known to be whole.
    pub fn digest(&self) -> Option<(Sequence, Digest)> {
        *self.shared.known.lock()
    }

    /// Why the store was given up, if it was.
    pub fn abandoned(&self) -> Option<&Abandoned> {
        self.shared.abandoned.get()
    }

    /// Whether checkpoints outlive the process.
    pub fn is_persistent(&self) -> bool {
        self.shared.store.is_persistent()
    }

    /// How many checkpoints had to wait for a group to be published: where nothing runs beside them, none has to.
    #[cfg(test)]
    pub fn publish_waits(&self) -> usize {
        self.shared.publish_waits.load(Ordering::Acquire)
    }

    #[cfg(test)]
    /// Bytes in the memtables, about.
    pub fn memtable_bytes(&self) -> usize {
        self.shared.current.load().newest_first().map(Memtable::bytes).sum()
    }

    #[cfg(test)]
    /// Bytes in the memtable that takes the writes, about.
    pub fn active_bytes(&self) -> usize {
        self.shared.active().bytes()
    }

    /// Ends a checkpoint or check that is under way and gives the store's files back. For a clean end
    /// the owner makes a checkpoint first.
    ///
    /// # Errors
    /// `Unavailable` when the store did not close within its deadline, or background work did not
    /// stop `within`; the files stay in use then.
    pub fn close(&self, within: Duration) -> Result<()> {
        let shared = &*self.shared;
        shared.closing.store(true, Ordering::Release);
        // Under the lock, so that nobody starts to wait between its look at the flag and this call.
        drop(shared.writer.lock());
        shared.moved.notify_all();
        let Some(_background_work_ended) = shared.maintenance.try_lock_for(within) else {
            return Err(Error::new(ErrorKind::Unavailable, "the view's checkpoint did not stop in time"));
        };
        let closed = shared.store.close();
        // What was given up is not asked how it ended.
        if self.abandoned().is_some() { Ok(()) } else { closed.map_err(Error::from) }
    }
}

impl Shared {
    fn active(&self) -> Arc<Memtable> {
        Arc::clone(&self.current.load().active)
    }

    /// A list and the newest sequence that it answers for.
    fn reading(&self) -> (Guard<Arc<Tables>>, Sequence) {
        self.reading_with(|| ())
    }

    /// As [`Shared::reading`]; `between` runs where another thread might come in between.
    fn reading_with(&self, mut between: impl FnMut()) -> (Guard<Arc<Tables>>, Sequence) {
        loop {
            let tables = self.current.load();
            between();
            let sequence = self.published();
            // A freeze may have come between the two: the list would lack the memtable with what was published since.
            // One comes with every checkpoint at most, so nobody looks often.
            if self.generation.load(Ordering::Acquire) == tables.generation {
                return (tables, sequence);
            }
            // Whoever freezes may have lost the processor between the two stores.
            std::thread::yield_now();
        }
    }

    /// The newest sequence that readers see.
    fn published(&self) -> Sequence {
        let ahead = self.options.has(Planted::ReadUnpublished);
        if ahead { Sequence::MAX >> 1 } else { self.published.load(Ordering::Acquire) }
    }

    /// Whether `tables` still takes the writes. The generation moves before the list does, so a
    /// write that is not in `tables` is never overlooked.
    fn is_current(&self, tables: &Tables) -> bool {
        self.generation.load(Ordering::Acquire) == tables.generation || self.options.has(Planted::FillAlways)
    }

    fn checkpoint_due(&self) -> bool {
        let tables = self.current.load();
        tables.frozen.is_some() || tables.active.bytes() >= self.options.due_bytes()
    }

    fn has_room(&self) -> bool {
        self.current.load().active.bytes() < self.room()
    }

    /// How many bytes the active memtable may hold before writers wait: all of them, and beside a drain one half and as
    /// much of the other as was drained. So writers who outrun the drain are slowed down by many short waits, instead of
    /// one that is as long as what is left of it.
    fn room(&self) -> usize {
        let all = self.options.memtable_bytes;
        match self.drained.load(Ordering::Acquire) {
            0 => all,
            parts => all / 2 + all / 2 * parts / DRAIN_PARTS,
        }
    }

    fn is_ending(&self) -> bool {
        self.closing.load(Ordering::Acquire) || self.abandoned.get().is_some()
    }

    /// The store, unless a comparison or a drain found that it cannot be trusted.
    fn sound_store(&self) -> StoreResult<&dyn Ordered> {
        self.abandoned.get().map_or(Ok(&*self.store), |abandoned| Err(abandoned.clone()))
    }

    fn check(&self) -> Result<()> {
        if let Some(abandoned) = self.abandoned.get() {
            return Err(abandoned.clone().into());
        }
        if self.closing.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the view is closed"));
        }
        Ok(())
    }

    /// Gives the store up for good; the error is for the call that noticed.
    fn abandon(&self, abandoned: Abandoned) -> Error {
        if self.closing.load(Ordering::Acquire) {
            return Error::new(ErrorKind::Closed, "the view is closed");
        }
        let first = self.abandoned.get_or_init(|| {
            tracing::error!(reason = %abandoned, "the view is abandoned");
            abandoned
        });
        drop(self.writer.lock());
        self.moved.notify_all();
        first.clone().into()
    }
}

impl ViewOptions {
    /// A drain starts here, so that it is under way before writers have to wait.
    fn due_bytes(&self) -> usize {
        self.memtable_bytes / 4 * 3
    }
}
