//! Bugs planted into the engine, the log and the view, to see that these tests find each of them.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::engine::local::log;
use crate::engine::local::view::options;
use crate::engine::{Engine as _, Record};
use crate::env::files::simulated::{Crash, Fault, SimulatedFiles};
use crate::planted::{self, found_by};

use super::damage::{self, Counts};
use super::disk::{self, Next, Place};
use super::faults::{self, Met};
use super::oracle::{self, Bounds, Verdict, told};
use super::processors;
use super::states::{SledState, State, Trace, recoveries};
use super::workload::{Run, Step, plan, plan_of_blocks, put};

const SEED: u64 = 5;

/// A mistake that the joining of log and view could make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Answers before the group is on disk.
    AnswerBeforeSync,
    /// Shows a group before it is on disk.
    PublishBeforeDurable,
}

thread_local! {
    static ENGINE: Cell<Option<Engine>> = const { Cell::new(None) };
    static VIEW: Cell<Option<options::Planted>> = const { Cell::new(None) };
}

/// Whether this thread runs with the bug.
pub fn is(bug: Engine) -> bool {
    planted::is(&ENGINE, bug)
}

/// The bug of the views that this thread opens.
pub fn of_view() -> Option<options::Planted> {
    VIEW.get()
}

/// A bug of any of the three.
#[derive(Clone, Copy, Debug)]
enum Bug {
    Engine(Engine),
    Log(log::Planted),
    View(options::Planted),
}

fn with<T>(bug: Option<Bug>, run: impl FnOnce() -> T) -> T {
    let of_log = if let Some(Bug::Log(bug)) = bug { Some(bug) } else { None };
    let of_engine = if let Some(Bug::Engine(bug)) = bug { Some(bug) } else { None };
    let of_view = if let Some(Bug::View(bug)) = bug { Some(bug) } else { None };
    planted::with(&ENGINE, of_engine, || planted::with(&VIEW, of_view, || log::planted::with(of_log, run)))
}

type Story = fn() -> Verdict<()>;

/// What the engine is held to in this folder, each on a small scale; the first that is broken. The order is only a matter of
/// time: what finds the bugs of the log takes long and has nothing to say to those of the view.
fn broken_promise(bug: Option<Bug>) -> Option<(&'static str, String)> {
    let quick: [(&str, Story); 3] = [("first names", first_names), ("in order", in_order), ("snapshot", snapshot)];
    let of_log: [(&str, Story); 3] = [("crash", crash), ("damage", damage), ("fault", fault)];
    let of_view: [(&str, Story); 3] =
        [("sled", sled), ("recovery", recovery), ("fault of the view", fault_of_the_view)];
    let slow = if let Some(Bug::View(_)) = bug { [of_view, of_log] } else { [of_log, of_view] };
    let mut stories = quick.into_iter().chain(slow.into_iter().flatten());
    stories.find_map(|(name, story)| found_by(story).map(|broken| (name, broken)))
}

/// The first operation survives also where the directories above are as new as the log.
fn first_names() -> Verdict<()> {
    let mut run = Run::start(Place::memory(SimulatedFiles::new(SEED))).map_err(|error| told(&error))?;
    let record = Record { writes: vec![put(b"k", b"v")], ..Record::default() };
    run.step(&Step::Commit(vec![record])).map_err(|error| told(&error))?;
    let place = run.place.after(Crash::Lost);
    run.oracle.survives(&place, Bounds { least: 1, most: 1 }).map(drop)
}

/// Answers are right after every step, and a directory that nothing happened to is not rebuilt.
fn in_order() -> Verdict<()> {
    let scratch = disk::scratch();
    let mut run = Run::start(Place::sled(disk::new_files(SEED), scratch.path())).map_err(|error| told(&error))?;
    for step in plan(SEED, 160) {
        run.step(&step).map_err(|error| told(&error))?;
        if !matches!(step, Step::Commit(_)) {
            run.oracle.examine(run.engine(), Bounds { least: run.acknowledged, most: run.acknowledged })?;
        }
    }
    run.engine = None;
    let (_, rebuilt) = run.place.open_settled()?;
    if rebuilt { Err("a sound view was rebuilt".into()) } else { Ok(()) }
}

/// A snapshot shows what it showed while newer operations are drained.
fn snapshot() -> Verdict<()> {
    let mut run = Run::start(Place::memory(disk::new_files(SEED))).map_err(|error| told(&error))?;
    let write = |value: &[u8]| Step::Commit(vec![Record { writes: vec![put(b"k", value)], ..Record::default() }]);
    let steps = [write(b"old"), Step::Checkpoint];
    steps.iter().try_for_each(|step| run.step(step)).map_err(|error| told(&error))?;
    let old = run.engine().snapshot().map_err(|error| told(&error))?;
    let before = old.get(b"k").map_err(|error| told(&error))?;
    let steps = [write(b"new"), Step::Checkpoint];
    steps.iter().try_for_each(|step| run.step(step)).map_err(|error| told(&error))?;
    let after = oracle::everything(&*old)?;
    let same = before.as_ref().is_some_and(|before| after.len() == 1 && after[0].value == before.value);
    if !same {
        return Err("a snapshot shows what was written after it".into());
    }
    drop(old);
    run.oracle.examine_state(run.engine(), 2)
}

fn crash() -> Verdict<()> {
    let trace = Trace::of_memory(SEED, &plan(SEED, 160));
    let states = |at: usize| {
        let all = [Crash::Lost, Crash::Torn(at as u64), Crash::Killed];
        all.into_iter().map(|crash| State { crash, sled: None }).collect()
    };
    trace.walk(1, &states).map(drop)
}

fn sled() -> Verdict<()> {
    [plan(SEED, 120), plan_of_blocks()].iter().try_for_each(|steps| sled_after(steps))
}

fn sled_after(steps: &[Step]) -> Verdict<()> {
    let trace = Trace::of(SEED, steps);
    let of_view = |at: usize| trace.copies.iter().filter(move |copy| copy.at.abs_diff(at) <= 1);
    let near = |at: usize| of_view(at).any(|copy| copy.before != Next::Naming);
    let states = |at: usize| {
        let states = [SledState::AsWritten, SledState::AsSynced];
        let states = states.map(|state| State { crash: Crash::Lost, sled: Some(state) });
        if near(at) { states.to_vec() } else { Vec::new() }
    };
    trace.walk(1, &states).map(drop)
}

fn recovery() -> Verdict<()> {
    recoveries(&Trace::of(SEED, &plan_of_blocks()), usize::MAX, 1).map(drop)
}

fn damage() -> Verdict<()> {
    for closed in [true, false] {
        let sound = damage::sound(120, closed);
        let mut counts = Counts::default();
        for (name, damage) in sound.damages(200).into_iter().step_by(3) {
            sound.judge(&name, damage, &mut counts)?;
        }
    }
    Ok(())
}

fn fault() -> Verdict<()> {
    let steps = plan(SEED, 40);
    for fault in Fault::ALL {
        for n in 0.. {
            let place = Place::memory(disk::new_files(n)).segments_of(16 << 10);
            if faults::meet(place, &steps, fault, n)? == Met::Nothing {
                break;
            }
        }
    }
    Ok(())
}

fn fault_of_the_view() -> Verdict<()> {
    let (steps, scratch) = (plan_of_blocks(), disk::scratch());
    for n in 0.. {
        let place = Place::sled(disk::new_files(n), &scratch.path().join(n.to_string())).watched().0;
        if faults::meet(place, &steps, Fault::FailedSync, n)? == Met::Nothing {
            break;
        }
    }
    Ok(())
}

/// A harness that finds nothing proves nothing: without a bug it is content, and it finds each bug.
#[test]
fn every_planted_bug_is_found() {
    let engine = [Engine::AnswerBeforeSync, Engine::PublishBeforeDurable].map(Bug::Engine);
    let log = [
        log::Planted::SkipSync,
        log::Planted::SkipDirectorySync,
        log::Planted::ForgetDirectoriesAbove,
        log::Planted::IgnoreFailedSync,
        log::Planted::AcceptDamageAsTorn,
        log::Planted::CutTooEarly,
        log::Planted::NameBaseBeforeSync,
        log::Planted::DropBeforeManifest,
        log::Planted::ReuseSequences,
        log::Planted::FrameWithoutPlace,
        log::Planted::SkipZeroing,
        log::Planted::SkipRewrite,
        log::Planted::IgnoreClosedMark,
        log::Planted::OverwriteManifest,
        log::Planted::UseUnnamedSegment,
        log::Planted::KeepClosedMark,
        log::Planted::RollWithoutSync,
        log::Planted::KeepDeletedKeys,
    ]
    .map(Bug::Log);
    // Others need a second thread in a certain moment, or are those of blocks in memory; the view's own tests plant them.
    let view = [
        options::Planted::DrainUnderSnapshot,
        options::Planted::DigestKeepsDeleted,
        options::Planted::DrainOldest,
        options::Planted::CacheNotTold,
        options::Planted::DrainSkipsDeletes,
        options::Planted::BlocksNotSynced,
        options::Planted::PlacesNotSynced,
        options::Planted::CountedBeforeSynced,
        options::Planted::FailedSyncIgnored,
        options::Planted::NamesNotSynced,
        options::Planted::FreeAtOnce,
    ]
    .map(Bug::View);
    // The sound engine among them: the test has nothing to say if that one is found as well.
    let bugs: Vec<_> = [None].into_iter().chain(engine.into_iter().chain(log).chain(view).map(Some)).collect();
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    let work = || {
        while let Some(bug) = bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let found = with(*bug, || broken_promise(*bug));
            match (bug, found) {
                (Some(bug), Some((story, broken))) => println!("bug={bug:?} found_by={story}: {broken}"),
                (None, None) => {}
                (_, found) => wrong.lock().push((*bug, found)),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..processors() {
            scope.spawn(work);
        }
    });
    let wrong = wrong.into_inner();
    assert!(wrong.is_empty(), "seed={SEED} bug and what found it: {wrong:?}");
}
