//! `POST /tasks` at a fixed rate, then at rates that grow until the mean time of an answer is over its bound.

use kappa_benches::{cpu_seconds_of, describe, directory, is_soak, say};

use crate::open_loop::{self, Found};
use crate::server::Server;

const RATE: u32 = 2_000;
/// The mean time of an answer that the load may reach.
const MEAN_MS: f64 = 40.0;
/// What is aimed at.
const AIM_MEAN_MS: f64 = 2.0;
const AIM_P99_MS: f64 = 10.0;
const CONNECTIONS: usize = 128;
/// Each rate of the growing load is larger than the one before it by this part of it.
const GROWTH: u32 = 4;
const STEPS: usize = 16;

/// What the load test of the long-task document sends.
const BODY: &str = r#"{"name":"Example Task","description":"This is a long-running task example"}"#;

/// Prints codes, rate and times for the fixed rate and for each rate of the growing load.
pub fn measure() {
    describe("tasks load");
    let place = directory(env!("CARGO_TARGET_TMPDIR"));
    let server = Server::start(&place.path().join("kappa"));
    let request: &'static [u8] = request().leak();
    let (seconds, step_seconds) = if is_soak() { (60, 5) } else { (10, 2) };
    // Files are made, and the server's code is in memory.
    open_loop::run(server.address, request, RATE / 4, 1, CONNECTIONS);
    say(format_args!("\ntasks: POST /tasks, open loop, {CONNECTIONS} connections, the server's workers running"));
    say(format_args!(
        "  {:>8} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}  codes",
        "asked/s", "seconds", "answers/s", "mean, ms", "median", "p95", "p99", "max"
    ));
    let run = |rate: u32, seconds: u32| {
        let before = cpu_seconds_of(server.process());
        let found = open_loop::run(server.address, request, rate, seconds, CONNECTIONS);
        let cpu = cpu_seconds_of(server.process()) - before;
        print(rate, seconds, &found, cpu);
        found
    };
    let found = run(RATE, seconds);
    let verdict = |reached: bool| if reached { "reached" } else { "MISSED" };
    let all = found.codes.len() == 1 && found.codes.contains_key(&201) && found.unanswered == 0;
    let (mean, p99) = (found.mean(), found.part(99));
    say(format_args!("  goal: mean at most {MEAN_MS} ms, all 201: {}", verdict(mean <= MEAN_MS && all)));
    let aimed = mean <= AIM_MEAN_MS && p99 <= AIM_P99_MS;
    say(format_args!("  aim: mean under {AIM_MEAN_MS} ms, p99 under {AIM_P99_MS} ms: {}", verdict(aimed)));
    let (mut rate, mut highest) = (RATE, None);
    for _ in 0..STEPS {
        rate += rate / GROWTH;
        let found = run(rate, step_seconds);
        // Fewer answers than were asked for means that a queue grew, however short the times still are.
        if found.unanswered > 0 || found.mean() > MEAN_MS || found.rate < f64::from(rate) * 0.95 {
            break;
        }
        highest = Some(rate);
    }
    match highest {
        Some(rate) => say(format_args!("  the highest rate with a mean of at most {MEAN_MS} ms: {rate}/s")),
        None => say("  no higher rate had such a mean"),
    }
}

fn print(rate: u32, seconds: u32, found: &Found, cpu: f64) {
    let codes: Vec<String> = found.codes.iter().map(|(code, count)| format!("{code}: {count}")).collect();
    let [median, p95, p99, max] = [50, 95, 99, 100].map(|share| found.part(share));
    say(format_args!(
        "  {rate:>8} {seconds:>8} {:>9.0} {:>9.2} {median:>9.2} {p95:>9.2} {p99:>9.2} {max:>9.2}  {}; unanswered: {}; \
         {:.0} us of CPU each",
        found.rate,
        found.mean(),
        codes.join(", "),
        found.unanswered,
        cpu * 1e6 / found.times.len() as f64
    ));
}

fn request() -> Vec<u8> {
    let head = "POST /tasks HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    format!("{head}content-length: {}\r\n\r\n{BODY}", BODY.len()).into_bytes()
}
