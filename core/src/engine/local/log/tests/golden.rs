//! Files that an earlier build wrote: they must open, and this build must still write the same bytes.
//!
//! Run with `KAPPA_WRITE_FIXTURES=1` to write them, after a format change that is meant.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::basics::{DIR, create, put, small};
use crate::engine::local::log::space::BALLAST;
use crate::engine::local::log::{Checkpoint, Digest, Log};
use crate::engine::{Event, EventKind, Record, Write};
use crate::env::files::simulated::SimulatedFiles;
use crate::env::files::{Files, OpenMode, SystemFiles};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1/log")
}

fn records() -> Vec<Record> {
    let mut records: Vec<_> =
        (1..=6_u8).map(|number| put(&format!("key-{number}"), &[number; 5], 1_000 + i64::from(number))).collect();
    let kinds = [EventKind::Created, EventKind::Updated, EventKind::Deleted, EventKind::Expired];
    let event = |kind| Event { collection: "products".into(), id: "42".into(), kind, key: "key-1".into() };
    records[3].events = kinds.map(event).to_vec();
    records[4].writes =
        vec![Write::Delete { key: "key-2".into() }, Write::Put { key: "key-3".into(), value: "new".into() }];
    records
}

/// A log with everything in it: a base, a sealed segment, one in use, one unused, a checkpoint, a clean end.
fn written() -> SimulatedFiles {
    let files = SimulatedFiles::new(1);
    let log = create(&files, small());
    let records = records();
    log.append(&records[..2]).unwrap();
    log.append(&records[2..5]).unwrap();
    log.seal().unwrap();
    assert!(matches!(log.merge(&AtomicBool::new(false)).unwrap(), super::super::MergeOutcome::Merged { keys: 3, .. }));
    log.append(&records[5..]).unwrap();
    log.sync().unwrap();
    log.update_manifest(|manifest| {
        manifest.view = Some("view-1".into());
        manifest.checkpoint = Checkpoint::Draining { to: (1 << 32) + 6, from: 3, digest: Digest { count: 4, sum: 5 } };
    })
    .unwrap();
    log.close_clean().unwrap();
    files
}

/// A byte that moves makes every directory of the last release unreadable.
#[test]
fn this_build_writes_the_bytes_of_version_one() {
    let files = written();
    for name in files.list(Path::new(DIR)).unwrap().into_iter().filter(|name| name != BALLAST) {
        let content = files.content(&Path::new(DIR).join(&name));
        let path = fixtures().join(&name);
        if std::env::var_os("KAPPA_WRITE_FIXTURES").is_some() {
            SystemFiles.create_dir_all(&fixtures()).unwrap();
            SystemFiles.remove_file(&path).ok();
            SystemFiles.open(&path, OpenMode::CreateNew).unwrap().write_at(&content, 0).unwrap();
        }
        assert_eq!(content, stored(&path), "file={name}");
    }
}

fn stored(path: &Path) -> Vec<u8> {
    let file = SystemFiles.open(path, OpenMode::Existing).unwrap();
    let mut content = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(&mut content, 0).unwrap();
    content
}

/// Whatever later builds write, they have to read this.
#[test]
fn files_of_version_one_open() {
    let files = SimulatedFiles::new(1);
    files.create_dir_all(Path::new(DIR)).unwrap();
    for name in SystemFiles.list(&fixtures()).unwrap() {
        let file = files.open(&Path::new(DIR).join(&name), OpenMode::CreateNew).unwrap();
        file.write_at(&stored(&fixtures().join(&name)), 0).unwrap();
    }
    let (log, report) = Log::open(Arc::new(files), Path::new(DIR), small()).unwrap();
    assert!(report.clean && report.cuts.is_empty() && !report.manifest_repaired);
    assert_eq!(log.newest(), (2 << 32, 1_006));
    let tail: Vec<_> = log.tail_iter(0).unwrap().map(|record| record.unwrap()).collect();
    assert!(tail.iter().map(|record| &record.record).eq(&records()));
    let (base, sequence) = log.base_iter().unwrap();
    let base: Vec<_> =
        base.map(|entry| entry.unwrap()).map(|entry| (entry.key, entry.value.unwrap(), entry.sequence)).collect();
    let at = |number: u64| (1 << 32) + number;
    let five = |byte: u8| bytes::Bytes::from(vec![byte; 5]);
    assert_eq!(sequence, at(5));
    assert_eq!(
        base,
        [("key-1".into(), five(1), at(1)), ("key-3".into(), "new".into(), at(5)), ("key-4".into(), five(4), at(4))]
    );
    let manifest = log.manifest();
    assert_eq!((manifest.identity, manifest.view.as_deref()), (super::basics::IDENTITY, Some("view-1")));
    assert_eq!(manifest.checkpoint.needs_after(), Some(3));
}
