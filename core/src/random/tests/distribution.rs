//! Whether the counts follow the distribution they claim.

use super::statistics::{SIGMAS, chi_square, kolmogorov_smirnov, normal_share_below, sigmas};
use super::*;

/// The sum of the statistics of many seeds, as standard deviations from what chance gives: too high is a bias, too low is
/// numbers more even than chance.
fn sigmas_over_seeds(seeds: u64, values: u32, counts: impl Fn(u64) -> Vec<u64>) -> f64 {
    let sum: f64 = (0..seeds).map(|seed| chi_square(&counts(seed))).sum();
    sigmas(sum, seeds as f64 * f64::from(values - 1))
}

#[test]
fn every_value_is_as_likely_as_every_other() {
    for method in METHODS {
        for (values, count) in [(2, 20_000), (10, 20_000), (1_000, 50_000), (40_000, 400_000), (65_537, 700_000)] {
            let off = sigmas_over_seeds(24, values, |seed| counted(method, seed, count, 1..=i64::from(values)));
            println!("seeds=0..24 method={method} values={values} sigmas={off:.2}");
            assert!(off.abs() < SIGMAS, "method={method} values={values} sigmas={off}");
        }
    }
}

/// One bad seed in ten hides in a sum: the share of seeds below each p-value must be that p-value as well. A distance
/// above sqrt(ln(2 / alpha) / 2 / seeds) has the chance alpha (Dvoretzky, Kiefer and Wolfowitz); alpha is 1e-6.
#[test]
fn p_values_of_many_seeds_are_spread_evenly() {
    let seeds = 400_u32;
    let bound = (f64::ln(2.0 / 1e-6) / 2.0 / f64::from(seeds)).sqrt();
    for method in METHODS {
        let p_value = |seed| {
            let counts = counted(method, u64::from(seed), 20_000, 1..=1_000);
            normal_share_below(sigmas(chi_square(&counts), 999.0))
        };
        let distance = kolmogorov_smirnov((0..seeds).map(p_value).collect());
        println!("seeds=0..{seeds} method={method} distance={distance:.3} bound={bound:.3}");
        assert!(distance < bound, "method={method} distance={distance}");
    }
}

/// 65 536 words do not divide among 40 000 values: without rejection 25 536 of them come up twice as often. The same
/// yardstick that passes the draws above must condemn both wrong ways, or it proves nothing.
#[test]
fn words_taken_without_rejection_are_condemned() {
    let values = 40_000_u32;
    let wrong = |place: fn(u32, u32) -> u32| {
        sigmas_over_seeds(2, values, |seed| {
            let mut stream = Keystream::new(seed, Purpose::Draw).stream(0);
            let mut counts = vec![0; values as usize];
            for _ in 0..400_000 {
                counts[place(stream.next_u32() & 0xffff, values) as usize] += 1;
            }
            counts
        })
    };
    let modulo = wrong(|word, values| word % values);
    let multiply = wrong(|word, values| (word * values) >> 16);
    println!("seeds=0..2 modulo={modulo:.0} multiply={multiply:.0}");
    assert!(modulo > 10.0 * SIGMAS && multiply > 10.0 * SIGMAS, "modulo={modulo} multiply={multiply}");
}

/// With five draws of three values there are 21 outcomes with known chances: both methods are held against the
/// multinomial law itself, dependence between the counts included.
#[test]
fn small_outcomes_have_their_exact_chances() {
    let runs = 6_000_u32;
    let factorial = |n: u64| (1..=n).product::<u64>() as f64;
    for method in METHODS {
        let mut seen = std::collections::BTreeMap::<Vec<u64>, u32>::new();
        for seed in 0..runs {
            *seen.entry(counted(method, u64::from(seed), 5, 0..=2)).or_default() += 1;
        }
        let mut statistic = 0.0;
        for (a, b) in (0..=5).flat_map(|a| (0..=5 - a).map(move |b| (a, b))) {
            let outcome = vec![a, b, 5 - a - b];
            let ways = factorial(5) / outcome.iter().map(|&n| factorial(n)).product::<f64>();
            let expected = f64::from(runs) * ways / 3_f64.powi(5);
            let times = f64::from(seen.get(&outcome).copied().unwrap_or(0));
            statistic += (times - expected).powi(2) / expected;
        }
        let off = sigmas(statistic, 20.0);
        println!("seeds=0..{runs} method={method} sigmas={off:.2}");
        assert!(off.abs() < SIGMAS, "method={method} sigmas={off}");
    }
}

/// Rounding in a library sample of too many trials shows first in the variance. The variance of counts over `runs`
/// seeds has a relative deviation of sqrt(2 / runs), their mean one of sqrt(variance / runs).
#[test]
fn sampled_counts_have_the_mean_and_spread_of_draws() {
    let runs = 2_000_u32;
    for (count, values) in
        [(1_000_u64, 4_u32), (10_000_000_000_000, 1_000), (100_000_000_000_001, 5), (u64::MAX / 1_000, 2)]
    {
        let chance = 1.0 / f64::from(values);
        let (mean, variance) = (count as f64 * chance, count as f64 * chance * (1.0 - chance));
        let (mut sum, mut squares) = (0.0, 0.0);
        for seed in 0..runs {
            let counts = counted(Method::Multinomial, u64::from(seed), count, 1..=i64::from(values));
            assert_eq!(counts.iter().sum::<u64>(), count);
            // The last value: its count passes through every split and every remainder on the way down.
            let off = counts[values as usize - 1] as f64 - mean;
            sum += off;
            squares += off * off;
        }
        let runs = f64::from(runs);
        let mean_off = sum / runs / (variance / runs).sqrt();
        let variance_off = (squares / runs / variance - 1.0) / (2.0 / runs).sqrt();
        println!("seeds=0..{runs} count={count} values={values} mean={mean_off:.2} variance={variance_off:.2}");
        assert!(mean_off.abs() < SIGMAS && variance_off.abs() < SIGMAS, "count={count} values={values}");
    }
}

/// The largest count is the sum of 1.8 million parts; a part lost or taken twice breaks the sum or the balance.
#[test]
fn the_largest_count_is_shared_out_completely() {
    let counts = counted(Method::Multinomial, 1, u64::MAX, 1..=2);
    assert_eq!(counts[0].checked_add(counts[1]), Some(u64::MAX));
    let off = (counts[0] as f64 - counts[1] as f64) / (u64::MAX as f64).sqrt();
    println!("seed=1 sigmas={off:.2}");
    assert!(off.abs() < SIGMAS, "sigmas={off}");
}
