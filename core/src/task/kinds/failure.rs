//! How a task ends: with a value, or with a failure that says whether to try again.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, ErrorKind};

/// A task's result, or why there is none.
pub type Outcome = Result<Value, Failure>;

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What happened, for people.
    pub message: String,
    /// Whether another attempt may do better. Where not, the task fails at once.
    pub retry: bool,
    /// What happened, for programs: a stable text in snake case.
    pub code: String,
}

impl Failure {
    /// A failure that may pass.
    pub fn passing(code: &str, message: impl Into<String>) -> Self {
        Self { message: message.into(), retry: true, code: code.to_owned() }
    }

    /// A failure that every other attempt would meet too.
    pub fn lasting(code: &str, message: impl Into<String>) -> Self {
        Self { message: message.into(), retry: false, code: code.to_owned() }
    }

    /// The task saw that it should stop, and did.
    pub fn cancelled() -> Self {
        Self::lasting(ErrorKind::Cancelled.code(), "the task was cancelled")
    }

    /// Whether the task stopped because it was told to.
    pub fn is_cancelled(&self) -> bool {
        self.code == ErrorKind::Cancelled.code()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl From<Error> for Failure {
    /// A database that is away, or whose answer got lost, may be there for the next attempt.
    fn from(error: Error) -> Self {
        let kind = error.kind();
        let passes = kind.is_retryable() || matches!(kind, ErrorKind::Ambiguous | ErrorKind::Closed);
        Self { message: error.to_string(), retry: passes, code: kind.code().to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wrong parameter tried again burns attempts for nothing; a database that is away must not end the task.
    #[test]
    fn what_may_pass_is_tried_again() {
        for (kind, retry) in [
            (ErrorKind::InvalidInput, false),
            (ErrorKind::TooLarge, false),
            (ErrorKind::Cancelled, false),
            (ErrorKind::Unavailable, true),
            (ErrorKind::Overloaded, true),
            (ErrorKind::Ambiguous, true),
            (ErrorKind::Closed, true),
        ] {
            let failure = Failure::from(Error::new(kind, "x"));
            assert_eq!((failure.retry, failure.code.as_str()), (retry, kind.code()));
            assert_eq!(failure.is_cancelled(), kind == ErrorKind::Cancelled);
        }
    }
}
