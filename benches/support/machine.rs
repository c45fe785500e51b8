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
    memory("VmHWM:")
}

/// The memory that this process has resident, in bytes; 0 where the system does not say.
pub fn memory_now() -> u64 {
    memory("VmRSS:")
}

fn memory(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib =
        line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|number| number.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Bytes that this process has written to files; 0 where the system does not say.
pub fn bytes_written() -> u64 {
    let account = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let bytes = account.lines().find_map(|line| line.strip_prefix("wchar: "));
    bytes.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Processor time that this process used.
pub fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Processor time that the threads of another process have used, those that ended excepted.
pub fn cpu_seconds_of(process: u32) -> f64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return 0.0 };
    let used = |thread: fs::DirEntry| {
        let account = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        account.split(' ').next()?.parse::<u64>().ok()
    };
    threads.flatten().filter_map(used).sum::<u64>() as f64 / 1e9
}

/// Binds this thread, and those that it starts from now on, to one of the processors that it may use: the one at
/// `place`, or the last where there are fewer.
///
/// # Panics
/// When the system refuses.
pub fn pin_to(place: usize) {
    let allowed = rustix::thread::sched_getaffinity(None).expect("a thread knows its processors");
    let processors = (0..rustix::thread::CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor));
    let processor = processors.take(place + 1).last().expect("a thread has a processor");
    let mut one = rustix::thread::CpuSet::new();
    one.set(processor);
    rustix::thread::sched_setaffinity(None, &one).expect("a thread may give processors up");
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
