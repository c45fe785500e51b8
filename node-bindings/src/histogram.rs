//! The parallel histogram of random numbers.

use std::ops::RangeInclusive;
use std::sync::Arc;

use kappa_core::Result;
use kappa_core::random::{Control, Histogram, HistogramRequest, parallelism};
use napi::bindgen_prelude::{External, Float64Array};
use napi_derive::napi;
use serde::Deserialize;
use serde_json::json;

use crate::answer::Text;
use crate::error::malformed;
use crate::guard::export;
use crate::port::{Port, Slot};
use crate::threads;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    count: Option<u64>,
    range: Option<(i64, i64)>,
    seed: Option<u64>,
    method: Option<String>,
    threads: Option<usize>,
}

impl Asked {
    fn request(self) -> Result<HistogramRequest> {
        let mut request = HistogramRequest::new();
        request = self.count.into_iter().fold(request, HistogramRequest::count);
        request = self
            .range
            .into_iter()
            .fold(request, |request, (start, end)| request.range(RangeInclusive::new(start, end)));
        request = self.seed.into_iter().fold(request, HistogramRequest::seed);
        // One processor is left to the event loop, which answers requests meanwhile.
        let threads = self.threads.unwrap_or_else(|| parallelism().saturating_sub(1).max(1));
        request = request.threads(threads);
        match self.method {
            Some(method) => Ok(request.method(method.parse()?)),
            None => Ok(request),
        }
    }
}

/// Counts draws; the answer says how, the counts are taken with `counted`.
#[napi]
pub fn histogram(port: &External<Arc<Port>>, slot: Slot, asked: String) -> napi::Result<Option<String>> {
    export("histogram", || {
        let asked: Asked = serde_json::from_str(&asked)
            .map_err(malformed("count and seed are whole numbers from 0 up, range is two whole numbers"))?;
        let control = Control::new();
        let request = asked.request()?.control(&control);
        let drawing = threads::long("histogram", move || kappa_core::random::histogram(&request));
        let owner = Arc::clone(port);
        Ok(port.start(slot, "histogram", async move {
            let guard = control.cancel_on_drop();
            let histogram = drawing.await?;
            guard.disarm();
            let range = histogram.range();
            let text = json!({
                "count": histogram.count(),
                "range": [range.start(), range.end()],
                "seed": histogram.seed(),
                "method": histogram.method().name(),
                "elapsed_ms": histogram.elapsed_ms(),
            });
            owner.keep(slot, histogram);
            Ok(Text::new(text.to_string()))
        }))
    })
}

/// The histogram that the call `slot` made.
#[napi]
pub fn drawn(port: &External<Arc<Port>>, slot: Slot) -> napi::Result<External<Histogram>> {
    export("drawn", || Ok(External::new(port.take(slot)?)))
}

/// How often each value came up, in the order of the values.
#[napi]
pub fn counts(histogram: &External<Histogram>) -> napi::Result<Float64Array> {
    export("counts", || Ok(histogram.counts().iter().map(|count| *count as f64).collect::<Vec<_>>().into()))
}

/// A picture of the counts.
#[napi]
pub fn svg(histogram: &External<Histogram>, width: u32, height: u32) -> napi::Result<String> {
    export("svg", || Ok(histogram.to_svg(width, height)))
}
