//! The change feed, as somebody iterates over it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use event_listener::Event;
use futures_util::future::{Either, select};
use kappa_core::{Change, Error, ErrorKind, Feed as Changes, Kappa, Pending, Result};
use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::call::Call;
use crate::error::exception;
use crate::guard::guard;
use crate::kappa::export;
use crate::origin::Origin;
use crate::owned::Owned;
use crate::reply::IntoReply;
use crate::threads::Runner;

/// Changes that are handed over at once at most.
const MAX_AT_ONCE: usize = 256;

/// Changes in the order they were committed.
///
/// A forked child does not read on: somebody may have held the place of the feed at the fork, who is not there to give
/// it back.
#[pyclass(frozen, module = "kappa_core._kappa_core")]
pub struct Feed {
    following: Owned<Arc<Following>>,
    origin: Origin,
}

struct Following {
    kappa: Kappa,
    changes: Mutex<Changes>,
    /// Read and not handed over yet: whoever stops waiting in between leaves them here for the next who asks.
    ready: Mutex<Vec<Change>>,
    closed: AtomicBool,
    closing: Event,
}

impl Feed {
    pub fn new(kappa: Kappa, changes: Changes, origin: &Origin) -> Self {
        let following = Following {
            kappa,
            changes: Mutex::new(changes),
            ready: Mutex::default(),
            closed: AtomicBool::new(false),
            closing: Event::new(),
        };
        Self { following: Owned::new(Arc::new(following)), origin: origin.clone() }
    }

    fn following(&self) -> Result<&Arc<Following>> {
        self.following.get().map_err(|_| {
            let message =
                "this feed was opened before a fork and belongs to the parent process; open one behind its cursor";
            Error::new(ErrorKind::Closed, message)
        })
    }
}

#[pymethods]
impl Feed {
    /// True as soon as there are changes to take, false once the feed is closed.
    fn next(&self) -> PyResult<Call> {
        export("Feed.next", || {
            let following = Arc::clone(self.following()?);
            Ok(Call::new(&self.origin, move |runner| Pending::new(next(following, runner))))
        })
    }

    /// The changes that are there, in their order.
    fn take(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        guard("Feed.take", || {
            let following = self.following().map_err(|error| exception(&error))?;
            let reader = self.origin.reader;
            let ready = py.detach(|| std::mem::take(&mut *following.ready.lock()).into_reply(reader));
            ready.into_python(py, reader)
        })
    }

    /// The cursor behind the changes that were given.
    fn cursor(&self) -> PyResult<String> {
        export("Feed.cursor", || Ok(self.following()?.changes.lock().cursor().to_owned()))
    }

    /// Whether this is a forked child of the process that opened the feed.
    fn is_foreign(&self) -> PyResult<bool> {
        export("Feed.is_foreign", || Ok(self.following.is_foreign()))
    }

    /// Ends the feed, also for whoever waits for its next change; that of its parent is none of a forked child's business.
    fn close(&self) -> PyResult<()> {
        export("Feed.close", || {
            let Ok(following) = self.following() else { return Ok(()) };
            following.closed.store(true, Ordering::SeqCst);
            following.closing.notify(usize::MAX);
            Ok(())
        })
    }
}

async fn next(following: Arc<Following>, runner: Runner) -> Result<bool> {
    loop {
        // Both are listened for before the look, so that nothing between look and wait is missed.
        let closing = following.closing.listen();
        if following.closed.load(Ordering::SeqCst) {
            return Ok(false);
        }
        let committed = following.kappa.committed();
        let looking = Arc::clone(&following);
        if runner.submit(move || Pending::ready(looking.look())).await? {
            return Ok(true);
        }
        if let Either::Left((committed, _)) = select(committed, closing).await {
            committed?;
        }
    }
}

impl Following {
    /// Makes changes that are there already ready to be taken; tells whether there are any.
    fn look(&self) -> Result<bool> {
        // Held to the end, so that of two who look each adds behind the other.
        let mut feed = self.changes.lock();
        if !self.ready.lock().is_empty() {
            return Ok(true);
        }
        let mut found = Vec::new();
        while found.len() < MAX_AT_ONCE {
            match feed.next_now() {
                Ok(Some(change)) => found.push(change),
                Ok(None) => break,
                // What was read before the error must not be lost; the error comes again with the next look.
                Err(_) if !found.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        let any = !found.is_empty();
        *self.ready.lock() = found;
        Ok(any)
    }
}
