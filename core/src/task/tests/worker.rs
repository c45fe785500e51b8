//! Workers over a database in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::engine::memory::MemoryEngine;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::executor::local::{About, Local};
use crate::executor::{CallOptions, Change, Executor, FeedStart, Info, Pending};
use crate::kappa::Kappa;
use crate::operation::{Answer, Operation};
use crate::options::Options;
use crate::task::handle::Tasks;
use crate::task::json::Json;
use crate::task::model::{
    Backoff, NewTask, Outcome, QueueSettings, Renewal, Report, RetryBudget, TaskState, Verdict, Work,
};
use crate::task::operation::TaskOperation;
use crate::task::worker::{Claims, Failure, Interrupt, Job, Worker, WorkerOptions};

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
    let task = |n: u32, attempts| NewTask {
        attempts: Some(attempts),
        backoff: Some(Backoff::Fixed { ms: 0 }),
        ..NewTask::new("q", Json::from(serde_json::json!(n)))
    };
    let ids = [(1, 2), (2, 9), (3, 3), (4, 1)].map(|(n, attempts)| enqueue(&tasks, task(n, attempts)));
    let ended = ids.map(|id| tasks.ended(id).wait_for(LONG).expect("it ends").unwrap());
    let errors: Vec<_> = ended.iter().map(|task| task.error.as_deref().unwrap_or("")).collect();
    assert_eq!(errors, ["the handler panicked: on purpose", "never", "later", ""]);
    assert_eq!(ended.map(|task| task.attempt), [2, 1, 3, 1]);
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
    assert_eq!(
        task.error.as_deref(),
        Some("the run took longer than the task's timeout"),
        "told, and not left to its lease"
    );
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
    let new = NewTask { backoff: Some(Backoff::Fixed { ms: 0 }), ..NewTask::new("q", Json::null()) };
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
    let mut feed = kappa.feed(FeedStart::Now).wait().unwrap();
    job.progress(0.25);
    job.progress(f64::NAN);
    let change = feed.next_within(LONG).unwrap().expect("a change");
    assert_eq!((change.collection.as_str(), change.id.as_str()), ("kappa:tasks", id.to_string().as_str()));
    let document = change.document.expect("the new value");
    assert_eq!(document.fields()["progress"], serde_json::json!(0.25));
    let _ = job.finish_with(Ok(Json::null())).wait().unwrap();
    claims.stop(Duration::ZERO);
}

/// Tasks whose records weigh 13 KiB, `count` of them: 1 KiB of parameters, a description, and what two runs failed with.
fn heavy(tasks: &Tasks, count: usize) -> Vec<u64> {
    let retry_budget = RetryBudget { percent: 100, per_second: 1 };
    tasks.configure("q", QueueSettings { retry_budget, ..QueueSettings::default() }).wait().unwrap();
    let new = NewTask {
        description: Some("d".repeat(4 << 10)),
        backoff: Some(Backoff::Fixed { ms: 0 }),
        ..NewTask::new("q", Json::from(serde_json::json!("p".repeat(1_000))))
    };
    let added = tasks.enqueue_many(vec![new; count]).wait().unwrap();
    for _ in 0..2 {
        let mut failed = 0;
        while failed < count {
            let claim = Work { queues: vec!["q".into()], claim: 40, ..Work::default() };
            let claimed = tasks.work(claim).wait().unwrap().claimed;
            let outcome = || Outcome::Failed { error: "e".repeat(4 << 10), retry: true };
            let reports: Vec<_> =
                claimed.iter().map(|claimed| Report { lease: claimed.lease, outcome: outcome() }).collect();
            failed += tasks.work(Work { reports, ..Work::default() }).wait().unwrap().verdicts.len();
        }
    }
    added.into_iter().map(|added| added.id).collect()
}

/// Claims `count` jobs.
fn take(claims: &Claims, count: usize) -> Vec<Job> {
    (0..count).map(|_| claims.next_within(LONG).expect("a job")).collect()
}

/// Runs that end together and are more than one operation may write: all of their outcomes were refused for good, and every
/// task ran again.
#[test]
fn outcomes_that_are_too_much_together_are_reported_in_parts() {
    const TASKS: usize = 160;
    let kappa = database();
    let tasks = kappa.tasks();
    let ids = heavy(&tasks, TASKS);
    let claims = Claims::start(&tasks, WorkerOptions::new(["q"]).concurrency(TASKS)).unwrap();
    let jobs = take(&claims, TASKS);
    Job::finish_all(jobs.into_iter().map(|job| (job, Outcome::Completed { result: Json::null() })));
    for id in ids {
        let task = tasks.ended(id).wait_for(LONG).expect("it ends").unwrap();
        assert_eq!((task.state, task.attempt), (TaskState::Completed, 3));
    }
    assert_eq!(claims.stop(Duration::ZERO), 0);
}

/// A result that is over its limit is a failure of its own task. The task must not die as if its worker had, and the outcomes
/// beside it must not be lost.
#[test]
fn one_bad_outcome_among_others_is_refused_alone() {
    let kappa = database();
    let tasks = kappa.tasks();
    let claims = Claims::start(&tasks, WorkerOptions::new(["q"]).concurrency(20)).unwrap();
    let new = NewTask { attempts: Some(1), ..NewTask::new("q", Json::null()) };
    let ids: Vec<_> = tasks.enqueue_many(vec![new; 20]).wait().unwrap().into_iter().map(|added| added.id).collect();
    let bad = ids[7];
    let jobs = take(&claims, 20);
    Job::finish_all(jobs.into_iter().map(|job| {
        let length = if job.task().id == bad { 1 << 20 } else { 10 };
        // As a handler makes it, unchecked.
        (job, Outcome::Completed { result: Json::from(serde_json::Value::String("x".repeat(length))) })
    }));
    for id in ids {
        let task = tasks.ended(id).wait_for(LONG).expect("it ends").unwrap();
        if id == bad {
            let error = task.error.unwrap_or_default();
            assert!(task.state == TaskState::Failed && error.contains("over its limit"), "{error}");
        } else {
            assert_eq!(task.state, TaskState::Completed);
        }
    }
    assert_eq!(claims.stop(Duration::ZERO), 0);
}

/// Q5: the leases of a busy worker are renewed however long its handlers take and however much their tasks weigh; refused
/// together because they are too much for one operation, all of them would end, and every task run again.
#[test]
fn leases_are_renewed_while_handlers_run_however_much_their_tasks_weigh() {
    const TASKS: usize = 160;
    let kappa = database();
    let tasks = kappa.tasks();
    heavy(&tasks, TASKS);
    let options = WorkerOptions { lease: Duration::from_secs(2), ..WorkerOptions::new(["q"]).concurrency(TASKS) };
    let claims = Claims::start(&tasks, options).unwrap();
    let jobs = take(&claims, TASKS);
    let ends = || {
        let leases = jobs.iter().map(Job::lease).collect();
        let held = tasks.check(leases).wait().unwrap().into_iter().map(|renewal| match renewal {
            Renewal::Held { expires_at, .. } => expires_at,
            Renewal::Stale => panic!("a lease has ended"),
        });
        held.collect::<Vec<_>>()
    };
    let first = ends();
    loop {
        let committed = tasks.committed();
        if ends().iter().zip(&first).all(|(now, first)| *now > first + 2_000) {
            // Renewed behind the end of what was claimed.
            break;
        }
        committed.wait_for(LONG).expect("a renewal").unwrap();
    }
    assert!(jobs.iter().all(|job| !job.cancelled()));
    Job::finish_all(jobs.into_iter().map(|job| (job, Outcome::Completed { result: Json::null() })));
    assert_eq!(claims.stop(Duration::ZERO), 0);
    assert_eq!(tasks.queue("q").wait().unwrap().completed, TASKS as u64);
}

/// A run whose task somebody else has by now must learn of it, and gives its slot back without a word.
#[test]
fn a_run_that_has_lost_its_lease_is_told_and_reports_nothing() {
    let kappa = database();
    let tasks = kappa.tasks();
    let claims = Claims::start(&tasks, WorkerOptions::new(["q"])).unwrap();
    let id = one(&tasks);
    let job = claims.next_within(LONG).expect("a job");
    let outcome = Outcome::Failed { error: "taken".into(), retry: false };
    let reports = vec![Report { lease: job.lease(), outcome }];
    let taken = tasks.work(Work { reports, ..Work::default() }).wait().unwrap();
    assert_eq!(taken.verdicts, [Verdict::Accepted(TaskState::Failed)]);
    // Long before the lease that it was given would have ended.
    let told = job.interrupted().wait_for(Duration::from_secs(20));
    assert_eq!(told.expect("it is told").unwrap(), Interrupt::LeaseLost);
    assert_eq!(job.finish_with(Ok(Json::null())).wait().unwrap(), Verdict::Stale);
    assert_eq!(claims.under_way(), (0, 0));
    let task = tasks.get(id).wait().unwrap().expect("kept");
    assert_eq!((task.state, task.error.as_deref()), (TaskState::Failed, Some("taken")));
    claims.stop(Duration::ZERO);
}

/// A handler that is lost on its way, with its job, has failed: otherwise its task would be handed to the next worker again
/// and again without ever counting.
#[test]
fn a_job_that_is_dropped_has_failed() {
    let kappa = database();
    let tasks = kappa.tasks();
    let claims = Claims::start(&tasks, WorkerOptions::new(["q"])).unwrap();
    let id = enqueue(&tasks, NewTask { attempts: Some(1), ..NewTask::new("q", Json::null()) });
    drop(claims.next_within(LONG).expect("a job"));
    let task = tasks.ended(id).wait_for(LONG).expect("it ends").unwrap();
    assert_eq!((task.state, task.error.as_deref()), (TaskState::Failed, Some("the handler ended without an outcome")));
    assert_eq!(claims.stop(Duration::ZERO), 0);
}

/// The slots of a worker are what its machine bears: not one task more is claimed while they are taken, the first reason to
/// end stays, and a grace lets handlers end.
#[test]
fn a_worker_claims_no_more_than_it_has_slots_and_waits_for_its_grace() {
    let kappa = database();
    let tasks = kappa.tasks();
    let ids: Vec<_> = (0..5).map(|_| one(&tasks)).collect();
    let claims = Arc::new(Claims::start(&tasks, WorkerOptions::new(["q"]).concurrency(2)).unwrap());
    let first = claims.next_within(LONG).expect("a job");
    let second = claims.next_within(LONG).expect("a job");
    assert_eq!(second.finish_with(Ok(Json::null())).wait().unwrap(), Verdict::Accepted(TaskState::Completed));
    let third = claims.next_within(LONG).expect("a job");
    assert_eq!(tasks.queue("q").wait().unwrap().active, 2);
    let _ = tasks.cancel(first.task().id).wait().unwrap();
    assert_eq!(first.interrupted().wait_for(LONG).expect("it is told").unwrap(), Interrupt::Cancelled);
    let stopping = {
        let claims = Arc::clone(&claims);
        std::thread::spawn(move || claims.stop(LONG))
    };
    while !claims.is_stopped() {
        std::thread::yield_now();
    }
    // Within the grace each outcome counts.
    assert_eq!(first.interrupt(), Some(Interrupt::Cancelled));
    assert_eq!(third.finish_with(Ok(Json::null())).wait().unwrap(), Verdict::Accepted(TaskState::Completed));
    let late = first.finish_with(Err(Failure::from("cancelled"))).wait().unwrap();
    assert_eq!(late, Verdict::Accepted(TaskState::Cancelled));
    assert_eq!(stopping.join().unwrap(), 0);
    let states = ids.iter().map(|id| tasks.get(*id).wait().unwrap().expect("kept").state).collect::<Vec<_>>();
    assert_eq!(states.iter().filter(|&&state| state == TaskState::Waiting).count(), 2, "{states:?}");
}

/// Whoever was told one reason acts on it: a later one must not take its place, and a cancelled task that a stopping worker
/// hands back is cancelled.
#[test]
fn the_first_reason_to_end_stays() {
    let kappa = database();
    let tasks = kappa.tasks();
    let claims = Claims::start(&tasks, WorkerOptions::new(["q"])).unwrap();
    let id = one(&tasks);
    let job = claims.next_within(LONG).expect("a job");
    let _ = tasks.cancel(id).wait().unwrap();
    assert_eq!(job.interrupted().wait_for(LONG).expect("it is told").unwrap(), Interrupt::Cancelled);
    assert_eq!(claims.stop(Duration::ZERO), 1);
    assert_eq!(job.interrupt(), Some(Interrupt::Cancelled));
    assert_eq!(tasks.get(id).wait().unwrap().expect("kept").state, TaskState::Cancelled);
}

/// A worker that was dropped must be gone: its threads would go on taking tasks with a handler that nobody expects any more.
#[test]
fn a_worker_that_was_dropped_takes_nothing_more() {
    let kappa = database();
    let tasks = kappa.tasks();
    let start = |name: &'static str| {
        Worker::start(&kappa, WorkerOptions::new(["q"]).concurrency(4), move |_| {
            Ok(Json::from(serde_json::json!(name)))
        })
        .unwrap()
    };
    let first = start("first");
    let id = one(&tasks);
    assert!(tasks.ended(id).wait_for(LONG).expect("it ends").unwrap().result.is_some());
    drop(first);
    let second = start("second");
    let ids: Vec<_> = (0..100).map(|_| one(&tasks)).collect();
    for id in ids {
        let task = tasks.ended(id).wait_for(LONG).expect("it ends").unwrap();
        assert_eq!(task.result, Some(Json::from(serde_json::json!("second"))));
    }
    second.stop();
}

/// Dead letters come back, and queues are drained, in as many steps as it takes; the caller sees one answer for all of them.
#[test]
fn a_redrive_and_a_drain_go_on_to_their_end_and_no_further() {
    const TASKS: usize = 160;
    let kappa = database();
    let tasks = kappa.tasks();
    heavy(&tasks, TASKS);
    let mut dead = 0;
    while dead < TASKS {
        let claim = Work { queues: vec!["q".into()], claim: 40, ..Work::default() };
        let claimed = tasks.work(claim).wait().unwrap().claimed;
        let outcome = || Outcome::Failed { error: "never".into(), retry: false };
        let reports = claimed.iter().map(|claimed| Report { lease: claimed.lease, outcome: outcome() }).collect();
        dead += tasks.work(Work { reports, ..Work::default() }).wait().unwrap().verdicts.len();
    }
    assert_eq!(tasks.redrive("q", 30).wait().unwrap(), 30);
    assert_eq!(tasks.redrive("q", 1_000).wait().unwrap(), TASKS as u64 - 30);
    let info = tasks.queue("q").wait().unwrap();
    assert_eq!((info.waiting, info.failed), (TASKS as u64, 0));
    tasks.drain("q").wait().unwrap();
    let info = tasks.queue("q").wait().unwrap();
    assert_eq!((info.waiting, info.cancelled), (0, TASKS as u64));
}

/// A database that answers, except what `refuses` says.
struct Unreliable {
    inner: Arc<dyn Executor>,
    refuses: Box<dyn Fn(&TaskOperation) -> bool + Send + Sync>,
}

impl std::fmt::Debug for Unreliable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unreliable").finish_non_exhaustive()
    }
}

impl Executor for Unreliable {
    fn submit(&self, operation: Operation, options: CallOptions) -> Pending<Answer> {
        match &operation {
            Operation::Task(task) if (self.refuses)(task) => {
                Pending::ready(Err(Error::new(ErrorKind::Unavailable, "not now")))
            }
            _ => self.inner.submit(operation, options),
        }
    }

    fn seek(&self, start: FeedStart) -> Pending<String> {
        self.inner.seek(start)
    }

    fn changes(&self, cursor: String) -> Pending<(Vec<Change>, String)> {
        self.inner.changes(cursor)
    }

    fn changes_now(&self, cursor: &str) -> Result<(Vec<Change>, String)> {
        self.inner.changes_now(cursor)
    }

    fn committed(&self) -> Pending<()> {
        self.inner.committed()
    }

    fn ready(&self) -> Result<()> {
        self.inner.ready()
    }

    fn instance(&self) -> u64 {
        self.inner.instance()
    }

    fn info(&self) -> Result<Info> {
        self.inner.info()
    }

    fn check(&self) -> Result<Vec<String>> {
        self.inner.check()
    }

    fn close(&self) -> Result<()> {
        self.inner.close()
    }
}

fn unreliable(refuses: impl Fn(&TaskOperation) -> bool + Send + Sync + 'static) -> Tasks {
    let about = About { database: [7; 16], instance: 1, view: "memory", recovery: Vec::new() };
    let engine = Arc::new(MemoryEngine::default());
    let inner = Arc::new(Local::start(engine, about, None, &Options::default(), &Env::default()).unwrap());
    Tasks::new(Arc::new(Unreliable { inner, refuses: Box::new(refuses) }))
}

/// Conformance 7: an outcome that the database could not take is told again until it is taken: the run is over, and would be
/// run again for nothing.
#[test]
fn an_outcome_is_told_again_until_it_is_taken() {
    let left = AtomicUsize::new(3);
    let tasks = unreliable(move |operation| match operation {
        TaskOperation::Work(work) if !work.reports.is_empty() => {
            left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
        }
        _ => false,
    });
    let claims = Claims::start(&tasks, WorkerOptions::new(["q"]).concurrency(2)).unwrap();
    let ids = [one(&tasks), one(&tasks)];
    let jobs = take(&claims, 2);
    let verdicts: Vec<_> = jobs.into_iter().map(|job| job.finish_with(Ok(Json::null()))).collect();
    for verdict in verdicts {
        assert_eq!(verdict.wait_for(LONG).expect("it is taken").unwrap(), Verdict::Accepted(TaskState::Completed));
    }
    assert!(ids.into_iter().all(|id| tasks.get(id).wait().unwrap().expect("kept").attempt == 1));
    assert_eq!(claims.stop(Duration::ZERO), 0);
}

/// Conformance 5: a worker that can reach nobody to renew its leases must tell its runs before others may begin.
#[test]
fn a_run_whose_lease_cannot_be_renewed_is_told_that_it_is_lost() {
    let tasks = unreliable(|operation| matches!(operation, TaskOperation::Renew { .. } | TaskOperation::Check { .. }));
    let options = WorkerOptions { lease: Duration::from_secs(1), ..WorkerOptions::new(["q"]) };
    let claims = Claims::start(&tasks, options).unwrap();
    one(&tasks);
    let job = claims.next_within(LONG).expect("a job");
    assert_eq!(job.interrupted().wait_for(LONG).expect("it is told").unwrap(), Interrupt::LeaseLost);
    assert_eq!(job.finish_with(Ok(Json::null())).wait().unwrap(), Verdict::Stale);
    claims.stop(Duration::ZERO);
}
