//! The typed stores over a partition in this process.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::engine::memory::MemoryEngine;
use crate::env::Env;
use crate::executor::Executor;
use crate::executor::local::{About, Local};
use crate::options::Options;
use crate::store::handle::{Batch, Collection, Products, Users, WriteOptions};

fn open() -> Arc<dyn Executor> {
    let about = About { database: [7; 16], instance: 7, view: "memory", recovery: Vec::new() };
    let engine = Arc::new(MemoryEngine::default());
    Arc::new(Local::start(engine, about, None, &Options::default(), &Env::default()).unwrap())
}

#[test]
fn a_collection_offers_every_call() {
    let things = Collection::new(open(), name("things"));
    let entry = things.create(json!({"n": 1})).wait().unwrap();
    let named = WriteOptions { id: Some("b".to_owned()), ttl: Some(Duration::from_secs(1)), ..WriteOptions::default() };
    things.create_with(json!({"n": 2}).as_object().unwrap(), named.clone()).wait().unwrap();
    assert_eq!(things.get("b").wait().unwrap().unwrap().text(), r#"{"id":"b","n":2}"#);
    assert_eq!(things.entry(&entry.id).wait().unwrap(), Some(entry.clone()));
    assert_eq!(things.get_many(["b", "x"]).wait().unwrap().iter().flatten().count(), 1);
    let stale = WriteOptions { if_version: Some(Version(1)), ..WriteOptions::default() };
    let error = things.update_with("b", json!({}), stale.clone()).wait().expect_err("stale");
    assert_eq!(error.kind(), ErrorKind::VersionMismatch);
    assert_eq!(things.update("b", json!({"n": 3})).wait().unwrap().document.text(), r#"{"id":"b","n":3}"#);
    assert_eq!(things.replace("b", document(r#"{"m":4}"#)).wait().unwrap().document.text(), r#"{"id":"b","m":4}"#);
    assert_eq!(things.count().wait().unwrap(), 2);
    assert!(things.delete("b").wait().unwrap());
    assert!(!things.delete_with("b", stale.clone()).wait().unwrap());
    for error in [
        things.create_with(json!({}), stale).wait().expect_err("a version for a new document"),
        things.create_with(json!({"id": "c"}), named.clone()).wait().expect_err("two ids"),
        things.replace_with("b", json!({}), named.clone()).wait().expect_err("two ids"),
        things.update_with("b", json!({}), named.clone()).wait().expect_err("two ids"),
        things.delete_with("b", named).wait().expect_err("two ids"),
        things.create(json!([])).wait().expect_err("no object"),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}

#[test]
fn an_idempotency_key_reaches_the_partition() {
    let things = Collection::new(open(), name("things"));
    let keyed = || WriteOptions { idempotency_key: Some("k".to_owned()), ..WriteOptions::default() };
    let first = things.create_with(json!({}), keyed()).wait().unwrap();
    assert_eq!(things.create_with(json!({}), keyed()).wait().unwrap(), first);
    assert_eq!(things.count().wait().unwrap(), 1);
}

#[test]
fn a_list_is_described_and_then_walked() {
    let things = Collection::new(open(), name("things"));
    for n in 0..25 {
        things.create(json!({"id": format!("{n:02}"), "n": n % 5})).wait().unwrap();
    }
    let index = IndexDefinition { name: "by_n".to_owned(), field: "n".to_owned(), unique: false };
    let declared = things.declare(Definition { indexes: vec![index], ..Definition::default() }).wait().unwrap();
    assert!(declared.building.is_empty(), "declaring waits until the index is ready");
    let ids =
        |list: crate::store::handle::List| -> Vec<String> { list.iter().map(|entry| entry.unwrap().id).collect() };
    assert_eq!(ids(things.list()).len(), 25);
    assert_eq!(ids(things.list().page_size(2).backward().limit(3)), ["24", "23", "22"]);
    assert_eq!(ids(things.list().by("by_n").equal(3).page_size(2)), ["03", "08", "13", "18", "23"]);
    assert_eq!(ids(things.list().by("by_n").from(3).to(4).limit(6)).last().unwrap(), "04");
    assert_eq!(ids(things.list().limit(0)), [""; 0]);
    let page = things.list().page_size(10).page().wait().unwrap();
    let next = things.list().page_size(10).after(page.next.unwrap()).page().wait().unwrap();
    assert_eq!(next.entries[0].id, "10");
    let unbounded = things.list().equal(1).page().wait().expect_err("no index");
    assert_eq!(unbounded.kind(), ErrorKind::InvalidInput);
    let walked: Vec<_> = things.list().by("none").iter().collect();
    assert!(matches!(&walked[..], [Err(error)] if error.kind() == ErrorKind::NotFound));
    assert!(things.drop_index("by_n").wait().unwrap().definition.indexes.is_empty());
}

#[test]
fn declaring_a_unique_index_over_duplicates_fails_and_leaves_none() {
    let things = Collection::new(open(), name("things"));
    things.create(json!({"id": "a", "n": 1})).wait().unwrap();
    things.create(json!({"id": "b", "n": 1.0})).wait().unwrap();
    let index = IndexDefinition { name: "n".to_owned(), field: "n".to_owned(), unique: true };
    let definition = Definition { indexes: vec![index], ..Definition::default() };
    let error = things.declare(definition).wait().expect_err("duplicates");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(things.describe().wait().unwrap().definition.indexes.is_empty());
}

#[test]
fn products_users_and_batches_share_one_partition() {
    let here = open();
    let (products, users) = (Products::new(here.clone()), Users::new(here.clone()));
    for product in Products::mock(3, 1) {
        products.create(product).wait().unwrap();
    }
    users.create(json!({"id": "ana", "group": 0})).wait().unwrap();
    assert_eq!(products.create(json!({})).wait().expect_err("no product").kind(), ErrorKind::InvalidInput);
    let answers = Batch::new(here.clone())
        .update("users", "ana", json!({"group": 1}))
        .delete("products", "1")
        .create("orders", json!({"user": "ana"}))
        .commit()
        .wait()
        .unwrap();
    assert_eq!(answers.len(), 3);
    assert_eq!(products.count().wait().unwrap(), 2);
    assert_eq!(users.get("ana").wait().unwrap().unwrap().fields()["group"], 1);
    let failed = Batch::new(here).create("orders", json!({})).create("No Name", json!({})).commit().wait();
    assert!(failed.expect_err("a bad name").to_string().contains("operation=1"));
    assert_eq!(users.as_collection().name().as_str(), "users");
}
