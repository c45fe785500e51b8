//! `/v1/tasks/{id}/events`: one task as it goes on, as server-sent events, to its end.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use kappa_core::{Change, Error, ErrorKind, EventKind, Feed, FeedStart, Result, TASK_EVENTS, Task, TaskId, TaskState};
use serde_json::Value;

use crate::api::changes::{LAST_EVENT_ID, RECONNECT, look, stopped};
use crate::api::tasks::{TaskPath, no_such_task};
use crate::app::App;
use crate::error::Problem;

/// The id of the last event. Browsers come back when a stream ends, and this is how they say that they have seen all of it.
const END: &str = "end";

/// Follows a task.
///
/// First the task as it stands, then each change from the feed: `event` is its state, `progress` where only that changed, or `removed`;
/// `data` is the task. The stream ends with the task. A client that comes back with `Last-Event-ID` misses nothing; one that has seen the
/// end gets 204.
#[utoipa::path(get, path = "/v1/tasks/{id}/events", tag = "tasks", operation_id = "follow_task",
    params(("id" = u64, Path, description = "The task"), ("Last-Event-ID" = Option<String>, Header, description = "Goes on behind this event")),
    responses((status = 200, description = "Server-sent events to the task's end", body = String, content_type = "text/event-stream"),
        (status = 204, description = "The client has seen the end"),
        (status = 410, description = "The event is older than what is kept", body = Problem, content_type = "application/problem+json"),
        (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn follow(
    State(app): State<App>,
    TaskPath(id): TaskPath,
    headers: HeaderMap,
) -> std::result::Result<Response, Problem> {
    let last = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty());
    if last == Some(END) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let start = last.map_or(FeedStart::Now, |cursor| FeedStart::After(cursor.to_owned()));
    let kappa = app.kappa.clone();
    // Before the task is read, so that what changes between the two is not missed.
    let feed = app.blocking(move || kappa.feed(start).wait()).await?;
    let task = app.task(id).await?;
    if task.is_none() && last.is_none() {
        return Err(no_such_task(id));
    }
    let first = task.filter(|_| last.is_none());
    let position = feed.cursor().to_owned();
    let ready = VecDeque::new();
    let follow = Follow { app: app.clone(), id, feed: Some(feed), ready, position, first, state: None, ended: false };
    let keep_alive = KeepAlive::new().interval(app.options.keep_alive);
    Ok(Sse::new(follow.events()).keep_alive(keep_alive).into_response())
}

/// One client that follows a task.
struct Follow {
    app: App,
    id: TaskId,
    /// Away while a thread reads from it.
    feed: Option<Feed>,
    /// Read, and not looked at yet.
    ready: VecDeque<Change>,
    /// Behind the newest change that was sent or passed over.
    position: String,
    /// The task as it stood at the start, until it is sent.
    first: Option<Task>,
    /// The state that was sent last.
    state: Option<String>,
    ended: bool,
}

impl Follow {
    fn events(self) -> impl Stream<Item = std::result::Result<Event, Infallible>> {
        stream::unfold(self, |mut follow| async move {
            let event = follow.next().await?;
            Some((Ok(event), follow))
        })
    }

    async fn next(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        if let Some(task) = self.first.take() {
            return Some(self.standing(&task).retry(RECONNECT));
        }
        let mut stop = self.app.stop.clone();
        let event = tokio::select! {
            biased;
            () = stopped(&mut stop) => None,
            event = self.wanted() => Some(event),
        };
        Some(event?.unwrap_or_else(|error| {
            self.ended = true;
            let text = serde_json::to_string(&Problem::from(error)).expect("a problem is plain data");
            Event::default().event("problem").data(text)
        }))
    }

    /// The next change of the task, or how it stands where it has ended and the feed has nothing more of it.
    async fn wanted(&mut self) -> Result<Event> {
        loop {
            while let Some(change) = self.ready.pop_front() {
                self.position.clone_from(&change.cursor);
                if change.collection == TASK_EVENTS && change.id.parse() == Ok(self.id) {
                    return Ok(self.changed(&change));
                }
            }
            let feed = self.feed.take().ok_or_else(|| Error::new(ErrorKind::Closed, "the feed has ended"))?;
            // Before the look, so that a change between the two still rings.
            let committed = feed.committed();
            let task = self.app.task(self.id).await?;
            let (feed, ready) = self.app.blocking(move || look(feed)).await?;
            self.feed = Some(feed);
            self.ready = ready;
            if !self.ready.is_empty() {
                continue;
            }
            match task {
                None => return Ok(self.event("removed", "null", true)),
                Some(task) if task.state.is_final() => return Ok(self.standing(&task)),
                Some(_) => committed.await?,
            }
        }
    }

    fn standing(&mut self, task: &Task) -> Event {
        let text = serde_json::to_string(task).expect("a task has a JSON text");
        self.event(task.state.name(), &text, task.state.is_final())
    }

    fn changed(&mut self, change: &Change) -> Event {
        let Some(document) = change.document.as_ref().filter(|_| change.kind != EventKind::Deleted) else {
            return self.event("removed", "null", true);
        };
        let state = match document.fields().get("state") {
            Some(Value::String(state)) => state.clone(),
            _ => String::new(),
        };
        let last = state.parse().is_ok_and(TaskState::is_final);
        self.event(&state, document.text(), last)
    }

    fn event(&mut self, state: &str, text: &str, last: bool) -> Event {
        self.ended = last;
        let name = if self.state.as_deref() == Some(state) && state == "active" { "progress" } else { state };
        self.state = Some(state.to_owned());
        let id = if last { END } else { &self.position };
        Event::default().id(id).event(name).data(text)
    }
}
