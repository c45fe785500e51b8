//! Drawn numbers counted, against the keystream and the increments that this takes at least.

use std::hint::black_box;
use std::thread;

use criterion::Criterion;
use kappa_benches::{Numbers, Rounds, Stopwatch, describe, is_wanted, say};
use kappa_core::random::{HistogramRequest, histogram, parallelism};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const DRAWS: usize = 100_000_000;
const VALUES: u64 = 1_000;
const ROUNDS: usize = 15;

/// Words that are made or counted at a time: they stay in the first-level cache, as a good loop would keep them.
const BATCH: usize = 1 << 12;

fn main() {
    if !is_wanted("draw") {
        return;
    }
    describe("draw");
    let threads = parallelism();
    let mut rounds = Rounds::new(format!("draw: {DRAWS} of 1..=1000, {threads} threads"), "ms");
    for round in 0..=ROUNDS {
        let kappa = seconds(|| draw(round as u64));
        let keystream = seconds(|| on_threads(threads, make_words));
        let increments = seconds(|| on_threads(threads, increment));
        if round > 0 {
            rounds.add("kappa", kappa * 1e3);
            rounds.add("bare keystream", keystream * 1e3);
            rounds.add("bare increments", increments * 1e3);
            rounds.add("bare sum", (keystream + increments) * 1e3);
        }
    }
    rounds.print();
    rounds.at_most("kappa", "bare sum", 1.6);
    say("");

    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    criterion.bench_function("draw/100 million", |bencher| bencher.iter(|| draw(7)));
    criterion.final_summary();
}

fn seconds(run: impl FnOnce()) -> f64 {
    let watch = Stopwatch::start();
    run();
    watch.seconds()
}

fn draw(seed: u64) {
    let request = HistogramRequest::new().count(DRAWS as u64).range(1..=VALUES.cast_signed()).seed(seed);
    let counts = histogram(&request).expect("the request is legal");
    assert_eq!(counts.counts().iter().sum::<u64>(), DRAWS as u64);
}

/// Runs `work` for an equal share of the draws on each thread.
fn on_threads(threads: usize, work: fn(usize)) {
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(move || work(DRAWS / threads));
        }
    });
}

/// Two bytes of keystream a draw, and nothing done with them.
fn make_words(draws: usize) {
    let mut stream = ChaCha8Rng::seed_from_u64(1);
    let mut words = [[0_u8; 2]; BATCH];
    for _ in 0..draws.div_ceil(BATCH) {
        stream.fill_bytes(words.as_flattened_mut());
        black_box(&words);
    }
}

/// One bin counted up a draw, at places that are there already; four sets of bins in turn, because an increment
/// that follows one of the same bin waits for its store.
fn increment(draws: usize) {
    let mut numbers = Numbers::new(1);
    let places: Vec<u16> = (0..BATCH).map(|_| numbers.below(VALUES) as u16).collect();
    let mut bins = vec![[0_u32; 4]; 1 << 16];
    let bins: &mut [[u32; 4]; 1 << 16] = bins.as_mut_slice().try_into().expect("there is a bin for every u16");
    for _ in 0..draws.div_ceil(BATCH) {
        for &[a, b, c, d] in black_box(&places).as_chunks::<4>().0 {
            for (lane, place) in [a, b, c, d].into_iter().enumerate() {
                let bin = &mut bins[usize::from(place)][lane];
                *bin = bin.wrapping_add(1);
            }
        }
        black_box(&mut *bins);
    }
}
