//! What is too large says so, and background work stays far below what one operation may.

use super::*;
use crate::engine::Growth;
use crate::store::document::MAX_DOCUMENT_BYTES;

fn padded(id: &str, bytes: usize) -> String {
    format!(r#"{{"id":"{id}","pad":"{}"}}"#, "x".repeat(bytes))
}

#[test]
fn a_document_that_an_update_makes_too_large_is_refused() {
    let mut partition = Partition::new();
    partition.written(&create("things", &padded("a", 600_000)));
    let more = format!(r#"{{"more":"{}"}}"#, "y".repeat(600_000));
    assert_eq!(partition.refused(&update("things", "a", &more)), ErrorKind::TooLarge);
    let both = Operation::Batch(vec![create("things", &padded("b", 600_000)), create("things", &padded("c", 600_000))]);
    assert_eq!(partition.refused(&both), ErrorKind::TooLarge);
    partition.check();
}

/// A document that is legal by itself must be storable: with the longest keys, as many indexes as there can be,
/// an end and an idempotency key, when it is new and when every entry of it changes.
#[test]
fn the_largest_document_fits_into_one_operation() {
    let mut partition = Partition::new();
    let fields: Vec<String> = (0..32).map(|n| format!("f{n:0>127}")).collect();
    let indexes: Vec<(&str, bool)> = fields.iter().map(|field| (&**field, field.ends_with('1'))).collect();
    let collection = "c".repeat(64);
    partition.call(&declare(&collection, &indexes)).unwrap();
    let id = "i".repeat(256);
    let text = |value: &str| {
        let values: Vec<_> = fields.iter().map(|field| format!(r#""{field}":"{}""#, value.repeat(250))).collect();
        let mut text = format!(r#"{{"id":"{id}",{},"pad":""#, values.join(","));
        text.push_str(&"x".repeat(MAX_DOCUMENT_BYTES - text.len() - 2));
        text.push_str("\"}");
        text
    };
    let created = create_for(&collection, &text("v"), 1_000);
    partition.call_with(&created, Some(&"k".repeat(256))).unwrap();
    let Operation::Replace { collection, id, document, .. } = replace(&collection, &id, &text("w")) else { panic!() };
    let replaced = Operation::Replace { collection, id, document, if_version: None, ttl_ms: Some(2_000) };
    partition.call_with(&replaced, Some(&"l".repeat(256))).unwrap();
    partition.check();
    partition.wait(2_000);
    partition.sweep();
    partition.check();
}

/// A disk that is full is emptied by deletes; the reads that choose them must not make them writes that grow.
#[test]
fn deletes_beside_reads_are_no_growth() {
    let growth = |operations: &[Operation]| Operation::Batch(operations.to_vec()).growth();
    let page = Operation::List(list("things", 1));
    let reads = [get("things", "a"), count("things"), page, Operation::Collections];
    assert_eq!(growth(&reads), Growth::Shrinks);
    assert_eq!(growth(&[&reads[..], &[delete("things", "a")]].concat()), Growth::Shrinks);
    assert_eq!(growth(&[get("things", "a"), create("things", "{}"), delete("things", "a")]), Growth::Grows);
    assert_eq!(build_index("things", "n").growth(), Growth::Grows);
}

#[test]
fn a_page_ends_at_a_megabyte() {
    let mut partition = Partition::new();
    for n in 0..7 {
        partition.written(&create("things", &padded(&n.to_string(), 400_000)));
    }
    let page = partition.page(&list("things", 1_000));
    assert_eq!(page.entries.len(), 2);
    assert_eq!(partition.ids(list("things", 1_000)), ["0", "1", "2", "3", "4", "5", "6"]);
    let backward = ListRequest { direction: Direction::Backward, ..list("things", 1_000) };
    assert_eq!(partition.ids(backward), ["6", "5", "4", "3", "2", "1", "0"]);
}

#[test]
fn an_answer_of_many_large_documents_is_refused() {
    let mut partition = Partition::new();
    partition.written(&create("things", &padded("a", 1_000_000)));
    let many = |count| Operation::GetMany { collection: name("things"), ids: vec!["a".to_owned(); count] };
    assert!(partition.call(&many(16)).is_ok());
    assert_eq!(partition.refused(&many(17)), ErrorKind::TooLarge);
    let gets = |count| Operation::Batch(vec![get("things", "a"); count]);
    assert!(partition.call(&gets(16)).is_ok());
    assert_eq!(partition.refused(&gets(17)), ErrorKind::TooLarge);
}

/// A page over documents that all ended must come back at some point, with a way to go on.
#[test]
fn a_page_over_thousands_of_expired_documents_ends() {
    let mut partition = Partition::new();
    for _ in 0..5 {
        partition.call(&Operation::Batch(vec![create_for("things", "{}", 1); 1_000])).unwrap();
    }
    partition.written(&create("things", r#"{"id":"last"}"#));
    partition.wait(1);
    let page = partition.page(&list("things", 10));
    assert!(page.entries.is_empty() && page.next.is_some());
    assert_eq!(partition.ids(list("things", 10)), ["last"]);
    let mut before = partition.counted("things");
    while partition.more(&Operation::Sweep) {
        let after = partition.counted("things");
        assert!(before - after <= 256, "one sweep takes at most 256 documents");
        before = after;
    }
    assert_eq!(partition.counted("things"), 1);
    partition.check();
}

/// Documents with the longest ids and values weigh the most in keys: a sweep or build of them must
/// still be one legal operation, which every commit here checks.
#[test]
fn background_work_on_the_largest_keys_stays_legal() {
    let mut partition = Partition::new();
    let fields: Vec<String> = (0..20).map(|n| format!("f{n}")).collect();
    let indexes: Vec<(&str, bool)> = fields.iter().map(|field| (&**field, false)).collect();
    let text = |n: usize| {
        let values: Vec<_> = fields.iter().map(|field| format!(r#""{field}":"{n}{}""#, "v".repeat(240))).collect();
        format!(r#"{{"id":"{n}{}",{}}}"#, "i".repeat(240), values.join(","))
    };
    for n in 0..300 {
        partition.written(&create_for("things", &text(n), 1_000));
    }
    partition.call(&declare("things", &indexes)).unwrap();
    for (index, _) in &indexes {
        while partition.more(&build_index("things", index)) {}
    }
    partition.check();
    partition.wait(1_000);
    partition.sweep();
    partition.check();
    assert_eq!(partition.counted("things"), 0);
}

#[test]
fn the_number_of_indexes_and_the_length_of_names_are_bounded() {
    let mut partition = Partition::new();
    let fields: Vec<String> = (0..33).map(|n| format!("f{n}")).collect();
    let indexes: Vec<(&str, bool)> = fields.iter().map(|field| (&**field, false)).collect();
    assert_eq!(partition.refused(&declare("things", &indexes)), ErrorKind::TooLarge);
    partition.call(&declare("things", &indexes[..32])).unwrap();
    for field in ["", &*"x".repeat(129)] {
        assert_eq!(partition.refused(&declare("things", &[(field, false)])), ErrorKind::InvalidInput);
    }
}
