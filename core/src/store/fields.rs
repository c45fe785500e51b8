//! The top-level fields of a document, read from its text without making values of all of them.

use std::borrow::Cow;
use std::fmt;

use serde_json::{Map, Value};

/// Where one field lies in a document's text, which is below 4 GiB by far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where its name begins and ends, quotes included.
    pub name: (u32, u32),
    /// Where its value begins and ends.
    pub value: (u32, u32),
}

/// The fields of one document.
#[derive(Clone, Copy)]
pub enum Fields<'a> {
    /// Where they lie in its text.
    Text(&'a str, &'a [Place]),
    /// As values that are at hand anyhow.
    Values(&'a Map<String, Value>),
}

/// What one field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// Nothing.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A number with the digits it was written with.
    Number(&'a str),
    /// Text.
    String(Cow<'a, str>),
    /// The JSON text of an array or an object.
    Nested(Cow<'a, str>),
}

impl<'a> Fields<'a> {
    /// What the field `name` holds; none where there is no such field.
    pub fn get(self, name: &str) -> Option<Field<'a>> {
        match self {
            Self::Text(text, places) => {
                let place = places.iter().find(|place| is_name(cut(text, place.name), name))?;
                Some(Field::of_text(cut(text, place.value)))
            }
            Self::Values(values) => values.get(name).map(Field::of_value),
        }
    }
}

impl<'a> Field<'a> {
    /// What the text of one JSON value means.
    pub fn of_text(text: &'a str) -> Self {
        match text.as_bytes().first() {
            Some(b'n') => Self::Null,
            Some(b't') => Self::Bool(true),
            Some(b'f') => Self::Bool(false),
            Some(b'"') => unquoted(text).map_or(Self::Nested(text.into()), Self::String),
            Some(b'-' | b'0'..=b'9') => Self::Number(text),
            _ => Self::Nested(text.into()),
        }
    }

    /// The same as a field.
    pub fn of_value(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(yes) => Self::Bool(*yes),
            Value::Number(number) => Self::Number(number.as_str()),
            Value::String(text) => Self::String(text.into()),
            Value::Array(_) | Value::Object(_) => Self::Nested(value.to_string().into()),
        }
    }
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(yes) => yes.fmt(f),
            Self::Number(text) => f.write_str(text),
            Self::String(text) => Value::from(&**text).fmt(f),
            Self::Nested(text) => f.write_str(text),
        }
    }
}

/// The string that a quoted text means; none when it means none.
pub fn unquoted(quoted: &str) -> Option<Cow<'_, str>> {
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') { serde_json::from_str(quoted).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

fn is_name(quoted: &str, name: &str) -> bool {
    // A name with an escape is not what its text says.
    let is_written_so = quoted.get(1..quoted.len() - 1).is_some_and(|inner| inner == name) && !name.contains('\\');
    is_written_so || quoted.contains('\\') && unquoted(quoted).is_some_and(|found| found == name)
}

fn cut(text: &str, (start, end): (u32, u32)) -> &str {
    &text[start as usize..end as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::document::Document;

    /// A rule that reads another value than readers of the document do would let a wrong document in.
    #[test]
    fn fields_from_text_are_those_of_the_values() {
        let text = r#"{ "a" : [1, {"x": "}"}], "\u0062": "q\"\n\u00e9", "n":-1.50e+3,"e":"", "x":{},"t":true,"f":false,
            "z":null , "é\\":" \\", "":0}"#;
        let document = Document::parse(text).expect("a document");
        let found = document.read_fields().expect("its fields");
        let values = document.fields();
        for name in ["a", "b", "n", "e", "x", "t", "f", "z", "é\\", "", "c", "\\u0062", "q"] {
            assert_eq!(found.get(name), Fields::Values(values).get(name), "name={name}");
            assert_eq!(found.get(name).is_some(), values.contains_key(name), "name={name}");
        }
        assert_eq!(found.get("b"), Some(Field::String("q\"\né".into())));
        assert_eq!(found.get("b").expect("there").to_string(), r#""q\"\né""#);
        assert_eq!(found.get("a"), Some(Field::Nested(r#"[1,{"x":"}"}]"#.into())));
    }
}
