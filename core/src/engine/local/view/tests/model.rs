//! The view against a map of versions: random writes, reads, drains and reopens, both ways.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::engine::{Direction, KeyRange, Snapshot, Versioned};

/// Every version of every key.
#[derive(Default)]
struct Model(BTreeMap<Bytes, BTreeMap<Sequence, Option<Bytes>>>);

impl Model {
    fn get(&self, key: &[u8], at: Sequence) -> Option<Versioned> {
        let (sequence, value) = self.0.get(key)?.range(..=at).next_back()?;
        Some(Versioned { value: value.clone()?, sequence: *sequence })
    }

    fn scan(&self, range: &KeyRange, direction: Direction, at: Sequence, limit: usize) -> Vec<(Bytes, Versioned)> {
        let mut all: Vec<_> = self.0.keys().filter(|key| range.contains(key)).collect();
        if direction == Direction::Backward {
            all.reverse();
        }
        all.into_iter().filter_map(|key| Some((key.clone(), self.get(key, at)?))).take(limit).collect()
    }
}

/// Short keys over few letters, so that they collide, are prefixes of each other and hit the edges.
fn key(random: &mut StdRng) -> Bytes {
    let letters = [0, 1, b'a', b'k', b'p', 0xff];
    let length = random.random_range(0..4);
    (0..length).map(|_| letters[random.random_range(0..letters.len())]).collect()
}

fn value(random: &mut StdRng, sequence: Sequence) -> Bytes {
    let length = match random.random_range(0..20) {
        0 => random.random_range(3_000..3_200),
        1 => random.random_range(3_200..20_000),
        _ => random.random_range(0..40),
    };
    let mut value = sequence.to_be_bytes().to_vec();
    value.resize(8 + length, random.random());
    value.into()
}

fn range(random: &mut StdRng) -> KeyRange {
    let end = random.random_bool(0.7).then(|| key(random));
    KeyRange { start: key(random), end }
}

fn compare(random: &mut StdRng, model: &Model, snapshot: &dyn Snapshot, story: &str) {
    let at = snapshot.sequence();
    for _ in 0..6 {
        let key = key(random);
        assert_eq!(snapshot.get(&key).unwrap(), model.get(&key, at), "{story} at={at} key={key:?}");
        let (range, limit) = (range(random), random.random_range(1..40));
        for direction in [Direction::Forward, Direction::Backward] {
            let page = snapshot.scan(&range, direction, limit).unwrap();
            let page: Vec<_> =
                page.into_iter().map(|e| (e.key, Versioned { value: e.value, sequence: e.sequence })).collect();
            let expected = model.scan(&range, direction, at, limit);
            assert!(page == expected, "{story} at={at} {direction:?} {range:?} limit={limit}\n{page:?}\n{expected:?}");
        }
    }
}

/// One life of a view: writes in groups of random size, reads at old and new snapshots, drains at
/// random moments, and (with a directory) reopens from what the manifest says.
pub(super) fn live(seed: u64, steps: usize, dir: Option<&Path>, options: &ViewOptions) {
    let mut random = StdRng::seed_from_u64(seed);
    let (manifest, mut model) = (Manifest::default(), Model::default());
    let mut view = View::open(dir, options.clone(), StoreState::Empty).unwrap();
    let mut log: Vec<(Sequence, Record)> = Vec::new();
    let mut held: Vec<Arc<dyn Snapshot>> = Vec::new();
    for step in 0..steps {
        let story = format!("seed={seed} step={step}");
        let records: Vec<_> = (0..random.random_range(1..4)).map(|_| Record::default()).collect();
        let first = view.published() + if random.random_bool(0.02) { 1 << 32 } else { 1 };
        let mut group = Vec::new();
        for (sequence, mut record) in (first..).zip(records) {
            let keys: std::collections::BTreeSet<_> =
                (0..random.random_range(1..5)).map(|_| key(&mut random)).collect();
            for key in keys {
                let value = random.random_bool(0.7).then(|| value(&mut random, sequence));
                model.0.entry(key.clone()).or_default().insert(sequence, value.clone());
                record.writes.push(value.map_or(Write::Delete { key: key.clone() }, |value| Write::Put { key, value }));
            }
            log.push((sequence, record.clone()));
            group.push(record);
        }
        let before = view.published();
        view.apply(first, &group).unwrap();
        assert_eq!(view.snapshot().sequence(), before, "{story}: read before it was published");
        compare(&mut random, &model, &*view.snapshot(), &story);
        view.publish(first + group.len() as u64 - 1);
        compare(&mut random, &model, &*view.snapshot(), &story);
        held.push(view.snapshot());
        if random.random_bool(0.3) {
            let old = &held[random.random_range(0..held.len())];
            compare(&mut random, &model, &**old, &story);
        }
        if random.random_bool(0.1) {
            // Mostly put off by the snapshots held, so that writes and reads go on over two memtables.
            let _ = view.checkpoint(&manifest).unwrap();
        }
        if random.random_bool(0.1) {
            held.clear();
            drained(&view, &manifest);
            assert!(view.verify().unwrap(), "{story}");
        }
        if let Some(dir) = dir.filter(|_| random.random_bool(0.04)) {
            held.clear();
            view.close(LONG).unwrap();
            view = reopen(dir, &manifest, &log);
        }
    }
    println!("seed={seed} steps={steps} records={} digest={:?}", log.len(), view.digest());
}

fn reopen(dir: &Path, manifest: &Manifest, log: &[(Sequence, Record)]) -> View {
    let view = View::open(Some(dir), options(), manifest.state()).unwrap();
    let from = view.published();
    for (sequence, record) in log.iter().filter(|(sequence, _)| *sequence > from) {
        view.apply(*sequence, std::slice::from_ref(record)).unwrap();
        view.publish(*sequence);
    }
    view
}

/// A version lost, doubled or resurrected by any interleaving of writes, drains and reads.
#[test]
fn memory_answers_like_the_model() {
    for seed in 0..12 {
        live(seed, 150, None, &options());
    }
}

/// The same through sled's order, prefixes, parts and recovery.
#[test]
fn sled_answers_like_the_model() {
    for seed in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        live(seed, 100, Some(&dir.path().join("view-1")), &options());
        let blobs = std::fs::read_dir(dir.path().join("view-1/blobs")).unwrap().count();
        assert_eq!(blobs, 0, "seed={seed}: sled keeps values in files that it never syncs");
    }
}
