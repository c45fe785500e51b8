//! What makes a document a user.

use email_address::{EmailAddress, Options};

use crate::error::{Error, Result};

use super::fields::{Field, Fields};
use super::order_value::Decimal;

/// The largest group that every language holds exactly.
const MAX_GROUP: u64 = (1 << 53) - 1;

/// Checks the fields that Kappa knows; others are the caller's own.
///
/// # Errors
/// `InvalidInput` naming the field: a name that is no text or empty, an e-mail address that is none,
/// a group that is no whole number between -(2^53 - 1) and 2^53 - 1.
pub fn check(fields: Fields<'_>) -> Result<()> {
    match fields.get("name") {
        None | Some(Field::Null) => {}
        Some(Field::String(name)) if !name.trim().is_empty() => {}
        Some(_) => return Err(Error::invalid("a name is text that is not empty").with("field", "name")),
    }
    match fields.get("email") {
        None | Some(Field::Null) => {}
        Some(Field::String(email)) => check_email(&email)?,
        Some(_) => return Err(not_an_email()),
    }
    match fields.get("group") {
        None | Some(Field::Null) => Ok(()),
        Some(Field::Number(group)) if is_group(group) => Ok(()),
        Some(_) => Err(Error::invalid("a group is a whole number").with("field", "group")),
    }
}

fn check_email(email: &str) -> Result<()> {
    let options = Options::default().with_required_tld().without_domain_literal().without_display_text();
    match EmailAddress::parse_with_options(email, options) {
        Ok(_) => Ok(()),
        Err(error) => Err(not_an_email().caused_by(error)),
    }
}

fn not_an_email() -> Error {
    Error::invalid("not an e-mail address").with("field", "email")
}

fn is_group(text: &str) -> bool {
    let Some(decimal) = Decimal::parse(text) else { return false };
    if !decimal.is_whole() || decimal.exponent > 16 {
        return false;
    }
    let zeros = usize::try_from(decimal.exponent).map_or(0, |whole| whole - decimal.digits.len());
    let digits = decimal.digits.iter().chain(std::iter::repeat_n(&0, zeros));
    digits.fold(0, |number, &digit| number * 10 + u64::from(digit)) <= MAX_GROUP
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn is_user(fields: &Value) -> bool {
        check(Fields::Values(fields.as_object().expect("an object"))).is_ok()
    }

    #[test]
    fn users_need_nothing_but_what_they_say_must_be_true() {
        for fields in [
            json!({}),
            json!({"name": "Ana", "email": "ana@mail.example.museum", "group": 0, "more": [1]}),
            json!({"name": null, "email": null, "group": null}),
            json!({"group": -9_007_199_254_740_991_i64}),
            json!({"email": "josé@bücher.example"}),
        ] {
            assert!(is_user(&fields), "{fields}");
        }
        for fields in [
            json!({"name": ""}),
            json!({"name": " "}),
            json!({"name": 1}),
            json!({"email": ""}),
            json!({"email": "ana"}),
            json!({"email": "ana@localhost"}),
            json!({"email": "Ana <ana@example.com>"}),
            json!({"email": 5}),
            json!({"group": "1"}),
            json!({"group": 1.5}),
            json!({"group": 9_007_199_254_740_992_i64}),
        ] {
            assert!(!is_user(&fields), "{fields}");
        }
    }

    #[test]
    fn a_group_may_be_written_in_any_way_that_means_a_whole_number() {
        for (text, expected) in [("5.0", true), ("1e3", true), ("-0", true), ("1e16", false), ("1e-1", false)] {
            assert_eq!(is_group(text), expected, "{text}");
        }
    }
}
