//! The queue as its users see it: thin methods over operations.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::executor::{CallOptions, Executor, Pending};
use crate::operation::{Answer, Operation};
use crate::store::handle::unexpected;

use super::model::{
    Enqueued, EnqueuedId, Lease, NewTask, QueueInfo, QueueSettings, Readiness, Renewal, Schedule, ScheduleInfo, Task,
    TaskId, TaskList, TaskPage, Work, Worked,
};
use super::operation::{TaskAnswer, TaskOperation};

/// The task queue. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Tasks {
    executor: Arc<dyn Executor>,
}

/// A method that sends one operation and takes one kind of answer apart.
macro_rules! call {
    ($tasks:expr, $operation:expr, $answer:pat => $value:expr) => {
        $tasks.call($operation).map(|answer| match answer {
            $answer => Ok($value),
            other => Err(unexpected(&Answer::Task(other))),
        })
    };
}

impl Tasks {
    /// The queue of the database behind `executor`.
    pub(crate) fn new(executor: Arc<dyn Executor>) -> Self {
        Self { executor }
    }

    /// Adds a task.
    ///
    /// # Errors
    /// `InvalidInput` and `TooLarge` by the limits of [`NewTask`]; `Overloaded` when the queue is full.
    pub fn enqueue(&self, task: NewTask) -> Pending<Enqueued> {
        self.enqueue_with(task, CallOptions::default())
    }

    /// Adds a task, with what may be said about a call: under an idempotency key a repetition answers the first task.
    ///
    /// # Errors
    /// As [`Tasks::enqueue`]; `Conflict` for a key that came with another task.
    pub fn enqueue_with(&self, task: NewTask, options: CallOptions) -> Pending<Enqueued> {
        self.call_with(TaskOperation::Enqueue(Box::new(task)), options).map(|answer| match answer {
            TaskAnswer::Enqueued(added) => Ok(*added),
            other => Err(unexpected(&Answer::Task(other))),
        })
    }

    /// Adds at most 1 000 tasks, all or none, at most 1 MiB together.
    ///
    /// # Errors
    /// As [`Tasks::enqueue`]; the error names the task by its position, from 0.
    pub fn enqueue_many(&self, tasks: Vec<NewTask>) -> Pending<Vec<EnqueuedId>> {
        call!(self, TaskOperation::EnqueueMany(tasks), TaskAnswer::EnqueuedMany(added) => added)
    }

    /// One task; none when there is none, or it is not kept any more.
    ///
    /// # Errors
    /// None of its own.
    pub fn get(&self, id: TaskId) -> Pending<Option<Task>> {
        call!(self, TaskOperation::Get(id), TaskAnswer::Task(task) => task.map(|task| *task))
    }

    /// The task once it has ended: its result, its error, or that it was cancelled. To wait no longer than so long, use
    /// [`Pending::wait_for`].
    ///
    /// # Errors
    /// `NotFound` when there is no such task, or it is not kept any more.
    pub fn ended(&self, id: TaskId) -> Pending<Task> {
        let this = self.clone();
        Pending::new(async move {
            loop {
                // Before the look: what is committed between the two is not missed.
                let committed = this.executor.committed();
                let task = this.get(id).await?;
                let task = task.ok_or_else(|| Error::new(ErrorKind::NotFound, "no such task").with("task", id))?;
                if task.state.is_final() {
                    return Ok(task);
                }
                committed.await?;
            }
        })
    }

    /// One page of tasks.
    ///
    /// # Errors
    /// `InvalidInput` for a cursor that is none and for a limit of 0; `TooLarge` for a limit above 1 000.
    pub fn list(&self, wanted: TaskList) -> Pending<TaskPage> {
        call!(self, TaskOperation::List(wanted), TaskAnswer::Page(page) => page)
    }

    /// Cancels a task: one that waits at once; one that runs is told, and is cancelled when its worker stops it or is gone.
    /// Answers the task, and whether the call changed anything.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn cancel(&self, id: TaskId) -> Pending<(Task, bool)> {
        call!(self, TaskOperation::Cancel(id), TaskAnswer::Changed { task, changed } => (*task, changed))
    }

    /// Brings back a task that failed for good or was cancelled, with all of its attempts; a delayed one may run at once.
    /// Answers the task, and whether the call changed anything.
    ///
    /// # Errors
    /// `NotFound`; `AlreadyExists` when another task has its unique key by now.
    pub fn retry(&self, id: TaskId) -> Pending<(Task, bool)> {
        call!(self, TaskOperation::Retry(id), TaskAnswer::Changed { task, changed } => (*task, changed))
    }

    /// Brings back dead letters of a queue, oldest first, at most 1 000 a call; how many. Ones whose unique key another
    /// task has by now stay, and are passed over in steps, however many they are. With fewer than `limit` none is left. The steps go on while
    /// the answer is waited for: dropped before, it leaves the rest where it is.
    ///
    /// # Errors
    /// `TooLarge` for a limit above 1 000.
    pub fn redrive(&self, queue: &str, limit: usize) -> Pending<u64> {
        let (this, queue) = (self.clone(), queue.to_owned());
        Pending::new(async move {
            let (mut redriven, mut after) = (0, None);
            loop {
                let left = limit.saturating_sub(usize::try_from(redriven).unwrap_or(limit));
                let operation = TaskOperation::Redrive { queue: queue.clone(), limit: left, after };
                let step = match this.call(operation).await? {
                    TaskAnswer::Redriven(step) => step,
                    other => return Err(unexpected(&Answer::Task(other))),
                };
                redriven += step.redriven;
                after = step.next;
                if after.is_none() || redriven >= limit as u64 {
                    return Ok(redriven);
                }
            }
        })
    }

    /// Forgets a task; whether there was one.
    ///
    /// # Errors
    /// `Conflict` for one that runs; cancel it first.
    pub fn remove(&self, id: TaskId) -> Pending<bool> {
        call!(self, TaskOperation::Remove(id), TaskAnswer::Removed(removed) => removed)
    }

    /// Every queue that was used or configured, by name, as it stands.
    ///
    /// # Errors
    /// None of its own.
    pub fn queues(&self) -> Pending<Vec<QueueInfo>> {
        call!(self, TaskOperation::Queues, TaskAnswer::Queues(queues) => queues)
    }

    /// One queue as it stands.
    ///
    /// # Errors
    /// `NotFound` when it was neither used nor configured.
    pub fn queue(&self, queue: &str) -> Pending<QueueInfo> {
        let operation = TaskOperation::Queue { queue: queue.to_owned() };
        call!(self, operation, TaskAnswer::Queue(info) => *info)
    }

    /// Sets what holds for a queue, all of it.
    ///
    /// # Errors
    /// `InvalidInput` by the limits of [`QueueSettings`].
    pub fn configure(&self, queue: &str, settings: QueueSettings) -> Pending<QueueInfo> {
        let operation = TaskOperation::Configure { queue: queue.to_owned(), settings };
        call!(self, operation, TaskAnswer::Queue(info) => *info)
    }

    /// Lets no worker claim from a queue; tasks that run go on.
    ///
    /// # Errors
    /// `InvalidInput` for a name that breaks the rule of [`NewTask::queue`].
    pub fn pause(&self, queue: &str) -> Pending<QueueInfo> {
        self.set_paused(queue, true)
    }

    /// Lets workers claim again.
    ///
    /// # Errors
    /// As [`Tasks::pause`].
    pub fn resume(&self, queue: &str) -> Pending<QueueInfo> {
        self.set_paused(queue, false)
    }

    /// Cancels everything in a queue that waits or is delayed, in steps; tasks that run go on. What is enqueued meanwhile may
    /// be cancelled too: pause those who enqueue first. The steps go on while the answer is waited for: dropped before, it
    /// leaves the rest where it is.
    ///
    /// # Errors
    /// `Damaged` when tasks are left that cannot be read; all others are cancelled then, unless thousands of such stand first.
    pub fn drain(&self, queue: &str) -> Pending<()> {
        let (this, queue) = (self.clone(), queue.to_owned());
        Pending::new(async move {
            while let TaskAnswer::More(true) = this.call(TaskOperation::Drain { queue: queue.clone() }).await? {}
            Ok(())
        })
    }

    /// Sets a schedule; one of the same name is replaced. Where its times stay the same, what it has missed is still made up
    /// for as its misfire rule says.
    ///
    /// # Errors
    /// `InvalidInput` for what is no cron expression or time zone, and one that never fires; `TooLarge` for parameters of
    /// more than 512 KiB.
    pub fn put_schedule(&self, schedule: Schedule) -> Pending<ScheduleInfo> {
        call!(self, TaskOperation::PutSchedule(Box::new(schedule)), TaskAnswer::Schedule(info) => *info)
    }

    /// Ends a schedule; whether there was one. What it enqueued stays.
    ///
    /// # Errors
    /// None of its own.
    pub fn remove_schedule(&self, name: &str) -> Pending<bool> {
        let operation = TaskOperation::RemoveSchedule { name: name.to_owned() };
        call!(self, operation, TaskAnswer::Removed(removed) => removed)
    }

    /// Every schedule, by name, as it stands.
    ///
    /// # Errors
    /// None of its own.
    pub fn schedules(&self) -> Pending<Vec<ScheduleInfo>> {
        call!(self, TaskOperation::Schedules, TaskAnswer::Schedules(schedules) => schedules)
    }

    /// Whether a claim from `queues` would find something, for those who build a worker of their own.
    ///
    /// # Errors
    /// None of its own.
    pub fn ready(&self, queues: &[String]) -> Pending<Readiness> {
        let operation = TaskOperation::Ready { queues: queues.to_vec() };
        call!(self, operation, TaskAnswer::Ready(readiness) => readiness)
    }

    /// Ready once something was committed since this call, for those who build a worker of their own. Take it before
    /// [`Tasks::ready`], so that a task which comes between the two is not missed.
    pub fn committed(&self) -> Pending<()> {
        self.executor.committed()
    }

    /// Reports runs that ended and claims tasks, in one operation.
    ///
    /// # Errors
    /// `InvalidInput` and `TooLarge` by the limits of [`Work`].
    pub fn work(&self, work: Work) -> Pending<Worked> {
        call!(self, TaskOperation::Work(Box::new(work)), TaskAnswer::Worked(worked) => worked)
    }

    /// Lets leases hold `lease_ms` from now on.
    ///
    /// # Errors
    /// `InvalidInput` for a lease under 1 s or over 1 h; `TooLarge` for more than 1 000.
    pub fn renew(&self, leases: Vec<Lease>, lease_ms: u64) -> Pending<Vec<Renewal>> {
        call!(self, TaskOperation::Renew { leases, lease_ms }, TaskAnswer::Renewed(renewals) => renewals)
    }

    /// How leases stand; changes nothing.
    ///
    /// # Errors
    /// `TooLarge` for more than 1 000.
    pub(crate) fn check(&self, leases: Vec<Lease>) -> Pending<Vec<Renewal>> {
        call!(self, TaskOperation::Check { leases }, TaskAnswer::Renewed(renewals) => renewals)
    }

    /// Tells the handle behind this from every other one, see [`Work::instance`].
    pub(crate) fn instance(&self) -> u64 {
        self.executor.instance()
    }

    /// Says how far a run is; kept at most once a second.
    ///
    /// # Errors
    /// `InvalidInput` unless it is from 0 to 1.
    pub fn progress(&self, lease: Lease, progress: f64) -> Pending<Renewal> {
        call!(self, TaskOperation::Progress { lease, progress }, TaskAnswer::Progress(renewal) => renewal)
    }

    fn set_paused(&self, queue: &str, paused: bool) -> Pending<QueueInfo> {
        let operation = TaskOperation::Pause { queue: queue.to_owned(), paused };
        call!(self, operation, TaskAnswer::Queue(info) => *info)
    }

    fn call(&self, operation: TaskOperation) -> Pending<TaskAnswer> {
        self.call_with(operation, CallOptions::default())
    }

    fn call_with(&self, operation: TaskOperation, options: CallOptions) -> Pending<TaskAnswer> {
        self.executor.submit(Operation::Task(operation), options).map(taken)
    }
}

fn taken(answer: Answer) -> Result<TaskAnswer> {
    match answer {
        Answer::Task(answer) => Ok(answer),
        other => Err(unexpected(&other)),
    }
}
