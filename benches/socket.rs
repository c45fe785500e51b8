//! A client process through the owner's socket, against a client of Redis (appendfsync always), as many in flight.

#[path = "peers/redis.rs"]
mod redis;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use kappa_benches::{
    Numbers, Rounds, Stopwatch, describe, directory, id, is_wanted, product, product_with_id, say, settle,
};
use kappa_core::env::Env;
use kappa_core::{Document, Kappa, Mode, Options, Products};

/// Set in the process that owns the directory.
const PLACE: &str = "KAPPA_BENCH_OWNER";
const ROUNDS: usize = 11;
const ROUND_SECONDS: f64 = 0.4;
const DOCUMENTS: u64 = 20_000;
const HOT: u64 = 10_000;
const BATCH: u64 = 500;

fn main() {
    match std::env::var_os(PLACE) {
        Some(place) => own(&PathBuf::from(place)),
        None if is_wanted("socket") => measure(),
        None => {}
    }
}

fn open(place: &Path, mode: Mode) -> Kappa {
    Kappa::open_with(place.join("kappa"), &Options { mode, ..Options::default() }, &Env::default()).expect("it opens")
}

/// Owns the directory until the standard input ends.
fn own(place: &Path) {
    let kappa = open(place, Mode::Owner);
    for start in (0..DOCUMENTS).step_by(BATCH as usize) {
        let document = |number| Document::parse(product_with_id(&id(number), number)).expect("a document");
        let batch = (start..start + BATCH).fold(kappa.batch(), |batch, n| batch.create("products", document(n)));
        batch.commit().wait().expect("the ids are new");
    }
    say("ready");
    // Any end of the input is the end.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    kappa.close().expect("the database closes");
}

struct Owner(Child);

impl Owner {
    fn start(place: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.env(PLACE, place).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("this program runs again");
        let output = BufReader::new(child.stdout.as_mut().expect("its output is piped")).lines().next();
        assert_eq!(output.expect("it says a line").expect("its output is text"), "ready");
        Self(child)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // One that has ended already has nothing left to wait for.
        let _ = self.0.wait();
    }
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Get,
    Create,
}

fn measure() {
    describe("socket");
    let place = directory(env!("CARGO_TARGET_TMPDIR"));
    let Some(server) = redis::Server::start(place.path()) else {
        say("  skipped: redis-server is not installed");
        return;
    };
    let owner = Owner::start(place.path());
    let kappa = open(place.path(), Mode::Client);
    let (mut file, mut loopback) = (server.through_file(), server.over_loopback());
    for number in 0..HOT {
        file.ask(&["SET", &id(number), &product_with_id(&id(number), number)]);
        file.answers();
    }
    let mut next = DOCUMENTS;
    for call in [Call::Get, Call::Create] {
        for in_flight in [1, 64] {
            let name = if call == Call::Get { "get against GET" } else { "durable create against SET" };
            let mut rounds = Rounds::new(format!("socket: {name}, {in_flight} in flight"), "calls/s");
            for round in 0..=ROUNDS {
                settle();
                let figures = [
                    ("kappa", run_kappa(&kappa.products(), call, in_flight, &mut next)),
                    ("redis, socket file", run_redis(&mut file, call, in_flight, &mut next)),
                    ("redis, loopback", run_redis(&mut loopback, call, in_flight, &mut next)),
                ];
                // The first round fills caches and makes files.
                for (subject, figure) in figures.into_iter().filter(|_| round > 0) {
                    rounds.add(subject, figure);
                }
            }
            rounds.print();
            rounds.at_least("kappa", "redis, loopback", 1.0);
            rounds.report("kappa", "redis, socket file");
        }
    }
    kappa.close().expect("the client closes");
    drop(owner);
}

/// Calls a second.
fn run_kappa(products: &Products, call: Call, in_flight: usize, next: &mut u64) -> f64 {
    let mut numbers = Numbers::new(*next);
    let watch = Stopwatch::start();
    let mut count = 0;
    if call == Call::Get {
        let mut pending: VecDeque<_> = (0..in_flight).map(|_| products.get(&id(numbers.below(HOT)))).collect();
        while let Some(oldest) = pending.pop_front() {
            let found = oldest.wait().expect("reads answer").expect("the product is there");
            assert_eq!(found.text().len(), 300, "another document");
            count += 1;
            if watch.seconds() < ROUND_SECONDS {
                pending.push_back(products.get(&id(numbers.below(HOT))));
            }
        }
    } else {
        let mut begin = || {
            *next += 1;
            products.create(Document::parse(product(*next)).expect("a document"))
        };
        let mut pending: VecDeque<_> = (0..in_flight).map(|_| begin()).collect();
        while let Some(oldest) = pending.pop_front() {
            oldest.wait().expect("it is created");
            count += 1;
            if watch.seconds() < ROUND_SECONDS {
                pending.push_back(begin());
            }
        }
    }
    f64::from(count) / watch.seconds()
}

/// Calls a second.
fn run_redis<S: Read + Write>(to: &mut redis::Connection<S>, call: Call, in_flight: usize, next: &mut u64) -> f64 {
    let mut numbers = Numbers::new(*next);
    let mut ask = |to: &mut redis::Connection<S>| {
        if call == Call::Get {
            to.ask(&["GET", &id(numbers.below(HOT))]);
        } else {
            *next += 1;
            to.ask(&["SET", &id(*next), &product_with_id(&id(*next), *next)]);
        }
    };
    let watch = Stopwatch::start();
    (0..in_flight).for_each(|_| ask(to));
    let (mut count, mut length, mut under_way) = (0, 0, in_flight);
    while under_way > 0 {
        let (answered, bytes) = to.answers();
        (count, length, under_way) = (count + answered, length + bytes, under_way - answered);
        if watch.seconds() < ROUND_SECONDS {
            (0..answered).for_each(|_| ask(to));
            under_way += answered;
        }
    }
    let rate = count as f64 / watch.seconds();
    assert!(call == Call::Create || length == count * 300, "another document");
    rate
}
