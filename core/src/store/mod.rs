//! The rules of the domain.

pub mod document;

use crate::operation::{Answer, Operation};
use crate::partition::{Run, Transaction};

/// What `operation` does and answers.
pub fn run(_operation: &Operation, _transaction: &mut Transaction<'_>) -> Run<Answer> {
    unimplemented!()
}
