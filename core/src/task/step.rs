//! The rules of a task's life as pure steps: a task, what happens to it, and the time; nothing else.

use crate::error::{Error, ErrorKind, Result};

use super::limits;
use super::model::{Backoff, FailedAttempt, Lease, NewTask, Outcome, QueueSettings, TaskState, Token, Verdict};
use super::planted::{self, Planted};
use super::record::{Held, INLINE_BYTES, Params, Record};

/// After so many runs that ended with their lease a task is a dead letter, whatever is left of its attempts: it may be
/// what kills its workers.
pub const MAX_DEATHS: u32 = 3;
/// Newest failures that are kept with a task.
const KEPT_FAILURES: usize = 5;
/// Progress is written at most so often.
pub const PROGRESS_EVERY_MS: i64 = 1_000;
/// One step of priority counts as much as so much waiting.
const STEP_MS: i64 = 60_000;

/// Who owns the partition since when, which decides how long leases of the time before hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Era {
    /// When it was opened.
    pub opened: i64,
    /// The handle that owned it before, whose workers are dead; 0 where there was none.
    pub dead: u64,
}

/// What a claim gives a task.
#[derive(Clone, Debug)]
pub struct Grant<'a> {
    /// The new lease's.
    pub token: Token,
    /// How long it holds.
    pub lease_ms: u64,
    /// Who claims.
    pub worker: &'a str,
    /// See [`Held::instance`].
    pub instance: u64,
}

/// Where a task stands among those that wait in its queue: lower first. One step of priority is worth a minute.
pub fn rank(record: &Record) -> i64 {
    record.ready.saturating_sub(i64::from(record.priority) * STEP_MS)
}

/// A new task of a queue with this number and these settings.
///
/// # Errors
/// `InvalidInput` and `TooLarge` by the limits of [`NewTask`].
pub fn enqueue(new: &NewTask, queue: u16, settings: &QueueSettings, now: i64) -> Result<Record> {
    limits::check_task(new)?;
    let delay = new.delay_ms.map(|ms| now.saturating_add_unsigned(ms));
    let due = delay.or(new.due_at).unwrap_or(now).max(now);
    let inline = new.params.len() <= INLINE_BYTES;
    Ok(Record {
        queue,
        queue_name: new.queue.clone(),
        kind: new.kind.clone().filter(|kind| *kind != new.queue).unwrap_or_default(),
        description: new.description.clone(),
        params: if inline { Params::Inline(new.params.clone()) } else { Params::Apart },
        priority: new.priority,
        state: if due > now { TaskState::Delayed } else { TaskState::Waiting },
        attempt: 0,
        runs: 0,
        max_attempts: new.attempts.unwrap_or(settings.attempts),
        deaths: 0,
        progress: None,
        progress_at: 0,
        result: None,
        created: now,
        due,
        ready: due,
        started: None,
        finished: None,
        unique: new.unique.clone(),
        parent: new.parent,
        worker: None,
        lease: None,
        cancel: false,
        timeout_ms: new.timeout_ms.unwrap_or(settings.timeout_ms),
        backoff: new.backoff.clone().unwrap_or_else(|| settings.backoff.clone()),
        failures: Vec::new(),
        redrives: 0,
        schedule: None,
    })
}

/// Gives a waiting task to a worker. The run counts from here, so that one which takes its process with it counts too.
pub fn claim(mut record: Record, grant: &Grant<'_>, now: i64) -> Record {
    let expires = now.saturating_add_unsigned(grant.lease_ms);
    record.state = TaskState::Active;
    if !planted::is(Planted::CountAfterTheWork) {
        record.attempt += 1;
    }
    record.runs += 1;
    record.started = Some(now);
    record.progress = None;
    record.worker = (!grant.worker.is_empty()).then(|| grant.worker.to_owned());
    record.lease = Some(Held { token: grant.token, expires, gain_ms: grant.lease_ms, instance: grant.instance });
    record
}

/// When the lease of an active task ends. At an opening leases gain their time once more, because their workers could not
/// renew meanwhile; those of the owner before ended with it. What was not renewed since gains nothing at the next one:
/// otherwise owners who die faster than a lease ends would keep the tasks of dead workers for as long as that goes on.
pub fn lease_end(held: &Held, era: &Era) -> i64 {
    if planted::is(Planted::LeaseOnWallClock) {
        return held.expires.saturating_sub(planted::wall_ahead());
    }
    let begun = held.expires.saturating_sub_unsigned(held.gain_ms);
    if begun > era.opened && held.gain_ms > 0 {
        return held.expires;
    }
    if held.instance != 0 && held.instance == era.dead {
        return held.expires.min(era.opened);
    }
    held.expires.max(era.opened.saturating_add_unsigned(held.gain_ms))
}

/// The task with its lease as the era has it.
pub fn prolong(mut record: Record, era: &Era) -> Record {
    if let Some(held) = &mut record.lease {
        let end = lease_end(held, era);
        if end > held.expires {
            (held.expires, held.gain_ms) = (end, 0);
        }
    }
    record
}

/// The lease of `record`, if it is this one and has not ended.
pub fn held<'a>(record: &'a mut Record, lease: &Lease, era: &Era, now: i64) -> Option<&'a mut Held> {
    if record.state != TaskState::Active {
        return None;
    }
    let same_run = record.runs == lease.run || planted::is(Planted::CompleteByIdOnly);
    let held = record.lease.as_mut()?;
    let same = same_run
        && (held.token == lease.token || planted::is(Planted::CompleteByIdOnly) || planted::is(Planted::IgnoreToken));
    (same && lease_end(held, era) > now).then_some(held)
}

/// Lets a lease hold `lease_ms` from now on; answers its new end, or none when it is not held.
pub fn renew(record: &mut Record, lease: &Lease, lease_ms: u64, era: &Era, now: i64) -> Option<i64> {
    let era = &if planted::is(Planted::RenewAfterExpiry) { Era { opened: now, dead: 0 } } else { *era };
    let held = held(record, lease, era, now)?;
    held.expires = now.saturating_add_unsigned(lease_ms);
    held.gain_ms = lease_ms;
    Some(held.expires)
}

/// Ends a run. `chance` is what the backoff draws from.
pub fn report(mut record: Record, lease: &Lease, outcome: &Outcome, at: (&Era, i64), chance: u64) -> (Record, Verdict) {
    let (era, now) = at;
    let era = &if planted::is(Planted::CompleteAfterExpiry) { Era { opened: now, dead: 0 } } else { *era };
    if held(&mut record, lease, era, now).is_none() {
        return (record, Verdict::Stale);
    }
    if planted::is(Planted::CountAfterTheWork) && !matches!(outcome, Outcome::Released) {
        record.attempt += 1;
    }
    let record = match outcome {
        Outcome::Completed { result } => {
            record.result = (!result.is_null()).then(|| result.clone());
            record.progress = Some(1.0);
            finish(record, TaskState::Completed, now)
        }
        Outcome::Failed { error, retry } => {
            note_failure(&mut record, error, now);
            let again = *retry && record.attempt < record.max_attempts && !planted::is(Planted::NoRetry);
            if record.cancel {
                finish(record, TaskState::Cancelled, now)
            } else if again {
                let due = now.saturating_add_unsigned(backoff(&record.backoff, record.attempt, chance));
                wait_until(record, due, now)
            } else {
                finish(record, TaskState::Failed, now)
            }
        }
        Outcome::Cancelled if !planted::is(Planted::CancelForgotten) => finish(record, TaskState::Cancelled, now),
        Outcome::Released if record.cancel => finish(record, TaskState::Cancelled, now),
        Outcome::Released | Outcome::Cancelled => {
            if !planted::is(Planted::ReleaseCounts) {
                record.attempt = record.attempt.saturating_sub(1);
            }
            wait_again(record)
        }
    };
    let state = record.state;
    (record, Verdict::Accepted(state))
}

/// Lets a task that is to run again wait so much longer than its backoff says.
pub fn hold_back(record: Record, ms: u64, now: i64) -> Record {
    let due = record.due.saturating_add_unsigned(ms);
    wait_until(record, due, now)
}

/// Takes a task back whose lease has ended; none when it has not.
pub fn expire(mut record: Record, era: &Era, now: i64) -> Option<Record> {
    let held = record.lease.filter(|_| record.state == TaskState::Active)?;
    if lease_end(&held, era) > now && !planted::is(Planted::RescueById) {
        return None;
    }
    record.deaths += 1;
    note_failure(&mut record, "the worker died, or could not renew the lease in time", now);
    let dead = record.attempt >= record.max_attempts || record.deaths >= MAX_DEATHS;
    Some(if record.cancel {
        finish(record, TaskState::Cancelled, now)
    } else if dead && !planted::is(Planted::DeathsNotCounted) {
        finish(record, TaskState::Failed, now)
    } else {
        wait_again(record)
    })
}

/// Lets a delayed task wait to be claimed, where its time has come.
pub fn promote(mut record: Record, now: i64) -> Option<Record> {
    if record.state != TaskState::Delayed || record.due > now {
        return None;
    }
    record.state = TaskState::Waiting;
    record.ready = record.due;
    Some(record)
}

/// Cancels a task, or asks its worker to; none when there is nothing to cancel.
pub fn cancel(mut record: Record, now: i64) -> Option<Record> {
    match record.state {
        TaskState::Waiting | TaskState::Delayed => Some(finish(record, TaskState::Cancelled, now)),
        TaskState::Active if !record.cancel => {
            record.cancel = true;
            Some(record)
        }
        _ => None,
    }
}

/// Brings a task back that failed for good or was cancelled, with all of its attempts, or lets a delayed one run now; none for any
/// other. Payload, history and unique key stay.
pub fn retry(mut record: Record, now: i64) -> Option<Record> {
    match record.state {
        TaskState::Failed | TaskState::Cancelled => {
            record.attempt = 0;
            record.deaths = 0;
            record.cancel = false;
            record.progress = None;
            record.finished = None;
            record.redrives += 1;
        }
        TaskState::Delayed => {}
        TaskState::Waiting | TaskState::Active | TaskState::Completed => return None,
    }
    Some(wait_until(record, now, now))
}

/// How long a task waits after its run number `attempt` failed.
pub fn backoff(backoff: &Backoff, attempt: u32, chance: u64) -> u64 {
    match backoff {
        Backoff::Exponential { base_ms, cap_ms } => {
            let doublings = attempt.saturating_sub(1).min(40);
            let bound = base_ms.saturating_mul(1 << doublings).min(*cap_ms);
            // Full jitter: any time up to the bound, so that tasks which failed together do not come back together.
            ((u128::from(chance) * (u128::from(bound) + 1)) >> 64) as u64
        }
        Backoff::Fixed { ms } => *ms,
        Backoff::Custom { ms } => {
            let at = (attempt.saturating_sub(1) as usize).min(ms.len().saturating_sub(1));
            ms.get(at).copied().unwrap_or(0)
        }
    }
}

/// What callers are told when a queue takes no more.
pub fn full(queue: &str, limit: u64) -> Error {
    Error::new(ErrorKind::Overloaded, "the queue is full; retry later").with("queue", queue).with("limit", limit)
}

fn finish(mut record: Record, state: TaskState, now: i64) -> Record {
    record.state = state;
    record.finished = Some(now);
    record.lease = None;
    record
}

/// Back to where it stood: it does not lose its place to those that came later.
fn wait_again(mut record: Record) -> Record {
    record.state = TaskState::Waiting;
    record.lease = None;
    record
}

fn wait_until(mut record: Record, due: i64, now: i64) -> Record {
    record.state = if due > now { TaskState::Delayed } else { TaskState::Waiting };
    record.due = due;
    record.ready = due;
    record.lease = None;
    record
}

fn note_failure(record: &mut Record, error: &str, now: i64) {
    if record.failures.len() == KEPT_FAILURES {
        record.failures.remove(0);
    }
    let error = limits::cut(error).to_owned();
    record.failures.push(FailedAttempt { attempt: record.attempt, at: now, error });
}
