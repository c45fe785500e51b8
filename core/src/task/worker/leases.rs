//! The thread that keeps leases: it renews them whatever handlers do, and tells runs that should end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use crate::error::ErrorKind;
use crate::executor::Pending;
use crate::task::model::{Lease, Outcome, Renewal};

use super::claims::Shared;
use super::job::{Interrupt, Run};

/// How often runs are looked at, whatever happens: for their time, their progress, and whether somebody cancelled them.
const EVERY: Duration = Duration::from_secs(1);
/// A run that has gone on for so long is looked at after commits too, because one of them may cancel it. Shorter ones would have ended
/// before they could heed it, and a busy queue has many of them.
const LONG: Duration = Duration::from_millis(100);
/// Between two looks after commits, so that a busy database is not asked at each of them.
const PAUSE: Duration = Duration::from_millis(50);
/// With nothing to keep the thread rests until a job comes.
const IDLE: Duration = Duration::from_mins(1);
/// One call renews at most so many leases.
const MOST: usize = 1_000;

/// Keeps the leases of a worker until it ends.
pub fn keep(shared: &Shared) {
    let clock = &shared.options.env.clock;
    let third = shared.lease_ms / 3;
    let mut renewed = clock.boot_ms();
    loop {
        let (runs, ended) = {
            let state = shared.state.lock();
            (state.runs.values().cloned().collect::<Vec<_>>(), state.ended)
        };
        if ended {
            return;
        }
        // Before the look: what is committed between the two is not missed.
        let committed = (!runs.is_empty()).then(|| shared.tasks.committed());
        let now = clock.boot_ms();
        end_overdue(shared, &runs, now);
        send_progress(shared, &runs);
        let due = now.saturating_sub(renewed) >= third;
        for some in runs.chunks(MOST) {
            look_after(shared, some, due);
        }
        if due {
            renewed = now;
        }
        let next = next_look(&runs, clock.boot_ms()).min(Duration::from_millis(third));
        wait(shared, &runs, next, committed);
    }
}

/// Waits for the next look: so long, or until a job comes, or something was committed that may have cancelled a long run.
fn wait(shared: &Shared, runs: &[Arc<Run>], next: Duration, committed: Option<Pending<()>>) {
    let Some(mut committed) = committed else {
        shared.leases.wait(next);
        return;
    };
    let begun = runs.iter().map(|run| run.begun).min().unwrap_or(u64::MAX);
    let gone_on = Duration::from_millis(shared.options.env.clock.boot_ms().saturating_sub(begun));
    let deaf = LONG.saturating_sub(gone_on).max(PAUSE);
    if shared.leases.wait(deaf.min(next)) || deaf >= next {
        return;
    }
    let waker = Waker::from(Arc::clone(&shared.leases));
    if Future::poll(Pin::new(&mut committed), &mut Context::from_waker(&waker)).is_pending() {
        shared.leases.wait(next.saturating_sub(deaf));
    }
}

fn next_look(runs: &[Arc<Run>], now: u64) -> Duration {
    let next = runs.iter().map(|run| run.deadline.min(run.state.lock().expires)).min();
    match next {
        None => IDLE,
        Some(at) => Duration::from_millis(at.saturating_sub(now).max(1)).min(EVERY),
    }
}

/// Gives up runs whose time is over, or whose lease ended because nobody could be reached to renew it.
fn end_overdue(shared: &Shared, runs: &[Arc<Run>], now: u64) {
    for run in runs {
        if run.deadline <= now {
            shared.state.lock().runs.remove(&run.lease.task);
            if run.give_up(Interrupt::TimedOut) {
                let error = "the run took longer than the task's timeout".to_owned();
                shared.report(run.lease, Outcome::Failed { error, retry: true });
            }
        } else if run.state.lock().expires <= now {
            shared.state.lock().runs.remove(&run.lease.task);
            run.give_up(Interrupt::LeaseLost);
        }
    }
}

fn send_progress(shared: &Shared, runs: &[Arc<Run>]) {
    let said = runs.iter().filter_map(|run| Some((run, run.state.lock().progress.take()?)));
    let sent: Vec<_> = said.map(|(run, value)| (run, shared.tasks.progress(run.lease, value).start())).collect();
    for (run, answer) in sent {
        if let Some(Ok(renewal)) = answer.wait_for(EVERY) {
            heed(shared, run, renewal, None);
        }
    }
}

/// Asks how leases stand, and renews them where that is due. Each is renewed with the record of its task: those of many that
/// have failed before may be too much for one operation.
fn look_after(shared: &Shared, runs: &[Arc<Run>], renew: bool) {
    let leases: Vec<Lease> = runs.iter().map(|run| run.lease).collect();
    let asked_at = shared.options.env.clock.boot_ms();
    let answer = if renew { shared.tasks.renew(leases, shared.lease_ms) } else { shared.tasks.check(leases) };
    match answer.wait_for(Duration::from_millis(shared.lease_ms / 3)) {
        Some(Ok(renewals)) => {
            let until = renew.then(|| asked_at.saturating_add(shared.lease_ms));
            for (run, renewal) in runs.iter().zip(renewals) {
                heed(shared, run, renewal, until);
            }
        }
        Some(Err(error)) if error.kind() == ErrorKind::TooLarge && runs.len() > 1 => {
            let (some, others) = runs.split_at(runs.len() / 2);
            look_after(shared, some, renew);
            look_after(shared, others, renew);
        }
        Some(Err(error)) => tracing::debug!(%error, "leases could not be renewed yet"),
        None => tracing::debug!("leases were not renewed in time"),
    }
}

fn heed(shared: &Shared, run: &Arc<Run>, renewal: Renewal, until: Option<u64>) {
    match renewal {
        Renewal::Held { cancel, .. } => {
            if let Some(until) = until {
                run.state.lock().expires = until;
            }
            if cancel {
                run.interrupt(Interrupt::Cancelled);
            }
        }
        // A run that was reported meanwhile is as stale, and has nothing to be told.
        Renewal::Stale => {
            if shared.state.lock().runs.remove(&run.lease.task).is_some() {
                run.give_up(Interrupt::LeaseLost);
            }
        }
    }
}
