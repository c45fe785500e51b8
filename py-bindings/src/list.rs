//! A list, page by page; a page is read while Python makes objects of the one before it and looks at them.

use std::sync::Arc;

use kappa_core::{List, Page, Pending};
use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::call::Call;
use crate::document::{Reader, Tape, object};
use crate::kappa::export;
use crate::origin::Origin;
use crate::owned::Owned;
use crate::reply::{Data, Reply};
use crate::threads::{Readers, Runner};

/// Behind a page of fewer bytes the next one is not read ahead: another thread would be woken for longer than it reads.
const WORTH_A_THREAD: usize = 128 << 10;

/// The pages of a list, one after another.
#[pyclass(frozen, module = "kappa_core._kappa_core")]
pub struct Pages {
    walk: Owned<Walk>,
    origin: Origin,
}

/// A list as it is walked through.
#[derive(Clone)]
struct Walk {
    position: Arc<Mutex<Position>>,
    readers: Arc<Readers>,
    reader: Reader,
}

/// How far a list was given.
struct Position {
    /// From the next page on; none once the last page was given.
    rest: Option<List>,
    /// That page, where it is being read already.
    ahead: Option<Owned<Pending<Given>>>,
}

/// One page, made ready for Python, and what is left behind it.
struct Given {
    documents: Tape,
    rest: Option<List>,
}

/// A page that is given now.
pub struct Listed {
    documents: Tape,
    walk: Walk,
}

impl Pages {
    pub fn new(list: List, origin: &Origin) -> Self {
        let position = Arc::new(Mutex::new(Position { rest: Some(list), ahead: None }));
        let walk = Walk { position, readers: Arc::clone(&origin.readers), reader: origin.reader };
        Self { walk: origin.own(walk), origin: origin.clone() }
    }
}

#[pymethods]
impl Pages {
    /// The documents of the next page, or none behind the last.
    fn next(&self) -> PyResult<Call> {
        export("Pages.next", || {
            let walk = self.walk.get()?.clone();
            Ok(Call::new(&self.origin, move |runner| walk.next(&runner)))
        })
    }

    /// One page with versions, and the cursor behind it.
    fn page(&self) -> PyResult<Call> {
        export("Pages.page", || {
            let list = self.walk.get()?.position.lock().rest.clone();
            let page = move || list.map_or_else(|| Pending::ready(Ok(Page::default())), |list| list.page());
            Ok(Call::read(&self.origin, page))
        })
    }
}

impl Walk {
    fn next(self, runner: &Runner) -> Pending<Reply> {
        let (rest, ahead) = {
            let mut position = self.position.lock();
            // Ended unless the page comes: an error would otherwise come again for ever.
            (position.rest.take(), position.ahead.take())
        };
        let Some(list) = rest else { return Pending::ready(Ok(Reply::Data(Tape::of(Tape::null)))) };
        let reader = self.reader;
        // In a forked child nobody reads the page that the parent asked for.
        let ahead = ahead.and_then(|ahead| ahead.take().ok());
        let page = ahead.unwrap_or_else(|| runner.submit(move || read(list, Tape::spare(), reader)));
        page.map(move |page| {
            self.position.lock().rest = page.rest;
            Ok(Reply::Listed(Box::new(Listed { documents: page.documents, walk: self })))
        })
    }

    /// Begins to read the next page, where a thread is free.
    fn read_ahead(&self) {
        let mut position = self.position.lock();
        if position.ahead.is_none()
            && let Some(list) = position.rest.clone()
        {
            let (spare, reader) = (Tape::spare(), self.reader);
            let ahead = self.readers.ahead(move || read(list, spare, reader).start());
            position.ahead = ahead.map(Owned::new);
        }
    }
}

impl Listed {
    /// The documents. Whoever asks is attached to Python, as a read ahead demands.
    pub fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if self.documents.bytes() >= WORTH_A_THREAD {
            self.walk.read_ahead();
        }
        Ok(object(py, self.documents)?.unbind())
    }
}

fn read(list: List, mut documents: Tape, reader: Reader) -> Pending<Given> {
    list.page().map(move |page| {
        documents.list(page.entries.len());
        for entry in &page.entries {
            entry.document.write(&mut documents, reader);
        }
        Ok(Given { documents, rest: list.behind(&page) })
    })
}
