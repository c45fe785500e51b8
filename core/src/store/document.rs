//! A JSON object as text that is parsed at most once.

use std::fmt;
use std::sync::{Arc, LazyLock, OnceLock};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind, Result};

use super::fields::{Fields, Place};
use super::json_text::{self, Checked};

/// The text of a document is at most this long; an operation may write as much and what belongs to it, see
/// [`crate::engine::MAX_OPERATION_BYTES`].
pub const MAX_DOCUMENT_BYTES: usize = 1 << 20;

/// One JSON object: its text with every digit kept, and its fields as values once somebody asks.
///
/// Cloning shares both.
#[derive(Clone)]
pub struct Document(Arc<Inner>);

#[derive(Default)]
struct Inner {
    text: Bytes,
    /// Where the fields lie in the text. The rules need a few of them, and making values of all costs more than the
    /// rest of a write.
    places: OnceLock<Vec<Place>>,
    fields: OnceLock<Map<String, Value>>,
    /// The document that this one is with an id in front, so that its fields need not be found again.
    without_id: Option<Document>,
}

impl Document {
    /// The object that `text` holds, kept without the white space between its parts.
    ///
    /// # Errors
    /// `TooLarge` above 1 MiB; `InvalidInput` when it is not one JSON object, has a field twice or is
    /// nested deeper than 32.
    pub fn parse(text: impl Into<Bytes>) -> Result<Self> {
        let text = text.into();
        check_size(text.len())?;
        let utf8 = std::str::from_utf8(&text).map_err(|error| Error::invalid("not UTF-8").caused_by(error))?;
        let Checked { compact, places } = json_text::check(utf8)?;
        let text = compact.map_or(text, Bytes::from);
        Ok(Self(Arc::new(Inner { text, places: places.into(), ..Inner::default() })))
    }

    /// The object with these fields, in their order.
    ///
    /// # Errors
    /// As [`Document::parse`].
    pub fn from_fields(fields: &Map<String, Value>) -> Result<Self> {
        Self::new(fields)
    }

    /// The object with fields that all come from documents, as a merge of two makes them: no deeper than either
    /// and with legal names, so that only the size is left to check.
    ///
    /// # Errors
    /// `TooLarge` above 1 MiB.
    pub(crate) fn from_merged(fields: Map<String, Value>) -> Result<Self> {
        let text = serde_json::to_vec(&fields).expect("a map of JSON values has a text");
        check_size(text.len())?;
        Ok(Self(Arc::new(Inner { text: text.into(), fields: fields.into(), ..Inner::default() })))
    }

    /// Text that is known to be one object, as it comes back from storage.
    pub fn from_stored(text: Bytes) -> Self {
        Self(Arc::new(Inner { text, ..Inner::default() }))
    }

    /// Anything that serialises to one JSON object.
    ///
    /// # Errors
    /// `InvalidInput` when it does not.
    pub fn new(value: &impl Serialize) -> Result<Self> {
        let text = serde_json::to_vec(value).map_err(|error| Error::invalid("not a JSON object").caused_by(error))?;
        Self::parse(text)
    }

    /// The same object with `id` as its first field. Nothing is parsed or written anew.
    ///
    /// # Errors
    /// `InvalidInput` when it has an id already; `TooLarge` when it would be over 1 MiB.
    pub fn with_id(&self, id: &str) -> Result<Self> {
        if self.0.without_id.is_some() || self.read_fields()?.get("id").is_some() {
            return Err(Error::invalid("the document has an id already"));
        }
        let text = &self.0.text;
        let fields = text[1..].trim_ascii_start();
        let comma = if fields.first() == Some(&b'}') { "" } else { "," };
        let quoted = serde_json::to_string(id).expect("a string has a JSON text");
        let parts = [b"{\"id\":", quoted.as_bytes(), comma.as_bytes(), fields];
        check_size(parts.iter().map(|part| part.len()).sum())?;
        let text = parts.concat().into();
        Ok(Self(Arc::new(Inner { text, without_id: Some(self.clone()), ..Inner::default() })))
    }

    /// The JSON text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.0.text).expect("a document's text was parsed or made as UTF-8")
    }

    /// The bytes of the JSON text.
    pub fn len(&self) -> usize {
        self.0.text.len()
    }

    /// Never: an object has its braces.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The JSON text, shared.
    pub fn bytes(&self) -> Bytes {
        self.0.text.clone()
    }

    /// The fields, parsed at most once; none where stored text is damaged, for which [`Document::to`] has an error.
    pub fn fields(&self) -> &Map<String, Value> {
        static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
        self.read_values().unwrap_or(&NONE)
    }

    /// The fields as the rules see them.
    ///
    /// # Errors
    /// `Damaged` when the text is not that of a document.
    pub(crate) fn read_fields(&self) -> Result<Fields<'_>> {
        let inner = &*self.0;
        if let (Some(fields), None) = (inner.fields.get(), inner.places.get()) {
            return Ok(Fields::Values(fields));
        }
        let text = std::str::from_utf8(&inner.text).map_err(unreadable)?;
        if let Some(places) = inner.places.get() {
            return Ok(Fields::Text(text, places));
        }
        let Checked { compact, places } = json_text::check(text).map_err(unreadable)?;
        if compact.is_some() {
            // Not as it was written, but readable all the same.
            return self.read_values().map(Fields::Values);
        }
        Ok(Fields::Text(text, inner.places.get_or_init(|| places)))
    }

    /// As [`Document::read_fields`], but for an id that [`Document::with_id`] added.
    ///
    /// # Errors
    /// As [`Document::read_fields`].
    pub(crate) fn given_fields(&self) -> Result<Fields<'_>> {
        self.0.without_id.as_ref().unwrap_or(self).read_fields()
    }

    /// The fields as values, for writes: what follows from fields that cannot be read must not replace them.
    ///
    /// # Errors
    /// `Damaged` when the text is not that of a document.
    pub(crate) fn read_values(&self) -> Result<&Map<String, Value>> {
        if let Some(fields) = self.0.fields.get() {
            return Ok(fields);
        }
        let fields = serde_json::from_slice(&self.0.text).map_err(unreadable)?;
        Ok(self.0.fields.get_or_init(|| fields))
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

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl Serialize for Document {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return serializer.serialize_str(self.text());
        }
        let raw: &RawValue = serde_json::from_str(self.text()).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = if deserializer.is_human_readable() {
            Box::<RawValue>::deserialize(deserializer)?.get().to_owned()
        } else {
            String::deserialize(deserializer)?
        };
        Self::parse(text).map_err(serde::de::Error::custom)
    }
}

/// What a method that takes a document accepts: a [`Document`], a JSON value, or a reference to
/// anything that serialises to one JSON object.
pub trait IntoDocument {
    /// The document.
    ///
    /// # Errors
    /// As [`Document::parse`].
    fn into_document(self) -> Result<Document>;
}

impl IntoDocument for Document {
    fn into_document(self) -> Result<Document> {
        Ok(self)
    }
}

impl IntoDocument for Value {
    fn into_document(self) -> Result<Document> {
        Document::new(&self)
    }
}

impl<T: Serialize> IntoDocument for &T {
    fn into_document(self) -> Result<Document> {
        Document::new(self)
    }
}

fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Damaged, "a stored document cannot be read; restore a backup").caused_by(error)
}

fn check_size(bytes: usize) -> Result<()> {
    if bytes > MAX_DOCUMENT_BYTES {
        let error = Error::new(ErrorKind::TooLarge, "a document is at most 1 MiB; keep files and pictures beside it");
        return Err(error.with("bytes", bytes).with("limit", MAX_DOCUMENT_BYTES));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::json_text::MAX_DEPTH;
    use super::*;

    /// A price that comes back with other digits is another price.
    #[test]
    fn digits_and_order_of_fields_are_kept() {
        let text = r#"{"z":1.10,"a":12345678901234567890.00100,"m":1e+400,"n":-0.0}"#;
        let document = Document::parse(text).expect("a document");
        assert_eq!(document.text(), text);
        assert_eq!(Document::from_fields(document.fields()).expect("its fields").text(), text);
        assert_eq!(Document::from_merged(document.fields().clone()).expect("its fields").text(), text);
    }

    /// Fields that come in as values must keep to what text must keep to: a deeper document would be stored, and
    /// then be readable by nobody.
    #[test]
    fn fields_are_checked_as_text_is() {
        let nested = |depth: usize| {
            let inner = (1..depth).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
            Map::from_iter([("a".to_owned(), inner)])
        };
        let deepest = Document::from_fields(&nested(MAX_DEPTH)).expect("fits");
        assert_eq!(Document::from_stored(deepest.bytes()).fields(), deepest.fields());
        for depth in [MAX_DEPTH + 1, 127, 200] {
            let error = Document::from_fields(&nested(depth)).expect_err("too deep");
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "depth={depth}");
        }
        let long = Map::from_iter([("a".to_owned(), Value::from("x".repeat(MAX_DOCUMENT_BYTES)))]);
        assert_eq!(Document::from_fields(&long).expect_err("too large").kind(), ErrorKind::TooLarge);
        assert_eq!(Document::from_merged(long).expect_err("too large").kind(), ErrorKind::TooLarge);
    }

    /// One text that cannot be read must fail the write that needs it, not the thread that meets it in a list.
    #[test]
    fn stored_text_that_is_damaged_is_an_error_and_no_panic() {
        for text in ["", "[]", "{\"a\":", &format!("{{\"a\":{}1{}}}", "[".repeat(199), "]".repeat(199))] {
            let document = Document::from_stored(Bytes::copy_from_slice(text.as_bytes()));
            assert!(document.fields().is_empty(), "text={text}");
            assert_eq!(document.read_values().expect_err("damaged").kind(), ErrorKind::Damaged, "text={text}");
            assert!(document.read_fields().is_err_and(|error| error.kind() == ErrorKind::Damaged), "text={text}");
            assert!(document.to::<Map<String, Value>>().is_err(), "text={text}");
        }
    }

    #[test]
    fn only_objects_of_bounded_size_are_documents() {
        for text in ["", "[]", "1", "\"a\"", "{", "{}x", "{\"a\":1,}", "{\"a\":\"\u{1}\"}", "{'a':1}"] {
            let error = Document::parse(text).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "text={text}");
        }
        assert_eq!(Document::parse(&b"{\"a\":\"\xff\"}"[..]).expect_err("not text").kind(), ErrorKind::InvalidInput);
        let sized = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
        assert_eq!(Document::parse(sized(MAX_DOCUMENT_BYTES)).expect("fits").text().len(), MAX_DOCUMENT_BYTES);
        let error = Document::parse(sized(MAX_DOCUMENT_BYTES + 1)).expect_err("too large");
        assert_eq!(error.kind(), ErrorKind::TooLarge);
    }

    #[test]
    fn an_id_is_put_first_and_escaped() {
        let id = "a\"b";
        for (text, expected) in [("{ }", r#"{"id":"a\"b"}"#), (r#"{ "x": [1, 2] }"#, r#"{"id":"a\"b","x":[1,2]}"#)] {
            let document = Document::parse(text).expect(text).with_id(id).expect(text);
            assert_eq!(document.text(), expected);
            assert_eq!(document.fields()["id"], id);
            assert!(document.with_id("other").is_err(), "an id is never replaced");
        }
    }

    /// The wire between processes must carry documents in text and in binary formats alike.
    #[test]
    fn a_document_passes_through_json_and_postcard() {
        let document = Document::parse(r#"{"a":1.50,"b":{"c":[null]}}"#).expect("a document");
        let json = serde_json::to_string(&document).expect("json");
        assert_eq!(json, document.text());
        assert_eq!(serde_json::from_str::<Document>(&json).expect("back"), document);
        let bytes = postcard::to_stdvec(&document).expect("postcard");
        assert_eq!(postcard::from_bytes::<Document>(&bytes).expect("back"), document);
    }
}
