//! `prime`: `[97]` or `{"number": 97}` gives `{"number": 97, "prime": true, "next": 101}`.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::task::kinds::{Context, Kind, Outcome, parameters};

/// There is a larger prime below 2^64 for each number up to here.
const MAX_NUMBER: u64 = 1 << 63;
/// Enough to decide every number below 3.3 x 10^24 (Sorenson and Webster, 2015).
const WITNESSES: [u64; 12] = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    number: u64,
}

/// Whether a number up to 2^63 is prime, and the smallest prime above it.
pub struct Prime;

fn number(params: &Value) -> Result<u64> {
    let Parameters { number } = parameters::read_listed(params, &["number"])?;
    if number > MAX_NUMBER {
        return Err(Error::invalid("the number is at most 2^63").with("number", number));
    }
    Ok(number)
}

impl Kind for Prime {
    fn check(&self, params: &Value) -> Result<()> {
        number(params).map(drop)
    }

    fn run(&self, context: &dyn Context) -> Outcome {
        let number = number(context.params())?;
        let next = (number + 1..=u64::MAX).find(|candidate| is_prime(*candidate));
        Ok(json!({"number": number, "prime": is_prime(number), "next": next}))
    }
}

/// Miller and Rabin's test with witnesses that leave no doubt for 64 bits.
fn is_prime(number: u64) -> bool {
    if let Some(small) = WITNESSES.iter().find(|witness| number.is_multiple_of(**witness)) {
        return number == *small;
    }
    if number < 2 {
        return false;
    }
    let twos = (number - 1).trailing_zeros();
    let odd = (number - 1) >> twos;
    WITNESSES.iter().all(|witness| {
        let mut power = power(*witness, odd, number);
        if power == 1 || power == number - 1 {
            return true;
        }
        (1..twos).any(|_| {
            power = multiply(power, power, number);
            power == number - 1
        })
    })
}

fn power(base: u64, mut exponent: u64, modulus: u64) -> u64 {
    let (mut base, mut result) = (base % modulus, 1);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = multiply(result, base, modulus);
        }
        base = multiply(base, base, modulus);
        exponent >>= 1;
    }
    result
}

fn multiply(a: u64, b: u64, modulus: u64) -> u64 {
    let product = u128::from(a) * u128::from(b) % u128::from(modulus);
    u64::try_from(product).expect("a remainder is below its modulus")
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::Stage;
    use super::*;

    /// Strong pseudoprimes pass a test with too few witnesses.
    #[test]
    fn primes_are_told_from_numbers_that_look_like_them() {
        let sieve = |n: u64| n > 1 && (2..n).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d));
        for n in 0..5_000 {
            assert_eq!(is_prime(n), sieve(n), "{n}");
        }
        for n in [3_215_031_751, 3_474_749_660_383, 341_550_071_728_321, 3_825_123_056_546_413_051] {
            assert!(!is_prime(n), "{n} is composite");
        }
        assert!(is_prime(18_446_744_073_709_551_557), "the largest below 2^64");
    }

    #[test]
    fn it_answers_the_number_and_the_next_prime() {
        let answer = |params: Value| Prime.run(&Stage::new(params)).expect("it runs");
        assert_eq!(answer(json!([97])), json!({"number": 97, "prime": true, "next": 101}));
        assert_eq!(answer(json!({"number": 0})), json!({"number": 0, "prime": false, "next": 2}));
        assert_eq!(answer(json!([MAX_NUMBER]))["next"], json!(9_223_372_036_854_775_837_u64));
        for params in [json!([]), json!([MAX_NUMBER + 1]), json!([-3]), json!([1.5]), json!([1, 2])] {
            assert!(Prime.check(&params).is_err(), "{params}");
        }
    }
}
