//! The pause before a group: how long it waits for callers who were just answered, and whether it does.
//!
//! Callers who call again at once come a moment too late for the next group, which has begun by then: half of them would always
//! wait for the other half, and each write for two syncs.

use std::time::Duration;

/// What each caller may take to wake, to call and to be run. Where that is more than there is time for, the next group does better
/// beside them than behind them.
const RETURN: Duration = Duration::from_micros(12);
const LONGEST: Duration = Duration::from_millis(5);
/// So many groups at most do without a pause because too few came in the last one.
const MOST_SKIPS: u32 = 64;

/// How long a group waits, from what the last one took and how many callers there are.
pub type Patience = fn(Duration, usize) -> Option<Duration>;

/// How long the next group waits for those who were just answered, where the last one `took` so long, and there are so many
/// `callers` together with those who wait already.
pub fn patience(took: Duration, callers: usize) -> Option<Duration> {
    let needed = RETURN.saturating_mul(u32::try_from(callers).unwrap_or(u32::MAX));
    let patience = took.min(LONGEST) * 3 / 4;
    // One who is alone commits on its own thread when it comes back.
    (callers > 1 && needed <= patience).then_some(patience)
}

/// Whether those who are answered come back; where they do not, there is a pause less and less often.
#[derive(Debug, Default)]
pub struct Habit {
    misses: u32,
    /// So many groups do without.
    skips: u32,
}

impl Habit {
    /// Whether there is a pause before the next group.
    pub fn gathers(&mut self) -> bool {
        let due = self.skips == 0;
        self.skips = self.skips.saturating_sub(1);
        due
    }

    /// So many were answered, and so many came until the pause was over.
    pub fn note(&mut self, came: usize, answered: usize) {
        // Where many think before they call again, the pause costs the others more than it saves.
        let paid = 8 * came >= 7 * answered;
        self.misses = if paid { 0 } else { self.misses.saturating_add(1) };
        self.skips = if paid { 0 } else { 2_u32.saturating_pow(self.misses).min(MOST_SKIPS) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Callers who do not come back must not slow down those who write.
    #[test]
    fn a_pause_that_was_for_nothing_becomes_rare() {
        let mut habit = Habit::default();
        let mut pauses = 0;
        for _ in 0..1_000 {
            if habit.gathers() {
                habit.note(6, 8);
                pauses += 1;
            }
        }
        assert!((10..30).contains(&pauses), "pauses={pauses}");
        while !habit.gathers() {}
        habit.note(7, 8);
        assert!((0..10).all(|_| habit.gathers()), "those who come back are waited for again");
    }

    /// A fast disk must not wait longer for callers than for itself, one who is alone for nobody, and a stalled disk must not cost
    /// seconds more.
    #[test]
    fn patience_is_less_than_a_commit() {
        let cases = [(80, 1), (80, 5), (80, 6), (2_000, 125), (2_000, 126), (60_000_000, 312), (60_000_000, 313)];
        let expected = [None, Some(60), None, Some(1_500), None, Some(3_750), None];
        for ((took, callers), expected) in cases.into_iter().zip(expected) {
            let patience = patience(Duration::from_micros(took), callers).map(|patience| patience.as_micros());
            assert_eq!(patience, expected, "took={took} callers={callers}");
        }
    }
}
