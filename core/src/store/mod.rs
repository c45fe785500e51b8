//! The rules of the domain.

pub mod document;
pub mod handle;

mod batch;
mod build;
mod catalog;
mod collection;
mod cursor;
mod envelope;
mod expiry;
mod fields;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod idempotency;
mod index;
mod json_text;
mod keys;
mod list;
mod merge_patch;
mod order_value;
pub mod products;
pub mod session;
mod users;

#[cfg(test)]
mod tests;

use bytes::Bytes;

use crate::engine::Versioned;
use crate::error::{Error, ErrorKind, Result};
use crate::operation::{Answer, Operation};
use crate::partition::{Halt, Run, Transaction};

use document::Document;

pub use idempotency::run_idempotent;
pub use json_text::check_value as check_json;

/// The collection whose documents are products.
pub const PRODUCTS: &str = "products";
/// The collection whose documents are users.
pub const USERS: &str = "users";

/// Documents of one answer are at most this many bytes together; lists end their pages earlier.
pub const MAX_ANSWER_BYTES: usize = 16 << 20;

/// What `operation` does and answers.
pub fn run(operation: &Operation, tx: &mut Transaction<'_>) -> Run<Answer> {
    match operation {
        Operation::Batch(operations) => batch::run(tx, operations),
        single => run_one(single, tx, 0),
    }
}

/// Runs anything but a batch; `n` is its place in one.
fn run_one(operation: &Operation, tx: &mut Transaction<'_>, n: u16) -> Run<Answer> {
    match operation {
        Operation::Create { collection, document, ttl_ms } => collection::create(tx, collection, document, *ttl_ms, n),
        Operation::Replace { collection, id, document, if_version, ttl_ms } => {
            let wanted = collection::Wanted { collection, id, if_version: *if_version };
            collection::replace(tx, &wanted, document, *ttl_ms)
        }
        Operation::Update { collection, id, patch, if_version, ttl_ms } => {
            let wanted = collection::Wanted { collection, id, if_version: *if_version };
            collection::update(tx, &wanted, patch, *ttl_ms)
        }
        Operation::Delete { collection, id, if_version } => {
            collection::delete(tx, &collection::Wanted { collection, id, if_version: *if_version })
        }
        Operation::Get { collection, id } => collection::get(tx, collection, id),
        Operation::GetMany { collection, ids } => collection::get_many(tx, collection, ids),
        Operation::Count { collection } => collection::count(tx, collection),
        Operation::List(request) => list::page(tx, request),
        Operation::Declare { collection, definition } => build::declare(tx, collection, definition, PARTITIONS),
        Operation::DropIndex { collection, index } => build::drop_index(tx, collection, index),
        Operation::Describe { collection } => catalog::describe(tx, collection),
        Operation::Collections => catalog::collections(tx),
        Operation::Batch(_) => Err(Error::invalid("a batch holds no batch").into()),
        Operation::BuildIndex { collection, index } => build::step(tx, collection, index),
        Operation::Sweep => expiry::sweep(tx),
        Operation::Task(task) => crate::task::run(task, tx).map(Answer::Task),
    }
}

/// A database has one partition, so that everything in it is atomic together.
const PARTITIONS: u32 = 1;

/// Reads every key, also behind one that is not at hand yet: so all of them are fetched in one round.
fn get_all(tx: &mut Transaction<'_>, keys: impl Iterator<Item = Bytes>) -> Run<Vec<Option<Versioned>>> {
    let mut found = Vec::new();
    let mut missing = false;
    for key in keys {
        match tx.get(&key) {
            Ok(value) => found.push(value),
            Err(Halt::NeedsRead) => missing = true,
            Err(refused) => return Err(refused),
        }
    }
    if missing { Err(Halt::NeedsRead) } else { Ok(found) }
}

/// The smallest key behind `key`.
fn key_behind(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

fn damaged() -> Error {
    Error::new(ErrorKind::Damaged, "a stored entry cannot be read; restore a backup")
}

/// The document in the bytes of a stored one, as the change feed finds it behind an event's key.
///
/// # Errors
/// `Damaged` when these are not the bytes of a document.
pub fn stored_document(bytes: &Bytes) -> Result<Document> {
    Ok(envelope::Envelope::decode(bytes.clone())?.document)
}
