//! Keys that callers give to writes, so that repeating one does not repeat its effect.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::engine::{Direction, Sequence};
use crate::error::{Error, ErrorKind, Result};
use crate::operation::{Answer, CollectionName, Entry, Operation, Version};
use crate::partition::{Halt, Run, Transaction};
use crate::task;

use super::document::Document;
use super::{MAX_ANSWER_BYTES, batch, catalog, collection, damaged, expiry, get_all, keys};

/// An idempotency key is at most this long.
pub const MAX_KEY_BYTES: usize = 256;
/// A key and its answer are kept this long.
pub const KEPT_MS: i64 = 24 * 3_600 * 1_000;
/// A partition keeps about this many.
pub const MAX_KEPT: i64 = 1_000_000;

/// One sweep forgets at most this many.
const STEP: usize = 256;
/// One in so many calls looks at the counter, because each that does conflicts with every other
/// call with a key that another process makes at the same time.
const COUNTED_ONE_IN: u128 = 16;
const VERSION: u8 = 1;

/// What is kept of an answer. Documents are read again; versions are never stored, because an
/// engine may number the record otherwise than its writer expected.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Kept {
    /// The document `id` was written; its version is that of the entry which says so.
    Written { id: String },
    /// Whether there was something to delete.
    Deleted(bool),
    /// A step of background work, and whether there was more.
    More(bool),
    /// A read, or the state of a collection: given afresh.
    Again,
    /// Of each operation.
    Batch(Vec<Kept>),
    /// Of a call of the queue.
    Task(task::Kept),
}

#[derive(Serialize, Deserialize)]
struct Record {
    digest: u128,
    at: i64,
    kept: Kept,
}

/// Runs `operation` unless it ran under `key` in the last 24 h; then its answer is given again.
///
/// A repeated answer has the version that the first one had, with the document as it is by now; of a
/// document that is gone, or that would make the answer of a batch too large, only the id.
///
/// # Errors
/// `Conflict` when the key came with another operation; `Overloaded` when a million keys are kept;
/// `TooLarge` when what a repeated batch reads has grown beyond one answer; whatever the operation answers.
pub fn run_idempotent(operation: &Operation, key: &str, tx: &mut Transaction<'_>) -> Run<Answer> {
    if operation.is_read() {
        return super::run(operation, tx);
    }
    check_key(key)?;
    let digest = digest(operation);
    if let Some(answer) = begin(tx, key, digest, operation)? {
        return Ok(answer);
    }
    let answer = super::run(operation, tx)?;
    // Also where nothing was written: a delete that found nothing and is repeated without its key would
    // remove what somebody else has created since. A refusal keeps nothing and is answered afresh.
    if !only_reads(operation) {
        finish(tx, key, digest, &answer)?;
    }
    Ok(answer)
}

fn only_reads(operation: &Operation) -> bool {
    match operation {
        Operation::Batch(operations) => operations.iter().all(Operation::is_read),
        single => single.is_read(),
    }
}

/// The answer that `key` got, where it did.
fn begin(tx: &mut Transaction<'_>, key: &str, digest: u128, operation: &Operation) -> Run<Option<Answer>> {
    let mut found = get_all(tx, [keys::answer(key), keys::answers_full()].into_iter())?.into_iter();
    let (stored, full) = (found.next().flatten(), found.next().flatten());
    if let Some(stored) = stored {
        let record = decode(&stored.value)?;
        if record.at.saturating_add(KEPT_MS) > tx.now() {
            if record.digest != digest {
                let error = Error::new(ErrorKind::Conflict, "the idempotency key came with another operation before");
                return Err(error.with("key", key).into());
            }
            return replay(tx, operation, record.kept, stored.sequence).map(Some);
        }
    }
    if full.is_some() {
        let error = Error::new(ErrorKind::Overloaded, "as many idempotency keys are kept as can be; retry later");
        return Err(error.with("limit", MAX_KEPT).into());
    }
    Ok(None)
}

/// Keeps the answer under `key`.
fn finish(tx: &mut Transaction<'_>, key: &str, digest: u128, answer: &Answer) -> Run<()> {
    let at = tx.now();
    let mut more = 1;
    if let Some(old) = tx.get(&keys::answer(key))? {
        // Only one that is no longer valid is still here.
        tx.delete(keys::answer_time(decode(&old.value)?.at, key))?;
        more = 0;
    }
    let record = Record { digest, at, kept: keep(answer) };
    let bytes = postcard::to_extend(&record, vec![VERSION]).expect("a kept answer has a binary form");
    tx.put(keys::answer(key), bytes.into())?;
    tx.put(keys::answer_time(at, key), Bytes::new())?;
    if more > 0 {
        tx.add(keys::answer_count(), more)?;
    }
    // By the key, not by the content: callers who send one body again and again under new keys count as well.
    if xxh3_128(key.as_bytes()).is_multiple_of(COUNTED_ONE_IN) && tx.counter(&keys::answer_count())? >= MAX_KEPT {
        tx.put(keys::answers_full(), Bytes::new())?;
    }
    Ok(())
}

/// Forgets keys that are past their time; answers whether there are more.
pub fn sweep(tx: &mut Transaction<'_>) -> Run<bool> {
    let until = tx.now().saturating_sub(KEPT_MS);
    if until < 0 {
        return Ok(false);
    }
    let found = tx.scan(&keys::answers_by(until), Direction::Forward, STEP)?;
    let mut forgotten = 0;
    for entry in &found {
        if expiry::is_enough(tx) {
            break;
        }
        let key = keys::key_in_answer_time(&entry.key).ok_or_else(damaged)?.to_owned();
        tx.delete(keys::answer(&key))?;
        tx.delete(entry.key.clone())?;
        forgotten += 1;
    }
    if forgotten > 0 {
        tx.add(keys::answer_count(), -forgotten)?;
    }
    if tx.get(&keys::answers_full())?.is_some() && tx.counter(&keys::answer_count())? < MAX_KEPT {
        tx.delete(keys::answers_full())?;
    }
    Ok(found.len() == STEP || usize::try_from(forgotten).is_ok_and(|forgotten| forgotten < found.len()))
}

fn check_key(key: &str) -> Result<()> {
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        return Err(Error::invalid("an idempotency key is 1 to 256 bytes").with("bytes", key.len()));
    }
    Ok(())
}

/// What makes two calls the same: the operation as JSON, which holds documents as they were parsed.
fn digest(operation: &Operation) -> u128 {
    xxh3_128(&serde_json::to_vec(operation).expect("an operation has a JSON text"))
}

/// What is kept of `answer`.
pub(super) fn keep(answer: &Answer) -> Kept {
    match answer {
        Answer::Written(entry) => Kept::Written { id: entry.id.clone() },
        Answer::Deleted(deleted) => Kept::Deleted(*deleted),
        Answer::More(more) => Kept::More(*more),
        Answer::Batch(answers) => Kept::Batch(answers.iter().map(keep).collect()),
        Answer::Task(answer) => Kept::Task(task::keep(answer)),
        Answer::Entry(_)
        | Answer::Entries(_)
        | Answer::Count(_)
        | Answer::Page(_)
        | Answer::Collection(_)
        | Answer::Collections(_) => Kept::Again,
    }
}

/// The answer of `operation` again, from what was kept of it in the entry that record `own` wrote.
pub(super) fn replay(tx: &mut Transaction<'_>, operation: &Operation, kept: Kept, own: Sequence) -> Run<Answer> {
    match (kept, operation) {
        (
            Kept::Written { id },
            Operation::Create { collection, .. }
            | Operation::Replace { collection, .. }
            | Operation::Update { collection, .. },
        ) => written(tx, collection, &id, own),
        (Kept::Deleted(deleted), _) => Ok(Answer::Deleted(deleted)),
        (Kept::More(more), _) => Ok(Answer::More(more)),
        (Kept::Task(kept), Operation::Task(operation)) => task::replay(tx, operation, kept).map(Answer::Task),
        (Kept::Again, Operation::Declare { collection, .. } | Operation::DropIndex { collection, .. }) => {
            catalog::describe(tx, collection)
        }
        (Kept::Again, operation) if operation.is_read() => super::run(operation, tx),
        (Kept::Batch(kept), Operation::Batch(operations)) if kept.len() == operations.len() => {
            replay_batch(tx, operations, kept, own)
        }
        _ => Err(damaged().into()),
    }
}

/// The answers of a batch. Documents may have grown since, so the bytes are counted again: reads come first,
/// because what was written can still be told by id and version when its text has no room left.
fn replay_batch(tx: &mut Transaction<'_>, operations: &[Operation], kept: Vec<Kept>, own: Sequence) -> Run<Answer> {
    let mut answers = vec![Answer::More(false); kept.len()];
    let mut missing = false;
    let mut bytes = 0;
    let (reads, writes): (Vec<_>, Vec<_>) =
        kept.into_iter().zip(operations).enumerate().partition(|(_, (_, operation))| operation.is_read());
    for (n, (kept, operation)) in reads.into_iter().chain(writes) {
        let brief = match &kept {
            Kept::Written { id } => Some(Answer::Written(only_id(id, own))),
            _ => None,
        };
        let answer = match (replay(tx, operation, kept, own), brief) {
            (Ok(answer), Some(brief)) if bytes + batch::bytes(&answer) > MAX_ANSWER_BYTES => brief,
            (Ok(answer), _) => answer,
            // The others still say what they need; what this one weighs counts in the run that has it.
            (Err(Halt::NeedsRead), _) => {
                missing = true;
                continue;
            }
            (Err(refused), _) => return Err(refused),
        };
        bytes += batch::bytes(&answer);
        if bytes > MAX_ANSWER_BYTES && operation.is_read() {
            let error = Error::new(ErrorKind::TooLarge, "the batch was done, but what it reads is too much by now");
            return Err(error.with("operation", n).with("limit", MAX_ANSWER_BYTES).into());
        }
        answers[n] = answer;
    }
    if missing { Err(Halt::NeedsRead) } else { Ok(Answer::Batch(answers)) }
}

fn written(tx: &mut Transaction<'_>, name: &CollectionName, id: &str, own: Sequence) -> Run<Answer> {
    // The version is never above that of the text, so that a write which names it cannot undo another one.
    Ok(Answer::Written(match collection::get(tx, name, id)? {
        Answer::Entry(Some(entry)) => Entry { version: Version(own), ..entry },
        _ => only_id(id, own),
    }))
}

fn only_id(id: &str, own: Sequence) -> Entry {
    let document = Document::new(&serde_json::json!({ "id": id })).expect("an id alone is a document");
    Entry { id: id.to_owned(), version: Version(own), document }
}

fn decode(bytes: &[u8]) -> Result<Record> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(|error| damaged().caused_by(error)),
        _ => Err(damaged()),
    }
}
