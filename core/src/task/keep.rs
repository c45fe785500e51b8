//! What is kept of an answer, so that a call which is repeated gets it again.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::partition::{Run, Transaction};

use super::model::{
    Claimed, Enqueued, EnqueuedId, Lease, NewTask, QueueSettings, Redriven, Renewal, Task, TaskId, Verdict, Worked,
};
use super::operation::{TaskAnswer, TaskOperation};
use super::{damaged, queue, readable, schedule, step, tasks, work};

/// What is kept. Tasks are read again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Kept {
    /// Of `Enqueue`.
    Enqueued { id: TaskId, existing: bool },
    /// Of `EnqueueMany` and `EnqueueEach`.
    EnqueuedMany(Vec<EnqueuedId>),
    /// Of `Cancel` and `Retry`.
    Changed { id: TaskId, changed: bool },
    /// Of `Work`.
    Worked { verdicts: Vec<Verdict>, claimed: Vec<Lease> },
    /// Of `Renew`.
    Renewed(Vec<Renewal>),
    /// Of `Progress`.
    Progress(Renewal),
    /// Of `Remove` and `RemoveSchedule`.
    Removed(bool),
    /// Of `Redrive`, as it was kept before a redrive had steps.
    Redriven(u64),
    /// Of what runs in steps.
    More(bool),
    /// Given afresh.
    Again,
    /// Of `Redrive`.
    RedriveStep(Redriven),
}

/// What is kept of `answer`.
pub fn keep(answer: &TaskAnswer) -> Kept {
    match answer {
        TaskAnswer::Enqueued(added) => Kept::Enqueued { id: added.task.id, existing: added.existing },
        TaskAnswer::EnqueuedMany(added) => Kept::EnqueuedMany(added.clone()),
        TaskAnswer::EnqueuedEach(added) => {
            let id = |added: &Enqueued| EnqueuedId { id: added.task.id, existing: added.existing };
            Kept::EnqueuedMany(added.iter().map(id).collect())
        }
        TaskAnswer::Changed { task, changed } => Kept::Changed { id: task.id, changed: *changed },
        TaskAnswer::Worked(worked) => Kept::Worked {
            verdicts: worked.verdicts.clone(),
            claimed: worked.claimed.iter().map(|claimed| claimed.lease).collect(),
        },
        TaskAnswer::Renewed(renewals) => Kept::Renewed(renewals.clone()),
        TaskAnswer::Progress(renewal) => Kept::Progress(*renewal),
        TaskAnswer::Removed(removed) => Kept::Removed(*removed),
        TaskAnswer::Redriven(step) => Kept::RedriveStep(step.clone()),
        TaskAnswer::More(more) => Kept::More(*more),
        TaskAnswer::Task(_)
        | TaskAnswer::Page(_)
        | TaskAnswer::Queue(_)
        | TaskAnswer::Queues(_)
        | TaskAnswer::Ready(_)
        | TaskAnswer::Schedule(_)
        | TaskAnswer::Schedules(_)
        | TaskAnswer::Overdue { .. } => Kept::Again,
    }
}

/// The answer of `operation` again. Of tasks that were claimed only those whose lease is still the same one: the others were
/// taken back meanwhile, and nothing of them would be accepted.
pub fn replay(tx: &mut Transaction<'_>, operation: &TaskOperation, kept: Kept) -> Run<TaskAnswer> {
    Ok(match kept {
        Kept::Enqueued { id, existing } => {
            let task = task(tx, id, asked_for(operation, 0))?;
            TaskAnswer::Enqueued(Box::new(Enqueued { task, existing }))
        }
        Kept::EnqueuedMany(added) if matches!(operation, TaskOperation::EnqueueEach(_)) => {
            let again = added.into_iter().enumerate().map(|(n, EnqueuedId { id, existing })| {
                Ok(Enqueued { task: task(tx, id, asked_for(operation, n))?, existing })
            });
            TaskAnswer::EnqueuedEach(again.collect::<Run<_>>()?)
        }
        Kept::EnqueuedMany(added) => TaskAnswer::EnqueuedMany(added),
        Kept::Changed { id, changed } => {
            TaskAnswer::Changed { task: Box::new(task(tx, id, asked_for(operation, 0))?), changed }
        }
        Kept::Worked { verdicts, claimed } => {
            let mut again = Vec::with_capacity(claimed.len());
            for lease in claimed {
                let Some(record) = tasks::load_readable(tx, "a task that was claimed", lease.task)? else { continue };
                let Some((_, expires_at)) = work::lease_of(lease.task, &record).filter(|(held, _)| *held == lease)
                else {
                    continue;
                };
                let task = tasks::render(tx, lease.task, record);
                let Some(task) = readable("a task that was claimed", lease.task, task)? else { continue };
                again.push(Claimed { task, lease, expires_at });
            }
            TaskAnswer::Worked(Worked { verdicts, claimed: again })
        }
        Kept::Renewed(renewals) => TaskAnswer::Renewed(renewals),
        Kept::Progress(renewal) => TaskAnswer::Progress(renewal),
        Kept::Removed(removed) => TaskAnswer::Removed(removed),
        Kept::Redriven(redriven) => TaskAnswer::Redriven(Redriven { redriven, next: None }),
        Kept::RedriveStep(step) => TaskAnswer::Redriven(step),
        Kept::More(more) => TaskAnswer::More(more),
        Kept::Again => match operation {
            TaskOperation::Configure { queue, .. } | TaskOperation::Pause { queue, .. } => queue::describe(tx, queue)?,
            TaskOperation::PutSchedule(wanted) => schedule::describe(tx, &wanted.name)?,
            read if read.is_read() => super::run(read, tx)?,
            _ => return Err(damaged().into()),
        },
    })
}

/// Task number `n` of those that `operation` adds.
fn asked_for(operation: &TaskOperation, n: usize) -> Option<&NewTask> {
    match operation {
        TaskOperation::Enqueue(new) => Some(new),
        TaskOperation::EnqueueEach(all) => all.get(n),
        _ => None,
    }
}

/// The task as it is by now; one that was forgotten since, as it was asked for.
fn task(tx: &mut Transaction<'_>, id: TaskId, new: Option<&NewTask>) -> Run<Task> {
    if let Some(record) = tasks::load(tx, id)? {
        return tasks::render(tx, id, record);
    }
    let Some(new) = new else {
        return Err(Error::new(ErrorKind::NotFound, "the task was removed since").with("task", id).into());
    };
    let record = step::enqueue(new, 0, &QueueSettings::default(), tx.now())?;
    Ok(record.into_task(id, Some(new.params.clone())))
}
