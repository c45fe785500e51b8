//! Workers in processes that are killed at any moment: every task completes once, and none is stuck.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::time::Duration;

use kappa_core::env::Env;
use kappa_core::{
    Enqueued, EventKind, Feed, FeedStart, Json, Kappa, Misfire, Mode, NewTask, Options, QueueSettings, Renewal,
    Schedule, TaskList, TaskState, Work, Worker, WorkerOptions,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::database;

const VARIABLE: &str = "KAPPA_TEST_TASK_WORKER";
/// Longer than anything takes; only what hangs makes the test wait for it.
const PATIENCE: Duration = Duration::from_secs(120);
const QUEUE: &str = "work";

fn spawn(directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["tasks::works_until_it_is_killed", "--exact", "--nocapture", "--test-threads=1"])
        .env(VARIABLE, directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The process that is killed: it works on tasks for as long as its parent lives.
#[test]
fn works_until_it_is_killed() {
    let Some(directory) = std::env::var_os(VARIABLE) else {
        // Without a parent: the handler that the parent counts on gives back what it was given.
        let kappa = Kappa::in_memory(&database::small(), &Env::default()).unwrap();
        let worker = start(&kappa);
        let added = kappa.tasks().enqueue(NewTask::new(QUEUE, Json::parse("[1]").unwrap())).wait().unwrap();
        let ended = kappa.tasks().ended(added.task.id).wait_for(PATIENCE).expect("it ends").unwrap();
        assert_eq!(ended.result, Some(ended.params));
        assert_eq!(worker.stop(), 0);
        return;
    };
    let kappa = Kappa::open_with(directory, &database::small(), &Env::default()).unwrap();
    let _worker = start(&kappa);
    // Ends with its parent, whose end closes this.
    let _ = std::io::Read::read(&mut std::io::stdin(), &mut [0]);
}

fn start(kappa: &Kappa) -> Worker {
    let options = WorkerOptions { lease: Duration::from_secs(2), ..WorkerOptions::new([QUEUE]).concurrency(8) };
    Worker::start(kappa, options, |job| {
        // Long enough that some are under way at each kill.
        let _ = job.interrupted().wait_for(Duration::from_millis(job.task().id / 1_024 % 8));
        Ok(job.params().clone())
    })
    .unwrap()
}

/// Conformance 13, Q1, Q3: the owner and its clients, killed one after another under load. At the end each task has completed
/// once by the feed, and nothing is left.
#[test]
fn killed_workers_and_owners_lose_nothing_and_complete_nothing_twice() {
    let seed: u64 = std::env::var("KAPPA_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(11);
    let count = if std::env::var_os("KAPPA_SOAK").is_some() { 10_000 } else { 1_500 };
    println!("seed={seed} count={count}");
    let directory = tempfile::tempdir().unwrap();
    let mut chance = StdRng::seed_from_u64(seed);
    let mut children: Vec<Child> = (0..3).map(|_| spawn(directory.path())).collect();
    let kappa = Kappa::open_with(directory.path(), &database::small(), &Env::default()).unwrap();
    let tasks = kappa.tasks();
    let settings = QueueSettings { keep_count: 1_000_000, attempts: 100, ..QueueSettings::default() };
    tasks.configure(QUEUE, settings).wait().unwrap();
    let mut feed = kappa.feed(FeedStart::Oldest).wait().unwrap();
    let mut ids = Vec::new();
    let rounds = 12;
    for round in 0..rounds {
        for n in 0..count / rounds {
            let new = NewTask::new(QUEUE, Json::from(serde_json::json!([round, n, "é"])));
            ids.push(tasks.enqueue(new).wait().unwrap().task.id);
            if n == count / rounds / 2 {
                let victim = chance.random_range(0..children.len());
                let mut dead = std::mem::replace(&mut children[victim], spawn(directory.path()));
                dead.kill().unwrap();
                dead.wait().unwrap();
            }
        }
    }
    for id in &ids {
        let task = tasks.ended(*id).wait_for(PATIENCE).unwrap_or_else(|| panic!("task {id} is stuck")).unwrap();
        // A task that met three deaths is a dead letter, as it should be; so few kills make none.
        assert_eq!((task.state, task.result.as_ref()), (TaskState::Completed, Some(&task.params)), "{task:?}");
    }
    let mut completions = HashMap::<String, u32>::new();
    while let Some(change) = feed.next_now().unwrap() {
        let Some(document) = change.document.filter(|_| change.collection == kappa_core::TASK_EVENTS) else { continue };
        if document.fields()["state"] == "completed" {
            *completions.entry(change.id).or_default() += 1;
        }
    }
    assert_eq!(completions.len(), ids.len());
    assert!(completions.values().all(|&times| times == 1), "{completions:?}");
    let info = tasks.queue(QUEUE).wait().unwrap();
    assert_eq!((info.waiting, info.active, info.delayed), (0, 0, 0));
    for mut child in children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// Conformance 9, Q10: of processes that take over from one another, each would fire the slot that is due when it comes, or
/// none would.
#[test]
fn a_schedule_fires_each_slot_once_whichever_process_owns_it() {
    const KILLS: usize = 3;
    let directory = tempfile::tempdir().unwrap();
    let mut children: Vec<Child> = (0..3).map(|_| spawn(directory.path())).collect();
    // One that owns the directory itself would have nobody take over.
    let options = Options { mode: Mode::Client, deadline: PATIENCE, ..database::small() };
    let kappa = Kappa::open_with(directory.path(), &options, &Env::default()).unwrap();
    let tasks = kappa.tasks();
    let cron = "* * * * * *".to_owned();
    let task = NewTask::new(QUEUE, Json::null());
    let schedule = Schedule { name: "often".into(), cron, time_zone: None, task, misfire: Misfire::All, paused: false };
    let mut feed = kappa.feed(FeedStart::Now).wait().unwrap();
    tasks.put_schedule(schedule).wait().unwrap();
    let next_of_schedule = |feed: &mut Feed| loop {
        let change = feed.next_within(PATIENCE).unwrap().expect("it fires");
        if change.collection == kappa_core::TASK_EVENTS && change.kind == EventKind::Created {
            return;
        }
    };
    for _ in 0..KILLS {
        next_of_schedule(&mut feed);
        let lock = std::fs::read_to_string(directory.path().join("LOCK")).unwrap();
        let owner = children.iter().position(|child| lock.lines().next() == Some(&child.id().to_string()));
        let mut dead = std::mem::replace(&mut children[owner.expect("one of them owns it")], spawn(directory.path()));
        dead.kill().unwrap();
        dead.wait().unwrap();
        // What the dead one fired; what comes behind that is fired by the owner that follows.
        while feed.next_now().unwrap().is_some() {}
        next_of_schedule(&mut feed);
        next_of_schedule(&mut feed);
    }
    tasks.remove_schedule("often").wait().unwrap();
    let all = tasks.list(TaskList { queue: Some(QUEUE.into()), limit: Some(1_000), ..TaskList::default() });
    let mut slots: Vec<i64> = all.wait().unwrap().tasks.iter().map(|task| task.due_at).collect();
    slots.sort_unstable();
    assert!(slots.len() > 2 * KILLS, "{slots:?}");
    assert!(slots.is_sorted_by(|one, next| next - one == 1_000), "a slot was left out or fired twice: {slots:?}");
    for mut child in children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// Conformance 8, Q12: whoever sets the clock of the machine would end every lease at once, and have all run that is delayed.
#[test]
fn a_wall_clock_that_is_set_ends_no_lease_and_makes_nothing_due() {
    const HOUR: i64 = 3_600_000;
    let directory = tempfile::tempdir().unwrap();
    let (kappa, clock) = database::open_with_clock(directory.path(), &database::small());
    let tasks = kappa.tasks();
    let claim = || {
        let work = Work { queues: vec![QUEUE.into()], claim: 10, lease_ms: 30_000, ..Work::default() };
        tasks.work(work).wait().unwrap().claimed
    };
    let is_held = |lease| matches!(tasks.renew(vec![lease], 30_000).wait().unwrap()[..], [Renewal::Held { .. }]);
    tasks.enqueue(NewTask::new(QUEUE, Json::null())).wait().unwrap();
    let delayed = NewTask { delay_ms: Some(60_000), ..NewTask::new(QUEUE, Json::null()) };
    let delayed = tasks.enqueue(delayed).wait().unwrap().task.id;
    let lease = claim().pop().expect("one waits").lease;
    for hours in [1, -1, 24, -24, 10 * 365 * 24, -10 * 365 * 24] {
        clock.set_wall(1_700_000_000_000 + hours * HOUR);
        clock.advance(1_000);
        assert!(is_held(lease), "{hours} hours");
        assert!(claim().is_empty(), "{hours} hours");
    }
    clock.advance(30_000);
    assert!(!is_held(lease), "time that really went by ends it");
    clock.advance(30_000);
    assert!(claim().iter().any(|claimed| claimed.lease.task == delayed));
}

/// Conformance 10: of callers who come at the same time, two who both found the key free would have the work done
/// twice; and a key that a restart forgets, or that outlives its task, is none.
#[test]
fn of_many_who_enqueue_under_one_unique_key_at_once_one_adds_the_task() {
    const CALLERS: usize = 64;
    let directory = tempfile::tempdir().unwrap();
    let kappa = database::open(directory.path(), &database::small());
    let enqueue = |kappa: &Kappa| -> Enqueued {
        let new = NewTask { unique: Some("nightly".into()), ..NewTask::new(QUEUE, Json::null()) };
        kappa.tasks().enqueue(new).wait().unwrap()
    };
    let together = Barrier::new(CALLERS);
    let call = || {
        together.wait();
        enqueue(&kappa)
    };
    let answers: Vec<Enqueued> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(call)).collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    let id = answers[0].task.id;
    assert!(answers.iter().all(|answer| answer.task.id == id), "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| answer.existing).count(), CALLERS - 1);
    assert_eq!(kappa.tasks().queue(QUEUE).wait().unwrap().waiting, 1);
    kappa.close().unwrap();

    let kappa = database::open(directory.path(), &database::small());
    let again = enqueue(&kappa);
    assert_eq!((again.task.id, again.existing), (id, true), "the key is held over a restart");
    let worker = start(&kappa);
    let ended = kappa.tasks().ended(id).wait_for(PATIENCE).expect("it ends").unwrap();
    assert_eq!(ended.state, TaskState::Completed);
    assert_eq!(worker.stop(), 0);
    let next = enqueue(&kappa);
    assert!(!next.existing && next.task.id != id, "the key is free once its task has ended: {next:?}");
}
