//! Each rule of documents, lists and batches once.

use super::*;

/// The text of a new document must be the caller's own, with the id in front.
#[test]
fn a_created_document_can_be_read_with_the_version_it_was_answered_with() {
    let mut partition = Partition::new();
    let entry = partition.written(&create("things", r#"{ "b": 1.50, "a": [1, 2] }"#));
    assert_eq!(entry.document.text(), format!(r#"{{"id":"{}","b":1.50,"a":[1,2]}}"#, entry.id));
    assert_eq!(entry.version, Version(partition.sequence));
    let [event] = &partition.events[..] else { panic!("one event") };
    assert_eq!((event.kind, &*event.id, &*event.collection), (EventKind::Created, &*entry.id, "things"));
    assert_eq!(super::super::stored_document(&partition.keys[&event.key].value).unwrap(), entry.document);
    assert_eq!(partition.got("things", &entry.id), Some(entry));
    assert_eq!(partition.counted("things"), 1);
    partition.check();
}

/// A document that lies between those of a list and is not of it, or one that is large, must neither come up nor hide another.
#[test]
fn a_list_gives_its_documents_wherever_they_lie() {
    let mut partition = Partition::new();
    partition.call(&declare("things", &[("user", false)])).unwrap();
    let long = "x".repeat(100_000);
    for n in 0..60 {
        // Most in the order of their ids; some before others that are older.
        let id = if n % 20 == 7 { format!("a{n:02}") } else { format!("b{n:02}") };
        let text = if n % 9 == 4 { &long } else { "" };
        partition.call(&create("things", &format!(r#"{{"id":"{id}","user":{},"text":"{text}"}}"#, n / 3 % 5))).unwrap();
    }
    partition.call(&delete("things", "b30")).unwrap();
    let ids = |wanted: &dyn Fn(u32) -> bool| -> Vec<String> {
        let all = (0..60).filter(|n| *n != 30 && wanted(*n));
        all.map(|n| if n % 20 == 7 { format!("a{n:02}") } else { format!("b{n:02}") }).collect()
    };
    for limit in [1, 2, 7, 1_000] {
        assert_eq!(partition.ids(list("things", limit)), ids(&|_| true), "limit={limit}");
        let backward = ListRequest { direction: Direction::Backward, ..list("things", limit) };
        let mut expected = ids(&|_| true);
        expected.reverse();
        assert_eq!(partition.ids(backward), expected, "limit={limit}");
        let mut expected: Vec<_> = (0..5).flat_map(|user| ids(&|n| n / 3 % 5 == user)).collect();
        assert_eq!(partition.ids(by_index("things", "user", limit)), expected, "limit={limit}");
        let backward = ListRequest { direction: Direction::Backward, ..by_index("things", "user", limit) };
        expected.reverse();
        assert_eq!(partition.ids(backward), expected, "limit={limit}");
    }
}

#[test]
fn a_new_document_with_one_index_writes_four_small_keys() {
    let mut partition = Partition::new();
    partition.call(&declare("products", &[("price", false)])).unwrap();
    partition.call(&create("products", r#"{"id":"0","title":"Regla","price":9}"#)).unwrap();
    let before = partition.keys.clone();
    let text = r#"{"id":"1","title":"Escuadra","price":123.45}"#;
    partition.call(&create("products", text)).unwrap();
    let new: Vec<_> = partition.keys.iter().filter(|(key, value)| before.get(*key) != Some(value)).collect();
    let sizes: usize = new.iter().map(|(key, versioned)| key.len() + versioned.value.len()).sum();
    assert_eq!(new.len(), 4);
    assert!(sizes <= text.len() + 65, "bytes={sizes}");
}

#[test]
fn an_id_that_is_taken_is_refused_and_one_that_was_deleted_is_free() {
    let mut partition = Partition::new();
    partition.written(&create("things", r#"{"id":"a"}"#));
    assert_eq!(partition.refused(&create("things", r#"{"id":"a"}"#)), ErrorKind::AlreadyExists);
    partition.written(&create("others", r#"{"id":"a"}"#));
    assert_eq!(partition.call(&delete("things", "a")).unwrap(), Answer::Deleted(true));
    assert_eq!(partition.call(&delete("things", "a")).unwrap(), Answer::Deleted(false));
    assert_eq!(partition.call(&delete("nowhere", "a")).unwrap(), Answer::Deleted(false));
    partition.written(&create("things", r#"{"id":"a"}"#));
    partition.check();
}

#[test]
fn ids_that_break_the_rule_are_refused_in_writes_and_absent_in_reads() {
    let mut partition = Partition::new();
    partition.written(&create("things", r#"{"id":"a"}"#));
    let long = "x".repeat(257);
    for id in [r#""""#, r#""a\nb""#, "5", "null", &format!("\"{long}\"")] {
        assert_eq!(partition.refused(&create("things", &format!(r#"{{"id":{id}}}"#))), ErrorKind::InvalidInput);
    }
    assert_eq!(partition.got("things", &long.repeat(10)), None);
    assert_eq!(partition.got("things", ""), None);
    assert_eq!(partition.got("nowhere", "a"), None);
    assert_eq!(partition.refused(&replace("things", &long, "{}")), ErrorKind::InvalidInput);
    assert_eq!(partition.refused(&update("things", &long, "{}")), ErrorKind::NotFound);
}

#[test]
fn replace_sets_all_fields_and_update_only_its_own() {
    let mut partition = Partition::new();
    partition.written(&create("things", r#"{"id":"a","x":1,"y":{"z":2.50}}"#));
    let entry = partition.written(&update("things", "a", r#"{"x":null,"y":{"w":3},"v":1.10}"#));
    assert_eq!(entry.document.text(), r#"{"id":"a","y":{"z":2.50,"w":3},"v":1.10}"#);
    assert_eq!(partition.events[0].kind, EventKind::Updated);
    let entry = partition.written(&replace("things", "a", r#"{"only":true}"#));
    assert_eq!(entry.document.text(), r#"{"id":"a","only":true}"#);
    for (operation, kind) in [
        (update("things", "b", "{}"), ErrorKind::NotFound),
        (replace("things", "b", "{}"), ErrorKind::NotFound),
        (update("nowhere", "b", "{}"), ErrorKind::NotFound),
        (update("things", "a", r#"{"id":"b"}"#), ErrorKind::InvalidInput),
        (update("things", "a", r#"{"id":null}"#), ErrorKind::InvalidInput),
        (replace("things", "a", r#"{"id":"b"}"#), ErrorKind::InvalidInput),
        (replace("things", "a", r#"{"id":7}"#), ErrorKind::InvalidInput),
    ] {
        assert_eq!(partition.refused(&operation), kind, "{operation:?}");
    }
    partition.written(&replace("things", "a", r#"{"id":"a"}"#));
    partition.check();
}

/// Two people who change one document from the same version: one must learn that the other was first.
#[test]
fn of_two_writes_that_name_one_version_one_wins() {
    let mut partition = Partition::new();
    let first = partition.written(&create("things", r#"{"id":"a","n":0}"#)).version;
    let at = |n: u32, version| Operation::Update {
        collection: name("things"),
        id: "a".to_owned(),
        patch: document(&format!(r#"{{"n":{n}}}"#)),
        if_version: Some(version),
        ttl_ms: None,
    };
    let second = partition.written(&at(1, first)).version;
    assert!(second > first);
    let error = partition.call(&at(2, first)).expect_err("somebody was first");
    assert_eq!(error.kind(), ErrorKind::VersionMismatch);
    let text = error.to_string();
    assert!(text.contains(&format!("expected={first}")) && text.contains(&format!("found={second}")), "{text}");
    let deletion =
        |version| Operation::Delete { collection: name("things"), id: "a".to_owned(), if_version: Some(version) };
    assert_eq!(partition.refused(&deletion(first)), ErrorKind::VersionMismatch);
    assert_eq!(partition.call(&deletion(second)).unwrap(), Answer::Deleted(true));
    assert_eq!(partition.call(&deletion(second)).unwrap(), Answer::Deleted(false));
}

#[test]
fn get_many_answers_in_the_order_asked() {
    let mut partition = Partition::new();
    for id in ["a", "b"] {
        partition.written(&create("things", &format!(r#"{{"id":"{id}"}}"#)));
    }
    let many = |ids: Vec<String>| Operation::GetMany { collection: name("things"), ids };
    let asked = ["b", "x", "a", "b", ""].map(str::to_owned).to_vec();
    let Answer::Entries(entries) = partition.call(&many(asked)).unwrap() else { panic!("entries") };
    let ids: Vec<_> = entries.iter().map(|entry| entry.as_ref().map(|entry| &*entry.id)).collect();
    assert_eq!(ids, [Some("b"), None, Some("a"), Some("b"), None]);
    assert_eq!(partition.rounds, 2, "all documents are fetched in one round behind the catalog");
    assert_eq!(partition.refused(&many(vec!["a".to_owned(); 1_001])), ErrorKind::TooLarge);
}

#[test]
fn products_and_users_keep_their_rules_on_every_way_in() {
    let mut partition = Partition::new();
    partition.written(&create("products", r#"{"id":"p","title":"x","price":1,"more":[1]}"#));
    partition.written(&create("users", r#"{"id":"u","email":"a@b.example","group":3}"#));
    partition.written(&create("things", r#"{"id":"t","price":"free","email":1}"#));
    for operation in [
        create("products", r#"{"title":"x"}"#),
        replace("products", "p", r#"{"title":"","price":1}"#),
        update("products", "p", r#"{"price":null}"#),
        update("products", "p", r#"{"price":-1}"#),
        create("users", r#"{"email":"none"}"#),
        update("users", "u", r#"{"group":1.5}"#),
        Operation::Batch(vec![create("products", "{}")]),
    ] {
        assert_eq!(partition.refused(&operation), ErrorKind::InvalidInput, "{operation:?}");
    }
    partition.written(&update("products", "p", r#"{"price":2.50}"#));
    partition.written(&update("users", "u", r#"{"group":null}"#));
    partition.check();
}

#[test]
fn a_unique_value_has_one_holder() {
    let mut partition = Partition::new();
    partition.call(&declare("people", &[("email", true)])).unwrap();
    partition.written(&create("people", r#"{"id":"a","email":"x"}"#));
    partition.written(&create("people", r#"{"id":"b"}"#));
    partition.written(&create("people", r#"{"id":"c"}"#));
    let error = partition.call(&update("people", "b", r#"{"email":"x"}"#)).expect_err("taken");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.to_string().contains("id=a"), "{error}");
    assert_eq!(partition.refused(&create("people", r#"{"email":"x"}"#)), ErrorKind::AlreadyExists);
    partition.written(&update("people", "a", r#"{"email":"x","more":1}"#));
    partition.written(&update("people", "a", r#"{"email":"y"}"#));
    partition.written(&update("people", "b", r#"{"email":"x"}"#));
    assert_eq!(partition.ids(by_index("people", "email", 10)), ["b", "a"]);
    partition.call(&delete("people", "b")).unwrap();
    partition.written(&create("people", r#"{"id":"d","email":"x"}"#));
    partition.check();
}

/// The id stands in the stored text even where the caller gave none; an index by it must know it too.
#[test]
fn an_index_by_id_holds_ids_that_were_made() {
    let mut partition = Partition::new();
    partition.call(&declare("things", &[("id", false)])).unwrap();
    let made = partition.written(&create("things", "{}")).id;
    partition.written(&create("things", r#"{"id":"!"}"#));
    partition.written(&replace("things", "!", r#"{"x":1}"#));
    assert_eq!(partition.ids(by_index("things", "id", 10)), ["!".to_owned(), made]);
    partition.check();
}

#[test]
fn indexed_fields_take_no_arrays_and_no_long_texts() {
    let mut partition = Partition::new();
    partition.call(&declare("things", &[("tag", false)])).unwrap();
    for (text, kind) in [
        (r#"{"tag":[]}"#.to_owned(), ErrorKind::InvalidInput),
        (r#"{"tag":{}}"#.to_owned(), ErrorKind::InvalidInput),
        (format!(r#"{{"tag":"{}"}}"#, "x".repeat(300)), ErrorKind::TooLarge),
    ] {
        let error = partition.call(&create("things", &text)).expect_err("refused");
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains("field=tag"), "{error}");
    }
}

#[test]
fn a_list_by_index_has_its_bounds_and_both_directions() {
    let mut partition = Partition::new();
    partition.call(&declare("things", &[("n", false)])).unwrap();
    for (id, n) in [("a", "10"), ("b", "9"), ("c", "1e1"), ("d", "\"10\""), ("e", "null"), ("f", "-3"), ("g", "true")] {
        partition.written(&create("things", &format!(r#"{{"id":"{id}","n":{n}}}"#)));
    }
    partition.written(&create("things", r#"{"id":"missing"}"#));
    assert_eq!(partition.ids(by_index("things", "n", 2)), ["e", "g", "f", "b", "a", "c", "d"]);
    let backward = ListRequest { direction: Direction::Backward, ..by_index("things", "n", 3) };
    assert_eq!(partition.ids(backward), ["d", "c", "a", "b", "f", "g", "e"]);
    let between = |from: Option<Value>, to: Option<Value>| ListRequest {
        order: Order::Index { index: "n".to_owned(), from, to },
        ..list("things", 1)
    };
    assert_eq!(partition.ids(between(Some(9.into()), Some(10.0.into()))), ["b", "a", "c"]);
    assert_eq!(partition.ids(between(Some(10.into()), None)), ["a", "c", "d"]);
    assert_eq!(partition.ids(between(None, Some(Value::Null))), ["e"]);
    assert_eq!(partition.ids(between(Some(10.into()), Some(9.into()))), [""; 0]);
    let bad = Operation::List(between(Some(serde_json::json!([])), None));
    assert_eq!(partition.refused(&bad), ErrorKind::InvalidInput);
    assert_eq!(partition.refused(&Operation::List(by_index("things", "m", 1))), ErrorKind::NotFound);
    assert_eq!(partition.refused(&Operation::List(by_index("nowhere", "m", 1))), ErrorKind::NotFound);
    for limit in [0, 1_001] {
        assert_eq!(partition.refused(&Operation::List(list("things", limit))), ErrorKind::InvalidInput);
    }
}

#[test]
fn a_cursor_goes_on_only_in_its_own_list() {
    let mut partition = Partition::new();
    partition.call(&declare("things", &[("n", false)])).unwrap();
    for n in 0..4 {
        partition.written(&create("things", &format!(r#"{{"n":{n}}}"#)));
    }
    let next = partition.page(&by_index("things", "n", 2)).next.unwrap();
    let after = |request: ListRequest| Operation::List(ListRequest { after: Some(next.clone()), ..request });
    assert!(partition.call(&after(by_index("things", "n", 100))).is_ok(), "another page size is no other list");
    let backward = ListRequest { direction: Direction::Backward, ..by_index("things", "n", 2) };
    let order = Order::Index { index: "n".to_owned(), from: Some(0.into()), to: None };
    for request in [list("things", 2), backward, ListRequest { order, ..list("things", 2) }, list("nowhere", 2)] {
        assert_eq!(partition.refused(&after(request)), ErrorKind::InvalidInput);
    }
    partition.call(&Operation::DropIndex { collection: name("things"), index: "n".to_owned() }).unwrap();
    partition.call(&declare("things", &[("n", false)])).unwrap();
    while partition.more(&build_index("things", "n")) {}
    assert_eq!(partition.refused(&after(by_index("things", "n", 2))), ErrorKind::InvalidInput);
}

/// What is there from the first page to the last comes exactly once, whatever comes and goes meanwhile.
#[test]
fn paging_survives_writes_between_pages() {
    let mut partition = Partition::new();
    for n in 0..20 {
        partition.written(&create("things", &format!(r#"{{"id":"{n:02}"}}"#)));
    }
    let mut request = list("things", 5);
    let mut seen = Vec::new();
    let mut round = 0;
    loop {
        let page = partition.page(&request);
        seen.extend(page.entries.into_iter().map(|entry| entry.id));
        request.after = page.next;
        if request.after.is_none() {
            break;
        }
        let newest = seen.last().unwrap().clone();
        partition.call(&delete("things", &newest)).unwrap();
        partition.call(&create("things", &format!(r#"{{"id":"new{round}"}}"#))).unwrap();
        drop(partition.call(&update("things", "19", r#"{"touched":true}"#)));
        round += 1;
    }
    let old: Vec<_> = seen.iter().filter(|id| !id.starts_with("new")).cloned().collect();
    assert_eq!(old, (0..20).map(|n| format!("{n:02}")).collect::<Vec<_>>());
}

#[test]
fn an_expired_document_is_absent_but_counted_until_it_is_swept() {
    let mut partition = Partition::new();
    partition.call(&declare("codes", &[("code", true), ("n", false)])).unwrap();
    partition.written(&create_for("codes", r#"{"id":"a","code":"x","n":1}"#, 100));
    partition.written(&create("codes", r#"{"id":"b","n":2}"#));
    partition.wait(99);
    assert!(partition.got("codes", "a").is_some());
    partition.wait(1);
    assert_eq!(partition.got("codes", "a"), None);
    assert_eq!(partition.ids(list("codes", 1)), ["b"]);
    assert_eq!(partition.ids(by_index("codes", "n", 10)), ["b"]);
    assert_eq!(partition.refused(&update("codes", "a", "{}")), ErrorKind::NotFound);
    assert_eq!(partition.call(&delete("codes", "a")).unwrap(), Answer::Deleted(false));
    assert_eq!(partition.counted("codes"), 2);
    partition.check();
    partition.sweep();
    assert_eq!(partition.counted("codes"), 1);
    partition.check();
}

#[test]
fn what_an_expired_document_holds_is_free_to_take() {
    let mut partition = Partition::new();
    partition.call(&declare("codes", &[("code", true)])).unwrap();
    partition.written(&create_for("codes", r#"{"id":"a","code":"x"}"#, 1));
    partition.wait(1);
    partition.written(&create("codes", r#"{"id":"b","code":"x"}"#));
    let kinds: Vec<_> = partition.events.iter().map(|event| (&*event.id, event.kind)).collect();
    assert_eq!(kinds, [("a", EventKind::Expired), ("b", EventKind::Created)]);
    assert_eq!(partition.counted("codes"), 1);
    partition.written(&create_for("codes", r#"{"id":"c","code":"y"}"#, 1));
    partition.wait(1);
    partition.written(&create("codes", r#"{"id":"c","code":"y","again":true}"#));
    assert_eq!(partition.counted("codes"), 2);
    partition.check();
}

#[test]
fn the_life_of_a_document_follows_its_last_rule() {
    let mut partition = Partition::new();
    let definition = Definition { ttl_ms: Some(50), ..Definition::default() };
    partition.call(&Operation::Declare { collection: name("codes"), definition }).unwrap();
    partition.written(&create("codes", r#"{"id":"a"}"#));
    partition.written(&create_for("codes", r#"{"id":"b"}"#, 500));
    partition.wait(40);
    partition.written(&update("codes", "a", r#"{"kept":true}"#));
    partition.written(&replace("codes", "b", r#"{"shorter":true}"#));
    partition.check();
    partition.wait(10);
    assert_eq!(partition.ids(list("codes", 10)), ["b"]);
    partition.wait(40);
    assert_eq!(partition.ids(list("codes", 10)), [""; 0]);
    for ttl_ms in [0, u64::MAX] {
        assert_eq!(partition.refused(&create_for("codes", "{}", ttl_ms)), ErrorKind::InvalidInput);
    }
}

#[test]
fn a_batch_happens_whole_or_not_at_all() {
    let mut partition = Partition::new();
    let batch = Operation::Batch(vec![
        create("a", r#"{"id":"1"}"#),
        create("b", r#"{"id":"1"}"#),
        update("a", "1", r#"{"x":1}"#),
        get("a", "1"),
        delete("b", "1"),
        count("b"),
    ]);
    let Answer::Batch(answers) = partition.call(&batch).unwrap() else { panic!("a batch") };
    let version = Version(partition.sequence);
    assert!(matches!(&answers[3], Answer::Entry(Some(entry)) if entry.version == version));
    assert_eq!(answers[4..], [Answer::Deleted(true), Answer::Count(0)]);
    partition.check();
    let failing = Operation::Batch(vec![create("c", "{}"), create("c", "{}"), create("a", r#"{"id":"1"}"#)]);
    let before = partition.keys.clone();
    let error = partition.call(&failing).expect_err("the third one fails");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.to_string().contains("operation=2"), "{error}");
    assert_eq!(partition.keys, before);
}

#[test]
fn a_batch_holds_operations_of_callers_only_and_not_too_many() {
    let mut partition = Partition::new();
    for operation in [Operation::Batch(Vec::new()), Operation::Sweep, build_index("a", "b")] {
        assert_eq!(partition.refused(&Operation::Batch(vec![operation])), ErrorKind::InvalidInput);
    }
    assert_eq!(partition.refused(&Operation::Batch(vec![count("a"); 1_001])), ErrorKind::TooLarge);
    assert_eq!(partition.call(&Operation::Batch(Vec::new())).unwrap(), Answer::Batch(Vec::new()));
}

/// Where reads cross a network, a long batch must not cross it once an operation.
#[test]
fn a_batch_fetches_its_reads_together_and_keeps_its_order() {
    let mut partition = Partition::new();
    partition.call(&declare("things", &[("n", true)])).unwrap();
    let creates = (0..1_000).map(|n| create("things", &format!(r#"{{"id":"{n}","n":{n}}}"#))).collect();
    partition.call(&Operation::Batch(creates)).unwrap();
    assert!(partition.rounds <= 4, "rounds={}", partition.rounds);
    let expected: Vec<_> = (0..1_000).map(|n: u32| n.to_string()).collect();
    assert_eq!(partition.ids(list("things", 300)), expected);
    assert!(partition.page(&list("things", 999)).next.is_some());
    assert_eq!(partition.page(&list("things", 1_000)).next, None, "nothing lies behind a page that ends the list");
    partition.written(&create("things", "{}"));
    assert!(partition.page(&list("things", 1_000)).next.is_some());
    partition.check();
}

#[test]
fn operations_pass_through_json() {
    let order = Order::Index { index: "n".to_owned(), from: Some(Value::Null), to: None };
    let request = ListRequest { order, direction: Direction::Backward, ..list("things", 5) };
    let batch = Operation::Batch(vec![create("a", r#"{"x":1.50}"#), Operation::List(request), Operation::Sweep]);
    let text = serde_json::to_string(&batch).unwrap();
    assert_eq!(serde_json::from_str::<Operation>(&text).unwrap(), batch);
    let value = serde_json::to_value(&batch).unwrap();
    assert_eq!(serde_json::from_value::<Operation>(value).unwrap(), batch);
    let declared: Definition = serde_json::from_str(r#"{"indexes":[{"field":"price"}]}"#).unwrap();
    assert_eq!(declared.indexes, [IndexDefinition::by("price")]);
    let mut partition = Partition::new();
    let answer = partition.call(&create("a", "{}")).unwrap();
    let text = serde_json::to_string(&answer).unwrap();
    assert_eq!(serde_json::from_str::<Answer>(&text).unwrap(), answer);
}

#[test]
fn collections_are_known_from_their_first_write_on() {
    let mut partition = Partition::new();
    let describe = |collection| Operation::Describe { collection: name(collection) };
    assert_eq!(partition.refused(&describe("things")), ErrorKind::NotFound);
    let Answer::Collection(users) = partition.call(&describe("users")).unwrap() else { panic!("users") };
    assert_eq!((users.count, users.definition.partition_field.as_deref()), (0, Some("group")));
    partition.written(&create("things", "{}"));
    partition.call(&declare("empty", &[])).unwrap();
    let Answer::Collections(all) = partition.call(&Operation::Collections).unwrap() else { panic!("collections") };
    let all: Vec<_> = all.iter().map(|info| (info.name.as_str(), info.count)).collect();
    assert_eq!(all, [("empty", 0), ("things", 1)]);
}

#[test]
fn only_versions_from_a_record_on_are_renumbered() {
    let entry = |version| Entry { id: "a".to_owned(), version: Version(version), document: document("{}") };
    let mut answer = Answer::Batch(vec![
        Answer::Written(entry(10)),
        Answer::Entries(vec![Some(entry(9)), None]),
        Answer::Page(Page { entries: vec![entry(11)], next: None }),
    ]);
    crate::operation::renumber(&mut answer, 10, 5);
    let expected = Answer::Batch(vec![
        Answer::Written(entry(15)),
        Answer::Entries(vec![Some(entry(9)), None]),
        Answer::Page(Page { entries: vec![entry(16)], next: None }),
    ]);
    assert_eq!(answer, expected);
}
