//! Indexes declared on documents that are there already, and dropped again.

use std::slice;

use super::*;

fn filled(documents: usize) -> Partition {
    let mut partition = Partition::new();
    for chunk in (0..documents).collect::<Vec<_>>().chunks(1_000) {
        let text = |n: &usize| format!(r#"{{"id":"{n}","n":{n},"half":{}}}"#, n / 2);
        let creates = chunk.iter().map(|n| create("things", &text(n))).collect();
        partition.call(&Operation::Batch(creates)).unwrap();
    }
    partition
}

fn info(answer: Answer) -> CollectionInfo {
    match answer {
        Answer::Collection(info) => info,
        other => panic!("{other:?}"),
    }
}

#[test]
fn declaring_again_writes_nothing_and_never_takes_an_index_away() {
    let mut partition = Partition::new();
    let first = info(partition.call(&declare("things", &[("a", false), ("b", true)])).unwrap());
    assert!(first.building.is_empty(), "an empty collection has nothing to build");
    let before = partition.keys.clone();
    assert_eq!(info(partition.call(&declare("things", &[("b", true)])).unwrap()), first);
    assert_eq!(info(partition.call(&declare("things", &[])).unwrap()), first);
    assert_eq!(partition.keys, before);
    assert_eq!(partition.refused(&declare("things", &[("b", false)])), ErrorKind::InvalidInput);
    assert_eq!(partition.refused(&declare("things", &[("c", false), ("c", false)])), ErrorKind::InvalidInput);
    let by = |field: &str| Operation::Declare {
        collection: name("users"),
        definition: Definition { partition_field: Some(field.to_owned()), ..Definition::default() },
    };
    assert_eq!(partition.refused(&by("email")), ErrorKind::InvalidInput);
    partition.call(&by("group")).unwrap();
}

/// With several partitions nobody compares the values of two of them.
#[test]
fn a_unique_index_needs_one_partition_or_the_partition_field() {
    let partition = Partition::new();
    let declared = |field: &str, partitions| {
        let index = IndexDefinition { name: field.to_owned(), field: field.to_owned(), unique: true };
        let definition = Definition { indexes: vec![index], partition_field: Some("city".to_owned()), ttl_ms: None };
        let mut source = AtHand(&partition.keys);
        let mut tx = Transaction::new(&mut source, Drawn::default(), 1);
        super::super::build::declare(&mut tx, &name("things"), &definition, partitions).is_ok()
    };
    assert!(declared("email", 1) && declared("city", 64));
    assert!(!declared("email", 64));
}

#[test]
fn an_index_on_existing_documents_is_built_in_steps_while_writes_go_on() {
    let mut partition = filled(600);
    let declared = info(partition.call(&declare("things", &[("n", false)])).unwrap());
    assert_eq!(declared.building, ["n"]);
    assert_eq!(partition.refused(&Operation::List(by_index("things", "n", 1))), ErrorKind::IndexBuilding);
    assert!(partition.more(&build_index("things", "n")));
    partition.check();
    // One that was added already and one that was not: changed, removed, new.
    for operation in [
        update("things", "1", r#"{"n":1000}"#),
        update("things", "599", r#"{"n":-1}"#),
        delete("things", "2"),
        delete("things", "598"),
        create("things", r#"{"id":"new","n":2000}"#),
        update("things", "597", r#"{"half":"same n"}"#),
    ] {
        partition.call(&operation).unwrap();
        partition.check();
    }
    let mut steps = 1;
    while partition.more(&build_index("things", "n")) {
        partition.check();
        steps += 1;
    }
    assert_eq!(steps, 2, "600 documents take three steps of 256");
    partition.check();
    assert!(!partition.more(&build_index("things", "n")), "a step on a finished index does nothing");
    let ids = partition.ids(by_index("things", "n", 1_000));
    assert_eq!(ids.len(), 599);
    assert_eq!((&*ids[0], &*ids[1], &*ids[597], &*ids[598]), ("599", "0", "1", "new"));
    assert_eq!(partition.refused(&build_index("things", "none")), ErrorKind::NotFound);
    assert_eq!(partition.refused(&build_index("nowhere", "none")), ErrorKind::NotFound);
}

/// Writers that add documents as fast as the build does would keep it from ever ending.
#[test]
fn a_build_does_not_run_after_documents_that_are_newer_than_the_index() {
    let mut partition = filled(600);
    partition.call(&declare("things", &[("n", false), ("half", false)])).unwrap();
    let mut steps = 0;
    while partition.more(&build_index("things", "n")) {
        steps += 1;
        let creates = vec![create("things", r#"{"n":7}"#); 600];
        partition.call(&Operation::Batch(creates)).unwrap();
    }
    assert_eq!(steps, 2);
    partition.check();
    assert_eq!(partition.ids(by_index("things", "n", 1_000)).len(), 1_800);
}

#[test]
fn a_unique_index_is_built_and_guards_meanwhile() {
    let mut partition = filled(300);
    partition.call(&declare("things", &[("n", true)])).unwrap();
    assert!(partition.more(&build_index("things", "n")));
    assert_eq!(partition.refused(&create("things", r#"{"n":5}"#)), ErrorKind::AlreadyExists);
    // 299 is not added yet: its value may move away and be taken by another document.
    partition.written(&update("things", "299", r#"{"n":5000}"#));
    partition.written(&create("things", r#"{"id":"taker","n":299}"#));
    partition.written(&update("things", "299", r#"{"n":5001}"#));
    partition.check();
    while partition.more(&build_index("things", "n")) {}
    partition.check();
    assert_eq!(partition.ids(by_index("things", "n", 1_000)).len(), 301);
}

/// Half an index that stays behind would refuse values that nobody holds.
#[test]
fn a_unique_build_that_meets_a_duplicate_names_both_and_leaves_nothing() {
    let mut partition = filled(1_500);
    partition.call(&declare("things", &[("half", true)])).unwrap();
    assert!(partition.more(&build_index("things", "half")));
    let error = partition.call(&build_index("things", "half")).expect_err("two documents share a value");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let text = error.to_string();
    assert!(text.contains("id=0") && text.contains("other=1"), "{text}");
    partition.written(&create("things", r#"{"half":0}"#));
    assert_eq!(partition.refused(&Operation::List(by_index("things", "half", 1))), ErrorKind::NotFound);
    let described = info(partition.call(&Operation::Describe { collection: name("things") }).unwrap());
    assert!(described.definition.indexes.is_empty() && described.building.is_empty());
    // Whoever did not wait for the build learns of its end by asking, as the one who waited did.
    let [failed] = &described.failed[..] else { panic!("{described:?}") };
    assert_eq!((&*failed.index, &*failed.code, &*failed.detail), ("half", "already_exists", &*text));
    let Answer::Collections(all) = partition.call(&Operation::Collections).unwrap() else { panic!("collections") };
    assert_eq!(all, slice::from_ref(&described));
    assert_eq!(info(partition.call(&declare("things", &[("n", false)])).unwrap()).failed, described.failed);
    while partition.more(&build_index("things", "n")) {}
    partition.call(&Operation::DropIndex { collection: name("things"), index: "n".to_owned() }).unwrap();
    partition.sweep();
    partition.check();
    assert!(!partition.keys.keys().any(|key| matches!(key[0], 0x12 | 0x13 | 0x16 | 0x17)), "leftovers");
    let again = info(partition.call(&declare("things", &[("half", false)])).unwrap());
    assert_eq!((again.building, again.failed), (vec!["half".to_owned()], Vec::new()), "a new try");
    while partition.more(&build_index("things", "half")) {}
    partition.check();
}

#[test]
fn a_build_that_fails_late_leaves_nothing_either() {
    let mut partition = filled(1_500);
    partition.call(&create("things", r#"{"id":"last","n":7}"#)).unwrap();
    partition.call(&declare("things", &[("n", true)])).unwrap();
    let error = loop {
        match partition.call(&build_index("things", "n")) {
            Ok(answer) => assert_eq!(answer, Answer::More(true)),
            Err(error) => break error,
        }
        partition.check();
    };
    assert!(error.to_string().contains("id=7") && error.to_string().contains("other=last"), "{error}");
    partition.sweep();
    assert!(!partition.keys.keys().any(|key| matches!(key[0], 0x12 | 0x13 | 0x16 | 0x17)), "leftovers");
    let drop = Operation::DropIndex { collection: name("things"), index: "n".to_owned() };
    assert!(info(partition.call(&drop).unwrap()).failed.is_empty(), "dropped, it is forgotten");
    assert_eq!(partition.refused(&build_index("things", "n")), ErrorKind::NotFound);
}

#[test]
fn a_value_that_cannot_be_indexed_ends_a_build() {
    let mut partition = Partition::new();
    partition.written(&create("things", r#"{"id":"a","tags":["x"]}"#));
    partition.call(&declare("things", &[("tags", false)])).unwrap();
    assert!(partition.more(&build_index("things", "tags")));
    let error = partition.call(&build_index("things", "tags")).expect_err("an array has no order");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("id=a"), "{error}");
    partition.written(&update("things", "a", r#"{"tags":"x"}"#));
    partition.call(&declare("things", &[("tags", false)])).unwrap();
    while partition.more(&build_index("things", "tags")) {}
    assert_eq!(partition.ids(by_index("things", "tags", 1)), ["a"]);
    partition.check();
}

/// An expired document without an entry must not take the entry of a living one along when it is swept.
#[test]
fn a_unique_build_over_expired_documents_keeps_the_living_ones_values() {
    let mut partition = Partition::new();
    partition.written(&create_for("codes", r#"{"id":"old","code":"x"}"#, 1));
    partition.written(&create("codes", r#"{"id":"new","code":"x"}"#));
    partition.written(&create_for("codes", r#"{"id":"older","code":"x"}"#, 1));
    partition.wait(1);
    partition.call(&declare("codes", &[("code", true)])).unwrap();
    while partition.more(&build_index("codes", "code")) {}
    partition.check();
    partition.sweep();
    partition.check();
    assert_eq!(partition.ids(by_index("codes", "code", 10)), ["new"]);
    assert_eq!(partition.refused(&create("codes", r#"{"code":"x"}"#)), ErrorKind::AlreadyExists);
}

#[test]
fn a_big_index_is_dropped_at_once_and_its_entries_in_steps() {
    let mut partition = filled(2_500);
    partition.call(&declare("things", &[("n", false)])).unwrap();
    while partition.more(&build_index("things", "n")) {}
    partition.check();
    let drop = Operation::DropIndex { collection: name("things"), index: "n".to_owned() };
    let left = info(partition.call(&drop).unwrap());
    assert!(left.definition.indexes.is_empty());
    partition.check();
    assert_eq!(partition.refused(&Operation::List(by_index("things", "n", 1))), ErrorKind::NotFound);
    assert_eq!(partition.refused(&drop), ErrorKind::NotFound);
    // The name is free while the old entries still lie there.
    partition.call(&declare("things", &[("n", false)])).unwrap();
    partition.call(&delete("things", "0")).unwrap();
    partition.sweep();
    while partition.more(&build_index("things", "n")) {}
    partition.check();
    assert_eq!(partition.ids(by_index("things", "n", 1_000)).len(), 2_499);
}
