//! Tasks that weigh much: what does not fit into one operation goes in steps, or it would never go at all.

use super::*;
use crate::task::model::{Misfire, QueueSettings, RetryBudget, Schedule};

/// So many of them are more than one operation may write.
const MANY: usize = 300;

/// A task whose record weighs about 5 KiB.
fn heavy() -> NewTask {
    let params = format!("\"{}\"", "p".repeat(1_000));
    let description = Some("d".repeat(4 << 10));
    NewTask { description, attempts: Some(1), ..NewTask::new("mail", Json::parse(params).unwrap()) }
}

fn enqueue(bench: &mut Bench, new: &NewTask) -> Vec<TaskId> {
    (0..MANY).map(|_| bench.enqueue(new.clone()).task.id).collect()
}

/// Claims everything there is, in as many calls as it takes.
fn claim_all(bench: &mut Bench) -> Vec<Claimed> {
    let mut all = Vec::new();
    loop {
        let some = bench.claim(1_000);
        if some.is_empty() {
            return all;
        }
        all.extend(some);
    }
}

/// Many tasks that become due together, say at the end of an outage, were refused together: by each claim and by each tick,
/// for ever, and with them everything else in their queue.
#[test]
fn tasks_that_become_due_together_are_promoted_in_steps() {
    let mut bench = Bench::fast();
    let ids = enqueue(&mut bench, &NewTask { delay_ms: Some(1_000), ..heavy() });
    let mut ticked = bench.clone();
    for bench in [&mut bench, &mut ticked] {
        bench.wait(1_000);
    }
    ticked.tick();
    let info = ticked.queue();
    assert_eq!((info.waiting, info.delayed), (MANY as u64, 0));
    ticked.check_all();
    let claimed = claim_all(&mut bench);
    assert_eq!(claimed.iter().map(|claimed| claimed.task.id).collect::<BTreeSet<_>>(), ids.into_iter().collect());
    bench.check_all();
}

/// A claim that promotes no more than some of what is due must look for its tasks where these wait now: behind a front
/// from before they would be hidden from every later claim.
#[test]
fn what_a_claim_promotes_is_not_hidden_behind_the_front_of_before() {
    let mut bench = Bench::fast();
    let patient = NewTask { priority: -1, ..NewTask::new("mail", Json::null()) };
    bench.enqueue(patient.clone());
    // The front lies a minute ahead now, and there is something to claim behind it.
    bench.claim(1);
    bench.enqueue(patient);
    let due = NewTask { delay_ms: Some(1_000), ..NewTask::new("mail", Json::null()) };
    let ids = enqueue(&mut bench, &due);
    bench.wait(1_500);
    let first = bench.claim(1);
    assert_eq!(first[0].task.id, ids[0], "what was due first");
    bench.check_all();
    assert_eq!(claim_all(&mut bench).len(), MANY);
}

/// A claim of more than one operation may write, or than one answer should hold, gives out what fits.
#[test]
fn a_claim_ends_before_it_is_too_large() {
    let mut bench = Bench::fast();
    enqueue(&mut bench, &heavy());
    let first = bench.claim(1_000).len();
    assert!((50..MANY).contains(&first), "{first}");
    assert_eq!(first + claim_all(&mut bench).len(), MANY);
    let large = NewTask::new("mail", Json::parse(format!("\"{}\"", "p".repeat(1_000_000))).unwrap());
    for _ in 0..10 {
        bench.enqueue(large.clone());
    }
    let first = bench.claim(10).len();
    assert!((4..=6).contains(&first), "at most 4 MiB, and what began below it: {first}");
    assert_eq!(bench.claim(10).len(), 10 - first);
}

/// Ended leases, dead letters and drained queues: each goes in steps, however much their tasks weigh.
#[test]
fn what_ends_comes_back_or_is_cancelled_in_steps() {
    let mut bench = Bench::fast();
    enqueue(&mut bench, &heavy());
    assert_eq!(claim_all(&mut bench).len(), MANY);
    bench.wait(30_000);
    bench.tick();
    assert_eq!(bench.queue().failed, MANY as u64, "their only attempt died");
    let (mut after, mut redriven, mut steps) = (None, 0, 0);
    loop {
        let redrive = TaskOperation::Redrive { queue: "mail".into(), limit: 1_000, after };
        let TaskAnswer::Redriven(step) = bench.call(&redrive).unwrap() else { panic!("not what was asked for") };
        redriven += step.redriven;
        steps += 1;
        after = step.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(redriven, MANY as u64);
    assert!(steps > 1, "all at once is more than one operation may write");
    bench.check_all();
    bench.repeat(&TaskOperation::Drain { queue: "mail".into() });
    let info = bench.queue();
    assert_eq!((info.waiting, info.cancelled), (0, MANY as u64));
    bench.check_all();
}

/// Every one of many that fail together is told in a call of its own, but a caller may tell some of them together.
#[test]
fn reports_that_are_too_much_together_are_refused_and_change_nothing() {
    let mut bench = Bench::fast();
    let settings =
        QueueSettings { retry_budget: RetryBudget { percent: 100, per_second: 1 }, ..QueueSettings::default() };
    bench.call(&TaskOperation::Configure { queue: "mail".into(), settings }).unwrap();
    enqueue(&mut bench, &heavy());
    let reports: Vec<_> = claim_all(&mut bench)
        .into_iter()
        .map(|claimed| Report { lease: claimed.lease, outcome: Outcome::Completed { result: Json::null() } })
        .collect();
    let refused = bench.call(&TaskOperation::Work(Box::new(Work { reports: reports.clone(), ..Work::default() })));
    assert_eq!(refused.unwrap_err().kind(), crate::error::ErrorKind::TooLarge);
    assert_eq!(bench.queue().active, MANY as u64);
    let (some, others) = reports.split_at(MANY / 2);
    for reports in [some, others] {
        let verdicts = bench.work(Work { reports: reports.to_vec(), ..Work::default() }).verdicts;
        assert!(verdicts.iter().all(|&verdict| verdict == Verdict::Accepted(TaskState::Completed)));
    }
    bench.check_all();
}

fn put(bench: &mut Bench, name: &str, misfire: Misfire, params: usize) {
    let task = NewTask::new(name, Json::parse(format!("\"{}\"", "p".repeat(params))).unwrap());
    let schedule = Schedule { name: name.into(), cron: "* * * * *".into(), task, misfire, ..Schedule::default() };
    bench.call(&TaskOperation::PutSchedule(Box::new(schedule))).unwrap();
}

/// Firings that are more than one operation may write together must come in several: otherwise each of them fails again
/// every second, and with them every other schedule.
#[test]
fn firings_that_weigh_much_come_in_steps() {
    for (names, misfire, params) in [
        (&["a"][..], Misfire::All, 50_000),
        (&["a", "b", "c"], Misfire::Once, 300_000),
        (&["a", "b"], Misfire::All, (1 << 19) - 2),
    ] {
        let mut bench = Bench::fast();
        for name in names {
            put(&mut bench, name, misfire, params);
        }
        bench.wait(40 * 60_000);
        bench.tick();
        let fired = bench.records().len();
        let each = if misfire == Misfire::All { 40..=41 } else { 1..=2 };
        assert!(each.contains(&(fired / names.len())), "names={names:?} params={params} fired={fired}");
        let TaskAnswer::Schedules(all) = bench.call(&TaskOperation::Schedules).unwrap() else { panic!("schedules") };
        assert!(all.iter().all(|info| info.error.is_none() && info.next_at > Some(bench.now())), "{all:?}");
        bench.check_all();
    }
}

/// A schedule is written with its parameters also where it leaves its slots out, or comes to rest: many of them together
/// were refused for ever.
#[test]
fn schedules_that_fire_nothing_come_in_steps_too() {
    let mut bench = Bench::fast();
    for number in 0..4 {
        put(&mut bench, &number.to_string(), Misfire::Skip, 400_000);
    }
    bench.wait(40 * 60_000 + 59_000);
    bench.tick();
    let TaskAnswer::Schedules(all) = bench.call(&TaskOperation::Schedules).unwrap() else { panic!("schedules") };
    assert!(all.len() == 4 && all.iter().all(|info| info.next_at > Some(bench.now())), "{all:?}");
    bench.check_all();
}

/// An operation writes 10 000 keys at most, and small tasks are many keys in few bytes: all that was kept too long at once,
/// say while the database was closed for days, must go in steps.
#[test]
fn small_tasks_are_forgotten_and_cancelled_in_steps() {
    let mut bench = Bench::fast();
    let settings = QueueSettings { keep_count: 10_000, ..QueueSettings::default() };
    bench.call(&TaskOperation::Configure { queue: "mail".into(), settings }).unwrap();
    let enqueue = |bench: &mut Bench, number: usize| {
        let params = Json::parse(format!("\"{}\"", "p".repeat(1_100))).unwrap();
        let unique = Some(number.to_string());
        bench.enqueue(NewTask { unique, ..NewTask::new("mail", params) }).task.id
    };
    for number in 0..1_000 {
        enqueue(&mut bench, number);
    }
    let claimed = claim_all(&mut bench);
    for some in claimed.chunks(100) {
        let outcome = || Outcome::Completed { result: Json::null() };
        let reports = some.iter().map(|claimed| Report { lease: claimed.lease, outcome: outcome() }).collect();
        bench.work(Work { reports, ..Work::default() });
    }
    for number in 0..1_600 {
        enqueue(&mut bench, number);
    }
    let drain = TaskOperation::Drain { queue: "mail".into() };
    let mut steps = 1;
    while let TaskAnswer::More(true) = bench.call(&drain).unwrap() {
        steps += 1;
    }
    assert!(steps > 1 && bench.queue().cancelled == 1_600, "steps={steps}");
    bench.wait(366 * 24 * 3_600_000);
    bench.tick();
    let info = bench.queue();
    assert_eq!((info.completed, info.cancelled), (0, 0));
    bench.check_all();
}
