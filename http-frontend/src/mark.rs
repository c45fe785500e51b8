//! What keeps a connection from counting as idle.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// What a connection is busy with. Only looked at when a timer ends: a request that woke its connection's task to tell
/// it would cost more than its answer.
#[derive(Debug)]
pub struct Activity {
    things: AtomicUsize,
    opened: Instant,
    /// When the last thing ended, in nanoseconds after `opened`.
    ended: AtomicU64,
}

impl Default for Activity {
    fn default() -> Self {
        Self { things: AtomicUsize::new(0), opened: Instant::now(), ended: AtomicU64::new(0) }
    }
}

impl Activity {
    /// Since when the connection is busy with nothing; none while it is.
    pub fn idle_since(&self) -> Option<Instant> {
        let idle = self.things.load(Ordering::Acquire) == 0;
        idle.then(|| self.opened + Duration::from_nanos(self.ended.load(Ordering::Acquire)))
    }
}

/// One thing that a connection is busy with: a request from its head to the last byte of its answer, or a write that
/// waits for the client.
#[derive(Debug)]
pub struct Mark(Arc<Activity>);

impl Mark {
    /// Counts one more in `activity`, until it is dropped.
    pub fn new(activity: &Arc<Activity>) -> Self {
        activity.things.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(activity))
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        let nanoseconds = u64::try_from(self.0.opened.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // Before the count: whoever sees that nothing is left must see when it ended.
        self.0.ended.store(nanoseconds, Ordering::Release);
        self.0.things.fetch_sub(1, Ordering::AcqRel);
    }
}
