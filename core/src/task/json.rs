//! Any JSON value as text that is checked once and not parsed on the way.

use std::fmt;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Result};
use crate::store::{check_json, document::MAX_DOCUMENT_BYTES};

/// Any JSON value: its text with every digit kept. Cloning shares it.
#[derive(Clone, PartialEq, Eq)]
pub struct Json(Bytes);

impl Json {
    /// The value that `text` holds, kept without the white space between its parts.
    ///
    /// # Errors
    /// `TooLarge` above 1 MiB; `InvalidInput` when it is not one JSON value, has a field twice or is nested deeper
    /// than 32.
    pub fn parse(text: impl Into<Bytes>) -> Result<Self> {
        let text = text.into();
        check_bytes(text.len())?;
        Self::of_any_size(text)
    }

    fn of_any_size(text: Bytes) -> Result<Self> {
        let checked = std::str::from_utf8(&text).map_err(|error| Error::invalid("not UTF-8").caused_by(error))?;
        let compact = check_json(checked)?;
        Ok(Self(compact.map_or(text, Bytes::from)))
    }

    /// Anything that serialises to JSON.
    ///
    /// # Errors
    /// As [`Json::parse`].
    pub fn new(value: &impl Serialize) -> Result<Self> {
        Self::parse(serde_json::to_vec(value).map_err(|error| Error::invalid("not JSON").caused_by(error))?)
    }

    /// The value null.
    pub fn null() -> Self {
        Self(Bytes::from_static(b"null"))
    }

    /// Text that is known to be JSON, as it comes back from storage.
    pub(crate) fn from_stored(text: Bytes) -> Self {
        Self(text)
    }

    /// Refuses a value over its limit. Who reads one out of other JSON checks it apart, because an error within that JSON has no
    /// kind of its own.
    pub(crate) fn check_size(&self) -> Result<()> {
        check_bytes(self.len())
    }

    /// The JSON text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.0).expect("the text was checked or made as UTF-8")
    }

    /// The JSON text, shared.
    pub fn bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// The bytes of the text.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: every value has a text.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        &self.0[..] == b"null"
    }

    /// The value as a type of the caller's.
    ///
    /// # Errors
    /// `InvalidInput` when it does not fit.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.0)
            .map_err(|error| Error::invalid("the value does not have this shape").caused_by(error))
    }
}

impl Default for Json {
    fn default() -> Self {
        Self::null()
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        Self(value.to_string().into())
    }
}

impl Serialize for Json {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return serializer.serialize_str(self.text());
        }
        let raw: &RawValue = serde_json::from_str(self.text()).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            // Only what Kappa itself has stored comes in this form.
            return String::deserialize(deserializer).map(|text| Self(text.into()));
        }
        let text = Box::<RawValue>::deserialize(deserializer)?.get().to_owned();
        Self::of_any_size(text.into()).map_err(serde::de::Error::custom)
    }
}

fn check_bytes(bytes: usize) -> Result<()> {
    if bytes > MAX_DOCUMENT_BYTES {
        let error = Error::new(ErrorKind::TooLarge, "a JSON value is over its limit");
        return Err(error.with("bytes", bytes).with("limit", MAX_DOCUMENT_BYTES));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A payload whose digits or white space within strings changed on the way would be another payload.
    #[test]
    fn the_text_is_kept_but_for_white_space_between_its_parts() {
        for (given, kept) in [
            ("12345678901234567890.50", "12345678901234567890.50"),
            (" [ 1 , \"a  b\" ] ", "[1,\"a  b\"]"),
            ("\"é\\u0000\"", "\"é\\u0000\""),
            ("null", "null"),
        ] {
            let json = Json::parse(given).expect(given);
            assert_eq!(json.text(), kept);
            let again: Json = serde_json::from_str(&serde_json::to_string(&json).expect("text")).expect("JSON");
            assert_eq!(again, json);
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in ["", "{", "nul", "{\"a\":1,\"a\":2}", "1 2", "\u{feff}1"] {
            assert_eq!(Json::parse(text).expect_err(text).kind(), ErrorKind::InvalidInput);
        }
    }
}
