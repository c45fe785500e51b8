//! The edges: sizes, numbers, the disk's end, and what readers may see when.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::basics::{DIR, create, put, small};
use crate::engine::local::log::{Checkpoint, Digest, Log, LogOptions, MergeOutcome};
use crate::engine::{Durability, MAX_OPERATION_BYTES, Record, Write};
use crate::env::files::simulated::{Crash, SimulatedFiles};
use crate::env::files::{Files, SystemFiles};
use crate::error::ErrorKind;

fn reopen(files: &SimulatedFiles) -> Log {
    Log::open(Arc::new(files.clone()), Path::new(DIR), small()).unwrap().0
}

/// What is refused must be refused before a byte is written, or the next record continues a torn one.
#[test]
fn records_that_do_not_fit_are_refused_before_any_write() {
    let files = SimulatedFiles::new(1);
    let log = create(&files, small());
    let before = files.operations();
    let large = put("k", &[1; 4_000], 1);
    assert_eq!(log.append(&[put("k", b"v", 1), large]).unwrap_err().kind(), ErrorKind::TooLarge);
    let wide = put(&"k".repeat(1_025), b"v", 1);
    assert_eq!(log.append(&[wide]).unwrap_err().kind(), ErrorKind::TooLarge);
    let add = Record { writes: vec![Write::Add { key: "k".into(), delta: 1 }], ..Record::default() };
    assert_eq!(log.append(&[add]).unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(files.operations(), before);

    let roomy = LogOptions { segment_bytes: 2 << 20, ..small() };
    let log = create(&SimulatedFiles::new(1), roomy);
    let value = vec![7; MAX_OPERATION_BYTES - 3];
    let first = log.append(&[put("k", &value[..MAX_OPERATION_BYTES - 10], 1)]).unwrap();
    log.sync().unwrap();
    assert_eq!(log.read_from(first - 1, 1, 1).unwrap()[0].record.writes[0].size(), MAX_OPERATION_BYTES - 9);
    assert_eq!(log.append(&[put("k", &value, 1)]).unwrap_err().kind(), ErrorKind::TooLarge);
}

/// Two records with one number would be one version of two values: an old `ETag` or fencing token would match.
#[test]
fn numbers_never_repeat_when_an_epoch_overflows() {
    let files = SimulatedFiles::new(1);
    let log = create(&files, small());
    log.append(&[put("k", b"1", 1)]).and_then(|_| log.sync()).unwrap();
    log.tail.lock().next = (2 << 32) - 1;
    log.tail.lock().appended.sequence = (2 << 32) - 2;
    log.append(&[put("k", b"2", 1), put("k", b"3", 1)]).unwrap();
    // Never synced: the power cut takes both records, and the next epoch must still be above them.
    let after = files.crash(Crash::Lost);
    let (log, report) = Log::open(Arc::new(after), Path::new(DIR), small()).unwrap();
    assert_eq!(report.newest, (1 << 32) + 1);
    assert!(log.append(&[put("k", b"4", 1)]).unwrap() > 2 << 32);
}

/// A promoted replica that goes on with the old numbers would give two records one version.
#[test]
fn a_new_epoch_is_above_all_numbers_and_survives() {
    let files = SimulatedFiles::new(1);
    let log = create(&files, small());
    log.append(&[put("k", b"1", 1)]).and_then(|_| log.sync()).unwrap();
    assert_eq!((log.begin_epoch(7).unwrap(), log.newest().0), (7, 7 << 32));
    assert_eq!(log.append(&[put("k", b"2", 1)]).unwrap(), (7 << 32) + 1);
    log.sync().unwrap();
    assert_eq!(log.begin_epoch(3).unwrap(), 8);
    let log = reopen(&files.crash(Crash::Lost));
    let numbers: Vec<_> = log.tail_iter(0).unwrap().map(|record| record.unwrap().sequence).collect();
    assert_eq!((numbers, log.newest().0), (vec![(1 << 32) + 1, (7 << 32) + 1], 9 << 32));
}

/// A segment too small for its header, or too large for its positions, would fail at the first append.
#[test]
fn options_are_checked_at_open() {
    let files = SimulatedFiles::new(1);
    create(&files, small());
    for segment_bytes in [0, 127, 4_095, u32::MAX] {
        let options = LogOptions { segment_bytes, ..small() };
        let refused = Log::open(Arc::new(files.clone()), Path::new(DIR), options).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    }
}

/// An application that crashes in a loop must not use up numbers by opening alone after clean ends.
#[test]
fn clean_ends_without_records_use_no_epoch() {
    let files = SimulatedFiles::new(1);
    let log = create(&files, small());
    log.append(&[put("k", b"1", 1)]).and_then(|_| log.sync()).unwrap();
    log.close_clean().unwrap();
    let epochs: Vec<_> = (0..3)
        .map(|_| {
            let log = reopen(&files);
            log.close_clean().unwrap();
            log.newest().0 >> 32
        })
        .collect();
    assert_eq!(epochs, [2, 2, 2]);
    drop(reopen(&files));
    assert_eq!(reopen(&files).newest().0 >> 32, 3, "after a crash the epoch may have been used");
}

/// At level synced nobody may see a record that a power cut can take back; at level written everybody may.
#[test]
fn visibility_follows_the_level() {
    for (durability, visible) in [(Durability::Synced, 0), (Durability::Written, 1)] {
        let files = SimulatedFiles::new(1);
        let log = create(&files, LogOptions { durability, ..small() });
        log.append(&[put("k", b"1", 1)]).unwrap();
        assert_eq!(log.read_from(0, 10, 1_000).unwrap().len(), visible);
        log.sync_if_due(1_000).unwrap();
        assert_eq!(
            files.crash(Crash::Lost).content(&Path::new(DIR).join("segment-00000000000000000001")),
            vec![0; 4_096]
        );
        log.sync_if_due(1_499).unwrap();
        log.sync_if_due(1_500).unwrap();
        assert_eq!(log.read_from(0, 10, 1_000).unwrap().len(), 1);
        assert_eq!(reopen(&files.crash(Crash::Lost)).read_from(0, 10, 1_000).unwrap().len(), 1);
    }
}

/// The view catches up from the log; a segment that goes too early turns its checkpoint into a rebuild at
/// best, and into lost writes at worst.
#[test]
fn segments_stay_while_the_view_needs_them() {
    let files = SimulatedFiles::new(1);
    let log = create(&files, LogOptions { retention_bytes: 0, ..small() });
    let at = |sequence| Checkpoint::At { sequence, digest: Digest::default() };
    log.update_manifest(|manifest| manifest.checkpoint = at(0)).unwrap();
    for _ in 0..40 {
        log.append(&[put("k", &[1; 300], 1)]).and_then(|_| log.sync()).unwrap();
    }
    log.seal().unwrap();
    assert!(matches!(log.merge(&AtomicBool::new(false)).unwrap(), MergeOutcome::Merged { .. }));
    assert_eq!(log.oldest(), 0);
    let newest = log.newest().0;
    log.update_manifest(|manifest| manifest.checkpoint = at(newest - 1)).unwrap();
    log.maintain().unwrap();
    assert!(log.oldest() > 0 && log.oldest() < newest);
    assert!(log.tail_iter(newest - 1).is_ok());
    log.update_manifest(|manifest| manifest.checkpoint = Checkpoint::None).unwrap();
    log.maintain().unwrap();
    assert_eq!(log.oldest(), newest);
    assert_eq!(log.merge(&AtomicBool::new(false)).unwrap(), MergeOutcome::Nothing);
}

/// Changes that their owner wants to keep for a week would stay as long as there is room, or take newer ones along.
#[test]
fn segments_go_by_their_age_although_there_is_room() {
    let files = SimulatedFiles::new(1);
    let log = create(&files, LogOptions { retention_bytes: u64::MAX, retention_ms: 1_000, ..small() });
    let write = |time: i64| log.append(&[put("k", &[1; 300], time)]).and_then(|_| log.sync()).unwrap();
    let newest_of_sealed = |time: i64| {
        for _ in 0..40 {
            write(time);
        }
        log.seal().unwrap();
        log.newest().0
    };
    let old = newest_of_sealed(0);
    let young = newest_of_sealed(600);
    assert!(matches!(log.merge(&AtomicBool::new(false)).unwrap(), MergeOutcome::Merged { .. }));
    write(1_000);
    log.maintain().unwrap();
    assert_eq!(log.oldest(), 0, "nothing is older than it may be");
    write(1_001);
    log.maintain().unwrap();
    assert_eq!(log.oldest(), old, "all that is too old went, and no more");
    assert_eq!(log.read_from(old - 1, 1, 1).unwrap_err().kind(), ErrorKind::Expired);
    let kept = |after| log.read_from(after, 100, usize::MAX).unwrap().len();
    assert_eq!((kept(old), kept(young)), (42, 2));
}

/// A merge of a tail that is far larger than its memory and its fan-in has to give the same base.
#[test]
fn a_merge_in_little_memory_gives_the_same_base() {
    let content = |options: LogOptions| {
        let files = SimulatedFiles::new(1);
        let log = create(&files, options);
        for number in 0..300_u32 {
            log.append(&[put(&format!("k{}", number * 31 % 97), &[1; 100], 1)]).and_then(|_| log.sync()).unwrap();
        }
        log.seal().unwrap();
        let _ = log.merge(&AtomicBool::new(false)).unwrap();
        let left: Vec<_> =
            files.list(Path::new(DIR)).unwrap().into_iter().filter(|name| name.contains("next")).collect();
        assert_eq!(left, [""; 0]);
        log.base_iter().unwrap().0.map(|entry| entry.unwrap()).collect::<Vec<_>>()
    };
    let roomy = content(LogOptions { merge_memory_bytes: 1 << 20, merge_fan_in: 64, ..small() });
    assert_eq!(roomy.len(), 97);
    assert_eq!(roomy, content(LogOptions { merge_memory_bytes: 1, ..small() }));
}

/// Simulated files agree with real ones as far as they were compared; the whole path has to run on a real disk too.
#[test]
fn the_log_runs_on_real_files() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("partition-0");
    let options =
        LogOptions { segment_bytes: 64 << 10, low_space_bytes: 0, low_space_percent: 0, ..LogOptions::default() };
    let files: Arc<dyn Files> = Arc::new(SystemFiles);
    let log = Log::create(Arc::clone(&files), &dir, options.clone(), super::basics::IDENTITY).unwrap();
    for number in 0..300_u32 {
        log.admit(crate::engine::Growth::Grows).unwrap();
        log.append(&[put(&format!("k{number}"), &[1; 600], 1)]).and_then(|_| log.sync()).unwrap();
        if log.maintenance_due() {
            log.maintain().unwrap();
        }
    }
    let outcome = log.merge(&AtomicBool::new(false)).unwrap();
    assert!(matches!(outcome, MergeOutcome::Merged { .. }), "{outcome:?}");
    drop(log);
    let (log, report) = Log::open(files, &dir, options).unwrap();
    assert!(!report.clean && report.cuts.is_empty());
    assert_eq!(log.tail_iter(0).unwrap().flatten().count(), 300);
}
