//! Workers: jobs for handlers in JavaScript. Claims, reports and leases are kept by threads that never wait for the event loop.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kappa_core::{Claims, Error, ErrorKind, Job, Json, Outcome, Result, WorkerOptions};
use napi::bindgen_prelude::External;
use napi_derive::napi;
use parking_lot::Mutex;
use serde::Deserialize;

use crate::answer::Text;
use crate::database::Database;
use crate::error::malformed;
use crate::guard::export;
use crate::port::{Port, Slot};
use crate::tasks::Values;
use crate::threads;

/// Jobs that are handed over at a time: while their outcomes become durable, the event loop runs the next ones. With all
/// jobs of a large worker in one hand each side would wait for the other.
const MAX_JOBS: usize = 32;

/// A worker as JavaScript holds it.
pub struct Worker {
    port: Arc<Port>,
    claims: Option<Arc<Claims>>,
    grace: Duration,
    /// Jobs in the hands of handlers, by the number of their task: a worker has a task once at a time.
    jobs: Arc<Mutex<HashMap<u64, Job>>>,
}

impl Worker {
    fn claims(&self) -> Arc<Claims> {
        Arc::clone(self.claims.as_ref().expect("only the drop takes them"))
    }

    /// The job of the task `id`.
    fn with<T>(&self, id: i64, ask: impl FnOnce(&Job) -> T) -> Option<T> {
        self.jobs.lock().get(&id.cast_unsigned()).map(ask)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The garbage collector runs on the event loop, which must not wait for outcomes that are on their way.
        let claims = self.claims.take();
        let _ = threads::spawn(move || drop(claims));
    }
}

/// Settings as JavaScript gives them: durations in milliseconds.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Given {
    queues: Vec<String>,
    concurrency: usize,
    lease: u64,
    grace: u64,
    name: Option<String>,
}

impl Default for Given {
    fn default() -> Self {
        let options = WorkerOptions::default();
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            queues: Vec::new(),
            concurrency: options.concurrency,
            lease: millis(options.lease),
            grace: millis(options.grace),
            name: None,
        }
    }
}

impl Given {
    fn options(self) -> WorkerOptions {
        let options = WorkerOptions::default();
        WorkerOptions {
            queues: self.queues,
            concurrency: self.concurrency,
            lease: Duration::from_millis(self.lease),
            grace: Duration::from_millis(self.grace),
            name: self.name.unwrap_or(options.name),
            env: options.env,
        }
    }
}

/// Starts claiming.
#[napi]
pub fn work(database: &External<Database>, options: String) -> napi::Result<External<Worker>> {
    export("work", || {
        let given: Given =
            serde_json::from_str(&options).map_err(malformed("an option is unknown or has a wrong value"))?;
        let options = given.options();
        let grace = options.grace;
        let claims = Arc::new(Claims::start(&database.handle.kappa().tasks(), options)?);
        database.handle.note_worker(&claims);
        let port = Arc::clone(&database.port);
        Ok(External::new(Worker { port, claims: Some(claims), grace, jobs: Arc::default() }))
    })
}

/// The next jobs, as soon as there are any: each a task's values and the number of the run. None once the worker has stopped.
#[napi]
pub fn next_jobs(worker: &External<Worker>, slot: Slot) -> napi::Result<Option<String>> {
    export("nextJobs", || {
        let (claims, jobs) = (worker.claims(), Arc::clone(&worker.jobs));
        Ok(worker.port.start(slot, "nextJobs", async move {
            let first = claims.next().await;
            let found: Vec<Job> =
                first.into_iter().chain(std::iter::from_fn(|| claims.next_now()).take(MAX_JOBS - 1)).collect();
            let told: Vec<_> = found.iter().map(|job| Values::new(job.task(), job.fence().1)).collect();
            let text = Text::of(&told)?;
            jobs.lock().extend(found.into_iter().map(|job| (job.task().id, job)));
            Ok(text)
        }))
    })
}

/// Ends runs that were successful: each line is the number of a task and the JSON text of its result. Runs that have
/// ended already are left out.
#[napi]
pub fn finish_jobs(worker: &External<Worker>, completed: String) -> napi::Result<()> {
    export("finishJobs", || {
        let malformed = || Error::new(ErrorKind::Internal, "a run that ended is a number and a text");
        let mut ended = Vec::new();
        let mut jobs = worker.jobs.lock();
        for line in completed.lines() {
            let (id, result) = line.split_once(' ').ok_or_else(malformed)?;
            let Some(job) = jobs.remove(&id.parse().map_err(|_| malformed())?) else { continue };
            let outcome = match Json::parse(result.to_owned()) {
                Ok(result) => Outcome::Completed { result },
                Err(error) => Outcome::Failed { error: error.to_string(), retry: true },
            };
            ended.push((job, outcome));
        }
        drop(jobs);
        Job::finish_all(ended);
        Ok(())
    })
}

/// Ends the run of the task `id`: `failed` or `discarded` with a message, or `released`.
#[napi]
pub fn finish_job(worker: &External<Worker>, id: i64, how: String, said: String) -> napi::Result<()> {
    export("finishJob", || {
        let outcome = match how.as_str() {
            "failed" => Outcome::Failed { error: said, retry: true },
            "discarded" => Outcome::Failed { error: said, retry: false },
            _ => Outcome::Released,
        };
        let job = worker.jobs.lock().remove(&id.cast_unsigned());
        let job = job.ok_or_else(|| Error::invalid("the run has ended").with("task", id))?;
        // Whether it was accepted is told by the task itself.
        drop(job.finish(outcome));
        Ok(())
    })
}

/// Says how far a run is.
#[napi]
pub fn job_progress(worker: &External<Worker>, id: i64, progress: f64) -> napi::Result<()> {
    export("jobProgress", || {
        if !(0.0..=1.0).contains(&progress) {
            return Err(Error::invalid("progress is a number from 0 to 1").with("progress", progress));
        }
        worker.with(id, |job| job.progress(progress));
        Ok(())
    })
}

/// Why a run should end; nothing while it should not.
#[napi]
pub fn job_interrupt(worker: &External<Worker>, id: i64) -> napi::Result<Option<&'static str>> {
    export("jobInterrupt", || Ok(worker.with(id, Job::interrupt).flatten().map(kappa_core::Interrupt::name)))
}

/// The same, as soon as it should.
#[napi]
pub fn job_interrupted(worker: &External<Worker>, slot: Slot, id: i64) -> napi::Result<Option<String>> {
    export("jobInterrupted", || {
        let interrupted = worker.with(id, Job::interrupted);
        let interrupted = interrupted.ok_or_else(|| Error::invalid("the run has ended").with("task", id))?;
        Ok(worker.port.start(slot, "jobInterrupted", async move { Text::of(&interrupted.await?.name()) }))
    })
}

/// Claims nothing more, lets handlers end for `grace` or what was said at the start, and hands back what had not ended: so many.
#[napi]
pub fn stop_worker(worker: &External<Worker>, slot: Slot, grace: Option<i64>) -> napi::Result<Option<String>> {
    export("stopWorker", || {
        let millis = |grace: i64| {
            let millis = u64::try_from(grace).map_err(|_| Error::invalid("a grace is at least 0").with("grace", grace));
            millis.map(Duration::from_millis)
        };
        let grace = grace.map_or(Ok(worker.grace), millis)?;
        let claims = worker.claims();
        let stopping = threads::long("stopWorker", move || Result::Ok(claims.stop(grace)));
        Ok(worker.port.start(slot, "stopWorker", async move { Text::of(&stopping.await?) }))
    })
}
