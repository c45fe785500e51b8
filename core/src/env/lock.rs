//! The lock that makes one process the owner of a data directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

const FILE_NAME: &str = "LOCK";

/// Held as long as the value lives; the system gives it up when the process dies, however it dies.
#[derive(Debug)]
pub struct DirectoryLock {
    file: File,
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
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held_by_another(&mut file, directory)),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // The text is for people and for the message above; the lock itself is the kernel's.
        let text = format!("{}\n", std::process::id());
        file.set_len(0).and_then(|()| file.write_all(text.as_bytes())).map_err(failed)?;
        Ok(Self { file })
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

fn held_by_another(file: &mut File, directory: &Path) -> Error {
    let mut text = String::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.take(32).read_to_string(&mut text));
    let pid = match read {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
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
        // Stands for a child between its fork and its own program.
        let inherited = held.file.try_clone().expect("a second handle");
        drop(held);
        DirectoryLock::take(directory.path()).expect("it is free again");
        drop(inherited);
    }
}
