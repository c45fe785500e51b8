//! `/v1/operations`: any operation of the core as data, for programs that use the library over this server.

use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use kappa_core::Operation;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::documents::call_options;
use crate::app::App;
use crate::body::JsonBody;
use crate::error::Problem;
use crate::etag::{CONDITIONS, refuse};
use crate::page::json;

/// One operation, and what is said about it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OperationRequest {
    /// What to do: its name with its fields, as in `{"get": {"collection": "products", "id": "p1"}}`.
    #[schema(value_type = Object)]
    operation: Operation,
    /// Makes a write safe to repeat, as `Idempotency-Key` does; any text.
    idempotency_key: Option<String>,
    /// How long a write may wait for room, in milliseconds; the database's rule where none is given.
    deadline_ms: Option<u64>,
}

/// Runs one operation.
///
/// For `Kappa::connect`: the operation and its answer have the form that this version of the library gives them. Other
/// programs are better served by the routes of documents, whose form stays.
#[utoipa::path(post, path = "/v1/operations", tag = "operations", operation_id = "run_operation",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a write safe to repeat, where the body gives no key")),
    request_body = OperationRequest,
    responses((status = 200, description = "The answer: its name with its fields", body = Object), (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn operations(
    State(app): State<App>,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    refuse(&headers, &CONDITIONS)?;
    let request: OperationRequest =
        serde_json::from_slice(&body).map_err(|error| Problem::invalid(error.to_string()))?;
    let mut options = call_options(&headers)?;
    if request.idempotency_key.is_some() {
        options.idempotency_key = request.idempotency_key;
    }
    // A refusal leaves before the request's own time ends; otherwise nobody would know whether the write was done.
    let most = app.options.request_timeout / 2;
    options.deadline = request.deadline_ms.map(|deadline| Duration::from_millis(deadline).min(most));
    let answer = app.call(request.operation, options).await?;
    Ok(json(serde_json::to_vec(&answer).map_err(|_| Problem::internal())?))
}
