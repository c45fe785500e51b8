//! What JSON text must keep to beyond the grammar: unique names, bounded depth, no space to waste.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::error::{Error, Result};

/// Objects and arrays may lie in each other this deep, the document itself included.
pub const MAX_DEPTH: usize = 32;

/// The parser gives names that start so a meaning of its own; a document with one would change in an update.
const RESERVED: &str = "$serde_json::private::";

enum Level<'a> {
    Array,
    Object { names: BTreeSet<Cow<'a, str>>, at_name: bool },
}

/// Checks text that is known to be valid JSON, and gives it without white space where it had any.
///
/// # Errors
/// `InvalidInput` for a name that comes twice in one object (readers would disagree about its
/// value), a reserved name, and text that is too deep.
pub fn check(text: &str) -> Result<Option<String>> {
    let bytes = text.as_bytes();
    let mut levels: Vec<Level<'_>> = Vec::new();
    let mut spaces = false;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let end = string_end(bytes, at);
                if let Some(Level::Object { names, at_name: at_name @ true }) = levels.last_mut() {
                    *at_name = false;
                    check_name(names, &text[at..end])?;
                }
                at = end;
                continue;
            }
            b'{' => levels.push(Level::Object { names: BTreeSet::new(), at_name: true }),
            b'[' => levels.push(Level::Array),
            b'}' | b']' => {
                levels.pop();
            }
            b',' => {
                if let Some(Level::Object { at_name, .. }) = levels.last_mut() {
                    *at_name = true;
                }
            }
            byte => spaces |= byte.is_ascii_whitespace(),
        }
        if levels.len() > MAX_DEPTH {
            return Err(Error::invalid("the document is nested too deep").with("limit", MAX_DEPTH));
        }
        at += 1;
    }
    Ok(spaces.then(|| without_spaces(text)))
}

fn check_name<'a>(names: &mut BTreeSet<Cow<'a, str>>, quoted: &'a str) -> Result<()> {
    let name: Cow<'a, str> = if quoted.contains('\\') {
        Cow::Owned(serde_json::from_str(quoted).map_err(|error| Error::invalid("not a JSON string").caused_by(error))?)
    } else {
        Cow::Borrowed(&quoted[1..quoted.len() - 1])
    };
    if name.starts_with(RESERVED) {
        return Err(Error::invalid("the document uses a reserved field name").with("field", name));
    }
    if names.contains(&name) {
        return Err(Error::invalid("the document has a field twice").with("field", name));
    }
    names.insert(name);
    Ok(())
}

/// The position behind the string that starts at `start`.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

fn without_spaces(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut compact = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'"' => string_end(bytes, at),
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
            assert_eq!(check(text).expect(text), None);
        }
    }

    /// A name that the parser reads as a number would turn an object into that number at the next update.
    #[test]
    fn names_that_mean_something_to_the_parser_are_refused() {
        let text = r#"{"a":{"$serde_json::private::Number":"1"}}"#;
        assert_eq!(check(text).expect_err("refused").kind(), ErrorKind::InvalidInput);
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
        assert_eq!(check(text).expect("valid").as_deref(), Some(r#"{"a b":"x \" \\","c":[1,2.50]}"#));
    }
}
