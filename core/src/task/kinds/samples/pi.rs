//! `pi_digits`: `[10]` or `{"digits": 10}` gives `"3.1415926535"`, so many places, cut and not rounded.

use std::fmt::Write;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::task::kinds::{Context, Failure, Kind, Outcome, parameters};

/// A few seconds on one core.
const MAX_DIGITS: usize = 50_000;
/// One limb holds nine decimal places.
const LIMB: u64 = 1_000_000_000;
const LIMB_DIGITS: usize = 9;
/// Each term is cut by less than one in its last place; there are fewer than 10^6 terms.
const GUARD_LIMBS: usize = 2;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    digits: usize,
}

/// The decimal places of pi.
pub struct PiDigits;

fn digits(params: &Value) -> Result<usize> {
    let Parameters { digits } = parameters::read_listed(params, &["digits"])?;
    if digits == 0 || digits > MAX_DIGITS {
        return Err(Error::invalid("the digits are 1 to 50 000").with("digits", digits));
    }
    Ok(digits)
}

impl Kind for PiDigits {
    fn check(&self, params: &Value) -> Result<()> {
        digits(params).map(drop)
    }

    fn run(&self, context: &dyn Context) -> Outcome {
        pi(digits(context.params())?, context).map(|text| json!(text))
    }
}

/// Machin's formula, pi = 16 arctan(1/5) - 4 arctan(1/239), in fixed-point numbers of base 10^9.
fn pi(digits: usize, context: &dyn Context) -> std::result::Result<String, Failure> {
    let limbs = 1 + digits.div_ceil(LIMB_DIGITS) + GUARD_LIMBS;
    let mut sum = arctan_of_inverse(5, limbs, |done| look(context, done * 0.75))?;
    multiply(&mut sum, 4);
    let small = arctan_of_inverse(239, limbs, |done| look(context, 0.75 + done * 0.25))?;
    subtract(&mut sum, &small);
    multiply(&mut sum, 4);
    let (whole, places) = sum.split_first().expect("one limb stands before the point");
    let mut text = format!("{whole}.");
    for limb in places {
        write!(text, "{limb:09}").expect("a string takes what is written");
    }
    text.truncate("3.".len() + digits);
    Ok(text)
}

fn look(context: &dyn Context, done: f64) -> std::result::Result<(), Failure> {
    context.progress(done);
    if context.cancelled() { Err(Failure::cancelled()) } else { Ok(()) }
}

/// 1/x - 1/3x^3 + 1/5x^5 - ...
fn arctan_of_inverse(
    x: u64,
    limbs: usize,
    mut look: impl FnMut(f64) -> std::result::Result<(), Failure>,
) -> std::result::Result<Vec<u64>, Failure> {
    let mut power = vec![0; limbs];
    power[0] = 1;
    divide(&mut power, x, 0);
    let mut sum = power.clone();
    // Limbs before this one are zero in the power, so in all terms to come.
    let mut first = 0;
    let mut term = Vec::new();
    for n in 1_u64.. {
        divide(&mut power, x * x, first);
        first += power[first..].iter().take_while(|limb| **limb == 0).count();
        if first == limbs {
            break;
        }
        term.clone_from(&power);
        divide(&mut term, 2 * n + 1, first);
        let step: fn(&mut [u64], &[u64]) = if n % 2 == 1 { subtract } else { add };
        step(&mut sum, &term);
        if n % 256 == 0 {
            look(first as f64 / limbs as f64)?;
        }
    }
    Ok(sum)
}

/// `divisor` is below 10^9, so that a remainder and a limb fit into 64 bits.
fn divide(number: &mut [u64], divisor: u64, first: usize) {
    let mut rest = 0;
    for limb in &mut number[first..] {
        let value = rest * LIMB + *limb;
        *limb = value / divisor;
        rest = value % divisor;
    }
}

fn multiply(number: &mut [u64], factor: u64) {
    let mut carry = 0;
    for limb in number.iter_mut().rev() {
        let value = *limb * factor + carry;
        *limb = value % LIMB;
        carry = value / LIMB;
    }
}

fn add(sum: &mut [u64], number: &[u64]) {
    let mut carry = 0;
    for (limb, other) in sum.iter_mut().zip(number).rev() {
        let value = *limb + other + carry;
        *limb = value % LIMB;
        carry = value / LIMB;
    }
}

fn subtract(sum: &mut [u64], number: &[u64]) {
    let mut borrow = 0;
    for (limb, other) in sum.iter_mut().zip(number).rev() {
        let value = *limb + LIMB - other - borrow;
        *limb = value % LIMB;
        borrow = u64::from(value < LIMB);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::Stage;
    use super::*;

    const FIRST: &str =
        "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798214808";

    /// Known places far from the start: the six nines (762 to 767) trip those who carry wrongly, and the places up to
    /// 10 000 end in 5678 (published tables).
    #[test]
    fn the_places_are_those_of_pi() {
        let pi = |digits: usize| {
            let answer = PiDigits.run(&Stage::new(json!([digits]))).expect("it runs");
            answer.as_str().expect("text").to_owned()
        };
        assert_eq!(pi(1), "3.1");
        for digits in [8, 9, 10, 17, 18, 19, 100] {
            assert_eq!(pi(digits), FIRST[..digits + 2]);
        }
        let long = pi(10_000);
        assert_eq!(&long[2 + 761..2 + 767], "999999");
        assert_eq!((&long[long.len() - 4..], long.len()), ("5678", 10_002));
        assert_eq!(pi(767), long[..769]);
    }

    #[test]
    fn a_long_one_can_be_cancelled_and_a_longer_one_is_refused() {
        let stage = Stage::new(json!({"digits": MAX_DIGITS})).cancelled_after(1);
        assert_eq!(PiDigits.run(&stage), Err(Failure::cancelled()));
        for params in [json!([0]), json!([MAX_DIGITS + 1]), json!({}), json!(["10"])] {
            assert!(PiDigits.check(&params).is_err(), "{params}");
        }
    }
}
