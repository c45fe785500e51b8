//! Kinds as the handler of a worker.

use std::time::Duration;

use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};
use crate::kappa::Kappa;
use crate::task::json::Json;
use crate::task::worker::{self, Interrupt, Job, Worker, WorkerOptions};

use super::{Context, Failure, Kinds};

impl Kinds {
    /// Starts a worker that runs these kinds: each task as its kind says, whatever its queue.
    ///
    /// # Examples
    /// ```
    /// use kappa_core::kinds::{Kinds, Setup};
    /// use kappa_core::{Json, Kappa, NewTask, Options, WorkerOptions, env::Env};
    ///
    /// let kappa = Kappa::in_memory(&Options::default(), &Env::default())?;
    /// let worker = Kinds::built_in(&Setup::default()).work(&kappa, WorkerOptions::new(["samples"]))?;
    /// let task = NewTask { kind: Some("sum".into()), ..NewTask::new("samples", Json::parse("[1,2,3,4]")?) };
    /// let added = kappa.tasks().enqueue(task).wait()?;
    /// let ended = kappa.tasks().ended(added.task.id).wait()?;
    /// assert_eq!(ended.result, Some(Json::parse("10")?));
    /// worker.stop();
    /// # Ok::<(), kappa_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Worker::start`].
    pub fn work(&self, kappa: &Kappa, options: WorkerOptions) -> Result<Worker> {
        let (kinds, database) = (self.clone(), kappa.clone());
        Worker::start(kappa, options, move |job| kinds.handle(&database, job))
    }

    /// Runs one job as its kind says: a handler for [`Worker::start`], where some kinds are the caller's own.
    ///
    /// # Errors
    /// What the kind answers; its code stands before the message.
    pub fn handle(&self, kappa: &Kappa, job: &Job) -> std::result::Result<Json, worker::Failure> {
        let params: Value = job.params().to().map_err(|error| refusal(&Failure::from(error)))?;
        let context = JobContext { job, params, kappa };
        let answer = self.run(&job.task().kind, &context).map_err(|failure| refusal(&failure))?;
        // It is the kind that said too much, and not who gave the parameters.
        let unfit = |error: Error| {
            let code = if error.kind() == ErrorKind::TooLarge { "output_limit" } else { "output_format" };
            refusal(&Failure::lasting(code, error.to_string()))
        };
        Json::new(&answer).map_err(unfit)
    }
}

fn refusal(failure: &Failure) -> worker::Failure {
    worker::Failure { error: failure.to_string(), retry: failure.retry }
}

/// A job as a kind sees it.
struct JobContext<'a> {
    job: &'a Job,
    params: Value,
    kappa: &'a Kappa,
}

impl Context for JobContext<'_> {
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
        let told: Option<Result<Interrupt>> = self.job.interrupted().wait_for(limit);
        told.is_some()
    }

    fn kappa(&self) -> &Kappa {
        self.kappa
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::env::Env;
    use crate::options::Options;
    use crate::task::kinds::Setup;
    use crate::task::model::{NewTask, Task, TaskState};

    fn task(kind: &str, params: &Value) -> NewTask {
        NewTask { kind: Some(kind.to_owned()), ..NewTask::new("q", Json::new(params).expect("JSON")) }
    }

    fn ended(kappa: &Kappa, id: u64) -> Task {
        kappa.tasks().ended(id).wait().expect("it ends")
    }

    /// A failure that no other run mends, tried again up to its last attempt, keeps a worker busy for minutes; one that was
    /// cancelled and shown as failed is brought back by whoever looks after dead letters.
    #[test]
    fn a_worker_runs_each_kind_and_tells_its_ends_apart() {
        let kappa = Kappa::in_memory(&Options::default(), &Env::default()).expect("a database");
        let kinds = Kinds::built_in(&Setup::default());
        let worker = kinds.work(&kappa, WorkerOptions::new(["q"]).concurrency(2)).expect("it starts");
        let add =
            |kind: &str, params: Value| kappa.tasks().enqueue(task(kind, &params)).wait().expect("it is added").task.id;
        let uploaded = ended(&kappa, add("upload", json!({"records": 300})));
        assert_eq!(uploaded.state, TaskState::Completed);
        let counts = json!({"users": 300, "products": 300, "order_items": 300});
        assert_eq!(uploaded.result, Some(Json::new(&counts).expect("JSON")));
        let unknown = ended(&kappa, add("format_disk", json!({})));
        assert_eq!((unknown.state, unknown.attempt), (TaskState::Failed, 1));
        assert!(unknown.error.expect("a reason").starts_with("no_such_kind: "));
        let waiting = add("wait", json!({"ms": 86_400_000}));
        // The wait holds one of two slots, so the sum behind it runs once it has begun.
        assert_eq!(ended(&kappa, add("sum", json!([1, 2]))).result, Some(Json::parse("3").expect("JSON")));
        kappa.tasks().cancel(waiting).wait().expect("it is there");
        assert_eq!(ended(&kappa, waiting).state, TaskState::Cancelled);
        assert_eq!(worker.stop(), 0);
    }
}
