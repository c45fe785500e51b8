//! `/v1/changes`: every change as server-sent events, from any kept position on.
#![expect(unused_qualifications, reason = "the description macro names parameter types by their full path")]

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use kappa_core::{Change, CollectionName, EventKind, Feed, FeedStart, Result};
use serde::Deserialize;
use tokio::sync::watch;
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::error::Problem;
use crate::page::Params;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// How long a client waits before it comes back.
const RECONNECT: Duration = Duration::from_secs(2);
/// After so many changes of other collections the client is told how far it is.
const SKIPPED: u32 = 1_000;

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
    /// Only changes of this collection.
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
    let only = query.collection.as_deref().map(CollectionName::new).transpose()?;
    let last = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty());
    let start = match (last.map(str::to_owned).or(query.after), query.from.unwrap_or_default()) {
        (Some(cursor), _) => FeedStart::After(cursor),
        (None, Start::Oldest) => FeedStart::Oldest,
        (None, Start::Now) => FeedStart::Now,
    };
    let kappa = app.kappa.clone();
    // The first look happens before the head is sent, so that a cursor that is too old is a status, not an event.
    let opened = app.blocking(move || {
        let mut feed = kappa.feed(start)?;
        let first = feed.next_within(Duration::ZERO)?;
        Ok((feed, first))
    });
    let (feed, first) = opened.await?;
    let follow = Follow { feed, first, only, greeted: false, ended: false, stop: app.stop.clone() };
    let keep_alive = KeepAlive::new().interval(app.options.keep_alive);
    Ok(Sse::new(follow.events()).keep_alive(keep_alive).into_response())
}

/// One client that follows.
struct Follow {
    feed: Feed,
    first: Option<Change>,
    only: Option<CollectionName>,
    greeted: bool,
    ended: bool,
    stop: watch::Receiver<bool>,
}

impl Follow {
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut follow| async move {
            let event = follow.next().await?;
            Some((Ok(event), follow))
        })
    }

    async fn next(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        if !self.greeted {
            self.greeted = true;
            return Some(self.greeting());
        }
        match self.wanted().await? {
            Ok(event) => Some(event),
            Err(error) => {
                self.ended = true;
                let problem = Problem::from(error);
                let text = serde_json::to_string(&problem).expect("a problem is plain data");
                Some(Event::default().event("problem").data(text))
            }
        }
    }

    /// Tells the client where it stands, so that one that leaves before its first change comes back to the same place.
    fn greeting(&self) -> Event {
        let event = Event::default().retry(RECONNECT);
        if self.first.is_some() { event } else { event.id(self.feed.cursor()) }
    }

    /// The next change the client wants; none when the server stops.
    async fn wanted(&mut self) -> Option<Result<Event>> {
        for _ in 0..SKIPPED {
            let change = if let Some(change) = self.first.take() {
                change
            } else {
                tokio::select! {
                    () = stopped(&mut self.stop) => return None,
                    next = self.feed.next() => match next {
                        Ok(change) => change,
                        Err(error) => return Some(Err(error)),
                    },
                }
            };
            if self.only.as_ref().is_none_or(|only| only.as_str() == change.collection) {
                return Some(Ok(event(&change)));
            }
        }
        Some(Ok(Event::default().id(self.feed.cursor())))
    }
}

/// Returns once the server stops.
async fn stopped(stop: &mut watch::Receiver<bool>) {
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
