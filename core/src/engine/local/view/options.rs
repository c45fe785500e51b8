//! What the owner of a view decides.

use std::sync::Arc;
use std::time::Duration;

use super::digest::Digest;
use crate::engine::Sequence;
use crate::env::files::{Files, SystemFiles};
use crate::error::Result;

/// Sizes and bounds of a view. The owner divides them among the partitions of a process.
#[derive(Clone, Debug)]
pub struct ViewOptions {
    /// Where its directories and the file of its blocks lie; an engine puts its own here. sled's files are real ones.
    pub files: Arc<dyn Files>,
    /// One memtable takes this many bytes; there are two of them.
    pub memtable_bytes: usize,
    /// The record cache takes at most this many bytes; 0 turns it off.
    pub cache_bytes: usize,
    /// What sled is told; it may use ten times that.
    pub sled_cache_bytes: u64,
    /// The file of its blocks is cut while it is in use once so many bytes at its end are free.
    pub cut_from_bytes: u64,
    /// The key of the digest: one number for the life of a database.
    pub salt: u64,
    /// A checkpoint waits this long for snapshots older than its freeze, then comes back later.
    pub snapshot_wait: Duration,
    /// Whether a drain that is repeated after a crash is compared with its digest before it is relied on;
    /// where not, the owner calls [`super::View::verify`] beside the reads.
    pub compare_repeated: bool,
    /// A store that does not answer a write or flush for this long is abandoned.
    pub store_deadline: Duration,
    /// What a test makes it do wrong.
    pub(crate) defect: Defect,
}

impl Default for ViewOptions {
    fn default() -> Self {
        Self {
            files: Arc::new(SystemFiles),
            memtable_bytes: 32 << 20,
            cache_bytes: 64 << 20,
            sled_cache_bytes: 16 << 20,
            cut_from_bytes: 64 << 20,
            salt: 0,
            snapshot_wait: Duration::from_secs(10),
            compare_repeated: true,
            store_deadline: Duration::from_secs(30),
            defect: Defect::default(),
        }
    }
}

impl ViewOptions {
    /// Whether a test asked for this defect.
    pub(super) fn has(&self, planted: Planted) -> bool {
        self.defect.is(planted)
    }
}

/// The defect that a test asked for, if any: outside of tests there is none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Defect {
    #[cfg(test)]
    planted: Option<Planted>,
}

impl Defect {
    /// Whether it is this one.
    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "only tests can plant a defect"))]
    pub(super) fn is(self, planted: Planted) -> bool {
        #[cfg(test)]
        return self.planted == Some(planted);
        #[cfg(not(test))]
        {
            let _ = planted;
            false
        }
    }
}

#[cfg(test)]
impl From<Option<Planted>> for Defect {
    fn from(planted: Option<Planted>) -> Self {
        Self { planted }
    }
}

/// Defects that the tests plant, each to see that some test notices it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// The drain does not wait for snapshots older than its freeze.
    DrainUnderSnapshot,
    /// A read fills the cache whatever happened since.
    FillAlways,
    /// A removed key stays in the digest.
    DigestKeepsDeleted,
    #[cfg(test)]
    /// The drain writes the oldest version of a key.
    DrainOldest,
    /// The cache is not told of writes.
    CacheNotTold,
    /// Operations are visible before they are published.
    ReadUnpublished,
    /// A range called dead stays so when a key is put into it.
    GapsNotCut,
    /// Deletes do not reach the store.
    DrainSkipsDeletes,
    /// The drain passes over the keys behind those that never were in the store.
    AbsentShifted,
    /// A block is split from the front: a crash on the way loses entries.
    SplitFromTheFront,
    /// What a split that was cut short left behind the next block is read.
    TailsCount,
    /// It stays when that block is taken away.
    TailsStay,
    /// It is written again as if it counted.
    TailsWritten,
    /// Readers are not kept from blocks that are being split, or lose a tail.
    BlocksMoveUnseen,
    /// The file of blocks is not synced before sled is told of them.
    BlocksNotSynced,
    /// sled's file is not synced behind what was written to it.
    PlacesNotSynced,
    /// It is not when it is opened again, where a process that was killed left more in it than was synced.
    CountedBeforeSynced,
    /// A sync of either that fails is taken for done.
    FailedSyncIgnored,
    /// The names of a new view's files, and its own, are not synced.
    NamesNotSynced,
    /// What sled names no more is written over at once.
    FreeAtOnce,
}

/// What the manifest says about the store's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreState {
    /// Nothing was ever drained into it.
    Empty,
    /// It holds every key as of `at`.
    At {
        /// The last operation it holds.
        at: Sequence,
        /// What a scan has to find.
        digest: Digest,
    },
    /// It holds every key as of `from`, and some keys as of `to`: the drain did not come to its end.
    Draining {
        /// The checkpoint before.
        from: Sequence,
        /// Where the drain was going.
        to: Sequence,
        /// What a scan has to find when it gets there.
        digest: Digest,
    },
}

/// The owner's manifest, as far as a checkpoint writes it. Each call returns when the fact is durable.
pub trait CheckpointLog {
    /// From now on the store may hold keys newer than its last checkpoint.
    fn draining(&self, to: Sequence, digest: Digest) -> Result<()>;
    /// The store holds every key as of `at`, durably.
    fn drained(&self, at: Sequence, digest: Digest) -> Result<()>;
}

/// How a checkpoint ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Checkpoint {
    /// The store is at this sequence now.
    At(Sequence),
    /// There was nothing to drain.
    Nothing,
    /// A snapshot from before the freeze is still held; call again later.
    Postponed,
    /// The view is being closed; opening repeats the drain.
    Cancelled,
}
