//! Schedules: tasks that are enqueued again and again, each time once.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::engine::{Direction, MAX_PAGE_ENTRIES};
use crate::error::{Error, ErrorKind, Result};
use crate::partition::{Halt, Run, Transaction};

use super::cron::{Times, zone};
use super::model::{Misfire, NewTask, Schedule, ScheduleInfo, TaskId};
use super::operation::TaskAnswer;
use super::{damaged, front, keys, limits, readable, tasks};

const VERSION: u8 = 1;
/// A firing that comes no later than this is in time: the tick comes once a second.
const IN_TIME_MS: i64 = 10_000;
/// So many late firings are made up for at most.
const MADE_UP: usize = 1_000;
/// Parameters of a schedule's task are at most this long: a firing writes the task and the schedule, each with them.
const MAX_PARAMS_BYTES: usize = 512 << 10;
/// One step looks at so many schedules,
const SCHEDULES: usize = 64;
/// fires so many times,
const FIRINGS: usize = 100;
/// and fires nothing more that would bring it over this, but for its first: a firing that one operation has no room for
/// would be lost, and with it every other that is due.
const STEP_BYTES: usize = 256 << 10;

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
    if is_too_large(schedule) {
        let error = Error::new(ErrorKind::TooLarge, "the parameters of a schedule's task are over their limit");
        return Err(error.with("bytes", schedule.task.params.len()).with("limit", MAX_PARAMS_BYTES).into());
    }
    let times = Times::new(schedule)?;
    let next = if schedule.paused { None } else { times.after(tx.now()) };
    if next.is_none() && !schedule.paused {
        return Err(Error::invalid("the schedule never fires").with("cron", &schedule.cron).into());
    }
    let old = readable("a schedule", &schedule.name, load(tx, &schedule.name))?.flatten();
    // Programs set their schedules whenever they start: what came due while none ran is missed, and not forgotten.
    let missed = old.as_ref().and_then(|old| old.next.filter(|_| same_times(&old.schedule, schedule)));
    let next = missed.or(next);
    let new = if let Some(old) = old {
        clear_slot(tx, &old)?;
        Stored { schedule: schedule.clone(), next, error: None, ..old }
    } else {
        let is_new = tx.get(&keys::schedule(&schedule.name))?.is_none();
        if is_new && tx.scan(&keys::schedules(), Direction::Forward, MAX_PAGE_ENTRIES)?.len() >= limits::MAX_SCHEDULES {
            let error = Error::new(ErrorKind::TooLarge, "the database has as many schedules as it can hold");
            return Err(error.with("limit", limits::MAX_SCHEDULES).into());
        }
        Stored { schedule: schedule.clone(), next, last: None, last_task: None, fired: 0, error: None }
    };
    save(tx, &new)?;
    Ok(TaskAnswer::Schedule(Box::new(new.info())))
}

/// Whether both fire at the same times.
fn same_times(old: &Schedule, new: &Schedule) -> bool {
    (&old.cron, zone(old), old.paused) == (&new.cron, zone(new), new.paused)
}

/// Ends a schedule.
pub fn remove(tx: &mut Transaction<'_>, name: &str) -> Run<TaskAnswer> {
    if tx.get(&keys::schedule(name))?.is_none() {
        return Ok(TaskAnswer::Removed(false));
    }
    // The slot of one that cannot be read is found without its schedule, and goes then.
    if let Some(old) = readable("a schedule", name, load(tx, name))?.flatten() {
        clear_slot(tx, &old)?;
    }
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
    let stored = page.iter().map(|entry| {
        let name = entry.key[1..].escape_ascii();
        readable("a schedule", name, decode(&entry.value).map_err(Into::into))
    });
    let stored = stored.collect::<Run<Vec<_>>>()?;
    Ok(TaskAnswer::Schedules(stored.into_iter().flatten().map(Stored::info).collect()))
}

/// Fires what is due; whether there is more. The slot moves in the operation that enqueues, so that no slot fires twice.
pub fn fire_due(tx: &mut Transaction<'_>) -> Run<bool> {
    let (now, before) = (tx.now(), tx.written());
    let mut rest = keys::slots_by(now);
    let mut firings = 0;
    loop {
        let found = tx.scan(&rest, Direction::Forward, SCHEDULES)?;
        for entry in &found {
            if firings >= FIRINGS {
                return Ok(true);
            }
            let (at, name) = keys::split_slot(&entry.key).ok_or_else(damaged)?;
            let Some(stored) = readable("a schedule that is due", name, load(tx, name))? else { continue };
            match stored.filter(|stored| stored.next == Some(at)) {
                // Also one that only rests, or leaves its slots out, is written with all its parameters.
                Some(stored) if tx.written() > before && !has_room(tx, &stored) => return Ok(true),
                Some(stored) => firings += fire(tx, stored, at, now, FIRINGS - firings)?,
                None => tx.delete(entry.key.clone())?,
            }
        }
        // Where nothing was written, none of these can be read: the next step would find the same.
        let changed = tx.written() > before;
        match found.last() {
            Some(last) if found.len() == SCHEDULES && !changed => rest.start = front::behind(&last.key),
            _ => return Ok(changed && !tx.scan(&keys::slots_by(now), Direction::Forward, 1)?.is_empty()),
        }
    }
}

/// Fires one schedule from its slot `at` on, at most `most` times; how often it did.
fn fire(tx: &mut Transaction<'_>, mut stored: Stored, at: i64, now: i64, most: usize) -> Run<usize> {
    clear_slot(tx, &stored)?;
    let times = match Times::new(&stored.schedule) {
        Ok(times) if !is_too_large(&stored.schedule) => times,
        // A zone that this build no longer knows, or more than an operation can write: resting is better than firing at
        // wrong times, or keeping every other schedule from firing.
        unfit => {
            let why = unfit.map_or(
                "the time zone or cron expression is not known to this version",
                |_| "the parameters are too long",
            );
            stored.error = Some(why.to_owned());
            stored.next = None;
            save(tx, &stored)?;
            return Ok(0);
        }
    };
    let mut slot = first_slot(&times, stored.schedule.misfire, at, now);
    let mut firings = 0;
    while let Some(this) = slot.filter(|&slot| slot <= now && firings < most) {
        if firings > 0 && !has_room(tx, &stored) {
            break;
        }
        slot = times.after(this);
        enqueue(tx, &mut stored, this)?;
        firings += 1;
    }
    stored.next = slot;
    save(tx, &stored)?;
    Ok(firings)
}

/// Whether this step may write one more task of the schedule, and the schedule behind it.
fn has_room(tx: &Transaction<'_>, stored: &Stored) -> bool {
    tx.written() + 2 * stored.schedule.task.params.len() <= STEP_BYTES
}

/// Whether no firing of it would fit into one operation.
fn is_too_large(schedule: &Schedule) -> bool {
    schedule.task.params.len() > MAX_PARAMS_BYTES
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::json::Json;
    use crate::task::operation::TaskOperation;
    use crate::task::tests::Bench;

    /// A schedule that this version cannot fire must rest and say why; failing it every second would keep all others from
    /// firing.
    #[test]
    fn a_schedule_that_cannot_fire_rests_and_keeps_no_other_from_firing() {
        let mut bench = Bench::new();
        let named = |name: &str| {
            let task = NewTask::new("mail", Json::null());
            Schedule { name: name.into(), cron: "* * * * *".into(), task, ..Schedule::default() }
        };
        for name in ["a", "b", "c"] {
            bench.call(&TaskOperation::PutSchedule(Box::new(named(name)))).unwrap();
        }
        let next = Some(bench.now() - bench.now().rem_euclid(60_000) + 60_000);
        let unknown = Schedule { time_zone: Some("Mars/Olympus".into()), ..named("a") };
        let mut long = named("b");
        long.task.params = Json::parse(format!("\"{}\"", "p".repeat(MAX_PARAMS_BYTES))).unwrap();
        assert!(bench.call(&TaskOperation::PutSchedule(Box::new(long.clone()))).is_err());
        for schedule in [unknown, long] {
            let stored = Stored { schedule, next, last: None, last_task: None, fired: 7, error: None };
            let bytes = postcard::to_extend(&stored, vec![VERSION]).unwrap();
            bench.overwrite(keys::schedule(&stored.schedule.name), bytes);
        }
        bench.wait(60_000);
        bench.tick();
        let TaskAnswer::Schedules(all) = bench.call(&TaskOperation::Schedules).unwrap() else { panic!("schedules") };
        let said: Vec<_> = all.iter().map(|info| (info.fired, info.next_at.is_some(), info.error.is_some())).collect();
        assert_eq!(said, [(7, false, true), (7, false, true), (1, true, false)]);
        assert_eq!(bench.records().len(), 1);
    }
}
