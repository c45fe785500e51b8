//! Durations as people write them: `5s`.

use std::time::Duration;

use crate::error::{Error, Result};

/// Units and the milliseconds they hold, those with longer names first.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// The duration that a whole number and its unit stand for: `250ms`, `5s`, `15m`, `24h`, `30d`.
///
/// # Errors
/// `InvalidInput` for anything else.
pub fn parse_duration(text: &str) -> Result<Duration> {
    let wrong =
        || Error::invalid("a duration is a whole number with ms, s, m, h or d behind it").with("duration", text);
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, millis) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    /// A minute that is read as a millisecond runs a task 60 000 times too early.
    #[test]
    fn each_unit_is_itself() {
        for (text, millis) in [("250ms", 250), ("5s", 5_000), ("15m", 900_000), ("24h", 86_400_000), ("0d", 0)] {
            assert_eq!(parse_duration(text).expect(text), Duration::from_millis(millis));
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in
            ["", "5", "s", "5 s", "-5s", "1.5s", "5S", "5sec", "99999999999999999999s", "999999999999999999d", "٣s"]
        {
            assert_eq!(parse_duration(text).expect_err(text).kind(), ErrorKind::InvalidInput);
        }
    }
}
