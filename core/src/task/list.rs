//! Lists: the indexes of the states one after another, and where a page ended.

use data_encoding::BASE64URL_NOPAD;

use crate::engine::{Direction, KeyRange};
use crate::error::{Error, Result};
use crate::partition::{Run, Transaction};

use super::model::{TaskList, TaskPage, TaskState};
use super::operation::TaskAnswer;
use super::{damaged, front, keys, limits, place, queue, tasks};

const DEFAULT_LIMIT: usize = 100;
/// A page ends once its tasks weigh this much.
const PAGE_BYTES: usize = 1 << 20;
const FORM: u8 = 1;

/// One page of tasks.
pub fn page(tx: &mut Transaction<'_>, wanted: &TaskList) -> Run<TaskAnswer> {
    let limit = wanted.limit.unwrap_or(DEFAULT_LIMIT);
    limits::check_many(limit)?;
    if limit == 0 {
        return Err(Error::invalid("a page holds at least one task").with("limit", limit).into());
    }
    let after = wanted.after.as_deref().map(decode).transpose()?;
    let mut queues: Vec<u16> = match &wanted.queue {
        Some(name) => queue::load(tx, name)?.map(|queue| queue.number).into_iter().collect(),
        None => queue::all(tx)?.into_iter().map(|(_, queue)| queue.number).collect(),
    };
    queues.sort_unstable();
    let ranges = queues.into_iter().flat_map(|queue| TaskState::ALL.map(|state| (queue, state)));
    let ranges = ranges.filter(|(_, state)| wanted.state.is_none_or(|wanted| wanted == *state));
    let mut page = TaskPage::default();
    let mut bytes = 0;
    for (n, (queue, state)) in ranges.enumerate() {
        let mut range = match state {
            TaskState::Waiting => front::load(tx, queue)?.waiting(queue),
            _ => keys::entries(queue, state),
        };
        if let Some(after) = &after {
            let Some(rest) = behind(range, n, after) else { continue };
            range = rest;
        }
        loop {
            let left = limit - page.tasks.len();
            let found = tx.scan(&range, Direction::Forward, left)?;
            for entry in &found {
                let (_, id) = keys::split_entry(&entry.key).ok_or_else(damaged)?;
                let Some(record) = tasks::load(tx, id)?.filter(|record| place::entry(id, record) == entry.key) else {
                    continue;
                };
                let task = tasks::render(tx, id, record)?;
                bytes += task.params.len() + task.result.as_ref().map_or(0, super::json::Json::len);
                page.tasks.push(task);
                if page.tasks.len() == limit || bytes >= PAGE_BYTES {
                    page.next = Some(encode(n, &entry.key));
                    return Ok(TaskAnswer::Page(page));
                }
            }
            let Some(last) = found.last().filter(|_| found.len() == left) else { break };
            range.start = front::behind(&last.key);
        }
    }
    Ok(TaskAnswer::Page(page))
}

/// What of range number `n` lies behind the cursor; none when nothing does.
pub fn behind(range: KeyRange, n: usize, after: &(usize, Vec<u8>)) -> Option<KeyRange> {
    match n.cmp(&after.0) {
        std::cmp::Ordering::Less => None,
        std::cmp::Ordering::Greater => Some(range),
        std::cmp::Ordering::Equal => {
            let start = front::behind(&after.1.clone().into()).max(range.start);
            Some(KeyRange { start, end: range.end })
        }
    }
}

/// The cursor of a range's number, and the key in it.
pub fn encode(n: usize, key: &[u8]) -> String {
    let n = u32::try_from(n).expect("there are few queues");
    let mut bytes = vec![FORM];
    bytes.extend_from_slice(&n.to_be_bytes());
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
    BASE64URL_NOPAD.encode(&bytes)
}

/// What [`encode`] wrote.
///
/// # Errors
/// `InvalidInput` for any other text.
pub fn decode(text: &str) -> Result<(usize, Vec<u8>)> {
    let malformed = || Error::invalid("not a cursor of a list of tasks");
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| malformed())?;
    let (content, sum) = bytes.split_last_chunk::<4>().ok_or_else(malformed)?;
    let Some((&[FORM, a, b, c, d], key)) = content.split_first_chunk::<5>() else { return Err(malformed()) };
    if crc32c::crc32c(content).to_be_bytes() != *sum {
        return Err(malformed());
    }
    Ok((u32::from_be_bytes([a, b, c, d]) as usize, key.to_vec()))
}
