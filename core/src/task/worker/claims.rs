//! What lies under every worker: claims tasks for free slots, reports outcomes, keeps leases.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use event_listener::Event;
use parking_lot::{Condvar, Mutex};

use crate::env;
use crate::error::{Error, ErrorKind, Result};
use crate::executor::Pending;
use crate::task::handle::Tasks;
use crate::task::limits;
use crate::task::model::{Claimed, Lease, Outcome, Report, TaskId, Verdict, Work};

use super::WorkerOptions;
use super::bell::Bell;
use super::job::{Interrupt, Job, Run, RunState};
use super::leases;

/// Outcomes of one operation weigh at most this much together, unless a single one does,
const REPORT_BYTES: usize = 256 << 10;
/// each with the record of its task, which is written anew.
const RECORD_BYTES: usize = 1_536;
/// How long the loop waits at most before it looks again, whatever woke it or not.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Between two attempts while the database does not answer.
const PAUSE: Duration = Duration::from_millis(100);
/// After so many commits in a row that brought nothing the loop waits a little before it looks again,
const IDLE_WAKES: u32 = 8;
/// so that a busy database is not asked at each of its commits.
const IDLE_PAUSE: Duration = Duration::from_millis(2);

/// Jobs for a worker in any language: they come out as slots are free, and their outcomes go in.
///
/// Two threads of its own do the work: one claims and reports, the other keeps the leases, however long a handler blocks
/// its thread, its event loop or its interpreter. Dropping it stops both: leases of jobs under way end by themselves.
#[derive(Debug)]
pub struct Claims {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the threads, the jobs and the worker share.
#[derive(Debug)]
pub struct Shared {
    pub(super) tasks: Tasks,
    pub(super) options: WorkerOptions,
    pub(super) lease_ms: u64,
    generation: u64,
    pub(super) state: Mutex<State>,
    /// Wakes the thread that claims and reports.
    pub(super) bell: Arc<Bell>,
    /// Wakes the thread that keeps the leases.
    pub(super) leases: Arc<Bell>,
    arrived: Condvar,
    arrived_event: Event,
    /// Rings when a slot is given back or an outcome was sent.
    settled: Condvar,
}

#[derive(Debug, Default)]
pub struct State {
    /// Claimed and not taken by a handler yet.
    ready: VecDeque<Job>,
    /// Every run whose lease is held.
    pub(super) runs: HashMap<TaskId, Arc<Run>>,
    /// Outcomes that are not sent yet.
    reports: VecDeque<Outgoing>,
    /// Outcomes on their way.
    sending: usize,
    /// A claim is on its way: what it brings may have to be handed back.
    claiming: bool,
    /// Jobs that are not finished, ready ones included.
    slots: usize,
    /// Nothing is claimed any more.
    stopping: bool,
    /// The threads are to end.
    pub(super) ended: bool,
}

#[derive(Debug)]
struct Outgoing {
    report: Report,
    verdict: Option<oneshot::Sender<Result<Verdict>>>,
}

impl Claims {
    /// Starts claiming from the options' queues.
    ///
    /// # Errors
    /// `InvalidInput` for options beyond their limits; `Unavailable` when the system gives no threads.
    pub fn start(tasks: &Tasks, options: WorkerOptions) -> Result<Self> {
        options.check()?;
        let lease_ms = limits::check_lease(u64::try_from(options.lease.as_millis()).unwrap_or(u64::MAX))?;
        let shared = Arc::new(Shared {
            tasks: tasks.clone(),
            options,
            lease_ms,
            generation: env::generation(),
            state: Mutex::default(),
            bell: Arc::default(),
            leases: Arc::default(),
            arrived: Condvar::new(),
            arrived_event: Event::new(),
            settled: Condvar::new(),
        });
        let claims = Self { shared, threads: Mutex::default() };
        claims.spawn("kappa-worker", |shared| Loop::new(shared).run())?;
        claims.spawn("kappa-leases", |shared| leases::keep(&shared))?;
        Ok(claims)
    }

    fn spawn(&self, name: &str, run: impl FnOnce(Arc<Shared>) + Send + 'static) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || run(shared));
        let failed = |error| Error::new(ErrorKind::Unavailable, "the system gave no thread").caused_by(error);
        self.threads.lock().push(thread.map_err(failed)?);
        Ok(())
    }

    /// The next job; none when none came within `wait`, or the worker has stopped.
    pub fn next_within(&self, wait: Duration) -> Option<Job> {
        let mut state = self.shared.state.lock();
        // Also the wake-up of a job that was taken meanwhile ends no wait.
        self.shared.arrived.wait_while_for(&mut state, |state| state.ready.is_empty() && !state.stopping, wait);
        state.ready.pop_front()
    }

    /// The next job that is there already.
    pub fn next_now(&self) -> Option<Job> {
        self.shared.state.lock().ready.pop_front()
    }

    /// The next job, as soon as there is one; none once the worker has stopped. Dropping the future loses nothing.
    pub async fn next(&self) -> Option<Job> {
        loop {
            let arrived = self.shared.arrived_event.listen();
            {
                let mut state = self.shared.state.lock();
                if let Some(job) = state.ready.pop_front() {
                    return Some(job);
                }
                if state.stopping {
                    return None;
                }
            }
            arrived.await;
        }
    }

    /// Whether no more jobs come.
    pub fn is_stopped(&self) -> bool {
        self.shared.state.lock().stopping
    }

    /// How many jobs are ready to be taken, and how many are with handlers.
    pub fn under_way(&self) -> (usize, usize) {
        let state = self.shared.state.lock();
        (state.ready.len(), state.slots - state.ready.len())
    }

    /// Claims nothing more and hands back what no handler has begun.
    pub fn stop_claiming(&self) {
        let ready = {
            let mut state = self.shared.state.lock();
            state.stopping = true;
            std::mem::take(&mut state.ready)
        };
        for job in ready {
            drop(job.finish(Outcome::Released));
        }
        self.shared.arrived.notify_all();
        self.shared.arrived_event.notify(usize::MAX);
        self.shared.bell.ring();
    }

    /// Claims nothing more, lets handlers end for `grace`, then raises their signals and hands their tasks back. Answers how
    /// many had not ended. Outcomes are sent before it returns, as far as the database takes them.
    pub fn stop(&self, grace: Duration) -> usize {
        self.stop_claiming();
        let shared = &self.shared;
        let boot = || shared.options.env.clock.boot_ms();
        let until = boot().saturating_add(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX / 2));
        let mut state = shared.state.lock();
        while state.slots > 0 && boot() < until {
            let left = Duration::from_millis(until.saturating_sub(boot()));
            shared.settled.wait_for(&mut state, left.min(LOOK_AGAIN));
        }
        // Also those that were given up before, because they took too long: their handlers have not returned.
        let unfinished = state.slots;
        let held: Vec<_> = state.runs.drain().map(|(_, run)| run).collect();
        for run in held {
            if run.give_up(Interrupt::Stopped) {
                let report = Report { lease: run.lease, outcome: Outcome::Released };
                state.reports.push_back(Outgoing { report, verdict: None });
            }
        }
        shared.bell.ring();
        drop(state);
        shared.flush(Duration::from_millis(shared.lease_ms));
        self.end();
        unfinished
    }

    /// Ends the threads without waiting for handlers: what was not begun is handed back, what runs is not renewed any more.
    pub(super) fn end_now(&self) {
        self.stop_claiming();
        self.shared.flush(LOOK_AGAIN);
        self.end();
    }

    fn end(&self) {
        self.shared.end();
        for thread in self.threads.lock().drain(..) {
            // A thread that panicked has told nobody; its leases end by themselves.
            let _ = thread.join();
        }
    }
}

impl Drop for Claims {
    fn drop(&mut self) {
        // The threads of a forked child's copy are its parent's.
        if self.shared.generation == env::generation() {
            self.end_now();
        }
    }
}

impl Shared {
    /// Takes the outcome of a run, and gives its slot back.
    pub(super) fn finish(&self, run: &Run, outcome: Outcome) -> Pending<Verdict> {
        let (sender, receiver) = oneshot::channel();
        let verdict = self.settle(run, outcome, Some(sender));
        self.bell.ring();
        verdict.map_or_else(
            || Pending::new(async move { receiver.await.unwrap_or_else(|_| Err(ended())) }),
            Pending::ready,
        )
    }

    /// As [`Shared::finish`], without a word to the thread that reports. What is known at once is answered; otherwise
    /// `sender` is told.
    pub(super) fn settle(
        &self,
        run: &Run,
        outcome: Outcome,
        sender: Option<oneshot::Sender<Result<Verdict>>>,
    ) -> Option<Result<Verdict>> {
        if self.generation != env::generation() {
            // The run belongs to the process that this one was forked from, and so do the locks.
            return Some(Err(ended()));
        }
        let mut state = self.state.lock();
        state.slots -= 1;
        self.settled.notify_all();
        let held = !std::mem::replace(&mut run.state.lock().given_up, true);
        if held {
            state.runs.remove(&run.lease.task);
        }
        if !held || state.ended {
            return Some(Ok(Verdict::Stale));
        }
        let report = Report { lease: run.lease, outcome };
        state.reports.push_back(Outgoing { report, verdict: sender });
        None
    }

    /// Reports the outcome of a run that was given up.
    pub(super) fn report(&self, lease: Lease, outcome: Outcome) {
        self.state.lock().reports.push_back(Outgoing { report: Report { lease, outcome }, verdict: None });
        self.bell.ring();
    }

    /// Waits until every outcome was sent, and what a last claim brought was handed back, at most so long.
    fn flush(&self, wait: Duration) {
        let boot = || self.options.env.clock.boot_ms();
        let until = boot().saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX / 2));
        let mut state = self.state.lock();
        while (!state.reports.is_empty() || state.sending > 0 || state.claiming) && !state.ended && boot() < until {
            self.settled.wait_for(&mut state, PAUSE);
        }
    }

    /// Ends both threads, and lets no lease go on.
    fn end(&self) {
        let runs = {
            let mut state = self.state.lock();
            state.stopping = true;
            state.ended = true;
            std::mem::take(&mut state.runs)
        };
        for run in runs.into_values() {
            run.give_up(Interrupt::LeaseLost);
        }
        self.bell.ring();
        self.leases.ring();
        self.arrived.notify_all();
        self.arrived_event.notify(usize::MAX);
        self.settled.notify_all();
    }

    fn take_in(self: &Arc<Self>, claimed: Vec<Claimed>, asked_at: u64) {
        let count = claimed.len();
        let mut state = self.state.lock();
        for Claimed { task, lease, .. } in claimed {
            let run = RunState { expires: asked_at.saturating_add(self.lease_ms), ..RunState::default() };
            let deadline = asked_at.saturating_add(task.timeout_ms);
            let run =
                Arc::new(Run { lease, begun: asked_at, deadline, state: Mutex::new(run), interrupted: Event::new() });
            state.runs.insert(task.id, Arc::clone(&run));
            state.slots += 1;
            state.ready.push_back(Job::new(task, run, Arc::clone(self)));
        }
        let stopping = state.stopping;
        let unwanted = if stopping { std::mem::take(&mut state.ready) } else { VecDeque::new() };
        drop(state);
        for job in unwanted {
            drop(job.finish(Outcome::Released));
        }
        for _ in 0..count {
            self.arrived.notify_one();
        }
        self.arrived_event.notify_additional(count);
        self.leases.ring();
    }
}

/// The thread that claims and reports.
struct Loop {
    shared: Arc<Shared>,
    /// A claim would probably find something.
    promising: bool,
    idle_wakes: u32,
    /// So many outcomes go out together.
    most: usize,
}

impl Loop {
    fn new(shared: Arc<Shared>) -> Self {
        Self { shared, promising: true, idle_wakes: 0, most: limits::MAX_TASKS }
    }

    fn run(mut self) {
        loop {
            let (reports, free, claim) = {
                let mut state = self.shared.state.lock();
                if state.ended {
                    return;
                }
                let reports = take_some(&mut state.reports, self.most);
                state.sending = reports.len();
                let free = self.shared.options.concurrency.saturating_sub(state.slots);
                let free = if state.stopping { 0 } else { free };
                // Beside outcomes a claim costs no record of its own. A single one goes alone once it was refused in company.
                let alone = self.most == 1 && !reports.is_empty();
                let claim = if !alone && (self.promising || !reports.is_empty()) { free } else { 0 };
                state.claiming = claim > 0;
                (reports, free, claim)
            };
            if reports.is_empty() && claim == 0 {
                if self.idle(free).is_err() {
                    return self.shared.end();
                }
            } else if !self.work(reports, claim) {
                return self.shared.end();
            }
        }
    }

    /// Sends outcomes and claims; false once the database is closed.
    fn work(&mut self, reports: Vec<Outgoing>, claim: usize) -> bool {
        let shared = &self.shared;
        let options = &shared.options;
        let asked_at = options.env.clock.boot_ms();
        let work = Work {
            worker: options.name.clone(),
            instance: shared.tasks.instance(),
            reports: reports.iter().map(|outgoing| outgoing.report.clone()).collect(),
            queues: options.queues.clone(),
            claim: claim.min(limits::MAX_TASKS),
            lease_ms: shared.lease_ms,
        };
        let goes_on = match shared.tasks.work(work).wait() {
            Ok(worked) => {
                self.promising = claim > 0 && !worked.claimed.is_empty() || claim == 0 && self.promising;
                self.most = limits::MAX_TASKS;
                for (outgoing, verdict) in reports.into_iter().zip(worked.verdicts) {
                    if let Some(sender) = outgoing.verdict {
                        // The handler may not want to know.
                        let _ = sender.send(Ok(verdict));
                    }
                }
                shared.take_in(worked.claimed, asked_at);
                true
            }
            Err(error) => self.put_off(reports, claim > 0, &error),
        };
        // Behind what was taken in or kept for later: whoever stops the worker waits until there is none of it.
        let mut state = self.shared.state.lock();
        (state.sending, state.claiming) = (0, false);
        drop(state);
        self.shared.settled.notify_all();
        goes_on
    }

    /// Keeps outcomes for later where that may help; false once the database is closed.
    fn put_off(&mut self, reports: Vec<Outgoing>, claimed: bool, error: &Error) -> bool {
        let shared = &self.shared;
        let lasting = matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::TooLarge | ErrorKind::Internal);
        let closed = error.kind() == ErrorKind::Closed;
        if lasting && (reports.len() > 1 || claimed && !reports.is_empty()) {
            // Too much together, or because of one of them or of the claim: the others must not go with it.
            self.most = (reports.len() / 2).max(1);
            let mut state = shared.state.lock();
            reports.into_iter().rev().for_each(|outgoing| state.reports.push_front(outgoing));
            return true;
        }
        tracing::warn!(%error, outcomes = reports.len(), "a worker could not report or claim");
        let mut replaced = false;
        for outgoing in reports.into_iter().rev() {
            if lasting || closed {
                if let Some(sender) = outgoing.verdict {
                    let _ = sender.send(Err(error.clone()));
                }
                if let Some(failed) = refused(&outgoing.report, error).filter(|_| lasting) {
                    shared.state.lock().reports.push_front(Outgoing { report: failed, verdict: None });
                    replaced = true;
                }
            } else {
                // It is tried again until it is accepted, or stale because its lease has ended.
                shared.state.lock().reports.push_front(outgoing);
            }
        }
        // What takes a result's place goes at once: the leases of those behind it end.
        if !closed && !replaced {
            shared.bell.wait(PAUSE);
        }
        !closed
    }

    /// Waits until there is something to do. An error means that the database is closed.
    fn idle(&mut self, free: usize) -> Result<()> {
        let shared = &self.shared;
        if free == 0 {
            shared.bell.wait(LOOK_AGAIN);
            self.promising = true;
            return Ok(());
        }
        // Before the look: what is committed between the two is not missed.
        let mut committed = shared.tasks.committed();
        let waker = Waker::from(Arc::clone(&shared.bell));
        let mut context = Context::from_waker(&waker);
        let rung = Future::poll(Pin::new(&mut committed), &mut context);
        let readiness = match shared.tasks.ready(&shared.options.queues).wait() {
            Ok(readiness) => readiness,
            Err(error) if error.kind() == ErrorKind::Closed => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "a worker could not look for tasks");
                shared.bell.wait(PAUSE);
                return Ok(());
            }
        };
        if readiness.now {
            self.promising = true;
            self.idle_wakes = 0;
            return Ok(());
        }
        if matches!(rung, Poll::Ready(Err(ref error)) if error.kind() == ErrorKind::Closed) {
            return Err(ended());
        }
        let wait = readiness.next_in_ms.map_or(LOOK_AGAIN, |ms| Duration::from_millis(ms).min(LOOK_AGAIN));
        if rung.is_pending() && shared.bell.wait(wait) {
            self.idle_wakes = self.idle_wakes.saturating_add(1);
        } else {
            self.idle_wakes = 0;
        }
        if self.idle_wakes > IDLE_WAKES {
            shared.bell.wait(IDLE_PAUSE.min(wait));
        }
        Ok(())
    }
}

/// What is reported where a result was refused for good: without a word the task would stay as it is until its lease ends, and
/// die as if its worker had.
fn refused(report: &Report, error: &Error) -> Option<Report> {
    let Outcome::Completed { .. } = report.outcome else { return None };
    Some(Report { lease: report.lease, outcome: Outcome::Failed { error: error.to_string(), retry: true } })
}

/// As many outcomes as one operation takes, and no more than `most`.
fn take_some(reports: &mut VecDeque<Outgoing>, most: usize) -> Vec<Outgoing> {
    let mut bytes = 0;
    let fits = |outgoing: &&Outgoing| {
        let first = bytes == 0;
        bytes += outgoing.report.outcome.len() + RECORD_BYTES;
        first || bytes <= REPORT_BYTES
    };
    let count = reports.iter().take(most).take_while(fits).count();
    reports.drain(..count).collect()
}

fn ended() -> Error {
    Error::new(ErrorKind::Closed, "the worker has ended")
}
