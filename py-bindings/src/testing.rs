//! Doors for the tests: each kind of error, and a panic or a wait where it is asked for.

use kappa_core::ErrorKind;
use pyo3::prelude::*;

use crate::error::{exception, of_kind};
use crate::guard::{arm, guard, hold as hold_at};

/// The code of every kind of error.
#[pyfunction(name = "_kinds")]
pub fn kinds() -> PyResult<Vec<&'static str>> {
    guard("_kinds", || Ok(ErrorKind::ALL.iter().map(|kind| kind.code()).collect()))
}

/// Raises the error with this code.
#[pyfunction(name = "_raise")]
pub fn raise(code: &str) -> PyResult<()> {
    guard("_raise", || Err(exception(&of_kind(code))))
}

/// Makes the exported function of this name panic from now on; None makes all work again.
#[pyfunction(name = "_panic")]
#[pyo3(signature = (name))]
pub fn panic(name: Option<String>) -> PyResult<()> {
    guard("_panic", || {
        arm(name);
        Ok(())
    })
}

/// Lets the function of this name wait at its beginning from now on; None lets all go on.
#[pyfunction(name = "_hold")]
#[pyo3(signature = (name))]
pub fn hold(name: Option<String>) -> PyResult<()> {
    guard("_hold", || {
        hold_at(name);
        Ok(())
    })
}
