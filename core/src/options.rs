//! Settings of a database: plain data with defaults that need no change.

use std::time::Duration;

use crate::engine::Durability;

/// Where the documents are kept for reading; the log is the truth in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ViewKind {
    /// In sled: more data than memory.
    #[default]
    Sled,
    /// In memory: all data must fit; opening reads the whole log.
    Memory,
}

/// Settings that are given at open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// When an answer may leave.
    pub durability: Durability,
    /// What answers reads.
    pub view: ViewKind,
    /// Bytes of operations that may wait for the committer, over the whole process.
    pub intake_bytes: usize,
    /// How long a call waits for room before it answers `Overloaded`.
    pub deadline: Duration,
    /// Two memtables of this size hold what is not in the view's store yet.
    pub memtable_bytes: usize,
    /// Bytes of the record cache before the view's store.
    pub cache_bytes: usize,
    /// The log is kept for the change feed up to this many bytes,
    pub log_retention_bytes: u64,
    /// or for this long, whichever is less.
    pub log_retention: Duration,
    /// One segment of the log.
    pub segment_bytes: u64,
    /// The tail may grow to this, or to the size of the base, before it is merged.
    pub merge_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::Synced,
            view: ViewKind::Sled,
            intake_bytes: 16 << 20,
            deadline: Duration::from_secs(10),
            memtable_bytes: 32 << 20,
            cache_bytes: 32 << 20,
            log_retention_bytes: 1 << 30,
            log_retention: Duration::from_secs(7 * 24 * 3_600),
            segment_bytes: 32 << 20,
            merge_bytes: 256 << 20,
        }
    }
}
