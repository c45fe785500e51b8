//! A JSON object as text that is parsed at most once.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// One JSON object: its text with every digit kept, and its fields once somebody asks.
///
/// Cloning shares both.
#[derive(Clone)]
pub struct Document(Arc<Inner>);

struct Inner {
    text: Bytes,
    fields: OnceLock<Map<String, Value>>,
}

impl Document {
    /// The object that `text` holds.
    ///
    /// # Errors
    /// `InvalidInput` when it is not one JSON object.
    pub fn parse(text: impl Into<Bytes>) -> Result<Self> {
        let text = text.into();
        let fields: Map<String, Value> =
            serde_json::from_slice(&text).map_err(|error| Error::invalid("not a JSON object").caused_by(error))?;
        Ok(Self(Arc::new(Inner { text, fields: OnceLock::from(fields) })))
    }

    /// The object with these fields, in their order.
    pub fn from_fields(fields: Map<String, Value>) -> Self {
        let text = serde_json::to_vec(&fields).expect("a map of JSON values has a text");
        Self(Arc::new(Inner { text: text.into(), fields: OnceLock::from(fields) }))
    }

    /// Text that is known to be one object, as it comes back from storage.
    pub fn from_stored(text: Bytes) -> Self {
        Self(Arc::new(Inner { text, fields: OnceLock::new() }))
    }

    /// Anything that serialises to one JSON object.
    ///
    /// # Errors
    /// `InvalidInput` when it does not.
    pub fn new(value: &impl Serialize) -> Result<Self> {
        let text = serde_json::to_vec(value).map_err(|error| Error::invalid("not a JSON object").caused_by(error))?;
        Self::parse(text)
    }

    /// The JSON text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.0.text).expect("a document's text was parsed or made as UTF-8")
    }

    /// The JSON text, shared.
    pub fn bytes(&self) -> Bytes {
        self.0.text.clone()
    }

    /// The fields, parsed at most once.
    pub fn fields(&self) -> &Map<String, Value> {
        self.0.fields.get_or_init(|| serde_json::from_slice(&self.0.text).expect("stored text is one JSON object"))
    }

    /// The document as a type of the caller's.
    ///
    /// # Errors
    /// `InvalidInput` when the fields do not fit.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.0.text)
            .map_err(|error| Error::invalid("the document does not have this shape").caused_by(error))
    }
}

impl PartialEq for Document {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl Serialize for Document {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(self.text()).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::parse(raw.get().to_owned()).map_err(serde::de::Error::custom)
    }
}
