//! The files of a sled directory, as far as they have to be handled around sled.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::store::{Abandoned, StoreResult};

/// sled's own segment size; a segment starts with a header of this many bytes.
const SEGMENT_BYTES: u64 = 512 << 10;
const SEGMENT_HEADER_BYTES: usize = 20;
/// sled lets go of its lock some time after its handle is dropped.
pub const LOCK_ATTEMPTS: usize = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);
/// The name that an abandoned directory gets beside its successor; only the newest is kept.
const QUARANTINE: &str = "quarantine";

/// Makes `dir` ready for sled and answers the descriptor its data is synced through.
///
/// The descriptor is opened before sled writes anything, because a failed write-back is reported
/// only to descriptors that were open when it happened.
pub fn prepare(dir: &Path) -> StoreResult<File> {
    let prepare = || {
        fs::create_dir_all(dir)?;
        remove_half_written_snapshots(dir)?;
        let data = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(dir.join("db"))?;
        read_segment_headers(&data)?;
        Ok(data)
    };
    prepare().map_err(|error: io::Error| Abandoned::new(format!("the directory cannot be prepared: {error}")))
}

/// Makes the names in `dir`, and `dir` itself, durable: sled syncs no directory.
pub fn sync_names(dir: &Path) -> io::Result<()> {
    let conf = dir.join("conf");
    if conf.exists() {
        File::open(conf)?.sync_all()?;
    }
    File::open(dir)?.sync_all()?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

/// Waits until nobody holds sled's lock on `data`, a bounded time; whether it is free.
pub fn wait_for_lock(data: &File) -> bool {
    (0..LOCK_ATTEMPTS).any(|attempt| {
        if attempt > 0 {
            pause();
        }
        flock(data, FlockOperation::NonBlockingLockExclusive)
            .is_ok_and(|()| flock(data, FlockOperation::Unlock).is_ok())
    })
}

/// The pause between two attempts to get sled's lock.
#[expect(clippy::disallowed_methods, reason = "nobody rings when another thread of sled lets a file lock go")]
pub fn pause() {
    thread::sleep(LOCK_PAUSE);
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
pub fn next(parent: &Path) -> io::Result<PathBuf> {
    let mut newest = 0;
    for entry in fs::read_dir(parent)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("view-")?.parse::<u64>().ok());
        newest = newest.max(number.unwrap_or(0));
    }
    Ok(parent.join(format!("view-{}", newest + 1)))
}

/// Deletes the views in `parent` other than `keep`: what rebuilds that were broken off left behind.
pub fn remove_leftovers(parent: &Path, keep: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        let is_view = entry.file_name().to_str().is_some_and(|name| name.starts_with("view-"));
        if is_view && entry.path() != keep {
            fs::remove_dir_all(entry.path())?;
        }
    }
    File::open(parent)?.sync_all()
}

/// Moves an abandoned `dir` aside for inspection; one moved earlier is deleted. Its handle may stay open.
pub fn quarantine(dir: &Path) -> io::Result<PathBuf> {
    let aside = dir.with_file_name(QUARANTINE);
    if aside.exists() {
        fs::remove_dir_all(&aside)?;
    }
    fs::rename(dir, &aside)?;
    File::open(aside.parent().expect("it was given a name beside another"))?.sync_all()?;
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
fn read_segment_headers(data: &File) -> io::Result<()> {
    let length = data.metadata()?.len();
    let mut header = [0; SEGMENT_HEADER_BYTES];
    for start in (0..length).step_by(SEGMENT_BYTES as usize) {
        data.read_at(&mut header, start)?;
    }
    Ok(())
}
