//! How long a database takes to open, and what memory that needs: after a kill, a power cut, a clean end, and
//! without its view.
//!
//! Each open is a process of its own: this program runs itself again as a child.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use kappa_benches::{
    Rounds, Stopwatch, cpu_seconds, describe, directory, id, is_soak, is_wanted, memory_peak, product_with_id, say,
};
use kappa_core::{Definition, Document, ErrorKind, IndexDefinition, Kappa};

const ROLE: &str = "KAPPA_BENCH_ROLE";
const PLACE: &str = "KAPPA_BENCH_PLACE";
const COUNT: &str = "KAPPA_BENCH_COUNT";
const ROUNDS: usize = 3;
const BATCH: u64 = 100;

fn main() {
    match std::env::var(ROLE).as_deref() {
        Ok("fill") => fill(),
        Ok("open") => open(),
        Ok(role) => panic!("no such role: {role}"),
        Err(_) if is_wanted("open") => measure(),
        Err(_) => {}
    }
}

fn measure() {
    describe("open");
    let count: u64 = if is_soak() { 1_000_000 } else { 100_000 };
    let place = directory(env!("CARGO_TARGET_TMPDIR"));
    let mut times = Rounds::new(format!("open: {count} products"), "seconds");
    let mut cpu = Rounds::new(format!("open: {count} products, all threads"), "seconds of CPU");
    let mut memory = Rounds::new(format!("open: {count} products, most memory resident"), "MiB");

    let mut phase = |name: &str, role: &str, end: End| {
        let process = Process::start(role, place.path(), count);
        times.add(name, process.seconds);
        cpu.add(name, process.cpu);
        memory.add(name, process.memory);
        process.end(&end);
    };
    phase("fill", "fill", End::Kill);
    // First, because the fill was killed amid a drain: there is the most to do.
    for _ in 0..ROUNDS {
        start_machine_again(place.path());
        phase("open after a power cut", "open", End::Kill);
    }
    for _ in 0..ROUNDS {
        phase("open after a kill", "open", End::Kill);
    }
    phase("open after a kill", "open", End::Close);
    for _ in 0..ROUNDS {
        phase("open after a clean end", "open", End::Close);
    }
    for _ in 0..if is_soak() { 1 } else { ROUNDS } {
        remove_view(place.path());
        phase("open without its view", "open", End::Close);
    }
    times.print();
    times.goal("open after a kill", 3.0);
    times.goal("open after a power cut", 10.0);
    times.goal("open without its view", 60.0);
    cpu.print();
    memory.print();
    for name in
        ["fill", "open after a kill", "open after a power cut", "open after a clean end", "open without its view"]
    {
        memory.goal(name, 512.0);
    }
    say("  the goals are for 1 000 000 products");
}

/// What becomes of a process that has been measured.
enum End {
    Kill,
    Close,
}

/// A child that did its work and waits.
struct Process {
    child: Child,
    seconds: f64,
    cpu: f64,
    memory: f64,
}

impl Process {
    fn start(role: &str, place: &Path, count: u64) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut command = Command::new(program);
        command.env(ROLE, role).env(PLACE, place).env(COUNT, count.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("this program runs again");
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.as_mut().expect("its output is piped"));
        output.read_line(&mut line).expect("its output is text");
        let mut figures = line.split_whitespace().map(|word| word.parse::<f64>().expect("a child prints figures"));
        let mut figure = || figures.next().expect("a child prints three figures");
        let (seconds, cpu, memory) = (figure(), figure(), figure() / f64::from(1 << 20));
        Self { child, seconds, cpu, memory }
    }

    fn end(mut self, end: &End) {
        match end {
            End::Kill => self.child.kill().expect("the child runs"),
            End::Close => self.child.stdin.take().expect("its input is piped").write_all(b"\n").expect("it reads"),
        }
        let status = self.child.wait().expect("the child ends");
        assert!(status.success() || matches!(end, End::Kill), "a child failed: {status}");
    }
}

/// Lets the next open believe that the machine was started again, so that it trusts nothing which sled wrote before it
/// has compared it. The files are as they were written: what a cut takes from them is what the crash tests are for.
fn start_machine_again(place: &Path) {
    let lock = place.join("kappa/LOCK");
    let text = std::fs::read_to_string(&lock).expect("there is a lock file");
    let pid = text.lines().next().expect("it begins with the owner");
    std::fs::write(&lock, format!("{pid}\nanother\n")).expect("nobody holds it");
}

/// Takes the view away, as if it had been lost: the log can do without.
fn remove_view(place: &Path) {
    let partition = place.join("kappa/partition-0000");
    let entries = std::fs::read_dir(&partition).expect("the partition is there");
    let views = entries.map(|entry| entry.expect("it is listed").path());
    let views = views.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("view-")));
    let removed = views.map(|view| std::fs::remove_dir_all(view).expect("nobody has it open")).count();
    assert_eq!(removed, 1, "there is one view");
}

fn setting(name: &str) -> String {
    std::env::var(name).expect("the parent gives it")
}

fn fill() {
    let count: u64 = setting(COUNT).parse().expect("a number");
    let watch = Stopwatch::start();
    let kappa = Kappa::open(Path::new(&setting(PLACE)).join("kappa")).expect("a new directory");
    let by_price = IndexDefinition { name: "price".into(), field: "price".into(), unique: false };
    let definition = Definition { indexes: vec![by_price], ..Definition::default() };
    kappa.products().declare(definition).wait().expect("the index is new");
    for start in (0..count).step_by(BATCH as usize) {
        let numbers = start..(start + BATCH).min(count);
        let document = |number| Document::parse(product_with_id(&id(number), number)).expect("a document");
        let batch = || numbers.clone().fold(kappa.batch(), |batch, number| batch.create("products", document(number)));
        // The view's drain sets the pace: where it falls behind for long, a write is refused and may be repeated.
        while let Err(error) = batch().commit().wait() {
            assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
        }
    }
    tell_and_wait(&watch);
    kappa.close().expect("the database closes");
}

/// Opens, and counts as open once a read was answered.
fn open() {
    let count: u64 = setting(COUNT).parse().expect("a number");
    let watch = Stopwatch::start();
    let kappa = Kappa::open(Path::new(&setting(PLACE)).join("kappa")).expect("the database opens");
    let last = kappa.products().get(&id(count - 1)).wait().expect("reads answer");
    assert!(last.is_some(), "a product was lost");
    tell_and_wait(&watch);
    assert_eq!(kappa.products().count().wait().expect("reads answer"), count);
    kappa.close().expect("the database closes");
}

/// Prints the figures for the parent, and goes on when it says so.
fn tell_and_wait(watch: &Stopwatch) {
    say(format_args!("{} {} {}", watch.seconds(), cpu_seconds(), memory_peak()));
    let _ = std::io::stdin().read(&mut [0]).expect("the parent has the other end");
}
