//! Calls of other processes, which are repeated when their owner dies.

use super::*;
use crate::store::session::{KEPT_MS, SessionCall, run_in_session, session_id};

impl Partition {
    fn numbered(&mut self, operation: &Operation, call: SessionCall) -> Result<Answer> {
        self.run_both_ways(operation, &|tx| run_in_session(operation, &call, tx))
    }

    fn begin(&self, chance: u8) -> SessionCall {
        SessionCall { session: session_id(self.moment.ms, [chance; 8]), slot: 0, number: 1 }
    }

    fn kept(&self) -> usize {
        self.keys.range(Bytes::from_static(&[0x1c])..Bytes::from_static(&[0x1d])).count()
    }
}

/// The owner died after it wrote and before it answered: the client that asks again must not own two documents.
#[test]
fn a_repeated_call_takes_effect_once() {
    let mut partition = Partition::new();
    let call = partition.begin(1);
    let made = create("things", r#"{"n":1}"#);
    let first = partition.numbered(&made, call).unwrap();
    assert_eq!(partition.numbered(&made, call).unwrap(), first);
    assert_eq!(partition.counted("things"), 1);
    let Answer::Written(entry) = &first else { panic!("{first:?}") };
    let removed = delete("things", &entry.id);
    let next = SessionCall { number: 2, ..call };
    for _ in 0..2 {
        assert_eq!(partition.numbered(&removed, next).unwrap(), Answer::Deleted(true), "also where it is gone by now");
    }
    let batch = Operation::Batch(vec![create("things", "{}"), create("things", "{}"), count("things")]);
    let beside = SessionCall { slot: 1, number: 3, ..call };
    let first = partition.numbered(&batch, beside).unwrap();
    assert_eq!(partition.numbered(&batch, beside).unwrap(), first);
    assert_eq!(partition.counted("things"), 2);
}

/// A client that writes for months must not fill the database with answers.
#[test]
fn a_slot_keeps_one_answer_and_refusals_keep_none() {
    let mut partition = Partition::new();
    let call = partition.begin(1);
    for number in 1..50 {
        let numbered = SessionCall { number, ..call };
        partition.numbered(&create("things", "{}"), numbered).unwrap();
        partition.numbered(&get("things", "none"), numbered).unwrap();
    }
    assert_eq!(partition.kept(), 1);
    let other = SessionCall { slot: 9, number: 50, ..call };
    partition.numbered(&update("things", "none", "{}"), other).unwrap_err();
    assert_eq!(partition.numbered(&delete("things", "none"), other).unwrap(), Answer::Deleted(false));
    assert_eq!(partition.kept(), 1, "what wrote nothing may run again");
}

/// A call that its client gave up, and that arrives behind the next one in its slot, must not be done: the client
/// has told its caller that nobody knows, and reads may have followed.
#[test]
fn a_call_that_was_given_up_is_refused_when_it_arrives() {
    let mut partition = Partition::new();
    let call = partition.begin(1);
    partition.numbered(&create("things", "{}"), SessionCall { number: 8, ..call }).unwrap();
    let late = partition.numbered(&create("things", "{}"), SessionCall { number: 7, ..call }).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Ambiguous);
    assert_eq!(partition.counted("things"), 1);
    let other = partition.begin(2);
    partition.numbered(&create("things", "{}"), other).unwrap();
    assert_eq!(partition.counted("things"), 2, "sessions do not meet");
}

/// What a process that is gone left behind must go too; and a call must not be repeated once its answer went.
#[test]
fn old_sessions_are_swept_and_refused_from_then_on() {
    let mut partition = Partition::new();
    let old = partition.begin(1);
    for slot in 0..300 {
        partition.numbered(&create("things", "{}"), SessionCall { slot, number: 1, ..old }).unwrap();
    }
    partition.wait(KEPT_MS - 1);
    let young = partition.begin(2);
    partition.numbered(&create("things", "{}"), young).unwrap();
    assert_eq!(partition.call(&Operation::Sweep).unwrap(), Answer::More(false));
    assert_eq!(partition.kept(), 301);
    partition.wait(1);
    assert_eq!(partition.call(&Operation::Sweep).unwrap(), Answer::More(true));
    assert_eq!(partition.call(&Operation::Sweep).unwrap(), Answer::More(false));
    assert_eq!(partition.kept(), 1);
    let again = partition.numbered(&create("things", "{}"), SessionCall { slot: 3, number: 1, ..old }).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Ambiguous);
    assert_eq!(partition.counted("things"), 301);
}
