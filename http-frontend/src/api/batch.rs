//! `/v1/batch`: several operations that happen together or not at all.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use kappa_core::{Answer, CollectionName, Document, Entry, NewTask, Operation, TaskAnswer, TaskOperation, Version};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::documents::{AnyDocument, call_options};
use crate::api::task_schemas as schemas;
use crate::api::tasks::{accept, refused};
use crate::app::App;
use crate::body::JsonBody;
use crate::error::Problem;
use crate::etag::{CONDITIONS, refuse};
use crate::page::json;

/// What one step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// Adds `document`.
    Create,
    /// Sets all fields of the document `id` to `document`.
    Replace,
    /// Merges `document` into the document `id`.
    Update,
    /// Removes the document `id`.
    Delete,
    /// Reads the document `id` as the steps before left it.
    Get,
    /// Adds `task`: it exists if the documents do.
    Enqueue,
}

/// One step of a batch.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What to do.
    op: StepKind,
    /// Where; a task has its queue instead.
    #[schema(value_type = Option<String>)]
    collection: Option<CollectionName>,
    /// Which document; a new one carries its id in `document`.
    id: Option<String>,
    /// The document, or the patch.
    #[schema(value_type = Option<AnyDocument>)]
    document: Option<Document>,
    /// The version the document must have.
    #[schema(value_type = Option<String>)]
    if_version: Option<Version>,
    /// How long the document lives, in milliseconds from now.
    ttl_ms: Option<u64>,
    /// The task to add, as `POST /v1/tasks` takes it.
    #[schema(value_type = Option<schemas::NewTask>)]
    task: Option<Box<NewTask>>,
}

/// Steps that happen together or not at all.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// At most 1 000.
    operations: Vec<Step>,
}

/// What one step gave: a document with its version, whether one was deleted, null for a read that found none, or a task.
#[derive(Debug, Serialize, ToSchema)]
pub struct StepResult {
    /// Its id.
    id: Option<String>,
    /// Its version.
    version: Option<String>,
    /// The document as it stands now.
    document: Option<AnyDocument>,
    /// Of a delete: whether there was such a document.
    deleted: Option<bool>,
    /// The task.
    task: Option<schemas::Task>,
    /// Of a task: another one held the unique key, and is the one given.
    existing: Option<bool>,
}

/// One result a step, in the same order.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchResponse {
    /// The results.
    results: Vec<StepResult>,
}

impl Step {
    fn operation(self) -> Result<Operation, &'static str> {
        let Self { op, collection, id, document, if_version, ttl_ms, task } = self;
        let plain = if_version.is_none() && ttl_ms.is_none();
        let collection = match (op, collection, task) {
            (StepKind::Enqueue, None, Some(task)) if plain && id.is_none() && document.is_none() => {
                return Ok(Operation::Task(TaskOperation::Enqueue(task)));
            }
            (StepKind::Enqueue, ..) => return Err("enqueue takes a task alone"),
            (_, _, Some(_)) => return Err("only enqueue takes a task"),
            (_, None, None) => return Err("a document is in a collection"),
            (_, Some(collection), None) => collection,
        };
        match (op, id, document) {
            (StepKind::Create, None, Some(document)) if if_version.is_none() => {
                Ok(Operation::Create { collection, document, ttl_ms })
            }
            (StepKind::Create, ..) => Err("create takes a document, and no id or if_version beside it"),
            (StepKind::Replace, Some(id), Some(document)) => {
                Ok(Operation::Replace { collection, id, document, if_version, ttl_ms })
            }
            (StepKind::Update, Some(id), Some(patch)) => {
                Ok(Operation::Update { collection, id, patch, if_version, ttl_ms })
            }
            (StepKind::Replace | StepKind::Update, ..) => Err("replace and update take an id and a document"),
            (StepKind::Delete, Some(id), None) if ttl_ms.is_none() => {
                Ok(Operation::Delete { collection, id, if_version })
            }
            (StepKind::Delete, ..) => Err("delete takes an id, and no document or ttl_ms"),
            (StepKind::Get, Some(id), None) if plain => Ok(Operation::Get { collection, id }),
            (StepKind::Get | StepKind::Enqueue, ..) => Err("get takes an id alone"),
        }
    }
}

/// Runs operations together.
///
/// Either every step happens or none; the problem names the first step that failed. Later steps see what earlier ones
/// wrote.
#[utoipa::path(post, path = "/v1/batch", tag = "batch",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes the batch safe to repeat")),
    request_body = BatchRequest,
    responses((status = 200, description = "One result a step", body = BatchResponse), (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn batch(State(app): State<App>, headers: HeaderMap, JsonBody(body): JsonBody) -> Result<Response, Problem> {
    refuse(&headers, &CONDITIONS)?;
    let request: BatchRequest = serde_json::from_slice(&body).map_err(|error| Problem::invalid(error.to_string()))?;
    let steps = request.operations.into_iter().enumerate();
    let operations = steps.map(|(index, mut step)| {
        if let Some(task) = &mut step.task {
            accept(&app, task).map_err(|problem| problem.with(&format!(" index={index}")))?;
        }
        step.operation().map_err(|reason| Problem::invalid(format!("{reason} index={index}")))
    });
    let operations = operations.collect::<Result<Vec<_>, _>>()?;
    let answers = app.batch(operations, call_options(&headers)?).await.map_err(refused)?;
    let mut text = String::from("{\"results\":[");
    for (index, answer) in answers.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write_result(&mut text, answer)?;
    }
    text.push_str("]}");
    Ok(json(text))
}

fn write_result(text: &mut String, answer: &Answer) -> Result<(), Problem> {
    match answer {
        Answer::Written(entry) | Answer::Entry(Some(entry)) => write_entry(text, entry),
        Answer::Entry(None) => text.push_str("null"),
        Answer::Task(TaskAnswer::Enqueued(added)) => {
            text.push_str(&serde_json::to_string(added).map_err(|_| Problem::internal())?);
        }
        Answer::Deleted(existed) => text.push_str(if *existed { "{\"deleted\":true}" } else { "{\"deleted\":false}" }),
        _ => return Err(Problem::internal()),
    }
    Ok(())
}

/// The entry with its document as it is stored.
fn write_entry(text: &mut String, entry: &Entry) {
    text.push_str("{\"id\":");
    text.push_str(&serde_json::to_string(&entry.id).expect("an id is a string"));
    text.push_str(",\"version\":\"");
    text.push_str(&entry.version.to_string());
    text.push_str("\",\"document\":");
    text.push_str(entry.document.text());
    text.push('}');
}
