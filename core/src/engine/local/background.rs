//! What goes on beside the writes: checkpoints, merges, late syncs, and the rebuild of a view that failed.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::engine::Durability;
use crate::env::host::step_back;
use crate::error::{Error, ErrorKind, Result};

use super::view::View;
use super::{Shared, damages, opening};

/// How often the view is looked at while nothing calls for it.
const LOOK: Duration = Duration::from_millis(250);
/// How often the log is looked at: often enough that a writer at full speed does not use up the segments
/// that are made ahead of need.
const LOG_LOOK: Duration = Duration::from_millis(100);
/// How often everything at rest is read, so that rot is found while a backup is still young.
const SCRUB_EVERY_MS: u64 = 7 * 24 * 3_600 * 1_000;
/// The pause after each 64 KiB of it, so that a scrub takes a few per cent of a core and of the disk.
const SCRUB_PAUSE: Duration = Duration::from_millis(5);
/// How long a failed merge is left alone at first; twice as long after each further one,
const MERGE_PAUSE_MS: u64 = 10_000;
/// up to this.
const MOST_MERGE_PAUSE_MS: u64 = 600_000;
/// How long a failed attempt is left alone.
const AGAIN: Duration = Duration::from_secs(1);

/// The threads, until they are told to end.
pub struct Background {
    end: Arc<End>,
    threads: Vec<JoinHandle<()>>,
}

/// Tells the threads that it is time.
#[derive(Debug, Default)]
pub struct End {
    asked: AtomicBool,
    lock: Mutex<()>,
    rung: Condvar,
}

impl End {
    fn asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    fn ask(&self) {
        self.asked.store(true, Ordering::Release);
        drop(self.lock.lock());
        self.rung.notify_all();
    }

    /// Waits at most `within`; whether the thread goes on.
    fn wait(&self, within: Duration) -> bool {
        let mut lock = self.lock.lock();
        if !self.asked() {
            self.rung.wait_for(&mut lock, within);
        }
        !self.asked()
    }
}

impl Background {
    /// Starts the threads; `compare` has the view's content compared with the log's account first.
    pub fn start(shared: &Arc<Shared>, compare: bool) -> Result<Self> {
        let mut background = Self { end: Arc::default(), threads: Vec::new() };
        background.spawn("kappa-checkpoint", shared, move |shared, end| keep_view(shared, end, compare))?;
        background.spawn("kappa-merge", shared, keep_log)?;
        if shared.options.log.durability == Durability::Written {
            background.spawn("kappa-sync", shared, sync_late)?;
        }
        Ok(background)
    }

    /// No threads: a test does their work at moments of its own choice.
    #[cfg(test)]
    pub fn idle() -> Self {
        Self { end: Arc::default(), threads: Vec::new() }
    }

    fn spawn(
        &mut self,
        name: &str,
        shared: &Arc<Shared>,
        work: impl FnOnce(&Shared, &End) + Send + 'static,
    ) -> Result<()> {
        let (shared, end) = (Arc::clone(shared), Arc::clone(&self.end));
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
            // Drains and merges have the memtables and segments as their slack; callers have none.
            step_back();
            work(&shared, &end);
        });
        let failed = |error| Error::new(ErrorKind::Unavailable, "the system gave no thread").caused_by(error);
        self.threads.push(thread.map_err(failed)?);
        Ok(())
    }

    /// Ends the threads, each at its next safe place; the one that waits for work of `view` at once.
    pub fn end(self, view: &View) {
        self.end.ask();
        view.wake();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a background thread of the engine panicked; the next open recovers");
            }
        }
    }
}

fn keep_view(shared: &Shared, end: &End, compare: bool) {
    let mut compare = compare;
    while !end.asked() {
        let view = shared.view();
        if view.abandoned().is_some() {
            compare = false;
            if let Err(error) = replace_view(shared, end) {
                tracing::error!(%error, "the view could not be rebuilt; it is tried again");
                end.wait(AGAIN);
            }
        } else if compare && !view.repeats() && !view.is_filling() {
            // Begun again after a checkpoint that could not wait for its end.
            match view.verify_while(&|| !end.asked() && !view.is_filling()) {
                Ok(compared) => compare = !compared,
                Err(error) => tracing::warn!(%error, "the view does not hold what the log says"),
            }
        } else if view.wait_until_due(LOOK, || end.asked())
            && !end.asked()
            && let Err(error) =
                opening::room_for_drain(&shared.log, &view).and_then(|_room| opening::checkpoint(&shared.log, &view))
        {
            tracing::warn!(%error, "a checkpoint was put off");
            end.wait(AGAIN);
        }
    }
}

/// Fills a new view from the log while reads and writes are refused.
pub(super) fn replace_view(shared: &Shared, end: &End) -> Result<()> {
    {
        let _no_commit_is_under_way = shared.writing.lock();
        shared.rebuilding.store(true, Ordering::Release);
    }
    let go_on = &mut |_| if end.asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let kind = shared.options.view_kind;
    let view = opening::rebuild(&shared.log, &shared.directory, kind, &shared.view_options, go_on)?;
    shared.view.store(Arc::new(view));
    shared.rebuilding.store(false, Ordering::Release);
    tracing::info!("the view was rebuilt from the log");
    Ok(())
}

fn keep_log(shared: &Shared, end: &End) {
    let log = &shared.log;
    let mut look = LOG_LOOK;
    let (mut merge_from, mut merge_pause) = (0, 0);
    let mut scrubbed = shared.env.clock.boot_ms();
    while end.wait(look) {
        let maintained = if log.maintenance_due() { log.maintain() } else { Ok(()) };
        let now = shared.env.clock.boot_ms();
        let merged = if now >= merge_from && log.merge_due() { log.merge(&end.asked).map(drop) } else { Ok(()) };
        if merged.is_err() {
            // A merge reads and sorts everything again, and damage does not go away by itself.
            merge_pause = (merge_pause * 2).clamp(MERGE_PAUSE_MS, MOST_MERGE_PAUSE_MS);
            merge_from = now + merge_pause;
        }
        look = LOG_LOOK;
        if let Err(error) = maintained.and(merged) {
            tracing::warn!(%error, "upkeep of the log was put off");
            look = AGAIN;
        }
        if shared.env.clock.boot_ms().saturating_sub(scrubbed) >= SCRUB_EVERY_MS {
            scrubbed = shared.env.clock.boot_ms();
            scrub(shared, end);
        }
    }
}

fn scrub(shared: &Shared, end: &End) {
    // Upkeep goes on in the pauses: a scrub takes long, and a writer needs its segments.
    let upkeep = |_| {
        if shared.log.maintenance_due()
            && let Err(error) = shared.log.maintain()
        {
            tracing::warn!(%error, "upkeep of the log was put off");
        }
        end.wait(SCRUB_PAUSE)
    };
    match shared.log.scrub(upkeep) {
        Ok(found) => {
            for damage in damages(&found) {
                tracing::error!(damage, "stored data is damaged; restore a backup while the rest is readable");
            }
        }
        Err(error) => tracing::debug!(%error, "the scrub did not end"),
    }
}

fn sync_late(shared: &Shared, end: &End) {
    while end.wait(LOOK / 2) {
        if let Err(error) = shared.log.sync_if_due(shared.env.clock.boot_ms()) {
            tracing::error!(%error, "the log takes nothing more");
            return;
        }
    }
}
