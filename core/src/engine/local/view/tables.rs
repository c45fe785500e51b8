//! The list of memtables, and how the end of its last snapshot is noticed.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use super::memtable::Memtable;

/// The memtables that reads look into. A list never changes; a freeze and the end of a drain
/// replace it, and snapshots keep the one they started with.
#[derive(Debug)]
pub struct Tables {
    /// Takes the writes.
    pub active: Arc<Memtable>,
    /// Is being drained into the store.
    pub frozen: Option<Arc<Memtable>>,
    /// Tells this list from those before it.
    pub generation: u64,
    _held: Sender<()>,
}

/// Answers when no snapshot holds a list any more.
#[derive(Debug)]
pub struct Ended(pub Receiver<()>);

impl Tables {
    /// A list, and the notice of its end: the sender goes with the last snapshot that holds the list.
    pub fn new(active: Arc<Memtable>, frozen: Option<Arc<Memtable>>, generation: u64) -> (Arc<Self>, Ended) {
        let (held, ended) = mpsc::channel();
        (Arc::new(Self { active, frozen, generation, _held: held }), Ended(ended))
    }

    /// The memtables, the one with the newest writes first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Memtable> {
        std::iter::once(&*self.active).chain(self.frozen.as_deref())
    }
}
