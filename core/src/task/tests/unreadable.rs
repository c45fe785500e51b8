//! Records that cannot be read: damage, or what a newer version wrote before a return to an older one.

use std::time::Instant;

use super::*;
use crate::error::ErrorKind;
use crate::task::model::{QueueSettings, Renewal};
use crate::task::{SAID_EVERY, Said};

fn mail() -> NewTask {
    NewTask::new("mail", Json::null())
}

/// Makes the record of a task unreadable, and answers what it was.
fn damage(bench: &mut Bench, id: TaskId) -> Versioned {
    let sound = bench.keys[&keys::task(id)].clone();
    bench.overwrite(keys::task(id), &b"?"[..]);
    sound
}

/// So many tasks that wait and cannot be read, with what they were.
fn damaged(bench: &mut Bench, count: usize) -> Vec<(TaskId, Versioned)> {
    let ids: Vec<TaskId> = (0..count).map(|_| bench.enqueue(mail()).task.id).collect();
    ids.into_iter().map(|id| (id, damage(bench, id))).collect()
}

/// Queues that have something to do, by the look that is taken once a minute.
fn overdue(bench: &mut Bench) -> Vec<String> {
    match bench.call(&TaskOperation::Overdue { since: i64::MIN, instance: 0 }).unwrap() {
        TaskAnswer::Overdue { queues, .. } => queues,
        other => panic!("{other:?}"),
    }
}

fn is_ready(bench: &mut Bench) -> bool {
    match bench.call(&TaskOperation::Ready { queues: vec!["mail".into()] }).unwrap() {
        TaskAnswer::Ready(readiness) => readiness.now,
        other => panic!("{other:?}"),
    }
}

/// After a return to an older version no record of a queue may be readable. A claim must not walk over all of them while
/// everybody waits, and the next one goes on behind those.
#[test]
fn a_claim_passes_over_so_many_and_the_next_goes_on_behind_them() {
    let mut bench = Bench::fast();
    for _ in 0..1_500 {
        let id = bench.enqueue(mail()).task.id;
        bench.overwrite(keys::task(id), &b"?"[..]);
    }
    let last = bench.enqueue(mail()).task.id;
    let work = Work { queues: vec!["mail".into()], claim: 1, ..Work::default() };
    assert!(bench.work(work.clone()).claimed.is_empty());
    assert!(is_ready(&mut bench));
    assert_eq!(bench.work(work).claimed[0].lease.task, last);
    assert!(!is_ready(&mut bench));
}

/// A queue whose first task cannot be read can still be looked at, set and resumed.
#[test]
fn a_queue_is_described_and_resumed_whatever_its_first_task_is() {
    let mut bench = Bench::new();
    let [first, second] = [(); 2].map(|()| bench.enqueue(mail()).task.id);
    let pause = |paused| TaskOperation::Pause { queue: "mail".into(), paused };
    bench.call(&pause(true)).unwrap();
    bench.overwrite(keys::task(first), &b"?"[..]);
    assert_eq!((bench.queue().waiting, bench.queue().paused), (2, true));
    bench.call(&TaskOperation::Queues).unwrap();
    let settings = QueueSettings { attempts: 3, ..QueueSettings::default() };
    bench.call(&TaskOperation::Configure { queue: "mail".into(), settings }).unwrap();
    bench.call(&pause(false)).unwrap();
    let work = Work { queues: vec!["mail".into()], claim: 1, ..Work::default() };
    assert_eq!(bench.work(work).claimed[0].lease.task, second);
}

/// Parameters that lie apart are read before anything is written: otherwise the claim would be refused as a whole, each time.
#[test]
fn a_task_without_its_parameters_keeps_no_other_from_being_claimed() {
    let mut bench = Bench::new();
    let large = NewTask { params: Json::new(&"x".repeat(5_000)).unwrap(), ..mail() };
    let [first, second] = [(); 2].map(|()| bench.enqueue(large.clone()).task.id);
    let params = bench.keys.remove(&keys::params(first)).expect("they lie apart");
    let work = || Work { queues: vec!["mail".into()], claim: 2, ..Work::default() };
    let claimed = bench.work(work()).claimed;
    assert_eq!(claimed.iter().map(|one| one.lease.task).collect::<Vec<_>>(), [second]);
    bench.keys.insert(keys::params(first), params);
    assert_eq!(bench.get(first).unwrap().state, TaskState::Waiting);
    bench.tick();
    assert_eq!(bench.work(work()).claimed[0].lease.task, first, "nothing of it was lost");
    bench.check_all();
}

/// Entries that cannot be read take nothing from what one step promotes.
#[test]
fn what_is_due_behind_tasks_that_cannot_be_read_is_promoted_with_the_first_of_them() {
    let mut bench = Bench::fast();
    let delayed = |delay_ms| NewTask { delay_ms: Some(delay_ms), ..mail() };
    for _ in 0..255 {
        let id = bench.enqueue(delayed(1_000)).task.id;
        bench.overwrite(keys::task(id), &b"?"[..]);
    }
    let last = [(); 2].map(|()| bench.enqueue(delayed(1_001)).task.id);
    bench.wait(2_000);
    let claimed = bench.work(Work { queues: vec!["mail".into()], claim: 2, ..Work::default() }).claimed;
    assert_eq!(claimed.iter().map(|one| one.lease.task).collect::<Vec<_>>(), last);
    assert!(!is_ready(&mut bench), "also where nothing else waits");
}

/// What one damaged record costs: itself. Whatever is claimed, reported, renewed or becomes due beside it goes on, and nothing of
/// it is lost should it be readable again, to a later version for instance.
#[test]
fn a_task_that_cannot_be_read_is_passed_over_wherever_it_stands() {
    let mut bench = Bench::new();
    let work = |claim, reports| Work { queues: vec!["mail".into()], claim, reports, ..Work::default() };
    let mut damaged = Vec::new();
    let mut damage = |bench: &mut Bench, id: TaskId| {
        let key = keys::task(id);
        damaged.push((key.clone(), bench.keys[&key].value.clone()));
        bench.overwrite(key, &b"?"[..]);
    };
    // One that waits, before another.
    let [first, second, third] = [(); 3].map(|()| bench.enqueue(mail()).task.id);
    damage(&mut bench, first);
    let claimed = bench.work(work(2, Vec::new())).claimed;
    assert_eq!(claimed.iter().map(|one| one.lease.task).collect::<Vec<_>>(), [second]);
    let claimed = [claimed, bench.work(work(2, Vec::new())).claimed].concat();
    assert_eq!(claimed.iter().map(|one| one.lease.task).collect::<Vec<_>>(), [second, third]);
    // One that runs, when it is reported and renewed beside another.
    damage(&mut bench, second);
    let leases: Vec<_> = claimed.iter().map(|one| one.lease).collect();
    let renewed = bench.call(&TaskOperation::Renew { leases: leases.clone(), lease_ms: 30_000 }).unwrap();
    let TaskAnswer::Renewed(renewed) = renewed else { panic!("{renewed:?}") };
    assert!(matches!(renewed[..], [Renewal::Stale, Renewal::Held { .. }]), "{renewed:?}");
    let report = |lease| Report { lease, outcome: Outcome::Completed { result: Json::null() } };
    let verdicts = bench.work(work(0, leases.into_iter().map(report).collect())).verdicts;
    assert!(matches!(verdicts[..], [Verdict::Stale, Verdict::Accepted(_)]), "{verdicts:?}");
    // More that become due than one step looks at, before one that can be read.
    let delayed = |delay_ms| NewTask { delay_ms: Some(delay_ms), ..mail() };
    for _ in 0..300 {
        let id = bench.enqueue(delayed(1_000)).task.id;
        damage(&mut bench, id);
    }
    let late = bench.enqueue(delayed(1_001)).task.id;
    bench.wait(2_000);
    assert!(is_ready(&mut bench));
    assert_eq!(bench.work(work(1, Vec::new())).claimed[0].lease.task, late);
    assert!(!is_ready(&mut bench), "a worker would ask again at once, and for ever");
    let later = bench.enqueue(delayed(1_000)).task.id;
    bench.wait(2_000);
    bench.tick();
    assert_eq!(bench.get(later).unwrap().state, TaskState::Waiting);
    // Alone, too.
    let alone = bench.enqueue(delayed(1_000)).task.id;
    assert_eq!(bench.work(work(1, Vec::new())).claimed[0].lease.task, later);
    damage(&mut bench, alone);
    bench.wait(2_000);
    assert!(bench.work(work(1, Vec::new())).claimed.is_empty());
    assert!(!is_ready(&mut bench));
    // Nothing of them was lost.
    for (key, sound) in damaged {
        bench.keys.get_mut(&key).unwrap().value = sound;
    }
    bench.wait(40_000);
    bench.tick();
    for id in [first, second] {
        assert_eq!(bench.get(id).unwrap().state, TaskState::Waiting, "{id}");
    }
    bench.check_all();
}

/// Otherwise each minute of an idle database would write, and its workers would walk over the same tasks again.
#[test]
fn what_still_cannot_be_read_moves_nothing() {
    let mut bench = Bench::new();
    let first = damaged(&mut bench, 1)[0].0;
    let large = NewTask { params: Json::new(&"x".repeat(5_000)).unwrap(), ..mail() };
    let second = bench.enqueue(large).task.id;
    let params = bench.keys.remove(&keys::params(second)).expect("they lie apart");
    assert!(bench.claim(5).is_empty());
    let before = bench.keys.clone();
    bench.wait(60_000);
    assert_eq!(overdue(&mut bench), Vec::<String>::new());
    bench.repeat(&TaskOperation::Tick { queue: Some("mail".into()), since: i64::MIN });
    assert_eq!(bench.keys[&keys::front(0)], before[&keys::front(0)]);
    assert!(!is_ready(&mut bench));
    // What stands behind it is looked at all the same.
    bench.keys.insert(keys::params(second), params);
    assert_eq!(overdue(&mut bench), ["mail"]);
    bench.tick();
    assert_eq!(bench.claim(5)[0].lease.task, second);
    assert_ne!(first, second);
}

/// However many cannot be read: one behind them that can be again must not wait for ever.
#[test]
fn a_task_is_found_again_behind_more_than_a_look_takes() {
    for count in [1, 999, 1_000, 1_001, 2_500] {
        let mut bench = Bench::fast();
        let unreadable = damaged(&mut bench, count);
        let (last, sound) = damaged(&mut bench, 1).remove(0);
        while bench.keys.get(&keys::front(0)).is_none_or(|front| front.value[8..] <= place_of(&sound, last)[..]) {
            assert!(bench.claim(1).is_empty());
        }
        bench.keys.insert(keys::task(last), sound);
        let found = (0..10).find_map(|_| {
            bench.wait(60_000);
            bench.tick();
            // As workers do: a claim passes over some and says nothing, and the next one goes on.
            loop {
                let claimed = bench.claim(1).pop();
                if claimed.is_some() || !is_ready(&mut bench) {
                    return claimed;
                }
            }
        });
        assert_eq!(found.map(|found| found.lease.task), Some(last), "behind {}", unreadable.len());
    }
}

/// The entry of the task `id` that was stored as `sound`.
fn place_of(sound: &Versioned, id: TaskId) -> Bytes {
    place::entry(id, &record::Record::decode(&sound.value).unwrap())
}

/// Where reads are fetched, looking at each by itself would take as many rounds as there are tasks.
#[test]
fn what_cannot_be_read_is_fetched_together() {
    let mut bench = Bench::new();
    damaged(&mut bench, 300);
    while bench.claim(100).is_empty() && is_ready(&mut bench) {}
    assert!(overdue(&mut bench).is_empty());
    bench.tick();
}

/// A drain that says nothing of them would leave tasks that run once they can be read; one that stops at the first would leave
/// all others.
#[test]
fn a_drain_cancels_all_others_and_then_says_what_it_left() {
    let mut bench = Bench::fast();
    let (passed_over, sound) = damaged(&mut bench, 1).remove(0);
    assert!(bench.claim(1).is_empty());
    damaged(&mut bench, 1);
    let delayed = NewTask { delay_ms: Some(60_000), ..mail() };
    let sound_ones: Vec<TaskId> =
        (0..1_500).map(|n| bench.enqueue(if n % 2 == 0 { mail() } else { delayed.clone() }).task.id).collect();
    // One whose parameters are missing, an entry whose task has ended, and one without a task.
    let large = NewTask { params: Json::new(&"x".repeat(5_000)).unwrap(), ..mail() };
    let without_params = bench.enqueue(large).task.id;
    bench.keys.remove(&keys::params(without_params)).expect("they lie apart");
    for remove in [false, true] {
        let id = bench.enqueue(mail()).task.id;
        let record = record::Record::decode(&bench.keys[&keys::task(id)].value).unwrap();
        bench.call(&TaskOperation::Cancel(id)).unwrap();
        if remove {
            bench.call(&TaskOperation::Remove(id)).unwrap();
        }
        bench.overwrite(place::entry(id, &record), Bytes::new());
    }
    let drain = TaskOperation::Drain { queue: "mail".into() };
    let mut steps = 0;
    let error = loop {
        match bench.call(&drain) {
            Ok(answer) => assert_eq!(answer, TaskAnswer::More(true)),
            Err(error) => break error,
        }
        steps += 1;
        assert!(steps < 100, "it goes on and on");
    };
    assert_eq!(error.kind(), ErrorKind::Damaged);
    for id in sound_ones {
        assert_eq!(bench.state(id), TaskState::Cancelled);
    }
    assert_eq!((bench.queue().waiting, bench.queue().delayed), (2, 0));
    // Where it can be read again, it is found although it lies before the front.
    bench.keys.insert(keys::task(passed_over), sound);
    assert_eq!(bench.call(&drain).unwrap(), TaskAnswer::More(true));
    assert_eq!(bench.state(passed_over), TaskState::Cancelled);
}

/// Beside somebody who goes on adding, a drain would have no end.
#[test]
fn a_step_that_met_everything_is_the_last_of_a_drain() {
    let mut bench = Bench::new();
    let drain = TaskOperation::Drain { queue: "mail".into() };
    for (count, more) in [(3, false), (1_000, false), (1_001, true)] {
        for _ in 0..count {
            bench.enqueue(mail());
        }
        assert_eq!(bench.call(&drain).unwrap(), TaskAnswer::More(more), "{count}");
        assert_eq!(bench.queue().waiting, u64::from(more));
        bench.repeat(&drain);
    }
    bench.check_all();
}

/// An entry that no task stands behind, without anything that is counted: no claim looks at it, so no worker may be sent there.
#[test]
fn an_entry_without_a_task_keeps_no_worker_busy() {
    let mut bench = Bench::new();
    let id = bench.enqueue(mail()).task.id;
    let entry = bench.keys.range(keys::entries(0, TaskState::Waiting).start..).next().unwrap().0.clone();
    bench.call(&TaskOperation::Cancel(id)).unwrap();
    bench.overwrite(entry, Bytes::new());
    bench.tick();
    assert!(bench.claim(1).is_empty());
    assert!(!is_ready(&mut bench));
}

/// Otherwise a database that cannot read a million tasks would say so a million times a minute.
#[test]
fn each_kind_is_said_once_a_minute() {
    #[expect(clippy::disallowed_methods, reason = "an instant can be had nowhere else")]
    let start = Instant::now();
    let mut said = Said(BTreeMap::new());
    let almost = start + SAID_EVERY.checked_sub(std::time::Duration::from_millis(1)).unwrap();
    let due =
        [("a", start), ("a", start), ("b", start), ("a", almost), ("a", start + SAID_EVERY), ("a", start + SAID_EVERY)];
    assert_eq!(due.map(|(what, now)| said.is_due(what, now)), [true, false, true, false, true, false]);
}
