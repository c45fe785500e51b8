//! `/v1/changes/page`: changes as JSON, for programs that ask again and again.
#![expect(unused_qualifications, reason = "the description macro names parameter types by their full path")]

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use kappa_core::{Change, Document, FeedStart, Kappa, Pending, Result};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};
use utoipa::{IntoParams, ToSchema};

use crate::api::changes::Start;
use crate::app::App;
use crate::error::Problem;
use crate::page::{Params, json};

/// Changes in one answer, where the request does not say.
const LIMIT: usize = 256;
/// Changes in one answer at most.
const MAX_LIMIT: usize = 1_000;
/// An answer ends behind the document with which it is longer than this.
const PAGE_BYTES: usize = 1 << 20;
/// A question is held no longer than this.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Which changes, and how long to wait for one.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Behind this cursor.
    #[param(required = false)]
    pub after: Option<String>,
    /// Where to start without a cursor.
    #[param(required = false, inline)]
    pub from: Option<Start>,
    /// At most so many, 0 to 1 000; 0 only checks the cursor, or gives the one to start with.
    #[param(required = false)]
    pub limit: Option<usize>,
    /// How many milliseconds to wait for a change where there is none, 30 000 at most.
    #[param(required = false)]
    pub wait_ms: Option<u64>,
}

/// Some changes.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangesPage {
    /// In the order of their commit; none when nothing came in time.
    #[schema(value_type = Vec<Object>)]
    changes: Vec<Change>,
    /// The cursor to go on behind.
    behind: String,
    /// The cursor behind everything that was readable when this answer was begun.
    newest: String,
}

/// Reads changes.
///
/// As `/v1/changes`, one answer at a time: ask again with `after` set to `behind`.
#[utoipa::path(get, path = "/v1/changes/page", tag = "changes", params(PageQuery),
    responses((status = 200, description = "Changes that are there, or came in time", body = ChangesPage),
        (status = 410, description = "The cursor is older than what is kept", body = Problem, content_type = "application/problem+json"),
        (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn changes_page(State(app): State<App>, Params(query): Params<PageQuery>) -> Result<Response, Problem> {
    let limit = query.limit.unwrap_or(LIMIT);
    if limit > MAX_LIMIT {
        return Err(Problem::invalid(format!("limit is 0 to {MAX_LIMIT}")));
    }
    let mut start = match (query.after, query.from.unwrap_or_default()) {
        (Some(cursor), _) => FeedStart::After(cursor),
        (None, Start::Oldest) => FeedStart::Oldest,
        (None, Start::Now) => FeedStart::Now,
    };
    let until = Instant::now() + Duration::from_millis(query.wait_ms.unwrap_or(0)).min(MAX_WAIT);
    let mut stop = app.stop.clone();
    loop {
        let kappa = app.kappa.clone();
        let (page, committed) = app.blocking(move || look(&kappa, start, limit)).await?;
        if limit == 0 || !page.changes.is_empty() || Instant::now() >= until {
            return answer(&page);
        }
        tokio::select! {
            biased;
            // A sender that is gone means the same as its sign: there is no server any more.
            _ = stop.wait_for(|stopping| *stopping) => {
                return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "closed", "the server is stopping"));
            }
            rung = timeout_at(until, committed) => match rung {
                Ok(rung) => rung?,
                Err(_) => return answer(&page),
            }
        }
        start = FeedStart::After(page.behind);
    }
}

/// The changes that are there already, and what rings at the next commit. Reads files: not for the threads that answer.
fn look(kappa: &Kappa, start: FeedStart, limit: usize) -> Result<(ChangesPage, Pending<()>)> {
    let now = kappa.feed(FeedStart::Now).wait()?;
    let newest = now.cursor().to_owned();
    // Before the look, so that a change between the two still rings.
    let committed = now.committed();
    let mut feed = kappa.feed(start).wait()?;
    let (mut changes, mut bytes) = (Vec::new(), 0);
    while changes.len() < limit && bytes < PAGE_BYTES {
        let Some(change) = feed.next_now()? else { break };
        bytes += change.document.as_ref().map_or(0, Document::len);
        changes.push(change);
    }
    // A look that found nothing has passed over everything that was there, also what changes no document.
    let behind = if limit > 0 && changes.is_empty() { newest.clone() } else { feed.cursor().to_owned() };
    Ok((ChangesPage { changes, behind, newest }, committed))
}

fn answer(page: &ChangesPage) -> Result<Response, Problem> {
    Ok(json(serde_json::to_vec(page).map_err(|_| Problem::internal())?))
}
