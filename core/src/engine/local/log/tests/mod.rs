//! Tests of the log as a whole, on simulated files.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

mod basics;
mod bugs;
mod crashes;
mod damage;
mod faults;
mod golden;
mod limits;
mod records;
mod threads;
mod workload;
