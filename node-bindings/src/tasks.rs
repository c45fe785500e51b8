//! The task queue: operations by core's names, and what they answer.

use kappa_core::{
    Answer, CallOptions, Enqueued, Error, ErrorKind, FailedAttempt, Json, Kappa, NewTask, Operation, Result, Task,
    TaskAnswer, TaskId, TaskOperation, TaskState,
};
use napi::bindgen_prelude::External;
use napi_derive::napi;
use serde::Serialize;

use crate::answer::Text;
use crate::database::Database;
use crate::error::malformed;
use crate::guard::export;
use crate::port::{Slot, closed};
use crate::threads;

/// The operation of the queue that `text` holds.
pub fn operation(text: &str) -> Result<TaskOperation> {
    serde_json::from_str(text).map_err(malformed("an option is unknown or has a wrong value"))
}

/// Runs one operation of the queue.
#[napi]
pub fn task(
    database: &External<Database>,
    slot: Slot,
    given: String,
    key: Option<String>,
) -> napi::Result<Option<String>> {
    export("task", || {
        let operation = operation(&given)?;
        let options = CallOptions { idempotency_key: key, ..CallOptions::default() };
        if operation.is_read() {
            let kappa = database.handle.kappa().clone();
            let reading = threads::read("task", move || Ok(kappa.call(Operation::Task(operation), options)));
            return Ok(database.port.start(slot, "task", async move { told(reading.await?.await?) }));
        }
        let answer = database.handle.kappa().call(Operation::Task(operation), options);
        Ok(database.port.start(slot, "task", async move { told(answer.await?) }))
    })
}

/// Adds tasks of calls that were made together, each line the JSON text of one; the calls are numbered from `first` on.
#[napi]
pub fn enqueue_each(database: &External<Database>, first: Slot, tasks: String) -> napi::Result<Option<String>> {
    export("enqueueEach", || {
        let kappa = database.handle.kappa().clone();
        let parsed = |task| serde_json::from_str(task).map_err(malformed("an option is unknown or has a wrong value"));
        let tasks: Vec<Result<NewTask>> = tasks.lines().map(parsed).collect();
        let count = tasks.len();
        let added = enqueued_each(kappa, tasks);
        let mut text = String::new();
        database.port.begin_all(&mut text, (first, count), "enqueue", added);
        Ok(closed(text))
    })
}

/// All of them as one operation; where that is refused because of one of them, one by one.
async fn enqueued_each(kappa: Kappa, tasks: Vec<Result<NewTask>>) -> Result<Vec<Result<Text>>> {
    let text = |added: &Enqueued| Text::of(&JsTask::new(&added.task).existing(added.existing));
    let all: Result<Vec<NewTask>> = tasks.iter().cloned().collect();
    if let Ok(all) = all {
        match kappa.call(Operation::Task(TaskOperation::EnqueueEach(all)), CallOptions::default()).await {
            Ok(Answer::Task(TaskAnswer::EnqueuedEach(added))) => return Ok(added.iter().map(text).collect()),
            Ok(_) => return Err(misplaced()),
            Err(error) if is_about_one(error.kind()) => {}
            Err(error) => return Err(error),
        }
    }
    // All are on their way before the first is asked for its answer: they may become durable together.
    let added = tasks.into_iter().map(|task| task.map(|task| kappa.tasks().enqueue(task)));
    let mut texts = Vec::new();
    for added in added.collect::<Vec<_>>() {
        texts.push(match added {
            Ok(added) => added.await.and_then(|added| text(&added)),
            Err(error) => Err(error),
        });
    }
    Ok(texts)
}

/// Whether nothing was added because of one of the tasks, or because the owner is too old for tasks of several calls.
fn is_about_one(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::InvalidInput | ErrorKind::TooLarge | ErrorKind::Overloaded | ErrorKind::Unsupported)
}

fn told(answer: Answer) -> Result<Text> {
    match answer {
        Answer::Task(answer) => answer.to_json().map(Text::new),
        _ => Err(misplaced()),
    }
}

fn misplaced() -> Error {
    Error::new(ErrorKind::Internal, "the queue answered what it was not asked")
}

/// The task once it has ended.
#[napi]
pub fn task_ended(database: &External<Database>, slot: Slot, id: i64) -> napi::Result<Option<String>> {
    export("taskEnded", || {
        let id = TaskId::try_from(id).map_err(|_| Error::invalid("a task is numbered from 0 up").with("id", id))?;
        let ended = database.handle.kappa().tasks().ended(id);
        Ok(database.port.start(slot, "taskEnded", async move {
            TaskAnswer::Task(Some(Box::new(ended.await?))).to_json().map(Text::new)
        }))
    })
}

/// The milliseconds of a duration such as `5s`.
#[napi]
pub fn milliseconds(text: String) -> napi::Result<i64> {
    export("milliseconds", || {
        let millis = kappa_core::parse_duration(&text)?.as_millis();
        i64::try_from(millis).map_err(|_| Error::invalid("a duration is too long").with("duration", text))
    })
}

/// A task by the names of JavaScript: to name them there would cost more than to add the task.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JsTask<'a> {
    id: TaskId,
    queue: &'a str,
    kind: &'a str,
    description: &'a Option<String>,
    params: &'a Json,
    priority: i32,
    state: TaskState,
    attempt: u32,
    max_attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<&'a Option<f64>>,
    result: &'a Option<Json>,
    error: &'a Option<String>,
    created_at: i64,
    due_at: i64,
    started_at: Option<i64>,
    finished_at: Option<i64>,
    unique: &'a Option<String>,
    parent: Option<TaskId>,
    worker: &'a Option<String>,
    cancel_requested: bool,
    timeout: u64,
    failures: &'a [FailedAttempt],
    redrives: u32,
    schedule: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    existing: Option<bool>,
}

impl<'a> JsTask<'a> {
    /// The task as it stands.
    pub fn new(task: &'a Task) -> Self {
        let Task { id, queue, kind, description, params, priority, state, attempt, max_attempts, .. } = task;
        let Task { progress, result, error, created_at, due_at, started_at, finished_at, unique, parent, .. } = task;
        let Task { worker, cancel_requested, timeout_ms, failures, redrives, schedule, .. } = task;
        Self {
            id: *id,
            queue,
            kind,
            description,
            params,
            priority: *priority,
            state: *state,
            attempt: *attempt,
            max_attempts: *max_attempts,
            progress: Some(progress),
            result,
            error,
            created_at: *created_at,
            due_at: *due_at,
            started_at: *started_at,
            finished_at: *finished_at,
            unique,
            parent: *parent,
            worker,
            cancel_requested: *cancel_requested,
            timeout: *timeout_ms,
            failures,
            redrives: *redrives,
            schedule,
            existing: None,
        }
    }

    /// With whether it was there before.
    fn existing(self, existing: bool) -> Self {
        Self { existing: Some(existing), ..self }
    }

    /// For its handler: how far an earlier run was is of no use to this one, and would hide a method.
    pub fn running(self) -> Self {
        Self { progress: None, ..self }
    }
}
