//! What is too large says so, and background work stays far below what one operation may.

use super::*;

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
