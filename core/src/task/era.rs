//! Who has owned the partition since when.

use bytes::Bytes;

use crate::error::Result;
use crate::partition::{Run, Transaction};

use super::operation::TaskAnswer;
use super::step::Era;
use super::{damaged, keys, queue, tick};

const BYTES: usize = 24;

/// The era in which the operation runs.
pub fn load(tx: &mut Transaction<'_>) -> Run<Era> {
    Ok(stored(tx)?.map_or_else(Era::default, |(era, _)| era))
}

/// Begins an era, once there is a queue, and ends leases whose workers went with the owner before.
pub fn open(tx: &mut Transaction<'_>, instance: u64) -> Run<TaskAnswer> {
    let queues = queue::all(tx)?;
    let mut era = match stored(tx)? {
        Some((era, owner)) if owner == instance => era,
        _ if queues.is_empty() => return Ok(TaskAnswer::More(false)),
        before => {
            let dead = before.map_or(0, |(_, owner)| owner);
            let era = Era { opened: tx.now(), dead };
            save(tx, era, instance)?;
            era
        }
    };
    if era.dead == 0 {
        return Ok(TaskAnswer::More(false));
    }
    for (_, queue) in queues {
        if tick::end_leases_of_the_dead(tx, queue.number, &era)? {
            return Ok(TaskAnswer::More(true));
        }
    }
    // Nobody is left to look for; the next look need not read every lease again.
    era.dead = 0;
    save(tx, era, instance)?;
    Ok(TaskAnswer::More(false))
}

/// Whether the handle `instance` has begun its era; true while there is no queue to which it would matter.
pub fn is_begun(tx: &mut Transaction<'_>, instance: u64, queues: usize) -> Run<bool> {
    Ok(queues == 0 || stored(tx)?.is_some_and(|(_, owner)| owner == instance))
}

fn save(tx: &mut Transaction<'_>, era: Era, instance: u64) -> Run<()> {
    let mut bytes = Vec::with_capacity(BYTES);
    bytes.extend_from_slice(&era.opened.to_be_bytes());
    bytes.extend_from_slice(&era.dead.to_be_bytes());
    bytes.extend_from_slice(&instance.to_be_bytes());
    tx.put(keys::opened(), bytes.into())
}

/// The era, and the handle that owns the partition since.
fn stored(tx: &mut Transaction<'_>) -> Run<Option<(Era, u64)>> {
    let Some(stored) = tx.get(&keys::opened())? else { return Ok(None) };
    Ok(Some(decode(&stored.value)?))
}

fn decode(bytes: &Bytes) -> Result<(Era, u64)> {
    let parts: &[u8; BYTES] = bytes[..].try_into().map_err(|_| damaged())?;
    let number = |at: usize| u64::from_be_bytes(parts[at..at + 8].try_into().expect("eight bytes"));
    Ok((Era { opened: number(0).cast_signed(), dead: number(8) }, number(16)))
}
