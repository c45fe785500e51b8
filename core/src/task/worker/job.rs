//! One claimed task in the hands of a handler.

use std::sync::Arc;

use event_listener::Event;
use parking_lot::Mutex;

use crate::executor::Pending;
use crate::task::json::Json;
use crate::task::model::{Lease, Outcome, Task, TaskId, Verdict};

use super::claims::Shared;

/// Why a run should end, told by its signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// Somebody cancelled the task.
    Cancelled,
    /// It took longer than the task's timeout: what it answers now is refused.
    TimedOut,
    /// The lease is held no more: what it answers now is refused, and another run may have begun.
    LeaseLost,
    /// The worker stops, and its grace is over: the task was handed back.
    Stopped,
}

impl Interrupt {
    /// The stable text of this reason.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
            Self::LeaseLost => "lease_lost",
            Self::Stopped => "stopped",
        }
    }
}

/// A failure that a handler answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub error: String,
    /// Whether another run may help.
    pub retry: bool,
}

impl Failure {
    /// A failure that no further run would mend: the task is a dead letter at once.
    pub fn final_because(error: impl Into<String>) -> Self {
        Self { error: error.into(), retry: false }
    }
}

impl<E: std::fmt::Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { error: error.to_string(), retry: true }
    }
}

/// What the threads of a worker and a handler share about a run.
#[derive(Debug)]
pub struct Run {
    pub lease: Lease,
    /// When it was claimed, by the clock since boot.
    pub begun: u64,
    /// When its time is over, by the clock since boot.
    pub deadline: u64,
    pub state: Mutex<RunState>,
    pub interrupted: Event,
}

#[derive(Debug, Default)]
pub struct RunState {
    pub interrupt: Option<Interrupt>,
    /// What was not sent yet.
    pub progress: Option<f64>,
    /// When the lease ends by the clock since boot, unless it is renewed.
    pub expires: u64,
    /// The lease was given up: nothing more is reported.
    pub given_up: bool,
}

impl Run {
    /// Raises the signal; the first reason stays.
    pub fn interrupt(&self, why: Interrupt) {
        let mut state = self.state.lock();
        if state.interrupt.is_none() || why == Interrupt::LeaseLost {
            state.interrupt = Some(why);
        }
        drop(state);
        self.interrupted.notify(usize::MAX);
    }

    /// Raises the signal and reports nothing more; whether something would have been.
    pub fn give_up(&self, why: Interrupt) -> bool {
        let held = !std::mem::replace(&mut self.state.lock().given_up, true);
        self.interrupt(why);
        held
    }
}

/// A claimed task. It holds a slot of its worker until it is finished or dropped; dropped without an outcome it failed.
#[derive(Debug)]
pub struct Job {
    task: Task,
    run: Arc<Run>,
    /// None once it is finished.
    shared: Option<Arc<Shared>>,
}

impl Job {
    pub(super) fn new(task: Task, run: Arc<Run>, shared: Arc<Shared>) -> Self {
        Self { task, run, shared: Some(shared) }
    }

    /// The task as it was claimed.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// What it should be run with.
    pub fn params(&self) -> &Json {
        &self.task.params
    }

    /// A fencing token: the task and the number of the run, which rises with each. Give it to whatever the run writes to, so
    /// that the receiver can refuse what comes from an older run.
    pub fn fence(&self) -> (TaskId, u32) {
        (self.run.lease.task, self.run.lease.run)
    }

    /// The lease, for those who report by themselves.
    pub fn lease(&self) -> Lease {
        self.run.lease
    }

    /// Says how far the run is, from 0 to 1; sent at most once a second, the newest value.
    pub fn progress(&self, progress: f64) {
        if (0.0..=1.0).contains(&progress) {
            self.run.state.lock().progress = Some(progress);
        }
    }

    /// Whether the run should end.
    pub fn cancelled(&self) -> bool {
        self.interrupt().is_some()
    }

    /// Why the run should end; none while it should not.
    pub fn interrupt(&self) -> Option<Interrupt> {
        self.run.state.lock().interrupt
    }

    /// Ready with the reason once the run should end. It holds nothing of the job, so that it can be waited for elsewhere.
    pub fn interrupted(&self) -> Pending<Interrupt> {
        let run = Arc::clone(&self.run);
        Pending::new(async move {
            loop {
                let rung = run.interrupted.listen();
                if let Some(why) = run.state.lock().interrupt {
                    return Ok(why);
                }
                rung.await;
            }
        })
    }

    /// Ends the run. The answer, which need not be waited for, says whether the outcome was accepted.
    pub fn finish(mut self, outcome: Outcome) -> Pending<Verdict> {
        let shared = self.shared.take().expect("a job is finished once");
        shared.finish(&self.run, outcome)
    }

    /// Ends several runs: their outcomes go out together, while one [`Job::finish`] after another might send the first
    /// alone. Whether they are accepted is told by their tasks.
    pub fn finish_all(jobs: impl IntoIterator<Item = (Self, Outcome)>) {
        let mut told: Option<Arc<Shared>> = None;
        for (mut job, outcome) in jobs {
            let shared = job.shared.take().expect("a job is finished once");
            shared.settle(&job.run, outcome, None);
            if let Some(other) = told.replace(Arc::clone(&shared)).filter(|told| !Arc::ptr_eq(told, &shared)) {
                other.bell.ring();
            }
        }
        if let Some(shared) = told {
            shared.bell.ring();
        }
    }

    /// Ends the run with what a handler answered.
    pub fn finish_with(self, answer: Result<Json, Failure>) -> Pending<Verdict> {
        self.finish(match answer {
            Ok(result) => Outcome::Completed { result },
            Err(Failure { error, retry }) => Outcome::Failed { error, retry },
        })
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            let error = "the handler ended without an outcome".to_owned();
            drop(shared.finish(&self.run, Outcome::Failed { error, retry: true }));
        }
    }
}
