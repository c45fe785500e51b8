//! The change feed of one partition: the events of committed records, with the values they put.

use bytes::Bytes;

use crate::engine::{CommittedRecord, Engine, Event, Sequence, Write};
use crate::error::Result;

/// Records that are looked through for one answer.
const RECORDS_A_READ: usize = 256;

/// A place in the feed: behind event number `events` of record `sequence` counted from one, or
/// behind the whole record when it has no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The record.
    pub sequence: Sequence,
    /// How many of its events have been seen.
    pub events: u32,
}

impl Position {
    /// Behind everything the record with this number means.
    pub fn behind(sequence: Sequence) -> Self {
        Self { sequence, events: u32::MAX }
    }
}

/// One event as it was committed.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Behind this event.
    pub position: Position,
    /// Engine time of its record in milliseconds.
    pub time: i64,
    /// What happened.
    pub event: Event,
    /// What its record put under the event's key.
    pub value: Option<Bytes>,
}

/// The events behind `position`, oldest first, and the position behind everything looked at.
///
/// Records without events move the position although they add nothing to the answer; otherwise a
/// reader would look through them again each time, until the log no longer keeps its position.
///
/// # Errors
/// `Expired` when the records behind `position` are no longer kept.
pub fn read(engine: &dyn Engine, position: Position) -> Result<(Vec<Committed>, Position)> {
    // A position inside a record needs that record again.
    let after = if position.events == u32::MAX { position.sequence } else { position.sequence.saturating_sub(1) };
    let records = engine.history(after, RECORDS_A_READ)?;
    let mut behind = position;
    let mut events = Vec::new();
    for CommittedRecord { sequence, record } in records {
        for (n, event) in (1_u32..).zip(&record.events) {
            let place = Position { sequence, events: n };
            if place > position {
                let value = value_put(&record.writes, &event.key);
                events.push(Committed { position: place, time: record.time, event: event.clone(), value });
            }
        }
        behind = Position::behind(sequence).max(behind);
    }
    Ok((events, behind))
}

fn value_put(writes: &[Write], key: &Bytes) -> Option<Bytes> {
    if key.is_empty() {
        return None;
    }
    let at = writes.binary_search_by(|write| write.key().cmp(key)).ok()?;
    match &writes[at] {
        Write::Put { value, .. } => Some(value.clone()),
        Write::Delete { .. } | Write::Add { .. } => None,
    }
}
