//! The whole local engine against crashes, failing calls and damaged files, at every place.
//!
//! One workload runs on simulated files, with nothing in the background, so that the same seed does the same
//! every time. What it was told counts as promised; every state that a crash, a failure or damage can leave
//! is then opened and held to these promises. `KAPPA_SOAK=1` looks at ten times as many states;
//! `KAPPA_STATE=<operation>`, which a failure names, at those after one operation of the disk alone.

mod damage;
mod database;
mod disk;
mod faults;
mod oracle;
pub mod planted;
mod states;
mod upkeep;
mod workload;

/// How many times as much as usual is looked at.
fn soak() -> usize {
    if std::env::var_os("KAPPA_SOAK").is_some() { 10 } else { 1 }
}

/// One thread each.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
