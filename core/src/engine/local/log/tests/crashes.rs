//! A crash after every operation of the reference workload, and inside recovery.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::workload::{Bounds, Verdict, Workload, soak, survives};
use crate::engine::Durability;
use crate::env::files::simulated::Crash;

const STEPS: usize = 90;
/// Torn states for each operation.
const TORN: usize = 2;
/// One of so many crashes is followed by crashes inside its recovery.
const NESTED: usize = 12;

/// Runs the workload and cuts it everywhere; the first thing that is wrong, or how many crashes there were.
pub fn crash_everywhere(seed: u64, durability: Durability, steps: usize) -> Verdict<usize> {
    let mut work = Workload::new(seed, durability);
    for _ in 0..steps {
        work.step().map_err(|error| format!("nothing fails, and yet: {error}"))?;
    }
    let mut chance = StdRng::seed_from_u64(seed ^ 0x5eed);
    let mut replay = work.files.replay();
    let mut crashes = 0;
    loop {
        let torn = (0..TORN).map(|_| Crash::Torn(chance.random()));
        for kind in [Crash::Lost, Crash::Killed].into_iter().chain(torn.collect::<Vec<_>>()) {
            let disk = replay.crash(kind);
            let bounds = work.bounds(replay.done(), kind);
            let place = |error| {
                format!("seed={seed} durability={} operation={} {kind:?}: {error}", durability.name(), replay.done())
            };
            survives(&work, &disk, bounds).map_err(place)?;
            crashes += 1;
            if chance.random_ratio(1, NESTED as u32) {
                // A process that dies and then loses its power keeps no more than the power cut alone leaves.
                let bounds = work.bounds(replay.done(), Crash::Lost);
                crashes += crash_in_recovery(&work, &replay.crash(kind), bounds, &mut chance).map_err(place)?;
            }
        }
        if !replay.advance() {
            return Ok(crashes);
        }
    }
}

/// Recovery itself writes; wherever it is cut off, the next one must end up at a state that was allowed.
fn crash_in_recovery(
    work: &Workload,
    disk: &crate::env::files::simulated::SimulatedFiles,
    bounds: Bounds,
    chance: &mut StdRng,
) -> Verdict<usize> {
    survives(work, disk, bounds)?;
    let mut replay = disk.replay();
    let mut crashes = 0;
    while crashes < 60 && replay.advance() {
        for kind in [Crash::Lost, Crash::Torn(chance.random())] {
            survives(work, &replay.crash(kind), bounds)
                .map_err(|error| format!("inside recovery, operation={} {kind:?}: {error}", replay.done()))?;
            crashes += 1;
        }
    }
    Ok(crashes)
}

/// The story of every storage bug: acknowledged, then the power went. After each single operation of the
/// workload the disk is left in each of the ways a crash can leave it.
#[test]
fn no_crash_loses_or_halves_a_record() {
    let mut crashes = 0;
    for seed in 1..=soak(1) as u64 {
        for durability in [Durability::Synced, Durability::Written] {
            crashes += crash_everywhere(seed, durability, STEPS).unwrap_or_else(|error| panic!("{error}"));
        }
    }
    assert!(crashes > 1_000, "crashes={crashes}");
}
