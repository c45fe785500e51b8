//! The rules of the domain.

pub mod document;

use crate::operation::{Answer, Operation};
use crate::partition::{Run, Transaction};

/// What `operation` does and answers.
pub fn run(_operation: &Operation, _transaction: &mut Transaction<'_>) -> Run<Answer> {
    unimplemented!()
}

/// As `run`, once a key.
pub fn run_once(_operation: &Operation, _key: &str, _transaction: &mut Transaction<'_>) -> Run<Answer> {
    unimplemented!()
}

/// The document in a value that was put under a document's key.
pub fn stored_document(_value: &bytes::Bytes) -> Option<document::Document> {
    unimplemented!()
}
