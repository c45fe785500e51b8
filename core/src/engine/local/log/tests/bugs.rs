//! The harness against planted bugs: one that finds none of them would pass anything.

use super::crashes::crash_everywhere;
use super::damage::{copied_frames, flip_everywhere};
use super::faults::fail_everywhere;
use super::workload::Verdict;
use crate::engine::Durability;
use crate::engine::local::log::Planted;
use crate::engine::local::log::planted;
use crate::env::files::simulated::Fault;

type Harness = fn(u64) -> Verdict;

fn crashes(seed: u64) -> Verdict {
    crash_everywhere(seed, Durability::Synced, 60).map(drop)
}

fn late_crashes(seed: u64) -> Verdict {
    crash_everywhere(seed, Durability::Written, 60).map(drop)
}

fn faults(seed: u64) -> Verdict {
    fail_everywhere(seed, Durability::Synced, Fault::FailedSync).map(drop)
}

fn flips(seed: u64) -> Verdict {
    flip_everywhere(seed, 300).map(drop)
}

/// Each mistake that this log could make, and what has to find it.
const BUGS: [(Planted, Harness); 17] = [
    (Planted::SkipSync, crashes),
    (Planted::SkipDirectorySync, crashes),
    (Planted::IgnoreFailedSync, faults),
    (Planted::AcceptDamageAsTorn, flips),
    (Planted::CutTooEarly, crashes),
    (Planted::NameBaseBeforeSync, crashes),
    (Planted::DropBeforeManifest, crashes),
    (Planted::ReuseSequences, late_crashes),
    (Planted::FrameWithoutPlace, copied_frames),
    (Planted::SkipZeroing, crashes),
    (Planted::SkipRewrite, faults),
    (Planted::IgnoreClosedMark, flips),
    (Planted::OverwriteManifest, crashes),
    (Planted::UseUnnamedSegment, crashes),
    (Planted::KeepClosedMark, crashes),
    (Planted::RollWithoutSync, late_crashes),
    (Planted::KeepDeletedKeys, crashes),
];

/// A green harness says nothing until it has been seen red, once for each kind of mistake.
#[test]
fn every_planted_bug_is_found() {
    for (bug, harness) in BUGS {
        let found = (1..=10).find_map(|seed| planted::with(Some(bug), || harness(seed)).err());
        assert!(found.is_some(), "nothing finds {bug:?}");
    }
}
