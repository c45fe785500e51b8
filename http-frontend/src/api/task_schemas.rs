//! How the description of the routes shows what core knows of tasks: the same types once more, for their names and words alone.
#![expect(dead_code, reason = "only described: answers are written and requests are read as core has them")]

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// Where a task is in its life.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// A worker may claim it.
    Waiting,
    /// Its time has not come.
    Delayed,
    /// A worker holds its lease.
    Active,
    /// It has a result.
    Completed,
    /// It ran as often as it may without success: a dead letter, which retry brings back.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
}

/// One run that did not succeed.
#[derive(Debug, Serialize, ToSchema)]
pub struct FailedAttempt {
    /// Which run, from 1.
    pub attempt: u32,
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// Why, at most 4 KiB.
    pub error: String,
}

/// One task as it stands. Times are in milliseconds since 1970.
#[derive(Debug, Serialize, ToSchema)]
pub struct Task {
    /// Its number.
    pub id: u64,
    /// Where it waits.
    pub queue: String,
    /// Which handler runs it; the queue's name unless it was given.
    pub kind: String,
    /// For people.
    pub description: Option<String>,
    /// What the handler is given. The change feed leaves out what is over 1 KiB: null there.
    pub params: Value,
    /// -100 to 100, higher first; a task gains one step a minute while it waits.
    pub priority: i32,
    /// Where it is in its life.
    pub state: TaskState,
    /// Runs so far, one under way included.
    pub attempt: u32,
    /// Runs at most.
    pub max_attempts: u32,
    /// From 0 to 1, where the handler said so.
    pub progress: Option<f64>,
    /// What the handler answered.
    pub result: Option<Value>,
    /// Why the newest run failed.
    pub error: Option<String>,
    /// When it was enqueued.
    pub created_at: i64,
    /// When it may run, or might first.
    pub due_at: i64,
    /// When its newest run began.
    pub started_at: Option<i64>,
    /// When it was completed, failed for good, or cancelled.
    pub finished_at: Option<i64>,
    /// No other task of the queue with the same key waits, is delayed or runs.
    pub unique: Option<String>,
    /// The task that this one belongs to, for the caller's own use.
    pub parent: Option<u64>,
    /// Who runs or ran it.
    pub worker: Option<String>,
    /// Somebody asked the run under way to stop.
    pub cancel_requested: bool,
    /// How long one run may take, in milliseconds.
    pub timeout_ms: u64,
    /// Newest runs that did not succeed, at most five, oldest first.
    pub failures: Vec<FailedAttempt>,
    /// How often it was brought back after it had ended.
    pub redrives: u32,
    /// The schedule that enqueued it.
    pub schedule: Option<String>,
}

/// How long a failed task waits before its next run.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Backoff {
    /// A random time up to `base_ms` x 2^(runs - 1), at most `cap_ms` (full jitter).
    Exponential {
        /// The first bound.
        base_ms: u64,
        /// The last one.
        cap_ms: u64,
    },
    /// Always the same.
    Fixed {
        /// How long.
        ms: u64,
    },
    /// One time for each run that failed; the last one holds for all behind it.
    Custom {
        /// How long.
        ms: Vec<u64>,
    },
}

/// A task that is asked for. What is not given comes from the queue's settings.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewTask {
    /// Where it waits: 1 to 64 letters, digits, `_`, `-`, `.` and `:`.
    #[schema(required = false)]
    pub queue: String,
    /// Which handler runs it; as the queue where none is given. The same characters.
    #[schema(required = false)]
    pub kind: Option<String>,
    /// For people, at most 4 KiB.
    #[schema(required = false)]
    pub description: Option<String>,
    /// What the handler is given, at most 1 MiB.
    #[schema(required = false)]
    pub params: Value,
    /// -100 to 100, higher first.
    #[schema(required = false)]
    pub priority: i32,
    /// May run so many milliseconds from now on, at most ten years; not together with `due_at`.
    #[schema(required = false)]
    pub delay_ms: Option<u64>,
    /// May run from then on, in milliseconds since 1970.
    #[schema(required = false)]
    pub due_at: Option<i64>,
    /// Runs at most, the first included: 1 to 1 000.
    #[schema(required = false)]
    pub attempts: Option<u32>,
    /// How long it waits after a run that failed.
    #[schema(required = false)]
    pub backoff: Option<Backoff>,
    /// How long one run may take: 1 ms to 30 days.
    #[schema(required = false)]
    pub timeout_ms: Option<u64>,
    /// While a task of the queue with this key waits, is delayed or runs, enqueueing answers that one. At most 256 bytes.
    #[schema(required = false)]
    pub unique: Option<String>,
    /// The task that this one belongs to, for the caller's own use.
    #[schema(required = false)]
    pub parent: Option<u64>,
}

/// What `enqueue_many` answers for each task.
#[derive(Debug, Serialize, ToSchema)]
pub struct EnqueuedId {
    /// The task.
    pub id: u64,
    /// Another task held the unique key: it is that one, and nothing was added.
    pub existing: bool,
}

/// The right to run a task, and the proof of it: whoever reports must hold this very lease.
#[derive(Debug, Serialize, ToSchema)]
pub struct Lease {
    /// Which task.
    pub task: u64,
    /// Which run of it, counted from 1 and never twice, also not after a release or when the task was brought back. Task and
    /// run together are a fencing token: give them to whatever the run writes to.
    pub run: u32,
    /// Tells this lease from every other.
    pub token: String,
}

/// A task that was claimed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Claimed {
    /// The task.
    pub task: Task,
    /// What reports of it must carry.
    pub lease: Lease,
    /// When the lease ends unless it is renewed, in engine time.
    pub expires_at: i64,
}

/// How a run ended.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It succeeded.
    Completed {
        /// What it gives, at most 1 MiB.
        #[schema(required = false)]
        result: Value,
    },
    /// It failed, and counts.
    Failed {
        /// Why; cut at 4 KiB.
        error: String,
        /// Whether another run may help; where not, the task is a dead letter at once.
        #[schema(required = false)]
        retry: bool,
    },
    /// It was not begun or broken off, and does not count: the task waits again where it stood.
    Released,
    /// It stopped because it was cancelled.
    Cancelled,
}

/// An outcome, and the lease under which it came about.
#[derive(Debug, Serialize, ToSchema)]
pub struct Report {
    /// Which run.
    pub lease: Lease,
    /// How it ended.
    pub outcome: Outcome,
}

/// Whether something under a lease was accepted.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was; the task is in this state now.
    Accepted(TaskState),
    /// The lease is not held any more: nothing was changed.
    Stale,
}

/// What a renewal or progress answers for a lease.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Renewal {
    /// The lease holds.
    Held {
        /// Until then unless it is renewed, in engine time.
        expires_at: i64,
        /// Somebody cancelled the task: stop, and report `Outcome::Cancelled`.
        cancel: bool,
    },
    /// The lease is not held any more: stop, nothing will be accepted.
    Stale,
}

/// So many starts in so much time.
#[derive(Debug, Serialize, ToSchema)]
pub struct Rate {
    /// How many: 1 to 1 000 000.
    pub count: u32,
    /// In how many milliseconds: 1 to a day.
    pub per_ms: u64,
}

/// How many runs may be retries. What fails beyond that is held back longer than its backoff says, at most a day.
#[derive(Debug, Serialize, ToSchema)]
pub struct RetryBudget {
    /// This share of the runs that began within the last minute, in percent; with 100 nothing is held back.
    #[schema(required = false)]
    pub percent: u32,
    /// At least so many a second: 1 to 1 000 000.
    #[schema(required = false)]
    pub per_second: u32,
}

/// What holds for a queue. Writing it sets all of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueueSettings {
    /// So many tasks run at the same time over all workers; no bound where none is given.
    #[schema(required = false)]
    pub concurrency: Option<u32>,
    /// So many tasks start in a given time.
    #[schema(required = false)]
    pub rate: Option<Rate>,
    /// So many tasks may wait or be delayed; one more is refused with `Overloaded`.
    #[schema(required = false)]
    pub max_length: Option<u64>,
    /// Completed and cancelled tasks are kept this long,
    #[schema(required = false)]
    pub keep_ms: u64,
    /// and so many of each state, whichever is less.
    #[schema(required = false)]
    pub keep_count: u64,
    /// Dead letters are kept this long.
    #[schema(required = false)]
    pub keep_failed_ms: u64,
    /// Runs at most, of tasks that do not say it themselves.
    #[schema(required = false)]
    pub attempts: u32,
    /// How long a failed task waits, where it does not say it itself.
    #[schema(required = false)]
    pub backoff: Backoff,
    /// How long one run may take, where the task does not say it itself.
    #[schema(required = false)]
    pub timeout_ms: u64,
    /// How many runs may be retries.
    #[schema(required = false)]
    pub retry_budget: RetryBudget,
}

/// A queue as it stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueueInfo {
    /// Its name.
    pub name: String,
    /// What was configured.
    pub settings: QueueSettings,
    /// Whether workers get nothing from it.
    pub paused: bool,
    /// How many tasks wait.
    pub waiting: u64,
    /// How many are delayed.
    pub delayed: u64,
    /// How many run.
    pub active: u64,
    /// How many are kept that completed,
    pub completed: u64,
    /// failed for good,
    pub failed: u64,
    /// or were cancelled.
    pub cancelled: u64,
    /// How long the task that should be claimed next has been ready.
    pub head_waits_ms: u64,
    /// How late the queue is with what time alone decides, a due task or an ended lease: more than two seconds is a fault.
    pub overdue_ms: u64,
}

/// What happens to firings that came too late, because nothing was running at their time.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Misfire {
    /// They are left out.
    Skip,
    /// One of them is made up for, the newest.
    Once,
    /// All are made up for, the newest 1 000 at most.
    All,
}

/// Enqueues a task again and again.
#[derive(Debug, Serialize, ToSchema)]
pub struct Schedule {
    /// Its name: 1 to 64 letters, digits, `_`, `-`, `.` and `:`. Writing one of this name replaces it.
    #[schema(required = false)]
    pub name: String,
    /// When: five fields, or six with seconds first, as cron has them.
    #[schema(required = false)]
    pub cron: String,
    /// In which time zone, such as `Europe/Berlin`; UTC where none is given.
    #[schema(required = false)]
    pub time_zone: Option<String>,
    /// What is enqueued; its parameters are at most 512 KiB. A unique key in it keeps a firing from piling up behind one that has not run.
    #[schema(required = false)]
    pub task: NewTask,
    /// What happens to firings that came too late.
    #[schema(required = false)]
    pub misfire: Misfire,
    /// Whether it rests.
    #[schema(required = false)]
    pub paused: bool,
}

/// A schedule as it stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScheduleInfo {
    /// What was asked for.
    pub schedule: Schedule,
    /// When it fires next, in milliseconds since 1970; never again where there is none.
    pub next_at: Option<i64>,
    /// The slot of its newest firing.
    pub last_at: Option<i64>,
    /// The task of its newest firing.
    pub last_task: Option<u64>,
    /// How often it fired.
    pub fired: u64,
    /// Why the newest firing enqueued nothing, where it did not.
    pub error: Option<String>,
}

#[cfg(test)]
mod tests;
