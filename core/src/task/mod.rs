//! Tasks: what they do and what runs them.

pub mod kinds;
pub mod runner;
