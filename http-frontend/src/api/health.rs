//! Health for supervisors: the process runs; it can answer.

use axum::extract::State;
use axum::http::StatusCode;

use crate::app::App;
use crate::error::Problem;

/// Says that the process runs.
#[utoipa::path(get, path = "/livez", tag = "operations", responses((status = 200, description = "It runs", body = String)))]
pub async fn livez() -> &'static str {
    "ok\n"
}

/// Says whether requests are welcome.
#[utoipa::path(get, path = "/readyz", tag = "operations",
    responses((status = 200, description = "The database is open", body = String),
        (status = 503, description = "Stopping, or the database does not answer", body = Problem, content_type = "application/problem+json")))]
pub async fn readyz(State(app): State<App>) -> Result<&'static str, Problem> {
    if app.is_stopping() {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "closed", "the server is stopping"));
    }
    let kappa = app.kappa.clone();
    app.blocking(move || kappa.info()).await?;
    Ok("ok\n")
}
