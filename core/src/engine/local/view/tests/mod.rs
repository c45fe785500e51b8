//! Tests of the view as a whole, over memory, over sled and over a store that fails.

mod blocks;
mod drain;
mod faults;
mod model;
mod planted;
mod sled;

use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::View;
use super::digest::Digest;
use super::options::{Checkpoint, CheckpointLog, StoreState, ViewOptions};
use crate::engine::{Record, Sequence, Write};
use crate::error::Result;

/// Long enough that only a defect reaches it.
const LONG: Duration = Duration::from_mins(1);

/// The owner's manifest, kept in memory.
#[derive(Debug)]
pub struct Manifest(pub Mutex<StoreState>);

impl Default for Manifest {
    fn default() -> Self {
        Self(Mutex::new(StoreState::Empty))
    }
}

impl Manifest {
    fn state(&self) -> StoreState {
        *self.0.lock()
    }
}

impl CheckpointLog for Manifest {
    fn draining(&self, to: Sequence, digest: Digest) -> Result<()> {
        let mut state = self.0.lock();
        let from = match *state {
            StoreState::Empty => 0,
            StoreState::At { at, .. } => at,
            StoreState::Draining { from, .. } => from,
        };
        *state = StoreState::Draining { from, to, digest };
        Ok(())
    }

    fn drained(&self, at: Sequence, digest: Digest) -> Result<()> {
        *self.0.lock() = StoreState::At { at, digest };
        Ok(())
    }
}

fn options() -> ViewOptions {
    let snapshot_wait = Duration::from_millis(2);
    ViewOptions { memtable_bytes: 1 << 20, cache_bytes: 1 << 20, salt: 42, snapshot_wait, ..ViewOptions::default() }
}

fn put(key: &[u8], value: &[u8]) -> Write {
    Write::Put { key: Bytes::copy_from_slice(key), value: Bytes::copy_from_slice(value) }
}

fn delete(key: &[u8]) -> Write {
    Write::Delete { key: Bytes::copy_from_slice(key) }
}

/// One record, applied and published.
fn commit(view: &View, sequence: Sequence, writes: Vec<Write>) {
    view.apply(sequence, &[Record { writes, ..Record::default() }]).unwrap();
    view.publish(sequence);
}

fn drained(view: &View, manifest: &Manifest) -> Sequence {
    match view.checkpoint(manifest).unwrap() {
        Checkpoint::At(at) => at,
        other => panic!("the drain ended as {other:?}"),
    }
}

fn value_of(view: &View, key: &[u8]) -> Option<Bytes> {
    let found = view.get(key).unwrap();
    assert_eq!(found, view.snapshot().get(key).unwrap(), "two ways of reading disagree");
    found.map(|state| state.value)
}

fn memory(options: ViewOptions) -> View {
    View::open(None, options, StoreState::Empty).unwrap()
}
