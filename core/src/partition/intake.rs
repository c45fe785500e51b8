//! Operations that wait to be run, bounded in bytes until they are durable.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use event_listener::{Event, EventListener};
use parking_lot::{Condvar, Mutex};

use crate::env::Entropy;
use crate::error::Result;

use super::reply::{Bell, Reply};
use super::time::EngineTime;
use super::{Domain, Moment};

/// How often callers that wait for room look at their deadline.
const DEADLINE_TICK: Duration = Duration::from_millis(100);

/// Seeds that are drawn at a time.
const SEEDS: usize = 32;

/// One operation and the caller who waits for it.
pub struct Job<D: Domain> {
    pub operation: D::Operation,
    pub bytes: usize,
    pub seed: u64,
    pub moment: Moment,
    pub answer: Reply<Result<D::Answer>>,
}

impl<D: Domain> Job<D> {
    /// The job, run with this result.
    pub fn complete(self, result: Result<D::Answer>) -> Completion<D> {
        Completion { answer: self.answer, result, bytes: self.bytes }
    }
}

/// One caller's answer, kept back until the group it rests on is durable.
pub struct Completion<D: Domain> {
    pub answer: Reply<Result<D::Answer>>,
    pub result: Result<D::Answer>,
    pub bytes: usize,
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
    entropy: Arc<dyn Entropy>,
    state: Mutex<State<D>>,
    arrived: Condvar,
    /// Wakes the thread that looks after deadlines.
    waited_for: Condvar,
    room: Event,
}

struct State<D: Domain> {
    jobs: VecDeque<Job<D>>,
    /// What the callers of these jobs block on; the next batch gets another one.
    bell: Arc<Bell>,
    /// Answers that may leave, while who made them durable is busy with the next group.
    answers: Vec<Completion<D>>,
    /// Bytes taken in and not durable yet, also those that left the queue.
    bytes: usize,
    /// Somebody left a staged group to the committer's threads.
    summoned: bool,
    /// Callers that wait for room.
    waiting: usize,
    closed: bool,
    /// Drawn ahead of need: asking the system costs as much as a good part of a small operation.
    seeds: Vec<u64>,
}

impl<D: Domain> State<D> {
    fn seed(&mut self, entropy: &dyn Entropy) -> u64 {
        self.seeds.pop().unwrap_or_else(|| {
            let mut bytes = [0; 8 * SEEDS];
            entropy.fill(&mut bytes);
            let (first, rest) = bytes.as_chunks::<8>().0.split_first().expect("there are several");
            self.seeds.extend(rest.iter().map(|seed| u64::from_ne_bytes(*seed)));
            u64::from_ne_bytes(*first)
        })
    }
}

impl<D: Domain> Intake<D> {
    pub fn new(limit: usize, entropy: Arc<dyn Entropy>) -> Self {
        let state = State {
            jobs: VecDeque::new(),
            bell: Arc::default(),
            answers: Vec::new(),
            bytes: 0,
            summoned: false,
            waiting: 0,
            closed: false,
            seeds: Vec::new(),
        };
        Self {
            limit,
            entropy,
            state: Mutex::new(state),
            arrived: Condvar::new(),
            waited_for: Condvar::new(),
            room: Event::new(),
        }
    }

    /// Takes `job` in and draws its moment, so that the order of moments is the order of the queue; how many are
    /// in the queue now, and what rings for its answer. Nobody is woken: that is for [`Intake::call`].
    pub fn offer(&self, mut job: Job<D>, time: &EngineTime) -> Result<(usize, Arc<Bell>), Refused<D>> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        // A job larger than the whole intake is taken alone; otherwise it could never be.
        if state.bytes > 0 && state.bytes + job.bytes > self.limit {
            return Err(Refused::Full(job));
        }
        job.moment = time.draw();
        job.seed = state.seed(&*self.entropy);
        state.bytes += job.bytes;
        job.answer.by(Arc::clone(&state.bell));
        state.jobs.push_back(job);
        Ok((state.jobs.len(), Arc::clone(&state.bell)))
    }

    /// Lets the committer know that there are jobs.
    pub fn call(&self) {
        self.arrived.notify_one();
    }

    /// Rings when there is room, and every now and then while somebody waits.
    pub fn listen_for_room(&self) -> EventListener {
        self.room.listen()
    }

    /// Waits for jobs, answers or a summons and gives the answers; none once the intake is closed and empty.
    pub fn wait_for_work(&self) -> Option<Vec<Completion<D>>> {
        let mut state = self.state.lock();
        while state.jobs.is_empty() && state.answers.is_empty() && !state.summoned {
            if state.closed {
                return None;
            }
            self.arrived.wait(&mut state);
        }
        state.summoned = false;
        Some(std::mem::take(&mut state.answers))
    }

    /// Appends up to `most` jobs that are there to `jobs`, which keeps its room from call to call.
    pub fn take(&self, jobs: &mut Vec<Job<D>>, most: usize) {
        let mut state = self.state.lock();
        let count = state.jobs.len().min(most);
        if count > 0 {
            jobs.extend(state.jobs.drain(..count));
            state.bell = Arc::default();
        }
    }

    /// Has a thread of the committer look at what is staged.
    pub fn summon(&self) {
        self.state.lock().summoned = true;
        self.call();
    }

    /// Leaves `answers` to the next who waits for work, and gives those that nobody has taken meanwhile.
    pub fn hand_back(&self, answers: Vec<Completion<D>>) -> Vec<Completion<D>> {
        let late = std::mem::replace(&mut self.state.lock().answers, answers);
        self.call();
        late
    }

    /// Answers that were left to the next who waits for work, and that nobody has taken yet.
    pub fn take_answers(&self) -> Vec<Completion<D>> {
        std::mem::take(&mut self.state.lock().answers)
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
        let mut state = self.state.lock();
        let (jobs, answers) = (std::mem::take(&mut state.jobs), std::mem::take(&mut state.answers));
        drop(state);
        self.close();
        drop((jobs, answers));
    }

    #[cfg(test)]
    /// Whether nothing more is taken in.
    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
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
