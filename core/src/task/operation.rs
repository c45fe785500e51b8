//! Every call of the queue as data.

use serde::{Deserialize, Serialize};

use crate::engine::Growth;
use crate::error::{Error, ErrorKind, Result};

use super::model::{
    Enqueued, EnqueuedId, Lease, NewTask, Outcome, QueueInfo, QueueSettings, Readiness, Redriven, Renewal, Schedule,
    ScheduleInfo, Task, TaskId, TaskList, TaskPage, Work, Worked,
};

/// One call of the queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskOperation {
    /// Adds a task.
    Enqueue(Box<NewTask>),
    /// Adds at most 1 000 tasks, all or none.
    EnqueueMany(Vec<NewTask>),
    /// One task.
    Get(TaskId),
    /// One page of tasks.
    List(TaskList),
    /// Reports runs that ended, and claims tasks.
    Work(Box<Work>),
    /// Renews at most 1 000 leases.
    Renew {
        /// Which ones.
        leases: Vec<Lease>,
        /// How long they hold from now on; 30 s where it is 0.
        lease_ms: u64,
    },
    /// How at most 1 000 leases stand.
    Check {
        /// Which ones.
        leases: Vec<Lease>,
    },
    /// Says how far a run is.
    Progress {
        /// Which run.
        lease: Lease,
        /// From 0 to 1.
        progress: f64,
    },
    /// Cancels a task: one that waits at once, one that runs as soon as its worker stops.
    Cancel(TaskId),
    /// Brings a task back that failed for good or was cancelled, or lets a delayed one run at once.
    Retry(TaskId),
    /// Brings back at most so many dead letters of a queue, oldest first; 1 000 at most. One step: it looks at a bounded number
    /// of them.
    Redrive {
        /// Which queue.
        queue: String,
        /// How many.
        limit: usize,
        /// Behind the ones that a step before looked at: its cursor.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
    },
    /// Forgets a task that does not run.
    Remove(TaskId),
    /// Cancels some of what waits or is delayed.
    Drain {
        /// In which queue.
        queue: String,
    },
    /// Every queue as it stands.
    Queues,
    /// One queue as it stands.
    Queue {
        /// Its name.
        queue: String,
    },
    /// Sets what holds for a queue.
    Configure {
        /// Its name.
        queue: String,
        /// What holds from now on.
        settings: QueueSettings,
    },
    /// Stops workers from getting anything of a queue, or lets them again.
    Pause {
        /// Its name.
        queue: String,
        /// Which of the two.
        paused: bool,
    },
    /// Whether a claim would find something.
    Ready {
        /// In which queues.
        queues: Vec<String>,
    },
    /// Sets a schedule.
    PutSchedule(Box<Schedule>),
    /// Ends a schedule; what it enqueued stays.
    RemoveSchedule {
        /// Its name.
        name: String,
    },
    /// Every schedule as it stands.
    Schedules,
    /// What time alone has made due; asked for by Kappa itself.
    Overdue {
        /// What was due earlier is known to be done.
        since: i64,
        /// The handle that owns the partition.
        instance: u64,
    },
    /// Does some of it; asked for by Kappa itself.
    Tick {
        /// In which queue; schedules where none is named.
        queue: Option<String>,
        /// As for `Overdue`.
        since: i64,
    },
    /// The partition was opened: leases of the owner before end, all others gain their time once more. Asked for by Kappa itself.
    Opened {
        /// The handle that owns it now.
        instance: u64,
    },
    /// Adds at most 1 000 tasks of different callers, all or none, and answers each of them; one record costs less than
    /// one for each. Who sends it sends them one by one where it is refused.
    EnqueueEach(Vec<NewTask>),
}

/// What a call of the queue gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskAnswer {
    /// Of `Enqueue`.
    Enqueued(Box<Enqueued>),
    /// Of `EnqueueMany`, in order.
    EnqueuedMany(Vec<EnqueuedId>),
    /// Of `Get`.
    Task(Option<Box<Task>>),
    /// Of `Cancel` and `Retry`: the task as it stands now, and whether the call changed it.
    Changed {
        /// The task.
        task: Box<Task>,
        /// Whether it was in a state in which the call makes sense.
        changed: bool,
    },
    /// Of `List`.
    Page(TaskPage),
    /// Of `Work`.
    Worked(Worked),
    /// Of `Renew` and `Check`, in order.
    Renewed(Vec<Renewal>),
    /// Of `Progress`.
    Progress(Renewal),
    /// Of `Remove` and `RemoveSchedule`: whether there was one.
    Removed(bool),
    /// Of `Redrive`.
    Redriven(Redriven),
    /// Of `Queue`, `Configure` and `Pause`.
    Queue(Box<QueueInfo>),
    /// Of `Queues`.
    Queues(Vec<QueueInfo>),
    /// Of `Ready`.
    Ready(Readiness),
    /// Of `PutSchedule`.
    Schedule(Box<ScheduleInfo>),
    /// Of `Schedules`.
    Schedules(Vec<ScheduleInfo>),
    /// Of `Overdue`.
    Overdue {
        /// Queues with something to do.
        queues: Vec<String>,
        /// Whether a schedule has something to do.
        schedules: bool,
        /// Whether the partition's owner is known to the queue; `Opened` tells it.
        opened: bool,
    },
    /// Of `Drain`, `Tick` and `Opened`: whether there is more to do.
    More(bool),
    /// Of `EnqueueEach`, in order.
    EnqueuedEach(Vec<Enqueued>),
}

impl TaskOperation {
    /// Whether it can never write.
    pub fn is_read(&self) -> bool {
        matches!(
            self,
            Self::Get(_)
                | Self::List(_)
                | Self::Queues
                | Self::Queue { .. }
                | Self::Ready { .. }
                | Self::Check { .. }
                | Self::Schedules
                | Self::Overdue { .. }
        )
    }

    /// Whether only Kappa itself asks for it.
    pub fn is_background(&self) -> bool {
        matches!(self, Self::Overdue { .. } | Self::Tick { .. } | Self::Opened { .. })
    }

    /// Whether it takes space in the long run. What ends tasks must go on when the disk is full, or nothing ever would.
    pub fn growth(&self) -> Growth {
        match self {
            Self::Enqueue(_)
            | Self::EnqueueMany(_)
            | Self::EnqueueEach(_)
            | Self::Configure { .. }
            | Self::PutSchedule(_)
            | Self::Retry(_)
            | Self::Redrive { .. } => Growth::Grows,
            _ => Growth::Shrinks,
        }
    }

    /// The bytes it holds while it waits to be run, near enough for a bound.
    pub fn len(&self) -> usize {
        match self {
            Self::Enqueue(task) => task.len(),
            Self::EnqueueMany(tasks) | Self::EnqueueEach(tasks) => tasks.iter().map(NewTask::len).sum(),
            Self::Work(work) => work.reports.iter().map(|report| report.outcome.len()).sum(),
            Self::Renew { leases, .. } | Self::Check { leases } => leases.len() * size_of::<Lease>(),
            Self::PutSchedule(schedule) => schedule.task.len() + schedule.cron.len(),
            _ => 0,
        }
    }

    /// Never: every operation takes some room.
    pub fn is_empty(&self) -> bool {
        false
    }
}

impl TaskAnswer {
    /// The JSON text of what it holds, without its name: what bindings hand on. `existing` and `changed` stand among the fields
    /// of the task.
    ///
    /// # Errors
    /// `Internal` when it has none, which is a defect.
    pub fn to_json(&self) -> Result<String> {
        let text = match self {
            Self::Enqueued(added) => marked(&added.task, "existing", added.existing),
            Self::EnqueuedEach(value) => serde_json::to_string(value),
            Self::EnqueuedMany(value) => serde_json::to_string(value),
            Self::Task(value) => serde_json::to_string(value),
            Self::Changed { task, changed } => marked(task, "changed", *changed),
            Self::Page(value) => serde_json::to_string(value),
            Self::Worked(value) => serde_json::to_string(value),
            Self::Renewed(value) => serde_json::to_string(value),
            Self::Progress(value) => serde_json::to_string(value),
            Self::Removed(value) | Self::More(value) => serde_json::to_string(value),
            Self::Redriven(value) => serde_json::to_string(value),
            Self::Queue(value) => serde_json::to_string(value),
            Self::Queues(value) => serde_json::to_string(value),
            Self::Ready(value) => serde_json::to_string(value),
            Self::Schedule(value) => serde_json::to_string(value),
            Self::Schedules(value) => serde_json::to_string(value),
            Self::Overdue { .. } => serde_json::to_string(self),
        };
        text.map_err(|error| Error::new(ErrorKind::Internal, "an answer has no text").caused_by(error))
    }
}

/// A task, with what the call did to it as its last field.
fn marked(task: &Task, name: &str, value: bool) -> serde_json::Result<String> {
    let mut text = serde_json::to_string(task)?;
    // A task is an object with fields, whatever becomes of them.
    text.truncate(text.len() - 1);
    text.extend([",\"", name, "\":", if value { "true" } else { "false" }, "}"]);
    Ok(text)
}

impl Outcome {
    /// The bytes of what it says, near enough for a bound.
    pub(crate) fn len(&self) -> usize {
        const FIXED: usize = 64;
        FIXED
            + match self {
                Self::Completed { result } => result.len(),
                Self::Failed { error, .. } => error.len(),
                Self::Released | Self::Cancelled => 0,
            }
    }
}
