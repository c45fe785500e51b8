//! Prices as the shop took them: a number, or digits as text, rounded to two decimals without passing through a float.

use serde_json::Value;

/// More digits than this are no price.
const MAX_DIGITS: usize = 30;

/// The price as a JSON number with at most two decimals; none when it is not a price.
pub fn price(value: &Value) -> Option<Value> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return None,
    };
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let text = if plain { text } else { without_exponent(value, &text)? };
    let rounded = rounded(&text)?;
    serde_json::from_str(&rounded).ok()
}

/// A JSON number such as `1e3` in plain digits; text with an exponent was never a price.
fn without_exponent(value: &Value, text: &str) -> Option<String> {
    let number: f64 = text.parse().ok()?;
    let fits = value.is_number() && number.is_finite() && number.is_sign_positive() && number < 1e21;
    fits.then(|| format!("{number}"))
}

/// Plain digits rounded half up to two decimals, without zeros at their ends.
fn rounded(text: &str) -> Option<String> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || whole.len() > MAX_DIGITS {
        return None;
    }
    let place = |index: usize| decimals.as_bytes().get(index).map_or(0, |byte| u128::from(byte - b'0'));
    let whole: u128 = whole.parse().ok()?;
    let cents = whole * 100 + place(0) * 10 + place(1) + u128::from(place(2) >= 5);
    let (whole, cents) = (cents / 100, cents % 100);
    let text = format!("{whole}.{cents:02}");
    Some(text.trim_end_matches('0').trim_end_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1.005 as a float is a little less than 1.005, and a shop that rounds floats charges a cent too little.
    #[test]
    fn prices_are_rounded_as_decimals() {
        let cases = [
            ("345", Some("345")),
            ("345.50", Some("345.5")),
            ("345.00", Some("345")),
            ("1.005", Some("1.01")),
            ("1.004999999999999999999", Some("1")),
            ("0.999", Some("1")),
            ("9.995", Some("10")),
            ("0", Some("0")),
            ("0.10", Some("0.1")),
            ("007", Some("7")),
            ("99999999999999999999", Some("99999999999999999999")),
            ("", None),
            (".5", None),
            ("5.", None),
            ("1.2.3", None),
            ("-1", None),
            ("1e3", None),
            ("12a", None),
            (" 12", None),
            ("1111111111111111111111111111111", None),
        ];
        for (text, expected) in cases {
            let found = price(&Value::from(text)).map(|number| number.to_string());
            assert_eq!(found.as_deref(), expected, "text={text:?}");
        }
    }

    #[test]
    fn numbers_may_have_exponents_but_no_minus() {
        for (text, expected) in
            [("1e3", Some("1000")), ("1.5E1", Some("15")), ("-1", None), ("1e400", None), ("25.555", Some("25.56"))]
        {
            let number: Value = serde_json::from_str(text).expect("a number");
            let found = price(&number).map(|number| number.to_string());
            assert_eq!(found.as_deref(), expected, "number={text}");
        }
        assert_eq!(price(&Value::Bool(true)), None);
    }
}
