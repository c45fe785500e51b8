//! Room: segments made ahead of need, a reserve for deletes, and what goes when it is no longer needed.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::failure::file_failed;
use super::manifest::{self, MANIFEST_NEXT, Manifest, WriteFailure};
use super::segment::Spare;
use super::{Log, LogOptions};
use crate::engine::{Growth, MAX_OPERATION_BYTES, MAX_OPERATION_KEYS, Sequence};
use crate::env::files::{Files, OpenMode};
use crate::error::{Error, ErrorKind, Result};

/// A file that is given up when the disk is full, so that MANIFEST can still be replaced: without it a
/// full disk could not be opened, and nothing could be deleted from it.
pub const BALLAST: &str = "ballast";
const BALLAST_BYTES: u32 = 64 << 10;
/// A share of a large disk is more than anybody needs to get out of the way.
const MOST_LOW_SPACE: u64 = 2 << 30;
/// Writes that grow are taken without a look at the disk at most this often: others use it too.
const MOST_UNASKED: u64 = 64;
/// Shrinking writes are refused once even the largest of them might not fit.
const LARGEST_RECORD: u32 = 1_320 << 10;
/// What a record holds besides the bytes that are counted: its frame and link, and 7 bytes for each key and event.
const _: () = assert!(MAX_OPERATION_BYTES + 2 * 7 * MAX_OPERATION_KEYS + 128 <= LARGEST_RECORD as usize);

/// Room on the disk that is spoken for until this is dropped.
#[derive(Debug)]
pub struct Room<'a> {
    claimed: &'a AtomicU64,
    bytes: u64,
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.claimed.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

/// What beside the appends is going to write, in bytes.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// The view's drain, which must not find the disk full: segments and merges leave it so much.
    view: AtomicU64,
    /// A merge, which gives up and tries again.
    merge: AtomicU64,
}

impl Claims {
    fn all(&self) -> u64 {
        self.view.load(Ordering::SeqCst) + self.merge.load(Ordering::SeqCst)
    }
}

impl Log {
    /// Speaks for `bytes` of the disk for the view's store, which cannot go on once it found the disk full.
    ///
    /// # Errors
    /// `StorageFull` when there is not so much beside what others spoke for; nothing is kept for anybody then.
    pub fn room_for_view(&self, bytes: u64) -> Result<Room<'_>> {
        let room = self.speak_for(&self.claims.view, bytes)?;
        // Writes that were taken without a look at the disk were counted without this.
        self.admitted.store(0, Ordering::Relaxed);
        Ok(room)
    }

    /// As [`Log::room_for_view`], for a merge.
    pub(super) fn room_for_merge(&self, bytes: u64) -> Result<Room<'_>> {
        self.speak_for(&self.claims.merge, bytes)
    }

    fn speak_for<'a>(&'a self, claimed: &'a AtomicU64, bytes: u64) -> Result<Room<'a>> {
        claimed.fetch_add(bytes, Ordering::SeqCst);
        let room = Room { claimed, bytes };
        let (free, needed) = (self.free("log.room")?, self.claims.all());
        if free < needed {
            let error = Error::new(ErrorKind::StorageFull, "there is not enough room on the disk; free space");
            return Err(error.with("free", free).with("needed", needed));
        }
        Ok(room)
    }

    fn free(&self, doing: &'static str) -> Result<u64> {
        let space = self.files.space(&self.dir).map_err(|error| file_failed(doing, &self.dir, error))?;
        Ok(space.free)
    }

    /// Whether writes of this kind are taken at the moment; to be asked before any of them is run.
    ///
    /// # Errors
    /// `StorageFull`, `Unavailable`, `Closed`: do not write.
    pub fn admit(&self, growth: Growth) -> Result<()> {
        self.check_usable()?;
        let refused = |why, free: u64| {
            Error::new(ErrorKind::StorageFull, why).with("directory", self.dir.display()).with("free", free)
        };
        let full = |free| refused("the disk is nearly full; free space, or delete what is not needed", free);
        let (spares, segment) = {
            let state = self.state.read();
            (state.spares.len(), state.spares.front().map_or(self.options.segment_bytes, |spare| spare.bytes))
        };
        let short = self.short_of_space.load(Ordering::Relaxed);
        match growth {
            Growth::Grows => {
                if short && spares <= self.options.reserve_segments {
                    return Err(full(0));
                }
                // The system is asked again only after as many writes as cannot use up what was seen beyond the limit.
                let asked = self.admitted.fetch_sub(1, Ordering::Relaxed);
                if asked > 1 {
                    return Ok(());
                }
                let space = self.files.space(&self.dir).map_err(|error| file_failed("log.admit", &self.dir, error))?;
                let low = low_space(&self.options, space.total);
                let spoken_for = self.claims.view.load(Ordering::SeqCst);
                let limit = low + spoken_for;
                let beyond = space.free.saturating_sub(limit) / 2 / u64::from(LARGEST_RECORD);
                self.admitted.store(beyond.min(MOST_UNASKED).cast_signed(), Ordering::Relaxed);
                if space.free >= limit {
                    Ok(())
                } else if space.free >= low {
                    let why = "the disk has no room to spare while the view is written to it; retry in a moment, or free space";
                    Err(refused(why, space.free).with("spoken_for", spoken_for))
                } else {
                    Err(full(space.free))
                }
            }
            // A group that needs a segment makes one where it can, so only a failed try counts.
            Growth::Shrinks if short && spares == 0 && self.room() < LARGEST_RECORD.min(segment / 2) => Err(full(0)),
            Growth::Shrinks => Ok(()),
        }
    }

    fn room(&self) -> u32 {
        let state = self.state.read();
        state
            .segments
            .last()
            .map_or(0, |active| active.header.bytes - state.visible.position.offset.min(active.header.bytes))
    }

    /// Whether [`Log::maintain`] has something to do.
    pub fn maintenance_due(&self) -> bool {
        self.state.read().spares.len() <= self.options.reserve_segments || self.droppable().is_some()
    }

    /// Makes the next segments ahead of need and lets segments go that nothing needs. To be called beside
    /// the appends whenever it is due, so that no append has to wait for it.
    ///
    /// # Errors
    /// `StorageFull`: fewer segments than wanted; writes that grow are refused until there is room.
    pub fn maintain(&self) -> Result<()> {
        self.check_usable()?;
        self.drop_segments()?;
        while self.state.read().spares.len() <= self.options.reserve_segments {
            self.prepare_spare()?;
        }
        Ok(())
    }

    /// Makes one more segment, named in MANIFEST before it can be written to: so no file that holds records
    /// is ever taken for a leftover.
    pub(super) fn prepare_spare(&self) -> Result<()> {
        let _one_at_a_time = self.preparing.lock();
        self.check_usable()?;
        let (id, spares) = {
            let state = self.state.read();
            (state.manifest.last_segment + 1, state.spares.len())
        };
        // The last one is for writes that give space back; any other can wait for who spoke for the room.
        let drains = self.claims.view.load(Ordering::SeqCst) > 0;
        let needed = u64::from(self.options.segment_bytes) + self.claims.all();
        if drains && spares > 0 && self.free("log.prepare")? < needed {
            self.short_of_space.store(true, Ordering::Relaxed);
            let error = Error::new(ErrorKind::StorageFull, "the next segment waits for room on the disk; free space");
            return Err(error.with("needed", needed));
        }
        // The ballast comes first: a segment in its place would leave no room to open again.
        let made = make_ballast(&*self.files, &self.dir)
            .and_then(|()| Spare::create(&*self.files, &self.dir, id, self.options.segment_bytes))
            .map_err(|error| file_failed("log.prepare", &self.dir.join(super::segment::file_name(id)), error))
            .and_then(|spare| {
                self.sync_dir()?;
                #[cfg(test)]
                if super::planted::is(super::Planted::UseUnnamedSegment) {
                    self.state.write().manifest.last_segment = id;
                    return Ok(spare);
                }
                self.update_manifest(|manifest| manifest.last_segment = id)?;
                Ok(spare)
            });
        let full = made.as_ref().is_err_and(|error| error.kind() == ErrorKind::StorageFull);
        self.short_of_space.store(full, Ordering::Relaxed);
        self.state.write().spares.push_back(made?);
        Ok(())
    }

    /// How many of the oldest segments may go, and the first one that stays.
    fn droppable(&self) -> Option<(usize, u64)> {
        let state = self.state.read();
        let folded = state.base.as_ref()?.footer.sequence;
        let needed: Sequence = state.manifest.checkpoint.needs_after().unwrap_or(Sequence::MAX);
        let mut kept: u64 = state.segments.iter().map(|segment| u64::from(segment.header.bytes)).sum();
        let mut count = 0;
        for (segment, next) in state.segments.iter().zip(state.segments.iter().skip(1)) {
            let end = next.before();
            let too_much = kept > self.options.retention_bytes;
            let too_old = state.visible.time.saturating_sub(end.time) > self.options.retention_ms;
            if end.sequence > folded || end.sequence > needed || !(too_much || too_old) {
                break;
            }
            kept -= u64::from(segment.header.bytes);
            count += 1;
        }
        (count > 0).then(|| (count, state.segments[count].id))
    }

    /// Removes segments that are folded into the base, that the view does not need, and that are beyond
    /// retention. MANIFEST forgets them first: a crash in between leaves files, never a gap.
    pub(super) fn drop_segments(&self) -> Result<()> {
        let _one_at_a_time = self.preparing.lock();
        self.check_usable()?;
        let Some((count, first)) = self.droppable() else { return Ok(()) };
        self.update_manifest(|manifest| manifest.first_segment = first)?;
        let dropped: Vec<_> = self.state.write().segments.drain(..count).collect();
        for segment in dropped {
            self.files.remove_file(&segment.path).map_err(|error| file_failed("log.maintain", &segment.path, error))?;
        }
        self.sync_dir()
    }

    /// A failed directory sync stops the log as any failed sync does.
    pub(super) fn sync_dir(&self) -> Result<()> {
        #[cfg(test)]
        if super::planted::is(super::Planted::SkipDirectorySync) {
            return Ok(());
        }
        self.files.sync_dir(&self.dir).map_err(|error| {
            self.poisoned.store(true, Ordering::SeqCst);
            file_failed("log.sync", &self.dir, error)
        })
    }
}

/// Below so many free bytes a disk of `total` bytes is nearly full.
fn low_space(options: &LogOptions, total: u64) -> u64 {
    options.low_space_bytes.max((total / 100 * options.low_space_percent).min(MOST_LOW_SPACE))
}

/// Replaces MANIFEST; on a full disk the ballast goes first.
pub fn write_manifest(files: &dyn Files, dir: &Path, manifest: &Manifest) -> Result<(), WriteFailure> {
    match manifest::write(files, dir, manifest) {
        Err(WriteFailure::Before(error)) if error.kind() == ErrorKind::StorageFull => {
            for name in [BALLAST, MANIFEST_NEXT] {
                files.remove_file(&dir.join(name)).ok();
            }
            manifest::write(files, dir, manifest).map_err(|failure| match failure {
                WriteFailure::Before(_) => WriteFailure::Before(error),
                unknown @ WriteFailure::Unknown(_) => unknown,
            })
        }
        result => result,
    }
}

/// Keeps the ballast in place. Neither its name nor its length need survive a crash: what is missing is made again.
pub fn make_ballast(files: &dyn Files, dir: &Path) -> io::Result<()> {
    let path = dir.join(BALLAST);
    let mode = if files.exists(&path)? { OpenMode::Existing } else { OpenMode::CreateNew };
    let result = files.open(&path, mode).and_then(|file| file.allocate(u64::from(BALLAST_BYTES)));
    if result.is_err() {
        files.remove_file(&path).ok();
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    // Of a disk of four terabytes a share of 5 % is more than most people ever store: they would be refused with 200 GB free.
    #[test]
    fn a_large_disk_is_not_full_with_gigabytes_free() {
        let least = |total: u64| low_space(&LogOptions::default(), total) >> 20;
        assert_eq!([least(100 << 20), least(10 << 30), least(4 << 40)], [64, 511, 2_048]);
    }
}
