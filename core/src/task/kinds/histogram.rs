//! `histogram`: a draw of random numbers that can be watched and cancelled.

use std::ops::RangeInclusive;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{Error, ErrorKind, Result};
use crate::random::{Control, Histogram, HistogramRequest, Method, histogram};

use super::{Context, Failure, Kind, Outcome, parameters};

/// How long a cancelled draw may go on, and how often progress is told.
const LOOK: Duration = Duration::from_millis(50);
/// More counts than this do not fit into a task's result.
const MAX_VALUES: u64 = 65_536;
const DEFAULT_COUNT: u64 = 100_000_000;
/// Draws are made one by one: this many take half an hour on two cores.
const MAX_DRAWS: u64 = 1_000_000_000_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(default = "default_count")]
    count: u64,
    #[serde(default = "default_min")]
    min: i64,
    #[serde(default = "default_max")]
    max: i64,
    seed: Option<u64>,
    #[serde(default)]
    method: Method,
}

fn default_count() -> u64 {
    DEFAULT_COUNT
}

fn default_min() -> i64 {
    1
}

fn default_max() -> i64 {
    1_000
}

/// Counts how often each whole number from `min` to `max` comes up among `count` draws; also `seed` and `method`. The
/// result is the histogram as the library gives it: the same for the same seed.
pub struct DrawHistogram;

impl DrawHistogram {
    fn request(params: &Value) -> Result<HistogramRequest> {
        let Parameters { count, min, max, seed, method } = parameters::read(params)?;
        let range: RangeInclusive<i64> = min..=max;
        if range.is_empty() {
            return Err(Error::invalid("the range is empty").with("min", min).with("max", max));
        }
        if max.abs_diff(min) >= MAX_VALUES {
            let error = Error::new(ErrorKind::TooLarge, "a task counts at most 65 536 values");
            return Err(error.with("min", min).with("max", max));
        }
        if method == Method::Draw && count > MAX_DRAWS {
            let error = Error::new(ErrorKind::TooLarge, "so many draws are sampled: use the method multinomial");
            return Err(error.with("count", count).with("most", MAX_DRAWS));
        }
        let request = HistogramRequest::new().count(count).range(range).method(method);
        Ok(match seed {
            Some(seed) => request.seed(seed),
            None => request,
        })
    }
}

impl Kind for DrawHistogram {
    fn check(&self, params: &Value) -> Result<()> {
        Self::request(params).map(drop)
    }

    fn run(&self, context: &dyn Context) -> Outcome {
        let control = Control::new();
        let request = Self::request(context.params())?.control(&control);
        let answer = watched(&request, &control, context)?;
        Ok(json!(answer))
    }
}

/// Draws on a thread beside this one, which looks after progress and cancellation.
fn watched(request: &HistogramRequest, control: &Control, context: &dyn Context) -> Result<Histogram, Failure> {
    thread::scope(|scope| {
        let (done, answer) = sync_channel(1);
        let draw = move || {
            // Nobody listens any more only where the receiver below panicked.
            let _ = done.send(histogram(request));
        };
        let started = thread::Builder::new().name("kappa-draw".to_owned()).spawn_scoped(scope, draw);
        started.map_err(|error| Failure::passing("unavailable", format!("no thread to draw on: {error}")))?;
        loop {
            match answer.recv_timeout(LOOK) {
                Ok(Err(error)) if error.kind() == ErrorKind::Cancelled => return Err(Failure::cancelled()),
                Ok(answer) => return Ok(answer?),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::lasting(ErrorKind::Internal.code(), "the draw ended without an answer"));
                }
                Err(RecvTimeoutError::Timeout) => {
                    context.progress(control.progress());
                    if context.cancelled() {
                        control.cancel();
                    }
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::Stage;
    use super::*;

    #[test]
    fn it_answers_the_counts_of_its_seed() {
        let params = json!({"count": 100_000, "min": -2, "max": 3, "seed": 7});
        let answer = DrawHistogram.run(&Stage::new(params)).expect("it runs");
        let request = HistogramRequest::new().count(100_000).range(-2..=3).seed(7);
        let expected = histogram(&request).expect("it runs");
        assert_eq!(answer["counts"], json!(expected.counts()));
        assert_eq!((&answer["seed"], &answer["range"]), (&json!(7), &json!({"start": -2, "end": 3})));
    }

    /// A draw that nobody can stop keeps all cores busy for minutes after its task was cancelled.
    #[test]
    fn a_long_draw_stops_where_it_is_cancelled() {
        let stage = Stage::new(json!({"count": MAX_DRAWS})).cancelled_after(0);
        assert_eq!(DrawHistogram.run(&stage), Err(Failure::cancelled()));
    }

    #[test]
    fn what_would_not_fit_is_refused_before_it_is_stored() {
        for (params, kind) in [
            (json!({"min": 2, "max": 1}), ErrorKind::InvalidInput),
            (json!({"min": 0, "max": 65_536}), ErrorKind::TooLarge),
            (json!({"min": i64::MIN, "max": i64::MAX}), ErrorKind::TooLarge),
            (json!({"count": MAX_DRAWS + 1}), ErrorKind::TooLarge),
            (json!({"method": "guess"}), ErrorKind::InvalidInput),
            (json!({"counts": 1}), ErrorKind::InvalidInput),
        ] {
            assert_eq!(DrawHistogram.check(&params).expect_err("refused").kind(), kind, "{params}");
        }
        let many = json!({"count": MAX_DRAWS + 1, "method": "multinomial", "min": 0, "max": 65_535});
        DrawHistogram.check(&many).expect("sampled counts are quick");
    }
}
