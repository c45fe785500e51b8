//! The database that a handle came from, as far as the handle has to know it.

use std::sync::Arc;

use crate::document::Reader;
use crate::owned::Owned;
use crate::threads::Readers;

/// What the handles of one database share.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// Where reads run that an event loop awaits.
    pub readers: Arc<Readers>,
    /// How documents are read.
    pub reader: Reader,
    /// Whether the data is in the memory of the process that opened it: a forked child cannot reach it.
    pub in_memory: bool,
}

impl Origin {
    /// A handle of this database, for the processes that can use it.
    pub fn own<T: Send + 'static>(&self, handle: T) -> Owned<T> {
        if self.in_memory { Owned::new(handle) } else { Owned::shared(handle) }
    }
}
