//! `/v1/work`: what a worker in any language needs: claim tasks, keep their leases, say how far it is and how it ended.

use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use kappa_core::{CallOptions, Claimed, Lease, Renewal, Report, TaskAnswer, TaskOperation, Verdict, Work, Worked};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout_at};
use utoipa::ToSchema;

use crate::api::documents::call_options;
use crate::api::task_schemas as schemas;
use crate::api::tasks::{MAX_WAIT, answer, body, unexpected};
use crate::app::App;
use crate::body::JsonBody;
use crate::error::Problem;
use crate::etag::{CONDITIONS, refuse};

/// Between two looks of one claim that waits, so that a busy database is not asked at each of its commits.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// Which tasks a worker wants, and how long it waits for one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimRequest {
    /// From which queues: 1 to 100.
    queues: Vec<String>,
    /// How many tasks at most: 1 to 1 000.
    #[serde(default = "one")]
    limit: usize,
    /// Who asks, for people: at most 128 bytes.
    #[serde(default)]
    worker: String,
    /// How long the leases hold: 1 000 to 3 600 000; 30 000 where none is given.
    #[serde(default)]
    lease_ms: u64,
    /// How many milliseconds to wait for a task where there is none, 30 000 at most.
    #[serde(default)]
    wait_ms: u64,
}

fn one() -> usize {
    1
}

/// Tasks that are the worker's now.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClaimedTasks {
    /// In the order in which they should run; none when nothing came in time.
    #[schema(value_type = Vec<schemas::Claimed>)]
    claimed: Vec<Claimed>,
}

/// Runs that ended.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompleteRequest {
    /// 1 to 1 000.
    #[schema(value_type = Vec<schemas::Report>)]
    reports: Vec<Report>,
}

/// Whether reports were accepted.
#[derive(Debug, Serialize, ToSchema)]
pub struct Verdicts {
    /// One for each report, in order. `stale`: the lease is held no more, and nothing was changed.
    #[schema(value_type = Vec<schemas::Verdict>)]
    verdicts: Vec<Verdict>,
}

/// Leases to keep.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// At most 1 000.
    #[schema(value_type = Vec<schemas::Lease>)]
    leases: Vec<Lease>,
    /// How long they hold from now on, as for a claim.
    #[serde(default)]
    lease_ms: u64,
}

/// Whether leases hold.
#[derive(Debug, Serialize, ToSchema)]
pub struct Renewals {
    /// One for each lease, in order.
    #[schema(value_type = Vec<schemas::Renewal>)]
    renewals: Vec<Renewal>,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProgressRequest {
    /// Which run.
    #[schema(value_type = schemas::Lease)]
    lease: Lease,
    /// From 0 to 1.
    progress: f64,
}

/// Whether the lease holds.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct ProgressAnswer {
    /// As for a renewal: also whether somebody cancelled the task.
    #[schema(value_type = schemas::Renewal)]
    renewal: Renewal,
}

/// Claims tasks.
///
/// Waits up to `wait_ms` where there is none. What is claimed runs again when its lease ends without a report, also where this answer
/// was lost on its way.
#[utoipa::path(post, path = "/v1/work/claim", tag = "work", operation_id = "claim_tasks", request_body = ClaimRequest,
    responses((status = 200, description = "What there was, or came in time", body = ClaimedTasks), (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn claim(State(app): State<App>, headers: HeaderMap, JsonBody(text): JsonBody) -> Result<Response, Problem> {
    refuse(&headers, &CONDITIONS)?;
    let ClaimRequest { queues, limit, worker, lease_ms, wait_ms } = body(&text)?;
    if limit == 0 || queues.is_empty() {
        return Err(Problem::invalid("a claim names queues, and a limit of 1 to 1000"));
    }
    let wait = Duration::from_millis(wait_ms).min(MAX_WAIT).min(app.options.request_timeout / 2);
    let until = Instant::now() + wait;
    let work = Work { worker, queues: queues.clone(), claim: limit, lease_ms, ..Work::default() };
    let mut stop = app.stop.clone();
    // The first time without asking whether there is something: that checks the limits too.
    let mut worth_it = true;
    loop {
        // Before the look, so that what comes between the two still rings.
        let committed = app.kappa.tasks().committed();
        if worth_it {
            let Worked { claimed, .. } = worked(&app, work.clone(), &HeaderMap::new()).await?;
            if !claimed.is_empty() {
                return answer(&ClaimedTasks { claimed });
            }
        }
        let ready = app.kappa.tasks().ready(&queues).await?;
        let now = Instant::now();
        if now >= until || *stop.borrow() {
            return answer(&ClaimedTasks { claimed: Vec::new() });
        }
        if !ready.now {
            let due = ready.next_in_ms.map_or(until, |ms| until.min(now + Duration::from_millis(ms)));
            tokio::select! {
                biased;
                // A sender that is gone means the same as its sign: there is no server any more.
                _ = stop.wait_for(|stopping| *stopping) => {}
                rung = timeout_at(due, committed) => if let Ok(rung) = rung { rung? },
            }
        }
        sleep(LOOK_PAUSE).await;
        worth_it = app.kappa.tasks().ready(&queues).await?.now;
    }
}

/// Reports runs that ended.
///
/// An outcome is `{"completed": {"result": ...}}`, `{"failed": {"error": "...", "retry": true}}`, `"released"` or `"cancelled"`. A report
/// whose lease is held no more is `stale` and changes nothing.
#[utoipa::path(post, path = "/v1/work/complete", tag = "work", operation_id = "complete_tasks",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes the call safe to repeat")),
    request_body = CompleteRequest,
    responses((status = 200, description = "One verdict a report", body = Verdicts), (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn complete(
    State(app): State<App>,
    headers: HeaderMap,
    JsonBody(text): JsonBody,
) -> Result<Response, Problem> {
    refuse(&headers, &CONDITIONS)?;
    let CompleteRequest { reports } = body(&text)?;
    if reports.is_empty() {
        return Err(Problem::invalid("there is no report"));
    }
    let Worked { verdicts, .. } = worked(&app, Work { reports, ..Work::default() }, &headers).await?;
    answer(&Verdicts { verdicts })
}

/// Renews leases.
///
/// Ask again well before they end, such as after a third of their time. `cancel` says that somebody cancelled the task; `stale` that the
/// work must stop.
#[utoipa::path(post, path = "/v1/work/renew", tag = "work", operation_id = "renew_leases", request_body = RenewRequest,
    responses((status = 200, description = "One entry a lease", body = Renewals), (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn renew(State(app): State<App>, headers: HeaderMap, JsonBody(text): JsonBody) -> Result<Response, Problem> {
    refuse(&headers, &CONDITIONS)?;
    let RenewRequest { leases, lease_ms } = body(&text)?;
    let operation = TaskOperation::Renew { leases, lease_ms };
    let TaskAnswer::Renewed(renewals) = app.task_call(operation, CallOptions::default()).await? else {
        return unexpected();
    };
    answer(&Renewals { renewals })
}

/// Says how far a run is.
///
/// Kept at most once a second.
#[utoipa::path(post, path = "/v1/work/progress", tag = "work", operation_id = "tell_progress", request_body = ProgressRequest,
    responses((status = 200, description = "Whether the lease holds", body = ProgressAnswer), (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn progress(
    State(app): State<App>,
    headers: HeaderMap,
    JsonBody(text): JsonBody,
) -> Result<Response, Problem> {
    refuse(&headers, &CONDITIONS)?;
    let ProgressRequest { lease, progress } = body(&text)?;
    let operation = TaskOperation::Progress { lease, progress };
    let TaskAnswer::Progress(renewal) = app.task_call(operation, CallOptions::default()).await? else {
        return unexpected();
    };
    answer(&ProgressAnswer { renewal })
}

async fn worked(app: &App, work: Work, headers: &HeaderMap) -> Result<Worked, Problem> {
    let operation = TaskOperation::Work(Box::new(work));
    let TaskAnswer::Worked(worked) = app.task_call(operation, call_options(headers)?).await? else {
        return unexpected();
    };
    Ok(worked)
}
