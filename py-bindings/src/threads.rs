//! Where calls run that would keep an event loop or a signal waiting.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use kappa_core::env::generation;
use kappa_core::{Error, ErrorKind, Pending, Result};
use parking_lot::Mutex;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::guard::catch;
use crate::owned::Owned;

/// Reads of one database that may run at once for event loops, and for callers who take turns at large ones.
const READERS: usize = 4;
/// Reads of one database that may wait for a thread.
const MAX_READS: usize = 65_536;
/// Calls that may have a thread of their own at once.
const MAX_LONG_CALLS: usize = 256;

/// The part of a [`Readers::crowd`] that tells its process from others.
const PROCESS: u64 = !0 << 32;

/// A read that took longer has waited for something.
const QUICK: Duration = Duration::from_micros(50);
/// So many reads behind one that was slow let other threads in before they begin, where those before it were quick,
const LEAST_CAREFUL: u32 = 4;
/// and so many where one after another is slow: a thread that lost its processor for a moment looks like one that waited
/// for the disk, but not again and again.
const CAREFUL: u32 = 256;

/// The threads on which event loops have a database read: reading may wait for the disk, which a loop must not. Callers
/// who take turns at large answers have them read there too.
#[derive(Debug, Default)]
pub struct Readers {
    pool: Mutex<Option<Arc<Owned<Pool>>>>,
    /// Reads that shall still be careful.
    careful: AtomicU32,
    /// So many it were behind the last slow one.
    stretch: AtomicU32,
    /// How many callers wait for large answers now, behind the process they are in.
    crowd: AtomicU64,
}

/// Threads for the reads of one database, in the process that made them.
#[derive(Debug)]
pub struct Pool {
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

    /// Notes a caller who waits for a large answer, until the answer's objects are made.
    pub fn join(&self) -> Crowd<'_> {
        let process = generation() << 32;
        // In a forked child those who waited in the parent are not there.
        let joined = |crowd: u64| if crowd & PROCESS == process { crowd + 1 } else { process + 1 };
        let before = self.crowd.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |crowd| Some(joined(crowd)));
        let before = before.expect("the update always has a value");
        Crowd { readers: self, process, others: joined(before) - process - 1 }
    }

    /// Who reads for a caller who waits for a large answer.
    ///
    /// Alone, the caller itself. Where several take turns at it, threads beside them: so the memory of reading stays in the
    /// cache of one processor and that of Python's objects in the cache of another, while callers that did both would
    /// come to either with nothing in it.
    ///
    /// Only for callers that are attached to Python, as in [`Readers::ahead`].
    pub fn for_one_of(&self, crowd: &Crowd<'_>) -> Runner {
        if crowd.others == 0 {
            return Runner::Caller;
        }
        self.pool().map_or(Runner::Caller, Runner::Free)
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

/// One of those who wait for large answers of one database.
#[derive(Debug)]
pub struct Crowd<'a> {
    readers: &'a Readers,
    process: u64,
    /// So many were there before.
    others: u64,
}

impl Drop for Crowd<'_> {
    fn drop(&mut self) {
        let left = |crowd: u64| (crowd & PROCESS == self.process).then(|| crowd - 1);
        // Not counted any more where the process has forked meanwhile.
        let _ = self.readers.crowd.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
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
        Ok(self.run_in_turn(turn, read))
    }

    fn run_in_turn<T: Send + 'static>(
        &self,
        turn: Turn,
        read: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Pending<T> {
        let (sender, receiver) = oneshot::channel();
        self.threads.spawn(move || {
            let answer = catch("read", read).and_then(|answer| answer);
            drop(turn);
            // Whoever asked may be gone.
            let _ = sender.send(answer);
        });
        receive(receiver)
    }
}

/// Who runs the reads of a call.
#[derive(Clone, Debug)]
pub enum Runner {
    /// The thread that waits for the answer.
    Caller,
    /// Threads beside the event loop.
    Readers(Arc<Readers>),
    /// The same threads as far as one is free, otherwise the thread that waits: so no read waits behind another.
    Free(Arc<Owned<Pool>>),
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
            Self::Free(pool) => {
                let free = pool.get().ok().and_then(|pool| Some((pool, Turn::take(&pool.waiting, READERS)?)));
                let Some((pool, turn)) = free else { return submit() };
                let submitted = pool.run_in_turn(turn, move || Ok(submit()));
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
