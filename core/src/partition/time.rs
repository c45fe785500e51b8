//! Engine time: milliseconds that never go back, whatever happens to the wall clock.

use std::sync::Arc;

use parking_lot::Mutex;

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
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Engine time when the boot clock read `boot`.
    ms: i64,
    boot: u64,
    /// What the wall clock was ahead then; spread over the next [`COMPARE_MS`].
    drift: i64,
    last: Moment,
}

impl EngineTime {
    /// Starts at the wall clock, or behind `newest` (the last record's time) where that is later.
    pub fn new(clock: Arc<dyn Clock>, newest: i64) -> Self {
        // A record does not say which place within its millisecond it had, so that millisecond is used up:
        // otherwise a document could come before older ones in creation order.
        let ms = clock.wall_ms().max(newest.saturating_add(1));
        let state = State { ms, boot: clock.boot_ms(), drift: 0, last: Moment { ms, tick: 0 } };
        Self { clock, state: Mutex::new(state) }
    }

    /// Engine time now.
    pub fn now(&self) -> i64 {
        let mut state = self.state.lock();
        self.advance(&mut state).max(state.last.ms)
    }

    /// A moment of its own for one operation, behind every one before.
    pub fn draw(&self) -> Moment {
        let mut state = self.state.lock();
        let ms = self.advance(&mut state);
        let last = state.last;
        state.last = if ms > last.ms {
            Moment { ms, tick: 0 }
        } else if last.tick < u16::MAX {
            Moment { ms: last.ms, tick: last.tick + 1 }
        } else {
            Moment { ms: last.ms + 1, tick: 0 }
        };
        state.last
    }

    fn advance(&self, state: &mut State) -> i64 {
        let elapsed = self.clock.boot_ms().saturating_sub(state.boot);
        let spread = i64::try_from(elapsed.min(COMPARE_MS)).unwrap_or(i64::MAX);
        let slewed = state.drift * spread / COMPARE_MS.cast_signed();
        let now = state.ms.saturating_add(i64::try_from(elapsed).unwrap_or(i64::MAX)).saturating_add(slewed);
        if elapsed >= COMPARE_MS {
            let ahead = self.clock.wall_ms().saturating_sub(now);
            if ahead.abs() > MAX_DRIFT_MS {
                tracing::warn!(ahead_ms = ahead, "the wall clock was moved; leases and order keep to engine time");
            }
            let drift = if ahead.abs() <= MAX_DRIFT_MS { ahead } else { 0 };
            *state = State { ms: now, boot: state.boot + elapsed, drift, last: state.last };
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
    }
}
