//! `/v1/schedules`: tasks that are enqueued again and again.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use kappa_core::{CallOptions, Schedule, ScheduleInfo, TaskAnswer, TaskOperation};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::queues::QueuePath;
use crate::api::task_schemas as schemas;
use crate::api::tasks::{answer, body, unexpected};
use crate::app::App;
use crate::body::JsonBody;
use crate::error::Problem;
use crate::etag::{CONDITIONS, refuse};
use crate::workers::QUEUE;

/// Every schedule.
#[derive(Debug, Serialize, ToSchema)]
pub struct Schedules {
    /// By name.
    #[schema(value_type = Vec<schemas::ScheduleInfo>)]
    items: Vec<ScheduleInfo>,
}

/// Lists schedules.
#[utoipa::path(get, path = "/v1/schedules", tag = "schedules", operation_id = "list_schedules", responses((status = 200, description = "Every schedule", body = Schedules)))]
pub async fn list(State(app): State<App>) -> Result<Response, Problem> {
    let TaskAnswer::Schedules(items) = app.task_call(TaskOperation::Schedules, CallOptions::default()).await? else {
        return unexpected();
    };
    answer(&Schedules { items })
}

/// Sets a schedule.
///
/// One of the same name is replaced. `name` in the body may be left out.
#[utoipa::path(put, path = "/v1/schedules/{name}", tag = "schedules", operation_id = "put_schedule",
    params(("name" = String, Path, description = "The schedule")), request_body = schemas::Schedule,
    responses((status = 200, description = "The schedule as it stands", body = schemas::ScheduleInfo), (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn put(
    State(app): State<App>,
    QueuePath(name): QueuePath,
    headers: HeaderMap,
    JsonBody(text): JsonBody,
) -> Result<Response, Problem> {
    refuse(&headers, &CONDITIONS)?;
    let mut schedule: Schedule = body(&text)?;
    if !schedule.name.is_empty() && schedule.name != name {
        return Err(Problem::invalid("the name in the body is not the one in the path"));
    }
    schedule.name = name;
    if schedule.task.queue.is_empty() {
        QUEUE.clone_into(&mut schedule.task.queue);
    }
    app.check_task(&schedule.task)?;
    let operation = TaskOperation::PutSchedule(Box::new(schedule));
    let TaskAnswer::Schedule(info) = app.task_call(operation, CallOptions::default()).await? else {
        return unexpected();
    };
    answer(&info)
}

/// Ends a schedule.
///
/// What it enqueued stays.
#[utoipa::path(delete, path = "/v1/schedules/{name}", tag = "schedules", operation_id = "delete_schedule",
    params(("name" = String, Path, description = "The schedule")),
    responses((status = 204, description = "Ended"), (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn delete(State(app): State<App>, QueuePath(name): QueuePath) -> Result<Response, Problem> {
    match app.task_call(TaskOperation::RemoveSchedule { name }, CallOptions::default()).await? {
        TaskAnswer::Removed(true) => Ok(StatusCode::NO_CONTENT.into_response()),
        TaskAnswer::Removed(false) => Err(Problem::not_found("no such schedule")),
        _ => unexpected(),
    }
}
