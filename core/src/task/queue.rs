//! What is known about a queue, and how it stands.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::engine::{Direction, MAX_PAGE_ENTRIES};
use crate::error::{Error, ErrorKind, Result};
use crate::partition::{Run, Transaction};

use super::model::{QueueInfo, QueueSettings, TaskState};
use super::operation::TaskAnswer;
use super::{budget, front, keys, limits, tasks};

const VERSION: u8 = 2;
/// The form before there was a budget of retries, which stood at its end.
const WITHOUT_BUDGET: u8 = 1;

/// A queue as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// What its keys carry.
    pub number: u16,
    /// Whether workers get nothing from it.
    pub paused: bool,
    /// What was configured.
    pub settings: QueueSettings,
}

/// What is known about the queue `name`; none when it was neither configured nor used.
pub fn load(tx: &mut Transaction<'_>, name: &str) -> Run<Option<Queue>> {
    let stored = tx.get(&keys::queue(name))?;
    Ok(stored.map(|stored| decode(&stored.value)).transpose()?)
}

/// What is known about the queue `name`, which is added if it is new.
pub fn load_or_add(tx: &mut Transaction<'_>, name: &str) -> Run<Queue> {
    if let Some(queue) = load(tx, name)? {
        return Ok(queue);
    }
    limits::check_name(name)?;
    let next = tx.get(&keys::next_queue())?;
    let number = next.map_or(Ok(0), |next| next.value[..].try_into().map(u16::from_be_bytes).map_err(|_| damaged()))?;
    if number >= limits::MAX_QUEUES {
        let error = Error::new(ErrorKind::TooLarge, "the database has as many queues as it can hold");
        return Err(error.with("limit", limits::MAX_QUEUES).into());
    }
    tx.put(keys::next_queue(), Bytes::copy_from_slice(&(number + 1).to_be_bytes()))?;
    tx.put(keys::queue_name(number), Bytes::copy_from_slice(name.as_bytes()))?;
    let queue = Queue { number, ..Queue::default() };
    save(tx, name, &queue)?;
    Ok(queue)
}

/// Every queue with its name, by name.
pub fn all(tx: &mut Transaction<'_>) -> Run<Vec<(String, Queue)>> {
    let mut found: Vec<(String, Queue)> = Vec::new();
    loop {
        let rest = found.last().map_or_else(keys::queues, |(name, _)| keys::queues_behind(name));
        let page = tx.scan(&rest, Direction::Forward, MAX_PAGE_ENTRIES)?;
        for entry in &page {
            let name = keys::name_of_queue(&entry.key).ok_or_else(damaged)?;
            found.push((name.to_owned(), decode(&entry.value)?));
        }
        if page.len() < MAX_PAGE_ENTRIES {
            return Ok(found);
        }
    }
}

/// Sets what holds for a queue.
pub fn configure(tx: &mut Transaction<'_>, name: &str, settings: &QueueSettings) -> Run<TaskAnswer> {
    limits::check_settings(settings)?;
    let before = load_or_add(tx, name)?;
    let (rate, retry_budget) = (before.settings.rate, before.settings.retry_budget);
    let queue = Queue { settings: settings.clone(), ..before };
    save(tx, name, &queue)?;
    // A new rate begins with all of its starts, a new budget without what the one before is behind. Programs that start
    // again and again with the same settings must get neither anew each time.
    if settings.rate != rate {
        tx.delete(keys::rate(queue.number))?;
    }
    if settings.retry_budget != retry_budget {
        budget::begin(tx, queue.number)?;
    }
    Ok(TaskAnswer::Queue(Box::new(info(tx, name, queue)?)))
}

/// Stops claims from a queue, or lets them go on.
pub fn pause(tx: &mut Transaction<'_>, name: &str, paused: bool) -> Run<TaskAnswer> {
    let queue = load_or_add(tx, name)?;
    let queue = Queue { paused, ..queue };
    save(tx, name, &queue)?;
    Ok(TaskAnswer::Queue(Box::new(info(tx, name, queue)?)))
}

/// One queue as it stands.
pub fn describe(tx: &mut Transaction<'_>, name: &str) -> Run<TaskAnswer> {
    let queue = load(tx, name)?;
    let queue = queue.ok_or_else(|| Error::new(ErrorKind::NotFound, "no such queue").with("queue", name))?;
    Ok(TaskAnswer::Queue(Box::new(info(tx, name, queue)?)))
}

/// Every queue as it stands.
pub fn describe_all(tx: &mut Transaction<'_>) -> Run<TaskAnswer> {
    let queues = all(tx)?;
    let infos = queues.into_iter().map(|(name, queue)| info(tx, &name, queue)).collect::<Run<_>>()?;
    Ok(TaskAnswer::Queues(infos))
}

/// How many tasks of a queue are in a state.
pub fn count(tx: &mut Transaction<'_>, queue: u16, state: TaskState) -> Run<u64> {
    Ok(u64::try_from(tx.counter(&keys::count(queue, state))?).unwrap_or(0))
}

fn info(tx: &mut Transaction<'_>, name: &str, queue: Queue) -> Run<QueueInfo> {
    let number = queue.number;
    let mut counts = [0; TaskState::ALL.len()];
    for (count, state) in counts.iter_mut().zip(TaskState::ALL) {
        *count = self::count(tx, number, state)?;
    }
    let [waiting, delayed, active, completed, failed, cancelled] = counts;
    let now = tx.now();
    let front = front::load(tx, number)?;
    let head = tx.scan(&front.waiting(number), Direction::Forward, 1)?;
    let head = match head.first().and_then(|entry| keys::split_entry(&entry.key)) {
        Some((_, id)) => tasks::load_readable(tx, "a task that waits", id)?.map(|record| record.ready),
        None => None,
    };
    let late = |at: Option<i64>| at.map_or(0, |at| u64::try_from(now.saturating_sub(at)).unwrap_or(0));
    let overdue_ms =
        late(first_place(tx, number, TaskState::Delayed)?).max(late(first_place(tx, number, TaskState::Active)?));
    Ok(QueueInfo {
        name: name.to_owned(),
        settings: queue.settings,
        paused: queue.paused,
        waiting,
        delayed,
        active,
        completed,
        failed,
        cancelled,
        head_waits_ms: late(head),
        overdue_ms,
    })
}

/// The place of the first entry among the tasks in a state.
pub fn first_place(tx: &mut Transaction<'_>, queue: u16, state: TaskState) -> Run<Option<i64>> {
    let found = tx.scan(&keys::entries(queue, state), Direction::Forward, 1)?;
    Ok(found.first().and_then(|entry| keys::split_entry(&entry.key)).map(|(place, _)| place))
}

fn save(tx: &mut Transaction<'_>, name: &str, queue: &Queue) -> Run<()> {
    let bytes = postcard::to_extend(queue, vec![VERSION]).expect("a queue has a binary form");
    tx.put(keys::queue(name), bytes.into())
}

fn decode(bytes: &[u8]) -> Result<Queue> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(|error| damaged().caused_by(error)),
        Some((&WITHOUT_BUDGET, rest)) => upgraded(rest),
        _ => Err(damaged()),
    }
}

fn upgraded(rest: &[u8]) -> Result<Queue> {
    let budget =
        postcard::to_extend(&QueueSettings::default().retry_budget, Vec::new()).expect("a budget has a binary form");
    postcard::from_bytes(&[rest, &budget].concat()).map_err(|error| damaged().caused_by(error))
}

fn damaged() -> Error {
    Error::new(ErrorKind::Damaged, "what is known about a queue cannot be read; restore a backup")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::model::{Backoff, Rate, RetryBudget};

    /// A database of before must not lose what its queues were configured with.
    #[test]
    fn a_queue_without_a_budget_of_retries_gets_the_default() {
        // Number 7, paused, concurrency 4, rate 5 in 1 000 ms, no length, kept 60 s and 10, dead letters 90 s, 3 attempts,
        // a fixed backoff of 50 ms, a timeout of 200 ms.
        let before = [1, 7, 1, 1, 4, 1, 5, 0xe8, 7, 0, 0xe0, 0xd4, 3, 10, 0x90, 0xbf, 5, 3, 1, 50, 0xc8, 1];
        let settings = QueueSettings {
            concurrency: Some(4),
            rate: Some(Rate { count: 5, per_ms: 1_000 }),
            max_length: None,
            keep_ms: 60_000,
            keep_count: 10,
            keep_failed_ms: 90_000,
            attempts: 3,
            backoff: Backoff::Fixed { ms: 50 },
            timeout_ms: 200,
            retry_budget: RetryBudget::default(),
        };
        let queue = Queue { number: 7, paused: true, settings };
        assert_eq!(decode(&before).unwrap(), queue);
        let now = postcard::to_extend(&queue, vec![VERSION]).unwrap();
        assert_eq!(decode(&now).unwrap(), queue);
        assert_eq!(decode(&[3]).unwrap_err().kind(), ErrorKind::Damaged);
    }
}
