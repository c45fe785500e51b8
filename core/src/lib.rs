//! Kappa: the backend core of a small team in one native library.
#![allow(dead_code, reason = "removed when the layers below are joined")]

pub mod cpu;
mod engine;
mod env;
mod error;
mod executor;
mod kappa;
mod operation;
mod options;
mod partition;
pub mod random;
mod store;

pub use error::{Error, ErrorKind, Result};
