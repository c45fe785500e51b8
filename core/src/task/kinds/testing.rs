//! A context for tests: parameters, a clock that the task moves, and a cancellation at a known place.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;

use crate::env::Env;
use crate::kappa::Kappa;
use crate::options::Options;

use super::Context;

/// Where a kind is tried.
pub struct Stage {
    id: u64,
    attempt: u32,
    params: Value,
    kappa: Kappa,
    /// How often the task may still look before it is told to stop.
    looks: AtomicU64,
    seen: Mutex<(Duration, f64)>,
}

impl Stage {
    /// Task 7 in its first attempt, over a database in memory.
    pub fn new(params: Value) -> Self {
        let kappa = Kappa::in_memory(&Options::default(), &Env::default()).expect("a database in memory");
        Self::over(kappa, params)
    }

    /// Task 7 in its first attempt, over `kappa`.
    pub fn over(kappa: Kappa, params: Value) -> Self {
        let (looks, seen) = (AtomicU64::new(u64::MAX), Mutex::default());
        Self { id: 7, attempt: 1, params, kappa, looks, seen }
    }

    /// Told to stop once it has looked `looks` times.
    #[must_use]
    pub fn cancelled_after(self, looks: u64) -> Self {
        self.looks.store(looks, Ordering::SeqCst);
        self
    }

    /// The same task in another attempt, not cancelled.
    #[must_use]
    pub fn again(&self) -> Self {
        let next = Self::over(self.kappa.clone(), self.params.clone());
        Self { attempt: self.attempt + 1, ..next }
    }

    /// The same stage for another task.
    #[must_use]
    pub fn with_id(self, id: u64) -> Self {
        Self { id, ..self }
    }

    /// How long it waited in all.
    pub fn waited(&self) -> Duration {
        self.seen.lock().0
    }

    /// The progress it told last.
    pub fn told(&self) -> f64 {
        self.seen.lock().1
    }
}

impl Context for Stage {
    fn id(&self) -> u64 {
        self.id
    }

    fn run_number(&self) -> u32 {
        self.attempt
    }

    fn params(&self) -> &Value {
        &self.params
    }

    fn progress(&self, done: f64) {
        assert!((0.0..=1.0).contains(&done), "progress={done}");
        self.seen.lock().1 = done;
    }

    fn cancelled(&self) -> bool {
        let left = self.looks.load(Ordering::SeqCst);
        self.looks.store(left.saturating_sub(u64::from(left != u64::MAX)), Ordering::SeqCst);
        left == 0
    }

    /// Time passes at once.
    fn wait_cancelled(&self, limit: Duration) -> bool {
        let cancelled = self.cancelled();
        if !cancelled {
            self.seen.lock().0 += limit;
        }
        cancelled
    }

    fn kappa(&self) -> &Kappa {
        &self.kappa
    }
}
