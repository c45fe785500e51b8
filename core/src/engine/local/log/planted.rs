//! Bugs that tests switch on, to see that the crash harness finds them.

use std::cell::Cell;

use crate::planted;

/// A mistake this log could make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// Answers before the tail is on disk.
    SkipSync,
    /// Leaves new names to luck.
    SkipDirectorySync,
    /// Leaves the names of the directories above to luck.
    ForgetDirectoriesAbove,
    /// Takes a failed sync for a good one.
    IgnoreFailedSync,
    /// Opens a damaged tail by cutting it.
    AcceptDamageAsTorn,
    /// Cuts the tail back to what the last record knew durable.
    CutTooEarly,
    /// Names a base that is not on disk yet.
    NameBaseBeforeSync,
    /// Removes segments before MANIFEST names the base that replaces them.
    DropBeforeManifest,
    /// Goes on counting after a crash.
    ReuseSequences,
    /// Lets a frame pass anywhere.
    FrameWithoutPlace,
    /// Leaves the cut bytes behind the end.
    SkipZeroing,
    /// Trusts what it read after a crash to be on disk.
    SkipRewrite,
    /// Takes a damaged end for a torn one although the log was closed.
    IgnoreClosedMark,
    /// Writes MANIFEST in place.
    OverwriteManifest,
    /// Writes to a segment before MANIFEST names it.
    UseUnnamedSegment,
    /// Keeps the mark of a clean end while writing.
    KeepClosedMark,
    /// Starts the next segment before the last one is on disk.
    RollWithoutSync,
    /// Lets deleted keys live on in the base.
    KeepDeletedKeys,
}

thread_local! {
    static ACTIVE: Cell<Option<Planted>> = const { Cell::new(None) };
}

/// Whether this thread runs with the bug.
pub fn is(bug: Planted) -> bool {
    planted::is(&ACTIVE, bug)
}

/// Runs with the bug, or with none.
pub fn with<T>(bug: Option<Planted>, run: impl FnOnce() -> T) -> T {
    planted::with(&ACTIVE, bug, run)
}
