//! Kappa: the backend core of a small team in one native library.

mod duration;
mod error;
mod kappa;
mod options;
#[cfg(test)]
mod planted;

mod engine;
pub mod env;
mod executor;
mod operation;
mod partition;
mod store;
mod task;

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;

pub mod cpu;
pub mod random;

pub use duration::parse_duration;
pub use engine::{Direction, Durability, EventKind, MAX_PAGE_ENTRIES};
pub use error::{Error, ErrorKind, Result};
pub use executor::{CallOptions, Change, FeedStart, Info, Pending};
pub use kappa::{Feed, Kappa};
pub use operation::{
    Answer, CollectionInfo, CollectionName, Definition, Entry, FailedIndex, IndexDefinition, ListRequest, Operation,
    Order, Page, Version,
};
pub use options::{Mode, Options, ViewKind};
pub use store::document::{Document, IntoDocument};
pub use store::handle::{Batch, Collection, Entries, List, Products, Users, WriteOptions};
pub use task::TASK_EVENTS;
pub use task::handle::Tasks;
pub use task::json::Json;
pub use task::kinds;
pub use task::model::{
    Backoff, Claimed, Enqueued, EnqueuedId, FailedAttempt, Lease, Misfire, NewTask, Outcome, QueueInfo, QueueSettings,
    Rate, Readiness, Redriven, Renewal, Report, RetryBudget, Schedule, ScheduleInfo, Task, TaskId, TaskList, TaskPage,
    TaskState, Token, Verdict, Work, Worked,
};
pub use task::operation::{TaskAnswer, TaskOperation};
pub use task::runner;
pub use task::worker::{Claims, Failure, Interrupt, Job, Worker, WorkerOptions};
