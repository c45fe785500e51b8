//! Workers: jobs for handlers in Python. Claims, reports and leases are kept by threads that never wait for Python.

use std::sync::Arc;
use std::time::Duration;

use kappa_core::{
    Claims, Error, ErrorKind, Interrupt, Job as Claimed, Json, Kappa, Outcome, Pending, Result, WorkerOptions,
};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arguments::{duration, many, number, text};
use crate::call::Call;
use crate::document::{Reader, text_of};
use crate::error::exception;
use crate::guard::guard;
use crate::kappa::export;
use crate::origin::Origin;
use crate::owned::Owned;
use crate::reply::Reply;
use crate::threads::long;

/// Jobs of some queues, as slots are free for them.
#[pyclass(frozen, weakref, module = "kappa_core._kappa_core")]
pub struct Worker {
    claims: Owned<Arc<Claims>>,
    grace: Duration,
    origin: Origin,
}

impl Worker {
    /// Starts claiming; the claims are those that a closing database has to stop.
    pub fn start(kappa: &Kappa, given: &Bound<'_, PyDict>, origin: &Origin) -> Result<(Self, Arc<Claims>)> {
        let options = options(given)?;
        let grace = options.grace;
        let claims = Arc::new(Claims::start(&kappa.tasks(), options)?);
        let worker = Self { claims: Owned::new(Arc::clone(&claims)), grace, origin: origin.clone() };
        Ok((worker, claims))
    }
}

fn options(given: &Bound<'_, PyDict>) -> Result<WorkerOptions> {
    let mut options = WorkerOptions::default();
    for (name, value) in given {
        if value.is_none() {
            continue;
        }
        match text("option", &name)?.as_str() {
            "queues" => {
                let queues = many("queues", &value)?;
                options.queues = queues.iter().map(|queue| text("queue", queue)).collect::<Result<_>>()?;
            }
            "concurrency" => options.concurrency = number("concurrency", &value)?,
            "lease" => options.lease = duration("lease", &value)?,
            "grace" => options.grace = duration("grace", &value)?,
            "name" => options.name = text("name", &value)?,
            other => return Err(Error::invalid("there is no such option").with("option", other)),
        }
    }
    Ok(options)
}

#[pymethods]
impl Worker {
    /// The next job, waited for at most so many milliseconds; other threads run meanwhile.
    fn next_within(&self, py: Python<'_>, wait_ms: u64) -> PyResult<Option<Job>> {
        export("Worker.next_within", || {
            let claims = self.claims.get()?;
            let job = match claims.next_now() {
                None if wait_ms > 0 => py.detach(|| claims.next_within(Duration::from_millis(wait_ms))),
                job => job,
            };
            Ok(job.map(|job| Job::new(job, &self.origin)))
        })
    }

    /// The next job for an event loop; None once the worker has stopped.
    fn next(&self) -> PyResult<Call> {
        export("Worker.next", || {
            let claims = Arc::clone(self.claims.get()?);
            let origin = self.origin.clone();
            Ok(Call::new(&self.origin, move |_| {
                Pending::new(
                    async move { Ok(Reply::Job(claims.next().await.map(|job| Box::new(Job::new(job, &origin))))) },
                )
            }))
        })
    }

    /// How many jobs wait for a handler.
    fn ready(&self) -> PyResult<usize> {
        export("Worker.ready", || Ok(self.claims.get()?.under_way().0))
    }

    /// Whether no more jobs come.
    fn is_stopped(&self) -> PyResult<bool> {
        export("Worker.is_stopped", || Ok(self.claims.get()?.is_stopped()))
    }

    /// Whether this is a forked child of the process that started the worker.
    fn is_foreign(&self) -> PyResult<bool> {
        export("Worker.is_foreign", || Ok(self.claims.is_foreign()))
    }

    /// Claims nothing more, lets handlers end for `grace` or what was said at the start, and hands back what had not ended:
    /// so many.
    #[pyo3(signature = (grace))]
    fn stop(&self, grace: Option<&Bound<'_, PyAny>>) -> PyResult<Call> {
        export("Worker.stop", || {
            let claims = Arc::clone(self.claims.get()?);
            let grace = grace.map_or(Ok(self.grace), |grace| duration("grace", grace))?;
            let stop = move || Ok(claims.stop(grace) as u64);
            Ok(Call::new(&self.origin, move |_| long("stop", stop)))
        })
    }
}

/// A claimed task in the hands of a handler. Whoever drops it hands the task back.
#[pyclass(frozen, module = "kappa_core._kappa_core")]
pub struct Job {
    claimed: Owned<Mutex<Option<Claimed>>>,
    reader: Reader,
    origin: Origin,
}

impl Job {
    fn new(job: Claimed, origin: &Origin) -> Self {
        Self { claimed: Owned::new(Mutex::new(Some(job))), reader: origin.reader, origin: origin.clone() }
    }

    fn with<T>(&self, ask: impl FnOnce(&Claimed) -> T) -> Result<Option<T>> {
        Ok(self.claimed.get()?.lock().as_ref().map(ask))
    }

    fn finish(&self, outcome: Outcome) -> Result<()> {
        let job = self.claimed.get()?.lock().take().ok_or_else(finished)?;
        // Whether it was accepted is told by the task itself.
        drop(job.finish(outcome));
        Ok(())
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // In a forked child the job is the parent's, which goes on with it.
        if let Ok(Some(job)) = self.claimed.get().map(|job| job.lock().take()) {
            drop(job.finish(Outcome::Released));
        }
    }
}

fn finished() -> Error {
    Error::new(ErrorKind::InvalidInput, "the run has ended")
}

#[pymethods]
impl Job {
    /// The task as it was claimed.
    fn task<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        guard("Job.task", || {
            let text = self.with(|job| serde_json::to_string(job.task()).expect("a task has a JSON text"));
            let text = text.and_then(|text| text.ok_or_else(finished)).map_err(|error| exception(&error))?;
            self.reader.read(py, &text)
        })
    }

    /// The task and the number of the run.
    fn fence(&self) -> PyResult<(u64, u32)> {
        export("Job.fence", || self.with(Claimed::fence)?.ok_or_else(finished))
    }

    /// Says how far the run is.
    fn progress(&self, progress: &Bound<'_, PyAny>) -> PyResult<()> {
        export("Job.progress", || {
            let wrong = || Error::invalid("progress is a number from 0 to 1");
            let progress: f64 = progress.extract().map_err(|_| wrong())?;
            if !(0.0..=1.0).contains(&progress) {
                return Err(wrong().with("progress", progress));
            }
            self.with(|job| job.progress(progress)).map(|_| ())
        })
    }

    /// Why the run should end; None while it should not.
    fn interrupt(&self) -> PyResult<Option<&'static str>> {
        export("Job.interrupt", || Ok(self.with(Claimed::interrupt)?.flatten().map(Interrupt::name)))
    }

    /// Waits for that, at most so long; whether it came.
    fn interrupted_within(&self, py: Python<'_>, wait: &Bound<'_, PyAny>) -> PyResult<bool> {
        export("Job.interrupted_within", || {
            let wait = duration("timeout", wait)?;
            let Some(interrupted) = self.with(Claimed::interrupted)? else { return Ok(false) };
            py.detach(|| interrupted.wait_for(wait)).transpose().map(|why| why.is_some())
        })
    }

    /// The same for an event loop, without a bound.
    fn interrupted(&self) -> PyResult<Call> {
        export("Job.interrupted", || {
            let interrupted = self.with(Claimed::interrupted)?.ok_or_else(finished)?;
            Ok(Call::new(&self.origin, move |_| interrupted.map(|_| Ok(true))))
        })
    }

    /// The run succeeded with this result.
    fn complete(&self, result: &Bound<'_, PyAny>) -> PyResult<()> {
        export("Job.complete", || {
            let result = Json::parse(text_of(result, self.reader)?)?;
            self.finish(Outcome::Completed { result })
        })
    }

    /// The run failed.
    fn fail(&self, error: String, retry: bool) -> PyResult<()> {
        export("Job.fail", || self.finish(Outcome::Failed { error, retry }))
    }

    /// Hands the task back; the run does not count.
    fn release(&self) -> PyResult<()> {
        export("Job.release", || self.finish(Outcome::Released))
    }
}
