//! The machine under the benches, and what this process takes of it.

use std::fs;
use std::time::Duration;

use crate::{Stopwatch, say};

/// Prints the shape of the machine and how busy it is: figures taken beside other work mean little.
pub fn describe(bench: &str) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown").to_owned();
    say(format_args!("\n== {bench}: {cores} cores, load {load} before the start"));
}

/// The most memory that this process ever had resident, in bytes; 0 where the system does not say.
pub fn memory_peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib =
        line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|number| number.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Processor time that this process used.
pub fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Waits until background work of this process has ended, at most 20 s: otherwise the drain that one subject
/// left behind would slow the next one.
pub fn settle() {
    const LOOK: Duration = Duration::from_millis(50);
    const BUSY_SHARE: f64 = 0.1;
    let waited = Stopwatch::start();
    let mut quiet = 0;
    while quiet < 3 && waited.seconds() < 20.0 {
        let before = cpu_seconds();
        pause(LOOK);
        let busy = cpu_seconds() - before > LOOK.as_secs_f64() * BUSY_SHARE;
        quiet = if busy { 0 } else { quiet + 1 };
    }
}

#[expect(clippy::disallowed_methods, reason = "nothing tells a bench that a library's threads have become idle")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
