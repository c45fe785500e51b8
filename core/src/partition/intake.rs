//! Operations that wait to be run, bounded in bytes until they are durable.

use std::collections::VecDeque;
use std::time::Duration;

use event_listener::{Event, EventListener};
use parking_lot::{Condvar, Mutex};

use crate::error::Result;

use super::time::EngineTime;
use super::{Domain, Moment};

/// How often callers that wait for room look at their deadline.
const DEADLINE_TICK: Duration = Duration::from_millis(100);

/// One operation and the caller who waits for it.
pub struct Job<D: Domain> {
    pub operation: D::Operation,
    pub bytes: usize,
    pub seed: u64,
    pub moment: Moment,
    pub answer: oneshot::Sender<Result<D::Answer>>,
}

/// Why a job was not taken in.
pub enum Refused<D: Domain> {
    /// There is no room now; the job comes back.
    Full(Job<D>),
    /// Nothing is taken in any more.
    Closed,
}

/// The queue before the committer.
pub struct Intake<D: Domain> {
    limit: usize,
    state: Mutex<State<D>>,
    arrived: Condvar,
    /// Wakes the thread that looks after deadlines.
    waited_for: Condvar,
    room: Event,
}

struct State<D: Domain> {
    jobs: VecDeque<Job<D>>,
    /// Bytes taken in and not durable yet, also those that left the queue.
    bytes: usize,
    /// Callers that wait for room.
    waiting: usize,
    closed: bool,
}

impl<D: Domain> Intake<D> {
    pub fn new(limit: usize) -> Self {
        let state = State { jobs: VecDeque::new(), bytes: 0, waiting: 0, closed: false };
        Self {
            limit,
            state: Mutex::new(state),
            arrived: Condvar::new(),
            waited_for: Condvar::new(),
            room: Event::new(),
        }
    }

    /// Takes `job` in and draws its moment, so that the order of moments is the order of the queue.
    pub fn offer(&self, mut job: Job<D>, time: &EngineTime) -> Result<(), Refused<D>> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        // A job larger than the whole intake is taken alone; otherwise it could never be.
        if state.bytes > 0 && state.bytes + job.bytes > self.limit {
            return Err(Refused::Full(job));
        }
        job.moment = time.draw();
        state.bytes += job.bytes;
        state.jobs.push_back(job);
        drop(state);
        self.arrived.notify_one();
        Ok(())
    }

    /// Rings when there is room, and every now and then while somebody waits.
    pub fn listen_for_room(&self) -> EventListener {
        self.room.listen()
    }

    /// Up to `most` jobs, waiting for the first; none once the intake is closed and empty.
    pub fn take(&self, most: usize) -> Option<Vec<Job<D>>> {
        let mut state = self.state.lock();
        while state.jobs.is_empty() {
            if state.closed {
                return None;
            }
            self.arrived.wait(&mut state);
        }
        let count = state.jobs.len().min(most);
        Some(state.jobs.drain(..count).collect())
    }

    /// Gives the room of durable (or failed) jobs back.
    pub fn release(&self, bytes: usize) {
        self.state.lock().bytes -= bytes;
        self.room.notify(usize::MAX);
    }

    /// Counts the caller among those that wait for room until the guard is dropped.
    pub fn wait_for_room(&self) -> Waiting<'_, D> {
        self.state.lock().waiting += 1;
        self.waited_for.notify_one();
        Waiting(self)
    }

    /// Wakes callers that wait for room now and then, because a future cannot wake itself at its
    /// deadline. Returns when the intake is closed.
    pub fn look_after_deadlines(&self) {
        let mut state = self.state.lock();
        while !state.closed {
            if state.waiting == 0 {
                self.waited_for.wait(&mut state);
            } else {
                self.waited_for.wait_for(&mut state, DEADLINE_TICK);
                self.room.notify(usize::MAX);
            }
        }
    }

    /// Takes nothing more and drops what is in the queue, which tells its callers.
    pub fn abandon(&self) {
        let jobs = std::mem::take(&mut self.state.lock().jobs);
        self.close();
        drop(jobs);
    }

    /// Takes nothing more; what is in the queue is still given out.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_all();
        self.waited_for.notify_all();
        self.room.notify(usize::MAX);
    }
}

/// A caller that waits for room.
pub struct Waiting<'a, D: Domain>(&'a Intake<D>);

impl<D: Domain> Drop for Waiting<'_, D> {
    fn drop(&mut self) {
        self.0.state.lock().waiting -= 1;
    }
}
