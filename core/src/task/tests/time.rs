//! What time alone does: ended leases, due tasks, openings, schedules; and calls that are repeated.

use super::*;
use crate::error::ErrorKind;
use crate::operation::{Answer, CollectionName, Operation};
use crate::store::document::Document;
use crate::store::run_idempotent;
use crate::store::session::{SessionCall, run_in_session, session_id};
use crate::task::model::{Misfire, Renewal, Schedule, ScheduleInfo};

fn mail() -> NewTask {
    NewTask::new("mail", Json::null())
}

/// Q2: many leases that cannot end yet must not hide one that has.
#[test]
fn leases_that_were_prolonged_do_not_hide_one_that_ended() {
    let mut bench = Bench::fast();
    for _ in 0..10_000 {
        bench.enqueue(mail());
    }
    let last = bench.enqueue(NewTask { priority: -1, ..mail() }).task.id;
    let work =
        |instance, lease_ms| Work { instance, lease_ms, queues: vec!["mail".into()], claim: 1_000, ..Work::default() };
    let mut claimed = 0;
    while claimed < 10_000 {
        claimed += bench.work(work(0, 3_600_000)).claimed.len();
    }
    // An opening prolongs all of these by an hour, so their entries lie where leases have long ended.
    bench.wait(3_599_000);
    bench.call(&TaskOperation::Opened { instance: 1 }).unwrap();
    let dying = bench.work(work(0, 1_000)).claimed;
    assert_eq!(dying.iter().map(|claimed| claimed.task.id).collect::<Vec<_>>(), [last]);
    bench.wait(2_000);
    bench.tick();
    assert_eq!(bench.state(last), TaskState::Waiting, "one tick is enough");
    assert_eq!(bench.queue().active, 10_000);
    bench.check_all();
}

/// Q3: whatever was under way when the owner died comes back; its own workers' tasks at once.
#[test]
fn an_opening_ends_leases_of_the_owner_before_and_prolongs_all_others() {
    let mut bench = Bench::new();
    bench.repeat(&TaskOperation::Opened { instance: 1 });
    assert!(bench.keys.is_empty(), "an empty database is not written to");
    for _ in 0..3 {
        bench.enqueue(mail());
    }
    let TaskAnswer::Overdue { opened, .. } = bench.call(&TaskOperation::Overdue { since: 0, instance: 1 }).unwrap()
    else {
        panic!("not what was asked for")
    };
    assert!(!opened, "with the first queue the owner has to be known");
    bench.repeat(&TaskOperation::Opened { instance: 1 });
    let work = |instance| Work { instance, queues: vec!["mail".into()], claim: 1, ..Work::default() };
    let own = bench.work(work(1)).claimed[0].lease;
    let other = bench.work(work(2)).claimed[0].lease;
    let web = bench.work(work(0)).claimed[0].lease;
    bench.wait(29_000);
    bench.repeat(&TaskOperation::Opened { instance: 3 });
    bench.check_all();
    assert_eq!(bench.state(own.task), TaskState::Waiting, "its worker died with the owner");
    assert_eq!(bench.complete(own), Verdict::Stale);
    bench.wait(29_000);
    bench.tick();
    let leases = vec![other, web];
    let TaskAnswer::Renewed(renewals) = bench.call(&TaskOperation::Renew { leases, lease_ms: 0 }).unwrap() else {
        panic!("not what was asked for")
    };
    assert!(renewals.iter().all(|renewal| matches!(renewal, Renewal::Held { .. })), "{renewals:?}");
    bench.repeat(&TaskOperation::Opened { instance: 3 });
    bench.wait(30_000);
    bench.tick();
    assert_eq!(bench.state(other.task), TaskState::Waiting);
    bench.check_all();
}

/// One task that cannot be read must keep no other from coming back, and no owner from beginning its era: until it has begun,
/// nothing of any queue is done.
#[test]
fn a_damaged_task_keeps_no_other_from_coming_back() {
    let mut bench = Bench::new();
    bench.enqueue(mail());
    bench.repeat(&TaskOperation::Opened { instance: 1 });
    for _ in 0..2 {
        bench.enqueue(mail());
    }
    let work = |instance| Work { instance, queues: vec!["mail".into()], claim: 1, ..Work::default() };
    let damaged = bench.work(work(1)).claimed[0].lease.task;
    let own = bench.work(work(1)).claimed[0].lease.task;
    let other = bench.work(work(2)).claimed[0].lease.task;
    let sound = bench.keys[&keys::task(damaged)].value.clone();
    bench.overwrite(keys::task(damaged), &b"?"[..]);
    bench.wait(1);
    bench.repeat(&TaskOperation::Opened { instance: 3 });
    let state = |bench: &mut Bench, id| bench.get(id).unwrap().state;
    assert_eq!(state(&mut bench, own), TaskState::Waiting);
    bench.wait(40_000);
    bench.tick();
    assert_eq!(state(&mut bench, other), TaskState::Waiting);
    bench.keys.get_mut(&keys::task(damaged)).unwrap().value = sound;
    bench.tick();
    assert_eq!(state(&mut bench, damaged), TaskState::Waiting, "nothing of it was lost");
    bench.check_all();
}

/// An owner that says once more that it has opened must not prolong what it gave out itself: said each second, no lease would
/// ever end.
#[test]
fn an_era_begins_once_for_each_owner() {
    let mut bench = Bench::new();
    bench.enqueue(mail());
    bench.repeat(&TaskOperation::Opened { instance: 1 });
    let lease = bench.claim(1)[0].lease;
    for _ in 0..3 {
        bench.wait(10_000);
        bench.repeat(&TaskOperation::Opened { instance: 1 });
    }
    bench.tick();
    assert_eq!(bench.state(lease.task), TaskState::Waiting);
    bench.check_all();
}

/// Owners who die faster than a lease ends gave living workers their time at each opening, and dead ones, too: their tasks
/// stood still for as long as that went on. Who renews between two openings is held all the same.
#[test]
fn a_lease_that_is_not_renewed_gains_at_one_opening_only() {
    let mut bench = Bench::new();
    for _ in 0..2 {
        bench.enqueue(mail());
    }
    bench.repeat(&TaskOperation::Opened { instance: 1 });
    let (dead, living) = (bench.claim(1)[0].lease, bench.claim(1)[0].lease);
    let begun = bench.now();
    for instance in 2.. {
        bench.wait(20_000);
        bench.repeat(&TaskOperation::Opened { instance });
        let renew = TaskOperation::Renew { leases: vec![living], lease_ms: 0 };
        let TaskAnswer::Renewed(renewals) = bench.call(&renew).unwrap() else { panic!("not what was asked for") };
        assert!(matches!(renewals[..], [Renewal::Held { .. }]), "{renewals:?}");
        bench.tick();
        bench.check_all();
        if bench.state(dead.task) == TaskState::Waiting {
            break;
        }
        assert!(bench.now() - begun < 3 * 30_000, "its lease does not end");
    }
    assert!(bench.now() - begun > 30_000, "it gained nothing");
    assert_eq!(bench.complete(living), Verdict::Accepted(TaskState::Completed));
}

/// What a worker asked for last is what its lease gains at an opening.
#[test]
fn an_opening_prolongs_a_lease_by_what_its_renewal_said() {
    let mut bench = Bench::new();
    bench.enqueue(mail());
    bench.repeat(&TaskOperation::Opened { instance: 1 });
    let lease = bench.claim(1)[0].lease;
    bench.call(&TaskOperation::Renew { leases: vec![lease], lease_ms: 120_000 }).unwrap();
    bench.wait(100_000);
    bench.repeat(&TaskOperation::Opened { instance: 2 });
    bench.wait(119_999);
    bench.tick();
    assert_eq!(bench.state(lease.task), TaskState::Active);
    bench.wait(1);
    bench.tick();
    assert_eq!(bench.state(lease.task), TaskState::Waiting);
    bench.check_all();
}

/// Nothing should ever wait before the front of its queue; what does all the same is found again, and so is the place of an
/// entry that no task stands behind.
#[test]
fn a_front_or_an_entry_that_is_wrong_is_put_right() {
    let mut bench = Bench::new();
    let id = bench.add("1");
    let last = keys::entry(0, TaskState::Waiting, i64::MAX, id);
    let front = |first: &[u8]| [&i64::MIN.to_be_bytes()[..], first].concat();
    bench.overwrite(keys::front(0), front(&last));
    assert!(bench.claim(1).is_empty());
    bench.tick();
    bench.check_all();
    bench.overwrite(keys::entry(0, TaskState::Waiting, 0, id + 1_024), Bytes::new());
    bench.overwrite(keys::front(0), front(&keys::entries(0, TaskState::Waiting).start));
    assert_eq!(bench.claim(2)[0].task.id, id);
    bench.check_all();
}

/// Q4: after an idle time of any length everything that became due meanwhile is there within a tick.
#[test]
fn what_became_due_in_an_idle_time_is_promoted_by_one_tick() {
    let mut bench = Bench::fast();
    for n in 0..3_000_u64 {
        bench.enqueue(NewTask { delay_ms: Some(1 + n * 86_400), ..mail() });
    }
    bench.wait(72 * 3_600 * 1_000);
    assert!(bench.queue().overdue_ms > 200_000_000);
    bench.tick();
    let info = bench.queue();
    assert_eq!((info.waiting, info.delayed, info.overdue_ms), (3_000, 0, 0));
    bench.check_all();
}

fn put(bench: &mut Bench, schedule: &Schedule) -> Result<ScheduleInfo> {
    match bench.call(&TaskOperation::PutSchedule(Box::new(schedule.clone())))? {
        TaskAnswer::Schedule(info) => Ok(*info),
        other => panic!("{other:?}"),
    }
}

fn fired(bench: &Bench) -> Vec<i64> {
    let records = bench.records();
    let mut slots: Vec<_> =
        records.values().filter(|record| record.schedule.is_some()).map(|record| record.due).collect();
    slots.sort_unstable();
    slots
}

/// Conformance 9, Q10: whoever ticks, and however often, each slot fires once.
#[test]
fn each_slot_fires_once_however_many_tick() {
    let mut bench = Bench::new();
    let schedule = Schedule { name: "s".into(), cron: "*/10 * * * * *".into(), task: mail(), ..Schedule::default() };
    let first = put(&mut bench, &schedule).unwrap().next_at.expect("it fires");
    for second in 0..600 {
        bench.wait(1_000);
        // Other processes tick as well, and some die between two ticks.
        for _ in 0..second % 4 {
            bench.repeat(&TaskOperation::Tick { queue: None, since: i64::MIN });
        }
    }
    bench.tick();
    let slots = fired(&bench);
    assert_eq!(slots.len(), 60);
    assert!(slots.windows(2).all(|pair| pair[1] - pair[0] == 10_000) && slots[0] == first, "{slots:?}");
    let TaskAnswer::Schedules(all) = bench.call(&TaskOperation::Schedules).unwrap() else { panic!("schedules") };
    assert_eq!((all.len(), all[0].fired), (1, 60));
    bench.check_all();
}

/// Q10: what was missed while nothing ran is skipped, made up for once, or all of it, as the schedule says.
#[test]
fn missed_slots_follow_the_misfire_rule() {
    for (misfire, expected) in [(Misfire::Skip, 1), (Misfire::Once, 2), (Misfire::All, 61)] {
        let mut bench = Bench::fast();
        let schedule =
            Schedule { name: "s".into(), cron: "* * * * *".into(), task: mail(), misfire, ..Schedule::default() };
        let first = put(&mut bench, &schedule).unwrap().next_at.expect("it fires");
        bench.wait(first - bench.now() + 3_600_000);
        bench.tick();
        let slots = fired(&bench);
        assert_eq!(slots.len(), expected, "{misfire:?} {slots:?}");
        assert_eq!(slots.last(), Some(&bench.now()), "the newest slot is in time");
        let next = put(&mut bench, &schedule).unwrap();
        assert_eq!((next.next_at, next.fired), (Some(bench.now() + 60_000), expected as u64));
    }
    let mut bench = Bench::fast();
    let schedule = Schedule {
        name: "s".into(),
        cron: "* * * * * *".into(),
        task: mail(),
        misfire: Misfire::All,
        ..Schedule::default()
    };
    put(&mut bench, &schedule).unwrap();
    bench.wait(30 * 24 * 3_600_000);
    bench.tick();
    let slots = fired(&bench);
    assert!((990..=1_020).contains(&slots.len()), "a bound holds: {}", slots.len());
    assert_eq!(slots.last(), Some(&bench.now()));
}

#[test]
fn schedules_rest_end_and_keep_out_what_is_still_running() {
    let mut bench = Bench::new();
    let task = NewTask { unique: Some("one".into()), ..mail() };
    let mut schedule = Schedule { name: "s".into(), cron: "* * * * *".into(), task, ..Schedule::default() };
    put(&mut bench, &schedule).unwrap();
    for _ in 0..3 {
        bench.wait(60_000);
        bench.tick();
    }
    assert_eq!(fired(&bench).len(), 1, "the first one has not ended");
    schedule.paused = true;
    assert_eq!(put(&mut bench, &schedule).unwrap().next_at, None);
    let lease = bench.claim(1)[0].lease;
    let _ = bench.complete(lease);
    bench.wait(600_000);
    bench.tick();
    assert_eq!(fired(&bench).len(), 1);
    let remove = TaskOperation::RemoveSchedule { name: "s".into() };
    assert_eq!(bench.call(&remove).unwrap(), TaskAnswer::Removed(true));
    assert_eq!(bench.call(&remove).unwrap(), TaskAnswer::Removed(false));
    schedule.cron = "0 0 31 2 *".into();
    schedule.paused = false;
    assert_eq!(put(&mut bench, &schedule).unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// Runs a whole operation, as a process does whose answer may be lost on the way.
fn in_session(bench: &mut Bench, operation: &Operation, number: u64) -> Answer {
    bench.moment.tick += 1;
    let call = SessionCall { session: session_id(bench.now(), [7; 8]), slot: 3, number };
    let seed = bench.sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut source = AtHand(&bench.keys);
    let mut tx = Transaction::new(&mut source, Drawn { moment: bench.moment, seed }, bench.sequence + 1);
    let answer = run_in_session(operation, &call, &mut tx).unwrap();
    let record = tx.into_record();
    bench.commit(record);
    answer
}

/// Runs a whole operation under an idempotency key.
fn under_key(bench: &mut Bench, operation: &Operation, key: &str) -> Answer {
    bench.moment.tick += 1;
    let seed = bench.sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut source = AtHand(&bench.keys);
    let mut tx = Transaction::new(&mut source, Drawn { moment: bench.moment, seed }, bench.sequence + 1);
    let answer = run_idempotent(operation, key, &mut tx).unwrap();
    let record = tx.into_record();
    bench.commit(record);
    answer
}

/// Q11: a call whose answer was lost is repeated, perhaps at another owner, and must neither claim nor enqueue again.
#[test]
fn a_repeated_call_gets_its_first_answer() {
    let mut bench = Bench::new();
    let enqueue = Operation::Task(TaskOperation::Enqueue(Box::new(mail())));
    let first = in_session(&mut bench, &enqueue, 1);
    assert_eq!(in_session(&mut bench, &enqueue, 1), first);
    assert_eq!(bench.records().len(), 1);
    let work = |claim, reports| {
        let work = Work { queues: vec!["mail".into()], claim, reports, ..Work::default() };
        Operation::Task(TaskOperation::Work(Box::new(work)))
    };
    let claimed = in_session(&mut bench, &work(5, Vec::new()), 2);
    assert_eq!(in_session(&mut bench, &work(5, Vec::new()), 2), claimed);
    let Answer::Task(TaskAnswer::Worked(worked)) = claimed else { panic!("not what was asked for") };
    let report = Report { lease: worked.claimed[0].lease, outcome: Outcome::Completed { result: Json::null() } };
    let reported = in_session(&mut bench, &work(0, vec![report.clone()]), 3);
    assert_eq!(in_session(&mut bench, &work(0, vec![report]), 3), reported, "accepted, and not stale");
    bench.check_all();
}

/// A claim whose answer was lost and comes again late must not hand out what others have by now.
#[test]
fn a_repeated_claim_gives_only_what_is_still_held() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        bench.enqueue(mail());
    }
    let claim = || {
        let work = Work { queues: vec!["mail".into()], claim: 3, ..Work::default() };
        Operation::Task(TaskOperation::Work(Box::new(work)))
    };
    let claimed = |answer| match answer {
        Answer::Task(TaskAnswer::Worked(Worked { claimed, .. })) => claimed,
        other => panic!("{other:?}"),
    };
    let first = claimed(in_session(&mut bench, &claim(), 1));
    let _ = bench.complete(first[0].lease);
    let _ = bench.report(first[1].lease, Outcome::Released);
    let other = bench.claim(1);
    assert_eq!(other[0].task.id, first[1].task.id);
    let again = claimed(in_session(&mut bench, &claim(), 1));
    assert_eq!(again, [first[2].clone()]);
}

/// Whether a call changed anything is part of its answer: repeated, it must not say otherwise.
#[test]
fn a_repeated_call_says_again_what_it_did() {
    let mut bench = Bench::new();
    let keyed = TaskOperation::Enqueue(Box::new(NewTask { unique: Some("k".into()), ..mail() }));
    let id = bench.enqueue(NewTask { unique: Some("k".into()), ..mail() }).task.id;
    let calls = [keyed, TaskOperation::Cancel(id), TaskOperation::Cancel(id), TaskOperation::Retry(id)];
    let says = |answer| match answer {
        Answer::Task(TaskAnswer::Enqueued(added)) => added.existing,
        Answer::Task(TaskAnswer::Changed { changed, .. }) => changed,
        other => panic!("{other:?}"),
    };
    for (number, (call, expected)) in (1..).zip(calls.into_iter().zip([true, true, false, true])) {
        let call = Operation::Task(call);
        for time in ["first", "again"] {
            assert_eq!(says(in_session(&mut bench, &call, number)), expected, "{time}: {call:?}");
        }
    }
    // Under a key also what changed nothing is answered as it was, whatever has happened since.
    let keyed = Operation::Task(TaskOperation::Enqueue(Box::new(NewTask { unique: Some("k".into()), ..mail() })));
    let cancel = Operation::Task(TaskOperation::Cancel(id));
    assert!(says(under_key(&mut bench, &keyed, "enqueue")));
    bench.call(&TaskOperation::Cancel(id)).unwrap();
    assert!(says(under_key(&mut bench, &keyed, "enqueue")) && bench.records().len() == 1);
    assert!(!says(under_key(&mut bench, &cancel, "cancel")));
    bench.call(&TaskOperation::Retry(id)).unwrap();
    assert!(!says(under_key(&mut bench, &cancel, "cancel")) && bench.state(id) == TaskState::Waiting);
    bench.check_all();
}

/// A task that was enqueued, ran and was forgotten, all before its caller asks again: the answer is the task asked for, and
/// none is added.
#[test]
fn a_repeated_enqueue_is_answered_after_its_task_is_gone() {
    let mut bench = Bench::new();
    let new = |n: u32| NewTask::new("mail", Json::from(serde_json::json!(n)));
    let one = Operation::Task(TaskOperation::Enqueue(Box::new(new(7))));
    let each = Operation::Task(TaskOperation::EnqueueEach(vec![new(8), new(9)]));
    let params = |answer: &Answer| match answer {
        Answer::Task(TaskAnswer::Enqueued(added)) => vec![added.task.params.to_string()],
        Answer::Task(TaskAnswer::EnqueuedEach(all)) => all.iter().map(|added| added.task.params.to_string()).collect(),
        other => panic!("{other:?}"),
    };
    for (call, number, expected) in [(&one, 1, vec!["7"]), (&each, 2, vec!["8", "9"])] {
        let first = in_session(&mut bench, call, number);
        for id in bench.records().into_keys() {
            bench.call(&TaskOperation::Remove(id)).unwrap();
        }
        let again = in_session(&mut bench, call, number);
        assert_eq!(
            (params(&first), params(&again)),
            (expected.iter().map(ToString::to_string).collect(), params(&first))
        );
        assert!(bench.records().is_empty());
    }
}

/// Conformance 1: a task and the document that it is about come into being together or not at all.
#[test]
fn a_batch_writes_documents_and_tasks_or_neither() {
    let mut bench = Bench::new();
    let create = |id: &str| Operation::Create {
        collection: CollectionName::new("orders").unwrap(),
        document: Document::parse(format!("{{\"id\":\"{id}\"}}")).unwrap(),
        ttl_ms: None,
    };
    let enqueue = |queue: &str| Operation::Task(TaskOperation::Enqueue(Box::new(NewTask::new(queue, Json::null()))));
    let good = Operation::Batch(vec![create("1"), enqueue("mail")]);
    let Answer::Batch(answers) = in_session(&mut bench, &good, 1) else { panic!("not what was asked for") };
    assert_eq!(answers.len(), 2);
    assert_eq!(bench.sequence, 101, "one record");
    let before = bench.keys.clone();
    for bad in [vec![create("2"), enqueue("no such name")], vec![enqueue("mail"), create("1")]] {
        let mut source = AtHand(&bench.keys);
        let mut tx = Transaction::new(&mut source, Drawn { moment: bench.moment, seed: 1 }, 200);
        assert!(crate::operation::run(&Operation::Batch(bad), &mut tx).is_err());
    }
    assert_eq!(bench.keys, before);
    let mut source = AtHand(&bench.keys);
    let mut tx = Transaction::new(&mut source, Drawn { moment: bench.moment, seed: 1 }, 200);
    let tick = Operation::Task(TaskOperation::Tick { queue: None, since: 0 });
    assert!(crate::operation::run(&Operation::Batch(vec![tick]), &mut tx).is_err(), "background work is Kappa's own");
    bench.check_all();
}
