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
pub mod planted;
mod reader;
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
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

#[allow(unused_imports, reason = "the engine above names only some of the types it handles")]
pub use self::{
    base::{BaseEntry, BaseIter},
    manifest::{Checkpoint, Digest, End, Identity, Manifest},
    merge::MergeOutcome,
    record::{ChainHash, DatabaseId, Position},
    recovery::{Cut, RecoveryReport},
    scan::TailIter,
    scrub::Damage,
    space::Room,
};

#[cfg(test)]
pub use planted::Planted;

use crate::engine::Durability;
use crate::env::files::Files;
use crate::error::{Error, ErrorKind, Result};
use base::Base;
use failure::{file_failed, poisoned};
use manifest::WriteFailure;
use segment::{Segment, Spare};
use tail::Tail;

/// How a log behaves; the defaults suit one partition a database.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// When records become visible to readers: when written, or when synced.
    pub durability: Durability,
    /// Bytes of a segment that is made from now on, 4 KiB to 1 GiB; no record may be larger. The defaults take
    /// four such files: the one in use, the next, and the reserve.
    pub segment_bytes: u32,
    /// Segments kept for writes that give space back.
    pub reserve_segments: usize,
    /// Writes that grow are refused below this many free bytes,
    pub low_space_bytes: u64,
    /// and below this share of the disk, of which 2 GiB count at most.
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

impl LogOptions {
    fn check(&self) -> Result<()> {
        if !(4 << 10..=1 << 30).contains(&self.segment_bytes) {
            return Err(Error::invalid("a segment has 4 KiB to 1 GiB").with("segment_bytes", self.segment_bytes));
        }
        Ok(())
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
    /// Writes that are still taken without a look at the room on the disk.
    admitted: AtomicI64,
    claims: space::Claims,
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
        options.check()?;
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
        sync_above(&*files, dir).map_err(failed)?;
        let spare = space::make_ballast(&*files, dir)
            .and_then(|()| Spare::create(&*files, dir, 1, options.segment_bytes))
            .map_err(failed)?;
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
        options.check()?;
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
        check_continues(&recovered.segments, start)?;
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
            admitted: AtomicI64::new(0),
            claims: space::Claims::default(),
            newest: AtomicU64::new(next - 1),
            merging: Mutex::new(()),
            tail: Mutex::new(Tail { appended: end, synced: end, next, dirty_since: None, buffer: Vec::new() }),
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

    /// The facts about this directory.
    pub fn manifest(&self) -> Manifest {
        self.state.read().manifest.clone()
    }

    /// Changes facts about this directory, durably: the view's name and checkpoint, and the highest gateway
    /// generation and configuration seen. All other fields are the log's own.
    ///
    /// # Errors
    /// `StorageFull`: nothing has changed. `Unavailable`: nothing has changed, or the log has stopped. `Closed`.
    pub fn update_manifest(&self, change: impl FnOnce(&mut Manifest)) -> Result<()> {
        let _one_at_a_time = self.writing_manifest.lock();
        self.check_usable()?;
        self.replace_manifest(change)
    }

    fn replace_manifest(&self, change: impl FnOnce(&mut Manifest)) -> Result<()> {
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

    /// Syncs and marks where the log ends, so that the next open can tell damage from a torn end. Waits for a
    /// merge to end (cancel it first): nothing may touch the directory once another process can open it.
    /// Later writes answer `Closed`; reads go on.
    ///
    /// # Errors
    /// As [`Log::sync`] and [`Log::update_manifest`]; then the next open is that after a crash.
    pub fn close_clean(&self) -> Result<()> {
        let _no_merge = self.merging.lock();
        self.sync()?;
        let tail = self.tail.lock();
        let _no_maintenance = self.preparing.lock();
        let _one_at_a_time = self.writing_manifest.lock();
        self.check_usable()?;
        self.closed.store(true, Ordering::SeqCst);
        // Nobody else appends once the log counts as closed, and what came between was not synced.
        if tail.synced != tail.appended {
            return Err(Error::new(ErrorKind::Unavailable, "records were appended while the log was being closed"));
        }
        self.replace_manifest(|manifest| manifest.closed = Some(tail.synced))
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

/// Base and tail must be parts of one chain, without a gap between them.
fn check_continues(segments: &[Arc<Segment>], base: End) -> Result<()> {
    if let Some(first) = segments.first().filter(|first| first.header.previous > base.sequence) {
        return Err(failure::damaged(&first.path, 0, "the segments between the base and this one are missing"));
    }
    let other = |segment: &&Arc<Segment>| segment.header.previous == base.sequence && segment.header.hash != base.hash;
    match segments.iter().find(other) {
        Some(segment) => Err(failure::damaged(&segment.path, 0, "this segment does not continue the base")),
        None => Ok(()),
    }
}

fn is_foreign(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::InvalidInput)
}

/// Makes the names on the way to `dir` durable: the directories above may be as new as itself, and without
/// their names everything in them is gone. One that may not be read, or cannot be synced, belongs to
/// somebody else and is older.
fn sync_above(files: &dyn Files, dir: &Path) -> std::io::Result<()> {
    for (above, dir) in dir.ancestors().skip(1).enumerate() {
        #[cfg(test)]
        if above > 0 && planted::is(Planted::ForgetDirectoriesAbove) {
            return Ok(());
        }
        // A relative path starts in the working directory.
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        match files.sync_dir(dir) {
            Err(error) if above > 0 && is_foreign(&error) => {
                return Ok(());
            }
            synced => synced?,
        }
    }
    Ok(())
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
