//! Keys that callers give to writes, so that repeating one does not repeat its effect.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::engine::{Direction, Sequence};
use crate::error::{Error, ErrorKind, Result};
use crate::operation::{Answer, CollectionName, Entry, Operation, Version};
use crate::partition::{Halt, Run, Transaction};

use super::document::Document;
use super::{catalog, collection, damaged, expiry, get_all, keys};

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
enum Kept {
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
}

#[derive(Serialize, Deserialize)]
struct Record {
    digest: u128,
    at: i64,
    kept: Kept,
}

/// Runs `operation` unless it ran under `key` in the last 24 h; then its answer is given again.
///
/// A repeated answer has the version that the first one had, with the document as it is by now;
/// of a document that is gone only the id.
///
/// # Errors
/// `Conflict` when the key came with another operation; `Overloaded` when a million keys are kept;
/// whatever the operation answers.
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
    // What wrote nothing may run again, and a refusal is answered afresh.
    if !tx.is_read_only() {
        finish(tx, key, digest, &answer)?;
    }
    Ok(answer)
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
    if digest.is_multiple_of(COUNTED_ONE_IN) && tx.counter(&keys::answer_count())? >= MAX_KEPT {
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

fn keep(answer: &Answer) -> Kept {
    match answer {
        Answer::Written(entry) => Kept::Written { id: entry.id.clone() },
        Answer::Deleted(deleted) => Kept::Deleted(*deleted),
        Answer::More(more) => Kept::More(*more),
        Answer::Batch(answers) => Kept::Batch(answers.iter().map(keep).collect()),
        Answer::Entry(_)
        | Answer::Entries(_)
        | Answer::Count(_)
        | Answer::Page(_)
        | Answer::Collection(_)
        | Answer::Collections(_) => Kept::Again,
    }
}

fn replay(tx: &mut Transaction<'_>, operation: &Operation, kept: Kept, own: Sequence) -> Run<Answer> {
    match (kept, operation) {
        (
            Kept::Written { id },
            Operation::Create { collection, .. }
            | Operation::Replace { collection, .. }
            | Operation::Update { collection, .. },
        ) => written(tx, collection, id, own),
        (Kept::Deleted(deleted), _) => Ok(Answer::Deleted(deleted)),
        (Kept::More(more), _) => Ok(Answer::More(more)),
        (Kept::Again, Operation::Declare { collection, .. } | Operation::DropIndex { collection, .. }) => {
            catalog::describe(tx, collection)
        }
        (Kept::Again, operation) if operation.is_read() => super::run(operation, tx),
        (Kept::Batch(kept), Operation::Batch(operations)) if kept.len() == operations.len() => {
            let mut answers = Vec::with_capacity(kept.len());
            let mut missing = false;
            for (kept, operation) in kept.into_iter().zip(operations) {
                match replay(tx, operation, kept, own) {
                    Ok(answer) => answers.push(answer),
                    Err(Halt::NeedsRead) => missing = true,
                    Err(refused) => return Err(refused),
                }
            }
            if missing { Err(Halt::NeedsRead) } else { Ok(Answer::Batch(answers)) }
        }
        _ => Err(damaged().into()),
    }
}

fn written(tx: &mut Transaction<'_>, name: &CollectionName, id: String, own: Sequence) -> Run<Answer> {
    let document = match collection::get(tx, name, &id)? {
        Answer::Entry(Some(entry)) => entry.document,
        _ => Document::from_fields(serde_json::Map::from_iter([("id".to_owned(), id.clone().into())])),
    };
    // The version is never above that of the text, so that a write which names it cannot undo another one.
    Ok(Answer::Written(Entry { id, version: Version(own), document }))
}

fn decode(bytes: &[u8]) -> Result<Record> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(|error| damaged().caused_by(error)),
        _ => Err(damaged()),
    }
}
