//! Tests of the log as a whole, on simulated files.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

mod basics;
mod crashes;
mod workload;
