//! Tests of whole databases in real directories, through the handle alone.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

mod contract;
mod database;
mod ending;
mod feed;
mod forking;
mod golden;
mod idempotency;
mod kill;
mod member;
mod model;
mod open;
mod oracle;
mod parity;
mod plan;
mod share;
mod socket;
mod tasks;
mod worker;
