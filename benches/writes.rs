//! Durable creates against a bare append and `fdatasync` of the same groups, and against SQLite.

#[path = "peers/raw.rs"]
mod raw;
#[path = "peers/sqlite.rs"]
mod sqlite;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use kappa_benches::{
    CountingFiles, Rounds, Spread, Stopwatch, cpu_seconds, describe, directory, is_soak, is_wanted, product, say,
    settle,
};
use kappa_core::env::Env;
use kappa_core::{Definition, Document, Entry, ErrorKind, IndexDefinition, Kappa, Options, Products, Result};

use raw::Raw;
use sqlite::Sqlite;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Many short rounds: what else the machine does then weighs on all subjects alike.
const ROUNDS: usize = 15;
const ROUND_SECONDS: f64 = 0.4;

/// SQLite as a program with as many threads has it: behind a queue and a thread that commits what has gathered.
const SQLITE_WITH_THREADS: &str = "sqlite, as many threads";

fn main() {
    if !is_wanted("writes") {
        return;
    }
    describe("writes");
    side_by_side(1, Shape::Threads, Some(0.7));
    side_by_side(16, Shape::Threads, Some(0.7));
    side_by_side(64, Shape::Threads, Some(0.35));
    side_by_side(256, Shape::Threads, None);
    for in_flight in [16, 64, 256] {
        side_by_side(in_flight, Shape::InFlight, None);
    }
    slower_disks();
    at_length("burst", 10);
    if is_soak() {
        at_length("sustained", 120);
    }
}

/// How the writers call.
#[derive(Clone, Copy)]
enum Shape {
    /// A thread each, that waits for its answer.
    Threads,
    /// One thread that keeps as many calls on their way.
    InFlight,
}

/// A database whose products are indexed by price, and the account of its groups.
struct Database {
    kappa: Kappa,
    files: CountingFiles,
    begun: AtomicU64,
    refused: AtomicU64,
}

impl Database {
    fn new(place: &Path, files: CountingFiles) -> Self {
        let env = Env { files: Arc::new(files.clone()), ..Env::default() };
        let kappa = Kappa::open_with(place.join("kappa"), &Options::default(), &env).expect("the directory is new");
        let by_price = IndexDefinition { name: "price".into(), field: "price".into(), unique: false };
        let definition = Definition { indexes: vec![by_price], ..Definition::default() };
        kappa.products().declare(definition).wait().expect("the index is new");
        Self { kappa, files, begun: AtomicU64::new(0), refused: AtomicU64::new(0) }
    }

    fn document(&self) -> Document {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        Document::parse(product(number)).expect("a product is a document")
    }

    /// Where the view's drain falls behind for long, a write is refused; that one does not count.
    fn take(&self, answer: Result<Entry>) {
        if let Err(error) = answer {
            assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn created(&self) -> u64 {
        self.begun.load(Ordering::Relaxed) - self.refused.load(Ordering::Relaxed)
    }

    /// Creates products for `seconds`; how many, and in how many seconds.
    fn run(&self, writers: usize, shape: Shape, seconds: f64) -> (u64, f64) {
        let before = self.created();
        self.files.take_groups();
        let elapsed = match shape {
            Shape::Threads => self.run_threads(writers, seconds),
            Shape::InFlight => self.run_in_flight(writers, seconds),
        };
        (self.created() - before, elapsed)
    }

    fn run_threads(&self, writers: usize, seconds: f64) -> f64 {
        let ready = Barrier::new(writers + 1);
        let end = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..writers)
                .map(|_| {
                    scope.spawn(|| {
                        let products: Products = self.kappa.products();
                        ready.wait();
                        while !end.load(Ordering::Relaxed) {
                            self.take(products.create(self.document()).wait());
                        }
                    })
                })
                .collect();
            ready.wait();
            let watch = Stopwatch::start();
            watch.wait_until(seconds);
            end.store(true, Ordering::Relaxed);
            for thread in threads {
                thread.join().expect("a writer does not panic");
            }
            watch.seconds()
        })
    }

    fn run_in_flight(&self, number: usize, seconds: f64) -> f64 {
        let products = self.kappa.products();
        let watch = Stopwatch::start();
        let mut pending: VecDeque<_> = (0..number).map(|_| products.create(self.document())).collect();
        while let Some(oldest) = pending.pop_front() {
            self.take(oldest.wait());
            if watch.seconds() < seconds {
                pending.push_back(products.create(self.document()));
            }
        }
        watch.seconds()
    }
}

fn side_by_side(writers: usize, shape: Shape, goal: Option<f64>) {
    let place = directory(env!("CARGO_TARGET_TMPDIR"));
    let (database, mut raw) = (Database::new(place.path(), CountingFiles::default()), Raw::new(place.path()));
    // One for each way, so that both hold as many products as Kappa does.
    let [mut sqlite, mut shared_sqlite] = ["sqlite", "sqlite-threads"].map(|name| Sqlite::new(place.path(), name));
    let title = match shape {
        Shape::Threads => format!("writes: {writers} threads"),
        Shape::InFlight => format!("writes: one thread, {writers} in flight"),
    };
    let mut rounds = Rounds::new(title, "products/s");
    let mut of_group = Vec::new();
    for round in 0..=ROUNDS {
        settle();
        let cpu_before = cpu_seconds();
        let (count, kappa) = database.run(writers, shape, ROUND_SECONDS);
        let cpu = cpu_seconds() - cpu_before;
        let groups = database.files.take_groups();
        let each = groups.len().max(1) as u64;
        let group = ((count + each / 2) / each).max(1);
        settle();
        let bare = raw.run(&groups);
        let cpu_before = cpu_seconds();
        let peer = sqlite.run(count, group);
        let cpu_of_peer = cpu_seconds() - cpu_before;
        settle();
        let with_threads = matches!(shape, Shape::Threads).then(|| {
            let cpu_before = cpu_seconds();
            let (count, seconds) = shared_sqlite.run_threads(writers, ROUND_SECONDS);
            (count as f64 / seconds, (cpu_seconds() - cpu_before) * 1e6 / count as f64)
        });
        // The first round fills caches and makes files.
        if round > 0 {
            rounds.add("kappa", count as f64 / kappa);
            rounds.add("raw", count as f64 / bare);
            rounds.add("sqlite", count as f64 / peer);
            rounds.add("kappa, fdatasyncs/s", groups.len() as f64 / kappa);
            rounds.add("raw, fdatasyncs/s", groups.len() as f64 / bare);
            rounds.add("kappa, us of CPU a product", cpu * 1e6 / count as f64);
            rounds.add("sqlite, us of CPU a product", cpu_of_peer * 1e6 / count as f64);
            if let Some((rate, cpu)) = with_threads {
                rounds.add(SQLITE_WITH_THREADS, rate);
                rounds.add("the same, us of CPU a product", cpu);
            }
            of_group.push(count as f64 / groups.len() as f64);
        }
    }
    rounds.print();
    say(format_args!("  {:<34} {}", "products in a group", Spread::of(&of_group).expect("there were rounds")));
    match goal {
        Some(goal) => rounds.at_least("kappa", "raw", goal),
        None => rounds.report("kappa", "raw"),
    }
    let peers = if matches!(shape, Shape::Threads) { &["sqlite", SQLITE_WITH_THREADS][..] } else { &["sqlite"] };
    for peer in peers {
        if writers == 64 { rounds.at_least("kappa", peer, 1.0) } else { rounds.report("kappa", peer) }
    }
    database.kappa.close().expect("the database closes");
}

/// Disks whose syncs take longer: how much of what they can give do callers get who wait for their answers? No more than
/// all of them share a sync.
fn slower_disks() {
    for (writers, delay) in [(2, 2_000), (16, 400), (16, 2_000), (64, 2_000)] {
        let place = directory(env!("CARGO_TARGET_TMPDIR"));
        let files = CountingFiles::slowed(Duration::from_micros(delay));
        let database = Database::new(place.path(), files);
        let title = format!("writes: {writers} threads, where a sync takes {delay} us longer");
        let mut rounds = Rounds::new(title, "products/s");
        for round in 0..=ROUNDS {
            let (count, seconds) = database.run(writers, Shape::Threads, ROUND_SECONDS);
            let groups = database.files.take_groups().len();
            if round > 0 {
                rounds.add("kappa", count as f64 / seconds);
                rounds.add("all callers in each sync", writers as f64 * 1e6 / delay as f64);
                rounds.add("products in a group", count as f64 / groups as f64);
            }
        }
        rounds.print();
        rounds.report("kappa", "all callers in each sync");
        database.kappa.close().expect("the database closes");
    }
}

/// 64 writers for so long that checkpoints, and in a long run merges, are part of what is measured.
fn at_length(name: &str, seconds: usize) {
    let place = directory(env!("CARGO_TARGET_TMPDIR"));
    let database = Database::new(place.path(), CountingFiles::default());
    let watch = Stopwatch::start();
    let mut per_second = Rounds::new(format!("writes: {name} of {seconds} s, 64 threads"), "products/s, each second");
    let (count, elapsed) = std::thread::scope(|scope| {
        let run = scope.spawn(|| database.run(64, Shape::Threads, seconds as f64));
        let mut before = database.created();
        for second in 1..=seconds {
            watch.wait_until(second as f64);
            let now = database.created();
            per_second.add("kappa", (now - before) as f64);
            before = now;
        }
        run.join().expect("the writers do not panic")
    });
    per_second.print();
    let groups = database.files.take_groups();
    let (rate, log) = (count as f64 / elapsed, groups.iter().sum::<usize>() >> 20);
    say(format_args!("  {count} products in {elapsed:.1} s: {rate:.0}/s, {log} MiB of log"));
    let refused = database.refused.load(Ordering::Relaxed);
    say(format_args!("  {refused} creates were refused because the view's drain was behind"));
    let closing = Stopwatch::start();
    database.kappa.close().expect("the database closes");
    say(format_args!("  closing took {:.2} s", closing.seconds()));
    let bare = Raw::new(place.path()).run(&groups);
    say(format_args!("  raw took {bare:.1} s for the same groups afterwards: kappa / raw {:.3}", bare / elapsed));
}
