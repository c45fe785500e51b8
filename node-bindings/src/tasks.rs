//! The task queue: operations by core's names, and what they answer.

use kappa_core::{
    Answer, CallOptions, Enqueued, Error, ErrorKind, Kappa, NewTask, Operation, Result, Task, TaskAnswer, TaskId,
    TaskOperation,
};
use napi::bindgen_prelude::External;
use napi_derive::napi;
use serde::ser::{Serialize, SerializeTuple, Serializer};

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
    let text = |added: &Enqueued| Text::of(&Values::new(&added.task, added.existing));
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

/// A task without the names of its fields, and one thing more: 24 names cost JavaScript more to read than the values do.
/// `taskObject` in `lib/tasks.cjs` and the task of a handler in `lib/worker.cjs` know the order.
pub struct Values<'a, T> {
    task: &'a Task,
    more: T,
}

impl<'a, T> Values<'a, T> {
    /// The values of `task`, in the order of its fields, and `more` behind them.
    pub fn new(task: &'a Task, more: T) -> Self {
        Self { task, more }
    }
}

impl<T: Serialize> Serialize for Values<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let task = self.task;
        let mut values = serializer.serialize_tuple(25)?;
        values.serialize_element(&task.id)?;
        values.serialize_element(&task.queue)?;
        values.serialize_element(&task.kind)?;
        values.serialize_element(&task.description)?;
        values.serialize_element(&task.params)?;
        values.serialize_element(&task.priority)?;
        values.serialize_element(&task.state)?;
        values.serialize_element(&task.attempt)?;
        values.serialize_element(&task.max_attempts)?;
        values.serialize_element(&task.progress)?;
        values.serialize_element(&task.result)?;
        values.serialize_element(&task.error)?;
        values.serialize_element(&task.created_at)?;
        values.serialize_element(&task.due_at)?;
        values.serialize_element(&task.started_at)?;
        values.serialize_element(&task.finished_at)?;
        values.serialize_element(&task.unique)?;
        values.serialize_element(&task.parent)?;
        values.serialize_element(&task.worker)?;
        values.serialize_element(&task.cancel_requested)?;
        values.serialize_element(&task.timeout_ms)?;
        values.serialize_element(&task.failures)?;
        values.serialize_element(&task.redrives)?;
        values.serialize_element(&task.schedule)?;
        values.serialize_element(&self.more)?;
        values.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The value of one field under another's name would be believed: most are null most of the time.
    #[test]
    fn values_stand_in_the_order_that_javascript_expects() {
        let fields = [
            ("id", json!(7)),
            ("queue", json!("mail")),
            ("kind", json!("letter")),
            ("description", json!("to ana")),
            ("params", json!({ "a": 1 })),
            ("priority", json!(-3)),
            ("state", json!("failed")),
            ("attempt", json!(4)),
            ("max_attempts", json!(5)),
            ("progress", json!(0.5)),
            ("result", json!([2])),
            ("error", json!("no such street")),
            ("created_at", json!(11)),
            ("due_at", json!(12)),
            ("started_at", json!(13)),
            ("finished_at", json!(14)),
            ("unique", json!("ana")),
            ("parent", json!(8)),
            ("worker", json!("w1")),
            ("cancel_requested", json!(true)),
            ("timeout_ms", json!(15)),
            ("failures", json!([])),
            ("redrives", json!(16)),
            ("schedule", json!("nightly")),
        ];
        let named: Value = fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let task: Task = serde_json::from_str(&named.to_string()).unwrap();
        let expected: Value = fields.into_iter().map(|(_, value)| value).chain([json!("more")]).collect();
        assert_eq!(serde_json::to_value(Values::new(&task, "more")).unwrap(), expected);
    }
}
