//! What a task may go through, and what it may not.

use super::*;
use crate::error::ErrorKind;
use crate::task::model::{Backoff, QueueSettings, Rate, Renewal, TaskList, Token};

fn mail(params: &str) -> NewTask {
    NewTask::new("mail", Json::parse(params.to_owned()).unwrap())
}

fn settings(bench: &mut Bench, settings: QueueSettings) {
    bench.call(&TaskOperation::Configure { queue: "mail".into(), settings }).unwrap();
}

#[test]
fn a_task_is_enqueued_claimed_and_completed() {
    let mut bench = Bench::new();
    let id = bench.add(r#"{"to":"é","n":12345678901234567890.10}"#);
    assert_eq!(id % 1_024, 0, "the id carries its partition");
    let [claimed] = &bench.claim(10)[..] else { panic!("one task") };
    assert_eq!((claimed.task.id, claimed.task.attempt, claimed.lease.run), (id, 1, 1));
    assert_eq!(claimed.task.params.text(), r#"{"to":"é","n":12345678901234567890.10}"#);
    assert_eq!(claimed.expires_at, bench.now() + 30_000);
    bench.check_all();
    let result = Json::parse("[1,2]").unwrap();
    let verdict = bench.report(claimed.lease, Outcome::Completed { result: result.clone() });
    assert_eq!(verdict, Verdict::Accepted(TaskState::Completed));
    let task = bench.get(id).unwrap();
    assert_eq!((task.state, task.result, task.finished_at), (TaskState::Completed, Some(result), Some(bench.now())));
    assert!(bench.claim(10).is_empty());
    bench.check_all();
}

/// Conformance 2 and 4, Q1: a worker that was too slow must not overwrite what another one did.
#[test]
fn every_report_under_a_lease_that_is_not_held_changes_nothing() {
    let mut bench = Bench::new();
    let id = bench.add("1");
    let old = bench.claim(1)[0].lease;
    bench.wait(30_000);
    bench.tick();
    let new = bench.claim(1)[0].lease;
    let forged = [
        old,
        Lease { token: Token(new.token.0 ^ 1), ..new },
        Lease { run: new.run + 1, ..new },
        Lease { run: old.run, ..new },
        Lease { task: id + 1_024, ..new },
    ];
    let before = bench.keys.clone();
    for lease in forged {
        let outcomes = [
            Outcome::Completed { result: Json::null() },
            Outcome::Failed { error: "no".into(), retry: true },
            Outcome::Released,
            Outcome::Cancelled,
        ];
        for outcome in outcomes {
            assert_eq!(bench.report(lease, outcome.clone()), Verdict::Stale, "{outcome:?}");
        }
        let renewed = bench.call(&TaskOperation::Renew { leases: vec![lease], lease_ms: 0 }).unwrap();
        assert_eq!(renewed, TaskAnswer::Renewed(vec![Renewal::Stale]));
        let progress = bench.call(&TaskOperation::Progress { lease, progress: 0.5 }).unwrap();
        assert_eq!(progress, TaskAnswer::Progress(Renewal::Stale));
    }
    assert_eq!(bench.keys, before);
    assert_eq!(bench.complete(new), Verdict::Accepted(TaskState::Completed));
    assert_eq!(bench.complete(new), Verdict::Stale, "a task completes once");
    bench.check_all();
}

/// Conformance 3: a lease that ended is gone, also while nobody has taken the task back yet.
#[test]
fn a_renewal_after_the_end_is_refused_although_nobody_claimed() {
    let mut bench = Bench::new();
    bench.add("1");
    let lease = bench.claim(1)[0].lease;
    bench.wait(29_999);
    let renew = TaskOperation::Renew { leases: vec![lease], lease_ms: 30_000 };
    let held = Renewal::Held { expires_at: bench.now() + 30_000, cancel: false };
    assert_eq!(bench.call(&renew).unwrap(), TaskAnswer::Renewed(vec![held]));
    bench.check_all();
    bench.wait(30_000);
    assert_eq!(bench.call(&renew).unwrap(), TaskAnswer::Renewed(vec![Renewal::Stale]));
    assert_eq!(bench.complete(lease), Verdict::Stale);
}

/// Conformance 6, Q6: a task that takes long is not a task whose worker died.
#[test]
fn a_renewed_lease_runs_once_however_long_it_takes() {
    let mut bench = Bench::new();
    let id = bench.add("1");
    let lease = bench.claim(1)[0].lease;
    for _ in 0..720 {
        bench.wait(10_000);
        bench.tick();
        let _ = bench.call(&TaskOperation::Renew { leases: vec![lease], lease_ms: 0 }).unwrap();
        assert!(bench.claim(1).is_empty());
    }
    assert_eq!(bench.complete(lease), Verdict::Accepted(TaskState::Completed));
    assert_eq!(bench.get(id).unwrap().attempt, 1);
}

/// Q8: a task that kills its worker must not do so for ever.
#[test]
fn a_task_whose_workers_die_is_a_dead_letter_after_three() {
    let mut bench = Bench::new();
    let id = bench.enqueue(NewTask { attempts: Some(100), ..mail("1") }).task.id;
    for death in 1..=3 {
        assert_eq!(bench.claim(1)[0].task.attempt, death);
        bench.wait(30_000);
        bench.tick();
    }
    let task = bench.get(id).unwrap();
    assert_eq!((task.state, task.attempt, task.failures.len()), (TaskState::Failed, 3, 3));
    assert!(bench.claim(1).is_empty());
    bench.check_all();
}

/// Conformance 11: what comes back from the dead letters is what was enqueued, with what happened to it.
#[test]
fn a_dead_letter_comes_back_with_payload_history_and_key() {
    let mut bench = Bench::new();
    let long = format!("\"{}\"", "x".repeat(5_000));
    let new =
        NewTask { attempts: Some(2), unique: Some("k".into()), backoff: Some(Backoff::Fixed { ms: 0 }), ..mail(&long) };
    let id = bench.enqueue(new.clone()).task.id;
    for _ in 0..2 {
        let lease = bench.claim(1)[0].lease;
        let _ = bench.fail(lease);
    }
    assert_eq!(bench.state(id), TaskState::Failed);
    bench.check_all();
    let TaskAnswer::Changed { task, changed: true } = bench.call(&TaskOperation::Retry(id)).unwrap() else {
        panic!("it came back")
    };
    assert_eq!((task.state, task.params.text(), task.failures.len()), (TaskState::Waiting, long.as_str(), 2));
    assert_eq!((task.attempt, task.redrives), (0, 1));
    assert!(bench.enqueue(new).existing, "the key is held again");
    let claimed = bench.claim(1);
    assert_eq!(claimed[0].lease.run, 3, "no run has a number that another one had");
    bench.check_all();
}

/// Conformance 10: as long as a task with the key has not ended, there is one.
#[test]
fn a_unique_key_is_held_until_its_task_ends() {
    let mut bench = Bench::new();
    let new = NewTask { unique: Some("k".into()), delay_ms: Some(1_000), ..mail("1") };
    let id = bench.enqueue(new.clone()).task.id;
    let held = |bench: &mut Bench, state| {
        let again = bench.enqueue(new.clone());
        assert_eq!((again.existing, again.task.id, again.task.state), (true, id, state));
        bench.check_all();
    };
    held(&mut bench, TaskState::Delayed);
    bench.wait(1_000);
    bench.tick();
    held(&mut bench, TaskState::Waiting);
    let lease = bench.claim(1)[0].lease;
    held(&mut bench, TaskState::Active);
    let _ = bench.complete(lease);
    let next = bench.enqueue(new.clone());
    assert!(!next.existing && next.task.id != id);
    let other = NewTask { queue: "other".into(), ..new };
    assert!(!bench.enqueue(other).existing, "each queue has its own keys");
    bench.check_all();
}

/// Q7: the key of a task that failed for good, was cancelled or removed blocks nobody.
#[test]
fn a_unique_key_is_free_once_its_task_ended_in_any_way() {
    let mut bench = Bench::new();
    let new = NewTask { unique: Some("k".into()), attempts: Some(1), ..mail("1") };
    for end in ["failed", "cancelled", "removed", "expired"] {
        let added = bench.enqueue(new.clone());
        assert!(!added.existing, "{end}");
        match end {
            "failed" => {
                let lease = bench.claim(1)[0].lease;
                let _ = bench.fail(lease);
            }
            "cancelled" => drop(bench.call(&TaskOperation::Cancel(added.task.id)).unwrap()),
            "removed" => drop(bench.call(&TaskOperation::Remove(added.task.id)).unwrap()),
            _ => {
                bench.claim(1);
                bench.wait(30_000);
                bench.tick();
            }
        }
        bench.check_all();
    }
}

/// Conformance 12: urgent tasks come first, but nothing waits for ever behind them.
#[test]
fn higher_priority_comes_first_and_waiting_makes_up_for_it() {
    let mut bench = Bench::new();
    let patient = bench.enqueue(NewTask { priority: -2, ..mail("1") }).task.id;
    let normal = bench.add("2");
    let urgent = bench.enqueue(NewTask { priority: 1, ..mail("3") }).task.id;
    assert_eq!(bench.claim(1)[0].task.id, urgent);
    assert_eq!(bench.claim(1)[0].task.id, normal);
    let mut before = 0;
    loop {
        bench.add("4");
        bench.wait(1_000);
        if bench.claim(1)[0].task.id == patient {
            break;
        }
        before += 1;
    }
    assert_eq!(before, 120, "two steps of priority are worth two minutes");
}

#[test]
fn a_delayed_task_is_claimed_when_it_is_due_and_not_before() {
    let mut bench = Bench::new();
    let id = bench.enqueue(NewTask { delay_ms: Some(5_000), ..mail("1") }).task.id;
    let ready = TaskOperation::Ready { queues: vec!["mail".into(), "none".into()] };
    bench.wait(4_999);
    assert!(bench.claim(1).is_empty());
    let TaskAnswer::Ready(readiness) = bench.call(&ready).unwrap() else { panic!("not what was asked for") };
    assert_eq!((readiness.now, readiness.next_in_ms), (false, Some(1)));
    bench.wait(1);
    let TaskAnswer::Ready(readiness) = bench.call(&ready).unwrap() else { panic!("not what was asked for") };
    assert!(readiness.now);
    // Without a tick: a claim sees by itself what is due.
    assert_eq!(bench.claim(1)[0].task.id, id);
    bench.check_all();
}

/// Conformance 7: a task that is to be tried again is a delayed task at once, not the worker's memory.
#[test]
fn a_failed_run_is_tried_again_after_its_backoff_until_none_is_left() {
    let mut bench = Bench::new();
    let backoff = Some(Backoff::Custom { ms: vec![100, 200] });
    let id = bench.enqueue(NewTask { attempts: Some(4), backoff, ..mail("1") }).task.id;
    for delay in [100, 200, 200] {
        let lease = bench.claim(1)[0].lease;
        assert_eq!(bench.fail(lease), Verdict::Accepted(TaskState::Delayed));
        bench.check_all();
        bench.wait(delay - 1);
        assert!(bench.claim(1).is_empty());
        bench.wait(1);
    }
    let lease = bench.claim(1)[0].lease;
    assert_eq!(bench.fail(lease), Verdict::Accepted(TaskState::Failed));
    let lease = {
        bench.add("2");
        bench.claim(1)[0].lease
    };
    let verdict = bench.report(lease, Outcome::Failed { error: "never".into(), retry: false });
    assert_eq!(verdict, Verdict::Accepted(TaskState::Failed), "no further run may help");
    assert_eq!(bench.get(id).unwrap().attempt, 4);
    bench.check_all();
}

/// Q9: ten thousand tasks that failed together must not come back together.
#[test]
fn full_jitter_spreads_what_failed_together() {
    use crate::task::step::backoff;
    let rule = Backoff::Exponential { base_ms: 10_000, cap_ms: 600_000 };
    let chance = |n: u64| n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut seconds = [0_u32; 11];
    for n in 0..10_000 {
        seconds[(backoff(&rule, 1, chance(n)) / 1_000) as usize] += 1;
    }
    assert!(seconds.iter().all(|&starts| starts <= 3_000), "{seconds:?}");
    assert!(seconds[..10].iter().all(|&starts| starts > 500), "{seconds:?}");
    for attempt in 1..200 {
        let longest = backoff(&rule, attempt, u64::MAX);
        assert!((10_000..=600_000).contains(&longest), "attempt={attempt} longest={longest}");
    }
}

#[test]
fn cancelling_stops_what_waits_at_once_and_what_runs_by_its_worker() {
    let mut bench = Bench::new();
    let waiting = bench.add("1");
    let TaskAnswer::Changed { task, changed: true } = bench.call(&TaskOperation::Cancel(waiting)).unwrap() else {
        panic!("it was cancelled")
    };
    assert_eq!(task.state, TaskState::Cancelled);
    for end in ["acknowledged", "failed", "lease ended", "completed"] {
        let id = bench.add("2");
        let lease = bench.claim(1)[0].lease;
        let _ = bench.call(&TaskOperation::Cancel(id)).unwrap();
        assert_eq!(bench.state(id), TaskState::Active);
        let TaskAnswer::Renewed(renewals) =
            bench.call(&TaskOperation::Renew { leases: vec![lease], lease_ms: 0 }).unwrap()
        else {
            panic!("not what was asked for")
        };
        assert!(matches!(renewals[..], [Renewal::Held { cancel: true, .. }]), "the worker is told");
        match end {
            "acknowledged" => {
                assert_eq!(bench.report(lease, Outcome::Cancelled), Verdict::Accepted(TaskState::Cancelled));
            }
            "failed" => assert_eq!(bench.fail(lease), Verdict::Accepted(TaskState::Cancelled)),
            "completed" => assert_eq!(bench.complete(lease), Verdict::Accepted(TaskState::Completed)),
            _ => {
                bench.wait(30_000);
                bench.tick();
            }
        }
        let ended = if end == "completed" { TaskState::Completed } else { TaskState::Cancelled };
        assert_eq!(bench.state(id), ended, "{end}");
        assert!(bench.claim(1).is_empty());
        bench.check_all();
    }
}

/// Q14: a task that a stopping worker hands back has lost nothing.
#[test]
fn a_released_task_stands_where_it_stood_and_has_all_of_its_attempts() {
    let mut bench = Bench::new();
    let first = bench.add("1");
    let second = bench.add("2");
    let lease = bench.claim(1)[0].lease;
    assert_eq!(bench.report(lease, Outcome::Released), Verdict::Accepted(TaskState::Waiting));
    bench.check_all();
    let claimed = bench.claim(2);
    assert_eq!(claimed.iter().map(|claimed| claimed.task.id).collect::<Vec<_>>(), [first, second]);
    assert_eq!((claimed[0].task.attempt, claimed[0].lease.run), (1, 2));
}

#[test]
fn limits_of_a_queue_hold() {
    let mut bench = Bench::new();
    settings(&mut bench, QueueSettings { concurrency: Some(2), max_length: Some(3), ..QueueSettings::default() });
    for n in 0..3 {
        bench.add(&n.to_string());
    }
    let full = bench.call(&TaskOperation::Enqueue(Box::new(mail("4")))).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Overloaded);
    let leases: Vec<_> = bench.claim(10).iter().map(|claimed| claimed.lease).collect();
    assert_eq!(leases.len(), 2);
    assert!(bench.claim(10).is_empty());
    let _ = bench.complete(leases[0]);
    assert_eq!(bench.claim(10).len(), 1);
    settings(&mut bench, QueueSettings { rate: Some(Rate { count: 5, per_ms: 1_000 }), ..QueueSettings::default() });
    for n in 0..20 {
        bench.add(&n.to_string());
    }
    assert_eq!(bench.claim(100).len(), 5);
    assert!(bench.claim(100).is_empty());
    let ready = TaskOperation::Ready { queues: vec!["mail".into()] };
    let TaskAnswer::Ready(readiness) = bench.call(&ready).unwrap() else { panic!("not what was asked for") };
    assert_eq!((readiness.now, readiness.next_in_ms), (false, Some(200)));
    bench.wait(200);
    assert_eq!(bench.claim(100).len(), 1);
    bench.wait(10_000);
    assert_eq!(bench.claim(100).len(), 5, "an idle time is not saved up beyond one period");
    bench.check_all();
}

/// Conformance 15: what is paused gives nothing out, and what runs goes on.
#[test]
fn a_paused_queue_gives_nothing_out_and_a_drained_one_is_empty() {
    let mut bench = Bench::new();
    for n in 0..2_000 {
        bench.add(&n.to_string());
    }
    bench.enqueue(NewTask { delay_ms: Some(1_000), ..mail("1") });
    let lease = bench.claim(1)[0].lease;
    bench.call(&TaskOperation::Pause { queue: "mail".into(), paused: true }).unwrap();
    assert!(bench.claim(1).is_empty());
    assert_eq!(bench.complete(lease), Verdict::Accepted(TaskState::Completed));
    bench.call(&TaskOperation::Pause { queue: "mail".into(), paused: false }).unwrap();
    assert_eq!(bench.claim(1).len(), 1);
    bench.both_ways = false;
    bench.repeat(&TaskOperation::Drain { queue: "mail".into() });
    let info = bench.queue();
    assert_eq!((info.waiting, info.delayed, info.active, info.cancelled), (0, 0, 1, 1_999));
    bench.check_all();
}

#[test]
fn ended_tasks_are_kept_by_age_and_number_and_dead_letters_longer() {
    let mut bench = Bench::fast();
    settings(&mut bench, QueueSettings { keep_count: 10, keep_ms: 60_000, ..QueueSettings::default() });
    let long = format!("\"{}\"", "x".repeat(2_000));
    for _ in 0..2_500 {
        bench.add(&long);
    }
    bench.enqueue(NewTask { attempts: Some(1), priority: -100, ..mail("1") });
    loop {
        let claimed = bench.claim(1_000);
        if claimed.is_empty() {
            break;
        }
        for claimed in claimed {
            let _ = if claimed.task.priority < 0 { bench.fail(claimed.lease) } else { bench.complete(claimed.lease) };
        }
        bench.wait(1);
    }
    bench.tick();
    let info = bench.queue();
    assert_eq!((info.completed, info.failed), (10, 1));
    bench.check_all();
    bench.wait(60_000);
    bench.tick();
    let info = bench.queue();
    assert_eq!((info.completed, info.failed), (0, 1), "dead letters are kept 30 days");
    bench.wait(30 * 24 * 3_600 * 1_000);
    bench.tick();
    assert_eq!(bench.queue().failed, 0);
    bench.check_all();
}

#[test]
fn lists_go_through_every_task_once() {
    let mut bench = Bench::fast();
    let mut all = BTreeSet::new();
    for n in 0..250 {
        let queue = if n % 3 == 0 { "mail" } else { "other" };
        let delay_ms = (n % 5 == 0).then_some(10_000);
        all.insert(bench.enqueue(NewTask { queue: queue.into(), delay_ms, ..mail("1") }).task.id);
    }
    for (n, claimed) in bench.claim(30).into_iter().enumerate() {
        let _ = if n % 2 == 0 { bench.complete(claimed.lease) } else { bench.fail(claimed.lease) };
    }
    bench.claim(5);
    let mut list = |queue: Option<&str>, state, limit| {
        let mut found = Vec::new();
        let mut wanted = TaskList { queue: queue.map(str::to_owned), state, limit: Some(limit), after: None };
        loop {
            let TaskAnswer::Page(page) = bench.call(&TaskOperation::List(wanted.clone())).unwrap() else {
                panic!("not what was asked for")
            };
            found.extend(page.tasks);
            wanted.after = page.next;
            if wanted.after.is_none() {
                return found;
            }
        }
    };
    for limit in [1, 7, 1_000] {
        let found: Vec<_> = list(None, None, limit).into_iter().map(|task| task.id).collect();
        assert_eq!(found.len(), all.len(), "limit={limit}");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), all);
        let mut counted = 0;
        for state in TaskState::ALL {
            let found = list(Some("mail"), Some(state), limit);
            assert!(found.iter().all(|task| task.state == state && task.queue == "mail"));
            counted += found.len();
        }
        assert_eq!(counted, list(Some("mail"), None, limit).len());
    }
    for after in ["", "x", "AAAA"] {
        let wanted = TaskList { after: Some(after.into()), ..TaskList::default() };
        assert_eq!(bench.call(&TaskOperation::List(wanted)).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn what_breaks_a_limit_is_refused_and_adds_nothing() {
    let mut bench = Bench::new();
    let bad = [
        NewTask { queue: String::new(), ..mail("1") },
        NewTask { queue: "x".repeat(65), ..mail("1") },
        NewTask { queue: "a b".into(), ..mail("1") },
        NewTask { kind: Some("/".into()), ..mail("1") },
        NewTask { priority: 101, ..mail("1") },
        NewTask { attempts: Some(0), ..mail("1") },
        NewTask { timeout_ms: Some(0), ..mail("1") },
        NewTask { delay_ms: Some(1), due_at: Some(1), ..mail("1") },
        NewTask { delay_ms: Some(u64::MAX), ..mail("1") },
        NewTask { due_at: Some(-1), ..mail("1") },
        NewTask { unique: Some(String::new()), ..mail("1") },
        NewTask { unique: Some("x".repeat(257)), ..mail("1") },
        NewTask { backoff: Some(Backoff::Custom { ms: Vec::new() }), ..mail("1") },
    ];
    for new in bad {
        let error = bench.call(&TaskOperation::Enqueue(Box::new(new.clone()))).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{new:?}");
        let error = bench.call(&TaskOperation::EnqueueMany(vec![mail("1"), new])).expect_err("refused");
        assert!(error.to_string().contains("task=1"), "{error}");
    }
    assert!(bench.records().is_empty());
    assert_eq!(bench.call(&TaskOperation::Cancel(5)).unwrap_err().kind(), ErrorKind::NotFound);
}
