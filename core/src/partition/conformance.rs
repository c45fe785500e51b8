//! What every engine must give a partition, run against each of them.
//!
//! Operations here are closures over a transaction, so that each case says exactly what it reads and writes.

mod gathering;
mod refusals;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;

use super::{Domain, Halt, Limits, Partition, Run, Transaction};
use crate::engine::local::LocalEngine;
use crate::engine::memory::MemoryEngine;
use crate::engine::{
    Committed, CommittedRecord, Direction, Durability, Engine, Group, Growth, KeyRange, Record, Sequence, Snapshot,
};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::executor::Pending;
use crate::options::{Options, ViewKind};

type Operation = Box<dyn Fn(&mut Transaction<'_>) -> Run<i64> + Send + Sync>;

struct Closures;

impl Domain for Closures {
    type Operation = Operation;
    type Answer = i64;

    fn run(&self, operation: &Operation, transaction: &mut Transaction<'_>) -> Run<i64> {
        operation(transaction)
    }

    fn growth(&self, _: &Operation) -> Growth {
        Growth::Grows
    }

    fn size(&self, _: &Operation) -> usize {
        100
    }

    fn renumber(&self, answer: &mut i64, from: Sequence, by: Sequence) {
        if *answer >= from.cast_signed() {
            *answer += by.cast_signed();
        }
    }
}

const LIMITS: Limits = Limits { intake_bytes: 1 << 20, deadline: Duration::from_secs(10) };

fn start(engine: Arc<dyn Engine>) -> Partition<Closures> {
    Partition::start(engine, Closures, &Env::default(), LIMITS).expect("threads are given")
}

fn submit(
    partition: &Partition<Closures>,
    operation: impl Fn(&mut Transaction<'_>) -> Run<i64> + Send + Sync + 'static,
) -> Pending<i64> {
    partition.submit(Box::new(operation), None)
}

/// Holds the committer inside an operation until the returned sender is used, so that what is
/// submitted meanwhile becomes one group.
fn hold(partition: &Partition<Closures>) -> (mpsc::Sender<()>, Pending<i64>) {
    let (release, held) = mpsc::channel();
    let held = parking_lot::Mutex::new(held);
    let (entered, inside) = mpsc::channel();
    let pending = submit(partition, move |_| {
        let _ = entered.send(());
        let _ = held.lock().recv_timeout(Duration::from_secs(30));
        Ok(0)
    });
    let pending = pending.start();
    inside.recv_timeout(Duration::from_secs(30)).expect("the operation is run");
    (release, pending)
}

fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(text: &'static str, value: &'static str) -> impl Fn(&mut Transaction<'_>) -> Run<i64> + Send + Sync {
    move |transaction| {
        transaction.put(key(text), key(value))?;
        Ok(transaction.version().cast_signed())
    }
}

fn read(partition: &Partition<Closures>, text: &'static str) -> Option<Bytes> {
    let snapshot = partition.engine().snapshot().expect("a snapshot is given");
    snapshot.get(text.as_bytes()).expect("the read works").map(|versioned| versioned.value)
}

/// Runs a case against every engine: alone, and as two processes that share one partition.
fn on_every_engine(case: impl Fn(&Partition<Closures>, &Partition<Closures>)) {
    for (alone, _directory) in engines_of_one_process() {
        let partition = start(alone);
        case(&partition, &partition);
        match partition.close(Duration::from_secs(10)) {
            Ok(()) => {}
            Err(error) => panic!("it closes: {error}"),
        }
    }
    let engine = MemoryEngine::shared();
    let other = engine.share();
    let (one, two) = (start(Arc::new(engine)), start(Arc::new(other)));
    case(&one, &two);
}

/// The engines that one process owns, and the directories that some of them lie in.
fn engines_of_one_process() -> Vec<(Arc<dyn Engine>, Option<tempfile::TempDir>)> {
    let local = |view: ViewKind| -> (Arc<dyn Engine>, _) {
        let directory = tempfile::tempdir().expect("a directory is made");
        let options = Options { view, segment_bytes: 4 << 20, ..Options::default() };
        let options = options.local(true).expect("the options are within bounds");
        let (engine, _) = LocalEngine::open(directory.path().join("log"), options, Env::default()).expect("it opens");
        (Arc::new(engine), Some(directory))
    };
    vec![(Arc::new(MemoryEngine::default()), None), local(ViewKind::Memory), local(ViewKind::Sled)]
}

/// Two updates of one key in one group that name the same version: if both passed, one would be
/// lost without anybody knowing.
#[test]
fn of_two_conditional_updates_in_one_group_one_wins() {
    on_every_engine(|one, two| {
        let version = submit(one, put("a", "old")).wait().expect("written");
        let update = move |value: &'static str| {
            move |transaction: &mut Transaction<'_>| {
                let seen = transaction.get(b"a")?.map(|versioned| versioned.sequence.cast_signed());
                if seen != Some(version) {
                    return Err(Error::new(ErrorKind::VersionMismatch, "written since").into());
                }
                transaction.put(key("a"), key(value))?;
                Ok(transaction.version().cast_signed())
            }
        };
        let (release, held) = hold(one);
        let (left, right) = (submit(one, update("left")), submit(one, update("right")));
        let third = if std::ptr::eq(one, two) { None } else { Some(submit(two, update("third"))) };
        release.send(()).expect("it is held");
        held.wait().expect("released");
        let outcomes = [left.wait(), right.wait()].into_iter().chain(third.map(Pending::wait));
        let (won, lost): (Vec<_>, Vec<_>) = outcomes.partition(Result::is_ok);
        assert_eq!(won.len(), 1);
        assert!(lost.iter().all(|outcome| outcome.as_ref().is_err_and(|e| e.kind() == ErrorKind::VersionMismatch)));
        let newest = one.engine().snapshot().expect("read").get(b"a").expect("read").expect("there");
        assert_eq!(
            newest.sequence.cast_signed(),
            *won[0].as_ref().expect("won"),
            "the answer names the stored version"
        );
    });
}

/// Two doctors on call, each leaves if the other stays: with reads that are not checked both leave.
#[test]
fn write_skew_does_not_happen() {
    on_every_engine(|one, two| {
        for _ in 0..50 {
            submit(one, put("ann", "on")).wait().expect("written");
            submit(one, put("bob", "on")).wait().expect("written");
            let leave = |me: &'static str, other: &'static str| {
                move |transaction: &mut Transaction<'_>| {
                    if transaction.get(other.as_bytes())?.is_some_and(|versioned| versioned.value == "on") {
                        transaction.put(key(me), key("off"))?;
                        return Ok(1);
                    }
                    Ok(0)
                }
            };
            let (ann, bob) = (submit(one, leave("ann", "bob")), submit(two, leave("bob", "ann")));
            let left = ann.wait().expect("answered") + bob.wait().expect("answered");
            assert_eq!(left, 1, "exactly one may leave");
        }
    });
}

/// "At most three" counted by a scan: a plain scan may miss what another process just wrote, so the
/// rule asks for a partition that did not change.
#[test]
fn a_stable_scan_sees_no_phantoms() {
    on_every_engine(|one, two| {
        let book = |n: usize| {
            move |transaction: &mut Transaction<'_>| {
                let seats = transaction.scan_stable(&KeyRange::prefix(b"seat/"), Direction::Forward, 10)?;
                if seats.len() >= 3 {
                    return Ok(0);
                }
                transaction.put(key(&format!("seat/{n}")), key("taken"))?;
                Ok(1)
            }
        };
        let pending: Vec<_> = (0..20).map(|n| submit(if n % 2 == 0 { one } else { two }, book(n))).collect();
        let taken: i64 = pending.into_iter().map(|pending| pending.wait().expect("answered")).sum();
        assert_eq!(taken, 3);
    });
}

/// Counters are not reads: writers of different keys under one counter must all get through, and
/// none of their steps may be lost.
#[test]
fn counters_count_every_add() {
    on_every_engine(|one, two| {
        let pending: Vec<_> = (0..200)
            .map(|n| {
                submit(if n % 2 == 0 { one } else { two }, move |transaction| {
                    transaction.put(key(&format!("item/{n}")), Bytes::new())?;
                    transaction.add(key("count"), 1)?;
                    Ok(0)
                })
            })
            .collect();
        for pending in pending {
            pending.wait().expect("written");
        }
        let count = submit(two, |transaction| transaction.counter(b"count")).wait().expect("read");
        assert_eq!(count, 200);
    });
}

/// An operation that refuses or panics after its first write must leave nothing of it.
#[test]
fn a_refused_or_panicking_operation_leaves_nothing() {
    on_every_engine(|one, _| {
        let refused = submit(one, |transaction| {
            transaction.put(key("half"), key("1"))?;
            Err(Halt::Refused(Error::invalid("no")))
        });
        assert_eq!(refused.wait().expect_err("refused").kind(), ErrorKind::InvalidInput);
        let panicked = submit(one, |transaction| {
            transaction.put(key("half"), key("2"))?;
            panic!("planted");
        });
        assert_eq!(panicked.wait().expect_err("caught").kind(), ErrorKind::Internal);
        submit(one, put("whole", "3")).wait().expect("the partition goes on");
        assert_eq!(read(one, "half"), None);
        assert_eq!(read(one, "whole"), Some(key("3")));
    });
}

/// Operations see the ones before them also while those are still on their way to the disk.
#[test]
fn later_operations_see_earlier_ones_before_they_are_durable() {
    on_every_engine(|one, _| {
        let (release, held) = hold(one);
        let appended: Vec<_> = (0..100)
            .map(|n| {
                submit(one, move |transaction| {
                    let mut list = transaction.get(b"list")?.map(|v| v.value.to_vec()).unwrap_or_default();
                    assert_eq!(list.len(), n, "each sees all before it");
                    list.push(n as u8);
                    transaction.put(key("list"), list.into())?;
                    let scanned = transaction.scan(&KeyRange::prefix(b"list"), Direction::Backward, 5)?;
                    assert_eq!(scanned.len(), 1);
                    Ok(0)
                })
            })
            .collect();
        release.send(()).expect("it is held");
        held.wait().expect("released");
        for pending in appended {
            pending.wait().expect("written");
        }
        assert_eq!(read(one, "list").map(|list| list.len()), Some(100));
    });
}

/// A run that starts again must draw the same time and ids, or a retry would write something else.
#[test]
fn every_run_of_an_operation_draws_the_same() {
    let partition = start(Arc::new(MemoryEngine::shared()));
    let runs = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let seen = Arc::clone(&runs);
    submit(&partition, move |transaction| {
        seen.lock().push((transaction.moment(), transaction.new_id()));
        transaction.get(b"first")?;
        transaction.get(b"second")?;
        transaction.put(key("third"), Bytes::new())?;
        Ok(0)
    })
    .wait()
    .expect("written");
    let runs = runs.lock();
    assert!(runs.len() >= 3, "each missing read starts the run again");
    assert!(runs.iter().all(|run| *run == runs[0]));
}

/// A failed commit must take with it everything that was run on top of it, and the partition must go on.
#[test]
fn what_rests_on_a_failed_commit_fails_with_it() {
    let engine = Arc::new(MemoryEngine::default());
    let partition = start(Arc::clone(&engine) as Arc<dyn Engine>);
    for round in 0..100 {
        engine.fail_commit(Error::new(ErrorKind::StorageFull, "planted"));
        let pending: Vec<_> = (0..20)
            .map(|_| {
                submit(&partition, |transaction| {
                    let count = transaction.counter(b"chain")?;
                    transaction.put(key("chain"), Bytes::copy_from_slice(&(count + 1).to_be_bytes()))?;
                    Ok(count + 1)
                })
            })
            .collect();
        let kept = pending.into_iter().filter_map(|pending| pending.wait().ok()).max();
        let count = submit(&partition, |transaction| transaction.counter(b"chain")).wait();
        let count = count.or_else(|_| submit(&partition, |transaction| transaction.counter(b"chain")).wait());
        let stored = read(&partition, "chain").map_or(0, |value| i64::from_be_bytes(value[..].try_into().expect("8")));
        assert_eq!(count.expect("read"), stored, "round={round}");
        assert!(kept.is_none_or(|kept| kept <= stored), "an acknowledged step is there, round={round}");
    }
}

/// An engine in memory that shows each group before it is committed.
struct Watched {
    engine: MemoryEngine,
    before_commit: Box<dyn Fn(&Group) + Send + Sync>,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.engine.fmt(f)
    }
}

impl Engine for Watched {
    fn exclusive(&self) -> bool {
        self.engine.exclusive()
    }
    fn reads_at_hand(&self) -> bool {
        self.engine.reads_at_hand()
    }
    fn durability(&self) -> Durability {
        self.engine.durability()
    }
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>> {
        self.engine.snapshot()
    }
    fn newest(&self) -> (Sequence, i64) {
        self.engine.newest()
    }
    fn admit(&self, growth: Growth) -> Result<()> {
        self.engine.admit(growth)
    }
    fn commit(&self, group: Group) -> Result<Committed> {
        (self.before_commit)(&group);
        self.engine.commit(group)
    }
    fn history(&self, after: Sequence, limit: usize) -> Result<Vec<CommittedRecord>> {
        self.engine.history(after, limit)
    }
    fn oldest(&self) -> Sequence {
        self.engine.oldest()
    }
    fn check(&self) -> Result<Vec<String>> {
        self.engine.check()
    }
    fn close(&self, within: Duration) -> Result<()> {
        self.engine.close(within)
    }
}

/// A small operation can write a lot; a batch of them must not become one group, one memtable and one
/// drain of hundreds of megabytes.
#[test]
fn a_group_is_bounded_by_what_is_written() {
    const WRITTEN: usize = 300 << 10;
    for engine in [MemoryEngine::default(), MemoryEngine::shared()] {
        let largest = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&largest);
        let before_commit = Box::new(move |group: &Group| {
            seen.fetch_max(group.records.iter().map(Record::len).sum(), Ordering::Relaxed);
        });
        let partition = start(Arc::new(Watched { engine, before_commit }));
        let (release, held) = hold(&partition);
        let pending: Vec<_> = (0..64)
            .map(|n| {
                submit(&partition, move |transaction| {
                    let before = transaction.counter(b"count")?;
                    transaction.put(key("count"), Bytes::copy_from_slice(&(before + 1).to_be_bytes()))?;
                    transaction.put(key(&format!("large/{n}")), vec![7; WRITTEN].into())?;
                    Ok(before)
                })
            })
            .collect();
        release.send(()).expect("it is held");
        held.wait().expect("released");
        let answers: Vec<i64> = pending.into_iter().map(|pending| pending.wait().expect("written")).collect();
        assert_eq!(answers, (0..64).collect::<Vec<i64>>(), "in order, each once");
        // A group that is nearly full takes one more batch, which itself ends behind 1 MiB.
        let largest = largest.load(Ordering::Relaxed);
        assert!((WRITTEN..(2 << 20) + 2 * WRITTEN).contains(&largest), "bytes={largest}");
    }
}

/// A committer that panics must not leave anybody waiting.
#[test]
fn callers_and_close_come_back_when_the_committer_panics() {
    let before_commit = Box::new(|_: &Group| panic!("planted"));
    let partition = start(Arc::new(Watched { engine: MemoryEngine::default(), before_commit }));
    // One after another: what comes behind the panic is what would wait for ever.
    for n in 0..20 {
        // A caller that does the work by itself must not be taken along either.
        let answer = match n % 2 {
            0 => Some(submit(&partition, put("a", "b")).wait()),
            _ => submit(&partition, put("a", "b")).wait_for(Duration::from_secs(10)),
        };
        let kind = answer.unwrap_or_else(|| panic!("call {n} hangs")).expect_err("nothing is committed").kind();
        assert!(matches!(kind, ErrorKind::Ambiguous | ErrorKind::Closed), "{kind}");
    }
    partition.close(Duration::from_secs(10)).expect("it closes");
}

/// Who commits: the names of the threads, in order.
fn committed_by() -> (Arc<parking_lot::Mutex<Vec<String>>>, Partition<Closures>) {
    let names = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let seen = Arc::clone(&names);
    let before_commit = Box::new(move |_: &Group| {
        seen.lock().push(std::thread::current().name().unwrap_or_default().to_owned());
    });
    (names, start(Arc::new(Watched { engine: MemoryEngine::default(), before_commit })))
}

/// Each thread that is woken on the way of a single write costs as much as a good part of its sync.
#[test]
fn a_caller_who_blocks_on_an_idle_partition_commits_by_itself() {
    let (names, partition) = committed_by();
    let own = std::thread::current().name().unwrap_or_default().to_owned();
    for _ in 0..10 {
        submit(&partition, put("a", "b")).wait().expect("written");
    }
    assert_eq!(*names.lock(), vec![own; 10]);
}

/// A write whose answer nobody waits for would stay in the queue for ever, and a caller with a limit would be held
/// up by a slow disk.
#[test]
fn what_nobody_blocks_for_is_committed_by_the_threads() {
    let (names, partition) = committed_by();
    submit(&partition, put("a", "b")).wait_for(Duration::from_secs(10)).expect("in time").expect("written");
    let started = submit(&partition, put("c", "d")).start();
    started.wait_for(Duration::from_secs(10)).expect("in time").expect("written");
    // Listened for before it is dropped, so that its commit cannot be missed.
    let committed = partition.listen();
    drop(submit(&partition, put("e", "f")));
    let committed = Pending::new(async move {
        committed.await;
        Ok(())
    });
    committed.wait_for(Duration::from_secs(10)).expect("in time").expect("it is committed");
    assert_eq!(read(&partition, "e").expect("written"), key("f"));
    assert!(names.lock().iter().all(|name| name.starts_with("kappa-committer")), "{names:?}");
}

/// Callers who do the committer's work, its own threads and a close meet in every order.
#[test]
fn callers_of_all_kinds_and_a_close_get_along() {
    for _ in 0..20 {
        let partition = start(Arc::new(MemoryEngine::default()));
        let written = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for kind in 0..6 {
                let (partition, written) = (&partition, &written);
                scope.spawn(move || {
                    for _ in 0..50 {
                        let add = |transaction: &mut Transaction<'_>| transaction.add(key("count"), 1).map(|()| 0);
                        let pending = submit(partition, add);
                        let answer = match kind % 3 {
                            0 => pending.wait(),
                            1 => pending.wait_for(Duration::from_secs(30)).expect("nothing hangs"),
                            _ => pending.start().wait(),
                        };
                        match answer {
                            Ok(_) => written.fetch_add(1, Ordering::Relaxed),
                            Err(error) if error.kind() == ErrorKind::Closed => break,
                            Err(error) => panic!("{error}"),
                        };
                    }
                });
            }
            while written.load(Ordering::Relaxed) < 100 {
                std::thread::yield_now();
            }
            partition.close(Duration::from_secs(10)).expect("it closes");
        });
        let snapshot = partition.engine().snapshot();
        if let Ok(snapshot) = snapshot {
            let count = snapshot.get(b"count").expect("read").expect("there").value;
            let count = i64::from_be_bytes(count[..].try_into().expect("a counter"));
            assert_eq!(count, i64::try_from(written.into_inner()).expect("small"), "each acknowledged add once");
        }
    }
}

/// One who commits a group leaves the next to the threads; those may have ended by then, because the partition is being
/// closed, and a caller would wait for ever for a write that is lost.
#[test]
fn a_close_commits_what_was_staged_behind_a_caller_who_commits() {
    let (entered, inside) = mpsc::channel();
    let (release, held) = mpsc::channel::<()>();
    let (entered, held) = (parking_lot::Mutex::new(entered), parking_lot::Mutex::new(held));
    let before_commit = Box::new(move |_: &Group| {
        let _ = entered.lock().send(());
        let _ = held.lock().recv_timeout(Duration::from_secs(30));
    });
    let partition = start(Arc::new(Watched { engine: MemoryEngine::default(), before_commit }));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| submit(&partition, put("a", "b")).wait());
        inside.recv_timeout(Duration::from_secs(30)).expect("the first caller commits by itself");
        let second = submit(&partition, put("c", "d")).start();
        let closing = scope.spawn(|| partition.close(Duration::from_secs(30)));
        while !partition.is_closing() || !partition.has_staged() {
            std::thread::yield_now();
        }
        for _ in 0..2 {
            release.send(()).expect("a commit waits");
        }
        first.join().expect("no panic").expect("written");
        second.wait_for(Duration::from_secs(30)).expect("nothing hangs").expect("written");
        closing.join().expect("no panic").expect("it closes");
    });
}

/// A full intake must answer at the deadline: neither a hang nor an unbounded queue.
#[test]
fn a_full_intake_answers_overloaded_and_then_goes_on() {
    let limits = Limits { intake_bytes: 1_000, deadline: Duration::from_millis(50) };
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::default());
    let partition = Partition::start(engine, Closures, &Env::default(), limits).expect("threads are given");
    let (release, held) = hold(&partition);
    let pending: Vec<_> = (0..30).map(|_| submit(&partition, put("a", "b"))).collect();
    let waited = pending.into_iter().rev().take(10).map(Pending::wait);
    for outcome in waited {
        assert_eq!(outcome.expect_err("no room").kind(), ErrorKind::Overloaded);
    }
    release.send(()).expect("it is held");
    held.wait().expect("released");
    submit(&partition, put("a", "c")).wait().expect("there is room again");
}

/// A caller that waits for room must get in as soon as there is some, without its deadline.
#[test]
fn a_caller_that_waits_for_room_gets_in() {
    let limits = Limits { intake_bytes: 300, deadline: Duration::from_secs(60) };
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::default());
    let partition = Partition::start(engine, Closures, &Env::default(), limits).expect("threads are given");
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    submit(&partition, put("a", "b")).wait().expect("written");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(done.into_inner(), 400);
}

/// Closing answers everything that was taken in, and refuses what comes later.
#[test]
fn close_finishes_what_was_taken_in() {
    on_every_engine(|one, two| {
        if !std::ptr::eq(one, two) {
            return;
        }
        let pending: Vec<_> = (0..100).map(|_| submit(one, put("a", "b"))).collect();
        one.close(Duration::from_secs(10)).expect("it closes");
        for pending in pending {
            pending.wait().expect("taken in before the close");
        }
        assert_eq!(submit(one, put("a", "c")).wait().expect_err("closed").kind(), ErrorKind::Closed);
    });
}
