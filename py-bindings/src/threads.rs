//! Where calls run that would keep an event loop or a signal waiting.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};

use kappa_core::{Error, ErrorKind, Pending, Result};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::guard::catch;

/// Reads of one database that may run at once for event loops.
const READERS: usize = 4;
/// Reads of one database that may wait for a thread.
const MAX_READS: usize = 65_536;
/// Calls that may have a thread of their own at once.
const MAX_LONG_CALLS: usize = 256;

/// The threads on which event loops have a database read: reading may wait for the disk, which a loop must not.
#[derive(Debug, Default)]
pub struct Readers {
    pool: OnceLock<Result<ThreadPool>>,
    waiting: Arc<AtomicUsize>,
}

impl Readers {
    /// The answer of `read`, run on one of the threads.
    pub fn run<T: Send + 'static>(&self, read: impl FnOnce() -> Result<T> + Send + 'static) -> Pending<T> {
        let pool = match self.pool.get_or_init(make) {
            Ok(pool) => pool,
            Err(error) => return Pending::ready(Err(error.clone())),
        };
        let Some(turn) = Turn::take(&self.waiting, MAX_READS) else {
            return Pending::ready(Err(Error::new(ErrorKind::Overloaded, "too many reads are waiting; retry later")));
        };
        let (sender, receiver) = oneshot::channel();
        pool.spawn(move || {
            let answer = catch("read", read).and_then(|answer| answer);
            drop(turn);
            // Whoever asked may be gone.
            let _ = sender.send(answer);
        });
        receive(receiver)
    }
}

fn make() -> Result<ThreadPool> {
    let pool = ThreadPoolBuilder::new().num_threads(READERS).thread_name(|index| format!("kappa-reader-{index}"));
    pool.build().map_err(|error| Error::new(ErrorKind::Unavailable, "no threads for reads").caused_by(error))
}

/// Who runs the reads of a call.
#[derive(Clone, Debug)]
pub enum Runner {
    /// The thread that waits for the answer.
    Caller,
    /// Threads beside the event loop.
    Readers(Arc<Readers>),
}

impl Runner {
    /// The answer of the call that `submit` makes, which may wait for the disk before it returns.
    pub fn submit<T: Send + 'static>(&self, submit: impl FnOnce() -> Pending<T> + Send + 'static) -> Pending<T> {
        match self {
            Self::Caller => submit(),
            Self::Readers(readers) => {
                let submitted = readers.run(move || Ok(submit()));
                Pending::new(async move { submitted.await?.await })
            }
        }
    }
}

/// The answer of `work`, which may take long, on a thread of its own: so the caller can hear a signal meanwhile.
pub fn long<T: Send + 'static>(name: &'static str, work: impl FnOnce() -> Result<T> + Send + 'static) -> Pending<T> {
    static RUNNING: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);
    let Some(turn) = Turn::take(&RUNNING, MAX_LONG_CALLS) else {
        return Pending::ready(Err(Error::new(ErrorKind::Overloaded, "too many long calls are running; retry later")));
    };
    let (sender, receiver) = oneshot::channel();
    let thread = std::thread::Builder::new().name(format!("kappa-{name}")).spawn(move || {
        let answer = catch(name, work).and_then(|answer| answer);
        drop(turn);
        let _ = sender.send(answer);
    });
    match thread {
        Ok(_) => receive(receiver),
        Err(error) => {
            Pending::ready(Err(Error::new(ErrorKind::Unavailable, "no thread for the call").caused_by(error)))
        }
    }
}

fn receive<T: Send + 'static>(receiver: oneshot::Receiver<Result<T>>) -> Pending<T> {
    Pending::new(async move {
        receiver.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "the thread of the call ended early")))
    })
}

/// One of a bounded number of calls; given back when dropped.
#[derive(Debug)]
struct Turn(Arc<AtomicUsize>);

impl Turn {
    fn take(count: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let more = |running: usize| (running < most).then_some(running + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Self(Arc::clone(count)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
