//! What a task keeps, loses and gains from one step of its life to the next.

use super::*;
use crate::error::ErrorKind;
use crate::operation::{Answer, Operation};
use crate::task::model::{Backoff, QueueSettings, Rate, Renewal, TaskList};
use crate::task::step::{backoff, enqueue};

fn mail() -> NewTask {
    NewTask::new("mail", Json::null())
}

fn settings(bench: &mut Bench, settings: QueueSettings) {
    bench.call(&TaskOperation::Configure { queue: "mail".into(), settings }).unwrap();
}

/// Lets a claimed task's lease end, as with a worker that died.
fn die(bench: &mut Bench) -> Vec<Claimed> {
    let claimed = bench.claim(1);
    bench.wait(30_000);
    bench.tick();
    claimed
}

fn retry(bench: &mut Bench, id: TaskId) -> Task {
    match bench.call(&TaskOperation::Retry(id)).unwrap() {
        TaskAnswer::Changed { task, changed: true } => *task,
        other => panic!("it did not come back: {other:?}"),
    }
}

fn progress(bench: &mut Bench, lease: Lease, progress: f64) {
    let answer = bench.call(&TaskOperation::Progress { lease, progress }).unwrap();
    assert!(matches!(answer, TaskAnswer::Progress(Renewal::Held { .. })), "{answer:?}");
}

/// Whoever brings a task back wants it to have all of its chances: what ended it must not end it again at once, and nobody
/// must take it for one that has ended.
#[test]
fn a_task_that_comes_back_has_nothing_of_its_end() {
    let mut bench = Bench::new();
    let id = bench.enqueue(NewTask { attempts: Some(100), ..mail() }).task.id;
    for _ in 0..2 {
        die(&mut bench);
    }
    let lease = bench.claim(1)[0].lease;
    progress(&mut bench, lease, 0.5);
    bench.wait(30_000);
    bench.tick();
    let dead = bench.get(id).unwrap();
    assert_eq!((dead.state, dead.progress), (TaskState::Failed, Some(0.5)));
    assert!(dead.finished_at.is_some());
    let back = retry(&mut bench, id);
    assert_eq!((back.finished_at, back.progress, back.attempt), (None, None, 0));
    for _ in 0..2 {
        die(&mut bench);
        assert_eq!(bench.state(id), TaskState::Waiting, "three more deaths are allowed");
    }
    let lease = bench.claim(1)[0].lease;
    bench.call(&TaskOperation::Cancel(id)).unwrap();
    assert_eq!(bench.report(lease, Outcome::Cancelled), Verdict::Accepted(TaskState::Cancelled));
    assert!(!retry(&mut bench, id).cancel_requested);
    let lease = bench.claim(1)[0].lease;
    assert_eq!(bench.report(lease, Outcome::Released), Verdict::Accepted(TaskState::Waiting));
    bench.check_all();
}

/// Whoever cannot wait for a backoff or a delay brings the task forward; what is not delayed stays as it is, and a second
/// cancel says that it did nothing.
#[test]
fn a_delayed_task_is_brought_forward_and_a_call_says_whether_it_changed_anything() {
    let mut bench = Bench::new();
    let delayed = bench.enqueue(NewTask { delay_ms: Some(60_000), unique: Some("k".into()), ..mail() }).task.id;
    let now = retry(&mut bench, delayed);
    assert_eq!((now.state, now.due_at, now.redrives), (TaskState::Waiting, bench.now(), 0));
    bench.check_all();
    let changed = |bench: &mut Bench, operation| match bench.call(&operation).unwrap() {
        TaskAnswer::Changed { changed, .. } => changed,
        other => panic!("{other:?}"),
    };
    assert!(!changed(&mut bench, TaskOperation::Retry(delayed)), "it waits already");
    let lease = bench.claim(1)[0].lease;
    assert!(!changed(&mut bench, TaskOperation::Retry(delayed)), "it runs");
    for first in [true, false] {
        assert_eq!(changed(&mut bench, TaskOperation::Cancel(delayed)), first, "of one that runs");
    }
    let _ = bench.complete(lease);
    for operation in [TaskOperation::Cancel(delayed), TaskOperation::Retry(delayed)] {
        assert!(!changed(&mut bench, operation), "it has completed");
    }
    bench.check_all();
}

/// A worker that stops hands back a task which somebody cancelled meanwhile: it must not run again.
#[test]
fn a_cancelled_task_that_is_handed_back_is_cancelled() {
    let mut bench = Bench::new();
    let id = bench.add("1");
    let lease = bench.claim(1)[0].lease;
    bench.call(&TaskOperation::Cancel(id)).unwrap();
    assert_eq!(bench.report(lease, Outcome::Released), Verdict::Accepted(TaskState::Cancelled));
    assert!(bench.claim(1).is_empty());
    bench.check_all();
}

/// How far a run is says nothing about the next one; each is told at most once a second, and a completed one is done.
#[test]
fn progress_belongs_to_a_run_and_is_kept_once_a_second() {
    let mut bench = Bench::new();
    let id = bench.add("1");
    let lease = bench.claim(1)[0].lease;
    let expected = [(0, 0.25, 0.25), (999, 0.5, 0.25), (1, 0.75, 0.75), (500, 1.0, 0.75)];
    for (wait, said, kept) in expected {
        bench.wait(wait);
        progress(&mut bench, lease, said);
        assert_eq!(bench.get(id).unwrap().progress, Some(kept), "said={said}");
    }
    for said in [-0.1, 1.1, f64::NAN] {
        let refused = bench.call(&TaskOperation::Progress { lease, progress: said }).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{said}");
    }
    let _ = bench.report(lease, Outcome::Released);
    let claimed = bench.claim(1);
    assert_eq!(claimed[0].task.progress, None);
    progress(&mut bench, claimed[0].lease, 0.1);
    assert_eq!(bench.get(id).unwrap().progress, Some(0.1), "the first of a run is kept at once");
    let _ = bench.complete(claimed[0].lease);
    assert_eq!(bench.get(id).unwrap().progress, Some(1.0));
    bench.check_all();
}

/// A task that fails again and again, each time with a long text, must not grow without bound; people want the newest.
#[test]
fn the_newest_failures_are_kept_and_cut() {
    let mut bench = Bench::new();
    let id = bench.enqueue(NewTask { attempts: Some(9), backoff: Some(Backoff::Fixed { ms: 0 }), ..mail() }).task.id;
    for n in 1..=7 {
        let lease = bench.claim(1)[0].lease;
        let error = format!("{n}{}", "é".repeat(4 << 10));
        let _ = bench.report(lease, Outcome::Failed { error, retry: true });
    }
    let task = bench.get(id).unwrap();
    assert_eq!(task.failures.iter().map(|failed| failed.attempt).collect::<Vec<_>>(), [3, 4, 5, 6, 7]);
    for failed in &task.failures {
        assert!(failed.error.starts_with(&failed.attempt.to_string()), "{failed:?}");
        assert_eq!((failed.error.len(), failed.at), (4_095, bench.now()), "cut between two characters");
    }
    assert_eq!(task.error.as_ref(), task.failures.last().map(|failed| &failed.error));
}

/// Whoever names a time that is over must not get before those who wait already.
#[test]
fn a_due_time_in_the_past_is_now() {
    let mut bench = Bench::new();
    let first = bench.add("1");
    bench.wait(1);
    let added = bench.enqueue(NewTask { due_at: Some(1), ..mail() }).task;
    assert_eq!((added.state, added.due_at), (TaskState::Waiting, bench.now()));
    assert_eq!(bench.claim(1)[0].task.id, first);
}

/// A delayed task waits from its time on, however late anybody looks: those that came behind it stay behind it.
#[test]
fn a_delayed_task_counts_as_waiting_since_it_was_due() {
    let mut bench = Bench::new();
    let delayed = bench.enqueue(NewTask { delay_ms: Some(1_000), ..mail() }).task.id;
    bench.wait(2_000);
    let later = bench.add("2");
    bench.wait(5_000);
    assert_eq!(bench.queue().head_waits_ms, 5_000, "only what was promoted is seen");
    let claimed = bench.claim(1);
    assert_eq!(claimed[0].task.id, delayed);
    let _ = bench.report(claimed[0].lease, Outcome::Released);
    assert_eq!(bench.queue().head_waits_ms, 6_000);
    assert_eq!(bench.claim(2).iter().map(|claimed| claimed.task.id).collect::<Vec<_>>(), [delayed, later]);
    bench.wait(40_000);
    assert_eq!(bench.queue().overdue_ms, 10_000, "leases that ended, which no tick has seen");
}

/// What a task does not say itself its queue says.
#[test]
fn a_task_has_its_own_settings_or_those_of_its_queue() {
    let rules =
        QueueSettings { attempts: 7, backoff: Backoff::Fixed { ms: 3 }, timeout_ms: 11, ..QueueSettings::default() };
    let from_queue = enqueue(&mail(), 0, &rules, 0).unwrap();
    assert_eq!((from_queue.max_attempts, from_queue.backoff, from_queue.timeout_ms), (7, Backoff::Fixed { ms: 3 }, 11));
    let own = NewTask { attempts: Some(2), backoff: Some(Backoff::Fixed { ms: 5 }), timeout_ms: Some(13), ..mail() };
    let own = enqueue(&own, 0, &rules, 0).unwrap();
    assert_eq!((own.max_attempts, own.backoff, own.timeout_ms), (2, Backoff::Fixed { ms: 5 }, 13));
}

/// Without doubling a task that goes on failing would come back as often as one that failed once.
#[test]
fn the_bound_of_the_backoff_doubles_up_to_its_cap() {
    let rule = Backoff::Exponential { base_ms: 1_000, cap_ms: 600_000 };
    let longest = [1, 2, 3, 4, 10, 11, 1_000].map(|attempt| backoff(&rule, attempt, u64::MAX));
    assert_eq!(longest, [1_000, 2_000, 4_000, 8_000, 512_000, 600_000, 600_000]);
    assert_eq!(backoff(&rule, 1, 0), 0, "full jitter begins at nothing");
    let huge = Backoff::Exponential { base_ms: u64::MAX, cap_ms: u64::MAX };
    assert_eq!(backoff(&huge, 1_000, u64::MAX), u64::MAX);
}

/// Two leases with one token: whoever knows one would hold the other.
#[test]
fn every_lease_has_a_token_of_its_own() {
    let mut bench = Bench::fast();
    for _ in 0..200 {
        bench.add("1");
    }
    let mut tokens = BTreeSet::new();
    for n in [1, 60, 1, 60] {
        tokens.extend(bench.claim(n).iter().map(|claimed| claimed.lease.token.0));
    }
    let claim = || {
        let work = Work { queues: vec!["mail".into()], claim: 39, ..Work::default() };
        Operation::Task(TaskOperation::Work(Box::new(work)))
    };
    let mut source = AtHand(&bench.keys);
    let mut tx = Transaction::new(&mut source, Drawn { moment: bench.moment, seed: 1 }, 1_000);
    let Answer::Batch(answers) = crate::operation::run(&Operation::Batch(vec![claim(), claim()]), &mut tx).unwrap()
    else {
        panic!("not what was asked for")
    };
    for answer in answers {
        let Answer::Task(TaskAnswer::Worked(worked)) = answer else { panic!("not what was asked for") };
        tokens.extend(worked.claimed.iter().map(|claimed| claimed.lease.token.0));
    }
    assert_eq!(tokens.len(), 200);
}

/// A queue that is never empty must not keep every worker from the one that is named behind it.
#[test]
fn no_queue_starves_behind_a_full_one() {
    let mut bench = Bench::fast();
    for n in 0..400 {
        bench.enqueue(NewTask { queue: if n % 2 == 0 { "full" } else { "other" }.into(), ..mail() });
    }
    let mut from = BTreeMap::new();
    for _ in 0..200 {
        let queues = vec!["full".to_owned(), "other".to_owned()];
        let claimed = bench.work(Work { queues, claim: 1, ..Work::default() }).claimed;
        *from.entry(claimed[0].task.queue.clone()).or_insert(0) += 1;
    }
    assert!(from.len() == 2 && from.values().all(|&claims| claims > 50), "{from:?}");
}

/// Tasks of several queues in one call each land in their own; what is over the bound of one is refused with all of them.
#[test]
fn many_tasks_go_where_each_of_them_says() {
    let mut bench = Bench::new();
    let to = |queue: &str| NewTask { queue: queue.into(), ..mail() };
    bench.call(&TaskOperation::EnqueueMany(vec![to("a"), to("a"), to("mail"), to("a")])).unwrap();
    let waiting: Vec<_> = bench.records().values().map(|record| record.queue_name.clone()).collect();
    assert_eq!(waiting, ["a", "a", "mail", "a"]);
    assert_eq!((bench.queue().waiting, bench.claim(10).len()), (1, 1));
    bench.check_all();
    settings(&mut bench, QueueSettings { max_length: Some(3), ..QueueSettings::default() });
    let before = bench.keys.clone();
    let refused = bench.call(&TaskOperation::EnqueueMany(vec![mail(), mail(), mail(), mail()])).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Overloaded);
    assert!(refused.to_string().contains("task=3"), "{refused}");
    assert_eq!(bench.keys, before, "all or none");
    let refused = bench.call(&TaskOperation::EnqueueMany(vec![mail(); 1_001])).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
    bench.check_all();
}

/// The bound of a queue counts what is delayed, or it would be none for those who only delay; a task that is there already
/// is answered however full the queue is.
#[test]
fn a_full_queue_counts_delayed_tasks_and_answers_those_it_has() {
    let mut bench = Bench::new();
    settings(&mut bench, QueueSettings { max_length: Some(2), ..QueueSettings::default() });
    let keyed = NewTask { unique: Some("k".into()), ..mail() };
    let id = bench.enqueue(keyed.clone()).task.id;
    bench.enqueue(NewTask { delay_ms: Some(1_000), ..mail() });
    let full = bench.call(&TaskOperation::Enqueue(Box::new(mail()))).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Overloaded);
    for limit in [2, 1] {
        settings(&mut bench, QueueSettings { max_length: Some(limit), ..QueueSettings::default() });
        let again = bench.enqueue(keyed.clone());
        assert_eq!((again.existing, again.task.id), (true, id), "limit={limit}");
    }
    bench.check_all();
}

/// A worker that is told of work which no claim gives it would ask again at once, and again.
#[test]
fn what_no_claim_would_give_is_not_said_to_be_ready() {
    let mut bench = Bench::new();
    let ready = |bench: &mut Bench| match bench.call(&TaskOperation::Ready { queues: vec!["mail".into()] }).unwrap() {
        TaskAnswer::Ready(readiness) => (readiness.now, readiness.next_in_ms),
        other => panic!("{other:?}"),
    };
    settings(&mut bench, QueueSettings { concurrency: Some(1), ..QueueSettings::default() });
    bench.add("1");
    bench.add("2");
    assert_eq!(ready(&mut bench), (true, None));
    let lease = bench.claim(2)[0].lease;
    assert_eq!(ready(&mut bench), (false, None), "as many run as may");
    let _ = bench.complete(lease);
    assert_eq!(ready(&mut bench), (true, None));
    bench.call(&TaskOperation::Pause { queue: "mail".into(), paused: true }).unwrap();
    assert_eq!(ready(&mut bench), (false, None), "nothing is given out");
}

/// A task that runs would be removed under its worker, and its lease with it.
#[test]
fn a_task_that_runs_is_not_removed() {
    let mut bench = Bench::new();
    let id = bench.add("1");
    let lease = bench.claim(1)[0].lease;
    assert_eq!(bench.call(&TaskOperation::Remove(id)).unwrap_err().kind(), ErrorKind::Conflict);
    let _ = bench.complete(lease);
    assert_eq!(bench.call(&TaskOperation::Remove(id)).unwrap(), TaskAnswer::Removed(true));
    assert_eq!(bench.call(&TaskOperation::Remove(id)).unwrap(), TaskAnswer::Removed(false));
    bench.check_all();
}

/// Whoever follows the queue must learn of each end: of a task that was removed, and of one that nobody kept.
#[test]
fn what_goes_is_told_by_the_way_it_went() {
    use crate::engine::EventKind;
    let mut bench = Bench::new();
    settings(&mut bench, QueueSettings { keep_ms: 1_000, ..QueueSettings::default() });
    let told = |bench: &Bench| bench.events.iter().map(|event| (event.id.to_string(), event.kind)).collect::<Vec<_>>();
    let removed = bench.add("1");
    bench.call(&TaskOperation::Remove(removed)).unwrap();
    assert_eq!(told(&bench), [(removed.to_string(), EventKind::Deleted)]);
    for state in [TaskState::Completed, TaskState::Cancelled] {
        let id = bench.add("2");
        assert_eq!(told(&bench), [(id.to_string(), EventKind::Created)]);
        if state == TaskState::Completed {
            let lease = bench.claim(1)[0].lease;
            let _ = bench.complete(lease);
        } else {
            bench.call(&TaskOperation::Cancel(id)).unwrap();
        }
        assert_eq!(told(&bench), [(id.to_string(), EventKind::Updated)]);
        bench.wait(999);
        bench.tick();
        assert_eq!(bench.state(id), state, "kept for its time");
        bench.wait(1);
        bench.tick();
        assert_eq!(bench.get(id), None);
        assert_eq!(told(&bench), [(id.to_string(), EventKind::Expired)]);
        bench.check_all();
    }
}

/// Pages are bounded by what they weigh too, and lose nothing at that bound.
#[test]
fn a_page_of_large_tasks_ends_early_and_goes_on() {
    let mut bench = Bench::fast();
    let large = NewTask::new("mail", Json::parse(format!("\"{}\"", "p".repeat(400_000))).unwrap());
    let ids: Vec<_> = (0..7).map(|_| bench.enqueue(large.clone()).task.id).collect();
    let (mut found, mut pages, mut after) = (Vec::new(), 0, None);
    loop {
        let wanted = TaskList { after, ..TaskList::default() };
        let TaskAnswer::Page(page) = bench.call(&TaskOperation::List(wanted)).unwrap() else { panic!("a page") };
        assert!(page.tasks.len() <= 3, "1 MiB, and what began below it");
        found.extend(page.tasks.into_iter().map(|task| task.id));
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((found, pages), (ids, 3));
    let nothing = TaskOperation::List(TaskList { limit: Some(0), ..TaskList::default() });
    assert_eq!(bench.call(&nothing).unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// What no lease, worker or result may be is refused before anything of the call is done.
#[test]
fn what_a_worker_may_not_ask_for_is_refused_as_a_whole() {
    let mut bench = Bench::new();
    bench.add("1");
    let lease = bench.claim(1)[0].lease;
    bench.add("2");
    let done = Report { lease, outcome: Outcome::Completed { result: Json::null() } };
    let large = Json::from(serde_json::Value::String("x".repeat(1 << 20)));
    let work = || Work { reports: vec![done.clone()], queues: vec!["mail".into()], claim: 1, ..Work::default() };
    let bad = [
        (Work { lease_ms: 999, ..work() }, ErrorKind::InvalidInput),
        (Work { lease_ms: 3_600_001, ..work() }, ErrorKind::InvalidInput),
        (Work { worker: "w".repeat(129), ..work() }, ErrorKind::InvalidInput),
        (Work { queues: vec!["mail".into(); 101], ..work() }, ErrorKind::InvalidInput),
        (Work { claim: 1_001, ..work() }, ErrorKind::TooLarge),
        (Work { reports: vec![done.clone(); 1_001], ..work() }, ErrorKind::TooLarge),
        (
            Work {
                reports: vec![done.clone(), Report { lease, outcome: Outcome::Completed { result: large } }],
                ..work()
            },
            ErrorKind::TooLarge,
        ),
    ];
    let before = bench.keys.clone();
    for (work, kind) in bad {
        assert_eq!(bench.call(&TaskOperation::Work(Box::new(work))).unwrap_err().kind(), kind);
    }
    let renew = TaskOperation::Renew { leases: vec![lease], lease_ms: 1 };
    assert_eq!(bench.call(&renew).unwrap_err().kind(), ErrorKind::InvalidInput);
    let renew = TaskOperation::Renew { leases: vec![lease; 1_001], lease_ms: 0 };
    assert_eq!(bench.call(&renew).unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(bench.keys, before);
    let twice = bench.work(Work { reports: vec![done.clone(), done.clone()], ..work() });
    assert_eq!(twice.verdicts, [Verdict::Accepted(TaskState::Completed), Verdict::Stale], "one end for each task");
    assert_eq!(twice.claimed.len(), 1);
    bench.check_all();
}

/// Programs configure their queues whenever they start: that must neither let a paused queue go on nor give a rate anew, and a
/// rate that is another one begins with all of its starts.
#[test]
fn configuring_a_queue_again_leaves_what_it_does_not_say() {
    let mut bench = Bench::new();
    let rated = |count| QueueSettings { rate: Some(Rate { count, per_ms: 60_000 }), ..QueueSettings::default() };
    settings(&mut bench, rated(2));
    for _ in 0..9 {
        bench.add("1");
    }
    assert_eq!(bench.claim(9).len(), 2);
    settings(&mut bench, rated(2));
    assert_eq!(bench.claim(9).len(), 0, "the same rate");
    settings(&mut bench, rated(3));
    assert_eq!(bench.claim(9).len(), 3, "another rate");
    bench.call(&TaskOperation::Pause { queue: "mail".into(), paused: true }).unwrap();
    settings(&mut bench, QueueSettings::default());
    assert!(bench.queue().paused && bench.claim(9).is_empty());
    bench.check_all();
}

/// Each queue is looked at by every tick, so there is a bound; those there are go on.
#[test]
fn there_are_so_many_queues_and_no_more() {
    let mut bench = Bench::fast();
    for n in 0..1_000 {
        bench.enqueue(NewTask { queue: format!("q{n}"), ..mail() });
    }
    let refused = bench.call(&TaskOperation::Enqueue(Box::new(mail()))).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
    bench.enqueue(NewTask { queue: "q7".into(), ..mail() });
    bench.check_all();
}
