//! Which JSON numbers a JavaScript number holds.

/// The largest whole number whose neighbours a double can tell apart.
const MAX_SAFE: u64 = (1 << 53) - 1;
/// Numbers of fewer characters and without an exponent have at most 15 digits, which every double keeps.
const SHORT: usize = 16;

/// Whether `JSON.parse` reads every number of `json`, which is valid JSON, without losing digits. Whole numbers above
/// 2^53 count as lost, also those that a double happens to hold: a field has one type, whatever its last digits are.
pub fn fit_doubles(json: &str) -> bool {
    are_short(json.as_bytes()) || all_fit(json)
}

/// Whether no number needs a closer look. Much faster than that look, because only what may begin a number is met: the
/// places behind separators, wherever they stand. In text they mislead now and then, which costs the closer look.
fn are_short(json: &[u8]) -> bool {
    let behind = memchr::memchr3_iter(b':', b',', b'[', json).map(|at| at + 1);
    std::iter::once(0).chain(behind).all(|at| is_short(&json[at..]))
}

/// Whether `json` does not begin with a number, or with one that certainly fits.
fn is_short(json: &[u8]) -> bool {
    let text = match json.first() {
        Some(b'-' | b'0'..=b'9') => json,
        Some(byte) if byte.is_ascii_whitespace() => json.trim_ascii_start(),
        _ => return true,
    };
    let number = text.iter().take(SHORT).take_while(|byte| is_number(**byte));
    let mut length = 0;
    for byte in number {
        length += 1;
        if matches!(byte, b'e' | b'E') {
            return false;
        }
    }
    length < SHORT
}

fn all_fit(json: &str) -> bool {
    let bytes = json.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = behind_string(bytes, at + 1),
            b'-' | b'0'..=b'9' => {
                let end = bytes[at..].iter().position(|byte| !is_number(*byte)).map_or(bytes.len(), |len| at + len);
                if !fits(&json[at..end]) {
                    return false;
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    true
}

fn is_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
}

/// The position behind the quote that ends the string with text from `at` on.
fn behind_string(bytes: &[u8], mut at: usize) -> usize {
    while let Some(found) = bytes[at..].iter().position(|byte| matches!(byte, b'"' | b'\\')) {
        at += found;
        if bytes[at] == b'"' {
            return at + 1;
        }
        // The escaped character is not looked at; at the end of a text cut short there is none.
        at = (at + 2).min(bytes.len());
    }
    bytes.len()
}

fn fits(number: &str) -> bool {
    if number.len() < SHORT && !number.contains(['e', 'E']) {
        return true;
    }
    let digits = number.strip_prefix('-').unwrap_or(number);
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return digits.parse::<u64>().is_ok_and(|whole| whole <= MAX_SAFE);
    }
    let Ok(double) = number.parse::<f64>() else { return false };
    double.is_finite() && scientific(digits) == scientific(&format!("{:e}", double.abs()))
}

/// The digits without zeros at either end, and the power of ten before the first of them.
fn scientific(number: &str) -> Option<(String, i64)> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        return Some((String::new(), 0));
    }
    let zeros = digits.len() - significant.len();
    let point = i64::try_from(whole.len()).ok()? - i64::try_from(zeros).ok()?;
    let exponent = exponent.parse::<i64>().ok()?.checked_add(point)?;
    Some((significant.trim_end_matches('0').to_owned(), exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A price or an id that comes back as its neighbour is wrong without anybody noticing.
    #[test]
    fn numbers_that_doubles_hold_are_told_from_those_they_do_not() {
        for number in [
            "0",
            "-0",
            "-0.0",
            "12.50",
            "9007199254740991",
            "-9007199254740991",
            "0.1234567890123456",
            "1e22",
            "1.5E+3",
            "1e-7",
            "0.30000000000000004",
            "5e-324",
            "1.7976931348623157e308",
            "0.00000000000000000000",
            "0e5",
            "123456789012345.0",
            "1000000000000000.0",
        ] {
            assert!(fit_doubles(&format!("{{\"a\":[{number},1]}}")), "{number}");
        }
        for number in [
            "9007199254740992",
            "-9007199254740993",
            "12345678901234567890",
            "100000000000000000000",
            "1e400",
            "1e-400",
            "0.1234567890123456789",
            "12345678901234.5678",
            "3.14159265358979323846",
            "1e99999999999999999999",
        ] {
            assert!(!fit_doubles(&format!("{{\"a\":[{number},1]}}")), "{number}");
            assert!(!fit_doubles(number), "{number}");
        }
    }

    /// The fast look must never pass over what the closer one refuses, wherever white space stands.
    #[test]
    fn the_fast_look_misses_no_number() {
        let long = "12345678901234567890";
        for json in [
            format!("{long} "),
            format!(" {long}"),
            format!("[1 ,\n {long}]"),
            format!("{{\"a\" :\t{long}}}"),
            format!("[[{long}]]"),
            "[1e400]".to_owned(),
            "{\"a\":-1E400}".to_owned(),
        ] {
            assert!(!are_short(json.as_bytes()) && !fit_doubles(&json), "{json}");
        }
        for json in [r#"{"a":"1, 2","b":-1.5,"c":[1,2,3],"d":"x:1e5"}"#, "123456789012345", "", "null"] {
            assert!(fit_doubles(json), "{json}");
        }
    }

    /// Digits inside text are no numbers; a quote inside text does not end it.
    #[test]
    fn text_is_passed_over() {
        for text in
            [r#"{"12345678901234567890":"98765432109876543210"}"#, r#"["\"12345678901234567890\\"]"#, r#"["\\\"#]
        {
            assert!(fit_doubles(text), "{text}");
        }
        assert!(!fit_doubles(r#"["\\",12345678901234567890]"#));
    }
}
