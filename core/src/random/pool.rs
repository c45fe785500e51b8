//! The threads of the number work, apart from those that answer requests.

use parking_lot::Mutex;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::env::host::step_back;
use crate::error::{Error, ErrorKind, Result};

/// The pool and the process it was made in.
static POOL: Mutex<Option<(u32, &'static ThreadPool)>> = Mutex::new(None);

/// How many threads this process may keep busy: the affinity mask and the cgroup quota count, at least 1.
pub fn parallelism() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The pool of this process, made at first use.
///
/// A forked child has the parent's memory but none of its threads, so work given to an inherited pool would wait
/// forever: the child makes its own, and the inherited one is left alone because its locks may be held.
pub fn shared() -> Result<&'static ThreadPool> {
    let process = std::process::id();
    let mut slot = POOL.lock();
    if let Some((owner, pool)) = *slot
        && owner == process
    {
        return Ok(pool);
    }
    let pool = ThreadPoolBuilder::new()
        .num_threads(parallelism())
        .thread_name(|index| format!("kappa-random-{index}"))
        // Whoever answers requests goes first: a draw takes what is left, and all there is on an idle machine.
        .start_handler(|_| step_back())
        .build()
        .map_err(|source| Error::new(ErrorKind::Unavailable, "no threads for number work").caused_by(source))?;
    let pool: &'static ThreadPool = Box::leak(Box::new(pool));
    *slot = Some((process, pool));
    Ok(pool)
}
