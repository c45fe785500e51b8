//! Yardsticks for counts that should be uniform.

/// How many standard deviations a test allows. Beyond it lies one in 1.7 million for a normal variable; the seeds are
/// fixed, so a test that passes keeps passing until the counts change.
pub const SIGMAS: f64 = 5.0;

/// Pearson's statistic of `counts` against equal chances.
pub fn chi_square(counts: &[u64]) -> f64 {
    let expected = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
    counts.iter().map(|&count| (count as f64 - expected).powi(2) / expected).sum()
}

/// How far a chi-square of `freedom` degrees lies from its mean, in standard deviations (Wilson and Hilferty, 1931).
pub fn sigmas(chi_square: f64, freedom: f64) -> f64 {
    let spread = 2.0 / (9.0 * freedom);
    ((chi_square / freedom).cbrt() - (1.0 - spread)) / spread.sqrt()
}

/// The share of a normal distribution below `z` (Abramowitz and Stegun 7.1.26, error below 1e-7).
pub fn normal_share_below(z: f64) -> f64 {
    let x = z.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let polynomial = [1.061_405_429, -1.453_152_027, 1.421_413_741, -0.284_496_736, 0.254_829_592]
        .iter()
        .fold(0.0, |sum, factor| (sum + factor) * t);
    let tail = 0.5 * polynomial * (-x * x).exp();
    if z > 0.0 { 1.0 - tail } else { tail }
}

/// The largest distance between the shares of `samples`, which should be uniform on 0 to 1, and the line.
pub fn kolmogorov_smirnov(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    let number = samples.len() as f64;
    let distance = |(index, sample): (usize, &f64)| {
        (sample - index as f64 / number).abs().max((sample - (index + 1) as f64 / number).abs())
    };
    samples.iter().enumerate().map(distance).fold(0.0, f64::max)
}
