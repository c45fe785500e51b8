//! The doors to the outside: time, chance and files. Nothing else in this crate opens them.

pub(crate) mod allocator;
pub mod clock;
pub mod entropy;
pub(crate) mod exchange;
pub mod files;
#[cfg(unix)]
pub mod fork;
pub mod host;
pub mod lock;
#[cfg(unix)]
pub(crate) mod process;
#[cfg(unix)]
pub mod socket;

use std::sync::Arc;

pub use clock::{Clock, ManualClock, SystemClock};
pub use entropy::{Entropy, SeededEntropy, SystemEntropy};
pub use files::{Files, SystemFiles};

/// How many forks lie between this process and the first of its line that used Kappa: another value than before means
/// that none of the threads which were started then are here.
pub fn generation() -> u64 {
    #[cfg(unix)]
    return fork::generation();
    #[cfg(not(unix))]
    0
}

/// Keeps a file that a library opened from forked children, which would hold its lock, until this is dropped. Must be
/// dropped before the library closes the file.
#[derive(Debug)]
pub struct KeptFromChildren {
    #[cfg(unix)]
    _guards: Vec<fork::Guard>,
}

impl KeptFromChildren {
    /// Keeps the file at `path` from them.
    #[cfg_attr(not(unix), expect(unused_variables, reason = "nothing is inherited there"))]
    pub fn file(path: &std::path::Path) -> Self {
        Self {
            #[cfg(unix)]
            _guards: fork::Guard::of_file(path),
        }
    }
}

/// The parts of the outside world that a database is given at open.
#[derive(Clone, Debug)]
pub struct Env {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where chance comes from.
    pub entropy: Arc<dyn Entropy>,
    /// Where files are.
    pub files: Arc<dyn Files>,
}

impl Default for Env {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), entropy: Arc::new(SystemEntropy), files: Arc::new(SystemFiles) }
    }
}
