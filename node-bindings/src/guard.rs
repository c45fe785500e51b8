//! No panic crosses into Node: each one becomes an error of the call it happened in.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use kappa_core::{Error, ErrorKind, Result};
use napi_derive::napi;
use parking_lot::Mutex;

use crate::error;

/// Whether a place is armed; kept apart from its name, so that a call pays one load while none is.
static ARMED: AtomicBool = AtomicBool::new(false);
static PLACE: Mutex<Option<String>> = Mutex::new(None);

/// Runs the body of the export `name`; its error is thrown as the text that `lib/errors.cjs` reads.
pub fn export<T>(name: &'static str, body: impl FnOnce() -> Result<T>) -> napi::Result<T> {
    let armed = || {
        panic_if_armed(name, "");
        body()
    };
    caught(name, armed).map_err(|error| napi::Error::from_reason(error::to_json(&error.during(name))))
}

/// Runs `body`, with a panic as an `Internal` error.
pub fn caught<T>(name: &'static str, body: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| Err(panicked(name, &*panic)))
}

/// What a caller is told about a panic.
fn panicked(name: &'static str, panic: &(dyn Any + Send)) -> Error {
    let said = panic.downcast_ref::<&str>().copied();
    let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text");
    Error::new(ErrorKind::Internal, "a defect of Kappa; please report it").with("panic", said).during(name)
}

/// Panics when the place `name` with `part` behind it is armed; a place is armed once.
pub fn panic_if_armed(name: &str, part: &str) {
    if ARMED.load(Ordering::Relaxed) {
        let mut place = PLACE.lock();
        if place.as_deref().and_then(|place| place.strip_prefix(name)) == Some(part) {
            *place = None;
            ARMED.store(false, Ordering::Relaxed);
            drop(place);
            // Without the hook, whose report of a panic that is no defect would only be in the way.
            std::panic::resume_unwind(Box::new("armed for a test"));
        }
    }
}

/// For tests: the next call of the export `place` panics; with `:work` behind the name what it does on another thread,
/// with `:answer` what it does when that is done.
#[napi(js_name = "_panic")]
pub fn arm_panic(place: Option<String>) -> napi::Result<()> {
    export("_panic", || {
        ARMED.store(place.is_some(), Ordering::Relaxed);
        *PLACE.lock() = place;
        Ok(())
    })
}
