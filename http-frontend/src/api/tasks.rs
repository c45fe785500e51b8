//! `/v1/tasks`: work that is done later, and once: create, list, read, cancel, bring back and remove tasks.
#![expect(unused_qualifications, reason = "the description macro names parameter types by their full path")]

use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use axum::extract::{FromRequestParts, RawPathParams, State};
use axum::http::header::{ETAG, IF_MATCH, LOCATION};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use kappa_core::{CallOptions, Error, ErrorKind, NewTask, TaskAnswer, TaskId, TaskList, TaskOperation, TaskState};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use utoipa::{IntoParams, ToSchema};

use crate::api::documents::call_options;
use crate::api::task_schemas as schemas;
use crate::app::App;
use crate::body::JsonBody;
use crate::error::Problem;
use crate::etag::{CONDITIONS, is_named, refuse};
use crate::page::{Params, json, link_next};
use crate::workers::QUEUE;

/// A question is held no longer than this.
pub const MAX_WAIT: Duration = Duration::from_secs(30);

/// Which tasks.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct TasksQuery {
    /// Of this queue; of all where none is given.
    #[param(required = false)]
    pub queue: Option<String>,
    /// In this state: waiting, delayed, active, completed, failed or cancelled; in all where none is given.
    #[param(required = false)]
    pub state: Option<String>,
    /// At most this many, 1 to 1 000; 100 where none is given.
    #[param(required = false, minimum = 1, maximum = 1000)]
    pub limit: Option<usize>,
    /// The cursor `next` of the page before.
    #[param(required = false)]
    pub after: Option<String>,
}

/// How long to wait for a task's end.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct TaskQuery {
    /// How many milliseconds to wait for its end, 30 000 at most; the task is answered as it stands then.
    #[param(required = false)]
    pub wait_ms: Option<u64>,
}

/// Tasks to add together.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskBatch {
    /// 1 to 1 000, 1 MiB together.
    #[schema(value_type = Vec<schemas::NewTask>)]
    tasks: Vec<NewTask>,
}

/// What became of tasks that were added together.
#[derive(Debug, Serialize, ToSchema)]
pub struct EnqueuedTasks {
    /// In the order of the request.
    #[schema(value_type = Vec<schemas::EnqueuedId>)]
    items: Vec<kappa_core::EnqueuedId>,
}

/// One page of tasks.
#[derive(Debug, Serialize, ToSchema)]
pub struct TaskPage {
    /// By queue, then state; waiting ones as they will be claimed, ended ones as they ended.
    #[schema(value_type = Vec<schemas::Task>)]
    items: Vec<kappa_core::Task>,
    /// Give it as `after` to get the next page; null when this was the last.
    #[schema(required)]
    next: Option<String>,
}

/// A task, and whether the call did anything to it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangedTask {
    /// As it stands now.
    #[schema(value_type = schemas::Task)]
    task: Box<kappa_core::Task>,
    /// Whether it was in a state in which the call makes sense.
    changed: bool,
}

/// The task that a path names.
#[derive(Clone, Copy, Debug)]
pub struct TaskPath(pub TaskId);

impl FromRequestParts<App> for TaskPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let text = path_parameter(parts, app).await?;
        task_id(&text).map(Self).ok_or_else(|| Problem::invalid("a task is named by its number"))
    }
}

/// The one parameter of a path, decoded.
///
/// # Errors
/// 400 where it is no text.
pub async fn path_parameter(parts: &mut Parts, app: &App) -> Result<String, Problem> {
    let params = RawPathParams::from_request_parts(parts, app).await;
    let params = params.map_err(|rejection| Problem::invalid(rejection.body_text()))?;
    Ok(params.iter().next().map(|(_, text)| text.to_owned()).expect("these routes have one parameter"))
}

/// The number of a task in decimal digits.
pub fn task_id(text: &str) -> Option<TaskId> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// A full queue is this client's turn to wait, not a failure of the server.
pub fn refused(error: Error) -> Problem {
    if error.kind() == ErrorKind::Overloaded {
        return Problem::new(StatusCode::TOO_MANY_REQUESTS, error.kind().code(), error.to_string()).retry_after(1);
    }
    error.into()
}

/// A body as a type of core's.
///
/// # Errors
/// 400 that says what does not fit.
pub fn body<T: serde::de::DeserializeOwned>(text: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(text).map_err(|error| Problem::invalid(error.to_string()))
}

/// Anything as JSON.
///
/// # Errors
/// 500 where it has no JSON text, which is a defect.
pub fn answer(value: &impl Serialize) -> Result<Response, Problem> {
    Ok(json(serde_json::to_vec(value).map_err(|_| Problem::internal())?))
}

/// An answer of another operation than the one asked: a defect.
pub fn unexpected<T>() -> Result<T, Problem> {
    Err(Problem::internal())
}

/// A task with its entity tag, which follows from its text: a task has no version of its own.
fn task_answer(headers: &HeaderMap, task: &kappa_core::Task) -> Result<Response, Problem> {
    let text = serde_json::to_vec(task).map_err(|_| Problem::internal())?;
    let mut hasher = DefaultHasher::new();
    hasher.write(&text);
    let tag = format!("\"{:016x}\"", hasher.finish());
    let value = HeaderValue::from_str(&tag).expect("digits in quotes are a header value");
    if is_named(headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, value)]).into_response());
    }
    Ok(([(ETAG, value)], json(text)).into_response())
}

/// Gives a task of the server's own queue the place that it has by default, and refuses what no built-in kind takes.
///
/// # Errors
/// As [`App::check_task`].
pub fn accept(app: &App, new: &mut NewTask) -> Result<(), Problem> {
    if new.queue.is_empty() {
        QUEUE.clone_into(&mut new.queue);
    }
    app.check_task(new).map_err(Problem::from)
}

/// Creates a task.
///
/// Without a `queue` it goes to `tasks`, whose tasks this server runs: `kind` names what is done. With `unique`, a task of the queue
/// that waits, is delayed or runs under the same key is answered instead, with 200. A full queue answers 429.
#[utoipa::path(post, path = "/v1/tasks", tag = "tasks", operation_id = "create_task",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes the call safe to repeat")),
    request_body = schemas::NewTask,
    responses((status = 201, description = "Created", body = schemas::Task), (status = 200, description = "A task with this unique key was there: it, and nothing was added", body = schemas::Task),
        (status = 429, description = "The queue is full", body = Problem, content_type = "application/problem+json"),
        (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn create(State(app): State<App>, headers: HeaderMap, JsonBody(text): JsonBody) -> Result<Response, Problem> {
    refuse(&headers, &CONDITIONS)?;
    let mut new: NewTask = body(&text)?;
    accept(&app, &mut new)?;
    let added = app.enqueue(new, call_options(&headers)?).await.map_err(refused)?;
    let status = if added.existing { StatusCode::OK } else { StatusCode::CREATED };
    let location = [(LOCATION, format!("/v1/tasks/{}", added.task.id))];
    Ok((status, location, task_answer(&HeaderMap::new(), &added.task)?).into_response())
}

/// Creates tasks together.
///
/// All or none.
#[utoipa::path(post, path = "/v1/tasks/bulk", tag = "tasks", operation_id = "create_tasks",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes the call safe to repeat")),
    request_body = TaskBatch,
    responses((status = 201, description = "One entry a task", body = EnqueuedTasks),
        (status = 429, description = "The queue is full", body = Problem, content_type = "application/problem+json"),
        (status = "4XX", description = "Refused: the problem names the task by its position, from 0", body = Problem, content_type = "application/problem+json")))]
pub async fn create_many(
    State(app): State<App>,
    headers: HeaderMap,
    JsonBody(text): JsonBody,
) -> Result<Response, Problem> {
    refuse(&headers, &CONDITIONS)?;
    let TaskBatch { mut tasks } = body(&text)?;
    for (n, new) in tasks.iter_mut().enumerate() {
        accept(&app, new).map_err(|problem| problem.with(&format!(" task={n}")))?;
    }
    let added = app.task_call(TaskOperation::EnqueueMany(tasks), call_options(&headers)?).await.map_err(refused)?;
    let TaskAnswer::EnqueuedMany(items) = added else { return unexpected() };
    Ok((StatusCode::CREATED, answer(&EnqueuedTasks { items })?).into_response())
}

/// Lists tasks.
#[utoipa::path(get, path = "/v1/tasks", tag = "tasks", operation_id = "list_tasks", params(TasksQuery),
    responses((status = 200, description = "One page", body = TaskPage), (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn list(State(app): State<App>, uri: Uri, Params(query): Params<TasksQuery>) -> Result<Response, Problem> {
    let state = query.state.as_deref().map(str::parse::<TaskState>).transpose()?;
    let wanted = TaskList { queue: query.queue, state, limit: query.limit, after: query.after };
    let TaskAnswer::Page(page) = app.task_call(TaskOperation::List(wanted), CallOptions::default()).await? else {
        return unexpected();
    };
    let mut response = answer(&TaskPage { items: page.tasks, next: page.next.clone() })?;
    link_next(&mut response, &uri, page.next.as_deref());
    Ok(response)
}

/// Reads a task.
///
/// With `wait_ms` the answer waits for its end.
#[utoipa::path(get, path = "/v1/tasks/{id}", tag = "tasks", operation_id = "read_task",
    params(("id" = u64, Path, description = "The task"), TaskQuery,
        ("If-None-Match" = Option<String>, Header, description = "Entity tags the client has")),
    responses((status = 200, description = "The task as it stands", body = schemas::Task), (status = 304, description = "Not changed"),
        (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn read(
    State(app): State<App>,
    TaskPath(id): TaskPath,
    Params(query): Params<TaskQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    refuse(&headers, &[IF_MATCH])?;
    if let Some(wait) = query.wait_ms {
        app.wait_for_task(id, Duration::from_millis(wait)).await;
    }
    let task = app.task(id).await?.ok_or_else(|| no_such_task(id))?;
    task_answer(&headers, &task)
}

/// What is answered for a number that no task has.
pub fn no_such_task(id: TaskId) -> Problem {
    Problem::not_found(format!("no such task, or it is not kept any more task={id}"))
}

/// Removes a task.
///
/// One that runs must be cancelled first.
#[utoipa::path(delete, path = "/v1/tasks/{id}", tag = "tasks", operation_id = "delete_task",
    params(("id" = u64, Path, description = "The task")),
    responses((status = 204, description = "Removed"), (status = 409, description = "It runs", body = Problem, content_type = "application/problem+json"),
        (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn delete(State(app): State<App>, TaskPath(id): TaskPath, headers: HeaderMap) -> Result<Response, Problem> {
    refuse(&headers, &CONDITIONS)?;
    match app.task_call(TaskOperation::Remove(id), CallOptions::default()).await? {
        TaskAnswer::Removed(true) => Ok(StatusCode::NO_CONTENT.into_response()),
        TaskAnswer::Removed(false) => Err(no_such_task(id)),
        _ => unexpected(),
    }
}

/// Cancels a task.
///
/// One that waits is cancelled at once; one that runs is told, and is cancelled when its worker stops it.
#[utoipa::path(post, path = "/v1/tasks/{id}/cancel", tag = "tasks", operation_id = "cancel_task",
    params(("id" = u64, Path, description = "The task")),
    responses((status = 200, description = "The task as it stands", body = ChangedTask), (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn cancel(State(app): State<App>, TaskPath(id): TaskPath) -> Result<Response, Problem> {
    changed(&app, TaskOperation::Cancel(id)).await
}

/// Brings a task back.
///
/// One that failed for good or was cancelled, with all of its attempts; a delayed one may run at once.
#[utoipa::path(post, path = "/v1/tasks/{id}/retry", tag = "tasks", operation_id = "retry_task",
    params(("id" = u64, Path, description = "The task")),
    responses((status = 200, description = "The task as it stands", body = ChangedTask), (status = 409, description = "Another task has its unique key by now", body = Problem, content_type = "application/problem+json"),
        (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn retry(State(app): State<App>, TaskPath(id): TaskPath) -> Result<Response, Problem> {
    changed(&app, TaskOperation::Retry(id)).await
}

async fn changed(app: &App, operation: TaskOperation) -> Result<Response, Problem> {
    let TaskAnswer::Changed { task, changed } = app.task_call(operation, CallOptions::default()).await? else {
        return unexpected();
    };
    answer(&ChangedTask { task, changed })
}

impl App {
    /// Waits for a task's end, within bounds. Whatever ends the wait, the task is looked at afterwards.
    pub async fn wait_for_task(&self, id: TaskId, wait: Duration) {
        let wait = wait.min(MAX_WAIT).min(self.options.request_timeout / 2);
        let mut stop = self.stop.clone();
        tokio::select! {
            biased;
            // A sender that is gone means the same as its sign: there is no server any more.
            _ = stop.wait_for(|stopping| *stopping) => {}
            ended = timeout(wait, self.kappa.tasks().ended(id)) => drop(ended),
        }
    }
}
