//! Schedules: tasks that are enqueued again and again, each time once.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::engine::{Direction, MAX_PAGE_ENTRIES};
use crate::error::{Error, ErrorKind, Result};
use crate::partition::{Halt, Run, Transaction};

use super::cron::Times;
use super::model::{Misfire, NewTask, Schedule, ScheduleInfo, TaskId};
use super::operation::TaskAnswer;
use super::{damaged, keys, limits, tasks};

const VERSION: u8 = 1;
/// A firing that comes no later than this is in time: the tick comes once a second.
const IN_TIME_MS: i64 = 10_000;
/// So many late firings are made up for at most.
const MADE_UP: usize = 1_000;
/// One step looks at so many schedules,
const SCHEDULES: usize = 64;
/// and fires so many times.
const FIRINGS: usize = 100;

/// A schedule as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Stored {
    schedule: Schedule,
    next: Option<i64>,
    last: Option<i64>,
    last_task: Option<TaskId>,
    fired: u64,
    error: Option<String>,
}

impl Stored {
    fn info(self) -> ScheduleInfo {
        ScheduleInfo {
            schedule: self.schedule,
            next_at: self.next,
            last_at: self.last,
            last_task: self.last_task,
            fired: self.fired,
            error: self.error,
        }
    }
}

/// Sets a schedule; what it has fired so far stays known.
pub fn put(tx: &mut Transaction<'_>, schedule: &Schedule) -> Run<TaskAnswer> {
    limits::check_name(&schedule.name)?;
    limits::check_task(&schedule.task)?;
    if schedule.task.due_at.is_some() {
        return Err(Error::invalid("the task of a schedule has no due time of its own; give it a delay").into());
    }
    let times = Times::new(schedule)?;
    let next = if schedule.paused { None } else { times.after(tx.now()) };
    if next.is_none() && !schedule.paused {
        return Err(Error::invalid("the schedule never fires").with("cron", &schedule.cron).into());
    }
    let new = if let Some(old) = load(tx, &schedule.name)? {
        clear_slot(tx, &old)?;
        Stored { schedule: schedule.clone(), next, error: None, ..old }
    } else {
        if tx.scan(&keys::schedules(), Direction::Forward, MAX_PAGE_ENTRIES)?.len() >= limits::MAX_SCHEDULES {
            let error = Error::new(ErrorKind::TooLarge, "the database has as many schedules as it can hold");
            return Err(error.with("limit", limits::MAX_SCHEDULES).into());
        }
        Stored { schedule: schedule.clone(), next, last: None, last_task: None, fired: 0, error: None }
    };
    save(tx, &new)?;
    Ok(TaskAnswer::Schedule(Box::new(new.info())))
}

/// Ends a schedule.
pub fn remove(tx: &mut Transaction<'_>, name: &str) -> Run<TaskAnswer> {
    let Some(old) = load(tx, name)? else { return Ok(TaskAnswer::Removed(false)) };
    clear_slot(tx, &old)?;
    tx.delete(keys::schedule(name))?;
    Ok(TaskAnswer::Removed(true))
}

/// One schedule as it stands.
pub fn describe(tx: &mut Transaction<'_>, name: &str) -> Run<TaskAnswer> {
    let found = load(tx, name)?;
    let found = found.ok_or_else(|| Error::new(ErrorKind::NotFound, "no such schedule").with("schedule", name))?;
    Ok(TaskAnswer::Schedule(Box::new(found.info())))
}

/// Every schedule as it stands, by name.
pub fn all(tx: &mut Transaction<'_>) -> Run<TaskAnswer> {
    let page = tx.scan(&keys::schedules(), Direction::Forward, MAX_PAGE_ENTRIES)?;
    let infos = page.iter().map(|entry| Ok(decode(&entry.value)?.info())).collect::<Run<_>>()?;
    Ok(TaskAnswer::Schedules(infos))
}

/// Fires what is due; whether there is more. The slot moves in the operation that enqueues, so that no slot fires twice.
pub fn fire_due(tx: &mut Transaction<'_>) -> Run<bool> {
    let now = tx.now();
    let found = tx.scan(&keys::slots_by(now), Direction::Forward, SCHEDULES)?;
    let mut firings = 0;
    for entry in &found {
        if firings >= FIRINGS {
            return Ok(true);
        }
        let (at, name) = keys::split_slot(&entry.key).ok_or_else(damaged)?;
        match load(tx, name)?.filter(|stored| stored.next == Some(at)) {
            Some(stored) => firings += fire(tx, stored, at, now, FIRINGS - firings)?,
            None => tx.delete(entry.key.clone())?,
        }
    }
    Ok(found.len() == SCHEDULES || !tx.scan(&keys::slots_by(now), Direction::Forward, 1)?.is_empty())
}

/// Fires one schedule from its slot `at` on, at most `most` times; how often it did.
fn fire(tx: &mut Transaction<'_>, mut stored: Stored, at: i64, now: i64, most: usize) -> Run<usize> {
    clear_slot(tx, &stored)?;
    let Ok(times) = Times::new(&stored.schedule) else {
        // A zone that this build no longer knows: resting is better than firing at wrong times.
        stored.error = Some("the time zone or cron expression is not known to this version".to_owned());
        stored.next = None;
        save(tx, &stored)?;
        return Ok(0);
    };
    let mut slot = first_slot(&times, stored.schedule.misfire, at, now);
    let mut firings = 0;
    while let Some(this) = slot.filter(|&slot| slot <= now && firings < most) {
        slot = times.after(this);
        enqueue(tx, &mut stored, this)?;
        firings += 1;
    }
    stored.next = slot;
    save(tx, &stored)?;
    Ok(firings)
}

/// The first slot from `at` on that the misfire rule lets fire.
fn first_slot(times: &Times, misfire: Misfire, at: i64, now: i64) -> Option<i64> {
    let in_time = now.saturating_sub(IN_TIME_MS);
    if at >= in_time {
        return Some(at);
    }
    match misfire {
        Misfire::Skip => times.after(in_time - 1),
        Misfire::Once => times.until(in_time - 1).filter(|&newest| newest >= at).or(Some(at)),
        Misfire::All => {
            let mut slot = now;
            for _ in 0..MADE_UP {
                match times.until(slot) {
                    Some(before) if before > at => slot = before - 1,
                    _ => return Some(at),
                }
            }
            times.after(slot)
        }
    }
}

fn enqueue(tx: &mut Transaction<'_>, stored: &mut Stored, slot: i64) -> Run<()> {
    let new: NewTask = stored.schedule.task.clone();
    match tasks::enqueue_scheduled(tx, &new, (&stored.schedule.name, slot)) {
        Ok(added) if added.existing => stored.error = Some("a task with its unique key has not ended".to_owned()),
        Ok(added) => {
            stored.last_task = Some(added.id);
            stored.fired += 1;
            stored.error = None;
        }
        // A full queue loses this firing, not the schedule.
        Err(Halt::Refused(error)) => stored.error = Some(limits::cut(&error.to_string()).to_owned()),
        Err(Halt::NeedsRead) => return Err(Halt::NeedsRead),
    }
    stored.last = Some(slot);
    Ok(())
}

fn load(tx: &mut Transaction<'_>, name: &str) -> Run<Option<Stored>> {
    let stored = tx.get(&keys::schedule(name))?;
    Ok(stored.map(|stored| decode(&stored.value)).transpose()?)
}

fn save(tx: &mut Transaction<'_>, stored: &Stored) -> Run<()> {
    if let Some(next) = stored.next {
        tx.put(keys::slot(next, &stored.schedule.name), Bytes::new())?;
    }
    let bytes = postcard::to_extend(stored, vec![VERSION]).expect("a schedule has a binary form");
    tx.put(keys::schedule(&stored.schedule.name), bytes.into())
}

fn clear_slot(tx: &mut Transaction<'_>, stored: &Stored) -> Run<()> {
    stored.next.map_or(Ok(()), |next| tx.delete(keys::slot(next, &stored.schedule.name)))
}

fn decode(bytes: &[u8]) -> Result<Stored> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(|error| damaged().caused_by(error)),
        _ => Err(damaged()),
    }
}
