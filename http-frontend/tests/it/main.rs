//! The server over a real database and real sockets.
#![expect(clippy::unwrap_used, reason = "a failed unwrap in a helper is the failure of its test")]
#![expect(clippy::disallowed_methods, reason = "sockets live in real time; it only bounds what a test waits for")]

mod bad_input;
mod changes;
mod client;
mod collections;
mod contract;
mod documents;
mod http2;
mod limits;
mod parity;
mod peer;
mod productos;
mod program;
mod randoms;
mod readme;
mod remote;
mod seed_tasks;
mod server;
mod stop;
mod tasks;
mod user;
mod worker;
