//! What the side-by-side runs share: rounds, clocks, counted files, made-up products.

mod arguments;
mod counting;
mod directory;
mod machine;
mod product;
mod rounds;
mod stopwatch;

pub use arguments::{is_soak, is_wanted};
pub use counting::CountingFiles;
pub use directory::directory;
pub use machine::{bytes_written, cpu_seconds, cpu_seconds_of, describe, memory_now, memory_peak, pin_to, settle};
pub use product::{Numbers, id, product, product_with_id};
pub use rounds::{Rounds, Spread};
pub use stopwatch::Stopwatch;

/// Prints one line of a report.
#[expect(clippy::print_stdout, reason = "a bench is run to be read")]
pub fn say(line: impl std::fmt::Display) {
    println!("{line}");
}
