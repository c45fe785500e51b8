//! What every exported function passes through: a panic becomes an exception that `except Exception` sees.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use kappa_core::{Error, ErrorKind};
use parking_lot::{Condvar, Mutex};
use pyo3::prelude::*;

use crate::error::exception;

/// Whether a name is armed; looked at by every call, so it must cost next to nothing.
static ARMED: AtomicBool = AtomicBool::new(false);
static NAME: Mutex<Option<String>> = Mutex::new(None);
/// What waits at its beginning until it is let go on.
static HELD: Mutex<Option<String>> = Mutex::new(None);
static LET_GO: Condvar = Condvar::new();

/// Runs `body`, the inside of the exported function `name`.
pub fn guard<T>(name: &'static str, body: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    catch(name, body).unwrap_or_else(|error| Err(exception(&error)))
}

/// Runs `body`, which Python did not call by itself and does not wait for.
pub fn catch<T>(name: &'static str, body: impl FnOnce() -> T) -> Result<T, Error> {
    let guarded = || {
        if ARMED.load(Ordering::Relaxed) {
            fail_at(name);
        }
        body()
    };
    catch_unwind(AssertUnwindSafe(guarded)).map_err(|panic| panicked(name, panic.as_ref()))
}

/// Makes the exported function `name` panic from now on; none makes all of them work again.
pub fn arm(name: Option<String>) {
    *NAME.lock() = name;
    look();
}

/// Keeps what is called `name` from going on, until another name, or none, is said.
pub fn hold(name: Option<String>) {
    *HELD.lock() = name;
    LET_GO.notify_all();
    look();
}

fn look() {
    ARMED.store(NAME.lock().is_some() || HELD.lock().is_some(), Ordering::Relaxed);
}

fn fail_at(name: &str) {
    LET_GO.wait_while(&mut HELD.lock(), |held| held.as_deref() == Some(name));
    let armed = NAME.lock().as_deref() == Some(name);
    assert!(!armed, "asked for by a test");
}

fn panicked(name: &'static str, panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    let error = Error::new(ErrorKind::Internal, "Kappa failed; report it, and open the database again");
    error.with("panic", text).during(name)
}
