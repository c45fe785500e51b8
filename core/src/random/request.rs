//! What a histogram is asked for.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::random::Control;

/// The number of draws of a request that names none.
pub const DEFAULT_COUNT: u64 = 100_000_000;

/// The most values a range may hold: 2^24.
pub const MAX_VALUES: u32 = 1 << 24;

/// How the counts come about. Both follow the same distribution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Method {
    /// Makes every draw: work grows with the count, 10^8 draws take well under a second on two cores. Above 2^16 values
    /// each thread needs 4 bytes per value; together they take at most 1 GiB, with fewer threads if need be.
    #[default]
    Draw,
    /// Samples the counts themselves from the multinomial distribution, without single draws: one binomial of some 60 ns
    /// per value, and above a count of 10^13 about `count / 10^13 * log2(values)` more. `u64::MAX` draws of 1 000 values
    /// take about a second on two cores, of [`MAX_VALUES`] values some seconds.
    Multinomial,
}

impl Method {
    /// The stable text of this method, in snake case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Draw => "draw",
            Self::Multinomial => "multinomial",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "draw" => Ok(Self::Draw),
            "multinomial" => Ok(Self::Multinomial),
            _ => Err(Error::invalid("the method is draw or multinomial").with("method", text)),
        }
    }
}

/// What to count: 10^8 draws of 1 to 1 000 unless told otherwise.
///
/// # Examples
/// ```
/// use kappa_core::random::{HistogramRequest, Method};
///
/// let request = HistogramRequest::new().count(1_000_000_000_000).range(-5..=5).method(Method::Multinomial);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct HistogramRequest {
    pub(super) count: u64,
    pub(super) range: RangeInclusive<i64>,
    pub(super) seed: Option<u64>,
    pub(super) method: Method,
    pub(super) threads: Option<usize>,
    pub(super) control: Control,
}

impl Default for HistogramRequest {
    fn default() -> Self {
        Self {
            count: DEFAULT_COUNT,
            range: 1..=1_000,
            seed: None,
            method: Method::Draw,
            threads: None,
            control: Control::new(),
        }
    }
}

impl HistogramRequest {
    /// The default request.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many draws; zero is allowed and gives zero counts.
    pub fn count(mut self, count: u64) -> Self {
        self.count = count;
        self
    }

    /// Which values, both ends included; at most [`MAX_VALUES`].
    pub fn range(mut self, range: RangeInclusive<i64>) -> Self {
        self.range = range;
        self
    }

    /// Fixes the seed, so that the same request gives the same counts again. Without one, a seed below 2^53 is drawn
    /// and reported, so that it survives a JSON reader that knows only doubles.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// How the counts come about.
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// At most this many threads at a time; more than [`parallelism`](crate::random::parallelism) means all of them.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Watches and stops the run through `control`; one control serves one run at a time.
    pub fn control(mut self, control: &Control) -> Self {
        self.control = control.clone();
        self
    }

    /// The number of values in the range, where it is allowed.
    pub(super) fn values(&self) -> Result<u32> {
        let (start, end) = (*self.range.start(), *self.range.end());
        if start > end {
            return Err(Error::invalid("the range is empty").with("start", start).with("end", end));
        }
        let steps = end.abs_diff(start);
        if steps >= u64::from(MAX_VALUES) {
            return Err(Error::new(ErrorKind::TooLarge, "the range holds too many values")
                .with("start", start)
                .with("end", end)
                .with("most", MAX_VALUES));
        }
        Ok(steps as u32 + 1)
    }

    /// How many threads of `pool` this request may use.
    pub(super) fn thread_limit(&self, pool: usize) -> Result<usize> {
        match self.threads {
            Some(0) => Err(Error::invalid("at least one thread is needed").with("threads", 0)),
            Some(threads) => Ok(threads.min(pool)),
            None => Ok(pool),
        }
    }
}
