//! Threads for what may wait: a few readers, and one thread for each long piece of work.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Builder;

use kappa_core::{Error, ErrorKind, Result};
use parking_lot::{Condvar, Mutex};

use crate::guard::{caught, panic_if_armed};

/// Reads that may wait for a reader.
const MAX_WAITING: usize = 100_000;
/// Long pieces of work at a time, over the whole process.
const MAX_LONG: usize = 64;
/// Jobs that wait for one reader before another is woken: that takes longer than most reads.
const JOBS_A_READER: usize = 8;

type Job = Box<dyn FnOnce() + Send>;

struct Readers {
    state: Mutex<State>,
    arrived: Condvar,
}

struct State {
    jobs: VecDeque<Job>,
    started: usize,
    /// Readers that nobody has woken yet.
    sleeping: usize,
}

static READERS: Readers =
    Readers { state: Mutex::new(State { jobs: VecDeque::new(), started: 0, sleeping: 0 }), arrived: Condvar::new() };
/// How many readers there are at most. Asked once: the answer is read from files of the system.
static WANTED: LazyLock<usize> = LazyLock::new(|| kappa_core::random::parallelism().clamp(2, 4));
static LONG: AtomicUsize = AtomicUsize::new(0);

/// The answer of `job`, which runs on a reader's thread: it may read files, and takes milliseconds at most.
pub fn read<T: Send + 'static>(
    name: &'static str,
    job: impl FnOnce() -> Result<T> + Send + 'static,
) -> impl Future<Output = Result<T>> + Send + 'static {
    let (sender, receiver) = oneshot::channel();
    let taken = READERS.take(Box::new(move || {
        let _ = sender.send(run(name, job));
    }));
    answer(name, taken.map(|()| receiver))
}

/// The answer of `job`, which has a thread of its own.
pub fn long<T: Send + 'static>(
    name: &'static str,
    job: impl FnOnce() -> Result<T> + Send + 'static,
) -> impl Future<Output = Result<T>> + Send + 'static {
    let (sender, receiver) = oneshot::channel();
    let started = spawn(move || {
        let _ = sender.send(run(name, job));
    });
    answer(name, started.map(|()| receiver))
}

/// Runs `job` on a thread of its own.
///
/// # Errors
/// `Overloaded` when there are too many; `Unavailable` when the system gives no thread.
pub fn spawn(job: impl FnOnce() + Send + 'static) -> Result<()> {
    if LONG.fetch_add(1, Ordering::Relaxed) >= MAX_LONG {
        LONG.fetch_sub(1, Ordering::Relaxed);
        let error = Error::new(ErrorKind::Overloaded, "too much long work at a time; retry when some of it has ended");
        return Err(error.with("limit", MAX_LONG));
    }
    let spawned = Builder::new().name("kappa-node-long".to_owned()).spawn(|| {
        job();
        LONG.fetch_sub(1, Ordering::Relaxed);
    });
    spawned.map(drop).map_err(|error| {
        LONG.fetch_sub(1, Ordering::Relaxed);
        Error::new(ErrorKind::Unavailable, "the system gives no thread").caused_by(error)
    })
}

fn run<T>(name: &'static str, job: impl FnOnce() -> Result<T>) -> Result<T> {
    caught(name, || {
        panic_if_armed(name, ":work");
        job()
    })
}

async fn answer<T>(name: &'static str, receiver: Result<oneshot::Receiver<Result<T>>>) -> Result<T> {
    let gone = |_| Error::new(ErrorKind::Internal, "the thread of this call ended before it answered").during(name);
    receiver?.await.map_err(gone)?
}

impl Readers {
    fn take(&'static self, job: Job) -> Result<()> {
        let mut state = self.state.lock();
        if state.jobs.len() >= MAX_WAITING {
            let error = Error::new(ErrorKind::Overloaded, "too many reads wait; await some before starting more");
            return Err(error.with("limit", MAX_WAITING));
        }
        if state.started < *WANTED {
            let spawned = Builder::new().name("kappa-node-read".to_owned()).spawn(|| self.work());
            match spawned {
                Ok(_) => state.started += 1,
                Err(error) if state.started == 0 => {
                    return Err(Error::new(ErrorKind::Unavailable, "the system gives no thread").caused_by(error));
                }
                Err(_) => {}
            }
        }
        state.jobs.push_back(job);
        let awake = state.started - state.sleeping;
        let wake = state.sleeping > 0 && state.jobs.len() > awake * JOBS_A_READER;
        if wake {
            state.sleeping -= 1;
        }
        drop(state);
        if wake {
            self.arrived.notify_one();
        }
        Ok(())
    }

    fn work(&self) -> ! {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                job();
                state = self.state.lock();
            } else {
                state.sleeping += 1;
                // Whoever wakes this reader counts it as awake, so that the next job does not wake another.
                self.arrived.wait(&mut state);
            }
        }
    }
}
