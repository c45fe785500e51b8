//! JSON text as Python objects.

use kappa_core::{Error, ErrorKind};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use crate::error::exception;

/// How the documents of a database are read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reader {
    /// Whether numbers with a fraction become `Decimal` with all digits instead of `float`.
    pub decimals: bool,
}

impl Reader {
    /// The object that `text`, which is valid JSON, stands for.
    ///
    /// Python's own parser does it: whole numbers of any length are exact, and floats are those that `json` reads.
    pub fn read<'py>(self, py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
        let read = self.scanner(py)?.call1((text, 0)).and_then(|read| read.get_item(0));
        read.map_err(|reason| {
            let message = "the document cannot be read here; sys.set_int_max_str_digits may allow longer numbers";
            exception(&Error::new(ErrorKind::Unsupported, message).with("reason", reason))
        })
    }

    /// Imports Python's parser before it is needed.
    pub fn import(py: Python<'_>) -> PyResult<()> {
        [false, true].into_iter().try_for_each(|decimals| Self { decimals }.scanner(py).map(|_| ()))
    }

    fn scanner(self, py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
        static FLOATS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        static DECIMALS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let scanner = if self.decimals { &DECIMALS } else { &FLOATS };
        let make = || {
            let options = PyDict::new(py);
            if self.decimals {
                options.set_item("parse_float", py.import("decimal")?.getattr("Decimal")?)?;
            }
            let decoder = py.import("json")?.getattr("JSONDecoder")?.call((), Some(&options))?;
            Ok(decoder.getattr("scan_once")?.unbind())
        };
        scanner.get_or_try_init(py, make).map(|scanner| scanner.bind(py))
    }
}
