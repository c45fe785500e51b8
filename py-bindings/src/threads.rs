//! Where calls run that would keep an event loop or a signal waiting.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use kappa_core::{Error, ErrorKind, Pending, Result};
use parking_lot::Mutex;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::guard::catch;
use crate::owned::Owned;

/// Reads of one database that may run at once for event loops.
const READERS: usize = 4;
/// Reads of one database that may wait for a thread.
const MAX_READS: usize = 65_536;
/// Calls that may have a thread of their own at once.
const MAX_LONG_CALLS: usize = 256;

/// A read that took longer has waited for something.
const QUICK: Duration = Duration::from_micros(50);
/// So many reads behind one that was slow let other threads in before they begin, where those before it were quick,
const LEAST_CAREFUL: u32 = 4;
/// and so many where one after another is slow: a thread that lost its processor for a moment looks like one that waited
/// for the disk, but not again and again.
const CAREFUL: u32 = 256;

/// The threads on which event loops have a database read: reading may wait for the disk, which a loop must not.
#[derive(Debug, Default)]
pub struct Readers {
    pool: Mutex<Option<Arc<Owned<Pool>>>>,
    /// Reads that shall still be careful.
    careful: AtomicU32,
    /// So many it were behind the last slow one.
    stretch: AtomicU32,
}

#[derive(Debug)]
struct Pool {
    threads: ThreadPool,
    waiting: Arc<AtomicUsize>,
}

impl Readers {
    /// The answer of `read`, run on one of the threads.
    pub fn run<T: Send + 'static>(&self, read: impl FnOnce() -> Result<T> + Send + 'static) -> Pending<T> {
        self.pool().and_then(|pool| pool.get()?.run(MAX_READS, read)).unwrap_or_else(|error| Pending::ready(Err(error)))
    }

    /// The answer of the call that `submit` makes, which nobody waits for yet; none when no thread is free for it.
    ///
    /// Only for callers that are attached to Python, so that a forked child finds the lock free.
    pub fn ahead<T: Send + 'static>(&self, submit: impl FnOnce() -> Pending<T> + Send + 'static) -> Option<Pending<T>> {
        let pool = self.pool().ok()?;
        let submitted = pool.get().ok()?.run(READERS, move || Ok(submit())).ok()?;
        Some(Pending::new(async move { submitted.await?.await }))
    }

    /// The threads of this process: a forked child makes its own.
    fn pool(&self) -> Result<Arc<Owned<Pool>>> {
        let mut slot = self.pool.lock();
        if let Some(pool) = slot.as_ref().filter(|pool| !pool.is_foreign()) {
            return Ok(Arc::clone(pool));
        }
        let pool = Arc::new(Owned::new(Pool::new()?));
        *slot = Some(Arc::clone(&pool));
        Ok(pool)
    }

    /// Whether the next read may expect to find what it looks for in memory.
    pub fn are_quick(&self) -> bool {
        let careful = self.careful.load(Ordering::Relaxed);
        if careful > 0 {
            // One that is lost to another thread makes no difference.
            self.careful.store(careful - 1, Ordering::Relaxed);
        }
        careful == 0
    }

    /// The next reads shall be careful.
    pub fn were_slow(&self) {
        self.careful.store(CAREFUL, Ordering::Relaxed);
    }

    /// Runs a read, and makes the next ones careful when it took long.
    #[expect(clippy::disallowed_methods, reason = "how long a read kept other threads out decides nothing else")]
    pub fn watch<T>(&self, read: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let answer = read();
        let stretch = self.stretch.load(Ordering::Relaxed);
        if begun.elapsed() > QUICK {
            let longer = (stretch * 2).clamp(LEAST_CAREFUL, CAREFUL);
            self.stretch.store(longer, Ordering::Relaxed);
            self.careful.store(longer, Ordering::Relaxed);
        } else if stretch > 0 {
            self.stretch.store(stretch / 2, Ordering::Relaxed);
        }
        answer
    }
}

impl Pool {
    fn new() -> Result<Self> {
        let threads =
            ThreadPoolBuilder::new().num_threads(READERS).thread_name(|index| format!("kappa-reader-{index}"));
        let unavailable = |error| Error::new(ErrorKind::Unavailable, "no threads for reads").caused_by(error);
        Ok(Self { threads: threads.build().map_err(unavailable)?, waiting: Arc::default() })
    }

    /// The answer of `read`, unless `most` others are under way.
    fn run<T: Send + 'static>(
        &self,
        most: usize,
        read: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<Pending<T>> {
        let full = || Error::new(ErrorKind::Overloaded, "too many reads are waiting; retry later");
        let turn = Turn::take(&self.waiting, most).ok_or_else(full)?;
        let (sender, receiver) = oneshot::channel();
        self.threads.spawn(move || {
            let answer = catch("read", read).and_then(|answer| answer);
            drop(turn);
            // Whoever asked may be gone.
            let _ = sender.send(answer);
        });
        Ok(receive(receiver))
    }
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
