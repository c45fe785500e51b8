//! The local engine: a log that is the truth, and a view that answers reads.

pub mod log;
pub mod view;
