//! Watching and stopping a run from another thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::{Error, ErrorKind, Result};

#[derive(Debug, Default)]
struct State {
    cancelled: AtomicBool,
    finished: AtomicBool,
    done: AtomicU64,
    total: AtomicU64,
}

/// A cheap handle on one run: every clone watches and stops the same run.
///
/// A control that was cancelled stays cancelled; use a new one for the next run.
///
/// # Examples
/// ```
/// use kappa_core::random::{Control, HistogramRequest, histogram};
///
/// let control = Control::new();
/// control.cancel();
/// let error = histogram(&HistogramRequest::new().control(&control)).unwrap_err();
/// assert_eq!(error.kind(), kappa_core::ErrorKind::Cancelled);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Control(Arc<State>);

impl Control {
    /// A control of a run that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the run to stop; it answers `Cancelled` within milliseconds, a range of millions within tens of them.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether [`Control::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Relaxed)
    }

    /// How much of the work is done, from 0 to 1; 1 only when the run has succeeded.
    pub fn progress(&self) -> f64 {
        if self.0.finished.load(Ordering::Acquire) {
            return 1.0;
        }
        let total = self.0.total.load(Ordering::Relaxed);
        if total == 0 {
            return 0.0;
        }
        let fraction = self.0.done.load(Ordering::Relaxed) as f64 / total as f64;
        fraction.min(1.0 - f64::EPSILON)
    }

    /// A guard that cancels the run when it is dropped, for callers whose own call may be abandoned.
    pub fn cancel_on_drop(&self) -> CancelGuard {
        CancelGuard { control: self.clone(), armed: true }
    }

    /// Begins a run of `total` units of work.
    pub(super) fn start(&self, total: u64) {
        self.0.finished.store(false, Ordering::Release);
        self.0.done.store(0, Ordering::Relaxed);
        self.0.total.store(total, Ordering::Relaxed);
    }

    pub(super) fn advance(&self, units: u64) {
        self.0.done.fetch_add(units, Ordering::Relaxed);
    }

    pub(super) fn finish(&self) {
        self.0.finished.store(true, Ordering::Release);
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "the run was cancelled"));
        }
        Ok(())
    }
}

/// Cancels its run when dropped, unless [`CancelGuard::disarm`] was called first.
#[derive(Debug)]
#[must_use = "dropping the guard cancels the run"]
pub struct CancelGuard {
    control: Control,
    armed: bool,
}

impl CancelGuard {
    /// Lets the run go on.
    pub fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        if self.armed {
            self.control.cancel();
        }
    }
}
