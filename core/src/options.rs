//! Settings of a database: plain data with defaults that need no change.

use std::str::FromStr;
use std::time::Duration;

use crate::engine::Durability;
use crate::engine::local::log::LogOptions;
use crate::engine::local::view::ViewOptions;
use crate::engine::local::{COMPARE_FIRST_KEYS, LocalOptions};
use crate::error::{Error, Result};

/// A smaller memtable would be drained all the time.
const MIN_MEMTABLE_BYTES: usize = 4 << 10;

/// Where the documents are kept for reading; the log is the truth in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ViewKind {
    /// In sled: more data than memory.
    #[default]
    Sled,
    /// In memory: all data must fit; opening reads the whole log.
    Memory,
}

impl ViewKind {
    /// The stable text of this kind.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sled => "sled",
            Self::Memory => "memory",
        }
    }
}

impl FromStr for ViewKind {
    type Err = Error;

    /// The kind with this stable text; `InvalidInput` where there is none.
    fn from_str(name: &str) -> Result<Self> {
        let found = [Self::Sled, Self::Memory].into_iter().find(|view| view.name() == name);
        found.ok_or_else(|| Error::invalid("the view is sled or memory").with("view", name))
    }
}

/// Who answers the calls of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// This process where no other one owns the data directory, else the owner; when that one ends, one of the others
    /// takes its place.
    #[default]
    Auto,
    /// This process alone: where another one owns the directory, opening it fails with `Locked`.
    Owner,
    /// Another process: where none owns the directory, calls fail with `Unavailable`.
    Client,
}

impl Mode {
    /// The stable text of this mode.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Owner => "owner",
            Self::Client => "client",
        }
    }
}

impl FromStr for Mode {
    type Err = Error;

    /// The mode with this stable text; `InvalidInput` where there is none.
    fn from_str(name: &str) -> Result<Self> {
        let found = [Self::Auto, Self::Owner, Self::Client].into_iter().find(|mode| mode.name() == name);
        found.ok_or_else(|| Error::invalid("the mode is auto, owner or client").with("mode", name))
    }
}

/// Settings that are given at open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether this process may own the data directory, and whether it may ask another one that does.
    pub mode: Mode,
    /// When an answer may leave.
    pub durability: Durability,
    /// What answers reads.
    pub view: ViewKind,
    /// Bytes of operations that may wait for the committer, over the whole process.
    pub intake_bytes: usize,
    /// How long a call waits for room before it answers `Overloaded`, and for another process that owns the directory
    /// before it answers `Unavailable`, or `Ambiguous` where it wrote.
    pub deadline: Duration,
    /// Two memtables of this size hold what is not in the view's store yet.
    pub memtable_bytes: usize,
    /// Bytes of the record cache before the view's store: room for about 100 000 hot documents of 300 bytes.
    pub cache_bytes: usize,
    /// The log is kept for the change feed up to this many bytes,
    pub log_retention_bytes: u64,
    /// or for this long, whichever is less.
    pub log_retention: Duration,
    /// One segment of the log.
    pub segment_bytes: u64,
    /// The tail may grow to this, or to the size of the base, before it is merged.
    pub merge_bytes: u64,
    /// The data directory may lie on a network file system (NFS, SMB, AFS), although locks and syncs may not hold there: two
    /// machines could own it at once.
    pub network_disk: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: Mode::Auto,
            durability: Durability::Synced,
            view: ViewKind::Sled,
            intake_bytes: 16 << 20,
            deadline: Duration::from_secs(10),
            memtable_bytes: 48 << 20,
            cache_bytes: 64 << 20,
            log_retention_bytes: 1 << 30,
            log_retention: Duration::from_hours(7 * 24),
            segment_bytes: 32 << 20,
            merge_bytes: 256 << 20,
            network_disk: false,
        }
    }
}

impl Options {
    /// The same settings in the terms of the local engine; `same_boot` as the directory lock found it.
    pub(crate) fn local(&self, same_boot: bool) -> Result<LocalOptions> {
        let segment_bytes = u32::try_from(self.segment_bytes).ok().filter(|bytes| (4 << 20..=1 << 30).contains(bytes));
        let segment_bytes = segment_bytes.ok_or_else(|| {
            Error::invalid("a segment of the log has 4 MiB to 1 GiB").with("segment_bytes", self.segment_bytes)
        })?;
        if self.memtable_bytes < MIN_MEMTABLE_BYTES || self.intake_bytes == 0 {
            let error = Error::invalid("a memtable has at least 4 KiB, and the intake takes at least a byte");
            let error = error.with("memtable_bytes", self.memtable_bytes);
            return Err(error.with("intake_bytes", self.intake_bytes));
        }
        let retention_ms = i64::try_from(self.log_retention.as_millis()).unwrap_or(i64::MAX);
        let log = LogOptions {
            durability: self.durability,
            segment_bytes,
            merge_tail_bytes: self.merge_bytes,
            retention_bytes: self.log_retention_bytes,
            retention_ms,
            ..LogOptions::default()
        };
        let view = ViewOptions {
            memtable_bytes: self.memtable_bytes,
            cache_bytes: self.cache_bytes,
            ..ViewOptions::default()
        };
        let (view_kind, room_wait) = (self.view, self.deadline);
        Ok(LocalOptions { log, view, view_kind, same_boot, compare_first_keys: COMPARE_FIRST_KEYS, room_wait })
    }
}
