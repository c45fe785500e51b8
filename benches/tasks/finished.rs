//! What finished tasks cost those that come after them: time of a claim, and memory.

use std::process::Command;

use kappa_benches::{Spread, Stopwatch, describe, directory, is_soak, memory_now, say, settle};
use kappa_core::env::Env;
use kappa_core::{Json, Kappa, Mode, NewTask, Options, Outcome, QueueSettings, Report, Tasks, Work};

use crate::single::params;

const QUEUE: &str = "mail";
const AT_ONCE: usize = 1_000;
/// As many as a worker with 64 slots asks for.
const CLAIMED: usize = 64;
const CLAIMS: usize = 300;

/// Set in the process of one table: what one leaves resident would be counted with the next.
const KEPT: &str = "KAPPA_BENCH_KEPT";

/// Whether this process is to make one table.
pub fn is_asked_for() -> bool {
    std::env::var_os(KEPT).is_some()
}

/// Makes the table.
pub fn run() {
    let all = std::env::var(KEPT).is_ok_and(|kept| kept == "all");
    let steps: &[usize] = if is_soak() { &[10_000, 100_000, 1_000_000] } else { &[10_000, 50_000, 100_000] };
    fill(steps, all.then_some(u64::MAX));
}

/// Prints how a claim goes and how much memory is resident as finished tasks become more: all of them kept, then as
/// many as are kept by default.
pub fn measure() {
    describe("tasks finished");
    for (name, kept) in [("all kept", "all"), ("kept as by default", "default")] {
        say(format_args!("\ntasks: {CLAIMS} claims of {CLAIMED} beside finished tasks, {name}"));
        say(format_args!(
            "  {:>10} {:>12} {:>10} {:>10} {:>10} {:>10} {:>14} {:>10}",
            "finished", "tasks/s", "p50, ms", "p90, ms", "p99, ms", "max, ms", "slowest 1 000", "RSS, MiB"
        ));
        let program = std::env::current_exe().expect("this program has a path");
        let ended = Command::new(program).env(KEPT, kept).status().expect("this program runs again");
        assert!(ended.success(), "the table is not whole");
    }
}

fn fill(steps: &[usize], keep_count: Option<u64>) {
    let place = directory(env!("CARGO_TARGET_TMPDIR"));
    let options = Options { mode: Mode::Owner, ..Options::default() };
    let kappa = Kappa::open_with(place.path().join("kappa"), &options, &Env::default()).expect("a new directory");
    let tasks = kappa.tasks();
    if let Some(keep_count) = keep_count {
        let settings = QueueSettings { keep_count, keep_ms: 7 * 24 * 3_600_000, ..QueueSettings::default() };
        tasks.configure(QUEUE, settings).wait().expect("the settings are within their limits");
    }
    let mut finished = 0;
    for &step in steps {
        let watch = Stopwatch::start();
        let (before, mut slowest) = (finished, 0.0_f64);
        while finished < step {
            let one = Stopwatch::start();
            add(&tasks, AT_ONCE, finished);
            end(&tasks, &claim(&tasks, AT_ONCE));
            slowest = slowest.max(one.seconds());
            finished += AT_ONCE;
        }
        let rate = (finished - before) as f64 / watch.seconds();
        // What the drain of so many tasks costs those that come meanwhile is in the column of the slowest.
        settle();
        let mut times = Vec::new();
        for _ in 0..CLAIMS {
            add(&tasks, CLAIMED, finished);
            let watch = Stopwatch::start();
            let claimed = claim(&tasks, CLAIMED);
            times.push(watch.seconds() * 1e3);
            end(&tasks, &claimed);
            finished += CLAIMED;
        }
        times.sort_by(f64::total_cmp);
        let Spread { median, max, .. } = Spread::of(&times).expect("there were claims");
        let part = |share: usize| times[times.len() * share / 100];
        say(format_args!(
            "  {step:>10} {rate:>12.0} {median:>10.2} {:>10.2} {:>10.2} {max:>10.2} {slowest:>12.2} s {:>10}",
            part(90),
            part(99),
            memory_now() >> 20
        ));
    }
    kappa.close().expect("the database closes");
}

fn add(tasks: &Tasks, count: usize, first: usize) {
    let many = (first..first + count).map(|number| NewTask::new(QUEUE, params(number as u32))).collect();
    tasks.enqueue_many(many).wait().expect("they are taken");
}

fn work(reports: Vec<Report>, claim: usize) -> Work {
    Work { worker: "bench".to_owned(), queues: vec![QUEUE.to_owned()], reports, claim, ..Work::default() }
}

/// Claims so many, in as many calls as it takes.
fn claim(tasks: &Tasks, count: usize) -> Vec<Report> {
    let mut reports = Vec::new();
    while reports.len() < count {
        let worked = tasks.work(work(Vec::new(), count - reports.len())).wait().expect("a claim is answered");
        assert!(!worked.claimed.is_empty(), "nothing was claimed");
        let report = |claimed: kappa_core::Claimed| {
            let outcome = Outcome::Completed { result: Json::default() };
            Report { lease: claimed.lease, outcome }
        };
        reports.extend(worked.claimed.into_iter().map(report));
    }
    reports
}

fn end(tasks: &Tasks, reports: &[Report]) {
    // A part at a time, as workers do: one operation may write so much only.
    for part in reports.chunks(AT_ONCE / 4) {
        tasks.work(work(part.to_vec(), 0)).wait().expect("outcomes are taken");
    }
}
