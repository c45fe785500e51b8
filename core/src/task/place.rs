//! Where a task is found: keys that follow from its record alone, kept true by the one function that writes tasks.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;

use crate::engine::{Event, EventKind, KeyValue};
use crate::partition::{Run, Transaction};

use super::front;
use super::json::Json;
use super::keys;
use super::model::{TaskId, TaskState};
use super::planted::{self, Planted};
use super::record::{Params, Record};
use super::step;

/// The name that events of tasks carry on the change feed; no collection can have it.
pub const TASK_EVENTS: &str = "kappa:tasks";

/// What a write of a task means to readers of the change feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing that anybody waits for, such as a renewed lease.
    No,
    /// This.
    Yes(EventKind),
}

/// The key of the task in the index of its state: exactly one at any time.
pub fn entry(id: TaskId, record: &Record) -> Bytes {
    let place = match record.state {
        TaskState::Waiting => step::rank(record),
        TaskState::Delayed => record.due,
        TaskState::Active => record.lease.map_or(i64::MIN, |held| held.expires),
        TaskState::Completed | TaskState::Failed | TaskState::Cancelled => record.finished.unwrap_or(record.created),
    };
    keys::entry(record.queue, record.state, place, id)
}

/// What an entry says besides where it lies: in those of ended tasks whether parameters lie apart, so that the task can
/// be removed without being read.
fn entry_value(record: &Record) -> Bytes {
    let apart = record.state.is_final() && record.params == Params::Apart;
    Bytes::from_static(if apart { b"p" } else { b"" })
}

/// Removes a task that ended, by its entry alone.
pub fn forget(tx: &mut Transaction<'_>, queue: u16, state: TaskState, entry: &KeyValue, id: TaskId) -> Run<()> {
    tx.delete(entry.key.clone())?;
    if !entry.value.is_empty() {
        tx.delete(keys::params(id))?;
    }
    tx.add(keys::count(queue, state), -1)?;
    tx.delete(keys::task(id))?;
    tell(tx, id, EventKind::Expired, Bytes::new())
}

/// Writes a new task with its entry, its unique key, its count and its parameters.
pub fn add(tx: &mut Transaction<'_>, id: TaskId, record: &Record, params: &Json) -> Run<()> {
    let entry = entry(id, record);
    move_front(tx, record, &entry)?;
    tx.put(entry, entry_value(record))?;
    if let Some(unique) = &record.unique {
        tx.put(keys::unique(record.queue, unique), Bytes::copy_from_slice(&id.to_be_bytes()))?;
    }
    if record.params == Params::Apart {
        tx.put(keys::params(id), params.bytes())?;
    }
    tx.add(keys::count(record.queue, record.state), 1)?;
    put(tx, id, record, Told::Yes(EventKind::Created))
}

/// Writes the next state of a task, and moves what follows from it.
pub fn replace(tx: &mut Transaction<'_>, id: TaskId, old: &Record, new: &Record, told: Told) -> Run<()> {
    let (before, after) = (entry(id, old), entry(id, new));
    if before != after {
        move_front(tx, new, &after)?;
        let kept = planted::is(Planted::ClaimLeavesEntry) && new.state == TaskState::Active
            || planted::is(Planted::RenewLeavesEntry) && old.state == new.state;
        if !kept {
            tx.delete(before)?;
        }
        tx.put(after, entry_value(new))?;
    }
    if old.state != new.state {
        if !planted::is(Planted::CountOnlyUp) {
            tx.add(keys::count(old.queue, old.state), -1)?;
        }
        tx.add(keys::count(new.queue, new.state), 1)?;
    }
    if let Some(unique) = &new.unique {
        match (holds_unique(old), holds_unique(new)) {
            (true, false) if !planted::is(Planted::UniqueKept) => tx.delete(keys::unique(new.queue, unique))?,
            (false, true) => {
                tx.put(keys::unique(new.queue, unique), Bytes::copy_from_slice(&id.to_be_bytes()))?;
            }
            _ => {}
        }
    }
    put(tx, id, new, told)
}

/// Removes a task and everything that follows from it.
pub fn remove(tx: &mut Transaction<'_>, id: TaskId, old: &Record) -> Run<()> {
    tx.delete(entry(id, old))?;
    if let Some(unique) = &old.unique
        && holds_unique(old)
    {
        tx.delete(keys::unique(old.queue, unique))?;
    }
    if old.params == Params::Apart {
        tx.delete(keys::params(id))?;
    }
    tx.add(keys::count(old.queue, old.state), -1)?;
    tx.delete(keys::task(id))?;
    tell(tx, id, EventKind::Deleted, Bytes::new())
}

/// Whether nobody else may have its unique key.
pub fn holds_unique(record: &Record) -> bool {
    match record.state {
        TaskState::Active => !planted::is(Planted::UniqueFreedAtClaim),
        state => !state.is_final(),
    }
}

fn put(tx: &mut Transaction<'_>, id: TaskId, record: &Record, told: Told) -> Run<()> {
    let key = keys::task(id);
    tx.put(key.clone(), record.encode())?;
    match told {
        Told::No => Ok(()),
        Told::Yes(kind) => tell(tx, id, kind, key),
    }
}

fn tell(tx: &mut Transaction<'_>, id: TaskId, kind: EventKind, key: Bytes) -> Run<()> {
    static NAME: LazyLock<Arc<str>> = LazyLock::new(|| TASK_EVENTS.into());
    tx.emit(Event { collection: Arc::clone(&NAME), id: id.to_string().into(), kind, key })
}

/// A claim begins to look at the front, so whatever will wait there must not lie before it.
fn move_front(tx: &mut Transaction<'_>, record: &Record, entry: &Bytes) -> Run<()> {
    if record.state == TaskState::Waiting { front::move_back(tx, record.queue, entry) } else { Ok(()) }
}
