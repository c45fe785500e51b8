//! A document as it is stored: what Kappa knows about it, then its text, which reads hand out unparsed.

use bytes::{Buf, Bytes};

use crate::error::{Error, ErrorKind, Result};

use super::document::Document;
use super::keys::Place;

const VERSION: u8 = 1;
const EXPIRES: u8 = 1;
const FIXED: usize = 2 + size_of::<Place>();

/// One stored document.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// Its place in creation order.
    pub place: Place,
    /// When its time ends, in engine time.
    pub expires: Option<i64>,
    /// Its fields.
    pub document: Document,
}

impl Envelope {
    /// The bytes that are stored.
    pub fn encode(&self) -> Bytes {
        let text = self.document.text().as_bytes();
        let mut bytes = Vec::with_capacity(FIXED + 8 + text.len());
        bytes.extend_from_slice(&[VERSION, if self.expires.is_some() { EXPIRES } else { 0 }]);
        bytes.extend_from_slice(&self.place);
        if let Some(end) = self.expires {
            bytes.extend_from_slice(&end.to_be_bytes());
        }
        bytes.extend_from_slice(text);
        bytes.into()
    }

    /// The document that [`Envelope::encode`] wrote.
    ///
    /// # Errors
    /// `Damaged` when these are no such bytes.
    pub fn decode(bytes: Bytes) -> Result<Self> {
        let length = bytes.len();
        Self::split(bytes)
            .ok_or_else(|| Error::new(ErrorKind::Damaged, "a stored document cannot be read").with("bytes", length))
    }

    fn split(mut bytes: Bytes) -> Option<Self> {
        let (&[version, flags], place) = (bytes.first_chunk::<2>()?, bytes.get(2..FIXED)?);
        if version != VERSION || flags & !EXPIRES != 0 {
            return None;
        }
        let (expires, text) = if flags & EXPIRES == 0 {
            (None, FIXED)
        } else {
            (Some(i64::from_be_bytes(bytes.get(FIXED..FIXED + 8)?.try_into().ok()?)), FIXED + 8)
        };
        std::str::from_utf8(&bytes[text..]).ok()?;
        let place = place.try_into().ok()?;
        // Nothing is shared that need not be: a slice would have a count of its own.
        bytes.advance(text);
        Some(Self { place, expires, document: Document::from_stored(bytes) })
    }

    /// Whether its time has ended: such a document is absent to every read.
    pub fn is_expired(&self, now: i64) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_comes_back_and_shares_its_text() {
        let document = Document::parse(r#"{"a":1.0}"#).expect("a document");
        for expires in [None, Some(77)] {
            let envelope = Envelope { place: [3; 10], expires, document: document.clone() };
            assert_eq!(Envelope::decode(envelope.encode()).expect("decoded"), envelope);
        }
    }

    /// Foreign or cut bytes must be an error, never a panic in the middle of somebody's list.
    #[test]
    fn other_bytes_are_damage() {
        for bytes in [&b""[..], b"\x01", b"\x02\x00aaaaaaaaaa{}", b"\x01\x02aaaaaaaaaa{}", b"\x01\x01aaaaaaaaaa{}"] {
            let error = Envelope::decode(Bytes::from_static(bytes)).expect_err("damaged");
            assert_eq!(error.kind(), ErrorKind::Damaged);
        }
    }
}
