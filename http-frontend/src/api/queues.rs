//! `/v1/queues`: queues as they stand, and what holds for them.
#![expect(unused_qualifications, reason = "the description macro names parameter types by their full path")]

use axum::extract::{FromRequestParts, State};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::response::Response;
use kappa_core::{CallOptions, QueueInfo, QueueSettings, TaskAnswer, TaskOperation};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use crate::api::task_schemas as schemas;
use crate::api::tasks::{answer, body, path_parameter, unexpected};
use crate::app::App;
use crate::body::JsonBody;
use crate::error::Problem;
use crate::etag::{CONDITIONS, refuse};
use crate::page::Params;

/// Dead letters that one call brings back, where it does not say.
const REDRIVEN: usize = 1_000;

/// Every queue.
#[derive(Debug, Serialize, ToSchema)]
pub struct Queues {
    /// By name.
    #[schema(value_type = Vec<schemas::QueueInfo>)]
    items: Vec<QueueInfo>,
}

/// How far a drain came.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Drained {
    /// Whether nothing was left that waits or is delayed; where not, ask again.
    done: bool,
}

/// How many dead letters to bring back.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct RedriveQuery {
    /// At most so many, oldest first: 1 000 at most, and where none is given.
    #[param(required = false, minimum = 1, maximum = 1000)]
    pub limit: Option<usize>,
    /// The `next` of the answer before, to go on behind what it looked at.
    #[param(required = false)]
    pub after: Option<String>,
}

/// What came of a redrive.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Redriven {
    /// So many dead letters came back.
    redriven: u64,
    /// Where to go on; none when nothing is behind. An answer may have fewer than were asked for although more are left.
    next: Option<String>,
}

/// The queue that a path names, decoded.
#[derive(Debug)]
pub struct QueuePath(pub String);

impl FromRequestParts<App> for QueuePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        path_parameter(parts, app).await.map(Self)
    }
}

/// Lists queues.
///
/// Every one that was used or configured, with its counts, and how long the next task has been ready.
#[utoipa::path(get, path = "/v1/queues", tag = "queues", operation_id = "list_queues", responses((status = 200, description = "Every queue", body = Queues)))]
pub async fn list(State(app): State<App>) -> Result<Response, Problem> {
    let TaskAnswer::Queues(items) = app.task_call(TaskOperation::Queues, CallOptions::default()).await? else {
        return unexpected();
    };
    answer(&Queues { items })
}

/// Reads a queue.
#[utoipa::path(get, path = "/v1/queues/{queue}", tag = "queues", operation_id = "read_queue",
    params(("queue" = String, Path, description = "The queue")),
    responses((status = 200, description = "The queue as it stands", body = schemas::QueueInfo), (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn read(State(app): State<App>, QueuePath(queue): QueuePath) -> Result<Response, Problem> {
    info(&app, TaskOperation::Queue { queue }).await
}

/// Configures a queue.
///
/// All of its settings: what is left out has its default.
#[utoipa::path(put, path = "/v1/queues/{queue}", tag = "queues", operation_id = "configure_queue",
    params(("queue" = String, Path, description = "The queue")), request_body = schemas::QueueSettings,
    responses((status = 200, description = "The queue as it stands", body = schemas::QueueInfo), (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn configure(
    State(app): State<App>,
    QueuePath(queue): QueuePath,
    headers: HeaderMap,
    JsonBody(text): JsonBody,
) -> Result<Response, Problem> {
    refuse(&headers, &CONDITIONS)?;
    let settings: QueueSettings = body(&text)?;
    info(&app, TaskOperation::Configure { queue, settings }).await
}

/// Pauses a queue.
///
/// No worker claims from it any more; tasks that run go on.
#[utoipa::path(post, path = "/v1/queues/{queue}/pause", tag = "queues", operation_id = "pause_queue",
    params(("queue" = String, Path, description = "The queue")),
    responses((status = 200, description = "The queue as it stands", body = schemas::QueueInfo), (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn pause(State(app): State<App>, QueuePath(queue): QueuePath) -> Result<Response, Problem> {
    info(&app, TaskOperation::Pause { queue, paused: true }).await
}

/// Resumes a queue.
#[utoipa::path(post, path = "/v1/queues/{queue}/resume", tag = "queues", operation_id = "resume_queue",
    params(("queue" = String, Path, description = "The queue")),
    responses((status = 200, description = "The queue as it stands", body = schemas::QueueInfo), (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn resume(State(app): State<App>, QueuePath(queue): QueuePath) -> Result<Response, Problem> {
    info(&app, TaskOperation::Pause { queue, paused: false }).await
}

/// Drains a queue.
///
/// Cancels what waits or is delayed; tasks that run go on. A long queue takes several calls.
#[utoipa::path(post, path = "/v1/queues/{queue}/drain", tag = "queues", operation_id = "drain_queue",
    params(("queue" = String, Path, description = "The queue")),
    responses((status = 200, description = "How far it came", body = Drained), (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn drain(State(app): State<App>, QueuePath(queue): QueuePath) -> Result<Response, Problem> {
    let until = Instant::now() + app.options.request_timeout / 2;
    loop {
        let step = app.task_call(TaskOperation::Drain { queue: queue.clone() }, CallOptions::default()).await?;
        let TaskAnswer::More(more) = step else { return unexpected() };
        if !more || Instant::now() >= until || app.is_stopping() {
            return answer(&Drained { done: !more });
        }
    }
}

/// Brings dead letters back.
///
/// Oldest first, each with all of its attempts. Ones whose unique key another task has by now stay. A call looks at a bounded
/// number: for all of them ask again with `after` until there is no `next`.
#[utoipa::path(post, path = "/v1/queues/{queue}/redrive", tag = "queues", operation_id = "redrive_queue",
    params(("queue" = String, Path, description = "The queue"), RedriveQuery),
    responses((status = 200, description = "How many came back, and where to go on", body = Redriven), (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn redrive(
    State(app): State<App>,
    QueuePath(queue): QueuePath,
    Params(query): Params<RedriveQuery>,
) -> Result<Response, Problem> {
    let operation = TaskOperation::Redrive { queue, limit: query.limit.unwrap_or(REDRIVEN), after: query.after };
    let TaskAnswer::Redriven(step) = app.task_call(operation, CallOptions::default()).await? else {
        return unexpected();
    };
    answer(&Redriven { redriven: step.redriven, next: step.next })
}

async fn info(app: &App, operation: TaskOperation) -> Result<Response, Problem> {
    let TaskAnswer::Queue(info) = app.task_call(operation, CallOptions::default()).await? else { return unexpected() };
    answer(&info)
}
