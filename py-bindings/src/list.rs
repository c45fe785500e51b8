//! A list, page by page.

use std::sync::Arc;

use kappa_core::{Entry, List, Page, Pending};
use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::call::Call;
use crate::kappa::export;
use crate::origin::Origin;
use crate::owned::Owned;
use crate::threads::Runner;

/// What is left of a list; none once its last page was given.
type Rest = Arc<Mutex<Option<List>>>;

/// The pages of a list, one after another.
#[pyclass(frozen, module = "kappa_core._kappa_core")]
pub struct Pages {
    rest: Owned<Rest>,
    origin: Origin,
}

impl Pages {
    pub fn new(list: List, origin: &Origin) -> Self {
        Self { rest: origin.own(Arc::new(Mutex::new(Some(list)))), origin: origin.clone() }
    }
}

#[pymethods]
impl Pages {
    /// The documents of the next page, or none behind the last.
    fn next(&self) -> PyResult<Call> {
        export("Pages.next", || {
            let rest = Arc::clone(self.rest.get()?);
            Ok(Call::new(&self.origin, move |runner| next(rest, &runner)))
        })
    }

    /// One page with versions, and the cursor behind it.
    fn page(&self) -> PyResult<Call> {
        export("Pages.page", || {
            let list = self.rest.get()?.lock().clone();
            let page = move || list.map_or_else(|| Pending::ready(Ok(Page::default())), |list| list.page());
            Ok(Call::read(&self.origin, page))
        })
    }
}

fn next(rest: Rest, runner: &Runner) -> Pending<Option<Vec<Entry>>> {
    // Ended unless the page comes: an error would otherwise come again for ever.
    let Some(list) = rest.lock().take() else { return Pending::ready(Ok(None)) };
    let asked = list.clone();
    runner.submit(move || asked.page()).map(move |page| {
        *rest.lock() = list.behind(&page);
        Ok(Some(page.entries))
    })
}
