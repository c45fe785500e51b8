//! `sum` and `multiplication`: `[1, 2, 3, 4]` or `{"numbers": [1, 2, 3, 4]}` gives 10 or 24.

use serde_json::{Number, Value};

use crate::error::{Error, ErrorKind, Result};
use crate::task::kinds::{Context, Kind, Outcome};

/// Whole numbers are added and multiplied exactly up to 2^127, others as doubles.
pub struct Fold {
    start: i128,
    whole: fn(i128, i128) -> Option<i128>,
    double: fn(f64, f64) -> f64,
}

impl Fold {
    /// The sum; of nothing, 0.
    pub const SUM: Self = Self { start: 0, whole: i128::checked_add, double: |a, b| a + b };
    /// The product; of nothing, 1.
    pub const MULTIPLICATION: Self = Self { start: 1, whole: i128::checked_mul, double: |a, b| a * b };

    fn fold(&self, params: &Value) -> Result<Value> {
        let numbers = numbers(params)?;
        let whole: Option<Vec<i128>> = numbers.iter().map(|number| number.as_i128()).collect();
        let folded = if let Some(whole) = whole {
            whole.into_iter().try_fold(self.start, self.whole).and_then(Number::from_i128)
        } else {
            let doubles = numbers.iter().filter_map(|number| number.as_f64());
            Number::from_f64(doubles.fold(self.start as f64, self.double))
        };
        folded
            .map(Value::Number)
            .ok_or_else(|| Error::new(ErrorKind::TooLarge, "the result is too large to be written"))
    }
}

fn numbers(params: &Value) -> Result<Vec<&Number>> {
    let list = match params {
        Value::Array(list) => list,
        Value::Object(fields) => match (fields.get("numbers"), fields.len()) {
            (Some(Value::Array(list)), 1) => list,
            _ => return Err(Error::invalid("the one parameter is `numbers`, a list")),
        },
        _ => return Err(Error::invalid("the parameters are a list of numbers, or an object with `numbers`")),
    };
    let numbers = list.iter().enumerate().map(|(position, value)| match value {
        Value::Number(number) if number.as_f64().is_some_and(f64::is_finite) => Ok(number),
        _ => Err(Error::invalid("not a number").with("position", position)),
    });
    numbers.collect()
}

impl Kind for Fold {
    fn check(&self, params: &Value) -> Result<()> {
        numbers(params).map(drop)
    }

    fn run(&self, context: &dyn Context) -> Outcome {
        Ok(self.fold(context.params())?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The answers of the task server's own client are 10 and 24; whole numbers above 2^53 must keep their last digit.
    #[test]
    fn whole_numbers_stay_exact() {
        for (params, sum, product) in [
            (json!([1, 2, 3, 4]), "10", "24"),
            (json!({"numbers": [1, 2, 3, 4]}), "10", "24"),
            (json!([]), "0", "1"),
            (json!([9_007_199_254_740_993_i64, 1]), "9007199254740994", "9007199254740993"),
            (json!([-5, 2.5]), "-2.5", "-12.5"),
        ] {
            assert_eq!(Fold::SUM.fold(&params).expect("a sum").to_string(), sum);
            assert_eq!(Fold::MULTIPLICATION.fold(&params).expect("a product").to_string(), product);
        }
        let large = json!(vec![i64::MAX; 3]);
        assert_eq!(Fold::MULTIPLICATION.fold(&large).expect_err("too large").kind(), ErrorKind::TooLarge);
        Fold::SUM.fold(&large).expect("it fits");
        assert!(Fold::MULTIPLICATION.fold(&json!([1e300, 1e300])).is_err(), "infinity is no JSON");
    }

    #[test]
    fn what_is_no_list_of_numbers_is_refused() {
        let huge: Value = serde_json::from_str("[1e999]").expect("JSON");
        for params in [json!({}), json!("1"), json!([1, "2"]), json!([[1]]), json!({"numbers": [1], "x": 1}), huge] {
            assert_eq!(Fold::SUM.check(&params).expect_err("refused").kind(), ErrorKind::InvalidInput, "{params}");
        }
    }
}
