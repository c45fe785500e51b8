//! The n-th call fails, for every n: nothing acknowledged is lost, and nothing pretends to have worked.

use super::workload::{Verdict, Workload, opens, soak, survives};
use crate::engine::Durability;
use crate::env::files::simulated::{Crash, Fault};
use crate::error::ErrorKind;

const STEPS: usize = 22;

/// Runs the workload once for each call that `fault` can hit; how many there were.
pub fn fail_everywhere(seed: u64, durability: Durability, fault: Fault) -> Verdict<usize> {
    for n in 0.. {
        let place = |error| format!("seed={seed} durability={} {fault:?} n={n}: {error}", durability.name());
        if !fail_once(seed, durability, fault, n).map_err(place)? {
            return Ok(usize::try_from(n).expect("a small number"));
        }
    }
    unreachable!("a workload has an end")
}

/// False once the fault lies behind the end of the workload.
fn fail_once(seed: u64, durability: Durability, fault: Fault, n: u64) -> Verdict<bool> {
    let mut work = Workload::new(seed, durability);
    work.files.fail(fault, n);
    let mut met = false;
    for _ in 0..STEPS {
        let before = work.files.fault_fired();
        let Err(error) = work.step() else { continue };
        if met || before {
            return Err(format!("only one call fails, and yet: {error}"));
        }
        met = true;
        let expected = [ErrorKind::Ambiguous, ErrorKind::Unavailable, ErrorKind::StorageFull];
        if !expected.contains(&error.kind()) {
            return Err(format!("an unexpected kind of failure: {error}"));
        }
        work.stays_stopped(error.kind())?;
        work.restart()?;
    }
    if !work.files.fault_fired() {
        return Ok(false);
    }
    let operations = work.files.operations();
    for kind in [Crash::Lost, Crash::Killed, Crash::Torn(seed + n)] {
        let mut bounds = work.bounds(operations, kind);
        // A number that was handed out stays used, also when its record is gone.
        bounds.highest = work.highest;
        bounds.least = bounds.least.max(work.promised());
        survives(&work, &work.files.crash(kind), bounds).map_err(|error| format!("{kind:?}: {error}"))?;
    }
    Ok(true)
}

/// A disk that fails once has to cost at most the calls that met the failure; a log that goes on after a
/// failed sync, or that believes pages because they read well, loses records much later.
#[test]
fn no_failing_call_loses_a_record() {
    let mut calls = 0;
    for seed in 1..=soak(2) as u64 {
        for durability in [Durability::Synced, Durability::Written] {
            for fault in Fault::ALL {
                calls += fail_everywhere(seed, durability, fault).unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }
    assert!(calls > 300, "calls={calls}");
}

/// A disk that is full has to cost nothing but the writes it refuses: every failure is `StorageFull`, nothing
/// is half written, and a restart works on the same disk.
#[test]
fn a_full_disk_costs_only_what_it_refuses() {
    let mut refused = 0;
    for capacity in (88..168_u64).map(|kib| kib << 10) {
        let seed = capacity;
        let mut work = Workload::new(seed, Durability::Synced);
        work.files.limit(capacity);
        for _ in 0..60 {
            if let Err(error) = work.step() {
                assert_eq!(error.kind(), ErrorKind::StorageFull, "capacity={capacity} {error}");
                refused += 1;
            }
        }
        let check = work.stop().and_then(|()| {
            let full = work.files.crash(Crash::Killed);
            full.limit(capacity);
            let bounds = work.bounds(work.files.operations(), Crash::Lost);
            opens(&work, &full, bounds)
        });
        check.unwrap_or_else(|error| panic!("capacity={capacity}: {error}"));
    }
    assert!(refused > 100, "refused={refused}");
}
