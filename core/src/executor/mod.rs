//! Who runs an operation, and the answer that comes later.

mod pending;

use std::fmt;
use std::time::Duration;

pub use pending::Pending;

use crate::operation::{Answer, Operation};

/// What a caller may say about one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallOptions {
    /// Makes a write safe to repeat for 24 h: the same key and content get the first answer again.
    pub idempotency_key: Option<String>,
    /// How long the call may wait for room before it answers `Overloaded`; 10 s where none is given.
    pub deadline: Option<Duration>,
}

/// Runs operations: in this process, or elsewhere.
pub trait Executor: Send + Sync + fmt::Debug {
    /// Takes the operation in; its answer comes when it is durable.
    fn submit(&self, operation: Operation, options: CallOptions) -> Pending<Answer>;
}
