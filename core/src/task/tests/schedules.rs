//! Schedules beyond the simple ones: programs that set them anew, queues that take nothing, firings in steps.

use super::*;
use crate::error::ErrorKind;
use crate::task::limits::MAX_SCHEDULES;
use crate::task::model::{Misfire, QueueSettings, Schedule, ScheduleInfo};

const MINUTE_MS: i64 = 60_000;

fn every_minute(misfire: Misfire) -> Schedule {
    let task = NewTask::new("mail", Json::null());
    Schedule { name: "s".into(), cron: "* * * * *".into(), task, misfire, ..Schedule::default() }
}

fn put(bench: &mut Bench, schedule: &Schedule) -> Result<ScheduleInfo> {
    match bench.call(&TaskOperation::PutSchedule(Box::new(schedule.clone())))? {
        TaskAnswer::Schedule(info) => Ok(*info),
        other => panic!("{other:?}"),
    }
}

fn info(bench: &mut Bench) -> ScheduleInfo {
    match bench.call(&TaskOperation::Schedules).unwrap() {
        TaskAnswer::Schedules(mut all) => all.pop().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Programs set their schedules whenever they start. What came due while none of them ran must still follow the misfire rule:
/// otherwise a job at three in the morning is lost with each night in which the machine was off.
#[test]
fn a_schedule_that_is_set_again_keeps_what_it_missed() {
    for (misfire, expected) in [(Misfire::Skip, 1), (Misfire::Once, 2), (Misfire::All, 61)] {
        let mut bench = Bench::new();
        let schedule = every_minute(misfire);
        let first = put(&mut bench, &schedule).unwrap().next_at.unwrap();
        bench.wait(first - bench.now() + 60 * MINUTE_MS);
        assert_eq!(schedule.time_zone, None);
        for time_zone in [None, Some("UTC".to_owned())] {
            let schedule = Schedule { time_zone, ..schedule.clone() };
            assert_eq!(put(&mut bench, &schedule).unwrap().next_at, Some(first), "{misfire:?}");
        }
        bench.tick();
        assert_eq!(bench.records().len(), expected, "{misfire:?}");
        bench.check_all();
    }
    // Other times begin now, and so does one that rested.
    for change in ["cron", "zone", "rest"] {
        let mut bench = Bench::new();
        let mut schedule = Schedule { cron: "0 0 * * *".into(), ..every_minute(Misfire::All) };
        put(&mut bench, &schedule).unwrap();
        bench.wait(3 * 24 * 60 * MINUTE_MS);
        match change {
            "cron" => schedule.cron = "1 0 * * *".into(),
            "zone" => schedule.time_zone = Some("Asia/Tokyo".into()),
            _ => {
                schedule.paused = true;
                assert_eq!(put(&mut bench, &schedule).unwrap().next_at, None);
                schedule.paused = false;
            }
        }
        assert!(put(&mut bench, &schedule).unwrap().next_at > Some(bench.now()), "{change}");
        bench.tick();
        assert!(bench.records().is_empty(), "{change}");
    }
}

/// A queue that is full, or whose task has not ended, loses a firing and not the schedule, and people see why.
#[test]
fn a_firing_that_enqueues_nothing_says_why() {
    let mut bench = Bench::new();
    let settings = QueueSettings { max_length: Some(1), ..QueueSettings::default() };
    bench.call(&TaskOperation::Configure { queue: "mail".into(), settings }).unwrap();
    let mut schedule = every_minute(Misfire::Once);
    let mut slot = put(&mut bench, &schedule).unwrap().next_at.unwrap();
    let mut fire = |bench: &mut Bench| {
        bench.wait(slot - bench.now());
        bench.tick();
        let said = info(bench);
        assert_eq!(said.last_at, Some(slot));
        slot += MINUTE_MS;
        assert_eq!(said.next_at, Some(slot));
        said
    };
    let first = fire(&mut bench);
    assert_eq!((first.fired, first.error.as_deref()), (1, None));
    assert_eq!(first.last_task, bench.records().keys().next().copied());
    let full = fire(&mut bench);
    assert_eq!((full.fired, full.last_task), (1, first.last_task));
    assert!(full.error.unwrap().contains("full"));
    let id = bench.claim(1)[0].lease;
    let _ = bench.complete(id);
    let third = fire(&mut bench);
    assert_eq!((third.fired, third.error), (2, None), "it goes on by itself");
    assert!(third.last_task > first.last_task);
    schedule.task.unique = Some("one".into());
    schedule.task.queue = "other".into();
    put(&mut bench, &schedule).unwrap();
    assert_eq!(fire(&mut bench).fired, 3);
    let kept_out = fire(&mut bench);
    assert_eq!(kept_out.fired, 3);
    assert!(kept_out.error.unwrap().contains("unique"));
    bench.check_all();
}

/// A year of firings in one operation would keep everybody waiting.
#[test]
fn firings_come_at_most_a_hundred_a_step() {
    let mut bench = Bench::fast();
    for name in ["a", "b", "c"] {
        put(&mut bench, &Schedule { name: name.into(), ..every_minute(Misfire::All) }).unwrap();
    }
    bench.wait(80 * MINUTE_MS);
    let (mut steps, mut before) = (0, 0);
    while bench.call(&TaskOperation::Tick { queue: None, since: 0 }).unwrap() == TaskAnswer::More(true) {
        let fired = bench.records().len();
        assert!(fired - before <= 100, "{fired} after {before}");
        (steps, before) = (steps + 1, fired);
        assert!(steps < 10);
    }
    assert_eq!(bench.records().len(), 3 * 80);
    bench.check_all();
}

/// The handler of a firing is told the slot it runs for; one with a delay runs so much later.
#[test]
fn a_firing_is_due_at_its_slot_or_after_its_delay() {
    for (delay_ms, state) in [(None, TaskState::Waiting), (Some(5_000), TaskState::Delayed)] {
        let mut bench = Bench::new();
        let mut schedule = every_minute(Misfire::Once);
        schedule.task.delay_ms = delay_ms;
        let slot = put(&mut bench, &schedule).unwrap().next_at.unwrap();
        bench.wait(slot - bench.now() + 700);
        bench.tick();
        let records = bench.records();
        let record = records.values().next().unwrap();
        let due = delay_ms.map_or(slot, |ms| bench.now() + ms.cast_signed());
        assert_eq!((record.state, record.due, record.schedule.as_deref()), (state, due, Some("s")));
        bench.check_all();
    }
}

#[test]
fn what_no_schedule_may_be_is_refused() {
    let mut bench = Bench::fast();
    let mut with_time = every_minute(Misfire::Once);
    with_time.task.due_at = Some(bench.now() + 1);
    assert_eq!(put(&mut bench, &with_time).unwrap_err().kind(), ErrorKind::InvalidInput);
    for n in 0..MAX_SCHEDULES {
        put(&mut bench, &Schedule { name: format!("s{n}"), ..every_minute(Misfire::Once) }).unwrap();
    }
    assert_eq!(put(&mut bench, &every_minute(Misfire::Once)).unwrap_err().kind(), ErrorKind::TooLarge);
    put(&mut bench, &Schedule { name: "s7".into(), ..every_minute(Misfire::Skip) }).unwrap();
}

/// As with tasks; and whoever sets it again, or removes it, is rid of it.
#[test]
fn a_schedule_that_cannot_be_read_keeps_no_other_from_firing() {
    let mut bench = Bench::new();
    // More than one step looks at, all before the one that can be read.
    let name = |n: usize| format!("{n:03}");
    for n in 0..=70 {
        put(&mut bench, &Schedule { name: name(n), ..every_minute(Misfire::Once) }).unwrap();
    }
    for n in 0..70 {
        bench.overwrite(keys::schedule(&name(n)), &b"?"[..]);
    }
    bench.wait(MINUTE_MS);
    bench.tick();
    assert_eq!(bench.records().len(), 1, "the one that can be read has fired");
    assert_eq!(info(&mut bench).fired, 1);
    put(&mut bench, &Schedule { name: name(0), ..every_minute(Misfire::Once) }).unwrap();
    let removed = bench.call(&TaskOperation::RemoveSchedule { name: name(1) }).unwrap();
    assert!(matches!(removed, TaskAnswer::Removed(true)), "{removed:?}");
    bench.wait(MINUTE_MS);
    bench.tick();
    assert_eq!(bench.records().len(), 3, "both that can be read have fired");
    let slots = keys::slots_by(i64::MAX);
    let left = bench.keys.keys().filter(|key| **key >= slots.start && slots.end.as_ref().is_none_or(|end| *key < end));
    assert!(left.filter_map(|key| keys::split_slot(key)).all(|(_, of)| of != name(1)), "its slot went, too");
    bench.check_all();
}
