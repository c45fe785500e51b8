//! The domain as the partition's committer sees it.

use crate::engine::{Growth, Sequence};
use crate::operation::{self, Answer, Operation};
use crate::partition::{Domain, Run, Transaction};

/// An operation, and the key that makes it safe to repeat.
#[derive(Debug)]
pub struct Call {
    pub operation: Operation,
    pub idempotency_key: Option<String>,
}

/// The rules of the stores.
#[derive(Clone, Copy, Debug)]
pub struct Rules;

impl Domain for Rules {
    type Operation = Call;
    type Answer = Answer;

    fn run(&self, call: &Call, transaction: &mut Transaction<'_>) -> Run<Answer> {
        match &call.idempotency_key {
            None => operation::run(&call.operation, transaction),
            Some(key) => operation::run_idempotent(&call.operation, key, transaction),
        }
    }

    fn growth(&self, call: &Call) -> Growth {
        call.operation.growth()
    }

    fn size(&self, call: &Call) -> usize {
        call.operation.len() + call.idempotency_key.as_ref().map_or(0, String::len)
    }

    fn renumber(&self, answer: &mut Answer, from: Sequence, by: Sequence) {
        operation::renumber(answer, from, by);
    }
}
