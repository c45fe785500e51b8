//! Where everything of the queue lies; `core/FORMAT.md` describes every byte.

use bytes::Bytes;

use crate::engine::KeyRange;

use super::model::{TaskId, TaskState};

const TASK: u8 = 0x40;
const PARAMS: u8 = 0x41;
const READY: u8 = 0x42;
const DUE: u8 = 0x43;
const LEASE: u8 = 0x44;
const DONE: u8 = 0x45;
const QUEUE: u8 = 0x46;
const QUEUE_NAME: u8 = 0x47;
const FRONT: u8 = 0x48;
const UNIQUE: u8 = 0x49;
const COUNT: u8 = 0x4a;
const NEXT_TASK: u8 = 0x4b;
const NEXT_QUEUE: u8 = 0x4c;
const TRIMMED: u8 = 0x4d;
const RATE: u8 = 0x4e;
const OPENED: u8 = 0x4f;
const SCHEDULE: u8 = 0x50;
const SLOT: u8 = 0x51;
const RETRIES: u8 = 0x52;

/// Bytes of the time or rank and the task at the end of an index entry.
const PLACE: usize = 16;

fn key(kind: u8, parts: &[&[u8]]) -> Bytes {
    let mut key = Vec::with_capacity(1 + parts.iter().map(|part| part.len()).sum::<usize>());
    key.push(kind);
    for part in parts {
        key.extend_from_slice(part);
    }
    key.into()
}

/// Eight bytes that sort as the numbers do, also negative ones.
fn sortable(number: i64) -> [u8; 8] {
    (number.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

fn number(bytes: &[u8]) -> Option<i64> {
    Some((u64::from_be_bytes(bytes.try_into().ok()?) ^ (1 << 63)).cast_signed())
}

/// A task.
pub fn task(id: TaskId) -> Bytes {
    key(TASK, &[&id.to_be_bytes()])
}

/// The task in a key of [`task`]; none for any other key.
pub fn id_of_task(key: &[u8]) -> Option<TaskId> {
    let (&TASK, id) = key.split_first()? else { return None };
    id.try_into().ok().map(u64::from_be_bytes)
}

/// The parameters of a task that do not lie in its record.
pub fn params(id: TaskId) -> Bytes {
    key(PARAMS, &[&id.to_be_bytes()])
}

/// The entry of a task in the index of its state, ordered by `place` (a rank or a time) within its queue.
pub fn entry(queue: u16, state: TaskState, place: i64, id: TaskId) -> Bytes {
    let mut start = entries_prefix(queue, state);
    start.extend_from_slice(&sortable(place));
    start.extend_from_slice(&id.to_be_bytes());
    start.into()
}

/// The entries of a queue's tasks in a state.
pub fn entries(queue: u16, state: TaskState) -> KeyRange {
    KeyRange::prefix(&entries_prefix(queue, state))
}

/// The same, from place `from` on.
pub fn entries_from(queue: u16, state: TaskState, from: i64) -> KeyRange {
    let mut start = entries_prefix(queue, state);
    start.extend_from_slice(&sortable(from));
    KeyRange { start: start.into(), ..entries(queue, state) }
}

/// The same, from place `from` to `until`, itself included.
pub fn entries_between(queue: u16, state: TaskState, from: i64, until: i64) -> KeyRange {
    let end = entries_from(queue, state, until.saturating_add(1)).start;
    KeyRange { end: Some(end), ..entries_from(queue, state, from) }
}

/// Place and task in an entry of an index.
pub fn split_entry(key: &[u8]) -> Option<(i64, TaskId)> {
    let (_, rest) = key.split_at_checked(key.len().checked_sub(PLACE)?)?;
    let (place, id) = rest.split_at(8);
    Some((number(place)?, u64::from_be_bytes(id.try_into().ok()?)))
}

fn entries_prefix(queue: u16, state: TaskState) -> Vec<u8> {
    let queue = queue.to_be_bytes();
    let mut prefix = Vec::with_capacity(4 + PLACE);
    match state {
        TaskState::Waiting => prefix.push(READY),
        TaskState::Delayed => prefix.push(DUE),
        TaskState::Active => prefix.push(LEASE),
        TaskState::Completed | TaskState::Failed | TaskState::Cancelled => prefix.push(DONE),
    }
    prefix.extend_from_slice(&queue);
    if state.is_final() {
        prefix.push(state_byte(state));
    }
    prefix
}

const fn state_byte(state: TaskState) -> u8 {
    match state {
        TaskState::Waiting => 0,
        TaskState::Delayed => 1,
        TaskState::Active => 2,
        TaskState::Completed => 3,
        TaskState::Failed => 4,
        TaskState::Cancelled => 5,
    }
}

/// What is known about a queue.
pub fn queue(name: &str) -> Bytes {
    key(QUEUE, &[name.as_bytes()])
}

/// Every queue.
pub fn queues() -> KeyRange {
    KeyRange::prefix(&[QUEUE])
}

/// The queues behind the one of this name.
pub fn queues_behind(name: &str) -> KeyRange {
    let mut start = queue(name).to_vec();
    start.push(0);
    KeyRange { start: start.into(), ..queues() }
}

/// The name in a key of [`queues`].
pub fn name_of_queue(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.get(1..)?).ok()
}

/// The name behind a queue's number.
pub fn queue_name(queue: u16) -> Bytes {
    key(QUEUE_NAME, &[&queue.to_be_bytes()])
}

/// Where the claims of a queue begin to look.
pub fn front(queue: u16) -> Bytes {
    key(FRONT, &[&queue.to_be_bytes()])
}

/// Who holds a unique key.
pub fn unique(queue: u16, text: &str) -> Bytes {
    key(UNIQUE, &[&queue.to_be_bytes(), text.as_bytes()])
}

/// How many tasks of a queue are in a state.
pub fn count(queue: u16, state: TaskState) -> Bytes {
    key(COUNT, &[&queue.to_be_bytes(), &[state_byte(state)]])
}

/// The number that the next task gets.
pub fn next_task() -> Bytes {
    Bytes::from_static(&[NEXT_TASK])
}

/// The number that the next queue gets.
pub fn next_queue() -> Bytes {
    Bytes::from_static(&[NEXT_QUEUE])
}

/// How far a queue's tasks of an end state were removed because of their age or number.
pub fn trimmed(queue: u16, state: TaskState) -> Bytes {
    key(TRIMMED, &[&queue.to_be_bytes(), &[state_byte(state)]])
}

/// How much of a queue's rate is used.
pub fn rate(queue: u16) -> Bytes {
    key(RATE, &[&queue.to_be_bytes()])
}

/// How much of a queue's retry budget is used.
pub fn retries(queue: u16) -> Bytes {
    key(RETRIES, &[&queue.to_be_bytes()])
}

/// When the partition was opened, and by whom.
pub fn opened() -> Bytes {
    Bytes::from_static(&[OPENED])
}

/// A schedule.
pub fn schedule(name: &str) -> Bytes {
    key(SCHEDULE, &[name.as_bytes()])
}

/// Every schedule.
pub fn schedules() -> KeyRange {
    KeyRange::prefix(&[SCHEDULE])
}

/// When a schedule fires next.
pub fn slot(at: i64, name: &str) -> Bytes {
    key(SLOT, &[&sortable(at), name.as_bytes()])
}

/// Schedules that fire by `now`.
pub fn slots_by(now: i64) -> KeyRange {
    KeyRange { start: Bytes::from_static(&[SLOT]), end: Some(key(SLOT, &[&sortable(now.saturating_add(1))])) }
}

/// Time and name in a key of [`slots_by`].
pub fn split_slot(key: &[u8]) -> Option<(i64, &str)> {
    Some((number(key.get(1..9)?)?, std::str::from_utf8(key.get(9..)?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry that sorted wrongly would be claimed too late, or never found by the tick.
    #[test]
    fn entries_sort_by_place_then_task_and_stay_in_their_queue() {
        let places = [i64::MIN, -1, 0, 1, 1_700_000_000_000, i64::MAX];
        for state in TaskState::ALL {
            let all: Vec<_> = places.iter().flat_map(|&place| [1, 9].map(|id| entry(7, state, place, id))).collect();
            assert!(all.is_sorted() && all.iter().all(|key| entries(7, state).contains(key)));
            assert!(all.iter().all(|key| !entries(8, state).contains(key) && !entries(6, state).contains(key)));
            assert_eq!(split_entry(&all[0]), Some((i64::MIN, 1)));
        }
        let between = entries_between(7, TaskState::Delayed, 2, 5);
        for (place, inside) in [(1, false), (2, true), (5, true), (6, false)] {
            assert_eq!(between.contains(&entry(7, TaskState::Delayed, place, u64::MAX)), inside, "place={place}");
        }
    }

    #[test]
    fn parts_of_keys_are_found_again() {
        assert_eq!(id_of_task(&task(1_024)), Some(1_024));
        assert_eq!(id_of_task(&params(1_024)), None);
        assert_eq!(split_slot(&slot(-5, "é")), Some((-5, "é")));
        assert!(slots_by(5).contains(&slot(5, "z")) && !slots_by(5).contains(&slot(6, "a")));
        assert_eq!(name_of_queue(&queue("mail")), Some("mail"));
    }
}
