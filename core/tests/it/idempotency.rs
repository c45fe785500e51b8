//! Idempotency keys: a repeated call is answered again and done once, over crashes too, for 24 h.

use std::sync::Arc;

use kappa_core::env::{Entropy, Env, ManualClock, SystemEntropy};
use kappa_core::{Collection, Entry, ErrorKind, Kappa, Result, WriteOptions};
use serde_json::{Value, json};

use crate::database::{THINGS, small};
use crate::ending::EndingFiles;

const KEPT_MS: u64 = 24 * 3_600 * 1_000;

struct Shop {
    place: tempfile::TempDir,
    clock: Arc<ManualClock>,
}

impl Shop {
    fn open(&self) -> (Kappa, EndingFiles, Collection) {
        let files = EndingFiles::default();
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let env = Env { clock: Arc::clone(&self.clock) as _, entropy, files: Arc::new(files.clone()) };
        let kappa = Kappa::open_with(self.place.path(), &small(), &env).unwrap();
        let collection = kappa.collection(THINGS).unwrap();
        (kappa, files, collection)
    }
}

fn order(collection: &Collection, key: &str, document: Value) -> Result<Entry> {
    collection.create_with(document, WriteOptions { idempotency_key: Some(key.into()), ..Default::default() }).wait()
}

/// A client that lost the answer sends its order again, perhaps to a server that has crashed since: a second
/// order would be delivered twice, and another order under the same key must not pass for the first.
#[test]
fn crash_and_reopen_keep_the_keys() {
    let shop = Shop { place: tempfile::tempdir().unwrap(), clock: Arc::new(ManualClock::new(1_000_000)) };
    let (kappa, _, collection) = shop.open();
    let first = order(&collection, "k", json!({"what": "a"})).unwrap();
    assert_eq!(order(&collection, "k", json!({"what": "a"})).unwrap(), first);
    kappa.close().unwrap();
    for crash in [false, true, true, false] {
        let (kappa, files, collection) = shop.open();
        assert_eq!(order(&collection, "k", json!({"what": "a"})).unwrap(), first, "crash={crash}");
        let other = order(&collection, "k", json!({"what": "b"})).unwrap_err();
        assert_eq!(other.kind(), ErrorKind::Conflict, "{other}");
        assert_eq!(collection.count().wait().unwrap(), 1, "done once");
        if crash {
            files.end();
        }
        drop((kappa, collection));
    }
}

/// Kept for less than it says, a key fails the client that waited out the night; kept for ever, it fills the disk.
#[test]
fn a_key_is_kept_for_a_day_of_engine_time() {
    let shop = Shop { place: tempfile::tempdir().unwrap(), clock: Arc::new(ManualClock::new(1_000_000)) };
    let (kappa, _, collection) = shop.open();
    let first = order(&collection, "k", json!({"what": "a"})).unwrap();
    shop.clock.advance(KEPT_MS - 1);
    assert_eq!(order(&collection, "k", json!({"what": "a"})).unwrap(), first);
    drop((kappa, collection));
    let (_kappa, _, collection) = shop.open();
    assert_eq!(order(&collection, "k", json!({"what": "a"})).unwrap(), first, "a restart gives no day away");
    shop.clock.advance(1);
    let second = order(&collection, "k", json!({"what": "b"})).unwrap();
    assert_ne!(second.id, first.id);
    assert_eq!(order(&collection, "k", json!({"what": "b"})).unwrap(), second, "the key is in use again");
    assert_eq!(collection.count().wait().unwrap(), 2);
}

/// Half of a repeated batch would be worse than none.
#[test]
fn a_batch_is_repeated_as_a_whole() {
    let shop = Shop { place: tempfile::tempdir().unwrap(), clock: Arc::new(ManualClock::new(1_000_000)) };
    let batch = |kappa: &Kappa, last: &str| {
        let batch = kappa.batch().create(THINGS, json!({"n": 1})).create(THINGS, json!({"n": 2}));
        batch.delete(THINGS, last).idempotency_key("k").commit().wait()
    };
    let (kappa, files, _) = shop.open();
    let first = batch(&kappa, "x").unwrap();
    files.end();
    drop(kappa);
    let (kappa, _, collection) = shop.open();
    assert_eq!(batch(&kappa, "x").unwrap(), first);
    assert_eq!(batch(&kappa, "y").unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(collection.count().wait().unwrap(), 2);
}
