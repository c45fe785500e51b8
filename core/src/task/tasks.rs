//! Single tasks: enqueue, read, cancel, bring back, remove.

use bytes::Bytes;

use crate::engine::{Direction, EventKind, KeyRange, KeyValue};
use crate::error::{Error, ErrorKind};
use crate::partition::{Halt, Run, Transaction};

use super::json::Json;
use super::model::{Enqueued, EnqueuedId, NewTask, Redriven, Task, TaskId, TaskState};
use super::operation::TaskAnswer;
use super::place::{self, Told};
use super::queue::{self, Queue};
use super::record::{Params, Record};
use super::{budget, damaged, front, keys, limits, list, readable, step};

/// Ids carry their partition in so many of their lowest values; a database has one partition.
const PARTITIONS_IN_ID: u64 = 1_024;
const PARTITION: u64 = 0;
/// A step of draining or redriving ends once it has written this much.
const STEP_BYTES: usize = 256 << 10;
/// A drain reads so many tasks at a time, most of which a step has room for.
const DRAIN_PAGE: usize = 250;
/// The range in the cursors of a redrive: there is one only.
const LETTERS: usize = 0;
/// One step looks at so many dead letters, or tasks to drain that cannot be read: everybody else waits meanwhile.
const MOST_LOOKED_AT: usize = 5 * limits::MAX_TASKS;

/// The task `id`.
pub fn load(tx: &mut Transaction<'_>, id: TaskId) -> Run<Option<Record>> {
    let stored = tx.get(&keys::task(id))?;
    Ok(stored.map(|stored| Record::decode(&stored.value)).transpose()?)
}

/// The task `id`, where there is one that can be read. The log names it by `what` where it cannot.
pub fn load_readable(tx: &mut Transaction<'_>, what: &'static str, id: TaskId) -> Run<Option<Record>> {
    let found = load(tx, id);
    Ok(readable(what, id, found)?.flatten())
}

/// What stands behind an entry.
pub enum TaskOf {
    /// The task whose entry it is.
    Task(TaskId, Box<Record>),
    /// None: whoever finds such an entry takes it away, or would find it again and again.
    Nobody,
    /// A task that cannot be read. Its entry stays.
    Unreadable,
}

/// What stands behind `entry`. The log names the task by `what` where it cannot be read.
pub fn task_of(tx: &mut Transaction<'_>, what: &'static str, entry: &KeyValue) -> Run<TaskOf> {
    let (_, id) = keys::split_entry(&entry.key).ok_or_else(damaged)?;
    let found = load(tx, id);
    Ok(match readable(what, id, found)? {
        None => TaskOf::Unreadable,
        Some(Some(record)) if place::entry(id, &record) == entry.key => TaskOf::Task(id, Box::new(record)),
        Some(_) => TaskOf::Nobody,
    })
}

/// Reads the tasks of `entries`, so that all of them are fetched in one round, where reads are not at hand.
pub fn fetch(tx: &mut Transaction<'_>, entries: &[KeyValue]) -> Run<()> {
    fetch_all(tx, entries.iter().filter_map(|entry| keys::split_entry(&entry.key)).map(|(_, id)| id))
}

/// As [`fetch`], of tasks by their numbers.
pub fn fetch_all(tx: &mut Transaction<'_>, ids: impl Iterator<Item = TaskId>) -> Run<()> {
    let mut missing = false;
    for id in ids {
        match tx.get(&keys::task(id)) {
            Ok(_) => {}
            Err(Halt::NeedsRead) => missing = true,
            Err(refused) => return Err(refused),
        }
    }
    if missing { Err(Halt::NeedsRead) } else { Ok(()) }
}

/// The task as callers see it.
pub fn render(tx: &mut Transaction<'_>, id: TaskId, record: Record) -> Run<Task> {
    let apart = match record.params {
        Params::Inline(_) => None,
        Params::Apart => Some(Json::from_stored(tx.get(&keys::params(id))?.ok_or_else(damaged)?.value)),
    };
    Ok(record.into_task(id, apart))
}

/// What became of a task that was to be added.
struct Added {
    id: TaskId,
    record: Record,
    existing: bool,
}

/// Adds a task.
pub fn enqueue(tx: &mut Transaction<'_>, new: &NewTask) -> Run<TaskAnswer> {
    let queue = queue::load_or_add(tx, &new.queue)?;
    let added = add_one(tx, new, &queue, None)?;
    Ok(TaskAnswer::Enqueued(Box::new(told(tx, new, added)?)))
}

/// Adds tasks, all or none.
pub fn enqueue_many(tx: &mut Transaction<'_>, tasks: &[NewTask]) -> Run<TaskAnswer> {
    let mut added = Vec::with_capacity(tasks.len());
    add_all(tx, tasks, |_, _, one| {
        added.push(EnqueuedId { id: one.id, existing: one.existing });
        Ok(())
    })?;
    Ok(TaskAnswer::EnqueuedMany(added))
}

/// Adds tasks, all or none, and answers each.
pub fn enqueue_each(tx: &mut Transaction<'_>, tasks: &[NewTask]) -> Run<TaskAnswer> {
    let mut added = Vec::with_capacity(tasks.len());
    add_all(tx, tasks, |tx, new, one| {
        added.push(told(tx, new, one)?);
        Ok(())
    })?;
    Ok(TaskAnswer::EnqueuedEach(added))
}

fn told(tx: &mut Transaction<'_>, new: &NewTask, added: Added) -> Run<Enqueued> {
    let Added { id, record, existing } = added;
    let apart = (record.params == Params::Apart && !existing).then(|| new.params.clone());
    let task = if existing { render(tx, id, record)? } else { record.into_task(id, apart) };
    Ok(Enqueued { task, existing })
}

fn add_all(
    tx: &mut Transaction<'_>,
    tasks: &[NewTask],
    mut done: impl FnMut(&mut Transaction<'_>, &NewTask, Added) -> Run<()>,
) -> Run<()> {
    limits::check_many(tasks.len())?;
    let mut known: Option<(&str, Queue)> = None;
    let mut numbers = Numbers::default();
    for (n, new) in tasks.iter().enumerate() {
        let place = |halt| match halt {
            Halt::Refused(error) => error.with("task", n).into(),
            Halt::NeedsRead => halt,
        };
        let queue = match known.take() {
            Some((name, queue)) if name == new.queue => queue,
            _ => queue::load_or_add(tx, &new.queue).map_err(place)?,
        };
        let one = add(tx, new, &queue, None, &mut numbers).map_err(place)?;
        done(tx, new, one)?;
        known = Some((&new.queue, queue));
    }
    numbers.save(tx)
}

/// Adds the task of a schedule; its number, and whether its unique key was free.
pub fn enqueue_scheduled(tx: &mut Transaction<'_>, new: &NewTask, firing: (&str, i64)) -> Run<EnqueuedId> {
    let queue = queue::load_or_add(tx, &new.queue)?;
    let added = add_one(tx, new, &queue, Some(firing))?;
    Ok(EnqueuedId { id: added.id, existing: added.existing })
}

fn add_one(tx: &mut Transaction<'_>, new: &NewTask, queue: &Queue, firing: Option<(&str, i64)>) -> Run<Added> {
    let mut numbers = Numbers::default();
    let added = add(tx, new, queue, firing, &mut numbers)?;
    numbers.save(tx)?;
    Ok(added)
}

fn add(
    tx: &mut Transaction<'_>,
    new: &NewTask,
    queue: &Queue,
    firing: Option<(&str, i64)>,
    numbers: &mut Numbers,
) -> Run<Added> {
    let mut record = step::enqueue(new, queue.number, &queue.settings, tx.now())?;
    if let Some((schedule, slot)) = firing {
        record.schedule = Some(schedule.to_owned());
        if new.delay_ms.is_none() {
            // The slot, however late it comes, so that the handler knows which time it runs for.
            (record.due, record.ready) = (slot, slot);
        }
    }
    if let Some(unique) = &new.unique
        && let Some(id) = holder(tx, queue.number, unique)?
    {
        let record = load(tx, id)?.ok_or_else(damaged)?;
        return Ok(Added { id, record, existing: true });
    }
    if let Some(limit) = queue.settings.max_length {
        let waiting = queue::count(tx, queue.number, TaskState::Waiting)?;
        if waiting + queue::count(tx, queue.number, TaskState::Delayed)? >= limit {
            return Err(step::full(&new.queue, limit).into());
        }
    }
    let id = numbers.take(tx)?;
    place::add(tx, id, &record, &new.params)?;
    Ok(Added { id, record, existing: false })
}

fn holder(tx: &mut Transaction<'_>, queue: u16, unique: &str) -> Run<Option<TaskId>> {
    let stored = tx.get(&keys::unique(queue, unique))?;
    let id = stored.map(|stored| stored.value[..].try_into().map(u64::from_be_bytes).map_err(|_| damaged()));
    Ok(id.transpose()?)
}

/// Numbers for new tasks, read and written once for all tasks of an operation.
#[derive(Default)]
struct Numbers {
    next: Option<u64>,
}

impl Numbers {
    fn take(&mut self, tx: &mut Transaction<'_>) -> Run<TaskId> {
        let number = match self.next {
            Some(number) => number,
            None => match tx.get(&keys::next_task())? {
                Some(next) => next.value[..].try_into().map(u64::from_be_bytes).map_err(|_| damaged())?,
                None => 1,
            },
        };
        self.next = Some(number + 1);
        Ok(number * PARTITIONS_IN_ID + PARTITION)
    }

    /// Before anything else of the operation may take some.
    fn save(self, tx: &mut Transaction<'_>) -> Run<()> {
        let Some(next) = self.next else { return Ok(()) };
        tx.put(keys::next_task(), Bytes::copy_from_slice(&next.to_be_bytes()))
    }
}

/// Reads one task.
pub fn get(tx: &mut Transaction<'_>, id: TaskId) -> Run<TaskAnswer> {
    let Some(record) = load(tx, id)? else { return Ok(TaskAnswer::Task(None)) };
    Ok(TaskAnswer::Task(Some(Box::new(render(tx, id, record)?))))
}

/// Cancels one task.
pub fn cancel(tx: &mut Transaction<'_>, id: TaskId) -> Run<TaskAnswer> {
    let now = tx.now();
    change(tx, id, |_, old| Ok(step::cancel(old, now)))
}

/// Brings one task back, or lets it run now.
pub fn retry(tx: &mut Transaction<'_>, id: TaskId) -> Run<TaskAnswer> {
    let now = tx.now();
    change(tx, id, |tx, old| {
        let Some(new) = step::retry(old.clone(), now) else { return Ok(None) };
        if let Some(unique) = new.unique.as_ref().filter(|_| !place::holds_unique(&old))
            && let Some(other) = holder(tx, new.queue, unique)?
        {
            let error = Error::new(ErrorKind::AlreadyExists, "another task has the unique key of this one by now");
            return Err(error.with("unique", unique).with("task", other).into());
        }
        Ok(Some(new))
    })
}

fn change(
    tx: &mut Transaction<'_>,
    id: TaskId,
    step: impl FnOnce(&mut Transaction<'_>, Record) -> Run<Option<Record>>,
) -> Run<TaskAnswer> {
    let Some(old) = load(tx, id)? else {
        return Err(Error::new(ErrorKind::NotFound, "no such task").with("task", id).into());
    };
    let new = step(tx, old.clone())?;
    let changed = new.is_some();
    if let Some(new) = &new {
        place::replace(tx, id, &old, new, Told::Yes(EventKind::Updated))?;
    }
    let task = render(tx, id, new.unwrap_or(old))?;
    Ok(TaskAnswer::Changed { task: Box::new(task), changed })
}

/// Forgets one task.
pub fn remove(tx: &mut Transaction<'_>, id: TaskId) -> Run<TaskAnswer> {
    let Some(old) = load(tx, id)? else { return Ok(TaskAnswer::Removed(false)) };
    if old.state == TaskState::Active {
        let error = Error::new(ErrorKind::Conflict, "a task that runs cannot be removed; cancel it first");
        return Err(error.with("task", id).into());
    }
    place::remove(tx, id, &old)?;
    Ok(TaskAnswer::Removed(true))
}

/// Brings back some dead letters of a queue, oldest first, behind a cursor; those whose unique key another task has by now
/// stay. What dies again after the first step is not brought back by later ones.
pub fn redrive(tx: &mut Transaction<'_>, name: &str, limit: usize, after: Option<&str>) -> Run<TaskAnswer> {
    limits::check_many(limit)?;
    let after = after.map(list::decode).transpose()?;
    let mut step = Redriven::default();
    let Some(queue) = queue::load(tx, name)? else { return Ok(TaskAnswer::Redriven(step)) };
    let all = keys::entries(queue.number, TaskState::Failed);
    let (until, start) = match &after {
        Some(after) => {
            from_cursor(after, &all).ok_or_else(|| Error::invalid("not a cursor of a redrive of this queue"))?
        }
        None => (tx.now(), all.start),
    };
    let mut letters = KeyRange { start, ..keys::entries_between(queue.number, TaskState::Failed, 0, until) };
    let mut looked_at = 0;
    // Those that stay must not keep the ones behind them.
    loop {
        let found =
            if letters.is_empty() { Vec::new() } else { tx.scan(&letters, Direction::Forward, limits::MAX_TASKS)? };
        if found.is_empty() {
            return Ok(TaskAnswer::Redriven(step));
        }
        for entry in &found {
            if step.redriven == limit as u64 || looked_at == MOST_LOOKED_AT || tx.written() >= STEP_BYTES {
                let place = [&until.to_be_bytes()[..], &letters.start].concat();
                step.next = Some(list::encode(LETTERS, &place));
                return Ok(TaskAnswer::Redriven(step));
            }
            let (_, id) = keys::split_entry(&entry.key).ok_or_else(damaged)?;
            match retry(tx, id) {
                Ok(TaskAnswer::Changed { changed: true, .. }) => step.redriven += 1,
                Err(Halt::Refused(error)) if error.kind() == ErrorKind::AlreadyExists => {}
                other => {
                    other?;
                }
            }
            looked_at += 1;
            letters.start = front::behind(&entry.key);
        }
    }
}

/// Until when the letters of a redrive died, and where it goes on among `all` of the queue.
fn from_cursor((range, place): &(usize, Vec<u8>), all: &KeyRange) -> Option<(i64, Bytes)> {
    let (until, start) = place.split_first_chunk::<8>().filter(|_| *range == LETTERS)?;
    all.contains(start).then(|| (i64::from_be_bytes(*until), Bytes::copy_from_slice(start)))
}

/// Cancels some of what waits or is delayed.
///
/// # Errors
/// `Damaged` once only tasks are left that cannot be read, or where as many as a step looks at stand before all others.
pub fn drain(tx: &mut Transaction<'_>, name: &str) -> Run<TaskAnswer> {
    let Some(queue) = queue::load(tx, name)? else { return Ok(TaskAnswer::More(false)) };
    let front = front::load(tx, queue.number)?;
    let delayed = keys::entries(queue.number, TaskState::Delayed);
    let (mut gone, mut unreadable, mut cut) = (0, 0, false);
    // What claims passed over comes last: all that others took lay there, too.
    'step: for mut rest in [front.waiting(queue.number), delayed, front.passed_over(queue.number)] {
        while !rest.is_empty() {
            let found = tx.scan(&rest, Direction::Forward, DRAIN_PAGE)?;
            fetch(tx, &found)?;
            for entry in &found {
                cut = gone == limits::MAX_TASKS || unreadable == MOST_LOOKED_AT || tx.written() >= STEP_BYTES;
                if cut {
                    break 'step;
                }
                let count = if drain_one(tx, entry)? { &mut gone } else { &mut unreadable };
                *count += 1;
                rest.start = front::behind(&entry.key);
            }
            if found.is_empty() {
                break;
            }
        }
    }
    // An error would take back what the step did. A step that met everything is the last one also where it found some: others
    // may go on adding.
    if gone > 0 && (cut || unreadable > 0) {
        return Ok(TaskAnswer::More(true));
    }
    if unreadable > 0 {
        let error = Error::new(ErrorKind::Damaged, "tasks are left that cannot be read; restore a backup");
        return Err(error.with("queue", name).into());
    }
    budget::forgive(tx, queue.number)?;
    Ok(TaskAnswer::More(false))
}

/// Cancels the task of an entry, or takes an entry away that none stands behind. Not where the task cannot be read.
fn drain_one(tx: &mut Transaction<'_>, entry: &KeyValue) -> Run<bool> {
    match task_of(tx, "a task that is cancelled", entry)? {
        TaskOf::Unreadable => return Ok(false),
        TaskOf::Nobody => tx.delete(entry.key.clone())?,
        TaskOf::Task(id, old) => {
            if let Some(new) = step::cancel(Record::clone(&old), tx.now()) {
                place::replace(tx, id, &old, &new, Told::Yes(EventKind::Updated))?;
            }
        }
    }
    Ok(true)
}
