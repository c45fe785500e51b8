//! The lock that makes one process the owner of a data directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

use super::host::host_text;

const FILE_NAME: &str = "LOCK";
/// What the kernel draws anew at each start of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Pid and boot id are shorter.
const TEXT_BYTES: u64 = 128;

/// Held as long as the value lives; the system gives it up when the process dies, however it dies.
#[derive(Debug)]
pub struct DirectoryLock {
    /// A child of this process must not keep the directory from the next owner.
    #[cfg(unix)]
    _guard: Option<super::fork::Guard>,
    file: File,
    same_boot: bool,
}

impl DirectoryLock {
    /// Takes the lock of `directory`, which must exist.
    ///
    /// # Errors
    /// `Locked` with the holder's pid; `Unavailable` when the file cannot be made.
    pub fn take(directory: &Path) -> Result<Self> {
        let path = directory.join(FILE_NAME);
        let failed = |error: std::io::Error| {
            let error = Error::new(ErrorKind::Unavailable, "the lock file cannot be used").caused_by(error);
            error.with("file", path.display())
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        // Guarded before the lock is taken, so that no child is ever born with it.
        #[cfg(unix)]
        let (mut file, guard) = super::fork::Guard::opened(|| options.open(&path)).map_err(failed)?;
        #[cfg(not(unix))]
        let mut file = options.open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held_by_another(&mut file, directory)),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let mut before = String::new();
        // A file that is not ours says nothing; it is replaced.
        let _ = (&file).take(TEXT_BYTES).read_to_string(&mut before);
        let known = before.lines().nth(1).unwrap_or_default();
        let same_boot = boot_id().is_some_and(|boot| boot == known);
        note(&file, known);
        Ok(Self {
            #[cfg(unix)]
            _guard: guard,
            file,
            same_boot,
        })
    }

    /// Notes that the directory was brought to a state that this start of the machine can rely on. Before
    /// that a process which was killed while it compared would let the next one skip the comparison.
    pub fn settle(&self) {
        note(&self.file, &boot_id().unwrap_or_default());
    }

    /// Whether the machine has not been started again since the directory was last owned: then its files
    /// are as that process wrote them, however it ended.
    pub fn same_boot(&self) -> bool {
        self.same_boot
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // Closing the file would not do while a child that was just forked has it too, until it executes its
        // own program: the next open would be refused although nobody holds the directory.
        if let Err(error) = self.file.unlock() {
            tracing::debug!(%error, "the lock goes with its file instead");
        }
    }
}

fn boot_id() -> Option<String> {
    host_text(BOOT_ID).map(|id| id.trim().to_owned()).filter(|id| !id.is_empty())
}

/// The pid is for the message below; the lock itself is the kernel's. So a disk that is too full for the
/// text does not keep anybody from opening and making room.
fn note(mut file: &File, boot: &str) {
    let text = format!("{}\n{boot}\n", std::process::id());
    let written = file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(text.as_bytes()));
    if let Err(error) = written.and_then(|()| file.set_len(text.len() as u64)) {
        tracing::warn!(%error, "the lock file does not name its holder");
    }
}

/// The process that holds the lock of `directory`, or held it last.
pub fn holder(directory: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(directory.join(FILE_NAME)).ok()?;
    text.lines().next()?.parse().ok()
}

fn held_by_another(file: &mut File, directory: &Path) -> Error {
    let mut text = String::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.take(TEXT_BYTES).read_to_string(&mut text));
    let pid = match (read, text.lines().next()) {
        (Ok(_), Some(pid)) if !pid.is_empty() => pid.to_owned(),
        _ => "unknown".to_owned(),
    };
    let message = if pid == std::process::id().to_string() {
        "this process has the directory open already; share that handle"
    } else {
        "another process has the directory open; stop it, or use its server"
    };
    Error::new(ErrorKind::Locked, message).with("pid", pid).with("directory", directory.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second opener must learn who holds the directory, and get it once the first is gone.
    #[test]
    fn the_second_opener_learns_the_holder() {
        let directory = tempfile::tempdir().expect("a directory is made");
        let held = DirectoryLock::take(directory.path()).expect("it is free");
        let refused = DirectoryLock::take(directory.path()).expect_err("it is held");
        assert_eq!(refused.kind(), ErrorKind::Locked);
        assert!(refused.to_string().contains(&format!("pid={}", std::process::id())), "{refused}");
        assert!(!held.same_boot(), "nobody owned it before");
        drop(held);
        let held = DirectoryLock::take(directory.path()).expect("it is free again");
        assert!(!held.same_boot(), "the one before was killed while it opened");
        held.settle();
        // Stands for a child between its fork and its own program.
        let inherited = held.file.try_clone().expect("a second handle");
        drop(held);
        let again = DirectoryLock::take(directory.path()).expect("it is free again");
        assert_eq!(again.same_boot(), boot_id().is_some());
        drop(inherited);
        drop(again);
        std::fs::write(directory.path().join(FILE_NAME), "1\nanother start of the machine\n").expect("it is written");
        assert!(!DirectoryLock::take(directory.path()).expect("it is free").same_boot());
    }
}
