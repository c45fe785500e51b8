//! Building a view anew: the base goes straight into an empty store, the tail follows through `apply`.

use std::ops::ControlFlow;
use std::path::Path;

use super::View;
use super::digest::Digest;
use super::memory_store::MemoryStore;
use super::options::{StoreState, ViewOptions};
use super::sled_store::SledStore;
use super::store::{Change, Ordered};
use crate::engine::{KeyValue, Sequence, Versioned};
use crate::error::{Error, ErrorKind, Result};

/// Entries handed to the store at a time.
const ENTRIES_A_CALL: usize = 512;
/// and bytes of them.
const BYTES_A_CALL: u64 = 1 << 20;
/// The store is flushed each time this many bytes are in, so that no flush has more than its deadline allows.
const BYTES_A_FLUSH: u64 = 64 << 20;

/// How far a rebuild has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Entries in the store.
    pub entries: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// A view over a fresh store that holds `base`, every live key as of `at`; and its digest.
///
/// `dir` is new or empty. When this returns the content is durable: the owner names directory,
/// sequence and digest in its manifest and applies the tail behind `at`.
///
/// # Errors
/// What `base` answers, `Unavailable` when the new store fails as well, `Cancelled` when `progress`
/// breaks off; the directory is of no use then.
pub fn rebuild(
    dir: Option<&Path>,
    options: ViewOptions,
    at: Sequence,
    base: impl IntoIterator<Item = Result<KeyValue>>,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<(View, Digest)> {
    let store: Box<dyn Ordered> = match dir {
        Some(dir) => Box::new(SledStore::open(dir, &options)?),
        None => Box::new(MemoryStore::default()),
    };
    let (mut digest, mut done) = (Digest::default(), Progress::default());
    let mut changes = Vec::with_capacity(ENTRIES_A_CALL);
    let (mut written, mut flushed) = (0, 0);
    for entry in base {
        let KeyValue { key, value, sequence } = entry?;
        digest.add(options.salt, &key, sequence);
        done.entries += 1;
        done.bytes += (key.len() + value.len()) as u64;
        changes.push(Change { key, state: Some(Versioned { value, sequence }) });
        if changes.len() == ENTRIES_A_CALL || done.bytes - written >= BYTES_A_CALL {
            written = done.bytes;
            store.write(std::mem::replace(&mut changes, Vec::with_capacity(ENTRIES_A_CALL)))?;
            if written - flushed >= BYTES_A_FLUSH {
                flushed = written;
                store.flush()?;
            }
            if progress(done).is_break() {
                return Err(Error::new(ErrorKind::Cancelled, "the rebuild of the view was broken off"));
            }
        }
    }
    store.write(changes)?;
    store.flush()?;
    let _ = progress(done);
    let view = View::over(store, options, StoreState::At { at, digest })?;
    Ok((view, digest))
}
