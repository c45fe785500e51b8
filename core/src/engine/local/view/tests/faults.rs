//! A store that fails, loses or is looked at in the wrong moment.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::engine::local::view::memory_store::MemoryStore;
use crate::engine::local::view::rebuild::rebuild;
use crate::engine::local::view::store::{Abandoned, Change, Ordered, StoreResult, StoredEntry};
use crate::engine::{Direction, KeyRange, KeyValue, Versioned};
use crate::error::ErrorKind;

/// What happens at a read of the store.
type Hook = Box<dyn Fn(&[u8]) + Send + Sync>;

/// A memory store that outlives its view, like a disk, and fails at a chosen call.
#[derive(Default)]
pub(super) struct Faulty {
    pub content: Arc<MemoryStore>,
    /// Calls and changes that still succeed; none set means all.
    pub left: Option<AtomicI64>,
    /// Changes to this key are lost, and nobody is told.
    pub loses: Option<Bytes>,
    pub on_get: Option<Hook>,
    /// Before each change is written.
    pub on_change: Option<Hook>,
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty").field("left", &self.left).finish_non_exhaustive()
    }
}

impl Faulty {
    fn step(&self) -> StoreResult<()> {
        match &self.left {
            Some(left) if left.fetch_sub(1, Ordering::Relaxed) <= 0 => Err(Abandoned::new("the disk is gone")),
            _ => Ok(()),
        }
    }
}

impl Ordered for Faulty {
    fn get(&self, key: &[u8]) -> StoreResult<Option<Versioned>> {
        self.step()?;
        let found = self.content.get(key);
        if let Some(hook) = &self.on_get {
            hook(key);
        }
        found
    }

    fn sequences_of(&self, keys: &[Bytes]) -> StoreResult<Vec<Option<Sequence>>> {
        self.step()?;
        self.content.sequences_of(keys)
    }

    fn scan(&self, range: &KeyRange, direction: Direction, limit: usize) -> StoreResult<Vec<StoredEntry>> {
        self.step()?;
        self.content.scan(range, direction, limit)
    }

    fn load(&self, entry: &StoredEntry) -> StoreResult<Bytes> {
        self.content.load(entry)
    }

    fn write(&self, changes: Vec<Change>) -> StoreResult<()> {
        for change in changes {
            if let Some(hook) = &self.on_change {
                hook(&change.key);
            }
            self.step()?;
            if self.loses.as_ref() != Some(&change.key) {
                self.content.write(vec![change])?;
            }
        }
        Ok(())
    }

    fn sweep(&self) -> StoreResult<()> {
        Ok(())
    }

    fn flush(&self) -> StoreResult<()> {
        self.step()
    }

    fn is_persistent(&self) -> bool {
        true
    }

    fn close(&self) -> StoreResult<()> {
        self.step()
    }
}

fn over(store: Faulty, options: ViewOptions, state: StoreState) -> View {
    View::over(Box::new(store), options, state).unwrap()
}

/// The log of the stories below: two checkpoints' worth of puts, overwrites and deletes.
fn log() -> Vec<Vec<Write>> {
    let key = |number: u8| [b'k', number];
    let first = (0..6).map(|number| vec![put(&key(number), &[number])]);
    let second = [
        vec![put(&key(0), b"again"), delete(&key(1))],
        vec![put(&key(9), b"new"), put(&key(2), b"again")],
        vec![delete(&key(9)), put(&key(2), b"and again")],
        vec![delete(&key(3)), put(&key(8), b"new")],
    ];
    first.chain(second).collect()
}

const FIRST_CHECKPOINT: u64 = 6;

fn everything(view: &View) -> Result<Vec<KeyValue>> {
    view.snapshot().scan(&KeyRange::prefix(b""), Direction::Forward, 1_000)
}

fn expected() -> Vec<KeyValue> {
    let view = memory(options());
    for (sequence, writes) in (1..).zip(log()) {
        commit(&view, sequence, writes);
    }
    everything(&view).unwrap()
}

/// Applies the log behind `from` and drains where the story says; what failed on the way.
fn play(view: &View, manifest: &Manifest, from: Sequence) -> Result<Vec<KeyValue>> {
    for (sequence, writes) in (1..).zip(log()).filter(|(sequence, _)| *sequence > from) {
        commit(view, sequence, writes);
        let redo = matches!(manifest.state(), StoreState::Draining { to, .. } if to == sequence);
        if redo || sequence == FIRST_CHECKPOINT || sequence == log().len() as u64 {
            let _ = view.checkpoint(manifest)?;
        }
    }
    everything(view)
}

/// Fails at the n-th call, for every n: no wrong answer, every later call says `Unavailable`, and a
/// view opened from what the manifest says (the disk back again) comes to the right content.
#[test]
fn a_failure_at_any_call_ends_in_the_right_content() {
    let expected = expected();
    let mut failures = 0;
    for calls in 1.. {
        let (manifest, content) = (Manifest::default(), Arc::new(MemoryStore::default()));
        let left = Some(AtomicI64::new(calls));
        let view =
            over(Faulty { content: Arc::clone(&content), left, ..Faulty::default() }, options(), StoreState::Empty);
        match play(&view, &manifest, 0) {
            Ok(found) => assert_eq!(found, expected, "calls={calls}"),
            Err(error) => {
                failures += 1;
                assert_eq!(error.kind(), ErrorKind::Unavailable, "calls={calls}");
                assert!(view.abandoned().is_some());
                assert_eq!(view.checkpoint(&manifest).unwrap_err().kind(), ErrorKind::Unavailable);
                assert_eq!(view.wait_for_room(LONG).unwrap_err().kind(), ErrorKind::Unavailable);
                view.close(LONG).unwrap();
            }
        }
        let ended = view.abandoned().is_none();
        let again = over(Faulty { content, ..Faulty::default() }, options(), manifest.state());
        assert_eq!(play(&again, &manifest, again.published()).unwrap(), expected, "calls={calls}");
        assert!(again.verify().unwrap(), "calls={calls}");
        if ended {
            println!("calls={calls} failures={failures}");
            assert!(failures > 12, "the loop ended before it met the drains");
            return;
        }
    }
}

/// A store that loses one change in silence, as sled's recovery does: the next comparison finds it.
#[test]
fn a_lost_change_is_found_for_every_key() {
    for entry in expected() {
        let manifest = Manifest::default();
        let store = Faulty { loses: Some(entry.key.clone()), ..Faulty::default() };
        let view = over(store, options(), StoreState::Empty);
        play(&view, &manifest, 0).unwrap();
        let error = view.verify().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "key={:?}", entry.key);
        // Nothing that the store says is handed out any more.
        assert!(view.get(b"absent").is_err() && everything(&view).is_err());
    }
}

/// A drain that lost a change before a crash must not be believed because the next one went well.
#[test]
fn a_repeated_drain_is_compared() {
    let (manifest, content) = (Manifest::default(), Arc::new(MemoryStore::default()));
    let view = over(Faulty { content: Arc::clone(&content), ..Faulty::default() }, options(), StoreState::Empty);
    play(&view, &manifest, 0).unwrap();
    let StoreState::At { at, digest } = manifest.state() else { panic!("{manifest:?}") };
    *manifest.0.lock() = StoreState::Draining { from: FIRST_CHECKPOINT, to: at, digest };
    content.write(vec![Change { key: Bytes::from_static(b"k\x05"), state: None }]).unwrap();
    let view = over(Faulty { content, ..Faulty::default() }, options(), manifest.state());
    assert_eq!(view.digest(), None);
    assert_eq!(play(&view, &manifest, FIRST_CHECKPOINT).unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(matches!(manifest.state(), StoreState::Draining { .. }));
}

/// The cache race: between a read of the store and its fill, a freeze and a newer write pass by.
pub(super) fn cache_never_answers_an_old_version(options: &ViewOptions) {
    let (slot, manifest) = (Arc::new(Mutex::new(None::<View>)), Arc::new(Manifest::default()));
    let hook: Hook = {
        let (slot, manifest) = (Arc::clone(&slot), Arc::clone(&manifest));
        Box::new(move |key| {
            if let Some(view) = slot.lock().take() {
                assert_eq!(view.checkpoint(&*manifest).unwrap(), Checkpoint::Postponed);
                commit(&view, 3, vec![put(key, b"new")]);
            }
        })
    };
    let store = Faulty { on_get: Some(hook), ..Faulty::default() };
    let view =
        over(store, ViewOptions { snapshot_wait: Duration::from_millis(1), ..options.clone() }, StoreState::Empty);
    commit(&view, 1, vec![put(b"k", b"old")]);
    drained(&view, &manifest);
    commit(&view, 2, vec![put(b"other", b"x")]);
    *slot.lock() = Some(view.clone());
    assert_eq!(view.get(b"k").unwrap().unwrap().value, "old");
    assert_eq!(value_of(&view, b"k").unwrap(), "new");
    drained(&view, &manifest);
    drained(&view, &manifest);
    assert_eq!(value_of(&view, b"k").unwrap(), "new");
}

#[test]
fn the_cache_is_not_filled_across_a_freeze() {
    cache_never_answers_an_old_version(&options());
}

/// Hot reads must not reach the store at all, and a write to a hot key must not push it out.
#[test]
fn a_hot_key_is_answered_without_the_store() {
    let reads = Arc::new(AtomicI64::new(0));
    let counter = Arc::clone(&reads);
    let on_get: Option<Hook> = Some(Box::new(move |_| _ = counter.fetch_add(1, Ordering::Relaxed)));
    let (view, manifest) =
        (over(Faulty { on_get, ..Faulty::default() }, options(), StoreState::Empty), Manifest::default());
    commit(&view, 1, vec![put(b"k", b"1")]);
    drained(&view, &manifest);
    for _ in 0..10 {
        assert_eq!(value_of(&view, b"k").unwrap(), "1");
    }
    commit(&view, 2, vec![put(b"k", b"2")]);
    drained(&view, &manifest);
    assert_eq!(value_of(&view, b"k").unwrap(), "2");
    assert_eq!(reads.load(Ordering::Relaxed), 1);
}

/// A rebuild gives the view that the log describes, tells how far it is, and can be broken off.
#[test]
fn a_rebuild_takes_the_base_and_the_tail() {
    let base: Vec<_> = (0..2_000_u32)
        .map(|number| KeyValue {
            key: Bytes::copy_from_slice(&number.to_be_bytes()),
            value: Bytes::from(vec![7; number as usize % 50]),
            sequence: u64::from(number) + 1,
        })
        .collect();
    let mut seen = Vec::new();
    let entries = || base.iter().cloned().map(Ok);
    let (view, digest) = rebuild(None, options(), 2_000, entries(), &mut |progress| {
        seen.push(progress.entries);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(seen, [512, 1_024, 1_536, 2_000]);
    assert_eq!((view.digest(), digest.count), (Some((2_000, digest)), 2_000));
    assert!(view.verify().unwrap());
    commit(&view, 2_001, vec![delete(&base[0].key)]);
    assert_eq!(everything(&view).unwrap(), base[1..=1_000]);
    let broken_off = rebuild(None, options(), 2_000, entries(), &mut |_| ControlFlow::Break(())).unwrap_err();
    assert_eq!(broken_off.kind(), ErrorKind::Cancelled);
}
