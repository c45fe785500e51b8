//! Failing calls: each call to the disk fails once, in each way that a disk can fail.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::engine::Engine;
use crate::env::files::simulated::{Crash, Fault};
use crate::error::{Error, ErrorKind};
use crate::options::ViewKind;

use super::disk::{self, Place, Tree};
use super::oracle::{Bounds, Survived, Verdict, told};
use super::workload::{Run, Step, plan, plan_of_blocks};
use super::{processors, soak};

const SEED: u64 = 611;
/// Nothing runs beside the close, so it has nobody to wait for.
const AT_ONCE: Duration = Duration::ZERO;

/// What a failing call led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// The workload has fewer calls.
    Nothing,
    /// Nobody above noticed, or what failed was done again with success.
    GoneOn,
    /// The engine took no more writes until it was opened again.
    Stopped,
}

/// Runs `steps` with the call `n` failing and then ends the engine, and looks at what is left: the running engine first,
/// then what it has closed, then the directory after the end of the process and after a power cut.
pub fn meet(place: Place, steps: &[Step], fault: Fault, n: u64) -> Verdict<Met> {
    let told_where = |broken: String| format!("{broken}; fault={fault:?} call={n}");
    place.files.fail(fault, n);
    let mut run = Run::closed(place);
    let mut stopped = false;
    let first = run.open();
    judge(&run, first.as_ref().err()).map_err(told_where)?;
    if first.is_err() {
        run.open().map_err(|error| told_where(told(&error)))?;
    }
    for step in steps {
        let Err(error) = run.step(step) else { continue };
        judge(&run, Some(&error)).map_err(told_where)?;
        if goes_on(&mut run, step, &error).map_err(told_where)? {
            continue;
        }
        stopped = true;
        break;
    }
    let mut left = Left::of(&run.place);
    let fired_before = run.place.files.fault_fired();
    end(&mut run).map_err(|broken| told_where(format!("{broken}; at the close")))?;
    if !run.place.files.fault_fired() {
        return Ok(Met::Nothing);
    }
    if !fired_before {
        // It is the close that failed: what it left is what counts.
        left = Left::of(&run.place);
    }
    reopen(&mut run).map_err(|broken| told_where(format!("{broken}; behind the close")))?;
    left.judge(&run).map_err(told_where)?;
    Ok(if stopped { Met::Stopped } else { Met::GoneOn })
}

/// Ends the engine, which must wait for nothing.
fn end(run: &mut Run) -> Verdict<()> {
    let Some(engine) = run.engine.take() else { return Err("no engine is left to be closed".into()) };
    let view = engine.shared.view();
    let closed = engine.close(AT_ONCE);
    let waits = view.publish_waits();
    if waits > 0 {
        return Err(format!("waits={waits} for a group that nobody will publish"));
    }
    drop((view, engine));
    judge(run, closed.as_ref().err())
}

/// Starts another engine on the same files, where everything is that was acknowledged, and nothing that never was begun.
fn reopen(run: &mut Run) -> Verdict<()> {
    run.open().map_err(|error| told(&error))?;
    let bounds = Bounds { least: run.acknowledged, most: run.oracle.len() };
    run.oracle.examine(run.engine(), bounds)?;
    run.engine = None;
    Ok(())
}

/// What crashes leave of a place, each with what sled has then.
struct Left(Vec<(Crash, Place, Option<Tree>)>);

impl Left {
    fn of(place: &Place) -> Self {
        let (written, synced) = (place.view_files(), place.synced_view_files());
        let mut left = vec![(Crash::Killed, written.clone()), (Crash::Lost, written)];
        left.extend(synced.map(|synced| (Crash::Lost, Some(synced))));
        Self(left.into_iter().map(|(crash, view)| (crash, place.after(crash), view)).collect())
    }

    fn judge(self, run: &Run) -> Verdict<()> {
        let bounds = Bounds { least: run.acknowledged, most: run.oracle.len() };
        for (crash, place, view) in self.0 {
            if let Some(view) = &view {
                place.put_back(view);
            }
            let survived = run.oracle.survives(&place, bounds).and_then(Survived::keeps_the_view);
            survived.map_err(|broken| format!("{broken}; crash={crash:?}"))?;
        }
        Ok(())
    }
}

/// Whether the error is one that a failing disk may cause, and says what the caller should do.
fn judge(run: &Run, error: Option<&Error>) -> Verdict<()> {
    let Some(error) = error else { return Ok(()) };
    if !run.place.files.fault_fired() {
        return Err(format!("an error without a cause: {}", told(error)));
    }
    match error.kind() {
        ErrorKind::Ambiguous | ErrorKind::StorageFull | ErrorKind::Unavailable => Ok(()),
        _ => Err(format!("an error of the wrong kind: {}", told(error))),
    }
}

/// What a caller, or the background, does after a failure; whether the engine goes on.
fn goes_on(run: &mut Run, step: &Step, error: &Error) -> Verdict<bool> {
    if matches!(step, Step::Restart | Step::Kill) {
        return run.open().map(|()| true).map_err(|error| told(&error));
    }
    if run.engine().shared.view().abandoned().is_some() && !matches!(step, Step::Rebuild) {
        // As the background does.
        disk::rebuild(run.engine()).map_err(|error| told(&error))?;
    }
    if !matches!(step, Step::Rebuild) {
        // Nothing may be visible that could still be lost.
        run.oracle.examine_state(run.engine(), run.acknowledged)?;
    }
    let ambiguous = error.kind() == ErrorKind::Ambiguous;
    let begun = run.oracle.clone();
    run.oracle.forget_behind(run.acknowledged);
    // As the background does: without it, writes that grow are refused until there is a segment for them.
    let _ = run.engine().shared.log.maintain();
    let again = run.step(step);
    match again {
        Ok(()) if ambiguous && matches!(step, Step::Commit(_)) => Err("writes go on after a lost one".into()),
        Ok(()) => Ok(true),
        Err(again) if again.kind() == ErrorKind::Unavailable => {
            run.oracle = begun;
            Ok(false)
        }
        Err(again) => Err(format!("the second failure has the wrong kind: {}", told(&again))),
    }
}

/// Calls one after the other, for one kind of failure, each with the view that `kind_of` names, or left out; how many there
/// were and how many stopped the engine.
fn every_call(
    steps: &[Step],
    fault: Fault,
    kind_of: &(dyn Fn(usize) -> Option<ViewKind> + Sync),
) -> Verdict<(usize, usize)> {
    let [next, fired, stopped] = [0; 3].map(AtomicUsize::new);
    let work = || -> Verdict<()> {
        let scratch = disk::scratch();
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let files = disk::new_files(SEED + n as u64);
            let root = scratch.path().join(n.to_string());
            let place = match kind_of(n) {
                None => continue,
                Some(ViewKind::Memory) => Place::memory(files),
                Some(ViewKind::Sled) => Place::sled(files, &root).watched().0,
            };
            let met = meet(place.segments_of(16 << 10), steps, fault, n as u64)?;
            if root.exists() {
                std::fs::remove_dir_all(&root).unwrap();
            }
            match met {
                Met::Nothing => return Ok(()),
                Met::GoneOn => {}
                Met::Stopped => drop(stopped.fetch_add(1, Ordering::Relaxed)),
            }
            fired.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..processors()).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker panicked"))
    })?;
    Ok((fired.into_inner(), stopped.into_inner()))
}

/// A failing disk must cost no acknowledged operation and show none that may be lost, whichever call it was;
/// callers must learn what to do, nothing may hang, also no close, and a new start must work.
#[test]
fn a_call_that_fails_loses_nothing_that_was_acknowledged() {
    let steps = plan(SEED, 120);
    for fault in Fault::ALL {
        // sled takes its time, so it is under a sample of the failures only.
        let one_in = if soak() > 1 { 3 } else { 16 };
        let kind_of = |n: usize| Some(if n.is_multiple_of(one_in) { ViewKind::Sled } else { ViewKind::Memory });
        let met = every_call(&steps, fault, &kind_of);
        let (calls, stopped) = met.unwrap_or_else(|broken| panic!("seed={SEED}: {broken}"));
        println!("seed={SEED} fault={fault:?} calls={calls} stopped_the_engine={stopped}");
        assert!(calls > 50 && stopped > 0, "the workload was not touched");
    }
}

/// A view whose own files fail is given up and filled again, whichever call it was: its blocks, its names, sled's file.
#[test]
fn a_call_that_fails_under_the_view_costs_the_view_at_most() {
    let steps = plan_of_blocks();
    for (number, fault) in Fault::ALL.into_iter().enumerate() {
        let one_in = if soak() > 1 { 1 } else { 3 };
        let kind_of = |n: usize| (n + number).is_multiple_of(one_in).then_some(ViewKind::Sled);
        let met = every_call(&steps, fault, &kind_of);
        let (calls, stopped) = met.unwrap_or_else(|broken| panic!("seed={SEED}: {broken}"));
        println!("seed={SEED} fault={fault:?} calls={calls} stopped_the_engine={stopped}");
        assert!(calls > 30, "the workload was not touched");
    }
}
