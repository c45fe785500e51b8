//! The log: an unbroken tail of records over a sorted base. It is the truth; a view is made from it.
//!
//! `core/FORMAT.md` describes every byte. One thread appends; readers, merges and maintenance run beside
//! it on any thread. Locks are taken in the order merging, tail, preparing, manifest, state; `state` is
//! never held during I/O, so readers wait for nothing but memory.

mod base;
mod bytes;
mod failure;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod manifest;
mod merge;
#[cfg(test)]
mod planted;
mod record;
mod recovery;
mod scan;
mod scrub;
mod segment;
mod space;
mod tail;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

pub use base::{BaseEntry, BaseIter};
pub use manifest::{Checkpoint, Digest, End, Identity, Manifest};
pub use merge::MergeOutcome;
#[cfg(test)]
pub use planted::Planted;
pub use record::{ChainHash, DatabaseId, Position};
pub use recovery::{Cut, RecoveryReport};
pub use scan::TailIter;
pub use scrub::Damage;

use crate::engine::{CommittedRecord, Durability, Sequence};
use crate::env::files::Files;
use crate::error::{Error, ErrorKind, Result};
use base::Base;
use failure::{file_failed, poisoned};
use manifest::WriteFailure;
use scan::Ending;
use segment::{Segment, Spare};
use tail::Tail;

/// How a log behaves; the defaults suit one partition a database.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// When records become visible to readers: when written, or when synced.
    pub durability: Durability,
    /// Bytes of a segment that is made from now on, at least 4 KiB; no record may be larger.
    pub segment_bytes: u32,
    /// Segments kept for writes that give space back.
    pub reserve_segments: usize,
    /// Writes that grow are refused below this many free bytes,
    pub low_space_bytes: u64,
    /// and below this share of the disk.
    pub low_space_percent: u64,
    /// A merge is due when the sealed tail behind the base is larger than this and than the base.
    pub merge_tail_bytes: u64,
    /// Memory for sorting in a merge.
    pub merge_memory_bytes: usize,
    /// Runs that are merged at a time; each takes a file handle and a block of memory.
    pub merge_fan_in: usize,
    /// Bytes of a block of the base.
    pub block_bytes: usize,
    /// Segments that are folded into the base stay for the feed up to this many bytes of tail,
    pub retention_bytes: u64,
    /// and up to this much engine time, whichever ends first.
    pub retention_ms: i64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Synced,
            segment_bytes: 32 << 20,
            reserve_segments: 2,
            low_space_bytes: 64 << 20,
            low_space_percent: 5,
            merge_tail_bytes: 256 << 20,
            merge_memory_bytes: 16 << 20,
            merge_fan_in: 64,
            block_bytes: 64 << 10,
            retention_bytes: 1 << 30,
            retention_ms: 7 * 24 * 3_600 * 1_000,
        }
    }
}

/// One partition's log in one directory.
#[derive(Debug)]
pub struct Log {
    files: Arc<dyn Files>,
    dir: PathBuf,
    options: LogOptions,
    identity: Identity,
    poisoned: AtomicBool,
    closed: AtomicBool,
    short_of_space: AtomicBool,
    /// The newest number that readers may see; at least the start of this epoch.
    newest: AtomicU64,
    merging: Mutex<()>,
    tail: Mutex<Tail>,
    preparing: Mutex<()>,
    writing_manifest: Mutex<()>,
    state: RwLock<State>,
}

/// What readers look at; replaced piece by piece, never during I/O.
#[derive(Debug)]
struct State {
    /// Segments in use, consecutive, oldest first.
    segments: Vec<Arc<Segment>>,
    /// Segments that were made and hold nothing, in the order they will be used.
    spares: VecDeque<Spare>,
    base: Option<Arc<Base>>,
    manifest: Manifest,
    /// Behind the last record on disk.
    synced: End,
    /// Behind the last record that readers may see.
    visible: End,
}

impl Log {
    /// Makes a new log in `dir`, whose parent exists, and opens it.
    ///
    /// # Errors
    /// `AlreadyExists` where there is a log; `Damaged` where there are records but no MANIFEST.
    pub fn create(files: Arc<dyn Files>, dir: &Path, options: LogOptions, identity: Identity) -> Result<Self> {
        let failed = |error| file_failed("log.create", dir, error);
        files.create_dir_all(dir).map_err(failed)?;
        if files.exists(&dir.join(manifest::MANIFEST)).map_err(failed)? {
            return Err(Error::new(ErrorKind::AlreadyExists, "there is a log here").with("directory", dir.display()));
        }
        for name in files.list(dir).map_err(failed)? {
            let holds_records = match segment::id_of(&name) {
                Some(id) => {
                    Spare::open(&*files, dir, id).and_then(|spare| spare.last_used(0)).map_err(failed)?.is_some()
                }
                None => name.starts_with("base-"),
            };
            if holds_records {
                return Err(failure::damaged(&dir.join(manifest::MANIFEST), 0, "MANIFEST is missing"));
            }
        }
        if let Some(parent) = dir.parent() {
            files.sync_dir(parent).map_err(failed)?;
        }
        let spare = Spare::create(&*files, dir, 1, options.segment_bytes).map_err(failed)?;
        files.sync_dir(dir).map_err(failed)?;
        let manifest = Manifest { last_segment: spare.id, closed: Some(End::default()), ..Manifest::new(identity) };
        // From here on the directory is a log; before, another `create` starts over.
        space::write_manifest(&*files, dir, &manifest).map_err(WriteFailure::into_error)?;
        Ok(Self::open(files, dir, options)?.0)
    }

    /// Opens the log in `dir` after a clean end or a crash, and starts a new epoch.
    ///
    /// # Errors
    /// `NotFound`: no log here. `Damaged`: names file and offset; nothing was changed. `Unsupported`: written
    /// by another version. `StorageFull`, `Unavailable`: try again.
    pub fn open(files: Arc<dyn Files>, dir: &Path, options: LogOptions) -> Result<(Self, RecoveryReport)> {
        let (mut manifest, manifest_repaired) = Manifest::read(&*files, dir)?;
        let identity = manifest.identity;
        let base = match manifest.base {
            Some(name) => Some(Arc::new(Base::open_named(&*files, dir, name, &identity.database)?)),
            None => None,
        };
        let start = base.as_ref().map_or_else(End::default, |base| {
            let footer = base.footer;
            End { position: Position::default(), sequence: footer.sequence, hash: footer.hash, time: footer.time }
        });
        let recovered = recovery::recover(&*files, dir, &manifest, start)?;
        if let Some(first) = recovered.segments.first().filter(|first| first.header.previous > start.sequence) {
            return Err(failure::damaged(&first.path, 0, "the segments between the base and this one are missing"));
        }
        let end = recovered.end;
        let mut report = RecoveryReport {
            clean: manifest.closed.is_some(),
            cuts: recovered.cuts,
            manifest_repaired,
            newest: end.sequence,
            leftovers: Vec::new(),
        };
        start_epoch(&mut manifest, end)?;
        // Before the first append: a crash must find neither an old epoch nor the mark of a clean end.
        space::write_manifest(&*files, dir, &manifest).map_err(WriteFailure::into_error)?;
        report.leftovers = remove_leftovers(&*files, dir, &manifest)?;
        let next = (manifest.epoch << 32).max(end.sequence) + 1;
        let log = Self {
            dir: dir.to_path_buf(),
            options,
            identity,
            poisoned: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            short_of_space: AtomicBool::new(false),
            newest: AtomicU64::new(next - 1),
            merging: Mutex::new(()),
            tail: Mutex::new(Tail { appended: end, synced: end, next, dirty_since: None }),
            preparing: Mutex::new(()),
            writing_manifest: Mutex::new(()),
            state: RwLock::new(State {
                segments: recovered.segments,
                spares: recovered.spares.into(),
                base,
                manifest,
                synced: end,
                visible: end,
            }),
            files,
        };
        Ok((log, report))
    }

    /// The newest visible operation and its engine time. After an open this is the start of the epoch, a
    /// number that no record has: the next record gets the number behind it.
    pub fn newest(&self) -> (Sequence, i64) {
        let time = self.state.read().visible.time;
        (self.newest.load(Ordering::Acquire), time)
    }

    /// The oldest `after` that [`Log::read_from`] takes.
    pub fn oldest(&self) -> Sequence {
        let state = self.state.read();
        let base = state.base.as_ref().map_or(0, |base| base.footer.sequence);
        state.segments.first().map_or(base, |first| first.header.previous)
    }

    /// Visible records behind `after`, oldest first: at most `max_records`, and once there is one, no more
    /// than `max_bytes` of writes and events.
    ///
    /// # Errors
    /// `Expired`: records behind `after` are no longer kept.
    pub fn read_from(&self, after: Sequence, max_records: usize, max_bytes: usize) -> Result<Vec<CommittedRecord>> {
        if after >= self.newest.load(Ordering::Acquire) {
            return Ok(Vec::new());
        }
        let mut records = Vec::new();
        let mut bytes = 0;
        for record in self.tail_iter(after)? {
            let record = record?;
            bytes += record.record.len();
            if records.len() >= max_records || (bytes > max_bytes && !records.is_empty()) {
                break;
            }
            records.push(record);
        }
        Ok(records)
    }

    /// The visible records behind `after`, as of now.
    ///
    /// # Errors
    /// `Expired`: records behind `after` are no longer kept; start from [`Log::base_iter`].
    pub fn tail_iter(&self, after: Sequence) -> Result<TailIter> {
        let oldest = self.oldest();
        let (segments, visible) = {
            let state = self.state.read();
            let last = state.visible.position.segment;
            (state.segments.iter().filter(|segment| segment.id <= last).cloned().collect::<Vec<_>>(), state.visible)
        };
        if segments.first().map_or(oldest, |first| first.header.previous) > after {
            return Err(Error::new(
                ErrorKind::Expired,
                "records behind this one are no longer kept; start from a fresh list",
            )
            .with("after", after)
            .with("oldest", oldest));
        }
        let seek = segments.iter().rev().find(|segment| segment.header.previous <= after);
        if let Some(segment) = seek.filter(|segment| segment.header.previous < after) {
            scan::mark(segment, self.identity.database)?;
        }
        let ending = Ending { limit: Some(visible.position.offset), sequence: visible.sequence, hash: visible.hash };
        Ok(TailIter::new(self.identity.database, segments, ending, after))
    }

    /// The base in key order and the operation it is at; none before the first merge. With
    /// [`Log::tail_iter`] behind that operation it is everything there is.
    pub fn base_iter(&self) -> Option<(BaseIter, Sequence)> {
        let base = self.state.read().base.clone()?;
        Some((base.iter(), base.footer.sequence))
    }

    /// The facts about this directory.
    pub fn manifest(&self) -> Manifest {
        self.state.read().manifest.clone()
    }

    /// Changes facts about this directory, durably; the view keeps its name and checkpoint so.
    ///
    /// # Errors
    /// `StorageFull`, `Unavailable`: nothing has changed, or the log has stopped.
    pub fn update_manifest(&self, change: impl FnOnce(&mut Manifest)) -> Result<()> {
        let _one_at_a_time = self.writing_manifest.lock();
        if self.poisoned.load(Ordering::SeqCst) {
            return Err(poisoned());
        }
        let mut manifest = {
            let state = self.state.read();
            Manifest { durable: state.manifest.durable.max(state.synced.sequence), ..state.manifest.clone() }
        };
        change(&mut manifest);
        manifest.generation += 1;
        let written = space::write_manifest(&*self.files, &self.dir, &manifest);
        if matches!(written, Err(WriteFailure::Unknown(_))) {
            self.poisoned.store(true, Ordering::SeqCst);
        }
        written.map_err(WriteFailure::into_error)?;
        self.state.write().manifest = manifest;
        Ok(())
    }

    /// Syncs and marks where the log ends, so that the next open can tell damage from a torn end. Later
    /// appends answer `Closed`.
    ///
    /// # Errors
    /// As [`Log::sync`] and [`Log::update_manifest`]; then the next open is that after a crash.
    pub fn close_clean(&self) -> Result<()> {
        self.sync()?;
        let tail = self.tail.lock();
        self.closed.store(true, Ordering::SeqCst);
        self.update_manifest(|manifest| manifest.closed = Some(tail.synced))
    }

    fn check_usable(&self) -> Result<()> {
        if self.poisoned.load(Ordering::SeqCst) {
            return Err(poisoned());
        }
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Closed, "the log is closed; open it again"));
        }
        Ok(())
    }
}

/// Takes an epoch whose numbers nothing can have used: above the highest that MANIFEST knows, and above all
/// records. MANIFEST knows every epoch before its first record is written, so this holds also where the
/// records of the last epoch were lost or cut. Only after a clean end is an epoch that has no records unused.
fn start_epoch(manifest: &mut Manifest, end: End) -> Result<()> {
    let unused = manifest.closed.take().is_some() && manifest.epoch > end.sequence >> 32;
    #[cfg(test)]
    let unused = unused || (planted::is(Planted::ReuseSequences) && manifest.epoch > 0);
    if !unused {
        manifest.epoch = manifest.epoch.max(end.sequence >> 32) + 1;
    }
    #[cfg(test)]
    if planted::is(Planted::KeepClosedMark) {
        manifest.closed = Some(end);
    }
    manifest.durable = manifest.durable.max(end.sequence);
    manifest.generation += 1;
    if manifest.epoch > tail::LAST_EPOCH {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "all record numbers are used up; copy the data into a new database",
        ));
    }
    Ok(())
}

/// Removes what an interrupted merge, segment or MANIFEST left; only names that are this log's own.
fn remove_leftovers(files: &dyn Files, dir: &Path, manifest: &Manifest) -> Result<Vec<String>> {
    let failed = |error| file_failed("log.open", dir, error);
    let base = manifest.base.map(|base| base::file_name(base.number));
    let mut removed = Vec::new();
    for name in files.list(dir).map_err(failed)? {
        let leftover = match segment::id_of(&name) {
            Some(id) => id < manifest.first_segment || id > manifest.last_segment,
            None if name == manifest::MANIFEST_NEXT => true,
            None => (name.starts_with("base-") || name.starts_with("run-")) && Some(&name) != base.as_ref(),
        };
        if leftover {
            files.remove_file(&dir.join(&name)).map_err(failed)?;
            removed.push(name);
        }
    }
    if !removed.is_empty() {
        files.sync_dir(dir).map_err(failed)?;
    }
    Ok(removed)
}
