//! Keys that make a write safe to repeat.

use super::*;
use crate::store::idempotency::{KEPT_MS, MAX_KEPT};

impl Partition {
    fn keyed(&mut self, operation: &Operation, key: &str) -> Result<Answer> {
        self.call_with(operation, Some(key))
    }
}

/// A client that repeats a create after a lost answer must not own two documents.
#[test]
fn a_repeated_create_answers_the_first_document() {
    let mut partition = Partition::new();
    let operation = create("things", r#"{"n":1}"#);
    let first = partition.keyed(&operation, "k").unwrap();
    partition.wait(1_000);
    assert_eq!(partition.keyed(&operation, "k").unwrap(), first);
    assert_eq!(partition.counted("things"), 1);
    assert_ne!(partition.keyed(&operation, "other").unwrap(), first);
    partition.check();
}

#[test]
fn a_key_that_comes_with_other_content_is_refused() {
    let mut partition = Partition::new();
    partition.keyed(&create("things", r#"{"id":"a"}"#), "k").unwrap();
    for operation in [create("things", r#"{"id":"b"}"#), create("other", r#"{"id":"a"}"#), delete("things", "a")] {
        assert_eq!(partition.keyed(&operation, "k").expect_err("refused").kind(), ErrorKind::Conflict);
    }
    let spaced = create("things", " { \"id\" : \"a\" } ");
    assert!(partition.keyed(&spaced, "k").is_ok(), "white space is no content");
}

/// The version of the first answer with newer text must never let its holder undo what came between.
#[test]
fn a_repeated_answer_has_its_own_version_and_the_document_of_today() {
    let mut partition = Partition::new();
    let operation = create("things", r#"{"id":"a","n":1}"#);
    let Answer::Written(first) = partition.keyed(&operation, "k").unwrap() else { panic!("written") };
    partition.written(&update("things", "a", r#"{"n":2}"#));
    let Answer::Written(again) = partition.keyed(&operation, "k").unwrap() else { panic!("written") };
    assert_eq!((again.version, again.document.text()), (first.version, r#"{"id":"a","n":2}"#));
    partition.call(&delete("things", "a")).unwrap();
    let Answer::Written(gone) = partition.keyed(&operation, "k").unwrap() else { panic!("written") };
    assert_eq!((gone.version, gone.document.text()), (first.version, r#"{"id":"a"}"#));
}

#[test]
fn every_kind_of_write_can_be_repeated() {
    let mut partition = Partition::new();
    partition.written(&create("things", r#"{"id":"a"}"#));
    let batch = Operation::Batch(vec![
        create("things", r#"{"id":"b"}"#),
        get("things", "a"),
        update("things", "b", r#"{"n":1}"#),
        count("things"),
        delete("things", "a"),
        create("things", "{}"),
        declare("others", &[("x", true)]),
    ]);
    let answers = partition.keyed(&batch, "batch").unwrap();
    let Answer::Batch(again) = partition.keyed(&batch, "batch").unwrap() else { panic!("a batch") };
    let Answer::Batch(answers) = answers else { panic!("a batch") };
    assert_eq!(again[4..], answers[4..]);
    // Reads are read again: the document is gone, the count is that of now.
    assert_eq!((&again[1], &again[3]), (&Answer::Entry(None), &Answer::Count(2)));
    for (key, operation) in [
        ("replace", replace("things", "b", r#"{"z":1}"#)),
        ("declare", declare("things", &[("z", false)])),
        ("drop", Operation::DropIndex { collection: name("others"), index: "x".to_owned() }),
        ("delete", delete("things", "b")),
    ] {
        let first = partition.keyed(&operation, key).unwrap();
        assert_eq!(partition.keyed(&operation, key).unwrap(), first, "{key}");
    }
    partition.check();
}

/// A delete finds nothing and its answer is lost; somebody creates the document; the repeated delete must not
/// take that one away. The same holds for a batch that changed nothing, and for a declaration.
#[test]
fn what_found_nothing_to_do_does_nothing_when_it_is_repeated() {
    let mut partition = Partition::new();
    partition.call(&declare("things", &[("n", false)])).unwrap();
    let batch = Operation::Batch(vec![get("things", "a"), delete("things", "a")]);
    let declared = declare("things", &[("n", false)]);
    assert_eq!(partition.keyed(&delete("things", "a"), "delete").unwrap(), Answer::Deleted(false));
    partition.keyed(&batch, "batch").unwrap();
    partition.keyed(&declared, "declare").unwrap();
    partition.written(&create("things", r#"{"id":"a"}"#));
    partition.call(&Operation::DropIndex { collection: name("things"), index: "n".to_owned() }).unwrap();
    assert_eq!(partition.keyed(&delete("things", "a"), "delete").unwrap(), Answer::Deleted(false));
    let Answer::Batch(again) = partition.keyed(&batch, "batch").unwrap() else { panic!("a batch") };
    assert_eq!(again[1], Answer::Deleted(false));
    partition.keyed(&declared, "declare").unwrap();
    assert!(partition.got("things", "a").is_some());
    assert!(partition.catalog("things").unwrap().indexes.is_empty());
    partition.check();
    partition.wait(KEPT_MS);
    assert_eq!(partition.keyed(&delete("things", "a"), "delete").unwrap(), Answer::Deleted(true));
}

/// A batch of small documents that have grown since must not be answered with all they hold by now.
#[test]
fn a_repeated_batch_answers_no_more_than_a_first_one() {
    let mut partition = Partition::new();
    let ids: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let mut operations: Vec<_> = ids.iter().map(|id| create("things", &format!(r#"{{"id":"{id}"}}"#))).collect();
    let read = Operation::GetMany { collection: name("things"), ids: ids[..10].to_vec() };
    operations.push(read.clone());
    let batch = Operation::Batch(operations);
    let wide = Operation::Batch(vec![delete("things", "none"), read.clone(), read]);
    let Answer::Batch(first) = partition.keyed(&batch, "k").unwrap() else { panic!("a batch") };
    partition.keyed(&wide, "wide").unwrap();
    let grown = format!(r#"{{"pad":"{}"}}"#, "x".repeat(1_000_000));
    for id in &ids {
        partition.written(&update("things", id, &grown));
    }
    let Answer::Batch(again) = partition.keyed(&batch, "k").unwrap() else { panic!("a batch") };
    let bytes: usize = again.iter().map(crate::store::batch::bytes).sum();
    assert!(bytes > 15 << 20 && bytes <= crate::store::MAX_ANSWER_BYTES, "bytes={bytes}");
    for (first, again) in first.iter().zip(&again).take(20) {
        let (Answer::Written(first), Answer::Written(again)) = (first, again) else { panic!("written") };
        assert_eq!((&first.id, first.version), (&again.id, again.version));
        assert_eq!(again.document.fields()["id"], *first.id);
    }
    let error = partition.keyed(&wide, "wide").expect_err("20 MB of reads");
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[test]
fn a_refusal_and_a_read_keep_no_key() {
    let mut partition = Partition::new();
    let before = partition.keys.clone();
    partition.keyed(&Operation::Batch(vec![get("things", "a")]), "k").unwrap();
    partition.keyed(&update("things", "a", "{}"), "k").expect_err("no such document");
    partition.keyed(&get("things", "a"), "k").unwrap();
    assert_eq!(partition.keys, before);
    partition.keyed(&create("things", r#"{"id":"a"}"#), "k").unwrap();
    for key in [String::new(), "x".repeat(257)] {
        let error = partition.keyed(&delete("things", "a"), &key).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn a_key_is_forgotten_after_a_day_with_or_without_a_sweep() {
    for swept in [false, true] {
        let mut partition = Partition::new();
        let operation = create("things", "{}");
        let first = partition.keyed(&operation, "k").unwrap();
        partition.wait(KEPT_MS - 1);
        partition.sweep();
        assert_eq!(partition.keyed(&operation, "k").unwrap(), first);
        partition.wait(1);
        if swept {
            partition.sweep();
            assert!(!partition.keys.keys().any(|key| matches!(key[0], 0x18 | 0x19)), "leftovers");
        }
        assert_ne!(partition.keyed(&operation, "k").unwrap(), first);
        let kept = partition.read(|tx| tx.counter(&keys::answer_count()));
        assert_eq!(kept, 1, "swept={swept}");
        assert_eq!(partition.keys.keys().filter(|key| key[0] == 0x19).count(), 1);
    }
}

/// Forgetting early would break the promise, keeping all would fill memory: the third way is to say so.
#[test]
fn a_full_store_of_keys_refuses_new_ones_until_it_is_swept() {
    let mut partition = Partition::new();
    let first = partition.keyed(&create("things", "{}"), "first").unwrap();
    let full = Versioned { value: Bytes::copy_from_slice(&MAX_KEPT.to_be_bytes()), sequence: partition.sequence };
    partition.keys.insert(keys::answer_count(), full);
    let mut taken = 0;
    let error = loop {
        match partition.keyed(&create("things", "{}"), &format!("k{taken}")) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 500, "the counter is looked at now and then");
    };
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert_eq!(partition.keyed(&create("things", "{}"), "first").unwrap(), first, "old keys still answer");
    partition.written(&create("things", "{}"));
    partition.wait(KEPT_MS);
    partition.sweep();
    partition.keyed(&create("things", "{}"), "later").unwrap();
}
