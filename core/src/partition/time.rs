//! Engine time: milliseconds that never go back, whatever happens to the wall clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};

use crate::env::Clock;

use super::Moment;

/// How often engine time is compared with the wall clock, and over how long a difference is spread.
const COMPARE_MS: u64 = 60_000;
/// A larger difference is somebody's mistake, not drift: it is reported and not followed.
const MAX_DRIFT_MS: i64 = 5_000;

/// The clock of one partition.
#[derive(Debug)]
pub struct EngineTime {
    clock: Arc<dyn Clock>,
    /// Replaced while `last` is locked; who only asks for the time borrows it and writes nothing that others see.
    course: ArcSwap<Course>,
    last: Mutex<Moment>,
    /// The millisecond of `last`, for those who do not lock it.
    last_ms: AtomicI64,
}

/// How engine time goes until the next comparison.
#[derive(Clone, Copy, Debug)]
struct Course {
    /// Engine time when the boot clock read `boot`.
    ms: i64,
    boot: u64,
    /// What the wall clock was ahead then; spread over the next [`COMPARE_MS`].
    drift: i64,
}

impl Course {
    /// Engine time when the boot clock reads `boot`, and whether a comparison is due then.
    fn at(&self, boot: u64) -> (i64, bool) {
        let elapsed = boot.saturating_sub(self.boot);
        let spread = i64::try_from(elapsed.min(COMPARE_MS)).unwrap_or(i64::MAX);
        let slewed = self.drift * spread / COMPARE_MS.cast_signed();
        let now = self.ms.saturating_add(i64::try_from(elapsed).unwrap_or(i64::MAX)).saturating_add(slewed);
        (now, elapsed >= COMPARE_MS)
    }
}

impl EngineTime {
    /// Starts at the wall clock, or behind `newest` (the last record's time) where that is later.
    pub fn new(clock: Arc<dyn Clock>, newest: i64) -> Self {
        // A record does not say which place within its millisecond it had, so that millisecond is used up:
        // otherwise a document could come before older ones in creation order.
        let ms = clock.wall_ms().max(newest.saturating_add(1));
        let course = ArcSwap::from_pointee(Course { ms, boot: clock.boot_ms(), drift: 0 });
        Self { clock, course, last: Mutex::new(Moment { ms, tick: 0 }), last_ms: AtomicI64::new(ms) }
    }

    /// Engine time now.
    pub fn now(&self) -> i64 {
        let (now, is_due) = self.course.load().at(self.clock.boot_ms());
        let now = if is_due { self.advance(&self.last.lock()) } else { now };
        now.max(self.last_ms.load(Ordering::Acquire))
    }

    /// A moment of its own for one operation, behind every one before.
    pub fn draw(&self) -> Moment {
        let mut last = self.last.lock();
        let ms = self.advance(&last);
        *last = if ms > last.ms {
            Moment { ms, tick: 0 }
        } else if last.tick < u16::MAX {
            Moment { ms: last.ms, tick: last.tick + 1 }
        } else {
            Moment { ms: last.ms + 1, tick: 0 }
        };
        self.last_ms.store(last.ms, Ordering::Release);
        *last
    }

    /// Engine time now, on a new course where a comparison is due; one thread at a time, see `course`.
    fn advance(&self, _one_at_a_time: &MutexGuard<'_, Moment>) -> i64 {
        let boot = self.clock.boot_ms();
        let (now, is_due) = self.course.load().at(boot);
        if is_due {
            let ahead = self.clock.wall_ms().saturating_sub(now);
            if ahead.abs() > MAX_DRIFT_MS {
                tracing::warn!(ahead_ms = ahead, "the wall clock was moved; leases and order keep to engine time");
            }
            let drift = if ahead.abs() <= MAX_DRIFT_MS { ahead } else { 0 };
            self.course.store(Arc::new(Course { ms: now, boot, drift }));
        }
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::ManualClock;

    fn engine_time(newest: i64) -> (Arc<ManualClock>, EngineTime) {
        let clock = Arc::new(ManualClock::new(1_000_000));
        (Arc::clone(&clock), EngineTime::new(clock, newest))
    }

    /// A wall clock set back ten years must not put new documents before old ones.
    #[test]
    fn a_wall_clock_set_back_moves_nothing_back() {
        let (clock, time) = engine_time(0);
        let before = time.draw();
        clock.set_wall(-10 * 365 * 86_400_000);
        clock.advance(COMPARE_MS + 1);
        let after = time.draw();
        assert_eq!(after.ms - before.ms, COMPARE_MS.cast_signed() + 1);
        clock.advance(COMPARE_MS);
        assert_eq!(time.draw().ms - after.ms, COMPARE_MS.cast_signed(), "a jump is not followed");
    }

    /// A log written by a machine whose clock ran ahead must still get later times.
    #[test]
    fn time_starts_behind_the_newest_record() {
        let (_, time) = engine_time(5_000_000);
        assert!(time.draw() > Moment { ms: 5_000_000, tick: u16::MAX });
    }

    #[test]
    fn drift_is_followed_within_a_minute_and_never_backward() {
        for drift in [-4_000, 4_000] {
            let (clock, time) = engine_time(0);
            clock.set_wall(1_000_000 + drift);
            let mut last = time.draw();
            for _ in 0..300 {
                clock.advance(1_000);
                let next = time.draw();
                assert!(next > last);
                last = next;
            }
            assert!((time.now() - clock.wall_ms()).abs() <= 1, "drift={drift}");
        }
    }

    #[test]
    fn moments_of_one_millisecond_stay_in_order() {
        let (_, time) = engine_time(0);
        let moments: Vec<Moment> = (0..70_000).map(|_| time.draw()).collect();
        assert!(moments.windows(2).all(|pair| pair[0] < pair[1] && pair[0].to_bytes() < pair[1].to_bytes()));
        assert_eq!(Moment::from_bytes(moments[69_999].to_bytes()), moments[69_999]);
        // The moments ran ahead of the clock: who asks for the time must not get one before them.
        assert_eq!(time.now(), moments[69_999].ms);
        assert!(time.now() > 1_000_000);
    }
}
