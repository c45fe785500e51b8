//! Calls of other processes, numbered so that one repeated after its owner died takes effect once.

use serde::{Deserialize, Serialize};

use crate::engine::Direction;
use crate::error::{Error, ErrorKind};
use crate::operation::{Answer, Operation};
use crate::partition::{Run, Transaction};

use super::idempotency::{self, Kept};
use super::{damaged, expiry, keys};

/// What a session kept is forgotten this long after the session began; see [`SESSION_MS`].
pub const KEPT_MS: i64 = 3 * 3_600 * 1_000;
/// A session numbers new calls this long; then its process begins another one. A call that is repeated later than
/// the rest of [`KEPT_MS`] is refused, because nobody knows any more whether it was done.
pub const SESSION_MS: u64 = 3_600 * 1_000;

/// One sweep forgets at most this many.
const STEP: usize = 256;
const VERSION: u8 = 1;

/// The name of a session: engine time when it began, then chance.
pub type SessionId = [u8; 16];

/// Which call of which session this is.
///
/// A process has at most so many calls under way as there are slots, each in a slot of its own: the answer kept in a
/// slot is overwritten by the next call there, which is sent only once the one before is over. So nothing has
/// to be acknowledged or removed, and a process that writes one document after another keeps one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionCall {
    /// Which session.
    pub session: SessionId,
    /// Where its answer is kept.
    pub slot: u16,
    /// Rises with each call of the session.
    pub number: u64,
}

#[derive(Serialize, Deserialize)]
struct Record {
    number: u64,
    kept: Kept,
}

/// The name of a session that begins at engine time `now`.
pub fn session_id(now: i64, chance: [u8; 8]) -> SessionId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&u64::try_from(now).unwrap_or(0).to_be_bytes());
    id[8..].copy_from_slice(&chance);
    id
}

/// Runs `operation` unless it ran as this call before; then its answer is given again.
///
/// The answer is kept in the record of the operation itself, so that both are durable or neither. An operation that
/// wrote nothing keeps nothing and may run again: nobody has seen its first answer.
///
/// # Errors
/// `Ambiguous` when the session is so old, or went on so far, that nobody knows whether the call was done; whatever
/// the operation answers.
pub fn run_in_session(operation: &Operation, call: &SessionCall, tx: &mut Transaction<'_>) -> Run<Answer> {
    if operation.is_read() {
        return super::run(operation, tx);
    }
    if began(&call.session) <= tx.now().saturating_sub(KEPT_MS) {
        let error = Error::new(ErrorKind::Ambiguous, "the call is too old to be repeated; read before trying again");
        return Err(error.into());
    }
    let key = keys::session(&call.session, call.slot);
    if let Some(stored) = tx.get(&key)? {
        let record = match stored.value.split_first() {
            Some((&VERSION, rest)) => {
                postcard::from_bytes::<Record>(rest).map_err(|error| damaged().caused_by(error))?
            }
            _ => return Err(damaged().into()),
        };
        if record.number == call.number {
            return idempotency::replay(tx, operation, record.kept, stored.sequence);
        }
        if record.number > call.number {
            let error = Error::new(ErrorKind::Ambiguous, "the call was given up before it arrived");
            return Err(error.into());
        }
    }
    let answer = super::run(operation, tx)?;
    if !tx.is_read_only() {
        let record = Record { number: call.number, kept: idempotency::keep(&answer) };
        let bytes = postcard::to_extend(&record, vec![VERSION]).expect("a kept answer has a binary form");
        tx.put(key, bytes.into())?;
    }
    Ok(answer)
}

fn began(session: &SessionId) -> i64 {
    let time = u64::from_be_bytes(session[..8].try_into().expect("eight bytes"));
    i64::try_from(time).unwrap_or(i64::MAX)
}

/// Forgets sessions that are past their time; answers whether there are more.
pub fn sweep(tx: &mut Transaction<'_>) -> Run<bool> {
    let until = tx.now().saturating_sub(KEPT_MS);
    if until < 0 {
        return Ok(false);
    }
    let found = tx.scan(&keys::sessions_by(until), Direction::Forward, STEP)?;
    for entry in &found {
        if expiry::is_enough(tx) {
            return Ok(true);
        }
        tx.delete(entry.key.clone())?;
    }
    Ok(found.len() == STEP)
}
