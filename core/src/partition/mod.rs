//! A partition: operations in, one ordered log of records out.

pub mod layer;
pub mod transaction;

pub use transaction::{Halt, Moment, Run, Transaction};
