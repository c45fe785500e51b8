//! `/tasks`: long tasks by name, and how far each is.

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use kappa_core::NewTask;
use serde_json::{Map, Value, json};

use super::fields::{Unreadable, fields};
use crate::api::documents::call_options;
use crate::api::tasks::{refused, task_id};
use crate::app::App;
use crate::error::Problem;
use crate::workers::{LONG_TASK, QUEUE};

/// What that system's table had for tasks without one.
const DESCRIPTION: &str = "New Task";

/// Adds a task. `name` picks a kind where there is one of this name; any other runs the long task. What is sent beside name, description
/// and priority is the task's parameters.
pub async fn create(State(app): State<App>, request: Request) -> Response {
    let options = match call_options(request.headers()) {
        Ok(options) => options,
        Err(problem) => return failed(&problem),
    };
    let new = match fields(&app, request).await {
        Ok(sent) => new_task(&app, sent),
        Err(Unreadable::Body(status)) => Err(Problem::new(status, "invalid_input", "the body did not arrive")),
        Err(_) => Err(Problem::invalid("the body is a JSON object")),
    };
    let added = match new {
        Ok(new) => app.enqueue(new, options).await.map_err(refused),
        Err(problem) => Err(problem),
    };
    match added {
        Ok(added) => {
            let body = json!({ "message": "Task created successfully", "id": added.task.id });
            (StatusCode::CREATED, Json(body)).into_response()
        }
        Err(problem) => failed(&problem),
    }
}

/// The state of a task.
pub async fn read(State(app): State<App>, Path(id): Path<String>) -> Response {
    let Some(id) = task_id(&id) else {
        return answer(StatusCode::BAD_REQUEST, "Failed to get task status", Some("a task is named by its number"));
    };
    match app.task(id).await {
        Ok(Some(task)) => Json(json!({ "id": task.id, "status": task.state.name() })).into_response(),
        Ok(None) => answer(StatusCode::NOT_FOUND, "Task not found", None),
        Err(error) => answer(Problem::from(error).status, "Failed to get task status", None),
    }
}

fn new_task(app: &App, mut sent: Map<String, Value>) -> Result<NewTask, Problem> {
    let name = match sent.get("name") {
        Some(Value::String(name)) if !name.trim().is_empty() => name.clone(),
        None | Some(Value::Null) => return Err(Problem::invalid("name is required")),
        Some(_) => return Err(Problem::invalid("name is a text that is not empty")),
    };
    let description = match sent.shift_remove("description") {
        None | Some(Value::Null) => DESCRIPTION.to_owned(),
        Some(Value::String(text)) => text,
        Some(_) => return Err(Problem::invalid("description is a text")),
    };
    let priority = match sent.shift_remove("priority") {
        None | Some(Value::Null) => 0,
        Some(value) => priority(&value)?,
    };
    let kind = if app.kinds.contains(&name) { name } else { LONG_TASK.to_owned() };
    if kind != LONG_TASK {
        sent.shift_remove("name");
    }
    let task = NewTask::new(QUEUE, Value::Object(sent));
    let new = NewTask { kind: Some(kind), description: Some(description), priority, ..task };
    app.check_task(&new)?;
    Ok(new)
}

/// The document's priority has the most urgent first at 1; the queue's has the highest first.
fn priority(value: &Value) -> Result<i32, Problem> {
    let found = value.as_i64().and_then(|priority| i32::try_from(priority).ok());
    let found = found.filter(|priority| (-100..=100).contains(priority));
    found
        .map(|priority| -priority)
        .ok_or_else(|| Problem::invalid("priority is a whole number, -100 to 100, 1 before 5"))
}

/// The error of `POST /tasks`; what the caller can mend is said beside it.
fn failed(problem: &Problem) -> Response {
    let detail = problem.status.is_client_error().then_some(problem.detail.as_str());
    let mut response = answer(problem.status, "Failed to create task", detail);
    if let Some(seconds) = problem.seconds() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn answer(status: StatusCode, text: &str, detail: Option<&str>) -> Response {
    let body = match detail {
        None => json!({ "error": text }),
        Some(detail) => json!({ "error": text, "detail": detail }),
    };
    (status, Json(body)).into_response()
}
