//! Crashes: at every operation of the disk, with every state of the view's directory.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::env::files::simulated::{Crash, Replay, SimulatedFiles};

use super::disk::{self, Next, PARTITION, Place, SledCopy, Tree};
use super::oracle::{Bounds, Oracle, Verdict};
use super::workload::{Run, Step, bounds_at, plan, plan_of_blocks};
use super::{processors, soak};

const SEED: u64 = 20_261;
/// sled keeps or loses this much at a time.
const BLOCK: usize = 4_096;
/// Groups often go over the end of one.
const SMALL_SEGMENT: u32 = 16 << 10;

/// What sled's directory holds when the engine starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SledState {
    /// What was synced last.
    AsSynced,
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
    /// What happened to the log's files, the view's blocks, and all names.
    pub crash: Crash,
    /// What happened to sled's; none looks with a view in memory.
    pub sled: Option<SledState>,
}

impl State {
    /// Whether the view has to come through: all of sled's that was synced is there, or all that it wrote.
    fn keeps_the_view(self) -> bool {
        match self.sled {
            Some(SledState::AsSynced) => self.crash != Crash::Killed,
            Some(SledState::AsWritten) => true,
            _ => false,
        }
    }
}

/// How many states were looked at.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// With a view in memory.
    pub memory: usize,
    /// With sled.
    pub sled: usize,
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
    pub copies: Vec<SledCopy>,
    /// What comes back from a crash is written to; with sled, at each of so many operations of the disk.
    pub writes_on_each: usize,
}

impl Trace {
    /// Runs `steps` with sled as the view.
    pub fn of(seed: u64, steps: &[Step]) -> Self {
        let scratch = disk::scratch();
        let (place, copies) = Place::sled(disk::new_files(seed), scratch.path()).watched();
        let mut trace = Self::in_place(place, steps);
        trace.copies = std::mem::take(&mut *copies.lock());
        let tree = Arc::new(disk::copy(&scratch.path().join(PARTITION)));
        trace.copies.push(SledCopy { at: usize::MAX, before: Next::Naming, tree });
        trace
    }

    /// Runs `steps` with a view in memory.
    pub fn of_memory(seed: u64, steps: &[Step]) -> Self {
        Self::in_place(Place::memory(disk::new_files(seed)).segments_of(SMALL_SEGMENT), steps)
    }

    fn in_place(place: Place, steps: &[Step]) -> Self {
        let mut run = Run::start(place).unwrap();
        for step in steps {
            run.step(step).unwrap();
        }
        let Run { oracle, moments, place, engine, .. } = run;
        drop(engine);
        Self { oracle, moments, files: place.files, copies: Vec::new(), writes_on_each: 1 }
    }

    /// What the next process does where this one was killed after `at` operations of the disk, up to the end of the drain that
    /// it repeats.
    pub fn recovery(&self, at: usize) -> Verdict<Self> {
        let mut replay = self.files.replay();
        while replay.done() < at && replay.advance() {}
        let scratch = disk::scratch();
        let place = Place::sled(replay.crash(Crash::Killed), scratch.path()).of_the_same_boot(true);
        place.put_back(&self.sled_at(at, SledState::AsWritten));
        let tree = Arc::new(self.sled_at(at, SledState::AsSynced));
        let (place, copies) = place.watched();
        drop(place.open_settled()?);
        let mut copies = std::mem::take(&mut *copies.lock());
        copies.insert(0, SledCopy { at: 0, before: Next::Sync, tree });
        let tree = Arc::new(disk::copy(&scratch.path().join(PARTITION)));
        copies.push(SledCopy { at: usize::MAX, before: Next::Naming, tree });
        let moments = vec![(1, bounds_at(&self.moments, at))];
        Ok(Self {
            oracle: self.oracle.clone(),
            moments,
            files: place.files,
            copies,
            writes_on_each: self.writes_on_each,
        })
    }

    /// How many operations the disk saw before anything was promised.
    fn start(&self) -> usize {
        self.moments[0].0
    }

    /// sled's directory after `operations` of the disk.
    fn sled_at(&self, operations: usize, state: SledState) -> Tree {
        let next = self.copies.partition_point(|copy| copy.at < operations);
        let (written, nothing) = (&*self.copies[next].tree, Tree::new());
        let synced = self.copies[..next].iter().rfind(|copy| copy.before == Next::Sync);
        let synced = synced.map_or(&nothing, |copy| &*copy.tree);
        match state {
            SledState::AsSynced => synced.clone(),
            SledState::AsWritten => written.clone(),
            SledState::Torn(seed) => torn(synced, written, seed),
            SledState::Holes(seed) => torn(&nothing, written, seed),
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
                let memtable_bytes = if replay.done().is_multiple_of(2) { 64 << 10 } else { 4 << 20 };
                let place = Place::sled(files, &root).draining_at(memtable_bytes);
                place.put_back(&self.sled_at(replay.done(), sled));
                place.of_the_same_boot(state.crash == Crash::Killed)
            }
        };
        let verdict = if state.sled.is_none() || replay.done().is_multiple_of(self.writes_on_each) {
            self.oracle.survives(&place, bounds)
        } else {
            self.oracle.survives_unchanged(&place, bounds)
        };
        let verdict =
            verdict.and_then(|survived| if state.keeps_the_view() { survived.keeps_the_view() } else { Ok(()) });
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
    pub fn walk(&self, threads: usize, choose: &(dyn Fn(usize) -> Vec<State> + Sync)) -> Verdict<Seen> {
        let alone = std::env::var("KAPPA_STATE").ok().map(|state| state.parse().unwrap());
        let next = AtomicUsize::new(self.start());
        let (memory, sled) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let seen = || Seen { memory: memory.load(Ordering::Relaxed), sled: sled.load(Ordering::Relaxed) };
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
                    if state.sled.is_some() { &sled } else { &memory }.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        if threads == 1 {
            work()?;
            return Ok(seen());
        }
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| worker.join().expect("a worker panicked"))
        })?;
        Ok(seen())
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
        0 => SledState::AsSynced,
        1 => SledState::AsWritten,
        2 => SledState::Torn(seed),
        3 => SledState::Holes(seed),
        _ => SledState::Empty,
    }
}

/// What the crash after operation `at` of the disk leaves: each operation with all unsynced writes lost and with
/// some of them torn, once with a view in memory and once with sled's directory in one state after another; and
/// with all states of it just before MANIFEST, a name or sled's file changes, and those that a view must come through just
/// before and behind whatever is done to it.
fn states_at(trace: &Trace, at: usize) -> Vec<State> {
    let torn = |number: usize| Crash::Torn(SEED * 1_000_000 + (at * 100 + number) as u64);
    let crashes = if at.is_multiple_of(2) { [Crash::Lost, torn(0)] } else { [torn(0), Crash::Lost] };
    let mut states =
        vec![State { crash: crashes[0], sled: None }, State { crash: crashes[1], sled: Some(sled_state(at)) }];
    if at.is_multiple_of(8) {
        states.push(State { crash: Crash::Killed, sled: None });
    }
    let near: Vec<_> =
        trace.copies.iter().filter(|copy| at.checked_sub(copy.at).is_some_and(|since| since < 2)).collect();
    if !near.is_empty() || at.is_multiple_of(8) {
        states.push(State { crash: Crash::Killed, sled: Some(SledState::AsWritten) });
    }
    let before_naming = near.iter().any(|copy| copy.at == at && matches!(copy.before, Next::Naming | Next::Sync));
    for number in 0..5 {
        let sled = sled_state(5 * at + number);
        let tells = if sled == SledState::AsSynced { !near.is_empty() } else { before_naming };
        let sled = Some(sled);
        if tells || soak() > 1 {
            states.push(State { crash: torn(number), sled });
        }
        if soak() > 1 {
            states.push(State { crash: Crash::Lost, sled });
        }
    }
    states
}

/// A power cut or the end of the process at any moment must lose no acknowledged operation, show no half of
/// one, and leave a directory that opens; whatever is left of sled's files.
#[test]
fn every_crash_leaves_every_acknowledged_operation_whole() {
    let mut trace = Trace::of(SEED, &plan(SEED, 2_000));
    trace.writes_on_each = if soak() > 1 { 1 } else { 3 };
    let seen = trace.walk(processors(), &|at| states_at(&trace, at));
    let seen = seen.unwrap_or_else(|broken| panic!("seed={SEED}: {broken}"));
    let (memory, sled) = (seen.memory, seen.sled);
    let disk_operations = trace.files.operations();
    println!("seed={SEED} operations={} disk_operations={disk_operations}", trace.oracle.len());
    println!("states={} with_a_view_in_memory={memory} with_sled={sled}", memory + sled);
    assert!(memory + sled >= 2_000 * soak() || std::env::var_os("KAPPA_STATE").is_some());
}

/// As above, where drains write over what others gave up.
#[test]
fn every_crash_among_blocks_that_are_used_again_leaves_every_operation_whole() {
    let mut trace = Trace::of(SEED, &plan_of_blocks());
    trace.writes_on_each = if soak() > 1 { 1 } else { 3 };
    let seen = trace.walk(processors(), &|at| states_at(&trace, at));
    let seen = seen.unwrap_or_else(|broken| panic!("seed={SEED}: {broken}"));
    println!("seed={SEED} disk_operations={} states={}", trace.files.operations(), seen.memory + seen.sled);
    let [blocks, cuts] =
        [Next::Blocks, Next::Cut].map(|next| trace.copies.iter().filter(|copy| copy.before == next).count());
    assert!(blocks > 20 && cuts > 0, "blocks={blocks} cuts={cuts}");
}

/// The second crash comes while a view is brought up that a kill has left in the middle of a drain: sled's file has more in it
/// than was synced, and what that gave up must not be written over yet.
#[test]
fn every_crash_inside_the_recovery_of_a_drain_keeps_the_view() {
    let trace = Trace::of(SEED, &plan_of_blocks());
    let seen = recoveries(&trace, if soak() > 1 { 1 } else { 3 }, processors());
    let (recoveries, seen) = seen.unwrap_or_else(|broken| panic!("seed={SEED}: {broken}"));
    println!("seed={SEED} recoveries={recoveries} states={seen}");
    assert!(recoveries > 5 && seen > 10 * recoveries);
}

/// Kills the process where sled's file is about to be synced, and at one in `one_in` of the other moments of the drains of
/// `trace`, and cuts the power at each operation of what the next one does; how many were killed, and how many states were
/// looked at.
pub fn recoveries(trace: &Trace, one_in: usize, threads: usize) -> Verdict<(usize, usize)> {
    let drains = trace.copies.iter().filter(|copy| copy.before != Next::Naming && copy.at > trace.start());
    let chosen = drains.enumerate().filter(|(number, copy)| copy.before == Next::Sync || number % one_in == 0);
    let (mut recoveries, mut seen) = (0, 0);
    for at in chosen.map(|(_, copy)| copy.at) {
        let lost = |_| vec![State { crash: Crash::Lost, sled: Some(SledState::AsSynced) }];
        let states = trace.recovery(at).and_then(|recovery| recovery.walk(threads, &lost));
        seen += states.map_err(|broken| format!("{broken}; killed={at}"))?.sled;
        recoveries += 1;
    }
    Ok((recoveries, seen))
}

/// A second crash comes while the first one is being recovered from: what a recovery has half repaired must
/// still be recovered.
#[test]
fn every_crash_inside_a_recovery_leaves_every_acknowledged_operation_whole() {
    let trace = Trace::of_memory(SEED, &plan(SEED, 400));
    let mut replay = trace.files.replay();
    let (mut recoveries, mut seen) = (0, 0);
    while replay.advance() {
        if replay.done() < trace.start() || (!replay.done().is_multiple_of(29) && soak() == 1) {
            continue;
        }
        let crash = [Crash::Torn(SEED + replay.done() as u64), Crash::Killed, Crash::Lost][recoveries % 3];
        let first = Place::memory(replay.crash(crash));
        drop(first.open().unwrap());
        let (bounds, mut inside) = (bounds_at(&trace.moments, replay.done()), first.files.replay());
        while inside.advance() {
            for second in [Crash::Lost, Crash::Torn(SEED + seen as u64)] {
                let verdict = trace.oracle.survives(&Place::memory(inside.crash(second)), bounds);
                let place = (replay.done(), crash, inside.done(), second);
                verdict.unwrap_or_else(|broken| panic!("seed={SEED} crashes={place:?}: {broken}"));
                seen += 1;
            }
        }
        recoveries += 1;
    }
    println!("seed={SEED} recoveries={recoveries} states={seen}");
    assert!(recoveries > 10 && seen > 10 * recoveries);
}
