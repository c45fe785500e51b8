//! Directories written by released formats, committed as they were: every later build must open them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kappa_core::env::{Env, ManualClock, SeededEntropy};
use kappa_core::{FeedStart, Kappa, Options, ViewKind, WriteOptions};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::database::{THINGS, small, tell, things};
use crate::ending::EndingFiles;
use crate::worker::{Content, content, read_changes};

/// With this variable the test for a version writes its fixture anew. Only for a version that was never
/// released: a fixture that follows the code protects nothing.
const WRITE: &str = "KAPPA_TEST_WRITE_FIXTURE";
/// When the fixture's clock was read, in milliseconds.
const THEN: i64 = 1_760_000_000_000;
const PARTITION: &str = "partition-0000";

/// What a fixture holds, and how long its files are: the zeros at their ends are not committed.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Listing {
    lengths: BTreeMap<String, u64>,
    documents: BTreeMap<String, Vec<(String, String, String)>>,
    by_n: Vec<String>,
    by_u: Vec<String>,
    changes: Vec<(String, String, String, Option<String>)>,
}

fn fixture(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(version)
}

fn at(directory: &Path, options: &Options) -> (Kappa, EndingFiles) {
    let files = EndingFiles::default();
    let clock = Arc::new(ManualClock::new(THEN));
    let env = Env { clock, entropy: Arc::new(SeededEntropy::new(1)), files: Arc::new(files.clone()) };
    (Kappa::open_with(directory, options, &env).unwrap(), files)
}

fn listing(kappa: &Kappa) -> Listing {
    let things = kappa.collection(THINGS).unwrap();
    let Content { by_n, by_u, .. } = content(kappa, &things, None);
    let mut documents = BTreeMap::new();
    for name in [THINGS, "products", "users"] {
        let list = kappa.collection(name).unwrap().list();
        let texts = list.iter().map(Result::unwrap);
        let texts = texts.map(|entry| (entry.id, entry.version.to_string(), entry.document.text().to_owned()));
        documents.insert(name.to_owned(), texts.collect());
    }
    let changes = read_changes(&mut kappa.feed(FeedStart::Oldest).wait().unwrap());
    Listing { lengths: BTreeMap::new(), documents, by_n, by_u, changes }
}

/// Every form that version 1 has on disk: a base that holds most documents, a tail with each kind of event,
/// values over 3 KiB, digits, an end in the far future, an idempotency key; and no clean end.
fn write_version_one(directory: &Path) {
    let options = Options { log_retention_bytes: 0, merge_bytes: 1, memtable_bytes: 4 << 10, ..small() };
    let (kappa, files) = at(directory, &options);
    let collection = things(&kappa);
    collection.create(json!({"id": "old", "n": 2, "u": "x"})).wait().unwrap();
    collection.create(json!({"id": "large", "n": 10, "filling": "k".repeat(4_000)})).wait().unwrap();
    let digits = r#"{"id":"digits","n":1.50,"exact":12345678901234567890.10,"deep":[{"a":[null,true,"é\n"]}]}"#;
    collection.create(kappa_core::Document::parse(digits).unwrap()).wait().unwrap();
    kappa.products().create(json!({"id": "1", "title": "Escuadra", "price": 123.45})).wait().unwrap();
    kappa.users().create(json!({"id": "ana", "name": "Ana", "email": "ana@example.org", "group": 7})).wait().unwrap();
    let before = kappa.info().unwrap().oldest;
    for n in 0..4_000 {
        // Less and less: what comes behind the sealed segment is committed with the fixture.
        let bytes = [100_000, 14_000, 400][usize::from(n >= 40) + usize::from(n >= 50)];
        let filler = json!({"id": "filler", "filling": "k".repeat(bytes)});
        kappa.batch().create("filler", filler).delete("gone", "x").commit().wait().unwrap();
        kappa.collection("filler").unwrap().delete("filler").wait().unwrap();
        if kappa.info().unwrap().oldest > before {
            tell(&format!("the base was made after {n} rounds"));
            break;
        }
    }
    assert!(kappa.info().unwrap().oldest > before, "there is a base");
    collection.update("old", json!({"n": -1, "more": {"a": 1}})).wait().unwrap();
    let ttl = WriteOptions { ttl: Some(Duration::from_hours(24 * 365 * 50)), ..Default::default() };
    collection.create_with(json!({"id": "ends", "n": null, "u": "y"}), ttl).wait().unwrap();
    let key = WriteOptions { idempotency_key: Some("key".into()), ..Default::default() };
    collection.create_with(json!({"id": "once", "n": "text"}), key).wait().unwrap();
    let batch = kappa.batch().create(THINGS, json!({"id": "a", "n": false})).delete(THINGS, "large");
    batch.replace("products", "1", json!({"title": "Regla", "price": 9})).commit().wait().unwrap();
    collection.create(json!({"id": "last", "n": 3})).wait().unwrap();
    // The process ends here; closing reaches no file any more.
    files.end();
}

/// Takes what `directory` holds into the fixture, without the view, the lock and the zeros at the ends of files.
fn commit(directory: &Path, fixture: &Path, mut listing: Listing) {
    let target = fixture.join(PARTITION);
    std::fs::create_dir_all(&target).unwrap();
    for entry in std::fs::read_dir(directory.join(PARTITION)).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            continue;
        }
        let name = entry.file_name().into_string().unwrap();
        let bytes = std::fs::read(entry.path()).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        listing.lengths.insert(name.clone(), bytes.len() as u64);
        std::fs::write(target.join(name), &bytes[..used]).unwrap();
    }
    let text = serde_json::to_string_pretty(&listing).unwrap();
    std::fs::write(fixture.join("content.json"), text + "\n").unwrap();
}

/// Lays the fixture out as it was.
fn restore(fixture: &Path, directory: &Path) -> Listing {
    let listing: Listing = serde_json::from_slice(&std::fs::read(fixture.join("content.json")).unwrap()).unwrap();
    std::fs::create_dir_all(directory.join(PARTITION)).unwrap();
    for (name, length) in &listing.lengths {
        let path = directory.join(PARTITION).join(name);
        std::fs::copy(fixture.join(PARTITION).join(name), &path).unwrap();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(*length).unwrap();
    }
    listing
}

/// A build that reads yesterday's directory otherwise than the one that wrote it has lost somebody's data,
/// and no test that writes and reads with one build can see it.
#[test]
fn version_one_is_read_as_it_was_written() {
    let fixture = fixture("v1");
    if std::env::var_os(WRITE).is_some() {
        let place = tempfile::tempdir().unwrap();
        write_version_one(place.path());
        let copy = tempfile::tempdir().unwrap();
        commit(place.path(), &fixture, Listing::default());
        restore(&fixture, copy.path());
        let found = listing(&at(copy.path(), &small()).0);
        commit(place.path(), &fixture, found);
    }
    for view in [ViewKind::Sled, ViewKind::Memory] {
        let place = tempfile::tempdir().unwrap();
        let expected = restore(&fixture, place.path());
        let (kappa, _) = at(place.path(), &Options { view, ..small() });
        let said = kappa.info().unwrap().recovery;
        let rebuilt = said.iter().any(|text| text.contains("the view was rebuilt"));
        assert_eq!(rebuilt, view == ViewKind::Sled, "the fixture has no view: {said:?}");
        let found = listing(&kappa);
        assert_eq!(found, Listing { lengths: BTreeMap::new(), ..expected }, "view={view:?}");
        let ids: Vec<_> = found.documents[THINGS].iter().map(|(id, ..)| id.as_str()).collect();
        assert_eq!(ids, ["old", "digits", "ends", "once", "a", "last"], "the fixture itself is whole");
        let collection = things(&kappa);
        let key = || WriteOptions { idempotency_key: Some("key".into()), ..Default::default() };
        let again = collection.create_with(json!({"id": "once", "n": "text"}), key()).wait().unwrap();
        assert_eq!(again.version.to_string(), found.documents[THINGS][3].1, "the key was kept");
        let new = collection.create(json!({"id": "new", "n": 0})).wait().unwrap();
        assert!(found.documents[THINGS].iter().all(|(_, version, _)| version.parse::<u64>().unwrap() < new.version.0));
        drop((kappa, collection));
        let (kappa, _) = at(place.path(), &Options { view, ..small() });
        let reopened = listing(&kappa);
        assert_eq!(reopened.documents[THINGS].len(), ids.len() + 1);
        assert_eq!(reopened.by_n, ["ends", "a", "old", "new", "digits", "last", "once"]);
        assert_eq!(reopened.changes.len(), found.changes.len() + 1);
    }
}
