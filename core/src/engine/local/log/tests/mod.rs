//! Tests of the log as a whole, on simulated files.

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
