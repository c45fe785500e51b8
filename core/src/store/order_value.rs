//! Index values as bytes that sort as the values do.
//!
//! null < false < true < numbers (exact, whatever their length) < strings (by their UTF-8 bytes). No
//! encoded value is the beginning of another one, so that what follows it in a key never matters.

use std::fmt;

use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};

use super::fields::Field;

/// An encoded value is at most this long.
pub const MAX_VALUE_BYTES: usize = 256;

const NULL: u8 = 1;
const FALSE: u8 = 2;
const TRUE: u8 = 3;
const NEGATIVE: u8 = 4;
const ZERO: u8 = 5;
const POSITIVE: u8 = 6;
const STRING: u8 = 7;

/// Behind a number's digits and a string's bytes; below everything that can stand there.
const END: u8 = 0;
/// In a string: the byte behind it, less one.
const ESCAPE: u8 = 1;

/// The bytes of `value`; errors name `field`.
///
/// # Errors
/// `InvalidInput` for an array or object; `TooLarge` above [`MAX_VALUE_BYTES`].
pub fn encode(value: &Value, field: &str) -> Result<Vec<u8>> {
    encode_field(&Field::of_value(value), field)
}

/// As [`encode`], of what a field holds.
///
/// # Errors
/// As [`encode`].
pub fn encode_field(value: &Field<'_>, field: &str) -> Result<Vec<u8>> {
    let encoded = match value {
        Field::Null => vec![NULL],
        Field::Bool(false) => vec![FALSE],
        Field::Bool(true) => vec![TRUE],
        Field::Number(number) => match Decimal::parse(number) {
            Some(decimal) => encode_decimal(&decimal),
            None => return Err(too_large(field, "exponent", number)),
        },
        Field::String(text) => encode_text(text),
        Field::Nested(_) => {
            return Err(Error::invalid("an indexed field holds no array or object").with("field", field));
        }
    };
    if encoded.len() > MAX_VALUE_BYTES {
        return Err(too_large(field, "bytes", encoded.len()));
    }
    Ok(encoded)
}

fn too_large(field: &str, what: &'static str, value: impl fmt::Display) -> Error {
    let error = Error::new(ErrorKind::TooLarge, "the value of an indexed field is over its limit");
    error.with("field", field).with(what, value).with("limit", MAX_VALUE_BYTES)
}

/// How many of the first `bytes` are one encoded value.
pub fn encoded_len(bytes: &[u8]) -> Option<usize> {
    let end = match *bytes.first()? {
        NULL | FALSE | TRUE | ZERO => return Some(1),
        POSITIVE | STRING => END,
        NEGATIVE => !END,
        _ => return None,
    };
    let start = match bytes[0] {
        STRING => 1,
        // An exponent's bytes may look like the end.
        NEGATIVE => 1 + exponent_len(!*bytes.get(1)?),
        _ => 1 + exponent_len(*bytes.get(1)?),
    };
    let behind = bytes.get(start..)?.iter().position(|&byte| byte == end)?;
    Some(start + behind + 1)
}

fn encode_text(text: &str) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(text.len() + 2);
    encoded.push(STRING);
    for &byte in text.as_bytes() {
        if byte <= ESCAPE {
            encoded.extend_from_slice(&[ESCAPE, byte + 1]);
        } else {
            encoded.push(byte);
        }
    }
    encoded.push(END);
    encoded
}

/// Exponents from -100 to 100 take one byte around this one, others five.
const EXPONENT_ZERO: i32 = 128;
const EXPONENT_SHORT: i32 = 100;
const EXPONENT_BELOW: u8 = 1;
const EXPONENT_ABOVE: u8 = 255;

fn exponent_len(first: u8) -> usize {
    if first == EXPONENT_BELOW || first == EXPONENT_ABOVE { 5 } else { 1 }
}

fn encode_decimal(decimal: &Decimal) -> Vec<u8> {
    if decimal.digits.is_empty() {
        return vec![ZERO];
    }
    let mut encoded = vec![if decimal.negative { NEGATIVE } else { POSITIVE }];
    let exponent = decimal.exponent;
    if (-EXPONENT_SHORT..=EXPONENT_SHORT).contains(&exponent) {
        encoded.push(u8::try_from(EXPONENT_ZERO + exponent).expect("a short exponent takes one byte"));
    } else {
        encoded.push(if exponent < 0 { EXPONENT_BELOW } else { EXPONENT_ABOVE });
        encoded.extend_from_slice(&(exponent.cast_unsigned() ^ 1 << 31).to_be_bytes());
    }
    // Two digits a byte, one more than they say, because the end must lie below them.
    for pair in decimal.digits.chunks(2) {
        encoded.push(pair[0] * 10 + pair.get(1).unwrap_or(&0) + 1);
    }
    encoded.push(END);
    if decimal.negative {
        encoded[1..].iter_mut().for_each(|byte| *byte = !*byte);
    }
    encoded
}

/// A number as 0.d1d2d3... x 10^exponent: the first and the last digit are not 0, zero has no digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decimal {
    /// Whether it lies below zero; never for zero.
    pub negative: bool,
    /// The digits, each 0 to 9.
    pub digits: Vec<u8>,
    /// Where the point stands.
    pub exponent: i32,
}

impl Decimal {
    /// The number that a JSON text means; none when its exponent leaves 32 bits.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, unsigned) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, power) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|byte| byte.wrapping_sub(b'0')).collect();
        let Some(first) = digits.iter().position(|&digit| digit != 0) else {
            return Some(Self { negative: false, digits: Vec::new(), exponent: 0 });
        };
        let last = digits.iter().rposition(|&digit| digit != 0)?;
        let power: i64 = power.parse().ok()?;
        let point = i64::try_from(whole.len()).ok()? - i64::try_from(first).ok()?;
        let exponent = i32::try_from(power.checked_add(point)?).ok()?;
        digits.truncate(last + 1);
        digits.drain(..first);
        Some(Self { negative, digits, exponent })
    }

    /// Whether nothing stands behind the point.
    pub fn is_whole(&self) -> bool {
        usize::try_from(self.exponent).map_or(self.digits.is_empty(), |whole| self.digits.len() <= whole)
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn number(text: &str) -> Vec<u8> {
        encode(&serde_json::from_str(text).expect(text), "f").expect(text)
    }

    /// A list by price that puts 10 before 9, or loses 1 when asked for 1.0, is wrong for everybody.
    #[test]
    fn values_sort_by_kind_and_then_by_value() {
        let sorted = [
            "null",
            "false",
            "true",
            "-1e2000",
            "-1e101",
            "-10",
            "-9.5",
            "-9",
            "-1",
            "-0.1",
            "-1e-200",
            "0",
            "1e-200",
            "1e-101",
            "0.09",
            "0.1",
            "0.10000000000000000000001",
            "1",
            "1.5",
            "9",
            "10",
            "99.95",
            "100",
            "1e100",
            "1e101",
            "1e2000",
            "\"\"",
            "\"\\u0000\"",
            "\"\\u0000a\"",
            "\"\\u0001\"",
            "\"\\u0002\"",
            "\"A\"",
            "\"a\"",
            "\"a\\u0000\"",
            "\"a\\u0001\"",
            "\"aa\"",
            "\"b\"",
            "\"é\"",
            "\"日\"",
        ];
        for pair in sorted.windows(2) {
            assert!(number(pair[0]) < number(pair[1]), "{} < {}", pair[0], pair[1]);
        }
    }

    #[test]
    fn equal_numbers_have_one_encoding() {
        for texts in [&["1", "1.0", "10e-1", "0.1E1", "1.000e+0"][..], &["0", "-0", "0.00", "0e99999999999"]] {
            for text in texts {
                assert_eq!(number(text), number(texts[0]), "{text}");
            }
        }
    }

    #[test]
    fn what_has_no_order_is_refused_by_name() {
        for value in [json!([1]), json!({})] {
            let error = encode(&value, "tags").expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains("field=tags"), "{error}");
        }
        for text in [format!("\"{}\"", "x".repeat(255)), format!("1{}", "1".repeat(600)), "1e99999999999".to_owned()] {
            let value: Value = serde_json::from_str(&text).expect("json");
            assert_eq!(encode(&value, "f").expect_err(&text).kind(), ErrorKind::TooLarge);
        }
        assert_eq!(number(&format!("\"{}\"", "x".repeat(254))).len(), MAX_VALUE_BYTES);
    }

    #[test]
    fn whole_numbers_are_told_from_fractions() {
        for (text, whole) in [("5", true), ("5.0", true), ("1e3", true), ("0", true), ("0.5", false), ("12e-1", false)]
        {
            assert_eq!(Decimal::parse(text).expect(text).is_whole(), whole, "{text}");
        }
    }

    /// The exact order of two decimals by laying their digits side by side.
    fn compare(left: &(bool, String, String), right: &(bool, String, String)) -> Ordering {
        let width = 40;
        let digits = |(_, whole, fraction): &(bool, String, String)| format!("{whole:0>width$}{fraction:0<width$}");
        let sign = |value: &(bool, String, String)| {
            let zero = digits(value).bytes().all(|byte| byte == b'0');
            if zero {
                0
            } else if value.0 {
                -1
            } else {
                1
            }
        };
        let magnitude = digits(left).cmp(&digits(right));
        sign(left).cmp(&sign(right)).then(if sign(left) < 0 { magnitude.reverse() } else { magnitude })
    }

    fn decimal() -> impl Strategy<Value = (bool, String, String)> {
        (any::<bool>(), "0|[1-9][0-9]{0,5}|[1-9][0-9]{0,30}", "|0{0,6}[0-9]{1,3}|[0-9]{1,30}")
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

        /// Floats would call neighbours equal; the index must not.
        #[test]
        fn numbers_sort_exactly(left in decimal(), right in decimal(), shift in 0usize..6) {
            let text = |value: &(bool, String, String), shift: usize| {
                let sign = if value.0 { "-" } else { "" };
                let point = if value.2.is_empty() { "" } else { "." };
                let zeros = "0".repeat(if value.2.is_empty() { 0 } else { shift });
                format!("{sign}{}{point}{}{zeros}", value.1, value.2)
            };
            let (a, b) = (number(&text(&left, 0)), number(&text(&right, shift)));
            prop_assert_eq!(a.cmp(&b), compare(&left, &right));
            prop_assert_eq!(encoded_len(&a), Some(a.len()));
        }

        /// The id that follows a value in a key must be found again, whatever bytes it has.
        #[test]
        fn a_value_ends_where_it_says(text in "\\PC{0,40}|[\\x00-\\x02]{0,10}", behind: Vec<u8>, power in -3_000i32..3_000) {
            for value in [json!(text), serde_json::from_str(&format!("-7e{power}")).expect("a number")] {
                let mut encoded = encode(&value, "f").expect("short");
                let length = encoded.len();
                encoded.extend_from_slice(&behind);
                prop_assert_eq!(encoded_len(&encoded), Some(length));
            }
        }

        #[test]
        fn any_bytes_can_be_measured(bytes: Vec<u8>) {
            if let Some(length) = encoded_len(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
