//! Wall time and the time since boot.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Two readings of time: one that people set, one that only moves forward.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Milliseconds since 1970 as the machine believes them; may jump either way.
    fn wall_ms(&self) -> i64;
    /// Milliseconds since boot, suspended time included; never goes back while the machine runs.
    fn boot_ms(&self) -> u64;
}

/// The clock of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the door that every other caller goes through")]
    fn wall_ms(&self) -> i64 {
        let now = std::time::SystemTime::now();
        match now.duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(_) => 0,
        }
    }

    fn boot_ms(&self) -> u64 {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        u64::try_from(time.tv_sec).unwrap_or(0) * 1_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug, Default)]
pub struct ManualClock {
    wall: AtomicI64,
    boot: AtomicU64,
}

impl ManualClock {
    /// A clock whose wall reads `wall_ms`.
    pub fn new(wall_ms: i64) -> Self {
        Self { wall: AtomicI64::new(wall_ms), boot: AtomicU64::new(0) }
    }

    /// Lets `ms` milliseconds pass on both readings.
    pub fn advance(&self, ms: u64) {
        self.boot.fetch_add(ms, Ordering::SeqCst);
        self.wall.fetch_add(i64::try_from(ms).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// Sets the wall reading alone, as an operator or NTP would.
    pub fn set_wall(&self, wall_ms: i64) {
        self.wall.store(wall_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn wall_ms(&self) -> i64 {
        self.wall.load(Ordering::SeqCst)
    }

    fn boot_ms(&self) -> u64 {
        self.boot.load(Ordering::SeqCst)
    }
}
