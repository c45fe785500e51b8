//! What failed comes back: retries within their budget, dead letters when somebody asks for them.

use std::collections::BTreeMap;

use super::*;
use crate::error::ErrorKind;
use crate::task::model::{Backoff, QueueSettings, Redriven, RetryBudget};

fn mail() -> NewTask {
    NewTask::new("mail", Json::null())
}

fn configure(bench: &mut Bench, retry_budget: RetryBudget) -> Result<TaskAnswer> {
    let settings = QueueSettings { retry_budget, ..QueueSettings::default() };
    bench.call(&TaskOperation::Configure { queue: "mail".into(), settings })
}

/// Q9: ten thousand tasks that fail together, say because what they call is down, come back evenly; what is enqueued meanwhile
/// does not have to wait behind them.
#[test]
fn a_storm_of_failures_comes_back_evenly_and_lets_others_through() {
    const TASKS: usize = 10_000;
    let mut bench = Bench::fast();
    for _ in 0..TASKS {
        bench.enqueue(mail());
    }
    let begun = bench.now();
    let mut starts = BTreeMap::<i64, u32>::new();
    let (mut failed, mut completed) = (0, 0);
    while completed < TASKS {
        // First all of them fail as fast as they can be run.
        bench.wait(if failed < TASKS { 1 } else { 100 });
        let second = (bench.now() - begun) / 1_000;
        assert!(second < 3_600, "{completed} came back in an hour");
        let other = (failed == TASKS).then(|| bench.enqueue(mail()).task.id);
        let claimed = bench.claim(100);
        assert!(
            other.is_none_or(|other| claimed.iter().any(|claimed| claimed.task.id == other)),
            "a new task waits in second {second}"
        );
        for Claimed { task, lease, .. } in claimed {
            if Some(task.id) == other {
                let _ = bench.complete(lease);
            } else if task.attempt == 1 {
                failed += 1;
                let _ = bench.fail(lease);
            } else {
                completed += 1;
                *starts.entry(second).or_default() += 1;
                let _ = bench.complete(lease);
            }
        }
    }
    let seconds = starts.last_key_value().map_or(1, |(&last, _)| u32::try_from(last + 1).unwrap());
    let (most, mean) = (*starts.values().max().unwrap(), TASKS as u32 / seconds);
    println!("most={most} mean={mean} seconds={seconds}");
    assert!(most <= 3 * mean, "most={most} mean={mean}");
    bench.check_all();
}

/// A budget that slowed down every queue would be worse than a storm.
#[test]
fn a_few_failures_come_back_when_their_backoff_says() {
    let mut bench = Bench::new();
    for round in 0..20 {
        let id = bench.enqueue(NewTask { backoff: Some(Backoff::Fixed { ms: 50 }), ..mail() }).task.id;
        let lease = bench.claim(1)[0].lease;
        let _ = bench.fail(lease);
        assert_eq!(bench.get(id).unwrap().due_at, bench.now() + 50, "round={round}");
        bench.wait(100);
        let lease = bench.claim(1)[0].lease;
        let _ = bench.complete(lease);
    }
    bench.check_all();
}

/// Whoever wants his retries at once says so; and a new budget begins without what the old one was behind.
#[test]
fn the_budget_of_a_queue_is_what_was_configured() {
    let mut bench = Bench::fast();
    let fail_all = |bench: &mut Bench| {
        for _ in 0..50 {
            bench.enqueue(NewTask { backoff: Some(Backoff::Fixed { ms: 0 }), ..mail() });
        }
        for claimed in bench.claim(100) {
            let _ = bench.fail(claimed.lease);
        }
        let records = bench.records();
        let held_back = records.values().filter(|record| record.state == TaskState::Delayed).count();
        for (id, _) in records.iter().filter(|(_, record)| !record.state.is_final()) {
            bench.call(&TaskOperation::Cancel(*id)).unwrap();
        }
        held_back
    };
    for (retry_budget, held_back) in [
        (RetryBudget::default(), 40),
        (RetryBudget { percent: 0, per_second: 1 }, 49),
        (RetryBudget { percent: 0, per_second: 30 }, 20),
        (RetryBudget { percent: 100, per_second: 1 }, 0),
    ] {
        configure(&mut bench, retry_budget).unwrap();
        assert_eq!(fail_all(&mut bench), held_back, "{retry_budget:?}");
    }
    for (percent, per_second) in [(101, 1), (10, 0), (10, 1_000_001)] {
        let refused = configure(&mut bench, RetryBudget { percent, per_second }).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    }
    bench.check_all();
}

fn redrive(bench: &mut Bench, limit: usize, after: Option<String>) -> Redriven {
    match bench.call(&TaskOperation::Redrive { queue: "mail".into(), limit, after }).unwrap() {
        TaskAnswer::Redriven(step) => step,
        other => panic!("{other:?}"),
    }
}

/// A program that configures its queues whenever it starts must not get a new budget each time; but what was drained or
/// cancelled does not hold back what fails later.
#[test]
fn what_the_budget_is_behind_lasts_as_long_as_the_retries_it_held_back() {
    let mut bench = Bench::fast();
    let rules = RetryBudget { percent: 0, per_second: 1 };
    let fail = |bench: &mut Bench, count: usize| {
        for _ in 0..count {
            bench.enqueue(NewTask { backoff: Some(Backoff::Fixed { ms: 0 }), ..mail() });
        }
        let ids: Vec<_> = bench.claim(100).into_iter().map(|claimed| (claimed.task.id, claimed.lease)).collect();
        for (_, lease) in &ids {
            let _ = bench.fail(*lease);
        }
        ids.last().map(|(id, _)| bench.get(*id).unwrap().due_at - bench.now()).unwrap()
    };
    configure(&mut bench, rules).unwrap();
    assert_eq!(fail(&mut bench, 50), 49_000);
    configure(&mut bench, rules).unwrap();
    assert!(fail(&mut bench, 1) >= 50_000, "the same settings change nothing");
    bench.call(&TaskOperation::Drain { queue: "mail".into() }).unwrap();
    assert!(fail(&mut bench, 1) <= 1_000, "what was drained is not made up for");
    assert!(fail(&mut bench, 30) >= 30_000);
    let records = bench.records();
    for (id, _) in records.iter().filter(|(_, record)| !record.state.is_final()) {
        bench.call(&TaskOperation::Cancel(*id)).unwrap();
    }
    assert!(fail(&mut bench, 1) <= 1_000, "nor is what was cancelled");
    bench.check_all();
}

/// A queue in which much starts may retry more than an idle one, also behind new settings.
#[test]
fn the_budget_is_a_share_of_what_starts() {
    let mut bench = Bench::fast();
    configure(&mut bench, RetryBudget { percent: 99, per_second: 1 }).unwrap();
    for _ in 0..1_200 {
        bench.enqueue(NewTask { backoff: Some(Backoff::Fixed { ms: 0 }), ..mail() });
    }
    let leases: Vec<_> = (0..2).flat_map(|_| bench.claim(600)).map(|claimed| claimed.lease).collect();
    let longest = |bench: &mut Bench, leases: &[Lease]| {
        for lease in leases {
            let _ = bench.fail(*lease);
        }
        bench.records().values().map(|record| record.due - bench.now()).max().unwrap()
    };
    // Nearly 20 a second where 1 200 started within the minute.
    let first = longest(&mut bench, &leases[..100]);
    assert!((3_900..=4_200).contains(&first), "{first}");
    configure(&mut bench, RetryBudget { percent: 98, per_second: 1 }).unwrap();
    let second = longest(&mut bench, &leases[100..300]);
    assert!((9_000..=10_300).contains(&second), "{second}");
    bench.check_all();
}

/// What was drained holds nothing back, also where something else is delayed by now.
#[test]
fn a_drain_forgives_what_the_budget_is_behind() {
    let mut bench = Bench::fast();
    configure(&mut bench, RetryBudget { percent: 0, per_second: 1 }).unwrap();
    let fail = |bench: &mut Bench, count: usize| {
        for _ in 0..count {
            bench.enqueue(NewTask { backoff: Some(Backoff::Fixed { ms: 0 }), ..mail() });
        }
        let claimed = bench.claim(count);
        for Claimed { lease, .. } in &claimed {
            let _ = bench.fail(*lease);
        }
        bench.get(claimed[count - 1].task.id).unwrap().due_at - bench.now()
    };
    assert_eq!(fail(&mut bench, 50), 49_000);
    bench.repeat(&TaskOperation::Drain { queue: "mail".into() });
    bench.enqueue(NewTask { delay_ms: Some(86_400_000), ..mail() });
    assert_eq!(fail(&mut bench, 1), 1_000);
    bench.check_all();
}

/// Whoever asks for one step after another until there is none must come to an end, though workers fail meanwhile what
/// the steps brought back.
#[test]
fn a_redrive_does_not_bring_back_what_died_after_it_began() {
    let mut bench = Bench::fast();
    let fail_all = |bench: &mut Bench| {
        for claimed in bench.claim(100) {
            let _ = bench.fail(claimed.lease);
        }
    };
    for _ in 0..20 {
        bench.enqueue(NewTask { attempts: Some(1), ..mail() });
    }
    fail_all(&mut bench);
    let (mut after, mut redriven) = (None, 0);
    loop {
        bench.wait(10);
        let step = redrive(&mut bench, 3, after.take());
        redriven += step.redriven;
        bench.wait(10);
        fail_all(&mut bench);
        assert!(redriven <= 20, "letters come back a second time");
        if step.next.is_none() {
            break;
        }
        after = step.next;
    }
    assert_eq!((redriven, bench.queue().failed), (20, 20));
    bench.enqueue(NewTask { queue: "other".into(), ..mail() });
    let step = redrive(&mut bench, 1, None);
    let foreign = TaskOperation::Redrive { queue: "other".into(), limit: 1, after: step.next };
    assert_eq!(bench.call(&foreign).unwrap_err().kind(), ErrorKind::InvalidInput);
    bench.check_all();
}

/// Dead letters whose unique key another task has stay; the ones behind them must come back all the same, however many stay,
/// and no step may take so long that everybody else waits for it.
#[test]
fn a_redrive_goes_past_dead_letters_that_must_stay() {
    const STAY: usize = 12_000;
    let mut bench = Bench::fast();
    let keyed = NewTask { attempts: Some(1), unique: Some("k".into()), ..mail() };
    let fail = |bench: &mut Bench, new: NewTask| {
        let id = bench.enqueue(new).task.id;
        let lease = bench.claim(1)[0].lease;
        let _ = bench.fail(lease);
        id
    };
    for _ in 0..STAY {
        fail(&mut bench, keyed.clone());
    }
    let free = NewTask { unique: None, ..keyed.clone() };
    let free = [fail(&mut bench, free.clone()), fail(&mut bench, free)];
    let holder = bench.enqueue(NewTask { delay_ms: Some(1_000), ..keyed });
    assert!(!holder.existing);
    let (mut after, mut steps) = (None, 0);
    let step = loop {
        let step = redrive(&mut bench, 1, after.take());
        steps += 1;
        assert!(steps < 10, "it does not progress");
        after.clone_from(&step.next);
        if step.redriven > 0 || step.next.is_none() {
            break step;
        }
    };
    assert_eq!((step.redriven, steps, bench.state(free[0])), (1, 3, TaskState::Waiting));
    let rest = redrive(&mut bench, 1_000, step.next);
    assert_eq!((rest, bench.state(free[1])), (Redriven { redriven: 1, next: None }, TaskState::Waiting));
    assert_eq!(bench.queue().failed, STAY as u64);
    let mut after = None;
    for last in [false, false, true] {
        let step = redrive(&mut bench, 1_000, after.take());
        assert_eq!((step.redriven, step.next.is_none()), (0, last), "it ends, though the last one stays");
        after = step.next;
    }
    let refused = TaskOperation::Redrive { queue: "mail".into(), limit: 1, after: Some("x".into()) };
    assert_eq!(bench.call(&refused).unwrap_err().kind(), ErrorKind::InvalidInput);
    bench.check_all();
}
