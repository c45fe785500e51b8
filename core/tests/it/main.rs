//! Tests of whole databases in real directories, through the handle alone.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

mod database;
mod kill;
mod oracle;
mod plan;
mod worker;
