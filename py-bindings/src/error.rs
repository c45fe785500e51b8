//! Core's errors as exceptions, and the errors of converting.

use kappa_core::{Error, ErrorKind};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The exception that stands for `error`: the class of its kind, with code, operation and context.
pub fn exception(error: &Error) -> PyErr {
    Python::attach(|py| match make(py, error) {
        Ok(exception) => PyErr::from_value(exception),
        Err(failure) => failure,
    })
}

/// Imports the classes before they are needed.
pub fn import(py: Python<'_>) -> PyResult<()> {
    MAKE.import(py, "kappa_core.errors", "make").map(|_| ())
}

fn make<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    let context = PyDict::new(py);
    for (name, value) in error.context() {
        context.set_item(name, value)?;
    }
    let make = MAKE.import(py, "kappa_core.errors", "make")?;
    make.call1((error.kind().code(), error.to_string(), error.operation(), context))
}

/// The error of a failed conversion whose reason Python itself gave.
pub fn refused(message: &'static str, reason: &PyErr) -> Error {
    Error::invalid(message).with("reason", reason)
}

/// An error of the kind with this code; for the test that walks over all of them.
pub fn of_kind(code: &str) -> Error {
    let kind = ErrorKind::ALL.iter().copied().find(|kind| kind.code() == code);
    match kind {
        Some(kind) => Error::new(kind, "asked for by a test").with("code", code).during("raise"),
        None => Error::invalid("no such kind of error").with("code", code),
    }
}
