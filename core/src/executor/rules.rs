//! The domain as the partition's committer sees it.

use crate::engine::{Growth, Sequence};
use crate::operation::{self, Answer, Operation};
use crate::partition::{Domain, Run, Transaction};
use crate::store::session::{SessionCall, run_in_session};

/// An operation, and what makes it safe to repeat.
#[derive(Debug)]
pub struct Call {
    pub operation: Operation,
    /// Given by the caller; kept for 24 h.
    pub idempotency_key: Option<String>,
    /// Which call of another process this is; kept until that process has the answer.
    pub session: Option<SessionCall>,
}

impl Call {
    /// A call that nobody repeats.
    pub fn once(operation: Operation) -> Self {
        Self { operation, idempotency_key: None, session: None }
    }
}

/// The rules of the stores.
#[derive(Clone, Copy, Debug)]
pub struct Rules;

impl Domain for Rules {
    type Operation = Call;
    type Answer = Answer;

    fn run(&self, call: &Call, transaction: &mut Transaction<'_>) -> Run<Answer> {
        match (&call.idempotency_key, &call.session) {
            (None, None) => operation::run(&call.operation, transaction),
            // The key outlives the session, so that a repetition under either finds the answer.
            (Some(key), _) => operation::run_idempotent(&call.operation, key, transaction),
            (None, Some(session)) => run_in_session(&call.operation, session, transaction),
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
