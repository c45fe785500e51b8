//! A task as it is stored, and the public task made of it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::store::document::Document;

use super::json::Json;
use super::model::{Backoff, FailedAttempt, Task, TaskId, TaskState, Token};

const VERSION: u8 = 1;

/// Parameters up to this many bytes lie in the record; longer ones under a key of their own, because the record is
/// written anew at each step of the task's life.
pub const INLINE_BYTES: usize = 1_024;

/// Where a task's parameters are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Params {
    /// Here.
    Inline(Json),
    /// Under [`keys::params`](super::keys::params).
    Apart,
}

/// Who runs a task, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Tells this lease from every other.
    pub token: Token,
    /// When it ends.
    pub expires: i64,
    /// How much it gains at an opening: as much as was asked for, and nothing once it has gained, until it is renewed.
    pub gain_ms: u64,
    /// The handle that its worker lives on; 0 where it has none.
    pub instance: u64,
}

/// One stored task. Where it is found in the indexes of its queue follows from this alone, see
/// [`place`](super::place).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The number of its queue.
    pub queue: u16,
    /// The name of its queue.
    pub queue_name: String,
    /// Which handler runs it; empty where that is the queue's name.
    pub kind: String,
    /// See [`Task`], as all that follow.
    pub description: Option<String>,
    /// What the handler is given.
    pub params: Params,
    /// Higher first.
    pub priority: i32,
    /// Where it is in its life.
    pub state: TaskState,
    /// Runs so far that count.
    pub attempt: u32,
    /// Claims so far, whether they count or not: what tells runs apart.
    pub runs: u32,
    /// Runs at most.
    pub max_attempts: u32,
    /// Runs that ended with their lease.
    pub deaths: u32,
    /// From 0 to 1.
    pub progress: Option<f64>,
    /// When it was last written.
    pub progress_at: i64,
    /// What the handler answered.
    pub result: Option<Json>,
    /// When it was enqueued.
    pub created: i64,
    /// When it may run, or might first.
    pub due: i64,
    /// Since when it counts as ready: what its rank among those that wait is made of.
    pub ready: i64,
    /// When its newest run began.
    pub started: Option<i64>,
    /// When it ended.
    pub finished: Option<i64>,
    /// Held while it waits, is delayed or runs.
    pub unique: Option<String>,
    /// For the caller's own use.
    pub parent: Option<TaskId>,
    /// Who runs or ran it.
    pub worker: Option<String>,
    /// While it is active.
    pub lease: Option<Held>,
    /// Somebody asked the run under way to stop.
    pub cancel: bool,
    /// How long one run may take.
    pub timeout_ms: u64,
    /// How long it waits after a run that failed.
    pub backoff: Backoff,
    /// Newest runs that did not succeed.
    pub failures: Vec<FailedAttempt>,
    /// How often it was brought back.
    pub redrives: u32,
    /// The schedule that enqueued it.
    pub schedule: Option<String>,
}

impl Record {
    /// The bytes that are stored.
    pub fn encode(&self) -> Bytes {
        postcard::to_extend(self, vec![VERSION]).expect("a task has a binary form").into()
    }

    /// The task that [`Record::encode`] wrote.
    ///
    /// # Errors
    /// `Damaged` when these are no such bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let damaged = || Error::new(ErrorKind::Damaged, "a stored task cannot be read").with("bytes", bytes.len());
        match bytes.split_first() {
            Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(|error| damaged().caused_by(error)),
            _ => Err(damaged()),
        }
    }

    /// Which handler runs it.
    pub fn kind(&self) -> &str {
        if self.kind.is_empty() { &self.queue_name } else { &self.kind }
    }

    /// The task as callers see it; `params` are those that lie apart.
    pub fn into_task(self, id: TaskId, apart: Option<Json>) -> Task {
        let kind = self.kind().to_owned();
        let params = match self.params {
            Params::Inline(params) => params,
            Params::Apart => apart.unwrap_or_default(),
        };
        let error = self.failures.last().map(|failed| failed.error.clone());
        Task {
            id,
            queue: self.queue_name,
            kind,
            description: self.description,
            params,
            priority: self.priority,
            state: self.state,
            attempt: self.attempt,
            max_attempts: self.max_attempts,
            progress: self.progress,
            result: self.result,
            error: if self.state == TaskState::Completed { None } else { error },
            created_at: self.created,
            due_at: self.due,
            started_at: self.started,
            finished_at: self.finished,
            unique: self.unique,
            parent: self.parent,
            worker: self.worker,
            cancel_requested: self.cancel,
            timeout_ms: self.timeout_ms,
            failures: self.failures,
            redrives: self.redrives,
            schedule: self.schedule,
        }
    }
}

/// The task in the bytes of a stored one, as the change feed finds it behind an event's key.
///
/// # Errors
/// `Damaged` when these are not the bytes of a task.
pub fn stored_task(id: TaskId, bytes: &[u8]) -> Result<Document> {
    let task = Record::decode(bytes)?.into_task(id, None);
    let text = serde_json::to_vec(&task).expect("a task has a JSON text");
    Ok(Document::from_stored(text.into()))
}
