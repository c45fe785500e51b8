//! The directories of views, and the files of sled in them as far as they have to be handled around it: what sled alone makes
//! and reads lies in the real file system, whatever the rest is kept in.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::options::{Planted, ViewOptions};
use super::store::{Abandoned, StoreResult};
use crate::env::files::{File, Files, OpenMode};

/// sled's own segment size; a segment starts with a header of this many bytes.
const SEGMENT_BYTES: u64 = 512 << 10;
const SEGMENT_HEADER_BYTES: u64 = 20;
/// sled lets go of its lock some time after its handle is dropped; mostly within a millisecond.
pub const LOCK_ATTEMPTS: u32 = 25;
const FIRST_LOCK_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_LOCK_PAUSE: Duration = Duration::from_millis(50);
/// The name that an abandoned directory gets beside its successor; only the newest is kept.
const QUARANTINE: &str = "quarantine";

/// Makes `dir` ready for sled and answers the descriptor its data is synced through.
///
/// The descriptor is opened before sled writes anything, because a failed write-back is reported
/// only to descriptors that were open when it happened.
pub fn prepare(files: &dyn Files, dir: &Path) -> StoreResult<Arc<dyn File>> {
    let prepare = || {
        files.create_dir_all(dir)?;
        remove_half_written_snapshots(dir)?;
        let data = open_or_make(files, &data_file(dir))?;
        read_segment_headers(&*data)?;
        Ok(data)
    };
    prepare().map_err(|error: io::Error| Abandoned::new(format!("the directory cannot be prepared: {error}")))
}

/// Opens a file, or makes it where there is none.
pub fn open_or_make(files: &dyn Files, path: &Path) -> io::Result<Arc<dyn File>> {
    let mode = if files.exists(path)? { OpenMode::Existing } else { OpenMode::CreateNew };
    files.open(path, mode)
}

/// Makes the names in `dir`, and `dir` itself, durable: sled syncs no directory.
pub fn sync_names(dir: &Path, options: &ViewOptions) -> io::Result<()> {
    if options.has(Planted::NamesNotSynced) {
        return Ok(());
    }
    let conf = dir.join("conf");
    if conf.exists() {
        fs::File::open(conf)?.sync_all()?;
    }
    options.files.sync_dir(dir)?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => options.files.sync_dir(parent),
        _ => Ok(()),
    }
}

/// sled's file, to ask whether it still locks it: opened while it surely is the one that sled has.
pub fn locked_file(dir: &Path) -> io::Result<fs::File> {
    fs::File::options().read(true).write(true).open(data_file(dir))
}

/// Waits until nobody holds sled's lock on `data`, a bounded time; whether it is free.
pub fn wait_for_lock(data: &fs::File) -> bool {
    (0..LOCK_ATTEMPTS).any(|attempt| {
        if attempt > 0 {
            pause_after(attempt);
        }
        flock(data, FlockOperation::NonBlockingLockExclusive)
            .is_ok_and(|()| flock(data, FlockOperation::Unlock).is_ok())
    })
}

/// The pause after so many attempts to get sled's lock; all of them last a second.
#[expect(clippy::disallowed_methods, reason = "nobody rings when another thread of sled lets a file lock go")]
pub fn pause_after(attempts: u32) {
    let doubled = FIRST_LOCK_PAUSE.saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1)));
    thread::sleep(doubled.min(LONGEST_LOCK_PAUSE));
}

/// The file that sled keeps everything in, and locks for itself.
pub fn data_file(dir: &Path) -> PathBuf {
    dir.join("db")
}

/// The data file's length; 0 where there is none.
pub fn data_bytes(dir: &Path) -> u64 {
    fs::metadata(data_file(dir)).map_or(0, |data| data.len())
}

/// A directory for the next view beside the ones in `parent`: `view-<n>`.
pub fn next(files: &dyn Files, parent: &Path) -> io::Result<PathBuf> {
    let names = files.list(parent)?;
    let numbers = names.iter().filter_map(|name| name.strip_prefix("view-")?.parse::<u64>().ok());
    Ok(parent.join(format!("view-{}", numbers.max().unwrap_or(0) + 1)))
}

/// Deletes the views in `parent` other than `keep`: what rebuilds that were broken off left behind.
pub fn remove_leftovers(files: &dyn Files, parent: &Path, keep: &Path) -> io::Result<()> {
    let names = files.list(parent)?;
    let views = names.iter().filter(|name| name.starts_with("view-")).map(|name| parent.join(name));
    for leftover in views.filter(|view| view != keep) {
        files.remove_dir_all(&leftover)?;
    }
    files.sync_dir(parent)
}

/// Moves an abandoned `dir` aside for inspection; one moved earlier is deleted. Its handle may stay open.
pub fn quarantine(files: &dyn Files, dir: &Path) -> io::Result<PathBuf> {
    let aside = dir.with_file_name(QUARANTINE);
    if files.exists(&aside)? {
        files.remove_dir_all(&aside)?;
    }
    files.rename(dir, &aside)?;
    files.sync_dir(aside.parent().expect("it was given a name beside another"))?;
    Ok(aside)
}

/// One that was not finished makes every later open fail. Nothing depends on it: segments are freed
/// only after its rename. A finished snapshot is never deleted.
fn remove_half_written_snapshots(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with("snap.") && name.ends_with(".generating")) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// sled drops a segment whose header it cannot read, also when the error would have passed.
fn read_segment_headers(data: &dyn File) -> io::Result<()> {
    let length = data.len()?;
    for start in (0..length).step_by(SEGMENT_BYTES as usize) {
        let mut header = vec![0; SEGMENT_HEADER_BYTES.min(length - start) as usize];
        data.read_at(&mut header, start)?;
    }
    Ok(())
}
