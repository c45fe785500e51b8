//! The change feed: every change once and in order, from any cursor on, for as long as it is kept.

use std::time::Duration;

use kappa_core::{Change, Durability, ErrorKind, EventKind, Feed, FeedStart, Kappa, Options, ViewKind, WriteOptions};
use serde_json::json;

use crate::database::{self, open, small, things};
use crate::plan::Plan;
use crate::worker::run;

/// Longer than any answer takes; only a lost change makes a test wait for it.
const PATIENCE: Duration = Duration::from_secs(60);

fn rest(feed: &mut Feed) -> Vec<String> {
    let mut rest = Vec::new();
    while let Some(change) = feed.next_within(Duration::ZERO).unwrap() {
        rest.push(told(&change));
    }
    rest
}

fn told(change: &Change) -> String {
    let text = change.document.as_ref().map_or("", |document| document.text());
    format!("{} {} {:?} {} {} {text}", change.cursor, change.collection, change.kind, change.id, change.version)
}

fn after(kappa: &Kappa, cursor: &str) -> kappa_core::Result<Feed> {
    kappa.feed(FeedStart::After(cursor.to_owned())).wait()
}

/// A reader that stops anywhere, also in the middle of a batch, and goes on after a restart must neither miss
/// a change nor get one twice.
#[test]
fn every_cursor_resumes_with_exactly_the_rest() {
    let place = tempfile::tempdir().unwrap();
    let seed = database::seed(21);
    let mut kappa = open(place.path(), &small());
    let collection = things(&kappa);
    for step in Plan::new(seed, 1, 0, 100).take(120) {
        run(&kappa, &collection, &step);
    }
    let all = rest(&mut kappa.feed(FeedStart::Oldest).wait().unwrap());
    assert!(all.len() > 20, "changes={}", all.len());
    for reopened in [false, true] {
        if reopened {
            kappa.close().unwrap();
            kappa = open(place.path(), &small());
        }
        let mut feed = kappa.feed(FeedStart::Oldest).wait().unwrap();
        for n in 0..all.len() {
            let resumed = rest(&mut after(&kappa, feed.cursor()).unwrap());
            assert!(resumed == all[n..], "seed={seed} n={n} reopened={reopened}: {} of {}", resumed.len(), all.len());
            assert_eq!(told(&feed.next_within(PATIENCE).unwrap().unwrap()), all[n]);
        }
        assert_eq!(rest(&mut after(&kappa, feed.cursor()).unwrap()), Vec::<String>::new());
    }
}

/// A reader beside writers sees records while they become durable: too early, twice or in another order would
/// each break a cache that follows the feed.
#[test]
fn a_reader_beside_writers_sees_each_change_once_in_order() {
    const WRITERS: usize = 4;
    const WRITES: usize = 120;
    let place = tempfile::tempdir().unwrap();
    let kappa = open(place.path(), &small());
    let collection = things(&kappa);
    let mut feed = kappa.feed(FeedStart::Now).wait().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let collection = collection.clone();
            scope.spawn(move || {
                let id = writer.to_string();
                collection.create(json!({"id": id, "n": 0})).wait().unwrap();
                for n in 1..WRITES {
                    collection.update(&id, json!({"n": n})).wait().unwrap();
                }
            });
        }
        let mut seen = [0; WRITERS];
        let mut newest = None;
        for _ in 0..WRITERS * WRITES {
            let change = feed.next_within(PATIENCE).unwrap().expect("the next change comes");
            let writer: usize = change.id.parse().unwrap();
            let document = change.document.clone().unwrap();
            assert_eq!(document.fields()["n"], json!(seen[writer]), "writer={writer}");
            assert!(newest < Some(change.version), "{newest:?} before {:?}", change.version);
            let stored = collection.entry(&change.id).wait().unwrap().unwrap();
            assert!(stored.version >= change.version, "told before it could be read");
            newest = Some(change.version);
            seen[writer] += 1;
        }
        assert_eq!(seen, [WRITES; WRITERS]);
    });
    assert!(feed.next_within(Duration::ZERO).unwrap().is_none(), "and nothing twice");
}

/// A reader that fell too far behind has to be told so: a silent gap would leave its copy wrong for ever.
#[test]
fn a_cursor_before_what_is_kept_has_expired() {
    let place = tempfile::tempdir().unwrap();
    let options = Options { log_retention_bytes: 0, merge_bytes: 1, view: ViewKind::Memory, ..small() };
    let kappa = open(place.path(), &options);
    let collection = things(&kappa);
    let mut slow = kappa.feed(FeedStart::Oldest).wait().unwrap();
    let start = kappa.info().unwrap().oldest;
    let mut writes = 0;
    while kappa.info().unwrap().oldest == start {
        writes += 1;
        assert!(writes < 4_000, "no merge lets the log go");
        let document = json!({"id": (writes % 8).to_string(), "filling": "k".repeat(60_000)});
        let written = if writes <= 8 { collection.create(document) } else { collection.replace("0", document) };
        written.wait().map_or_else(|error| assert_eq!(error.kind(), ErrorKind::InvalidInput), drop);
    }
    let cursor = slow.cursor().to_owned();
    assert_eq!(after(&kappa, &cursor).unwrap_err().kind(), ErrorKind::Expired);
    let expired = loop {
        match slow.next_within(PATIENCE) {
            Ok(change) => assert!(change.is_some(), "what was read before may still come"),
            Err(error) => break error,
        }
    };
    assert_eq!(expired.kind(), ErrorKind::Expired, "{expired}");
    let mut kept = kappa.feed(FeedStart::Oldest).wait().unwrap();
    assert!(kept.next_within(PATIENCE).unwrap().is_some(), "what is kept can be read");
    drop(kept);
    drop(slow);
    drop(collection);
    kappa.close().unwrap();
    let kappa = open(place.path(), &options);
    assert_eq!(after(&kappa, &cursor).unwrap_err().kind(), ErrorKind::Expired);
    assert_eq!(things(&kappa).count().wait().unwrap(), 8, "documents stay");
}

/// A log that goes by bytes alone would keep what its owner wanted gone by now, and one that cannot tell old changes
/// from new ones would send every reader back to its start.
#[test]
fn a_cursor_older_than_the_retention_has_expired_and_a_newer_one_goes_on() {
    const ENOUGH: usize = 200;
    let place = tempfile::tempdir().unwrap();
    let log_retention = Duration::from_hours(1);
    let options = Options { log_retention, merge_bytes: 1, view: ViewKind::Memory, ..small() };
    let (kappa, clock) = database::open_with_clock(place.path(), &options);
    let collection = things(&kappa);
    let start = kappa.info().unwrap().oldest;
    collection.create(json!({"id": "a"})).wait().unwrap();
    let write = || drop(collection.replace("a", json!({"id": "a", "filling": "k".repeat(60_000)})).wait().unwrap());
    let cursor_of_now = || kappa.feed(FeedStart::Now).wait().unwrap().cursor().to_owned();
    let old = cursor_of_now();
    // More than a segment, so that one holds nothing but old changes.
    for _ in 0..100 {
        write();
    }
    clock.advance(2 * 3_600_000);
    write();
    let new = cursor_of_now();
    let mut writes = 0;
    // Segments of new changes are sealed and merged as well, and must stay.
    while writes < ENOUGH || kappa.info().unwrap().oldest == start {
        writes += 1;
        assert!(writes < 3_000, "nothing goes although it is too old, and the bytes are within their limit");
        write();
    }
    assert_eq!(after(&kappa, &old).unwrap_err().kind(), ErrorKind::Expired);
    assert_eq!(rest(&mut after(&kappa, &new).unwrap()).len(), writes);
}

/// A document that nobody asks for any more would stay in the count, on the disk and in every cache behind the feed.
#[test]
fn a_document_that_ended_is_swept_without_being_asked_for() {
    // What is promised; a sweep is due once a second.
    const SWEPT_WITHIN: Duration = Duration::from_secs(10);
    let place = tempfile::tempdir().unwrap();
    let (kappa, clock) = database::open_with_clock(place.path(), &small());
    let collection = things(&kappa);
    let ends = WriteOptions { ttl: Some(Duration::from_secs(5)), ..WriteOptions::default() };
    collection.create_with(json!({"id": "ends"}), ends).wait().unwrap();
    collection.create(json!({"id": "stays"})).wait().unwrap();
    let mut feed = kappa.feed(FeedStart::Now).wait().unwrap();
    clock.advance(6_000);
    let change = feed.next_within(SWEPT_WITHIN).unwrap().expect("it is swept in time");
    assert_eq!((change.kind, change.id.as_str()), (EventKind::Expired, "ends"));
    assert_eq!(collection.count().wait().unwrap(), 1);
    assert!(collection.get("stays").wait().unwrap().is_some());
}

/// A cursor of yesterday's database, restored from elsewhere, names records that were never there.
#[test]
fn cursors_of_others_are_refused() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, two) = (open(one.path(), &small()), open(two.path(), &small()));
    things(&one).create(json!({"id": "a"})).wait().unwrap();
    let mut feed = one.feed(FeedStart::Oldest).wait().unwrap();
    feed.next_within(PATIENCE).unwrap().unwrap();
    assert_eq!(after(&two, feed.cursor()).unwrap_err().kind(), ErrorKind::Expired);
    for text in ["", "nonsense", &feed.cursor()[1..]] {
        assert_eq!(after(&one, text).unwrap_err().kind(), ErrorKind::InvalidInput, "{text}");
    }
}

/// A cache starts with a cursor, then a list, then follows the feed. Were the cursor ahead of what can be read,
/// a change in between would be missing from the cache for ever.
#[test]
fn what_cannot_be_read_yet_lies_behind_a_cursor_of_now() {
    const WRITERS: usize = 3;
    const WRITES: usize = 200;
    let place = tempfile::tempdir().unwrap();
    let kappa = open(place.path(), &Options { durability: Durability::Written, ..small() });
    let collection = things(&kappa);
    let mut begun = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| (0..WRITES).for_each(|n| drop(collection.create(json!({"n": n})).wait().unwrap())));
        }
        let mut known = 0;
        while known < WRITERS * WRITES {
            let feed = kappa.feed(FeedStart::Now).wait().unwrap();
            let count = usize::try_from(collection.count().wait().unwrap()).unwrap();
            // Two that know the same are one.
            if count > known {
                begun.push((feed, count));
            }
            known = count;
        }
    });
    for (mut feed, known) in begun {
        let told = rest(&mut feed).len();
        assert!(known + told >= WRITERS * WRITES, "known={known} told={told}: some are in neither");
    }
}
