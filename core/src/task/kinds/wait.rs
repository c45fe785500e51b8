//! `wait`: a task that takes its time and does nothing else.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{Error, Result};

use super::{Context, Failure, Kind, Outcome, parameters};

/// A longer wait is a due time, which costs no worker.
const MAX_WAIT: Duration = Duration::from_secs(24 * 3_600);
/// Progress is told this often at most.
const SHORTEST_STEP: Duration = Duration::from_millis(100);
const STEPS: u32 = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    ms: Option<u64>,
}

/// Waits `ms` milliseconds, or as long as the configuration says; result `{"waited_ms"}`. An attempt after a crash
/// waits anew.
pub struct Wait {
    /// How long where the task does not say.
    pub default: Duration,
}

impl Wait {
    fn length(&self, params: &Value) -> Result<Duration> {
        let parameters: Parameters = parameters::read(params)?;
        let length = parameters.ms.map_or(self.default, Duration::from_millis);
        if length > MAX_WAIT {
            let error = Error::invalid("a task waits at most a day; use a due time");
            return Err(error.with("ms", length.as_millis()).with("most", MAX_WAIT.as_millis()));
        }
        Ok(length)
    }
}

impl Kind for Wait {
    fn check(&self, params: &Value) -> Result<()> {
        self.length(params).map(drop)
    }

    fn run(&self, context: &dyn Context) -> Outcome {
        let length = self.length(context.params())?;
        let step = (length / STEPS).max(SHORTEST_STEP);
        let mut waited = Duration::ZERO;
        while waited < length {
            let next = step.min(length.saturating_sub(waited));
            if context.wait_cancelled(next) {
                return Err(Failure::cancelled());
            }
            waited += next;
            context.progress(waited.as_secs_f64() / length.as_secs_f64());
        }
        Ok(json!({"waited_ms": length.as_millis() as u64}))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Stage;
    use super::*;

    const WAIT: Wait = Wait { default: Duration::from_secs(5) };

    #[test]
    fn it_waits_as_long_as_it_is_told() {
        let stage = Stage::new(json!({"ms": 20_000}));
        assert_eq!(WAIT.run(&stage), Ok(json!({"waited_ms": 20_000})));
        assert_eq!(stage.waited(), Duration::from_secs(20));
        assert!(stage.told() > 0.999, "{}", stage.told());
        let stage = Stage::new(Value::Null);
        assert_eq!(WAIT.run(&stage), Ok(json!({"waited_ms": 5_000})));
        assert_eq!(stage.waited(), Duration::from_secs(5));
        assert_eq!(WAIT.run(&Stage::new(json!({"ms": 0}))), Ok(json!({"waited_ms": 0})));
    }

    /// A wait that looks for its end only once it is over holds its slot for a day after it was cancelled.
    #[test]
    fn it_stops_where_it_is_cancelled() {
        let stage = Stage::new(json!({"ms": 86_400_000})).cancelled_after(3);
        assert_eq!(WAIT.run(&stage), Err(Failure::cancelled()));
        assert!(stage.waited() < Duration::from_secs(3_600), "{:?}", stage.waited());
    }

    #[test]
    fn a_wait_has_a_bound() {
        for params in [json!({"ms": 86_400_001}), json!({"ms": -1}), json!({"ms": "1"}), json!({"seconds": 1})] {
            assert!(WAIT.check(&params).is_err(), "{params}");
        }
        WAIT.check(&json!({})).expect("the configuration says how long");
    }
}
