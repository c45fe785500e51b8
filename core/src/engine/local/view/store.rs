//! The ordered map below the memtables: what the view asks of it, and how it fails.

use std::fmt;

use bytes::Bytes;

use super::digest::Digest;
use crate::engine::{Direction, KeyRange, Sequence, Versioned};
use crate::error::{Error, ErrorKind};

/// A store hands out at most this many entries a call, so that no call holds its pages for long.
pub const STORE_PAGE_ENTRIES: usize = 256;

/// The store cannot be trusted any more: leave it where it is and rebuild the view from the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abandoned {
    /// What was seen, for the operator.
    pub reason: String,
}

/// A reason has at most so many bytes: some panics of sled print everything that it holds.
const MAX_REASON: usize = 400;

impl Abandoned {
    /// The store failed because of `reason`, of which the beginning is kept.
    pub fn new(reason: impl fmt::Display) -> Self {
        let mut reason = reason.to_string();
        if reason.len() > MAX_REASON {
            reason.truncate(reason.floor_char_boundary(MAX_REASON));
            reason.push_str(" ...");
        }
        Self { reason }
    }
}

impl fmt::Display for Abandoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl From<Abandoned> for Error {
    fn from(abandoned: Abandoned) -> Self {
        Self::new(ErrorKind::Unavailable, "the view was abandoned and has to be rebuilt from the log")
            .with("reason", abandoned.reason)
    }
}

/// The answer of a store.
pub type StoreResult<T> = Result<T, Abandoned>;

/// The value of a scanned entry, or where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredValue {
    /// At hand.
    Whole(Bytes),
    /// Kept apart; [`Ordered::load`] fetches it.
    Parts {
        /// Its bytes in all.
        length: u32,
        /// CRC32C of all of them.
        checksum: u32,
    },
}

/// One entry of a scan.
///
/// Large values stay behind until they are asked for: an entry that a memtable hides may be half
/// rewritten by the drain, and only the entries that win the merge are stable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    /// The whole key.
    pub key: Bytes,
    /// The operation that put it.
    pub sequence: Sequence,
    /// Its value.
    pub value: StoredValue,
}

/// What the drain wants one key to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which key.
    pub key: Bytes,
    /// Its new state; none removes it.
    pub state: Option<Versioned>,
}

/// A persistent ordered map of versioned values; the read index of one partition.
///
/// One thread writes at a time, any number read. Every answer is right or [`Abandoned`]; once that
/// was answered every later call answers it too.
pub trait Ordered: Send + Sync + fmt::Debug {
    /// The value of `key`.
    fn get(&self, key: &[u8]) -> StoreResult<Option<Versioned>>;
    /// Which operation put each of `keys`; cheapest in their order.
    fn sequences_of(&self, keys: &[Bytes]) -> StoreResult<Vec<Option<Sequence>>>;
    /// The first entries of `range`: at most `limit` and at most [`STORE_PAGE_ENTRIES`].
    fn scan(&self, range: &KeyRange, direction: Direction, limit: usize) -> StoreResult<Vec<StoredEntry>>;
    /// The value of a scanned entry that no drain has touched since the scan.
    fn load(&self, entry: &StoredEntry) -> StoreResult<Bytes>;
    /// Makes the changes one after another; whether reads see them before the next flush is open. Making them again leaves
    /// the same state.
    fn write(&self, changes: Vec<Change>) -> StoreResult<()>;
    /// Frees what a write left behind that was interrupted by a crash. All is flushed.
    fn sweep(&self) -> StoreResult<()>;
    /// Returns when reads see all changes so far and they survive a power cut.
    fn flush(&self) -> StoreResult<()>;
    /// Whether the content is there after the process has ended.
    fn is_persistent(&self) -> bool;

    /// Gives files back; later calls answer [`Abandoned`].
    fn close(&self) -> StoreResult<()>;
}

/// Reads every entry and value of `store`; none when `stop` was set before the end.
pub fn scan_digest(store: &dyn Ordered, salt: u64, go_on: &dyn Fn() -> bool) -> StoreResult<Option<Digest>> {
    let mut digest = Digest::default();
    let mut range = KeyRange { start: Bytes::new(), end: None };
    loop {
        if !go_on() {
            return Ok(None);
        }
        let page = store.scan(&range, Direction::Forward, STORE_PAGE_ENTRIES)?;
        let Some(last) = page.last() else { return Ok(Some(digest)) };
        range.start = behind(&last.key);
        for entry in &page {
            // A lost or mixed-up part is damage that key and sequence do not show.
            store.load(entry)?;
            digest.add(salt, &entry.key, entry.sequence);
        }
    }
}

/// The smallest key above `key`.
pub fn behind(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}
