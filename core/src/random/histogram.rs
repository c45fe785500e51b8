//! The answer: how often each value came up.

use std::ops::RangeInclusive;

use serde::Serialize;

use crate::random::svg;
use crate::random::{HistogramRequest, Method};

/// How often each value of a range came up, and how that was found.
///
/// Serialised, `range` is an object with `start` and `end`, and `counts` stands in the order of the values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Histogram {
    count: u64,
    range: RangeInclusive<i64>,
    seed: u64,
    method: Method,
    elapsed_ms: u64,
    counts: Vec<u64>,
}

impl Histogram {
    pub(super) fn new(request: &HistogramRequest, seed: u64, counts: Vec<u64>, elapsed_ms: u64) -> Self {
        Self { count: request.count, range: request.range.clone(), seed, method: request.method, elapsed_ms, counts }
    }

    /// The number of draws, which is the sum of the counts.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The values that could come up.
    pub fn range(&self) -> RangeInclusive<i64> {
        self.range.clone()
    }

    /// The seed that gives this answer again.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// How the counts came about.
    pub fn method(&self) -> Method {
        self.method
    }

    /// How long the call took, in milliseconds.
    pub fn elapsed_ms(&self) -> u64 {
        self.elapsed_ms
    }

    /// The counts in the order of the values: the first belongs to the start of the range.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The count of `value`, where it lies in the range.
    pub fn get(&self, value: i64) -> Option<u64> {
        let offset = self.range.contains(&value).then(|| value.abs_diff(*self.range.start()))?;
        self.counts.get(usize::try_from(offset).ok()?).copied()
    }

    /// Every value with its count, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (i64, u64)> + '_ {
        let start = *self.range.start();
        self.counts.iter().enumerate().map(move |(offset, &count)| (start.wrapping_add_unsigned(offset as u64), count))
    }

    /// A picture of the counts as one self-contained SVG document with a title for screen readers.
    ///
    /// `width` and `height` are in pixels and kept between 160 and 8 192, and 90 and 8 192. Where there are more values
    /// than pixels, neighbours share a bar that shows their mean count.
    pub fn to_svg(&self, width: u32, height: u32) -> String {
        svg::render(self, width, height)
    }
}
