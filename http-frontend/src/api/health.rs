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
    responses((status = 200, description = "The database answers reads and takes writes", body = String),
        (status = 503, description = "Stopping, or the database does not answer", body = Problem, content_type = "application/problem+json")))]
pub async fn readyz(State(app): State<App>) -> Result<&'static str, Problem> {
    if app.is_stopping() {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "closed", "the server is stopping"));
    }
    let kappa = app.kappa.clone();
    app.blocking(move || kappa.ready()).await.map_err(|error| {
        // A write whose end is unknown is a defect to its caller; whoever asks here only wants to know where not to go.
        let Problem { code, detail, .. } = error.into();
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
    })?;
    Ok("ok\n")
}

#[cfg(test)]
mod tests {
    use kappa_core::env::Env;
    use kappa_core::{Kappa, Options};
    use tokio::sync::watch;

    use super::*;
    use crate::options::ServerOptions;

    /// A server that says "ready" over a database that answers nothing keeps all the traffic it cannot serve.
    #[tokio::test]
    async fn it_is_not_ready_when_the_database_does_not_answer_or_the_server_stops() {
        let kappa = Kappa::in_memory(&Options::default(), &Env::default()).expect("opens");
        let (stop, stopping) = watch::channel(false);
        let address = ([127, 0, 0, 1], 80).into();
        let app = App::new(kappa.clone(), ServerOptions::default(), kappa_core::kinds::Kinds::new(), address, stopping);
        let ask = || readyz(State(app.clone()));
        assert_eq!(ask().await.expect("ready"), "ok\n");
        kappa.close().expect("closes");
        let problem = ask().await.expect_err("closed");
        assert_eq!((problem.status, problem.code), (StatusCode::SERVICE_UNAVAILABLE, "closed"));
        stop.send_replace(true);
        let problem = ask().await.expect_err("stopping");
        assert_eq!(problem.status, StatusCode::SERVICE_UNAVAILABLE);
    }
}
