//! `random_number`: `[1, 6]` or `{"min": 1, "max": 6}` gives a whole number from 1 to 6.

use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::env::Entropy;
use crate::error::{Error, Result};
use crate::task::kinds::{Context, Kind, Outcome, parameters};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(default = "default_min")]
    min: i64,
    #[serde(default = "default_max")]
    max: i64,
}

fn default_min() -> i64 {
    1
}

fn default_max() -> i64 {
    100
}

/// One number, each of the range as likely as the others; 1 to 100 unless it is said. Another attempt draws anew.
pub struct RandomNumber {
    /// Where chance comes from.
    pub entropy: Arc<dyn Entropy>,
}

fn bounds(params: &Value) -> Result<(i64, i64)> {
    let Parameters { min, max } = parameters::read_listed(params, &["min", "max"])?;
    if min > max {
        return Err(Error::invalid("the range is empty").with("min", min).with("max", max));
    }
    Ok((min, max))
}

impl Kind for RandomNumber {
    fn check(&self, params: &Value) -> Result<()> {
        bounds(params).map(drop)
    }

    fn run(&self, context: &dyn Context) -> Outcome {
        let (min, max) = bounds(context.params())?;
        let mut seed = [0; 32];
        self.entropy.fill(&mut seed);
        Ok(json!(ChaCha8Rng::from_seed(seed).random_range(min..=max)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::Stage;
    use super::*;
    use crate::env::SeededEntropy;

    /// Off by one, a die never shows its six.
    #[test]
    fn every_number_of_the_range_comes_up() {
        let seed = 11;
        println!("seed={seed}");
        let die = RandomNumber { entropy: Arc::new(SeededEntropy::new(seed)) };
        let stage = Stage::new(json!([1, 6]));
        let mut counts = [0; 8];
        for _ in 0..600 {
            let number = die.run(&stage).expect("it runs").as_u64().expect("a whole number");
            counts[usize::try_from(number).expect("small")] += 1;
        }
        assert_eq!((counts[0], counts[7]), (0, 0), "{counts:?}");
        assert!(counts[1..7].iter().all(|count| (50..150).contains(count)), "{counts:?}");
        let whole = die.run(&Stage::new(json!({"min": i64::MIN, "max": i64::MAX}))).expect("the whole range");
        assert!(whole.is_i64());
        assert!(die.check(&json!([2, 1])).is_err());
    }
}
