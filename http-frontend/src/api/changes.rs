//! `/v1/changes`: every change as server-sent events, from any kept position on.
#![expect(unused_qualifications, reason = "the description macro names parameter types by their full path")]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use kappa_core::{Change, CollectionName, Error, ErrorKind, EventKind, Feed, FeedStart, Result, TASK_EVENTS};
use serde::Deserialize;
use tokio::sync::watch;
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::error::Problem;
use crate::page::Params;

/// Where a client that comes back was.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// How long a client waits before it comes back.
pub const RECONNECT: Duration = Duration::from_secs(2);
/// After so many changes of other collections the client is told how far it is.
const SKIPPED: u32 = 1_000;
/// Changes that are read at once for one client.
const READ_AHEAD: usize = 64;

/// Where a feed without a cursor starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With what happens from now on.
    #[default]
    Now,
    /// With the oldest change that is kept.
    Oldest,
}

/// Which changes.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ChangesQuery {
    /// Goes on behind the change with this id; `Last-Event-ID`, which browsers send when they come back, goes first.
    #[param(required = false)]
    pub after: Option<String>,
    /// Where to start without a cursor.
    #[param(required = false, inline)]
    pub from: Option<Start>,
    /// Only changes of this collection; `kappa:tasks` are those of tasks.
    #[param(required = false)]
    pub collection: Option<String>,
}

/// Follows changes.
///
/// Each event carries the cursor as `id`, what happened as `event` (created, updated, deleted, expired) and the change
/// as JSON in `data`. Changes come in the order of their commit, at least once. A cursor older than what is kept is
/// answered with 410: read the list again, then follow from now.
#[utoipa::path(get, path = "/v1/changes", tag = "changes",
    params(ChangesQuery, ("Last-Event-ID" = Option<String>, Header, description = "Goes on behind this change")),
    responses((status = 200, description = "Server-sent events without end", body = String, content_type = "text/event-stream"),
        (status = 410, description = "The cursor is older than what is kept", body = Problem, content_type = "application/problem+json"),
        (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn changes(
    State(app): State<App>,
    Params(query): Params<ChangesQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let only = query.collection;
    if let Some(name) = only.as_deref().filter(|name| *name != TASK_EVENTS) {
        CollectionName::new(name)?;
    }
    let last = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty());
    let start = match (last.map(str::to_owned).or(query.after), query.from.unwrap_or_default()) {
        (Some(cursor), _) => FeedStart::After(cursor),
        (None, Start::Oldest) => FeedStart::Oldest,
        (None, Start::Now) => FeedStart::Now,
    };
    let kappa = app.kappa.clone();
    // The first look happens before the head is sent, so that a cursor that is too old is a status, not an event.
    let opened = app.blocking(move || {
        let feed = kappa.feed(start).wait()?;
        Ok((feed.cursor().to_owned(), look(feed)?))
    });
    let (position, (feed, ready)) = opened.await?;
    let follow = Follow { feed: Some(feed), ready, position, only, greeted: false, app: app.clone() };
    let keep_alive = KeepAlive::new().interval(app.options.keep_alive);
    Ok(Sse::new(follow.events()).keep_alive(keep_alive).into_response())
}

/// The changes that are there already, not more than are sent soon. Reads files: not for the threads that answer.
pub fn look(mut feed: Feed) -> Result<(Feed, VecDeque<Change>)> {
    let mut ready = VecDeque::new();
    while ready.len() < READ_AHEAD {
        let Some(change) = feed.next_now()? else { break };
        ready.push_back(change);
    }
    Ok((feed, ready))
}

/// One client that follows.
struct Follow {
    /// Away while a thread reads from it; none once the stream ends.
    feed: Option<Feed>,
    /// Read, and not sent yet.
    ready: VecDeque<Change>,
    /// Behind the newest change that was sent or passed over.
    position: String,
    only: Option<String>,
    greeted: bool,
    app: App,
}

impl Follow {
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut follow| async move {
            let event = follow.next().await?;
            Some((Ok(event), follow))
        })
    }

    async fn next(&mut self) -> Option<Event> {
        if !self.greeted {
            self.greeted = true;
            // Tells the client where it stands, so that one that leaves before its first change comes back to the
            // same place.
            return Some(Event::default().retry(RECONNECT).id(&self.position));
        }
        self.feed.as_ref()?;
        let mut stop = self.app.stop.clone();
        let wanted = tokio::select! {
            biased;
            () = stopped(&mut stop) => None,
            wanted = self.wanted() => Some(wanted),
        };
        match wanted? {
            Ok(event) => Some(event),
            Err(error) => {
                self.feed = None;
                let problem = Problem::from(error);
                let text = serde_json::to_string(&problem).expect("a problem is plain data");
                Some(Event::default().event("problem").data(text))
            }
        }
    }

    /// The next change the client wants, or how far it is after many of other collections.
    async fn wanted(&mut self) -> Result<Event> {
        for _ in 0..SKIPPED {
            let change = self.change().await?;
            self.position.clone_from(&change.cursor);
            if self.only.as_ref().is_none_or(|only| *only == change.collection) {
                return Ok(event(&change));
            }
        }
        Ok(Event::default().id(&self.position))
    }

    /// The next change of any collection.
    async fn change(&mut self) -> Result<Change> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Ok(change);
            }
            let feed = self.feed.take().ok_or_else(|| Error::new(ErrorKind::Closed, "the feed has ended"))?;
            // Before the look, so that a change between the two still rings.
            let committed = feed.committed();
            let (feed, ready) = self.app.blocking(move || look(feed)).await?;
            self.feed = Some(feed);
            self.ready = ready;
            if self.ready.is_empty() {
                committed.await?;
            }
        }
    }
}

/// Returns once the server stops.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same as its sign: there is no server any more.
    let _ = stop.wait_for(|stopping| *stopping).await;
}

fn event(change: &Change) -> Event {
    let kind = match change.kind {
        EventKind::Created => "created",
        EventKind::Updated => "updated",
        EventKind::Deleted => "deleted",
        EventKind::Expired => "expired",
    };
    Event::default().id(&change.cursor).event(kind).data(data(change))
}

/// The change as JSON, its document as it is stored.
fn data(change: &Change) -> String {
    let text = |value: &str| serde_json::to_string(value).expect("a string has a JSON text");
    format!(
        r#"{{"collection":{},"id":{},"version":"{}","time":{},"document":{}}}"#,
        text(&change.collection),
        text(&change.id),
        change.version,
        change.time,
        change.document.as_ref().map_or("null", |document| document.text())
    )
}
