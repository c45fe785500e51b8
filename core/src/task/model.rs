//! What callers see of tasks: the task, how one is asked for, leases and outcomes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

use super::json::Json;

/// The number of a task; below 2^53, so that every language holds it.
pub type TaskId = u64;

/// Where a task is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
    /// It ran as often as it may without success: a dead letter, which [`retry`](crate::Tasks::retry) brings back.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
}

impl TaskState {
    /// Every state once, in the order in which lists without one go through them.
    pub const ALL: [Self; 6] =
        [Self::Waiting, Self::Delayed, Self::Active, Self::Completed, Self::Failed, Self::Cancelled];

    /// Its stable text.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delayed => "delayed",
            Self::Active => "active",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing happens to the task any more by itself.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for TaskState {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|state| state.name() == name);
        let message = "a task is waiting, delayed, active, completed, failed or cancelled";
        found.ok_or_else(|| Error::invalid(message).with("state", name))
    }
}

/// One run that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedAttempt {
    /// Which run, from 1.
    pub attempt: u32,
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// Why, at most 4 KiB.
    pub error: String,
}

/// One task as it stands. Times are in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its number.
    pub id: TaskId,
    /// Where it waits.
    pub queue: String,
    /// Which handler runs it; the queue's name unless it was given.
    pub kind: String,
    /// For people.
    pub description: Option<String>,
    /// What the handler is given. The change feed leaves out what is over 1 KiB: null there.
    pub params: Json,
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
    pub result: Option<Json>,
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
    pub parent: Option<TaskId>,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

impl Default for Backoff {
    fn default() -> Self {
        Self::Exponential { base_ms: 1_000, cap_ms: 600_000 }
    }
}

/// A task that is asked for. What is not given comes from the queue's settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewTask {
    /// Where it waits: 1 to 64 letters, digits, `_`, `-`, `.` and `:`.
    pub queue: String,
    /// Which handler runs it; as the queue where none is given. The same characters.
    pub kind: Option<String>,
    /// For people, at most 4 KiB.
    pub description: Option<String>,
    /// What the handler is given, at most 1 MiB.
    pub params: Json,
    /// -100 to 100, higher first.
    pub priority: i32,
    /// May run so many milliseconds from now on, at most ten years; not together with `due_at`.
    pub delay_ms: Option<u64>,
    /// May run from then on, in milliseconds since 1970.
    pub due_at: Option<i64>,
    /// Runs at most, the first included: 1 to 1 000.
    pub attempts: Option<u32>,
    /// How long it waits after a run that failed.
    pub backoff: Option<Backoff>,
    /// How long one run may take: 1 ms to 30 days.
    pub timeout_ms: Option<u64>,
    /// While a task of the queue with this key waits, is delayed or runs, enqueueing answers that one. At most 256 bytes.
    pub unique: Option<String>,
    /// The task that this one belongs to, for the caller's own use.
    pub parent: Option<TaskId>,
}

impl NewTask {
    /// A task of `queue` with these parameters.
    pub fn new(queue: impl Into<String>, params: impl Into<Json>) -> Self {
        Self { queue: queue.into(), params: params.into(), ..Self::default() }
    }

    /// The bytes it holds while it waits to be taken in, near enough for a bound.
    pub(crate) fn len(&self) -> usize {
        const FIXED: usize = 192;
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        FIXED + self.queue.len() + self.params.len() + text(&self.kind) + text(&self.description) + text(&self.unique)
    }
}

/// What `enqueue` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Enqueued {
    /// The task.
    pub task: Task,
    /// Another task held the unique key: `task` is that one, and nothing was added.
    pub existing: bool,
}

/// What `enqueue_many` answers for each task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnqueuedId {
    /// The task.
    pub id: TaskId,
    /// Another task held the unique key: it is that one, and nothing was added.
    pub existing: bool,
}

/// Chance that tells one lease from every other; 32 hexadecimal digits in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u128);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Token {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = digits.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        number.map(Self).ok_or_else(|| Error::invalid("a lease token has 32 hexadecimal digits"))
    }
}

impl Serialize for Token {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return u128::deserialize(deserializer).map(Self);
        }
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The right to run a task, and the proof of it: whoever reports must hold this very lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// Which task.
    pub task: TaskId,
    /// Which run of it, counted from 1 and never twice, also not after a release or when the task was brought back. Task and
    /// run together are a fencing token: give them to whatever the run writes to.
    pub run: u32,
    /// Tells this lease from every other.
    pub token: Token,
}

/// A task that was claimed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claimed {
    /// The task.
    pub task: Task,
    /// What reports of it must carry.
    pub lease: Lease,
    /// When the lease ends unless it is renewed, in engine time.
    pub expires_at: i64,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It succeeded.
    Completed {
        /// What it gives, at most 1 MiB.
        #[serde(default)]
        result: Json,
    },
    /// It failed, and counts.
    Failed {
        /// Why; cut at 4 KiB.
        error: String,
        /// Whether another run may help; where not, the task is a dead letter at once.
        #[serde(default = "yes")]
        retry: bool,
    },
    /// It was not begun or broken off, and does not count: the task waits again where it stood.
    Released,
    /// It stopped because it was cancelled.
    Cancelled,
}

fn yes() -> bool {
    true
}

/// An outcome, and the lease under which it came about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Which run.
    pub lease: Lease,
    /// How it ended.
    pub outcome: Outcome,
}

/// Whether something under a lease was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[must_use = "a stale lease means that the work was not accepted"]
pub enum Verdict {
    /// It was; the task is in this state now.
    Accepted(TaskState),
    /// The lease is not held any more: nothing was changed.
    Stale,
}

/// What a renewal or progress answers for a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[must_use = "a stale lease means that the work must stop"]
pub enum Renewal {
    /// The lease holds.
    Held {
        /// Until then unless it is renewed, in engine time.
        expires_at: i64,
        /// Somebody cancelled the task: stop, and report [`Outcome::Cancelled`].
        cancel: bool,
    },
    /// The lease is not held any more: stop, nothing will be accepted.
    Stale,
}

/// What a worker tells and asks in one call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Work {
    /// Who asks, for people: at most 128 bytes.
    pub worker: String,
    /// The handle that the worker lives on; 0 where it has none. Its leases end when that handle is known dead.
    pub instance: u64,
    /// Runs that ended.
    pub reports: Vec<Report>,
    /// From which queues to claim.
    pub queues: Vec<String>,
    /// How many tasks to claim at most.
    pub claim: usize,
    /// How long their leases hold: 1 s to 1 h; 30 s where it is 0.
    pub lease_ms: u64,
}

/// What [`Work`] gives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Worked {
    /// One for each report, in order.
    pub verdicts: Vec<Verdict>,
    /// Tasks that are the worker's now, in the order in which they should run.
    pub claimed: Vec<Claimed>,
}

/// Whether a claim would find something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Something may be claimed now.
    pub now: bool,
    /// Otherwise, when the next task is due or a rate limit lets one through: in so many milliseconds.
    pub next_in_ms: Option<u64>,
}

/// So many starts in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How many: 1 to 1 000 000.
    pub count: u32,
    /// In how many milliseconds: 1 to a day.
    pub per_ms: u64,
}

/// How many runs may be retries. What fails beyond that is held back longer than its backoff says, at most a day, so that
/// tasks which failed together come back evenly and leave room for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryBudget {
    /// This share of the runs that began within the last minute, in percent; with 100 nothing is held back.
    pub percent: u32,
    /// At least so many a second: 1 to 1 000 000.
    pub per_second: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 10, per_second: 10 }
    }
}

/// What holds for a queue. Writing it sets all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueSettings {
    /// So many tasks run at the same time over all workers; no bound where none is given.
    pub concurrency: Option<u32>,
    /// So many tasks start in a given time.
    pub rate: Option<Rate>,
    /// So many tasks may wait or be delayed; one more is refused with `Overloaded`.
    pub max_length: Option<u64>,
    /// Completed and cancelled tasks are kept this long,
    pub keep_ms: u64,
    /// and so many of each state, whichever is less.
    pub keep_count: u64,
    /// Dead letters are kept this long.
    pub keep_failed_ms: u64,
    /// Runs at most, of tasks that do not say it themselves.
    pub attempts: u32,
    /// How long a failed task waits, where it does not say it itself.
    pub backoff: Backoff,
    /// How long one run may take, where the task does not say it itself.
    pub timeout_ms: u64,
    /// How many runs may be retries.
    pub retry_budget: RetryBudget,
}

impl Default for QueueSettings {
    fn default() -> Self {
        const DAY_MS: u64 = 24 * 3_600 * 1_000;
        Self {
            concurrency: None,
            rate: None,
            max_length: None,
            keep_ms: DAY_MS,
            keep_count: 1_000,
            keep_failed_ms: 30 * DAY_MS,
            attempts: 5,
            backoff: Backoff::default(),
            timeout_ms: 15 * 60 * 1_000,
            retry_budget: RetryBudget::default(),
        }
    }
}

/// A queue as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

/// Which tasks a list names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaskList {
    /// Of this queue; of all where none is given.
    pub queue: Option<String>,
    /// In this state; in all where none is given.
    pub state: Option<TaskState>,
    /// At most this many: 1 to 1 000; 100 where none is given.
    pub limit: Option<usize>,
    /// The cursor of the page before.
    pub after: Option<String>,
}

/// Some tasks, and where to go on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskPage {
    /// By queue, then state; within that waiting ones as they will be claimed, delayed ones as they are due, active ones as
    /// their leases end, and ended ones as they ended.
    pub tasks: Vec<Task>,
    /// Where the next page starts; none when this was the last.
    pub next: Option<String>,
}

/// What a step of a redrive did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redriven {
    /// How many dead letters came back.
    pub redriven: u64,
    /// Where the next step goes on; none when nothing is behind.
    pub next: Option<String>,
}

/// What happens to firings that came too late, because nothing was running at their time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Misfire {
    /// They are left out.
    Skip,
    /// One of them is made up for, the newest.
    #[default]
    Once,
    /// All are made up for, the newest 1 000 at most.
    All,
}

/// Enqueues a task again and again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Schedule {
    /// Its name: 1 to 64 letters, digits, `_`, `-`, `.` and `:`. Writing one of this name replaces it.
    pub name: String,
    /// When: five fields, or six with seconds first, as cron has them.
    pub cron: String,
    /// In which time zone, such as `Europe/Berlin`; UTC where none is given.
    pub time_zone: Option<String>,
    /// What is enqueued; its parameters are at most 512 KiB. A unique key in it keeps a firing from piling up behind one that has
    /// not run.
    pub task: NewTask,
    /// What happens to firings that came too late.
    pub misfire: Misfire,
    /// Whether it rests.
    pub paused: bool,
}

/// A schedule as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleInfo {
    /// What was asked for.
    pub schedule: Schedule,
    /// When it fires next, in milliseconds since 1970; never again where there is none.
    pub next_at: Option<i64>,
    /// The slot of its newest firing.
    pub last_at: Option<i64>,
    /// The task of its newest firing.
    pub last_task: Option<TaskId>,
    /// How often it fired.
    pub fired: u64,
    /// Why the newest firing enqueued nothing, where it did not.
    pub error: Option<String>,
}
