//! Workers: handlers that run tasks on threads of their own.

mod bell;
mod claims;
mod job;
mod leases;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use crate::env::{self, Env};
use crate::error::{Error, ErrorKind, Result};
use crate::kappa::Kappa;

use super::json::Json;
use super::limits;

pub use claims::Claims;
pub use job::{Failure, Interrupt, Job};

/// How often an idle thread of a worker looks whether the worker has ended.
const LOOK: Duration = Duration::from_secs(1);

/// How a worker works.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// From which queues it claims: 1 to 100.
    pub queues: Vec<String>,
    /// How many tasks it runs at the same time: 1 to 1 000.
    pub concurrency: usize,
    /// How long a lease holds: 1 s to 1 h. When this process dies, its tasks are run again after so long, at most.
    pub lease: Duration,
    /// How long a stop lets handlers end before it hands their tasks back.
    pub grace: Duration,
    /// What people see as the task's worker, at most 128 bytes.
    pub name: String,
    /// Where time comes from.
    pub env: Env,
}

impl WorkerOptions {
    /// A worker of these queues that runs one task after another.
    pub fn new<Q: Into<String>>(queues: impl IntoIterator<Item = Q>) -> Self {
        Self { queues: queues.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// The same worker, that runs so many tasks at the same time.
    #[must_use]
    pub fn concurrency(self, concurrency: usize) -> Self {
        Self { concurrency, ..self }
    }

    fn check(&self) -> Result<()> {
        if !(1..=100).contains(&self.queues.len()) || !(1..=limits::MAX_TASKS).contains(&self.concurrency) {
            let error = Error::invalid("a worker claims from 1 to 100 queues and runs 1 to 1 000 tasks at a time");
            return Err(error.with("queues", self.queues.len()).with("concurrency", self.concurrency));
        }
        if self.name.len() > limits::MAX_WORKER_BYTES {
            return Err(Error::invalid("a worker is named by at most 128 bytes").with("bytes", self.name.len()));
        }
        self.queues.iter().try_for_each(|queue| limits::check_name(queue))
    }
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            queues: Vec::new(),
            concurrency: 1,
            lease: Duration::from_secs(30),
            grace: Duration::from_secs(30),
            name: format!("pid {}", std::process::id()),
            env: Env::default(),
        }
    }
}

type Handler = dyn Fn(&Job) -> Result<Json, Failure> + Send + Sync;

/// Runs a handler on tasks until it is stopped or dropped. A handler that panics has failed.
pub struct Worker {
    pool: Arc<Pool>,
    grace: Duration,
    generation: u64,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("claims", &self.pool.claims).finish_non_exhaustive()
    }
}

struct Pool {
    claims: Claims,
    handler: Box<Handler>,
    most: usize,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Worker {
    /// Starts running `handler` on the tasks of the options' queues.
    ///
    /// # Examples
    /// ```
    /// use kappa_core::{Json, Kappa, NewTask, Options, Worker, WorkerOptions, env::Env};
    ///
    /// let kappa = Kappa::in_memory(&Options::default(), &Env::default())?;
    /// let worker = Worker::start(&kappa, WorkerOptions::new(["sum"]), |job| {
    ///     let numbers: Vec<i64> = job.params().to()?;
    ///     Ok(Json::new(&numbers.iter().sum::<i64>())?)
    /// })?;
    /// let added = kappa.tasks().enqueue(NewTask::new("sum", Json::parse("[1,2,3]")?)).wait()?;
    /// let ended = kappa.tasks().ended(added.task.id).wait()?;
    /// assert_eq!(ended.result, Some(Json::parse("6")?));
    /// worker.stop();
    /// # Ok::<(), kappa_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` for options beyond their limits; `Unavailable` when the system gives no threads.
    pub fn start(
        kappa: &Kappa,
        options: WorkerOptions,
        handler: impl Fn(&Job) -> Result<Json, Failure> + Send + Sync + 'static,
    ) -> Result<Self> {
        let (most, grace) = (options.concurrency, options.grace);
        let claims = Claims::start(&kappa.tasks(), options)?;
        let pool = Arc::new(Pool { claims, handler: Box::new(handler), most, threads: Mutex::default() });
        Pool::grow(&pool)?;
        Ok(Self { pool, grace, generation: env::generation() })
    }

    /// Claims nothing more, waits for handlers up to the options' grace, then raises their signals and hands their tasks back.
    /// Answers how many had not ended; their threads go on until their handlers return.
    pub fn stop(self) -> usize {
        self.stop_within(self.grace)
    }

    fn stop_within(&self, grace: Duration) -> usize {
        let unfinished = self.pool.claims.stop(grace);
        if unfinished == 0 {
            let threads = std::mem::take(&mut *self.pool.threads.lock());
            for thread in threads {
                let _ = thread.join();
            }
        }
        unfinished
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.generation == env::generation() && !self.pool.claims.is_stopped() {
            // Nobody waits for handlers here: their leases are not renewed any more, and end by themselves.
            self.pool.claims.end_now();
        }
    }
}

impl Pool {
    /// One thread more, which makes the next one when it finds itself with work left over.
    fn grow(pool: &Arc<Self>) -> Result<()> {
        let mut threads = pool.threads.lock();
        if threads.len() >= pool.most {
            return Ok(());
        }
        let shared = Arc::clone(pool);
        let thread = std::thread::Builder::new().name("kappa-handler".into()).spawn(move || shared.work());
        let failed = |error| Error::new(ErrorKind::Unavailable, "the system gave no thread").caused_by(error);
        threads.push(thread.map_err(failed)?);
        Ok(())
    }

    fn work(self: Arc<Self>) {
        loop {
            let Some(job) = self.claims.next_within(LOOK) else {
                if self.claims.is_stopped() {
                    return;
                }
                continue;
            };
            if self.claims.under_way().0 > 0 {
                // With no thread more the others run what is left.
                let _ = Self::grow(&self);
            }
            let answer = catch_unwind(AssertUnwindSafe(|| (self.handler)(&job)));
            let answer = answer.unwrap_or_else(|panic| {
                let text = panic.downcast_ref::<&str>().map(ToString::to_string);
                let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
                Err(Failure { error: format!("the handler panicked: {text}"), retry: true })
            });
            drop(job.finish_with(answer));
        }
    }
}
