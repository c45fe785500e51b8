//! The task queue: operations by core's names, and what they answer.

use std::time::Duration;

use kappa_core::{Answer, CallOptions, Error, ErrorKind, Kappa, Operation, Pending, Result, TaskAnswer, TaskOperation};
use pyo3::prelude::*;

use crate::arguments::{Maybe, duration, maybe_text, number};
use crate::call::Call;
use crate::document::{Reader, text_of};
use crate::kappa::export;
use crate::origin::Origin;
use crate::reply::Told;

/// The operation `name` of the queue with what it is given.
pub fn operation(name: &str, given: &Bound<'_, PyAny>, reader: Reader) -> Result<TaskOperation> {
    let given = text_of(given, reader)?;
    let mut text = Vec::with_capacity(given.len() + name.len() + 6);
    if given == b"null" {
        text.extend_from_slice(format!("\"{name}\"").as_bytes());
    } else {
        text.extend_from_slice(format!("{{\"{name}\":").as_bytes());
        text.extend_from_slice(&given);
        text.push(b'}');
    }
    let wrong = |error| Error::invalid("an argument has a wrong name or type").caused_by(error);
    serde_json::from_slice(&text).map_err(wrong)
}

/// The call of `operation`.
pub fn call(kappa: Kappa, origin: &Origin, operation: TaskOperation, key: Option<String>) -> Call {
    let reads = operation.is_read();
    let options = CallOptions { idempotency_key: key, ..CallOptions::default() };
    let submit = move || told(kappa.call(Operation::Task(operation), options));
    if reads { Call::read(origin, submit) } else { Call::write(origin, submit) }
}

/// The call that answers once the task has ended.
pub fn ended(kappa: &Kappa, origin: &Origin, id: &Bound<'_, PyAny>) -> Result<Call> {
    let (tasks, id) = (kappa.tasks(), number("id", id)?);
    Ok(Call::read(origin, move || tasks.ended(id).map(|task| text(&TaskAnswer::Task(Some(Box::new(task)))))))
}

fn told(answer: Pending<Answer>) -> Pending<Told> {
    answer.map(|answer| match answer {
        Answer::Task(answer) => text(&answer),
        _ => Err(Error::new(ErrorKind::Internal, "the queue answered what it was not asked")),
    })
}

fn text(answer: &TaskAnswer) -> Result<Told> {
    answer.to_json().map(Told)
}

/// A duration in whole milliseconds, the nearest: a long one in seconds has no exact fractions.
#[pyfunction]
pub fn milliseconds(name: &str, given: &Bound<'_, PyAny>) -> PyResult<u64> {
    export("milliseconds", || {
        let duration = duration("duration", given).map_err(|error| error.with("of", name))?;
        let half = duration.saturating_add(Duration::from_micros(500));
        Ok(u64::try_from(half.as_millis()).unwrap_or(u64::MAX))
    })
}

/// The idempotency key of a call, where it is given.
pub fn key(given: Maybe<'_, '_>) -> Result<Option<String>> {
    maybe_text("idempotency_key", given)
}
