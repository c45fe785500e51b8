//! The change feed, as somebody iterates over it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use event_listener::Event;
use futures_util::future::{Either, select};
use kappa_core::{Change, Feed as Changes, Pending, Result};
use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::call::Call;
use crate::document::Reader;
use crate::kappa::export;
use crate::owned::Owned;
use crate::threads::{Readers, Runner};

/// Changes that are handed over at once at most.
const MAX_AT_ONCE: usize = 256;

/// Changes in the order they were committed.
#[pyclass(frozen, module = "kappa_core._kappa_core")]
pub struct Feed {
    following: Owned<Arc<Following>>,
    readers: Arc<Readers>,
    reader: Reader,
}

struct Following {
    changes: Mutex<Changes>,
    closed: AtomicBool,
    closing: Event,
}

impl Feed {
    pub fn new(changes: Changes, readers: &Arc<Readers>, reader: Reader) -> Self {
        let following =
            Following { changes: Mutex::new(changes), closed: AtomicBool::new(false), closing: Event::new() };
        Self { following: Owned::new(Arc::new(following)), readers: Arc::clone(readers), reader }
    }
}

#[pymethods]
impl Feed {
    /// The next changes as soon as there is one, or none once the feed is closed.
    fn next(&self) -> PyResult<Call> {
        export("Feed.next", || {
            let following = Arc::clone(self.following.get()?);
            Ok(Call::new(&self.readers, self.reader, move |runner| Pending::new(next(following, runner))))
        })
    }

    /// The cursor behind the changes that were given.
    fn cursor(&self) -> PyResult<String> {
        export("Feed.cursor", || Ok(self.following.get()?.changes.lock().cursor().to_owned()))
    }

    /// Ends the feed, also for whoever waits for its next change.
    fn close(&self) -> PyResult<()> {
        export("Feed.close", || {
            let following = self.following.get()?;
            following.closed.store(true, Ordering::SeqCst);
            following.closing.notify(usize::MAX);
            Ok(())
        })
    }
}

async fn next(following: Arc<Following>, runner: Runner) -> Result<Option<Vec<Change>>> {
    loop {
        // Both are listened for before the look, so that nothing between look and wait is missed.
        let closing = following.closing.listen();
        if following.closed.load(Ordering::SeqCst) {
            return Ok(None);
        }
        let committed = following.changes.lock().committed();
        let looking = Arc::clone(&following);
        let changes = runner.submit(move || Pending::ready(looking.take())).await?;
        if !changes.is_empty() {
            return Ok(Some(changes));
        }
        if let Either::Left((committed, _)) = select(committed, closing).await {
            committed?;
        }
    }
}

impl Following {
    /// The changes that are there already.
    fn take(&self) -> Result<Vec<Change>> {
        let mut feed = self.changes.lock();
        let mut changes = Vec::new();
        while changes.len() < MAX_AT_ONCE {
            match feed.next_now() {
                Ok(Some(change)) => changes.push(change),
                Ok(None) => break,
                // What was taken before the error must not be lost; the error comes again with the next look.
                Err(_) if !changes.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(changes)
    }
}
