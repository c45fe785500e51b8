//! The seam: what every storage engine gives its partition, and nothing about how.
//!
//! One `Engine` value holds one partition. Everything above this file must work with an engine that
//! is shared by several processes and answers reads over a network.

pub mod local;
pub mod memory;

use std::fmt;
use std::ops::Bound;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::error::{Error, Result};

/// The number of one committed operation; also the version of every key it wrote.
///
/// An epoch starts at the next multiple of 2^32, so a number is never used twice, also not after a
/// tail was cut, and stays below 2^53.
pub type Sequence = u64;

/// An encoded key is at most this long.
pub const MAX_KEY_BYTES: usize = 1_024;
/// One operation writes at most this many bytes, keys and values together: the largest document, and room for
/// its index entries, events and bookkeeping. A lower limit would refuse documents that are legal by themselves.
pub const MAX_OPERATION_BYTES: usize = (1 << 20) + (128 << 10);
/// One operation writes at most this many keys.
pub const MAX_OPERATION_KEYS: usize = 10_000;
/// A page ends at this many entries, or before where they are large.
pub const MAX_PAGE_ENTRIES: usize = 1_000;
/// A page ends behind the entry with which it has this many bytes.
pub const MAX_PAGE_BYTES: usize = 1 << 20;

/// A value and the operation that last wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The bytes as they were put.
    pub value: Bytes,
    /// The operation that put them.
    pub sequence: Sequence,
}

/// One key of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The whole key.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
    /// The operation that put it.
    pub sequence: Sequence,
}

/// The keys from `start` up to and without `end`; no `end` means to the last key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyRange {
    /// The first key that belongs to the range.
    pub start: Bytes,
    /// The first key behind the range.
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// Every key that starts with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        Self { start: Bytes::copy_from_slice(prefix), end: after_prefix(prefix) }
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && self.end.as_ref().is_none_or(|end| key < &end[..])
    }

    /// Whether no key can lie in the range.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }

    /// The range in the form ordered maps take.
    pub fn bounds(&self) -> (Bound<Bytes>, Bound<Bytes>) {
        let end = self.end.clone().map_or(Bound::Unbounded, Bound::Excluded);
        (Bound::Included(self.start.clone()), end)
    }
}

/// The first key that no longer starts with `prefix`; none when every byte is 0xff.
pub fn after_prefix(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|&byte| byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end.into())
}

/// Which end of a range a scan starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// Lowest key first.
    #[default]
    Forward,
    /// Highest key first.
    Backward,
}

/// One read that a run of operations asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Read {
    /// One key.
    Get(Bytes),
    /// At most `limit` entries of a range.
    Scan {
        /// Which keys.
        range: KeyRange,
        /// From which end.
        direction: Direction,
        /// At most this many.
        limit: usize,
    },
}

/// What one [`Read`] gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Of a `Get`.
    Value(Option<Versioned>),
    /// Of a `Scan`.
    Entries(Vec<KeyValue>),
}

/// The keys of one partition as of one sequence; sees a whole operation or none of it.
///
/// A snapshot is held for one call or one page, never across a wait for a caller: checkpoints wait
/// for older snapshots to end.
pub trait Snapshot: Send + Sync {
    /// The newest operation that is visible.
    fn sequence(&self) -> Sequence;
    /// The newest value of `key`, or none when it does not exist.
    fn get(&self, key: &[u8]) -> Result<Option<Versioned>>;
    /// The first entries of `range` in `direction`: at most `limit`, and a page that reached
    /// [`MAX_PAGE_BYTES`] ends early (never before its first entry).
    fn scan(&self, range: &KeyRange, direction: Direction, limit: usize) -> Result<Vec<KeyValue>>;
    /// Many reads in one call, answered in order.
    fn fetch(&self, reads: &[Read]) -> Result<Vec<Found>> {
        let answer = |read: &Read| match read {
            Read::Get(key) => self.get(key).map(Found::Value),
            Read::Scan { range, direction, limit } => self.scan(range, *direction, *limit).map(Found::Entries),
        };
        reads.iter().map(answer).collect()
    }
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets a key.
    Put {
        /// Which key.
        key: Bytes,
        /// To what.
        value: Bytes,
    },
    /// Removes a key.
    Delete {
        /// Which key.
        key: Bytes,
    },
    /// Adds to a counter (an `i64`, big-endian; absent counts as 0). Not a read: two adds never conflict.
    Add {
        /// Which counter.
        key: Bytes,
        /// How much.
        delta: i64,
    },
}

impl Write {
    /// The key that changes.
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put { key, .. } | Self::Delete { key } | Self::Add { key, .. } => key,
        }
    }

    /// Bytes of key and value.
    pub fn size(&self) -> usize {
        match self {
            Self::Put { key, value } => key.len() + value.len(),
            Self::Delete { key } => key.len(),
            Self::Add { key, .. } => key.len() + 8,
        }
    }
}

/// What happened to the thing an event names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// It is new.
    Created,
    /// It has a new value.
    Updated,
    /// Its owner removed it.
    Deleted,
    /// Its time to live ended.
    Expired,
}

impl EventKind {
    /// The stable text of this kind.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Deleted => "deleted",
            Self::Expired => "expired",
        }
    }
}

/// What one record means to people: one entry of the change feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The collection.
    pub collection: Arc<str>,
    /// The document.
    pub id: Arc<str>,
    /// What happened to it.
    pub kind: EventKind,
    /// The key whose `Put` in the same record holds the new value; empty when there is none.
    pub key: Bytes,
}

/// One operation's effects: the unit of the log. Either all of it is kept or nothing.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Record {
    /// Engine time in milliseconds, never below that of the record before.
    pub time: i64,
    /// What the writes mean.
    pub events: Vec<Event>,
    /// At most one write a key, in key order.
    pub writes: Vec<Write>,
}

impl Record {
    /// Bytes of all writes and events, as counted against [`MAX_OPERATION_BYTES`].
    pub fn len(&self) -> usize {
        let events: usize =
            self.events.iter().map(|event| event.collection.len() + event.id.len() + event.key.len()).sum();
        self.writes.iter().map(Write::size).sum::<usize>() + events
    }

    /// Whether the operation wrote nothing.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.events.is_empty()
    }
}

/// One key that a run relied on, with the version it saw; none means absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The key that was read.
    pub key: Bytes,
    /// What was seen there.
    pub sequence: Option<Sequence>,
}

/// Consecutive records that become durable together.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// The number the first record is expected to get.
    pub first: Sequence,
    /// What the reads of the group saw. Engines that answer `exclusive` may ignore them.
    pub checks: Vec<Check>,
    /// Some operation relied on the whole partition being unchanged since `first - 1`.
    pub stable: bool,
    /// The records in order; none is empty.
    pub records: Vec<Record>,
}

/// How a commit ended, where it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Committed {
    /// Durable; the first record got this number, the others the ones behind it.
    At(Sequence),
    /// A check failed or the partition moved on: nothing was written, run the operations again.
    Conflict,
}

/// How much space the writes of an operation take in the long run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// New data: refused first when space ends.
    Grows,
    /// Deletes, completions and reads: accepted until the reserve is used, because they give space back or take none.
    Shrinks,
}

/// One committed record as read back for the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedRecord {
    /// Its number.
    pub sequence: Sequence,
    /// Its content.
    pub record: Record,
}

/// When an answer may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Durability {
    /// In the operating system: survives the death of the process; on disk at most 1 s later.
    Written,
    /// On disk: survives a power cut.
    #[default]
    Synced,
    /// On the disks of the in-sync replicas.
    Replicated,
}

impl Durability {
    /// The stable text of this level.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Synced => "synced",
            Self::Replicated => "replicated",
        }
    }
}

impl FromStr for Durability {
    type Err = Error;

    /// The level with this stable text; `InvalidInput` where there is none.
    fn from_str(name: &str) -> Result<Self> {
        let found = [Self::Written, Self::Synced, Self::Replicated].into_iter().find(|level| level.name() == name);
        let none = || Error::invalid("the durability is written, synced or replicated").with("durability", name);
        found.ok_or_else(none)
    }
}

/// Storage of one partition.
///
/// Calls block; the partition's own threads make them. After an error of kind `Ambiguous` from
/// `commit` the engine takes no more writes until it is opened again.
pub trait Engine: Send + Sync + fmt::Debug {
    /// Whether this process alone writes, so that checks can never fail and the next group may run
    /// while this one is being committed.
    fn exclusive(&self) -> bool;
    /// Whether reads are answered without a round trip. Where not, runs collect what they need first.
    fn reads_at_hand(&self) -> bool;
    /// The level that every commit reaches before it returns.
    fn durability(&self) -> Durability;
    /// The newest durable state.
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>>;
    /// The number of the newest durable operation and its engine time.
    fn newest(&self) -> (Sequence, i64);
    /// Whether writes of this kind are taken at the moment; checked before any of them is run.
    fn admit(&self, growth: Growth) -> Result<()>;
    /// Writes the records, durable at [`Engine::durability`], all or none, and makes them visible to snapshots.
    fn commit(&self, group: Group) -> Result<Committed>;
    /// Durable records behind `after`, oldest first: at most `limit`, ending early at [`MAX_PAGE_BYTES`].
    /// `Expired` when they are no longer kept.
    fn history(&self, after: Sequence, limit: usize) -> Result<Vec<CommittedRecord>>;
    /// The oldest `after` that [`Engine::history`] still takes.
    fn oldest(&self) -> Sequence;
    /// Reads everything that is stored and says in words what is damaged: nothing when all is well.
    fn check(&self) -> Result<Vec<String>>;
    /// Waits for background work, marks a clean end and gives files back. Later calls answer `Closed`.
    fn close(&self, within: Duration) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A prefix that ends in 0xff must not lose the keys behind its successor's length.
    #[test]
    fn a_prefix_range_ends_at_the_first_other_key() {
        assert_eq!(after_prefix(b"ab"), Some(Bytes::from_static(b"ac")));
        assert_eq!(after_prefix(b"a\xff\xff"), Some(Bytes::from_static(b"b")));
        assert_eq!(after_prefix(b"\xff"), None);
        let range = KeyRange::prefix(b"a\xff");
        assert!(range.contains(b"a\xff\xff\xff") && !range.contains(b"b"));
    }
}
