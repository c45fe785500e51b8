//! Views that do not fit their log, and a disk without room: what an opening and the background do then.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::engine::local::log::{Checkpoint, Digest};
use crate::engine::local::opening;
use crate::engine::local::view;
use crate::engine::{Committed, Engine, Group, Growth, Record};
use crate::env::Files;
use crate::error::ErrorKind;

use super::disk::{self, PARTITION, Place};
use super::oracle::Bounds;
use super::workload::{Run, Step, put};

const SEED: u64 = 77;

/// A run of `operations` whose values are large enough to fill several segments.
fn run(place: Place, operations: usize) -> Run {
    let mut run = Run::start(place).unwrap();
    for number in 0..operations {
        let key = format!("key/{number:05}");
        let record = Record { writes: vec![put(key.as_bytes(), &[7; 1_500])], ..Record::default() };
        run.step(&Step::Commit(vec![record])).unwrap();
    }
    run
}

/// Opens what `run` left and holds it to everything that was acknowledged; what was found, in words.
fn reopened(run: &Run) -> Vec<String> {
    let (engine, report) = run.place.open().unwrap();
    let all = run.oracle.len();
    run.oracle.examine_state(&engine, all).unwrap();
    report.findings
}

/// The log behind a view's checkpoint is gone once the base has swallowed it: what the view lacks is then in the base
/// alone, and a view that is only brought up by the tail would miss it without a word.
#[test]
fn a_view_that_lies_behind_the_base_is_rebuilt() {
    let scratch = disk::scratch();
    let mut run = run(Place::sled(disk::new_files(SEED), scratch.path()), 600);
    let before = run.engine().shared.log.manifest().checkpoint;
    run.step(&Step::Checkpoint).unwrap();
    run.step(&Step::Merge).unwrap();
    // A view from before the checkpoint, as a copy of the directory that was put back in part leaves it.
    let log = &run.engine().shared.log;
    log.update_manifest(|manifest| manifest.checkpoint = before).unwrap();
    let view = scratch.path().join(PARTITION).join(log.manifest().view.unwrap());
    run.engine = None;
    std::fs::remove_dir_all(&view).unwrap();
    let findings = reopened(&run);
    assert!(findings.iter().any(|finding| finding.contains("rebuilt")), "{findings:?}");
}

/// A view that holds more than the log would show writes that never happened.
#[test]
fn a_view_ahead_of_the_log_is_rebuilt() {
    let scratch = disk::scratch();
    let mut run = run(Place::sled(disk::new_files(SEED), scratch.path()), 20);
    run.step(&Step::Checkpoint).unwrap();
    let ahead = run.engine().newest().0 + 1;
    let facts = Checkpoint::At { sequence: ahead, digest: Digest { count: 20, sum: 0 } };
    run.engine().shared.log.update_manifest(|manifest| manifest.checkpoint = facts).unwrap();
    run.engine = None;
    let findings = reopened(&run);
    assert!(findings.iter().any(|finding| finding.contains("ahead of the log")), "{findings:?}");
}

/// sled cannot go on after a write that found no room: a drain or a rebuild that begins without any would take a sound
/// view from those who read.
#[test]
fn without_room_nothing_is_drained_or_put_aside() {
    let files = disk::new_files(SEED);
    let mut run = run(Place::memory(files.clone()), 20);
    let shared = &run.engine().shared;
    let view_options = &shared.view_options;
    drop(opening::room_for_drain(&shared.log, &shared.view()).unwrap());
    files.limit(files.used() + 1_000);
    let refused = opening::room_for_drain(&shared.log, &shared.view()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::StorageFull);
    let before = shared.log.manifest();
    let go_on = &mut |_: view::rebuild::Progress| std::ops::ControlFlow::Continue(());
    let kind = shared.options.view_kind;
    let rebuilt = opening::rebuild(&shared.log, &shared.directory, kind, view_options, go_on);
    assert_eq!(rebuilt.unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(shared.log.manifest(), before, "nothing was put aside");
    // Reads and closing go on; the next opening has room again.
    let all = Bounds { least: run.oracle.len(), most: run.oracle.len() };
    run.oracle.examine(run.engine(), all).unwrap();
    run.engine.take().unwrap().close(std::time::Duration::from_secs(10)).unwrap();
    files.limit(u64::MAX);
    assert_eq!(reopened(&run), Vec::<String>::new());
}

/// A drain that found room at its start, and segments and a merge that took it meanwhile: sled met a full disk, and with
/// it went every read.
#[test]
fn what_a_drain_spoke_for_is_left_alone() {
    let files = disk::new_files(SEED);
    let run = run(Place::memory(files.clone()), 200);
    let shared = Arc::clone(&run.engine().shared);
    let (log, needed) = (&shared.log, 2 * shared.view_options.memtable_bytes as u64);
    log.maintain().unwrap();
    files.limit(files.used() + needed + 1);
    let room = log.room_for_view(needed).unwrap();
    assert_eq!(opening::room_for_drain(log, &shared.view()).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(log.merge(&AtomicBool::new(false)).unwrap_err().kind(), ErrorKind::StorageFull);
    let passing = log.admit(Growth::Grows).unwrap_err();
    assert_eq!(passing.kind(), ErrorKind::StorageFull);
    assert!(passing.to_string().contains("retry in a moment"), "{passing}");
    // What shrinks goes on in the segments that are there; the next one is not made ahead of need.
    while !log.maintenance_due() {
        let record = Record { writes: vec![put(b"more", &[7; 1_500])], ..Record::default() };
        let first = run.engine().newest().0 + 1;
        let committed = run.engine().commit(Group { first, records: vec![record], ..Group::default() }).unwrap();
        assert_eq!(committed, Committed::At(first));
    }
    assert_eq!(log.maintain().unwrap_err().kind(), ErrorKind::StorageFull);
    assert!(files.space(Path::new("/")).unwrap().free >= needed);
    drop(room);
    log.maintain().unwrap();
    files.limit(u64::MAX);
    log.admit(Growth::Grows).unwrap();
}
