//! Where the claims of a queue begin to look, so that none walks over what others took.

use bytes::Bytes;

use crate::engine::KeyRange;
use crate::error::{Error, ErrorKind, Result};
use crate::partition::{Run, Transaction};

use super::keys;
use super::model::TaskState;
use super::planted::{self, Planted};

/// The front of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Front {
    /// Claims begin here. What waits before this key was passed over because it could not be read.
    pub first: Bytes,
    /// Everything that was due by then has been promoted.
    pub promoted: i64,
}

impl Front {
    /// The front of a queue that nobody has claimed from yet.
    pub fn start(queue: u16) -> Self {
        Self { first: keys::entries(queue, TaskState::Waiting).start, promoted: i64::MIN }
    }

    /// Where waiting tasks are.
    pub fn waiting(&self, queue: u16) -> KeyRange {
        KeyRange { start: self.first.clone(), ..keys::entries(queue, TaskState::Waiting) }
    }

    /// Where nothing waits but what claims have passed over.
    pub fn passed_over(&self, queue: u16) -> KeyRange {
        KeyRange { end: Some(self.first.clone()), ..keys::entries(queue, TaskState::Waiting) }
    }

    /// Where tasks are that became due since the last promotion.
    pub fn due(&self, queue: u16, now: i64) -> KeyRange {
        let from = if planted::is(Planted::DueNotPromoted) { now } else { self.promoted };
        keys::entries_between(queue, TaskState::Delayed, from, now)
    }
}

/// The front of a queue.
pub fn load(tx: &mut Transaction<'_>, queue: u16) -> Run<Front> {
    let Some(stored) = tx.get(&keys::front(queue))? else { return Ok(Front::start(queue)) };
    Ok(decode(&stored.value)?)
}

/// Writes the front of a queue.
pub fn save(tx: &mut Transaction<'_>, queue: u16, front: &Front) -> Run<()> {
    let mut bytes = Vec::with_capacity(8 + front.first.len());
    bytes.extend_from_slice(&front.promoted.to_be_bytes());
    bytes.extend_from_slice(&front.first);
    tx.put(keys::front(queue), bytes.into())
}

/// Moves the front back to `entry`, which is about to wait, where it lies before it.
pub fn move_back(tx: &mut Transaction<'_>, queue: u16, entry: &Bytes) -> Run<()> {
    if planted::is(Planted::FrontNotMovedBack) {
        return Ok(());
    }
    let Some(stored) = tx.get(&keys::front(queue))? else { return Ok(()) };
    let front = decode(&stored.value)?;
    if *entry < front.first { save(tx, queue, &Front { first: entry.clone(), ..front }) } else { Ok(()) }
}

/// The smallest key behind `entry`.
pub fn behind(entry: &Bytes) -> Bytes {
    let mut key = Vec::with_capacity(entry.len() + 1);
    key.extend_from_slice(entry);
    key.push(0);
    key.into()
}

fn decode(bytes: &Bytes) -> Result<Front> {
    let promoted = bytes.first_chunk().map(|promoted| i64::from_be_bytes(*promoted));
    let damaged = || Error::new(ErrorKind::Damaged, "the front of a queue cannot be read");
    Ok(Front { promoted: promoted.ok_or_else(damaged)?, first: bytes.slice(8..) })
}
