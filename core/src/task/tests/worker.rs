//! Workers over a database in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::env::Env;
use crate::kappa::Kappa;
use crate::options::Options;
use crate::task::handle::Tasks;
use crate::task::json::Json;
use crate::task::model::{NewTask, TaskState, Verdict};
use crate::task::worker::{Claims, Failure, Interrupt, Worker, WorkerOptions};

/// Longer than anything here takes, so that a hang is a failure.
const LONG: Duration = Duration::from_secs(60);

fn database() -> Kappa {
    Kappa::in_memory(&Options::default(), &Env::default()).unwrap()
}

fn enqueue(tasks: &Tasks, new: NewTask) -> u64 {
    tasks.enqueue(new).wait().unwrap().task.id
}

fn one(tasks: &Tasks) -> u64 {
    enqueue(tasks, NewTask::new("q", Json::null()))
}

#[test]
fn every_task_runs_once_over_many_slots_and_two_workers() {
    let kappa = database();
    let tasks = kappa.tasks();
    let runs = Arc::new(Mutex::new(HashMap::<u64, u32>::new()));
    let start = || {
        let runs = Arc::clone(&runs);
        Worker::start(&kappa, WorkerOptions::new(["q"]).concurrency(16), move |job| {
            *runs.lock().entry(job.task().id).or_default() += 1;
            Ok(job.params().clone())
        })
        .unwrap()
    };
    let workers = [start(), start()];
    let mut ids = Vec::new();
    for chunk in 0..10 {
        let some = (0..200).map(|n| NewTask::new("q", Json::from(serde_json::json!([chunk, n])))).collect();
        ids.extend(tasks.enqueue_many(some).wait().unwrap().into_iter().map(|added| added.id));
    }
    for id in &ids {
        let task = tasks.ended(*id).wait_for(LONG).expect("it ends").unwrap();
        assert_eq!((task.state, task.attempt, Some(task.params)), (TaskState::Completed, 1, task.result));
    }
    for worker in workers {
        assert_eq!(worker.stop(), 0);
    }
    let runs = runs.lock();
    assert_eq!(runs.len(), ids.len());
    assert!(runs.values().all(|&runs| runs == 1));
}

/// A handler that fails or panics must cost its task an attempt, and the worker nothing.
#[test]
fn a_failing_handler_and_a_panicking_one_are_told_with_the_task() {
    let kappa = database();
    let tasks = kappa.tasks();
    let worker = Worker::start(&kappa, WorkerOptions::new(["q"]), |job| match job.params().text() {
        "1" => panic!("on purpose"),
        "2" => Err(Failure::final_because("never")),
        "3" => Err(Failure::from("later")),
        _ => Ok(Json::null()),
    })
    .unwrap();
    let task =
        |n: u32, attempts| NewTask { attempts: Some(attempts), ..NewTask::new("q", Json::from(serde_json::json!(n))) };
    let ids = [(1, 1), (2, 9), (3, 1), (4, 1)].map(|(n, attempts)| enqueue(&tasks, task(n, attempts)));
    let ended = ids.map(|id| tasks.ended(id).wait_for(LONG).expect("it ends").unwrap());
    let errors: Vec<_> = ended.iter().map(|task| task.error.as_deref().unwrap_or("")).collect();
    assert_eq!(errors, ["the handler panicked: on purpose", "never", "later", ""]);
    assert_eq!(ended.map(|task| task.attempt), [1, 1, 1, 1]);
    worker.stop();
}

/// A cancelled task must not wait for its handler's end to be told.
#[test]
fn a_running_task_is_told_that_it_was_cancelled() {
    let kappa = database();
    let tasks = kappa.tasks();
    let (began, beginning) = mpsc::channel();
    let began = Mutex::new(began);
    let worker = Worker::start(&kappa, WorkerOptions::new(["q"]), move |job| {
        began.lock().send(()).unwrap();
        let why = job.interrupted().wait_for(LONG).expect("it is told").unwrap();
        assert!(job.cancelled());
        Err(Failure::from(why.name()))
    })
    .unwrap();
    let id = one(&tasks);
    beginning.recv_timeout(LONG).unwrap();
    let (task, changed) = tasks.cancel(id).wait().unwrap();
    assert!(changed && task.cancel_requested && task.state == TaskState::Active);
    let task = tasks.ended(id).wait_for(LONG).expect("it ends").unwrap();
    assert_eq!((task.state, task.error.as_deref()), (TaskState::Cancelled, Some("cancelled")));
    worker.stop();
}

/// Whoever cancels a long task waits for it to end: a look once a second would keep everybody waiting for most of one.
#[test]
fn a_cancel_is_told_by_its_commit() {
    let kappa = database();
    let tasks = kappa.tasks();
    let claims = Claims::start(&tasks, WorkerOptions::new(["q"])).unwrap();
    let env = Env::default();
    let waited = (0..5).map(|_| {
        let id = one(&tasks);
        let job = claims.next_within(LONG).expect("a job");
        // By then the look that came with the claim is over.
        assert!(job.interrupted().wait_for(Duration::from_millis(150)).is_none(), "nobody has cancelled it");
        let cancelled = env.clock.boot_ms();
        let _ = tasks.cancel(id).wait().unwrap();
        assert_eq!(job.interrupted().wait_for(LONG).expect("it is told").unwrap(), Interrupt::Cancelled);
        env.clock.boot_ms() - cancelled
    });
    let soonest = waited.min().expect("several");
    assert!(soonest < 500, "{soonest} ms, where all looks but those after commits come once a second");
    claims.stop(Duration::ZERO);
}

/// Q6: a run that takes longer than its timeout is given up; its late result changes nothing, and its slot stays taken
/// until the handler returns.
#[test]
fn a_run_over_its_time_is_given_up_and_keeps_its_slot() {
    let kappa = database();
    let tasks = kappa.tasks();
    let claims = Claims::start(&tasks, WorkerOptions::new(["q"])).unwrap();
    let new = NewTask { timeout_ms: Some(50), attempts: Some(1), ..NewTask::new("q", Json::null()) };
    let id = enqueue(&tasks, new);
    let job = claims.next_within(LONG).expect("a job");
    assert_eq!(job.interrupted().wait_for(LONG).expect("it is told").unwrap(), Interrupt::TimedOut);
    let task = tasks.ended(id).wait_for(LONG).expect("it ends").unwrap();
    assert_eq!((task.state, task.attempt), (TaskState::Failed, 1));
    assert_eq!(claims.under_way(), (0, 1), "the handler has not returned");
    let verdict = job.finish_with(Ok(Json::null())).wait().unwrap();
    assert_eq!(verdict, Verdict::Stale);
    assert_eq!(claims.under_way(), (0, 0));
    assert_eq!(tasks.get(id).wait().unwrap().expect("kept").state, TaskState::Failed);
    assert_eq!(claims.stop(Duration::ZERO), 0);
}

/// Q14, conformance 15: what a stopping worker has not begun, or not ended in time, waits again with all of its attempts.
#[test]
fn a_stop_hands_back_what_has_not_ended() {
    let kappa = database();
    let tasks = kappa.tasks();
    let claims = Claims::start(&tasks, WorkerOptions::new(["q"]).concurrency(3)).unwrap();
    let ids = [one(&tasks), one(&tasks), one(&tasks)];
    let begun = claims.next_within(LONG).expect("a job");
    while claims.under_way().0 < 2 {
        assert!(tasks.committed().wait_for(LONG).is_some() || claims.under_way().0 == 2, "all are claimed");
    }
    assert_eq!(claims.stop(Duration::ZERO), 1);
    assert_eq!(begun.interrupt(), Some(Interrupt::Stopped));
    for id in ids {
        let task = tasks.get(id).wait().unwrap().expect("kept");
        assert_eq!((task.state, task.attempt), (TaskState::Waiting, 0));
    }
    assert_eq!(begun.finish_with(Ok(Json::null())).wait().unwrap(), Verdict::Stale);
    assert!(claims.next_within(LONG).is_none(), "a stopped worker gives nothing out");
}

/// A worker that is stopped while its claim is on its way must hand back what that brings: it would lie there, active,
/// until the lease ends.
#[test]
fn a_stop_hands_back_what_is_just_being_claimed() {
    let db = database();
    let tasks = db.tasks();
    for round in 0..200 {
        let claims = Claims::start(&tasks, WorkerOptions::new(["q"])).unwrap();
        let id = one(&tasks);
        let state = || tasks.get(id).wait().unwrap().expect("it is kept").state;
        while state() == TaskState::Waiting {
            std::hint::spin_loop();
        }
        claims.stop(Duration::ZERO);
        assert_eq!(state(), TaskState::Waiting, "round={round}");
        tasks.cancel(id).wait().unwrap();
    }
}

/// Q15: a receiver that compares fences takes nothing from an older run.
#[test]
fn fences_rise_with_each_run_of_a_task() {
    let kappa = database();
    let tasks = kappa.tasks();
    let claims = Claims::start(&tasks, WorkerOptions::new(["q"])).unwrap();
    let new =
        NewTask { backoff: Some(crate::task::model::Backoff::Fixed { ms: 0 }), ..NewTask::new("q", Json::null()) };
    enqueue(&tasks, new);
    let mut receiver = HashMap::new();
    let mut write = |(task, run): (u64, u32), value: &'static str| {
        let newest = receiver.entry(task).or_insert((0, ""));
        let accepted = run >= newest.0;
        if accepted {
            *newest = (run, value);
        }
        accepted
    };
    let first = claims.next_within(LONG).expect("a job");
    let old = first.fence();
    assert!(write(old, "first"));
    let verdict = first.finish_with(Err(Failure::from("again"))).wait().unwrap();
    assert_eq!(verdict, Verdict::Accepted(TaskState::Waiting));
    let second = claims.next_within(LONG).expect("a job");
    assert!(write(second.fence(), "second") && !write(old, "late"));
    let _ = second.finish_with(Ok(Json::null())).wait().unwrap();
    claims.stop(Duration::ZERO);
}

#[test]
fn progress_is_kept_and_told() {
    let kappa = database();
    let tasks = kappa.tasks();
    let claims = Claims::start(&tasks, WorkerOptions::new(["q"])).unwrap();
    let id = one(&tasks);
    let job = claims.next_within(LONG).expect("a job");
    let mut feed = kappa.feed(crate::FeedStart::Now).wait().unwrap();
    job.progress(0.25);
    job.progress(f64::NAN);
    let change = feed.next_within(LONG).unwrap().expect("a change");
    assert_eq!((change.collection.as_str(), change.id.as_str()), ("kappa:tasks", id.to_string().as_str()));
    let document = change.document.expect("the new value");
    assert_eq!(document.fields()["progress"], serde_json::json!(0.25));
    let _ = job.finish_with(Ok(Json::null())).wait().unwrap();
    claims.stop(Duration::ZERO);
}
