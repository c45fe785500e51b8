//! What the log does while nothing fails.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::engine::local::log::{Identity, Log, LogOptions, MergeOutcome};
use crate::engine::{Event, EventKind, Growth, Record, Write};
use crate::env::files::Files;
use crate::env::files::simulated::{Crash, SimulatedFiles};
use crate::error::ErrorKind;

pub const DIR: &str = "/disk/log";
pub const IDENTITY: Identity = Identity { database: *b"0123456789abcdef", node: 7, partition: 0, partitions: 1 };

/// Small enough that a few records fill a segment.
pub fn small() -> LogOptions {
    LogOptions {
        segment_bytes: 4_096,
        reserve_segments: 1,
        low_space_bytes: 16 << 10,
        merge_tail_bytes: 8 << 10,
        merge_memory_bytes: 2_048,
        merge_fan_in: 2,
        block_bytes: 512,
        retention_bytes: 12 << 10,
        ..LogOptions::default()
    }
}

pub fn create(files: &SimulatedFiles, options: LogOptions) -> Log {
    files.create_dir_all(Path::new("/disk")).unwrap();
    files.sync_dir(Path::new("/")).unwrap();
    Log::create(Arc::new(files.clone()), Path::new(DIR), options, IDENTITY).unwrap()
}

pub fn try_create(files: &SimulatedFiles) -> crate::error::Result<Log> {
    Log::create(Arc::new(files.clone()), Path::new(DIR), small(), IDENTITY)
}

pub fn put(key: &str, value: &[u8], time: i64) -> Record {
    let key = bytes::Bytes::copy_from_slice(key.as_bytes());
    let event = Event { collection: "c".into(), id: "1".into(), kind: EventKind::Created, key: key.clone() };
    Record { time, events: vec![event], writes: vec![Write::Put { key, value: bytes::Bytes::copy_from_slice(value) }] }
}

/// A reader that skips, repeats or reorders one record at a segment's end, a seek or a page's end loses data
/// without any crash.
#[test]
fn records_come_back_in_order_from_everywhere() {
    let files = SimulatedFiles::new(1);
    let log = create(&files, small());
    let mut all = Vec::new();
    for number in 0..100_u32 {
        let records: Vec<_> =
            (0..number % 4).map(|at| put(&format!("k{number}.{at}"), &[7; 300], i64::from(number))).collect();
        let first = log.append(&records).unwrap();
        log.sync().unwrap();
        all.extend(records.into_iter().enumerate().map(|(at, record)| (first + at as u64, record)));
    }
    assert_eq!(log.newest(), (all.last().unwrap().0, 99));
    for reopened in [false, true] {
        let log = if reopened {
            log.close_clean().unwrap();
            assert_eq!(log.append(&[]).unwrap_err().kind(), ErrorKind::Closed);
            let (log, report) = Log::open(Arc::new(files.clone()), Path::new(DIR), small()).unwrap();
            assert!(report.clean && report.cuts.is_empty() && report.leftovers.is_empty());
            assert!(log.newest().0 > all.last().unwrap().0, "a new epoch");
            log
        } else {
            Log::open(Arc::new(files.crash(Crash::Lost)), Path::new(DIR), small()).unwrap().0
        };
        let mut read: Vec<_> = log.tail_iter(0).unwrap().map(|record| record.unwrap()).collect();
        assert!(
            read.iter()
                .map(|record| (record.sequence, &record.record))
                .eq(all.iter().map(|(at, record)| (*at, record)))
        );
        for (index, (after, _)) in all.iter().enumerate() {
            read = log.read_from(*after, 5, 700).unwrap();
            let expected = &all[index + 1..all.len().min(index + 3)];
            assert!(read.iter().map(|record| record.sequence).eq(expected.iter().map(|(at, _)| *at)), "after={after}");
        }
    }
}

/// A merge that keeps an old value, forgets a key or brings back a deleted one is silent corruption.
#[test]
fn a_merge_keeps_the_newest_of_every_live_key() {
    let files = SimulatedFiles::new(1);
    let log = create(&files, small());
    let mut model = std::collections::BTreeMap::new();
    for number in 0..400_u32 {
        let key = format!("k{}", number * 7 % 60);
        let record = if number % 3 == 0 {
            model.remove(&key);
            Record { writes: vec![Write::Delete { key: key.into() }], ..Record::default() }
        } else {
            let value = vec![u8::try_from(number % 251).unwrap(); 100 + number as usize % 300];
            let record = put(&key, &value, 1);
            model.insert(key, (value, log.newest().0 + 1));
            record
        };
        log.append(&[record]).unwrap();
        log.sync().unwrap();
        if number % 70 == 69 {
            log.seal().unwrap();
            assert!(log.merge_due());
            let outcome = log.merge(&AtomicBool::new(false)).unwrap();
            assert!(matches!(outcome, MergeOutcome::Merged { .. }), "{outcome:?}");
            assert!(!log.merge_due());
            let (base, at) = log.base_iter().unwrap();
            assert_eq!(at, log.newest().0);
            let base: Vec<_> = base.map(|entry| entry.unwrap()).collect();
            let base: std::collections::BTreeMap<_, _> = base
                .into_iter()
                .map(|entry| {
                    (String::from_utf8(entry.key.to_vec()).unwrap(), (entry.value.unwrap().to_vec(), entry.sequence))
                })
                .collect();
            assert_eq!(base, model);
        }
    }
    assert_eq!(log.merge(&AtomicBool::new(true)).unwrap(), MergeOutcome::Cancelled);
    assert_eq!(log.scrub(|_| true).unwrap().len(), 0);
    let oldest = log.oldest();
    assert!(oldest > 0, "segments beyond retention are gone");
    assert_eq!(log.read_from(oldest - 1, 1, 1).unwrap_err().kind(), ErrorKind::Expired);
    assert_eq!(log.read_from(oldest, 1, 1).unwrap().len(), 1);
}

/// On a full disk growing writes must stop early enough that deletes still find room, and a restart works.
#[test]
fn a_full_disk_refuses_growth_and_takes_deletes() {
    let files = SimulatedFiles::new(1);
    let log = create(&files, small());
    log.maintain().unwrap();
    files.limit(files.used() + (20 << 10));
    let mut stored = 0;
    let refused = loop {
        if let Err(error) = log.admit(Growth::Grows) {
            break error;
        }
        log.append(&[put(&format!("k{stored}"), &[1; 500], 1)]).unwrap();
        log.sync().unwrap();
        log.maintain().ok();
        stored += 1;
        assert!(stored < 200, "the disk never fills");
    };
    assert_eq!(refused.kind(), ErrorKind::StorageFull);
    files.limit(files.used());
    log.admit(Growth::Shrinks).unwrap();
    let log = Log::open(Arc::new(files.clone()), Path::new(DIR), small()).unwrap().0;
    let mut deleted = 0;
    while log.admit(Growth::Shrinks).is_ok() {
        let key = format!("k{}", deleted % stored).into();
        match log.append(&[Record { writes: vec![Write::Delete { key }], ..Record::default() }]) {
            Ok(_) => log.sync().unwrap(),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
                break;
            }
        }
        deleted += 1;
    }
    assert!(deleted > 30, "deleted={deleted}");
    files.limit(1 << 30);
    log.maintain().unwrap();
    log.admit(Growth::Grows).unwrap();
}
