//! Calls that may panic or never come back, kept from taking the process with them.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::store::{Abandoned, StoreResult};

/// Recovery recurses; the default of a spawned thread is not enough for a large tree.
const STACK_BYTES: usize = 8 << 20;

/// Runs `work`; a panic is an answer.
pub fn caught<T>(doing: &'static str, work: impl FnOnce() -> StoreResult<T>) -> StoreResult<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result,
        Err(panic) => Err(Abandoned::new(format!("{doing} panicked: {}", text(&*panic)))),
    }
}

/// Runs `work` on a thread of its own; a panic, and no answer within `deadline`, are answers too.
///
/// A thread that does not come back is left behind with all it holds: it may be waiting inside a
/// library for something that never happens, and nothing can end it.
pub fn guarded<T: Send + 'static>(
    doing: &'static str,
    deadline: Duration,
    work: impl FnOnce() -> StoreResult<T> + Send + 'static,
) -> StoreResult<T> {
    let (answer, answered) = mpsc::sync_channel(1);
    let thread = thread::Builder::new().name(format!("kappa-{doing}")).stack_size(STACK_BYTES);
    let run = move || {
        let result = caught(doing, work);
        // Nobody listens after the deadline; what was made is dropped here, and may panic doing so.
        let _ = caught(doing, || answer.send(result).map_err(Abandoned::new));
    };
    thread.spawn(run).map_err(|error| Abandoned::new(format!("{doing} got no thread: {error}")))?;
    match answered.recv_timeout(deadline) {
        Ok(result) => result,
        Err(_) => Err(Abandoned::new(format!("{doing} did not answer within {} s", deadline.as_secs()))),
    }
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A panic or hang inside the library must reach the caller as an answer, not end the process.
    #[test]
    fn panics_and_hangs_are_answers() {
        let minute = Duration::from_mins(1);
        assert_eq!(guarded("test", minute, || Ok(7)), Ok(7));
        let panicked = guarded::<()>("test", minute, || panic!("page {} is gone", 3)).expect_err("it panicked");
        assert!(panicked.reason.contains("page 3 is gone"), "reason={panicked}");
        let (release, held) = mpsc::channel::<()>();
        let hung = guarded("test", Duration::from_millis(10), move || Ok(held.recv().is_ok()));
        assert!(hung.expect_err("it hung").reason.contains("did not answer"));
        drop(release);
    }
}
