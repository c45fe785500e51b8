//! What it costs to change documents that lie far apart: nothing that is written together lies together.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;

use kappa_benches::{
    Numbers, Stopwatch, bytes_written, cpu_seconds, describe, directory, id, is_soak, is_wanted, product_with_id, say,
    settle,
};
use kappa_core::env::Env;
use kappa_core::{Definition, Document, ErrorKind, IndexDefinition, Kappa, Options, Pending, Result};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const IN_FLIGHT: usize = 64;

fn main() {
    if !is_wanted("updates") {
        return;
    }
    describe("updates");
    let documents = if is_soak() { 1_000_000 } else { 200_000 };
    let place = directory(env!("CARGO_TARGET_TMPDIR"));
    let kappa = Kappa::open_with(place.path(), &Options::default(), &Env::default()).expect("the directory is new");
    let by_price = IndexDefinition { name: "price".into(), field: "price".into(), unique: false };
    let definition = Definition { indexes: vec![by_price], ..Definition::default() };
    kappa.products().declare(definition).wait().expect("the index is new");
    let products = kappa.products();
    let mut numbers = Numbers::new(1);
    let mut order: Vec<u64> = (0..documents).collect();
    for at in (1..order.len()).rev() {
        order.swap(at, numbers.below(at as u64 + 1) as usize);
    }
    say(format_args!("updates: {documents} products, {IN_FLIGHT} in flight"));
    let document = |number: u64, version: u64| {
        Document::parse(product_with_id(&id(number), version)).expect("a product is a document")
    };
    phase(place.path(), "created in order", 0..documents, |number| products.create(document(number, number)));
    // The price, and with it the place in the index, becomes another one.
    let replaced = |number| products.replace(&id(number), document(number, number + 50_017));
    phase(place.path(), "replaced in no order", order.iter().copied(), replaced);
    let half = order.iter().copied().take(order.len() / 2);
    phase(place.path(), "half deleted in no order", half, |number| products.delete(&id(number)));
    kappa.close().expect("the database closes");
    say(format_args!("  view when closed: {} MiB", bytes_in(&place.path().join("partition-0000"), "view-") >> 20));
}

/// Changes one document after another, and says what each of them cost.
fn phase<T: Send + 'static>(
    place: &Path,
    name: &str,
    numbers: impl Iterator<Item = u64>,
    change: impl Fn(u64) -> Pending<T>,
) {
    let (disk, cpu) = (bytes_written(), cpu_seconds());
    let watch = Stopwatch::start();
    let (mut pending, mut count, mut refused) = (VecDeque::new(), 0_u64, 0_u64);
    let mut take = |answer: Result<T>| {
        count += 1;
        if let Err(error) = answer {
            assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
            refused += 1;
        }
    };
    for number in numbers {
        pending.push_back(change(number));
        if pending.len() == IN_FLIGHT {
            take(pending.pop_front().expect("just counted").wait());
        }
    }
    for answer in pending {
        take(answer.wait());
    }
    let elapsed = watch.seconds();
    settle();
    let each = |total: f64| total / count as f64;
    say(format_args!(
        "  {name:<26} {:>8.0}/s, {:.1} us of CPU and {:.0} bytes written each; {refused} refused; view {} MiB",
        count as f64 / elapsed,
        each((cpu_seconds() - cpu) * 1e6),
        each((bytes_written() - disk) as f64),
        bytes_in(&place.join("partition-0000"), "view-") >> 20,
    ));
}

/// Bytes of the files in the directories of `place` whose names begin so.
fn bytes_in(place: &Path, name: &str) -> u64 {
    let Ok(entries) = fs::read_dir(place) else { return 0 };
    let found = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(name));
    let files = found.filter_map(|entry| fs::read_dir(entry.path()).ok()).flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}
