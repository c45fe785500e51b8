//! What JSON text must keep to beyond the grammar: unique names, bounded depth, no space to waste.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::de::IgnoredAny;

use crate::error::{Error, Result};

use super::fields::{Place, unquoted};

/// Objects and arrays may lie in each other this deep, the document itself included.
pub const MAX_DEPTH: usize = 32;

/// The parser gives names that start so a meaning of its own; a document with one would change in an update.
const RESERVED: &str = "$serde_json::private::";

/// There is room for so many fields from the start.
const USUAL_FIELDS: usize = 8;

/// More names of one object than this are looked up instead of being compared one by one.
const FEW_NAMES: usize = 16;

/// The text of an object, and where its fields lie.
#[derive(Debug)]
pub struct Checked {
    /// The text without white space, where it had any.
    pub compact: Option<String>,
    /// The fields in what is kept.
    pub places: Vec<Place>,
}

/// Checks that `text` is one JSON object as documents are.
///
/// # Errors
/// `InvalidInput` where it is none; for a name that comes twice in one object (readers would disagree about its
/// value), a reserved name, and text that is too deep.
pub fn check(text: &str) -> Result<Checked> {
    if !text.trim_ascii_start().starts_with('{') {
        return Err(Error::invalid("not a JSON object"));
    }
    check_any(text, "not a JSON object")
}

/// Checks that `text` is one JSON value of any type: its text without white space, where it had any.
///
/// # Errors
/// As [`check`].
pub fn check_value(text: &str) -> Result<Option<String>> {
    Ok(check_any(text, "not JSON")?.compact)
}

fn check_any(text: &str, refusal: &'static str) -> Result<Checked> {
    // The grammar is the parser's; what follows relies on it.
    let parsed: Result<IgnoredAny, _> = serde_json::from_str(text);
    parsed.map_err(|error| Error::invalid(refusal).caused_by(error))?;
    // Growing costs more than the room for a few. What is no object has no fields.
    let mut places = Vec::with_capacity(if text.starts_with('{') { USUAL_FIELDS } else { 0 });
    if !walk(text, &mut places)? {
        return Ok(Checked { compact: None, places });
    }
    let compact = without_spaces(text);
    places.clear();
    walk(&compact, &mut places)?;
    Ok(Checked { compact: Some(compact), places })
}

enum Level<'a> {
    Array,
    Object { names: Names<'a>, at_name: bool },
}

struct Names<'a> {
    few: Vec<Cow<'a, str>>,
    many: BTreeSet<Cow<'a, str>>,
}

impl<'a> Names<'a> {
    /// Whether `name` is new.
    fn insert(&mut self, name: Cow<'a, str>) -> bool {
        if self.few.contains(&name) || self.many.contains(&name) {
            return false;
        }
        if self.few.len() < FEW_NAMES {
            self.few.push(name);
        } else {
            self.many.insert(name);
        }
        true
    }
}

/// Walks over valid JSON: whether there is white space in it. The places of its fields are right where there is none.
fn walk(text: &str, places: &mut Vec<Place>) -> Result<bool> {
    let bytes = text.as_bytes();
    let mut levels: Vec<Level<'_>> = Vec::new();
    let mut spaces = false;
    // Where the field of the outermost object that is being read begins: its name's two ends.
    let mut name = (0, 0);
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let end = string_end(text, at)?;
                let outermost = levels.len() == 1;
                if let Some(Level::Object { names, at_name: at_name @ true }) = levels.last_mut() {
                    *at_name = false;
                    check_name(names, &text[at..end])?;
                    if outermost {
                        name = (at, end);
                    }
                }
                at = end;
                continue;
            }
            b'{' => {
                let few = Vec::with_capacity(if levels.is_empty() { USUAL_FIELDS } else { 0 });
                levels.push(Level::Object { names: Names { few, many: BTreeSet::new() }, at_name: true });
            }
            b'[' => levels.push(Level::Array),
            closing @ (b'}' | b']') => {
                if levels.len() == 1 && closing == b'}' {
                    places.extend(place(name, at));
                }
                levels.pop();
            }
            b',' => {
                let outermost = levels.len() == 1;
                if let Some(Level::Object { at_name, .. }) = levels.last_mut() {
                    *at_name = true;
                    if outermost {
                        places.extend(place(name, at));
                    }
                }
            }
            byte => spaces |= byte.is_ascii_whitespace(),
        }
        if levels.len() > MAX_DEPTH {
            return Err(Error::invalid("the document is nested too deep").with("limit", MAX_DEPTH));
        }
        at += 1;
    }
    Ok(spaces)
}

/// The field with its name there and its value up to `end`; none of an object without fields.
fn place((start, end): (usize, usize), value_end: usize) -> Option<Place> {
    let short = |at: usize| u32::try_from(at).expect("a document is far below 4 GiB");
    // The colon lies between the two.
    (end > 0).then(|| Place { name: (short(start), short(end)), value: (short(end + 1), short(value_end)) })
}

fn check_name<'a>(names: &mut Names<'a>, quoted: &'a str) -> Result<()> {
    let name = unquoted(quoted).ok_or_else(not_a_string)?;
    if name.starts_with(RESERVED) {
        return Err(Error::invalid("the document uses a reserved field name").with("field", name));
    }
    if !names.insert(name) {
        return Err(
            Error::invalid("the document has a field twice").with("field", unquoted(quoted).unwrap_or_default())
        );
    }
    Ok(())
}

/// The position behind the string that starts at `start`.
fn string_end(text: &str, start: usize) -> Result<usize> {
    let inner = &text[start + 1..];
    let length = inner.find('"').ok_or_else(not_a_string)?;
    if !inner[..length].contains('\\') {
        return Ok(start + length + 2);
    }
    let end = escaped_end(text.as_bytes(), start);
    let quoted = &text[start..end];
    // The grammar alone lets halves of a character pass.
    if quoted.contains("\\u") && unquoted(quoted).is_none() {
        return Err(not_a_string());
    }
    Ok(end)
}

fn escaped_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

fn not_a_string() -> Error {
    Error::invalid("not a JSON string")
}

fn without_spaces(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut compact = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'"' => escaped_end(bytes, at),
            _ => at + 1,
        };
        if !bytes[at].is_ascii_whitespace() {
            compact.push_str(&text[at..end]);
        }
        at = end;
    }
    compact
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    /// Two readers that pick different values of a doubled name see two different documents.
    #[test]
    fn doubled_names_are_refused_wherever_they_lie_and_however_they_are_written() {
        for text in [r#"{"a":1,"a":2}"#, r#"{"x":[{"a":1,"\u0061":2}]}"#, r#"{"":1,"b":{},"":2}"#] {
            assert_eq!(check(text).expect_err(text).kind(), ErrorKind::InvalidInput);
        }
        for text in [r#"{"a":{"a":1},"b":[{"a":1},{"a":2}]}"#, r#"{"a":"a","b":"a","c":["b","b"]}"#] {
            assert_eq!(check(text).expect(text).compact, None);
        }
    }

    /// A name that the parser reads as a number would turn an object into that number at the next update.
    #[test]
    fn names_that_mean_something_to_the_parser_are_refused() {
        let text = r#"{"a":{"$serde_json::private::Number":"1"}}"#;
        assert_eq!(check(text).expect_err("refused").kind(), ErrorKind::InvalidInput);
    }

    /// With many fields the names are looked up another way, which must find the same.
    #[test]
    fn the_last_of_many_names_is_compared_with_all() {
        let names: Vec<String> = (0..3 * FEW_NAMES).map(|n| format!("\"f{n}\":{n}")).collect();
        let text = |more: &str| format!("{{{},{more}}}", names.join(","));
        let checked = check(&text("\"x\":[1,2]")).expect("valid");
        assert_eq!(checked.places.len(), names.len() + 1);
        for n in [0, FEW_NAMES - 1, FEW_NAMES, 3 * FEW_NAMES - 1] {
            let error = check(&text(&format!("\"\\u0066{n}\":1"))).expect_err("twice");
            assert!(error.to_string().contains(&format!("field=f{n}")), "{error}");
        }
    }

    /// Half a character has no place in UTF-8: a reader of the document would be refused what was taken in.
    #[test]
    fn halves_of_characters_are_refused() {
        for text in [r#"{"a":"\ud800"}"#, r#"{"\udfff":1}"#, r#"{"a":["\ud83d\n"]}"#] {
            assert_eq!(check(text).expect_err(text).kind(), ErrorKind::InvalidInput);
            assert!(serde_json::from_str::<serde_json::Value>(text).is_err(), "the parser agrees: {text}");
        }
        check(r#"{"a":"\ud83d\ude00 \\u"}"#).expect("a whole one");
    }

    #[test]
    fn depth_counts_objects_and_arrays_together() {
        let nested = |depth: usize| format!("{{\"a\":{}1{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert!(check(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(check(&nested(MAX_DEPTH + 1)).expect_err("too deep").kind(), ErrorKind::InvalidInput);
    }

    /// White space within strings is content; a quote that is escaped does not end one.
    #[test]
    fn only_space_between_tokens_goes() {
        let text = " {\n \"a b\" : \"x \\\" \\\\\" , \"c\":\t[ 1 , 2.50 ] }\r\n";
        assert_eq!(check(text).expect("valid").compact.as_deref(), Some(r#"{"a b":"x \" \\","c":[1,2.50]}"#));
    }
}
