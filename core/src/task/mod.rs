//! The rules of the queue.

pub mod handle;
pub mod json;
pub mod kinds;
pub mod model;
pub mod operation;
pub mod record;
pub mod runner;
pub mod worker;

mod budget;
mod cron;
mod era;
mod front;
mod keep;
mod keys;
mod limits;
mod list;
mod place;
mod planted;
mod queue;
mod schedule;
mod step;
mod tasks;
mod tick;
mod work;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::error::{Error, ErrorKind};
use crate::partition::{Halt, Run, Transaction};

use operation::{TaskAnswer, TaskOperation};

pub use keep::{Kept, keep, replay};
pub use keys::id_of_task;
pub use place::TASK_EVENTS;

/// What `operation` does and answers.
pub fn run(operation: &TaskOperation, tx: &mut Transaction<'_>) -> Run<TaskAnswer> {
    // Two calls of one batch must not give out the same leases.
    let seed = tx.seed() ^ (tx.written() as u64) << 32;
    match operation {
        TaskOperation::Enqueue(new) => tasks::enqueue(tx, new),
        TaskOperation::EnqueueMany(tasks) => tasks::enqueue_many(tx, tasks),
        TaskOperation::EnqueueEach(tasks) => tasks::enqueue_each(tx, tasks),
        TaskOperation::Get(id) => tasks::get(tx, *id),
        TaskOperation::List(wanted) => list::page(tx, wanted),
        TaskOperation::Work(wanted) => work::work(tx, wanted, seed),
        TaskOperation::Renew { leases, lease_ms } => work::renew(tx, leases, *lease_ms),
        TaskOperation::Check { leases } => work::check(tx, leases),
        TaskOperation::Progress { lease, progress } => work::progress(tx, lease, *progress),
        TaskOperation::Cancel(id) => tasks::cancel(tx, *id),
        TaskOperation::Retry(id) => tasks::retry(tx, *id),
        TaskOperation::Redrive { queue, limit, after } => tasks::redrive(tx, queue, *limit, after.as_deref()),
        TaskOperation::Remove(id) => tasks::remove(tx, *id),
        TaskOperation::Drain { queue } => tasks::drain(tx, queue),
        TaskOperation::Queues => queue::describe_all(tx),
        TaskOperation::Queue { queue } => queue::describe(tx, queue),
        TaskOperation::Configure { queue, settings } => queue::configure(tx, queue, settings),
        TaskOperation::Pause { queue, paused } => queue::pause(tx, queue, *paused),
        TaskOperation::Ready { queues } => work::ready(tx, queues),
        TaskOperation::PutSchedule(schedule) => schedule::put(tx, schedule),
        TaskOperation::RemoveSchedule { name } => schedule::remove(tx, name),
        TaskOperation::Schedules => schedule::all(tx),
        TaskOperation::Overdue { since, instance } => tick::overdue(tx, *since, *instance),
        TaskOperation::Tick { queue, since } => tick::tick(tx, queue.as_deref(), *since),
        TaskOperation::Opened { instance } => era::open(tx, *instance),
    }
}

/// How often it is said of one kind of thing that it cannot be read: it is found again and again.
const SAID_EVERY: Duration = Duration::from_mins(1);

/// What was found about `id`; none where it cannot be read, which must not keep everything else from going on. It stays where
/// it is.
#[expect(clippy::disallowed_methods, reason = "paces the log of the whole process; nothing else follows from it")]
fn readable<T>(what: &'static str, id: impl fmt::Display, found: Run<T>) -> Run<Option<T>> {
    static SAID: Mutex<Said> = Mutex::new(Said(BTreeMap::new()));
    match found {
        Err(Halt::Refused(error)) if error.kind() == ErrorKind::Damaged => {
            let due = SAID.lock().is_due(what, Instant::now());
            if due {
                tracing::error!(%error, what, %id, "passed over because it cannot be read; others may be, too");
            } else {
                tracing::debug!(%error, what, %id, "passed over because it cannot be read");
            }
            Ok(None)
        }
        found => found.map(Some),
    }
}

/// When something was said last, by what it was about.
struct Said(BTreeMap<&'static str, Instant>);

impl Said {
    /// Whether it was not said for a while; it is then said now.
    fn is_due(&mut self, what: &'static str, now: Instant) -> bool {
        let due = self.0.get(what).is_none_or(|last| now.saturating_duration_since(*last) >= SAID_EVERY);
        if due {
            self.0.insert(what, now);
        }
        due
    }
}

fn damaged() -> Error {
    Error::new(ErrorKind::Damaged, "what is stored of a task cannot be read; restore a backup")
}
