//! The task queue: operations by core's names, and what they answer.

use kappa_core::{Answer, CallOptions, Error, ErrorKind, Operation, Result, TaskAnswer, TaskId, TaskOperation};
use napi::bindgen_prelude::External;
use napi_derive::napi;

use crate::answer::Text;
use crate::database::Database;
use crate::error::malformed;
use crate::guard::export;
use crate::port::Slot;
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

fn told(answer: Answer) -> Result<Text> {
    match answer {
        Answer::Task(answer) => answer.to_json().map(Text::new),
        _ => Err(Error::new(ErrorKind::Internal, "the queue answered what it was not asked")),
    }
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
