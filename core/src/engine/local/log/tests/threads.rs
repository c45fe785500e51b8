//! Appends, readers, merges and maintenance at the same time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use super::basics::{DIR, create, put, small};
use crate::engine::local::log::{Checkpoint, Digest, Log, LogOptions};
use crate::engine::{Durability, Write};
use crate::env::files::simulated::{Crash, SimulatedFiles};
use crate::error::ErrorKind;

const GROUPS: u32 = 1_000;

/// A feed that reads while segments roll, bases are switched and old segments go: it must meet every record
/// once and in order, or be told that they expired; a bootstrap from base and tail must see a consistent state.
#[test]
fn readers_see_every_record_once_while_everything_moves() {
    for durability in [Durability::Synced, Durability::Written] {
        let files = SimulatedFiles::new(1);
        let log = create(&files, LogOptions { durability, ..small() });
        let done = AtomicBool::new(false);
        let end = EndsReaders(&done);
        let (ask, asked) = mpsc::channel();
        thread::scope(|scope| {
            // Moved in here, so that a failing append ends the readers too instead of leaving the test hanging.
            let end = end;
            let log = &log;
            let maintenance = scope.spawn(move || {
                for () in asked {
                    log.maintain().unwrap();
                    let _ = log.merge(&AtomicBool::new(false)).unwrap();
                    assert_eq!(log.scrub(|_| true).unwrap().len(), 0);
                }
            });
            scope.spawn(|| follow(log, &done));
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    bootstrap(log, log.newest().0);
                    thread::yield_now();
                }
            });
            for number in 0..GROUPS {
                let value = number.to_be_bytes();
                log.append(&[put("a", &value, 1), put("b", &value, 1)]).unwrap();
                log.sync().unwrap();
                if number % 50 == 0 {
                    let (sequence, digest) = (log.newest().0, Digest::default());
                    log.update_manifest(|manifest| manifest.checkpoint = Checkpoint::At { sequence, digest }).unwrap();
                    ask.send(()).unwrap();
                }
            }
            drop(ask);
            maintenance.join().unwrap();
            drop(end);
        });
        let newest = log.newest().0;
        assert!(log.oldest() > 0 && log.base_iter().is_some(), "nothing moved");
        let (log, report) = Log::open(Arc::new(files.crash(Crash::Lost)), Path::new(DIR), small()).unwrap();
        assert_eq!(report.newest, newest);
        bootstrap(&log, newest);
    }
}

struct EndsReaders<'a>(&'a AtomicBool);

impl Drop for EndsReaders<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn follow(log: &Log, done: &AtomicBool) {
    let (mut after, mut met) = (0, 0);
    loop {
        let last_round = done.load(Ordering::Relaxed);
        match log.read_from(after, 7, 1_000) {
            Ok(records) if records.is_empty() && last_round => break,
            Ok(records) => {
                for record in records {
                    assert!(after == 0 || record.sequence == after + 1, "after={after} got={}", record.sequence);
                    after = record.sequence;
                    met += 1;
                }
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Expired, "{error}");
                after = log.oldest();
            }
        }
    }
    assert!(met > 0 && after == log.newest().0);
}

/// Base and tail behind it make one state: `b` is never ahead of `a`, and both end at the newest record.
fn bootstrap(log: &Log, newest: u64) {
    let (base, _, tail) = log.rebuild_iter().unwrap();
    let base: Vec<_> = base.into_iter().flatten().map(|entry| entry.unwrap()).collect();
    // Every record writes both keys, so the newest entry tells where the base ends.
    let mut last = base.iter().map(|entry| entry.sequence).max().unwrap_or(0);
    let mut state: BTreeMap<_, _> = base.into_iter().map(|entry| (entry.key, entry.value.unwrap())).collect();
    for record in tail {
        let record = record.unwrap();
        assert!(last == 0 || record.sequence == last + 1);
        last = record.sequence;
        for write in record.record.writes {
            let Write::Put { key, value } = write else { continue };
            state.insert(key, value);
        }
        assert!(state.get(&b"b"[..]) <= state.get(&b"a"[..]));
    }
    assert!(last >= newest, "last={last} newest={newest}");
}
