//! `/v1/check`: reads everything that is stored.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::Problem;

/// Each reads the whole data directory.
const MAX_CHECKS: usize = 1;
static ROOM: Semaphore = Semaphore::const_new(MAX_CHECKS);

/// What a check found.
#[derive(Debug, Serialize, ToSchema)]
pub struct CheckReport {
    /// What is damaged, in words; nothing when all is well.
    findings: Vec<String>,
}

/// Checks the database.
///
/// Takes as long as reading the data directory does; other requests go on meanwhile. One check runs at a time.
#[utoipa::path(post, path = "/v1/check", tag = "operations",
    responses((status = 200, description = "What was found", body = CheckReport),
        (status = 503, description = "A check is running already", body = Problem, content_type = "application/problem+json")))]
pub async fn check(State(app): State<App>) -> Result<Json<CheckReport>, Problem> {
    let Ok(room) = ROOM.try_acquire() else {
        let detail = "a check is running already";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail).retry_after(30));
    };
    let kappa = app.kappa.clone();
    let findings = app.blocking(move || {
        // Kept by the work and not by the request, which its client may leave.
        let _room = room;
        kappa.check()
    });
    Ok(Json(CheckReport { findings: findings.await? }))
}
