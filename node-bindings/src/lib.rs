//! Kappa for Node: what `lib/` calls. Every export converts, calls core and converts back.
// Not `expect`: the compiler counts some of these as used once they are expected.
#![cfg_attr(test, allow(dead_code, reason = "`#[napi]` exports nothing into a test program"))]
#![expect(clippy::needless_pass_by_value, reason = "an export is given its strings by value")]
#![expect(unsafe_code, reason = "the exports that `#[napi]` makes are C functions")]

mod answer;
mod batch;
mod changes;
mod cpu;
mod database;
mod error;
mod guard;
mod histogram;
mod list;
mod numbers;
mod port;
mod store;
mod tasks;
mod threads;
mod worker;

/// Documents are made on the event loop and end on the threads of core: with the allocator of the system those threads
/// wait for each other's locks, which costs more than everything else in a write.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The release this was built for: `lib/` of another one would take its answers for something else.
///
/// # Errors
/// `Internal` after a panic, as of every export.
#[napi_derive::napi]
pub fn version() -> napi::Result<&'static str> {
    guard::export("version", || Ok(env!("CARGO_PKG_VERSION")))
}
