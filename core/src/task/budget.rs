//! How many retries a queue takes: a share of what starts in it, so that tasks which fail together do not come back together
//! and leave no room for others.

use bytes::Bytes;

use crate::error::Result;
use crate::partition::{Run, Transaction};

use super::model::{RetryBudget, TaskState};
use super::planted::{self, Planted};
use super::queue::{self, Queue};
use super::{damaged, keys};

const BYTES: usize = 32;
const SECOND_US: i64 = 1_000_000;
const MINUTE_MS: i64 = 60_000;
/// So much of the budget may be saved up: enough that a few failures keep the time that their backoff says.
const SAVED_US: i64 = SECOND_US;
/// No retry is held back longer. Beyond that they are spread over this time by chance.
const LONGEST_MS: u64 = 24 * 3_600 * 1_000;
/// The share at which nothing is held back.
const ALL: u32 = 100;

/// How much of a queue's budget is used (GCRA), and what the budget is a share of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// When everything that was used will have flowed in again, in microseconds.
    free_at: i64,
    /// Which minute `starts` counts.
    minute: i64,
    /// Runs that began in that minute,
    starts: u64,
    /// and in the one before.
    before: u64,
}

impl Budget {
    /// Notes that so many runs begin, retries among them.
    #[must_use]
    pub fn started(mut self, runs: usize, now: i64) -> Self {
        let minute = now.div_euclid(MINUTE_MS);
        // The clock of another process that writes may be a little behind: its runs count in the newest minute.
        if minute > self.minute {
            self.before = if minute == self.minute + 1 { self.starts } else { 0 };
            (self.minute, self.starts) = (minute, 0);
        }
        self.starts += runs as u64;
        self
    }

    /// Takes one retry out of the budget: how many milliseconds it is held back beyond its backoff.
    #[must_use]
    pub fn take(self, rules: RetryBudget, chance: u64, now: i64) -> (Self, u64) {
        if rules.percent >= ALL || planted::is(Planted::RetriesUnbounded) {
            return (self, 0);
        }
        let now_us = now.saturating_mul(1_000);
        let begun = self.free_at.max(now_us.saturating_sub(SAVED_US));
        let free_at = begun.saturating_add(self.interval_us(rules, now));
        let held_back = u64::try_from(free_at.saturating_sub(now_us)).unwrap_or(0) / 1_000;
        if held_back > LONGEST_MS {
            return (self, ((u128::from(chance) * u128::from(LONGEST_MS)) >> 64) as u64);
        }
        (Self { free_at, ..self }, held_back)
    }

    /// The same budget without what it is behind at `now`; nothing of it is saved up.
    #[must_use]
    pub fn forgiven(self, now: i64) -> Self {
        Self { free_at: self.free_at.min(now.saturating_mul(1_000)), ..self }
    }

    /// The time between two retries.
    fn interval_us(&self, rules: RetryBudget, now: i64) -> i64 {
        let Self { starts, before, .. } = self.started(0, now);
        let left = u64::try_from(MINUTE_MS - now.rem_euclid(MINUTE_MS)).unwrap_or(0);
        let in_a_minute = starts + before.saturating_mul(left) / MINUTE_MS.unsigned_abs();
        let share = in_a_minute.saturating_mul(u64::from(rules.percent)) / u64::from(ALL);
        let retries = share.max(u64::from(rules.per_second) * 60).max(1);
        i64::try_from(retries).map_or(0, |retries| 60 * SECOND_US / retries)
    }

    fn encode(&self) -> Bytes {
        let Self { free_at, minute, starts, before } = self;
        let parts = [free_at.to_be_bytes(), minute.to_be_bytes(), starts.to_be_bytes(), before.to_be_bytes()];
        parts.concat().into()
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let parts: &[u8; BYTES] = bytes.try_into().map_err(|_| damaged())?;
        let number = |at: usize| u64::from_be_bytes(parts[at..at + 8].try_into().expect("eight bytes"));
        Ok(Self {
            free_at: number(0).cast_signed(),
            minute: number(8).cast_signed(),
            starts: number(16),
            before: number(24),
        })
    }
}

/// The budgets that one operation draws on: each is read once and written once, however many runs end and begin in it.
#[derive(Debug, Default)]
pub struct Budgets(Vec<Drawn>);

#[derive(Debug)]
struct Drawn {
    queue: u16,
    before: Budget,
    now: Budget,
}

impl Budgets {
    /// Takes one retry of a queue: how many milliseconds it is held back beyond its backoff.
    pub fn retry(&mut self, tx: &mut Transaction<'_>, queue: &Queue, chance: u64) -> Run<u64> {
        let now = tx.now();
        let rules = queue.settings.retry_budget;
        let drawn = self.of(tx, queue.number)?;
        let (mut after, mut held_back) = drawn.now.take(rules, chance, now);
        // Where no retry waits any more, those that used the budget were cancelled or run at once.
        if held_back > 0 && queue::count(tx, queue.number, TaskState::Delayed)? == 0 {
            (after, held_back) = drawn.now.forgiven(now).take(rules, chance, now);
        }
        drawn.now = after;
        Ok(held_back)
    }

    /// Notes that so many runs of a queue begin.
    pub fn started(&mut self, tx: &mut Transaction<'_>, queue: &Queue, runs: usize) -> Run<()> {
        if runs > 0 && (1..ALL).contains(&queue.settings.retry_budget.percent) {
            let now = tx.now();
            let drawn = self.of(tx, queue.number)?;
            drawn.now = drawn.now.started(runs, now);
        }
        Ok(())
    }

    /// Writes what has changed.
    pub fn save(self, tx: &mut Transaction<'_>) -> Run<()> {
        let mut changed = self.0.into_iter().filter(|drawn| drawn.now != drawn.before);
        changed.try_for_each(|drawn| save(tx, drawn.queue, &drawn.now))
    }

    fn of(&mut self, tx: &mut Transaction<'_>, queue: u16) -> Run<&mut Drawn> {
        if !self.0.iter().any(|drawn| drawn.queue == queue) {
            let before = load(tx, queue)?;
            self.0.push(Drawn { queue, before, now: before });
        }
        Ok(self.0.iter_mut().find(|drawn| drawn.queue == queue).expect("it was just added"))
    }
}

/// Drops what a queue's budget is behind, because the retries that it held back are gone.
pub fn forgive(tx: &mut Transaction<'_>, queue: u16) -> Run<()> {
    let before = load(tx, queue)?;
    let forgiven = before.forgiven(tx.now());
    if forgiven == before { Ok(()) } else { save(tx, queue, &forgiven) }
}

/// Begins a queue's budget anew. What started stays counted.
pub fn begin(tx: &mut Transaction<'_>, queue: u16) -> Run<()> {
    let before = load(tx, queue)?;
    save(tx, queue, &Budget { free_at: 0, ..before })
}

fn load(tx: &mut Transaction<'_>, queue: u16) -> Run<Budget> {
    let stored = tx.get(&keys::retries(queue))?;
    Ok(stored.map_or(Ok(Budget::default()), |stored| Budget::decode(&stored.value))?)
}

fn save(tx: &mut Transaction<'_>, queue: u16, budget: &Budget) -> Run<()> {
    tx.put(keys::retries(queue), budget.encode())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;
    const RULES: RetryBudget = RetryBudget { percent: 10, per_second: 10 };

    /// How long the last of so many retries at `now` is held back.
    fn last_of(mut budget: Budget, retries: usize, rules: RetryBudget, now: i64) -> u64 {
        let mut last = 0;
        for n in 0..retries {
            (budget, last) = budget.take(rules, (n as u64) << 40, now);
        }
        last
    }

    /// Few failures must keep their backoff, or every queue would be slower for a storm that it never sees.
    #[test]
    fn a_few_retries_are_not_held_back() {
        assert_eq!(last_of(Budget::default(), 10, RULES, NOW), 0);
        assert_eq!(last_of(Budget::default(), 11, RULES, NOW), 100);
        let later = (0..10).fold(Budget::default(), |budget, _| budget.take(RULES, 0, NOW).0);
        assert_eq!(last_of(later, 5, RULES, NOW + 500), 0, "five have flowed in again");
        assert_eq!(last_of(later, 6, RULES, NOW + 500), 100);
    }

    /// A busy queue may retry more than an idle one, and only as long as it is busy.
    #[test]
    fn the_budget_grows_and_shrinks_with_what_starts() {
        let busy = Budget::default().started(60_000, NOW - NOW.rem_euclid(MINUTE_MS));
        let held_back =
            |minutes: i64| last_of(busy, 1_000, RULES, NOW - NOW.rem_euclid(MINUTE_MS) + minutes * MINUTE_MS);
        assert_eq!(held_back(0), 9_000, "a tenth of 1 000 starts a second");
        assert_eq!(held_back(1), 9_000, "the minute before still counts");
        assert_eq!(held_back(2), 99_000, "ten a second where nothing starts");
        let in_the_midst = last_of(busy, 1_000, RULES, NOW - NOW.rem_euclid(MINUTE_MS) + MINUTE_MS * 3 / 2);
        assert_eq!(in_the_midst, 19_000, "half of the minute before");
        assert_eq!(Budget::decode(&busy.encode()).unwrap(), busy);
        assert!(Budget::decode(b"short").is_err());
    }

    #[test]
    fn nothing_is_held_back_where_all_may_be_retries_and_nothing_longer_than_a_day() {
        assert_eq!(last_of(Budget::default(), 1_000_000, RetryBudget { percent: 100, per_second: 1 }, NOW), 0);
        let slow = RetryBudget { percent: 0, per_second: 1 };
        let mut budget = Budget::default();
        let mut beyond = Vec::new();
        for n in 0..90_000_u64 {
            let held_back;
            (budget, held_back) = budget.take(slow, n.wrapping_mul(0x9e37_79b9_7f4a_7c15), NOW);
            assert!(held_back <= LONGEST_MS);
            if n > 86_401 {
                beyond.push(held_back);
            }
        }
        let mean = beyond.iter().sum::<u64>() / beyond.len() as u64;
        assert!((LONGEST_MS / 3..LONGEST_MS * 2 / 3).contains(&mean), "spread over the day: {mean}");
    }
}
