//! The extension module `kappa_core._kappa_core`: converts, calls core, converts back.

mod arguments;
mod batch;
mod bridge;
mod call;
mod document;
mod error;
mod feed;
mod guard;
mod histogram;
mod kappa;
mod list;
mod options;
mod origin;
mod owned;
mod reply;
mod store;
mod tasks;
mod testing;
mod threads;
mod worker;

use pyo3::prelude::*;

/// Documents are made by the caller and end on the threads of core: with the allocator of the system those threads wait
/// for each other's locks, which costs more than everything else in a write.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the Python package is made of.
#[pymodule]
mod _kappa_core {
    #[pymodule_export]
    use crate::batch::Batch;
    #[pymodule_export]
    use crate::bridge::Bridge;
    #[pymodule_export]
    use crate::call::Call;
    #[pymodule_export]
    use crate::feed::Feed;
    #[pymodule_export]
    use crate::histogram::{PyHistogram, cpu_info, histogram};
    #[pymodule_export]
    use crate::kappa::{Database, connect, in_memory, open};
    #[pymodule_export]
    use crate::list::Pages;
    #[pymodule_export]
    use crate::store::{Store, mock_products};
    #[pymodule_export]
    use crate::tasks::milliseconds;
    #[pymodule_export]
    use crate::testing::{hold, kinds, panic, raise};
    #[pymodule_export]
    use crate::worker::{Job, Worker};

    /// Imports what errors and documents are made of: at the end of the interpreter it is too late for an import.
    #[pymodule_init]
    fn import(module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
        crate::error::import(module.py())?;
        crate::document::Reader::import(module.py())
    }

    /// The version of the library.
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
