//! The server's own workers: the built-in kinds of task, and those that the configuration allows.

use std::time::Duration;

use kappa_core::env::Env;
use kappa_core::kinds::{self, Context, Kind, Kinds, Setup};
use kappa_core::runner::Containers;
use kappa_core::{Failure, Job, Json, Kappa, Result, Task, TaskState, Worker, WorkerOptions};
use serde_json::{Value, json};

use crate::options::ServerOptions;

/// The queue whose tasks the server runs where nothing else is said.
pub const QUEUE: &str = "tasks";
/// The queue of `/api/execute`: apart, so that who waits for an answer does not stand behind long tasks.
pub const EXECUTE: &str = "execute";
/// The kind of a task whose name says nothing else: it waits.
pub const LONG_TASK: &str = "long_task";
/// Progress is told this often.
const STEP: Duration = Duration::from_millis(100);
/// How often containers are looked for that nobody looks after.
const REAP_EVERY: Duration = Duration::from_secs(10);

/// Every kind that `options` allow, and what looks after containers that were left.
///
/// # Errors
/// As `TaskPrograms::install` and `Kinds::allow_files`.
pub fn kinds(options: &ServerOptions) -> Result<(Kinds, Option<Containers>)> {
    let env = Env::default();
    let mut kinds = Kinds::built_in(&Setup { env: env.clone(), default_wait: options.task_length });
    kinds.insert(LONG_TASK, LongTask(options.task_length))?;
    if let Some(directory) = &options.task_files {
        kinds.allow_files(directory)?;
    }
    let containers = options.task_programs.install(&mut kinds, &env)?;
    Ok((kinds, containers))
}

/// The queues whose tasks the server runs.
pub fn own_queues() -> Vec<String> {
    [QUEUE, EXECUTE].map(str::to_owned).to_vec()
}

/// Starts workers of `queues` for every kind that `options` allow, and removes containers that nobody looks after any more.
///
/// # Errors
/// As [`kinds`] and [`Worker::start`].
pub fn begin(kappa: &Kappa, queues: &[String], options: &ServerOptions) -> Result<(Kinds, Vec<Worker>)> {
    let (kinds, containers) = kinds(options)?;
    let running = start(kappa, &kinds, queues, options)?;
    if let Some(containers) = containers.filter(|_| options.workers > 0) {
        tokio::spawn(keep_reaping(kappa.clone(), containers));
    }
    Ok((kinds, running))
}

/// Lets handlers end within their time; how many had not, and were handed back.
pub async fn stop(running: Vec<Worker>) -> usize {
    let stopping = running.into_iter().map(|worker| tokio::task::spawn_blocking(move || worker.stop()));
    let mut unfinished = 0;
    for stopped in stopping.collect::<Vec<_>>() {
        // A stop that panicked has handed nothing back: its leases end by themselves.
        unfinished += stopped.await.unwrap_or(0);
    }
    unfinished
}

/// Starts workers of `queues`, one for each so that none stands behind another, each for so many tasks at a time.
///
/// # Errors
/// As [`Worker::start`].
fn start(kappa: &Kappa, kinds: &Kinds, queues: &[String], options: &ServerOptions) -> Result<Vec<Worker>> {
    let worker = |queue: &String| {
        let worker = WorkerOptions::new([queue.as_str()]).concurrency(options.workers);
        let worker = WorkerOptions { grace: options.stop_timeout, ..worker };
        let (kappa_of_jobs, kinds) = (kappa.clone(), kinds.clone());
        Worker::start(kappa, worker, move |job| run(&kinds, &kappa_of_jobs, job))
    };
    if options.workers == 0 { Ok(Vec::new()) } else { queues.iter().map(worker).collect() }
}

/// Removes containers of tasks that do not run any more, for as long as the program lives: when a worker is killed, its
/// tasks may end, or run elsewhere, long after the next one has started.
async fn keep_reaping(kappa: Kappa, containers: Containers) {
    let mut told = false;
    loop {
        let (kappa, containers) = (kappa.clone(), containers.clone());
        let reaped = tokio::task::spawn_blocking(move || reap(&kappa, &containers)).await;
        match reaped {
            Ok(Ok(0)) => told = false,
            Ok(Ok(count)) => tracing::info!(count, "containers that nobody looked after were removed"),
            // Not every time: it says the same for as long as the engine is down.
            Ok(Err(error)) if !told => {
                told = true;
                tracing::warn!(%error, "containers that an earlier worker left cannot be looked up");
            }
            Ok(Err(_)) => {}
            Err(_) => return,
        }
        tokio::time::sleep(REAP_EVERY).await;
    }
}

/// What cannot be looked up stays.
fn reap(kappa: &Kappa, containers: &Containers) -> Result<usize> {
    let is_over = |task: Option<Task>| task.is_none_or(|task| task.state != TaskState::Active);
    containers.reap(&kappa.info()?.id, &|id| !kappa.tasks().get(id).wait().is_ok_and(is_over))
}

fn run(kinds: &Kinds, kappa: &Kappa, job: &Job) -> std::result::Result<Json, Failure> {
    let params = job.params().to()?;
    match kinds.run(&job.task().kind, &Stage { job, kappa, params }) {
        Ok(result) => Ok(Json::new(&result)?),
        Err(failure) => Err(Failure { error: failure.to_string(), retry: failure.retry }),
    }
}

/// A job as kinds see it.
struct Stage<'a> {
    job: &'a Job,
    kappa: &'a Kappa,
    params: Value,
}

impl Context for Stage<'_> {
    fn id(&self) -> u64 {
        self.job.fence().0
    }

    fn run_number(&self) -> u32 {
        self.job.fence().1
    }

    fn params(&self) -> &Value {
        &self.params
    }

    fn progress(&self, done: f64) {
        self.job.progress(done);
    }

    fn cancelled(&self) -> bool {
        self.job.cancelled()
    }

    fn wait_cancelled(&self, limit: Duration) -> bool {
        self.job.interrupted().wait_for(limit).is_some()
    }

    fn kappa(&self) -> &Kappa {
        self.kappa
    }
}

/// Takes any parameters, and a fixed time.
struct LongTask(Duration);

impl Kind for LongTask {
    fn check(&self, _: &Value) -> Result<()> {
        Ok(())
    }

    fn run(&self, context: &dyn Context) -> kinds::Outcome {
        let mut waited = Duration::ZERO;
        while waited < self.0 {
            let next = STEP.min(self.0.saturating_sub(waited));
            if context.wait_cancelled(next) {
                return Err(kinds::Failure::cancelled());
            }
            waited += next;
            context.progress(waited.as_secs_f64() / self.0.as_secs_f64());
        }
        Ok(json!({ "waited_ms": self.0.as_millis() as u64 }))
    }
}
