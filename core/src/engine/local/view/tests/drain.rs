//! Drains beside readers and writers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, ScopedJoinHandle};

use super::faults::Faulty;
use super::*;
use crate::engine::local::view::{checkpoint, merge, snapshot};
use crate::engine::{Direction, KeyRange, MAX_PAGE_BYTES, Snapshot};
use crate::error::{Error, ErrorKind};

/// A reader that sees A from before an operation and Z from after it, while the drain overwrites both.
pub(super) fn pairs_stay_equal(view: &View, rounds: u64) {
    let (manifest, done) = (Manifest::default(), AtomicBool::new(false));
    let (reads, drains) = (AtomicU64::new(0), AtomicU64::new(0));
    commit(view, 1, vec![put(b"a", b"1"), put(b"z", b"1")]);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let read = reads.fetch_add(1, Ordering::Relaxed);
                let snapshot = view.snapshot();
                let first = snapshot.get(b"a").unwrap().unwrap();
                let page = snapshot.scan(&KeyRange::prefix(b""), Direction::Forward, 10).unwrap();
                let last = snapshot.get(b"z").unwrap().unwrap();
                assert_eq!(first, last, "read {read}");
                assert_eq!(page.len(), 2, "read {read}");
                assert!(page.iter().all(|entry| entry.value == first.value), "read {read}: {page:?} {first:?}");
            }
        });
        let drainer = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let drained = matches!(view.checkpoint(&manifest).unwrap(), Checkpoint::At(_));
                drains.fetch_add(u64::from(drained), Ordering::Relaxed);
            }
        });
        let enough = || reads.load(Ordering::Relaxed) >= 100 && drains.load(Ordering::Relaxed) >= 3;
        for round in 2.. {
            if round >= rounds && (enough() || reader.is_finished() || drainer.is_finished()) {
                break;
            }
            let value = round.to_string();
            commit(view, round, vec![put(b"a", value.as_bytes()), put(b"z", value.as_bytes())]);
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
        drainer.join().unwrap();
    });
    println!("rounds={rounds} reads={reads:?} drains={drains:?}");
}

/// Drains come to their end also where the machine gives the readers little time.
fn patient() -> ViewOptions {
    ViewOptions { snapshot_wait: LONG, ..options() }
}

#[test]
fn readers_beside_a_drain_see_whole_operations_in_memory() {
    pairs_stay_equal(&memory(patient()), 20_000);
    pairs_stay_equal(&memory(ViewOptions { cache_bytes: 0, ..patient() }), 20_000);
}

#[test]
fn readers_beside_a_drain_see_whole_operations_in_sled() {
    let dir = tempfile::tempdir().unwrap();
    let view = View::open(Some(&dir.path().join("view-1")), patient(), StoreState::Empty).unwrap();
    pairs_stay_equal(&view, 5_000);
    view.close(LONG).unwrap();
}

/// The drain must not overwrite what an older snapshot still reads from the store.
pub(super) fn old_snapshot_keeps_its_version(view: &View) {
    let manifest = Manifest::default();
    commit(view, 1, vec![put(b"k", b"old")]);
    drained(view, &manifest);
    let old = view.snapshot();
    commit(view, 2, vec![put(b"k", b"new")]);
    let first = view.checkpoint(&manifest).unwrap();
    assert_eq!(old.get(b"k").unwrap().unwrap().value, "old");
    assert_eq!(first, Checkpoint::Postponed);
    assert_eq!(value_of(view, b"k").unwrap(), "new");
    drop(old);
    assert_eq!(drained(view, &manifest), 2);
    assert_eq!(value_of(view, b"k").unwrap(), "new");
}

pub(super) fn impatient() -> ViewOptions {
    ViewOptions { cache_bytes: 0, ..options() }
}

#[test]
fn a_drain_waits_for_older_snapshots() {
    old_snapshot_keeps_its_version(&memory(impatient()));
}

/// Snapshots of several lists can be alive at once: the drain waits for all of them, not for the oldest.
#[test]
fn a_drain_waits_for_every_list_before_its_freeze() {
    struct Holds<'a>(&'a View, Manifest, Mutex<Option<Arc<dyn Snapshot>>>);
    impl CheckpointLog for Holds<'_> {
        fn draining(&self, to: Sequence, digest: Digest) -> Result<()> {
            self.1.draining(to, digest)
        }
        fn drained(&self, at: Sequence, digest: Digest) -> Result<()> {
            *self.2.lock() = Some(self.0.snapshot());
            self.1.drained(at, digest)
        }
    }
    let view = memory(impatient());
    let log = Holds(&view, Manifest::default(), Mutex::default());
    commit(&view, 1, vec![put(b"k", b"old")]);
    assert_eq!(view.checkpoint(&log).unwrap(), Checkpoint::At(1));
    let younger = view.snapshot();
    let older = log.2.lock().take();
    commit(&view, 2, vec![put(b"k", b"new")]);
    drop(older);
    assert_eq!(view.checkpoint(&log).unwrap(), Checkpoint::Postponed);
    assert_eq!(younger.get(b"k").unwrap().unwrap().value, "old");
    drop(younger);
    assert_eq!(drained(&view, &log.1), 2);
}

/// A reader takes list and sequence one after the other. With the list from before a freeze and the sequence from
/// behind it, what was published in between would be in none of its memtables.
#[test]
fn a_freeze_between_the_list_and_the_sequence_hides_nothing() {
    let (view, manifest) = (memory(impatient()), Manifest::default());
    commit(&view, 1, vec![put(b"k", b"old")]);
    let mut looks = 0;
    let (tables, sequence) = view.shared.reading_with(|| {
        looks += 1;
        if looks == 1 {
            assert_eq!(view.checkpoint(&manifest).unwrap(), Checkpoint::Postponed, "the reader's list is waited for");
            commit(&view, 2, vec![put(b"k", b"new")]);
        }
    });
    let found = snapshot::get(&view.shared, &tables, sequence, b"k").unwrap().unwrap();
    assert_eq!((found.value, found.sequence, sequence), (Bytes::from_static(b"new"), 2, 2));
    assert_eq!(looks, 2);
    drop(tables);
    assert_eq!(drained(&view, &manifest), 1);
}

/// A freeze between apply and publish would drain versions that a crash of the owner takes back.
#[test]
fn a_freeze_waits_for_the_group_that_is_being_applied() {
    let (view, manifest) = (memory(options()), Manifest::default());
    commit(&view, 1, vec![put(b"k", b"1")]);
    view.apply(2, &[Record { writes: vec![put(b"k", b"2")], ..Record::default() }]).unwrap();
    thread::scope(|scope| {
        let drainer = scope.spawn(|| drained(&view, &manifest));
        while !view.shared.writer.lock().freeze_wanted {
            thread::yield_now();
        }
        assert_eq!(manifest.state(), StoreState::Empty);
        assert_eq!(value_of(&view, b"k").unwrap(), "1");
        view.publish(2);
        assert_eq!(drainer.join().unwrap(), 2);
    });
    assert_eq!(value_of(&view, b"k").unwrap(), "2");
}

/// What the queue does all day: a key made and deleted between checkpoints costs the store nothing,
/// and a deleted key does not come back from it.
#[test]
fn short_lived_keys_never_reach_the_store() {
    let (view, manifest) = (memory(options()), Manifest::default());
    for task in 1..=500_u64 {
        commit(&view, 2 * task - 1, vec![put(&task.to_be_bytes(), b"task")]);
        commit(&view, 2 * task, vec![delete(&task.to_be_bytes())]);
    }
    assert_eq!(drained(&view, &manifest), 1_000);
    assert_eq!(view.digest(), Some((1_000, Digest::default())));
    assert!(view.snapshot().scan(&KeyRange::prefix(b""), Direction::Backward, 1_000).unwrap().is_empty());
    assert_eq!(view.checkpoint(&manifest).unwrap(), Checkpoint::Nothing);
}

/// Claiming from the front of a queue must not step over everything that was claimed before, which
/// makes the day's work of a queue grow with the square of its length.
#[test]
fn a_claim_takes_few_steps_however_much_was_claimed_before() {
    for direction in [Direction::Forward, Direction::Backward] {
        let view = memory(options());
        for task in 1..=1_000_u64 {
            commit(&view, task, vec![put(&task.to_be_bytes(), b"task")]);
        }
        merge::STEPS.set(0);
        for claim in 1_001..=1_900_u64 {
            let page = view.snapshot().scan(&KeyRange::prefix(b"\0"), direction, 1).unwrap();
            commit(&view, claim, vec![delete(&page[0].key)]);
        }
        let steps = merge::STEPS.get();
        assert!(steps < 900 * 4, "{direction:?} steps={steps}");
    }
}

/// Operations are run while the group before them is on its way to the disk, applied and not yet published: their scans
/// must find ranges too, or they step over more and more as long as somebody writes.
#[test]
fn a_claim_amid_a_group_takes_few_steps_too() {
    let view = memory(options());
    for task in 1..=1_000_u64 {
        commit(&view, task, vec![put(&task.to_be_bytes(), b"task")]);
    }
    merge::STEPS.set(0);
    for claim in (1_001..=2_800_u64).step_by(2) {
        let other = Record { writes: vec![put(b"other", &claim.to_be_bytes())], ..Record::default() };
        view.apply(claim, &[other]).unwrap();
        let page = view.snapshot().scan(&KeyRange::prefix(b"\0"), Direction::Forward, 1).unwrap();
        view.publish(claim);
        commit(&view, claim + 1, vec![delete(&page[0].key)]);
    }
    let steps = merge::STEPS.get();
    assert!(steps < 900 * 4, "steps={steps}");
}

/// A sync that fails leaves a group that nobody will ever see: a close must not wait for it, nor drain it.
#[test]
#[expect(clippy::disallowed_methods, reason = "a wait of many seconds is what must not be")]
fn a_group_that_is_never_published_holds_no_checkpoint_up() {
    let view = memory(options());
    commit(&view, 1, vec![put(b"a", b"1")]);
    view.apply(2, &[Record { writes: vec![put(b"a", b"2")], ..Record::default() }]).unwrap();
    let watch = std::time::Instant::now();
    thread::scope(|scope| {
        let checkpoint = scope.spawn(|| view.checkpoint(&Manifest::default()));
        view.withhold();
        let refused = checkpoint.join().unwrap().expect_err("not all that was applied may be drained");
        assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    });
    view.checkpoint(&Manifest::default()).expect_err("nor later");
    assert!(watch.elapsed() < checkpoint::PUBLISH_WAIT, "it was waited for");
    assert_eq!(view.snapshot().get(b"a").unwrap().unwrap().value, "1");
}

/// A queue whose front moves on while readers scan it: a dead range that is kept too long hides
/// tasks, one that is trusted too early shows half an operation.
pub(super) fn a_moving_window_is_always_whole(view: &View, rounds: u64) {
    const WIDTH: u64 = 10;
    let key = |number: u64| (number % 500).to_be_bytes();
    let (manifest, done, scans) = (Manifest::default(), AtomicBool::new(false), AtomicU64::new(0));
    let first = (0..WIDTH).map(|number| put(&key(number), b"task")).collect();
    commit(view, 1, first);
    thread::scope(|scope| {
        let scan = |direction| {
            let (view, done, scans) = (&view, &done, &scans);
            move || {
                while !done.load(Ordering::Relaxed) {
                    let scan = scans.fetch_add(1, Ordering::Relaxed);
                    let snapshot = view.snapshot();
                    let page = snapshot.scan(&KeyRange::prefix(b""), direction, 100).unwrap();
                    let from = snapshot.sequence() - 1;
                    let mut expected: Vec<_> = (from..from + WIDTH).map(key).collect();
                    expected.sort_unstable();
                    if direction == Direction::Backward {
                        expected.reverse();
                    }
                    let found: Vec<_> = page.iter().map(|entry| &entry.key[..]).collect();
                    assert_eq!(found, expected, "scan {scan} {direction:?} at={}", snapshot.sequence());
                }
            }
        };
        let readers = [scope.spawn(scan(Direction::Forward)), scope.spawn(scan(Direction::Backward))];
        for round in 0.. {
            let enough = || scans.load(Ordering::Relaxed) >= 100 || readers.iter().any(ScopedJoinHandle::is_finished);
            if round >= rounds && enough() {
                break;
            }
            commit(view, round + 2, vec![delete(&key(round)), put(&key(round + WIDTH), b"task")]);
            if round % 1_500 == 1_499 {
                let _ = view.checkpoint(&manifest).unwrap();
            }
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
    });
    println!("rounds={rounds} scans={scans:?}");
}

#[test]
fn scans_beside_a_moving_queue_miss_nothing() {
    a_moving_window_is_always_whole(&memory(options()), 20_000);
}

/// Writers that outrun the drain wait, are told when it takes too long, and go on when it is done.
#[test]
fn a_full_memtable_makes_writers_wait_for_the_drain() {
    let (view, manifest) = (memory(ViewOptions { memtable_bytes: 20_000, ..options() }), Manifest::default());
    assert!(!view.wait_until_due(Duration::ZERO, || false));
    let mut sequence = 0;
    while view.has_room() {
        sequence += 1;
        commit(&view, sequence, vec![put(&sequence.to_be_bytes(), &[7; 500])]);
    }
    assert!(view.checkpoint_due() && view.wait_until_due(LONG, || false));
    let refused = view.wait_for_room(Duration::from_millis(1)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Overloaded);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| view.wait_for_room(LONG));
        drained(&view, &manifest);
        waiter.join().unwrap().unwrap();
    });
    assert!(!view.checkpoint_due() && view.memtable_bytes() == 0);
}

/// Writers who outrun a drain would fill the memtable at full speed and then wait for all that is left of the drain: a
/// second without a single write, again and again. They are to follow it from the middle on, and to have all the room
/// when it has ended.
#[test]
fn writers_follow_a_drain_that_is_slower_than_they() {
    const CHUNK: u64 = 2_048;
    let (at_chunk, arrivals) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel::<()>();
    let (goes_on, changes) = (Mutex::new(goes_on), AtomicU64::new(0));
    let on_change = move |_: &[u8]| {
        if changes.fetch_add(1, Ordering::Relaxed).is_multiple_of(CHUNK) {
            at_chunk.send(()).unwrap();
            goes_on.lock().recv().unwrap();
        }
    };
    let store = Faulty { on_change: Some(Box::new(on_change)), ..Faulty::default() };
    let view = View::over(Box::new(store), options(), StoreState::Empty).unwrap();
    let (all, manifest) = (options().memtable_bytes, Manifest::default());
    let mut sequence = 0;
    let mut put_next = |bytes: usize| {
        sequence += 1;
        commit(&view, sequence, vec![put(&sequence.to_be_bytes(), &vec![7; bytes])]);
    };
    (0..4 * CHUNK).for_each(|_| put_next(1));
    thread::scope(|scope| {
        // Gone when this thread panics, so that the drain does not wait for ever.
        let go_on = go_on;
        let drain = scope.spawn(|| drained(&view, &manifest));
        for eighths in 4..8 {
            arrivals.recv().unwrap();
            while view.has_room() {
                put_next(1_000);
            }
            let (taken, goal) = (view.active_bytes(), all * eighths / 8);
            assert!((goal..goal + all / 50).contains(&taken), "{taken} bytes were taken, {goal} of {all} expected");
            go_on.send(()).unwrap();
        }
        drain.join().unwrap();
    });
    while view.has_room() {
        put_next(1_000);
    }
    assert!(view.active_bytes() >= all, "nothing is drained, and not all the room is given");
}

/// A manifest that cannot be written must not lose the frozen memtable or write it without a mark.
#[test]
fn a_checkpoint_goes_on_where_the_manifest_failed() {
    struct Fails(Manifest, Mutex<Vec<&'static str>>);
    impl Fails {
        fn next(&self, call: &'static str) -> Result<()> {
            let mut calls = self.1.lock();
            calls.push(call);
            match calls.len() {
                1 | 3 => Err(Error::new(ErrorKind::StorageFull, "no space for the manifest")),
                _ => Ok(()),
            }
        }
    }
    impl CheckpointLog for Fails {
        fn draining(&self, to: Sequence, digest: Digest) -> Result<()> {
            self.next("draining")?;
            self.0.draining(to, digest)
        }
        fn drained(&self, at: Sequence, digest: Digest) -> Result<()> {
            self.next("drained")?;
            self.0.drained(at, digest)
        }
    }
    let (view, log) = (memory(options()), Fails(Manifest::default(), Mutex::default()));
    commit(&view, 1, vec![put(b"k", b"1")]);
    for left in (0..=2).rev() {
        let outcome = view.checkpoint(&log);
        assert_eq!(outcome.is_err(), left > 0, "left={left} {outcome:?}");
        commit(&view, 10 - left, vec![put(b"other", b"2")]);
        assert_eq!(value_of(&view, b"k").unwrap(), "1");
    }
    assert_eq!(*log.1.lock(), ["draining", "draining", "drained", "drained"]);
    assert!(matches!(log.0.state(), StoreState::At { at: 1, .. }));
    assert!(view.verify().unwrap());
}

/// A page that grows past its bound in bytes would break the bound on memory of every caller.
#[test]
fn a_page_ends_at_its_bytes() {
    let (view, manifest) = (memory(options()), Manifest::default());
    for sequence in 1..=6 {
        commit(&view, sequence, vec![put(&sequence.to_be_bytes(), &vec![7; MAX_PAGE_BYTES / 2])]);
        if sequence == 3 {
            drained(&view, &manifest);
        }
    }
    let everything = KeyRange::prefix(b"");
    let page = view.snapshot().scan(&everything, Direction::Forward, 1_000).unwrap();
    assert_eq!(page.len(), 2);
    assert_eq!(view.snapshot().scan(&everything, Direction::Backward, 0).unwrap(), []);
}

/// Closing ends a drain between two writes; the next opening repeats it.
#[test]
fn a_close_does_not_wait_for_a_drain() {
    struct ClosesMeanwhile<'a>(&'a View, Manifest);
    impl CheckpointLog for ClosesMeanwhile<'_> {
        fn draining(&self, to: Sequence, digest: Digest) -> Result<()> {
            self.0.shared.closing.store(true, Ordering::Release);
            self.1.draining(to, digest)
        }
        fn drained(&self, at: Sequence, _: Digest) -> Result<()> {
            panic!("the drain went on to {at}")
        }
    }
    let view = memory(options());
    let writes = (0..5_000_u32).map(|key| put(&key.to_be_bytes(), b"v")).collect();
    commit(&view, 1, writes);
    let log = ClosesMeanwhile(&view, Manifest::default());
    assert_eq!(view.checkpoint(&log).unwrap(), Checkpoint::Cancelled);
    assert!(matches!(log.1.state(), StoreState::Draining { from: 0, to: 1, .. }));
    view.close(LONG).unwrap();
    assert_eq!(view.checkpoint(&log).unwrap_err().kind(), ErrorKind::Closed);
}
