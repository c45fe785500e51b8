//! A partition: operations in, one ordered log of records out.

mod committer;
pub mod feed;
mod intake;
pub mod layer;
mod layers;
mod packing;
mod reply;
pub mod source;
pub mod time;
pub mod transaction;

#[cfg(test)]
mod conformance;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use event_listener::{Event, EventListener};
use parking_lot::Mutex;

use crate::engine::{Engine, Growth, Sequence};
use crate::env::{self, Env};
use crate::error::{Error, ErrorKind, Result};
use crate::executor::{Coming, Pending, block_on};

use committer::Stages;
use committer::gathering::{self, Patience};
use intake::{Intake, Job};
use layers::Layers;
use reply::{Bell, Reply};
use source::{GroupReads, LayeredReads};
use time::EngineTime;

pub use transaction::{Drawn, Halt, Moment, Run, Transaction};

/// With so many jobs in the queue the committer is called although nobody asks for their answers yet.
const MANY: usize = 8;

/// The rules that a partition runs; it knows nothing of them but this.
pub trait Domain: Send + Sync + 'static {
    /// A call as data.
    type Operation: Send + Sync + 'static;
    /// What a call gives.
    type Answer: Send + 'static;

    /// What `operation` does and answers; may be run several times and must do the same each time.
    fn run(&self, operation: &Self::Operation, transaction: &mut Transaction<'_>) -> Run<Self::Answer>;
    /// Whether the operation gives space back in the long run.
    fn growth(&self, operation: &Self::Operation) -> Growth;
    /// Bytes it holds while it waits.
    fn size(&self, operation: &Self::Operation) -> usize;
    /// Moves every version at or above `from` by `by`, because the engine numbered the group differently.
    fn renumber(&self, answer: &mut Self::Answer, from: Sequence, by: Sequence);
}

/// How much may wait, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of operations that are not durable yet.
    pub intake_bytes: usize,
    /// How long a call waits for room.
    pub deadline: Duration,
}

/// What a partition's threads and callers share.
struct Shared<D: Domain> {
    engine: Arc<dyn Engine>,
    domain: D,
    time: EngineTime,
    intake: Intake<D>,
    stages: Stages<D>,
    generation: u64,
    /// Rings after each commit: for feeds.
    committed: Event,
}

/// One open partition: takes operations in, runs them one after another, makes them durable in groups.
pub struct Partition<D: Domain> {
    shared: Arc<Shared<D>>,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
    limits: Limits,
}

impl<D: Domain> std::fmt::Debug for Partition<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Partition").field("engine", &self.shared.engine).finish_non_exhaustive()
    }
}

impl<D: Domain> Partition<D> {
    /// Starts the committer of `engine`.
    ///
    /// # Errors
    /// `Unavailable` when the system gives no thread.
    pub fn start(engine: Arc<dyn Engine>, domain: D, env: &Env, limits: Limits) -> Result<Self> {
        Self::start_with(engine, domain, env, limits, gathering::patience)
    }

    fn start_with(engine: Arc<dyn Engine>, domain: D, env: &Env, limits: Limits, patience: Patience) -> Result<Self> {
        let (newest, time) = engine.newest();
        let time = EngineTime::new(Arc::clone(&env.clock), time);
        let shared = Arc::new(Shared {
            engine,
            domain,
            time,
            intake: Intake::new(limits.intake_bytes, Arc::clone(&env.entropy)),
            stages: Stages::new(newest, patience),
            generation: env::generation(),
            committed: Event::new(),
        });
        let threads = Mutex::new(committer::start(&shared)?);
        Ok(Self { shared, threads, limits })
    }

    /// Takes `operation` in; its answer leaves when everything it rests on is durable.
    pub fn submit(&self, operation: D::Operation, deadline: Option<Duration>) -> Pending<D::Answer> {
        let shared = Arc::clone(&self.shared);
        let bytes = shared.domain.size(&operation);
        let (answer, receiver) = oneshot::channel();
        let job = Job { operation, bytes, seed: 0, moment: Moment::default(), answer: Reply::new(answer) };
        match shared.intake.offer(job, &shared.time) {
            Ok((waiting, bell)) => {
                if waiting >= MANY {
                    shared.intake.call();
                }
                Pending::coming(Submitted { shared: Some(shared), receiver: Receiver::Blocking(receiver), bell })
            }
            Err(intake::Refused::Closed) => Pending::ready(Err(closed())),
            Err(intake::Refused::Full(job)) => {
                let until = shared.time.now().saturating_add(millis(deadline.unwrap_or(self.limits.deadline)));
                // What fills the intake may be calls whose answers nobody has asked for yet.
                shared.intake.call();
                Pending::new(async move {
                    wait_for_room(&shared, job, until).await?;
                    shared.intake.call();
                    receiver.await.unwrap_or_else(|_| Err(stopped()))
                })
            }
        }
    }

    /// Runs a read on this thread, over the newest durable state.
    ///
    /// # Errors
    /// What the domain refuses with; `Internal` for an operation that writes.
    pub fn read(&self, operation: &D::Operation) -> Result<D::Answer> {
        let shared = &self.shared;
        let snapshot = shared.engine.snapshot()?;
        let mut reads = GroupReads::new(snapshot, shared.engine.reads_at_hand(), false);
        let before = Layers::default();
        let drawn = Drawn { moment: Moment { ms: shared.time.now(), tick: 0 }, seed: 0 };
        loop {
            let sequence = reads.sequence() + 1;
            let mut source = LayeredReads { before: &before, reads: &mut reads };
            let mut transaction = Transaction::new(&mut source, drawn, sequence);
            let run = run_caught(&shared.domain, operation, &mut transaction);
            let wrote = !transaction.is_read_only();
            match run {
                Ok(_) if wrote => return Err(Error::new(ErrorKind::Internal, "a read operation wrote")),
                Ok(answer) => return Ok(answer),
                Err(Halt::Refused(error)) => return Err(error),
                Err(Halt::NeedsRead) => {
                    reads.fetch_wanted()?;
                }
            }
        }
    }

    /// Engine time now, in milliseconds.
    pub fn now(&self) -> i64 {
        self.shared.time.now()
    }

    /// The storage below.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.shared.engine
    }

    #[cfg(test)]
    /// Whether nothing more is taken in, and the committer's threads have nothing left to run.
    pub fn is_closing(&self) -> bool {
        self.shared.intake.is_closed() && self.threads.lock().is_empty()
    }

    #[cfg(test)]
    /// Whether something was run and is not being committed yet.
    pub fn has_staged(&self) -> bool {
        self.shared.stages.has_staged()
    }

    /// Rings once after the next commit. Listen first, then look: a commit between the two is not missed.
    pub fn listen(&self) -> EventListener {
        self.shared.committed.listen()
    }

    /// Takes nothing more in, finishes what is there, and closes the engine.
    ///
    /// # Errors
    /// What the engine's close answers.
    pub fn close(&self, within: Duration) -> Result<()> {
        self.shared.close();
        for thread in self.threads.lock().drain(..) {
            // A committer that panicked has told its callers, see `committer::Fallen`.
            let _ = thread.join();
        }
        committer::finish(&self.shared);
        let closed = self.shared.engine.close(within);
        self.shared.committed.notify(usize::MAX);
        closed
    }
}

impl<D: Domain> Drop for Partition<D> {
    fn drop(&mut self) {
        if self.shared.is_inherited() {
            return;
        }
        self.shared.close();
        for thread in self.threads.lock().drain(..) {
            let _ = thread.join();
        }
        committer::finish(&self.shared);
    }
}

/// The answer of a job that was taken in. The committer is called when somebody wants the answer, or does not.
struct Submitted<D: Domain> {
    /// None once the committer was called.
    shared: Option<Arc<Shared<D>>>,
    receiver: Receiver<Result<D::Answer>>,
    bell: Arc<Bell>,
}

enum Receiver<T> {
    Blocking(oneshot::Receiver<T>),
    Polled(oneshot::AsyncReceiver<T>),
    Moving,
}

impl<D: Domain> Shared<D> {
    /// Takes nothing more in, and waits for nobody who might come.
    fn close(&self) {
        self.intake.close();
        self.stages.close();
    }

    /// Whether this is a forked child of the process that opened the partition: what it shares with threads that are
    /// not here must not be touched, least of all the files.
    fn is_inherited(&self) -> bool {
        self.generation != env::generation()
    }
}

fn inherited() -> Error {
    let message = "the call began in the process that this one was forked from; open the database again here";
    Error::new(ErrorKind::Closed, message)
}

impl<D: Domain> Submitted<D> {
    fn is_inherited(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.is_inherited())
    }

    fn call(&mut self) {
        if self.is_inherited() {
            return;
        }
        if let Some(shared) = self.shared.take() {
            shared.intake.call();
        }
    }
}

impl<D: Domain> Coming<D::Answer> for Submitted<D> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<D::Answer>> {
        if self.is_inherited() {
            return Poll::Ready(Err(inherited()));
        }
        self.call();
        self.receiver = match std::mem::replace(&mut self.receiver, Receiver::Moving) {
            Receiver::Blocking(receiver) => Receiver::Polled(receiver.into_future()),
            polled => polled,
        };
        let Receiver::Polled(receiver) = &mut self.receiver else { unreachable!("it was just turned into one") };
        Pin::new(receiver).poll(context).map(|answer| answer.unwrap_or_else(|_| Err(stopped())))
    }

    fn help(&mut self) {
        if !self.is_inherited()
            && let Some(shared) = &self.shared
            && committer::help(shared)
        {
            self.shared = None;
        }
    }

    fn wait(mut self: Box<Self>, until: Option<Instant>) -> Option<Result<D::Answer>> {
        if self.is_inherited() {
            return Some(Err(inherited()));
        }
        let receiver = match std::mem::replace(&mut self.receiver, Receiver::Moving) {
            Receiver::Blocking(receiver) => receiver,
            polled => {
                self.receiver = polled;
                return block_on(|context| self.poll(context), until);
            }
        };
        // It may have been committed together with an earlier call.
        let mut early = receiver.try_recv();
        // Who has a limit cannot take part: a sync may take longer than it.
        if early.is_err()
            && until.is_none()
            && let Some(shared) = &self.shared
            && committer::help(shared)
        {
            self.shared = None;
            early = receiver.try_recv();
        }
        if let Ok(answer) = early {
            self.shared = None;
            return Some(answer);
        }
        self.call();
        self.bell.wait(until, || match receiver.try_recv() {
            Ok(answer) => Some(answer),
            Err(oneshot::TryRecvError::Empty) => None,
            Err(oneshot::TryRecvError::Disconnected) => Some(Err(stopped())),
        })
    }
}

impl<D: Domain> Drop for Submitted<D> {
    fn drop(&mut self) {
        self.call();
    }
}

async fn wait_for_room<D: Domain>(shared: &Shared<D>, job: Job<D>, until: i64) -> Result<()> {
    let mut job = job;
    let _waiting = shared.intake.wait_for_room();
    loop {
        let listener = shared.intake.listen_for_room();
        match shared.intake.offer(job, &shared.time) {
            Ok(_) => return Ok(()),
            Err(intake::Refused::Closed) => return Err(closed()),
            Err(intake::Refused::Full(refused)) => job = refused,
        }
        if shared.time.now() >= until {
            return Err(Error::new(ErrorKind::Overloaded, "too many writes are waiting; retry later"));
        }
        listener.await;
    }
}

/// Runs the domain; a panic becomes this caller's `Internal` and keeps none of its writes.
fn run_caught<D: Domain>(domain: &D, operation: &D::Operation, transaction: &mut Transaction<'_>) -> Run<D::Answer> {
    let run = catch_unwind(AssertUnwindSafe(|| domain.run(operation, transaction)));
    run.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        tracing::error!(panic = text, "an operation panicked; it wrote nothing");
        Err(Error::new(ErrorKind::Internal, "the operation failed inside Kappa; it wrote nothing").into())
    })
}

fn stopped() -> Error {
    Error::new(ErrorKind::Ambiguous, "the partition stopped before it answered; reopen and read")
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the database is closed")
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2)
}
