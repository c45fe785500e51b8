//! Calls that may panic or never come back, kept from taking the process with them.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, SyncSender};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

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
    Guarded::default().run(doing, deadline, work)
}

type Work = Box<dyn FnOnce() + Send>;

/// A thread that does one work after another, each as [`guarded`] does it. A new thread for each would also have to
/// get its memory from the system each time.
#[derive(Debug, Default)]
pub struct Guarded {
    /// None before the first work.
    works: Mutex<Option<SyncSender<Work>>>,
}

impl Guarded {
    /// As [`guarded`]. Whatever did not answer in time keeps the thread: no work comes after it.
    pub fn run<T: Send + 'static>(
        &self,
        doing: &'static str,
        deadline: Duration,
        work: impl FnOnce() -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.begin(Box::new(move || {
            let result = caught(doing, work);
            // Nobody listens after the deadline; what was made is dropped here, and may panic doing so.
            let _ = caught(doing, || answer.send(result).map_err(Abandoned::new));
        }))
        .map_err(|why| Abandoned::new(format!("{doing} got no thread: {why}")))?;
        match answered.recv_timeout(deadline) {
            Ok(result) => result,
            Err(_) => Err(Abandoned::new(format!("{doing} did not answer within {} s", deadline.as_secs()))),
        }
    }

    fn begin(&self, work: Work) -> io::Result<()> {
        let mut works = self.works.lock();
        let works = match &mut *works {
            Some(works) => works,
            none => {
                let (sender, receiver) = mpsc::sync_channel::<Work>(1);
                let thread = thread::Builder::new().name("kappa-view".into()).stack_size(STACK_BYTES);
                thread.spawn(move || receiver.into_iter().for_each(|work| work()))?;
                none.insert(sender)
            }
        };
        works.try_send(work).map_err(|_| io::Error::other("it does not come back from what it did before"))
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

    /// A work behind one that hangs must neither wait for it without end nor be taken for done.
    #[test]
    fn what_comes_behind_a_hang_is_refused() {
        let guarded = Guarded::default();
        let (minute, moment) = (Duration::from_mins(1), Duration::from_millis(10));
        let thread = || Ok(thread::current().id());
        assert_eq!(guarded.run("one", minute, thread), guarded.run("two", minute, thread));
        let (release, held) = mpsc::channel::<()>();
        let hung = guarded.run("hung", moment, move || Ok(held.recv().is_ok()));
        assert!(hung.expect_err("it hung").reason.contains("did not answer"));
        assert!(guarded.run("behind", moment, || Ok(())).is_err());
        let refused = guarded.run("far behind", minute, || Ok(())).expect_err("two wait already");
        assert!(refused.reason.contains("got no thread"), "reason={refused}");
        drop(release);
    }
}
