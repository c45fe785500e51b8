//! How failures of files and bytes become errors that tell the caller what to do.

use std::io;
use std::path::Path;

use crate::error::{Error, ErrorKind};

/// A call on a file failed before anything was at stake: the same call may be made again later.
pub fn file_failed(operation: &'static str, path: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::StorageFull,
        io::ErrorKind::UnexpectedEof => ErrorKind::Damaged,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, "a file of the log could not be used")
        .with("file", path.display())
        .during(operation)
        .caused_by(error)
}

/// Stored bytes are not what was written.
pub fn damaged(path: &Path, offset: u64, what: &str) -> Error {
    Error::new(ErrorKind::Damaged, format!("{what}; restore this file from a copy, then open again"))
        .with("file", path.display())
        .with("offset", offset)
}

/// What calls answer once a write or sync has failed.
pub fn poisoned() -> Error {
    Error::new(ErrorKind::Unavailable, "the log stopped after a failed write or sync; open it again")
}
