//! What time alone does to tasks: some become due, leases end, and what has been kept long enough goes.

use bytes::Bytes;

use crate::engine::{Direction, EventKind, KeyRange, KeyValue, MAX_PAGE_ENTRIES};
use crate::partition::{Run, Transaction};

use super::front::{self, Front};
use super::model::TaskState;
use super::operation::TaskAnswer;
use super::place::{self, Told};
use super::planted::{self, Planted};
use super::queue::{self, Queue};
use super::record::Record;
use super::step::{self, Era};
use super::tasks::{self, TaskOf};
use super::work::{self, Promoted};
use super::{damaged, era, keys, schedule};

/// One step takes back at most so many tasks,
const LEASES: usize = 256;
/// and forgets at most so many, of all states: each is up to five keys, of which an operation writes not any number.
const FORGOTTEN: usize = 1_000;
/// A step ends once it has written this much.
const STEP_BYTES: usize = 256 << 10;

/// Where there is something to do; a read, so that an idle database writes nothing.
pub fn overdue(tx: &mut Transaction<'_>, since: i64, instance: u64) -> Run<TaskAnswer> {
    let now = tx.now();
    let all = queue::all(tx)?;
    let opened = era::is_begun(tx, instance, all.len())?;
    let mut queues = Vec::new();
    for (name, queue) in all {
        let ranges = [due(queue.number, since, now), ended(&queue, since, now)];
        let mut found = since == i64::MIN && found_before_front(tx, queue.number)?.is_some();
        for range in ranges {
            found = found || !tx.scan(&range, Direction::Forward, 1)?.is_empty();
        }
        for state in [TaskState::Completed, TaskState::Failed, TaskState::Cancelled] {
            found = found || surplus(tx, &queue, state)? > 0;
        }
        if found {
            queues.push(name);
        }
    }
    let schedules = !tx.scan(&keys::slots_by(now), Direction::Forward, 1)?.is_empty();
    Ok(TaskAnswer::Overdue { queues, schedules, opened })
}

/// One step in one queue, or of the schedules.
pub fn tick(tx: &mut Transaction<'_>, queue: Option<&str>, since: i64) -> Run<TaskAnswer> {
    let Some(name) = queue else { return schedule::fire_due(tx).map(TaskAnswer::More) };
    let Some(queue) = queue::load(tx, name)? else { return Ok(TaskAnswer::More(false)) };
    if since == i64::MIN
        && let Some(first) = found_before_front(tx, queue.number)?
    {
        tracing::info!(queue = name, "claims look again at tasks that could not be read");
        front::move_back(tx, queue.number, &first)?;
    }
    let due = promote(tx, queue.number, since)?;
    let leases = end_leases(tx, &queue, since)?;
    let (mut kept_too_long, mut most) = (false, FORGOTTEN);
    for state in [TaskState::Completed, TaskState::Failed, TaskState::Cancelled] {
        let forgotten = if tx.written() >= STEP_BYTES { None } else { forget(tx, &queue, state, most)? };
        kept_too_long |= forgotten.is_none();
        most -= forgotten.unwrap_or(most);
    }
    Ok(TaskAnswer::More(due || leases || kept_too_long))
}

/// Tasks that became due since then. Not only since the last promotion: where several processes write, the clock of one
/// may be behind, and what it delays may be due before that.
fn due(queue: u16, since: i64, now: i64) -> KeyRange {
    let since = if planted::is(Planted::DueNotPromoted) { now } else { since };
    keys::entries_between(queue, TaskState::Delayed, since, now)
}

fn promote(tx: &mut Transaction<'_>, queue: u16, since: i64) -> Run<bool> {
    let range = due(queue, since, tx.now());
    let promoted = work::promote(tx, &range)?;
    if promoted == Promoted::All {
        let front = Front { promoted: tx.now(), ..front::load(tx, queue)? };
        front::save(tx, queue, &front)?;
    }
    Ok(promoted == Promoted::Some)
}

/// Where the claims of the queue have to begin again, if anywhere. They have passed over what lies before its front because
/// it could not be read, and find it only then. One page of it is looked at: what follows a page that still cannot be read is
/// for the claims, which pass over it once more.
fn found_before_front(tx: &mut Transaction<'_>, queue: u16) -> Run<Option<Bytes>> {
    let passed_over = front::load(tx, queue)?.passed_over(queue);
    if passed_over.is_empty() {
        return Ok(None);
    }
    let page = tx.scan(&passed_over, Direction::Forward, MAX_PAGE_ENTRIES)?;
    tasks::fetch(tx, &page)?;
    for entry in &page {
        if work::is_taken_up(tx, entry)? {
            return Ok(Some(entry.key.clone()));
        }
    }
    let behind = page.last().filter(|_| page.len() == MAX_PAGE_ENTRIES).map(|last| front::behind(&last.key));
    // Otherwise the page was all there is.
    Ok(behind.filter(|behind| passed_over.contains(behind)))
}

/// Leases of the queue that ended by now, by what their entries say.
fn ended(queue: &Queue, since: i64, now: i64) -> KeyRange {
    let until = if planted::is(Planted::RescueById) { i64::MAX } else { now };
    keys::entries_between(queue.number, TaskState::Active, since, until)
}

fn end_leases(tx: &mut Transaction<'_>, queue: &Queue, since: i64) -> Run<bool> {
    let mut rest = ended(queue, since, tx.now());
    let (era, before) = (era::load(tx)?, tx.written());
    loop {
        let found = tx.scan(&rest, Direction::Forward, LEASES)?;
        tasks::fetch(tx, &found)?;
        for entry in &found {
            if tx.written() >= STEP_BYTES {
                return Ok(true);
            }
            end_one(tx, entry, &era, |_| true)?;
        }
        let Some(last) = found.last().filter(|_| found.len() == LEASES) else { return Ok(false) };
        if tx.written() > before {
            return Ok(true);
        }
        // None of them can be read: the next step would find the same.
        rest.start = front::behind(&last.key);
    }
}

/// Ends a lease that `ends`, or prolongs it, where its task can be read.
fn end_one(tx: &mut Transaction<'_>, entry: &KeyValue, era: &Era, ends: impl FnOnce(&Record) -> bool) -> Run<()> {
    match tasks::task_of(tx, "a task with a lease", entry)? {
        TaskOf::Nobody => tx.delete(entry.key.clone()),
        TaskOf::Task(id, old) if ends(&old) => match step::expire(Record::clone(&old), era, tx.now()) {
            Some(new) => place::replace(tx, id, &old, &new, Told::Yes(EventKind::Updated)),
            // Otherwise it would stand before all others until it ends.
            None => place::replace(tx, id, &old, &step::prolong(Record::clone(&old), era), Told::No),
        },
        TaskOf::Task(..) | TaskOf::Unreadable => Ok(()),
    }
}

/// Ends leases whose workers died with the owner before; whether there are more.
pub fn end_leases_of_the_dead(tx: &mut Transaction<'_>, queue: u16, era: &Era) -> Run<bool> {
    let mut rest = keys::entries(queue, TaskState::Active);
    loop {
        let found = tx.scan(&rest, Direction::Forward, LEASES)?;
        tasks::fetch(tx, &found)?;
        for entry in &found {
            if tx.written() >= STEP_BYTES {
                return Ok(true);
            }
            let dead = |record: &Record| record.lease.is_some_and(|held| step::lease_end(&held, era) <= era.opened);
            end_one(tx, entry, era, dead)?;
        }
        let Some(last) = found.last().filter(|_| found.len() == LEASES) else { return Ok(false) };
        rest.start = front::behind(&last.key);
    }
}

/// Tasks that ended and have not been looked at because of their age yet.
fn kept(tx: &mut Transaction<'_>, queue: u16, state: TaskState) -> Run<KeyRange> {
    let range = keys::entries(queue, state);
    let start = tx.get(&keys::trimmed(queue, state))?.map(|stored| stored.value);
    Ok(KeyRange { start: start.unwrap_or(range.start), end: range.end })
}

/// How many tasks of a state are to be forgotten, as far as one step would see.
fn surplus(tx: &mut Transaction<'_>, queue: &Queue, state: TaskState) -> Run<usize> {
    let settings = &queue.settings;
    let (keep_ms, keep_count) = match state {
        TaskState::Failed => (settings.keep_failed_ms, u64::MAX),
        _ => (settings.keep_ms, settings.keep_count),
    };
    let count = queue::count(tx, queue.number, state)?;
    if count > keep_count {
        return Ok(usize::try_from(count - keep_count).unwrap_or(usize::MAX));
    }
    if count == 0 {
        return Ok(0);
    }
    let until = tx.now().saturating_sub_unsigned(keep_ms);
    let range = kept(tx, queue.number, state)?;
    let old = |at: i64| at <= until;
    let first = tx.scan(&range, Direction::Forward, 1)?;
    let first = first.first().and_then(|entry| keys::split_entry(&entry.key));
    if !first.is_some_and(|(at, _)| old(at)) {
        return Ok(0);
    }
    let found = tx.scan(&range, Direction::Forward, FORGOTTEN)?;
    Ok(found.iter().filter_map(|entry| keys::split_entry(&entry.key)).take_while(|(at, _)| old(*at)).count())
}

/// Forgets tasks of a state that were kept long enough, at most `most`; how many, and none where there may be more.
fn forget(tx: &mut Transaction<'_>, queue: &Queue, state: TaskState, most: usize) -> Run<Option<usize>> {
    let surplus = surplus(tx, queue, state)?;
    if surplus == 0 || most == 0 {
        return Ok((surplus == 0).then_some(0));
    }
    let range = kept(tx, queue.number, state)?;
    let found = tx.scan(&range, Direction::Forward, surplus.min(most))?;
    for entry in &found {
        let (_, id) = keys::split_entry(&entry.key).ok_or_else(damaged)?;
        place::forget(tx, queue.number, state, entry, id)?;
    }
    // Behind here, so that the next step does not walk over what this one removed. Tasks end in the order of time, so
    // that none comes before it.
    if let Some(last) = found.last() {
        tx.put(keys::trimmed(queue.number, state), front::behind(&last.key))?;
    }
    Ok((found.is_empty() || surplus <= most && found.len() < most).then_some(found.len()))
}
