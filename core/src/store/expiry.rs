//! When documents end, and the sweep that removes what ended.

use bytes::Bytes;

use crate::engine::Direction;
use crate::error::{Error, Result};
use crate::operation::Answer;
use crate::partition::{Halt, Run, Transaction};

use super::index::Scope;
use super::{build, catalog, collection, idempotency, keys, session};

/// A document lives at most 100 years.
pub const MAX_TTL_MS: u64 = 100 * 365 * 24 * 3_600 * 1_000;

/// One sweep looks at this many expired documents.
const STEP: usize = 256;
/// A step of background work ends once it has written this much, well below what one operation may.
const STEP_BYTES: usize = 256 << 10;

/// When a document written at `now` ends.
///
/// # Errors
/// `InvalidInput` for a life of 0 ms or over 100 years.
pub fn end(now: i64, ttl_ms: Option<u64>) -> Result<Option<i64>> {
    let Some(ttl_ms) = ttl_ms else { return Ok(None) };
    check(ttl_ms)?;
    Ok(Some(now.saturating_add_unsigned(ttl_ms)))
}

/// Checks a time to live.
///
/// # Errors
/// As [`end`].
pub fn check(ttl_ms: u64) -> Result<()> {
    if ttl_ms == 0 || ttl_ms > MAX_TTL_MS {
        return Err(Error::invalid("a time to live is 1 ms to 100 years").with("ttl_ms", ttl_ms));
    }
    Ok(())
}

/// Moves a document's entry in order of time.
pub fn maintain(tx: &mut Transaction<'_>, collection: u32, id: &str, old: Option<i64>, new: Option<i64>) -> Run<()> {
    if old == new {
        return Ok(());
    }
    if let Some(old) = old {
        tx.delete(keys::expiry(old, collection, id))?;
    }
    match new {
        Some(new) => tx.put(keys::expiry(new, collection, id), Bytes::new()),
        None => Ok(()),
    }
}

/// Removes some of what ended: documents, old idempotency keys and sessions, entries of dropped indexes.
pub fn sweep(tx: &mut Transaction<'_>) -> Run<Answer> {
    let documents = sweep_documents(tx)?;
    let answers = idempotency::sweep(tx)?;
    let entries = build::sweep_dropped(tx)?;
    let sessions = session::sweep(tx)?;
    Ok(Answer::More(documents || answers || entries || sessions))
}

/// Whether a step of background work has written as much as it should.
pub fn is_enough(tx: &Transaction<'_>) -> bool {
    tx.written() >= STEP_BYTES
}

fn sweep_documents(tx: &mut Transaction<'_>) -> Run<bool> {
    let found = tx.scan(&keys::expired_by(tx.now()), Direction::Forward, STEP)?;
    let mut missing = false;
    for entry in &found {
        if is_enough(tx) {
            return if missing { Err(Halt::NeedsRead) } else { Ok(true) };
        }
        match sweep_document(tx, &entry.key) {
            Err(Halt::NeedsRead) => missing = true,
            other => other?,
        }
    }
    if missing { Err(Halt::NeedsRead) } else { Ok(found.len() == STEP) }
}

fn sweep_document(tx: &mut Transaction<'_>, entry: &Bytes) -> Run<()> {
    let (number, id) = keys::split_expiry(entry).ok_or_else(super::damaged)?;
    let name = catalog::name_of(tx, number)?.ok_or_else(super::damaged)?;
    let catalog = catalog::load(tx, name.as_str())?.ok_or_else(super::damaged)?;
    match collection::find(tx, catalog.number, id)? {
        Some(old) if old.envelope.is_expired(tx.now()) => {
            collection::expire(tx, Scope { name: &name, catalog: &catalog }, id, &old.envelope)
        }
        // An entry that no document stands behind would be found again by every sweep.
        _ => tx.delete(entry.clone()),
    }
}
