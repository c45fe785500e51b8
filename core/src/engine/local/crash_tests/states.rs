//! Crashes: at every operation of the disk, with every state of the view's directory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::env::files::simulated::{Crash, Replay, SimulatedFiles};

use super::disk::{self, PARTITION, Place, Tree};
use super::oracle::{Bounds, Oracle, Verdict};
use super::workload::{Run, Step, bounds_at, plan};
use super::{processors, soak};

const SEED: u64 = 20_261;
/// sled keeps or loses this much at a time.
const BLOCK: usize = 4_096;

/// What sled's directory holds when the engine starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SledState {
    /// What was synced at the last checkpoint.
    AsAtCheckpoint,
    /// All that was written.
    AsWritten,
    /// Of what was written since, a part; of what was synced, all.
    Torn(u64),
    /// Some blocks are gone although they were synced.
    Holes(u64),
    /// Nothing.
    Empty,
}

/// One state to look at.
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// What happened to the log's files.
    pub crash: Crash,
    /// What happened to sled's; none looks with a view in memory.
    pub sled: Option<SledState>,
}

/// A workload that was run to its end, and all it did to the disk.
#[derive(Debug)]
pub struct Trace {
    /// What was promised.
    pub oracle: Oracle,
    /// From when on.
    pub moments: Vec<(usize, Bounds)>,
    /// The disk at the end, with its history.
    pub files: SimulatedFiles,
    /// sled's directory at the moments at which it could have changed.
    pub copies: Vec<(usize, Arc<Tree>)>,
}

impl Trace {
    /// Runs `steps` with sled as the view.
    pub fn of(seed: u64, steps: &[Step]) -> Self {
        let scratch = disk::scratch();
        let (place, copies) = Place::sled(disk::new_files(seed), scratch.path()).watched();
        let mut trace = Self::in_place(place, steps);
        trace.copies = std::mem::take(&mut *copies.lock());
        trace.copies.push((usize::MAX, Arc::new(disk::copy(&scratch.path().join(PARTITION)))));
        trace
    }

    /// Runs `steps` with a view in memory.
    pub fn of_memory(seed: u64, steps: &[Step]) -> Self {
        Self::in_place(Place::memory(disk::new_files(seed)), steps)
    }

    fn in_place(place: Place, steps: &[Step]) -> Self {
        let mut run = Run::start(place).unwrap();
        for step in steps {
            run.step(step).unwrap();
        }
        let Run { oracle, moments, place, engine, .. } = run;
        drop(engine);
        Self { oracle, moments, files: place.files, copies: Vec::new() }
    }

    /// How many operations the disk saw before anything was promised.
    fn start(&self) -> usize {
        self.moments[0].0
    }

    /// sled's directory after `operations` of the disk.
    fn sled_at(&self, operations: usize, state: SledState) -> Tree {
        let next = self.copies.partition_point(|(at, _)| *at < operations);
        let written = &self.copies[next].1;
        let synced = &self.copies[next.saturating_sub(1)].1;
        match state {
            SledState::AsAtCheckpoint => (**synced).clone(),
            SledState::AsWritten => (**written).clone(),
            SledState::Torn(seed) => torn(synced, written, seed),
            SledState::Holes(seed) => torn(&Tree::new(), written, seed),
            SledState::Empty => Tree::new(),
        }
    }

    /// Opens one state and holds it to what was promised.
    pub fn examine(&self, replay: &Replay, state: State, scratch: &Path) -> Verdict<()> {
        let files = replay.crash(state.crash);
        let bounds = bounds_at(&self.moments, replay.done());
        let place = match state.sled {
            None => Place::memory(files),
            Some(sled) => {
                let root = scratch.join(format!("{}", replay.done()));
                disk::restore(&root.join(PARTITION), &self.sled_at(replay.done(), sled));
                let memtable_bytes = if replay.done() % 2 == 0 { 64 << 10 } else { 4 << 20 };
                Place::sled(files, &root).draining_at(memtable_bytes)
            }
        };
        let verdict = self.oracle.survives(&place, bounds).map(drop);
        if state.sled.is_some() {
            std::fs::remove_dir_all(scratch.join(format!("{}", replay.done()))).unwrap();
        }
        verdict.map_err(|broken| {
            let at = replay.done();
            format!("{broken}; state={state:?} operation={at}; alone: KAPPA_STATE={at}")
        })
    }

    /// Looks at the states that `choose` names for each operation, on so many threads; planted bugs are in
    /// force on the caller's own thread, which does the work where it is one.
    pub fn walk(&self, threads: usize, choose: &(dyn Fn(usize) -> Vec<State> + Sync)) -> Verdict<usize> {
        let alone = std::env::var("KAPPA_STATE").ok().map(|state| state.parse().unwrap());
        let (seen, next) = (AtomicUsize::new(0), AtomicUsize::new(self.start()));
        let work = || -> Verdict<()> {
            let scratch = disk::scratch();
            let mut replay = self.files.replay();
            loop {
                let wanted = next.fetch_add(1, Ordering::Relaxed);
                while replay.done() < wanted {
                    if !replay.advance() {
                        return Ok(());
                    }
                }
                if alone.is_some_and(|alone: usize| alone != wanted) {
                    continue;
                }
                for state in choose(wanted) {
                    self.examine(&replay, state, scratch.path())
                        .inspect_err(|_| next.store(usize::MAX / 2, Ordering::Relaxed))?;
                    seen.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        if threads == 1 {
            work()?;
            return Ok(seen.into_inner());
        }
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| worker.join().expect("a worker panicked"))
        })?;
        Ok(seen.into_inner())
    }
}

/// `old` with random blocks of `new`.
fn torn(old: &Tree, new: &Tree, seed: u64) -> Tree {
    let mut chance = StdRng::seed_from_u64(seed);
    let share = [0.1, 0.5, 0.9][chance.random_range(0..3)];
    let mut tree: Tree =
        old.iter().filter(|(_, content)| content.is_none()).map(|(name, _)| (name.clone(), None)).collect();
    for (name, content) in new {
        let Some(content) = content else {
            tree.insert(name.clone(), None);
            continue;
        };
        let mut mixed = old.get(name).cloned().flatten().unwrap_or_default();
        mixed.resize(content.len(), 0);
        for (mixed, block) in mixed.chunks_mut(BLOCK).zip(content.chunks(BLOCK)) {
            if chance.random_bool(share) {
                mixed.copy_from_slice(block);
            }
        }
        tree.insert(name.clone(), Some(mixed));
    }
    tree
}

/// The states of sled's directory, one after the other.
pub fn sled_state(number: usize) -> SledState {
    let seed = SEED + number as u64;
    match number % 5 {
        0 => SledState::AsAtCheckpoint,
        1 => SledState::AsWritten,
        2 => SledState::Torn(seed),
        3 => SledState::Holes(seed),
        _ => SledState::Empty,
    }
}

fn memory(crash: Crash) -> State {
    State { crash, sled: None }
}

/// A power cut or the end of the process at any moment must lose no acknowledged operation, show no half of
/// one, and leave a directory that opens; whatever is left of sled's files.
#[test]
fn every_crash_leaves_every_acknowledged_operation_whole() {
    let trace = Trace::of(SEED, &plan(SEED, 2_000));
    let states = |at: usize| {
        let seed = SEED * 100_000 + at as u64;
        let mut states = vec![memory(Crash::Lost), memory(Crash::Torn(seed))];
        for extra in 1..soak() as u64 {
            states.push(memory(Crash::Torn(seed + extra * 1_000_000)));
        }
        if at % 8 == 0 {
            states.push(memory(Crash::Killed));
        }
        states
    };
    let seen = trace.walk(processors(), &states).unwrap_or_else(|broken| panic!("seed={SEED}: {broken}"));
    println!(
        "seed={SEED} operations={} disk_operations={} states={seen}",
        trace.oracle.len(),
        trace.files.operations()
    );
    assert!(seen >= 2_000 || std::env::var_os("KAPPA_STATE").is_some());
}

/// The same with sled under it: its directory may be older, newer, torn, rotten or gone.
#[test]
fn every_state_of_the_view_after_a_crash_is_caught_up_or_rebuilt() {
    let trace = Trace::of(SEED, &plan(SEED, 2_000));
    // All moments at which MANIFEST speaks about the view, and a sample of the others.
    let near = |at: usize| trace.copies.iter().any(|(copy, _)| copy.abs_diff(at) <= 3);
    let states = |at: usize| {
        let crash = [Crash::Lost, Crash::Torn(SEED + at as u64), Crash::Killed][at % 3];
        let every = if soak() > 1 { 1 } else { 23 };
        if !near(at) && at % every != 0 {
            return Vec::new();
        }
        vec![State { crash, sled: Some(sled_state(at / 3)) }]
    };
    let seen = trace.walk(processors(), &states).unwrap_or_else(|broken| panic!("seed={SEED}: {broken}"));
    let by_name: BTreeMap<_, _> = [("copies", trace.copies.len()), ("states", seen)].into();
    println!("seed={SEED} disk_operations={} {by_name:?}", trace.files.operations());
}
