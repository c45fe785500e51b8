//! What the counts must hold.

use std::ops::RangeInclusive;

use rand::Rng;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::keystream::{Keystream, Purpose};
use super::*;
use crate::env::SeededEntropy;
use crate::error::ErrorKind;

mod distribution;
mod runs;
mod statistics;

const METHODS: [Method; 2] = [Method::Draw, Method::Multinomial];

fn counted(method: Method, seed: u64, count: u64, range: RangeInclusive<i64>) -> Vec<u64> {
    let request = HistogramRequest::new().method(method).seed(seed).count(count).range(range);
    histogram(&request).expect("the request is allowed").counts().to_vec()
}

fn refusal(request: &HistogramRequest) -> ErrorKind {
    histogram(request).expect_err("the request is refused").kind()
}

/// Counts are handed out per value, so one that is lost or invented shows in the sum; the ends of the integers and the
/// change from 16-bit to 32-bit words are where arithmetic on offsets would go wrong.
#[test]
fn counts_belong_to_values_and_sum_up_at_every_edge() {
    let edges = [
        0..=0,
        -3..=3,
        i64::MIN..=i64::MIN + 5,
        i64::MAX - 5..=i64::MAX,
        1..=65_535,
        1..=65_536,
        1..=65_537,
        -(1 << 23)..=(1 << 23) - 1,
    ];
    for method in METHODS {
        for range in edges.clone() {
            let request = HistogramRequest::new().method(method).seed(3).count(300_001).range(range.clone());
            let answer = histogram(&request).expect("the range is allowed");
            println!("seed=3 method={method} range={range:?}");
            assert_eq!(answer.iter().map(|(_, count)| count).sum::<u64>(), 300_001);
            assert_eq!(answer.iter().len() as u64, range.end().abs_diff(*range.start()) + 1);
            let (first, last) = (answer.counts()[0], *answer.counts().last().expect("a range is never empty"));
            assert_eq!((answer.get(*range.start()), answer.get(*range.end())), (Some(first), Some(last)));
            assert_eq!(answer.iter().last(), Some((*range.end(), last)));
            assert_eq!(answer.get(range.start().wrapping_sub(1)), None);
        }
    }
}

#[test]
fn zero_draws_give_zero_counts() {
    for method in METHODS {
        assert_eq!(counted(method, 1, 0, 1..=5), [0; 5]);
    }
}

#[test]
fn a_request_outside_the_limits_is_refused_by_kind() {
    #[expect(clippy::reversed_empty_ranges, reason = "the case under test")]
    let empty = 1..=0;
    assert_eq!(refusal(&HistogramRequest::new().range(empty)), ErrorKind::InvalidInput);
    assert_eq!(refusal(&HistogramRequest::new().threads(0)), ErrorKind::InvalidInput);
    assert_eq!(refusal(&HistogramRequest::new().range(0..=1 << 24)), ErrorKind::TooLarge);
    assert_eq!(refusal(&HistogramRequest::new().range(i64::MIN..=i64::MAX)), ErrorKind::TooLarge);
}

/// A change of the key, the stream numbers, the chunk size or the order of words would silently give other counts for
/// seeds that people have written down.
#[test]
fn a_seed_gives_the_counts_it_always_gave() {
    let draws = counted(Method::Draw, 42, 20_000, 1..=1_000);
    assert_eq!(draws[..8], GOLDEN_DRAW);
    let wide = counted(Method::Draw, 42, 20_000, 1..=100_000);
    let first: Vec<usize> = (0..wide.len()).filter(|&place| wide[place] > 0).take(8).collect();
    assert_eq!(first, GOLDEN_WIDE);
    let sampled = counted(Method::Multinomial, 42, 20_000, 1..=1_000);
    assert_eq!(sampled[..8], GOLDEN_MULTINOMIAL);
    let parts = counted(Method::Multinomial, 42, u64::MAX, 1..=3);
    assert_eq!(parts, GOLDEN_PARTS);
}

const GOLDEN_DRAW: [u64; 8] = [16, 20, 22, 18, 22, 19, 16, 17];
const GOLDEN_WIDE: [usize; 8] = [0, 2, 6, 29, 51, 54, 57, 64];
const GOLDEN_MULTINOMIAL: [u64; 8] = [23, 21, 15, 15, 14, 16, 13, 17];
const GOLDEN_PARTS: [u64; 3] = [6_148_914_691_470_001_882, 6_148_914_686_198_659_122, 6_148_914_696_040_890_611];

/// The layout as one reads it in the text, word by word: batches, lanes and places must be invisible, and a rejection
/// that is left out shows even where it is too rare for statistics.
#[test]
fn a_chunk_is_the_first_accepted_words_of_its_stream() {
    let seed = 9;
    for (values, count) in [
        (3_u32, draw::CHUNK + 12_345),
        (1_000, draw::CHUNK + 1),
        (40_000, 90_000),
        (65_535, 4_097),
        (16_000_001, 20_000),
    ] {
        let bits = if values <= 1 << 16 { 16 } else { 32 };
        let mut expected = vec![0_u64; values as usize];
        for chunk in 0..count.div_ceil(draw::CHUNK) {
            let draws = draw::CHUNK.min(count - chunk * draw::CHUNK);
            first_accepted_words(seed, chunk, bits, draws, &mut expected);
        }
        println!("seed={seed} values={values} count={count}");
        assert!(counted(Method::Draw, seed, count, 1..=i64::from(values)) == expected, "values={values}");
    }
}

fn first_accepted_words(seed: u64, chunk: u64, bits: u32, draws: u64, counts: &mut [u64]) {
    let values = counts.len() as u64;
    let mut stream = Keystream::new(seed, Purpose::Draw).stream(chunk);
    let mut accepted = 0;
    while accepted < draws {
        let word = u64::from(stream.next_u32());
        let words = if bits == 16 { vec![word & 0xffff, word >> 16] } else { vec![word] };
        for word in words {
            let product = word * values;
            if product % (1 << bits) >= (1 << bits) % values && accepted < draws {
                counts[(product >> bits) as usize] += 1;
                accepted += 1;
            }
        }
    }
}

/// With both methods on one keystream, the answers of one seed would be related without showing it.
#[test]
fn the_methods_use_different_streams() {
    let words = [Purpose::Draw, Purpose::Multinomial].map(|purpose| Keystream::new(1, purpose).stream(0).next_u64());
    assert_ne!(words[0], words[1]);
}

/// A seed that a JSON reader rounds would give another histogram when sent back.
#[test]
fn a_request_without_a_seed_reports_one_that_repeats_it() {
    let request = HistogramRequest::new().count(1_000).range(1..=10);
    for source in 0..64 {
        let env = Env { entropy: std::sync::Arc::new(SeededEntropy::new(source)), ..Env::default() };
        let answer = histogram_in(&request, &env).expect("the request is allowed");
        println!("source={source} seed={}", answer.seed());
        assert!(answer.seed() < 1 << 53);
        assert_eq!(answer.counts(), counted(Method::Draw, answer.seed(), 1_000, 1..=10));
    }
    let fresh = || histogram(&request).expect("the request is allowed").seed();
    assert_ne!(fresh(), fresh());
}

#[test]
fn the_answer_names_its_method_and_reads_as_json() {
    let request = HistogramRequest::new().count(7).range(-1..=-1).seed(5).method(Method::Multinomial);
    let answer = histogram(&request).expect("the request is allowed");
    let json = serde_json::to_value(&answer).expect("an answer serialises");
    assert_eq!(json["method"], "multinomial");
    assert_eq!((&json["range"]["start"], &json["counts"][0]), (&(-1).into(), &7.into()));
    for method in METHODS {
        assert_eq!(method.name().parse::<Method>().expect("a name parses"), method);
    }
    assert_eq!("dice".parse::<Method>().expect_err("no such method").kind(), ErrorKind::InvalidInput);
}

/// Counts that do not fit a picture used as they are would give more bars than pixels, and zero counts divide by zero.
#[test]
fn the_picture_fits_its_size_and_says_what_it_shows() {
    for (count, values, bars) in [(0, 1, 1), (100, 6, 6), (1_000_000, 70_000, 600 - 24)] {
        let request = HistogramRequest::new().seed(1).count(count).range(1..=values);
        let svg = histogram(&request).expect("the request is allowed").to_svg(600, 300);
        assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>"), "{svg}");
        assert!(svg.contains("role=\"img\"") && svg.contains("<title>") && svg.contains("seed 1"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert_eq!(svg.matches('H').count(), bars, "{svg}");
    }
}

/// A pool of `threads` threads whatever machine the test runs on.
fn pool_of(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(threads).build().expect("the machine gives threads")
}
