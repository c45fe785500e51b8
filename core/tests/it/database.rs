//! Databases with sizes so small that a short test sees checkpoints, sealed segments and merges.

use std::path::Path;
use std::sync::Arc;

use kappa_core::env::{Env, ManualClock};
use kappa_core::{Collection, Definition, IndexDefinition, Kappa, Options};

/// The collection that most tests write into.
pub const THINGS: &str = "things";

/// Checkpoints after a few documents, and a merge whenever a segment has been sealed.
pub fn small() -> Options {
    Options {
        memtable_bytes: 64 << 10,
        cache_bytes: 64 << 10,
        segment_bytes: 4 << 20,
        merge_bytes: 1 << 20,
        log_retention_bytes: 256 << 20,
        ..Options::default()
    }
}

/// Opens with the system's clock, chance and files.
pub fn open(directory: &Path, options: &Options) -> Kappa {
    Kappa::open_with(directory, options, &Env::default()).unwrap()
}

/// The same with a clock that stands still until it is told otherwise.
pub fn open_with_clock(directory: &Path, options: &Options) -> (Kappa, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    let env = Env { clock: Arc::clone(&clock) as _, ..Env::default() };
    (Kappa::open_with(directory, options, &env).unwrap(), clock)
}

/// The collection of things, see [`indexed`].
pub fn things(kappa: &Kappa) -> Collection {
    indexed(kappa, THINGS)
}

/// The collection `name`, with an index by `n` and a unique one by `u`.
pub fn indexed(kappa: &Kappa, name: &str) -> Collection {
    let things = kappa.collection(name).unwrap();
    let index = |name: &str, unique| IndexDefinition { name: name.into(), field: name.into(), unique };
    let definition = Definition { indexes: vec![index("n", false), index("u", true)], ..Definition::default() };
    things.declare(definition).wait().unwrap();
    things
}

/// How often something is tried: more where there is time for it.
pub fn rounds(usual: u64) -> u64 {
    if std::env::var_os("KAPPA_SOAK").is_some() { usual * 10 } else { usual }
}

/// The seed of this run: the one asked for by `KAPPA_SEED`, so that a failure can be run again, or `usual`.
pub fn seed(usual: u64) -> u64 {
    let seed = std::env::var("KAPPA_SEED").map_or(usual, |text| text.parse().unwrap());
    tell(&format!("seed={seed}"));
    seed
}

/// Shown when the test fails.
#[expect(clippy::print_stdout, reason = "the harness shows it beside the failure")]
pub fn tell(text: &str) {
    println!("{text}");
}
