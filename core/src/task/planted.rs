//! Bugs that tests switch on, to see that the simulation finds them.

/// A mistake that this queue could make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// A report needs no lease, only the task's number.
    CompleteByIdOnly,
    /// A report needs the run's number but not the token.
    IgnoreToken,
    /// A lease that ended is good as long as nobody has claimed.
    RenewAfterExpiry,
    /// A report is taken although its lease has ended.
    CompleteAfterExpiry,
    /// The tick takes tasks back whose lease holds.
    RescueById,
    /// A run counts when it fails, not when it begins.
    CountAfterTheWork,
    /// The unique key is free as soon as the task is claimed.
    UniqueFreedAtClaim,
    /// The unique key is never given back.
    UniqueKept,
    /// A claim leaves the entry of the task among those that wait.
    ClaimLeavesEntry,
    /// An enqueue that ranks before the front does not move it.
    FrontNotMovedBack,
    /// A task whose worker died is not a dead letter however often that happens.
    DeathsNotCounted,
    /// A failed run is the end, whatever is left of its attempts.
    NoRetry,
    /// A cancelled run is tried again.
    CancelForgotten,
    /// A due task is looked for among those that are due later.
    DueNotPromoted,
    /// A released run counts.
    ReleaseCounts,
    /// A renewal moves the lease but not its place in the index.
    RenewLeavesEntry,
    /// Leases end by the wall clock.
    LeaseOnWallClock,
    /// Counters forget what leaves a state.
    CountOnlyUp,
    /// Whatever fails comes back when its backoff says, however much that is.
    RetriesUnbounded,
}

#[cfg(test)]
impl Planted {
    /// Every one of them.
    pub const ALL: [Self; 19] = [
        Self::CompleteByIdOnly,
        Self::IgnoreToken,
        Self::RenewAfterExpiry,
        Self::CompleteAfterExpiry,
        Self::RescueById,
        Self::CountAfterTheWork,
        Self::UniqueFreedAtClaim,
        Self::UniqueKept,
        Self::ClaimLeavesEntry,
        Self::FrontNotMovedBack,
        Self::DeathsNotCounted,
        Self::NoRetry,
        Self::CancelForgotten,
        Self::DueNotPromoted,
        Self::ReleaseCounts,
        Self::RenewLeavesEntry,
        Self::LeaseOnWallClock,
        Self::CountOnlyUp,
        Self::RetriesUnbounded,
    ];
}

#[cfg(not(test))]
/// Never: bugs are for tests.
pub const fn is(_: Planted) -> bool {
    false
}

#[cfg(not(test))]
/// Nothing: only a bug looks at a wall clock.
pub const fn wall_ahead() -> i64 {
    0
}

#[cfg(test)]
pub use switched::{is, set_wall_ahead, wall_ahead, with};

#[cfg(test)]
mod switched {
    use std::cell::Cell;

    use super::Planted;
    use crate::planted;

    thread_local! {
        static ACTIVE: Cell<Option<Planted>> = const { Cell::new(None) };
        static WALL: Cell<i64> = const { Cell::new(0) };
    }

    /// Whether this thread runs with the bug.
    pub fn is(bug: Planted) -> bool {
        planted::is(&ACTIVE, bug)
    }

    /// Runs with the bug, or with none.
    pub fn with<T>(bug: Option<Planted>, run: impl FnOnce() -> T) -> T {
        planted::with(&ACTIVE, bug, run)
    }

    /// What a wall clock is ahead of engine time, for the bug that trusts it.
    pub fn wall_ahead() -> i64 {
        WALL.get()
    }

    /// Sets what [`wall_ahead`] answers.
    pub fn set_wall_ahead(ms: i64) {
        WALL.set(ms);
    }
}
