//! Doors for fuzzers: what clients send, and documents as they are stored.

use std::sync::OnceLock;

use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value, json};

use super::document::Document;
use super::envelope::Envelope;
use super::merge_patch::apply;
use super::order_value;
use crate::env::Env;
use crate::{Collection, ErrorKind, Kappa, Options};

/// A document's text, or what is stored of one: what can be read has one form and comes back unchanged.
pub fn document(bytes: &[u8]) {
    let shared = Bytes::copy_from_slice(bytes);
    if let Ok(document) = Document::parse(shared.clone()) {
        let again = Document::parse(document.text().to_owned()).expect("its own text is a document");
        assert_eq!(again.text(), document.text(), "a document has one form");
        assert_eq!(again.fields(), document.fields(), "fields do not depend on white space");
        let values = document.read_values().expect("what is taken in can be read");
        let fields = document.read_fields().expect("what is taken in can be read");
        for (name, value) in values {
            // As an index has them, because the digits may be written in several ways.
            let found = fields.get(name).map(|field| order_value::encode_field(&field, name).ok());
            assert_eq!(found, Some(order_value::encode(value, name).ok()), "rules and readers see the same");
        }
        let written = Document::from_fields(document.fields()).expect("fields of a document make one");
        assert_eq!(written.fields(), document.fields(), "fields come back from their text");
        if let Ok(named) = document.with_id("x\"y") {
            assert_eq!(named.fields()["id"], "x\"y");
            assert_eq!(named.fields().len(), document.fields().len() + 1);
            Document::parse(named.text().to_owned()).expect("a document with an id is one");
        }
    }
    if let Ok(envelope) = Envelope::decode(shared.clone()) {
        assert_eq!(envelope.encode(), shared, "a stored document has one form");
    }
}

/// A document and a patch, apart by a zero byte: the result is a document, and the patch changes it no more.
pub fn merge_patch(bytes: &[u8]) {
    let Some(zero) = bytes.iter().position(|byte| *byte == 0) else { return };
    let parse = |bytes: &[u8]| Document::parse(bytes.to_vec());
    let (Ok(target), Ok(patch)) = (parse(&bytes[..zero]), parse(&bytes[zero + 1..])) else { return };
    let mut merged = target.fields().clone();
    apply(&mut merged, patch.fields());
    let merged_text = |merged: &Map<String, Value>| match Document::from_merged(merged.clone()) {
        Ok(document) => Some(document),
        Err(error) if error.kind() == ErrorKind::TooLarge => None,
        Err(error) => panic!("merging breaks no other rule: {error}"),
    };
    let Some(once) = merged_text(&merged) else { return };
    Document::parse(once.text().to_owned()).expect("a merged document is a document");
    apply(&mut merged, patch.fields());
    assert_eq!(merged_text(&merged).as_ref(), Some(&once), "a patch is idempotent");
    for name in patch.fields().iter().filter(|(_, value)| value.is_null()).map(|(name, _)| name) {
        assert!(!merged.contains_key(name), "null removes");
    }
}

/// The cursor of a list. The first byte says whether the rest is text, or the place behind which a cursor with
/// a right head and checksum goes on.
pub fn list_cursor(bytes: &[u8]) {
    static LISTED: OnceLock<(Collection, Vec<u8>)> = OnceLock::new();
    let (collection, genuine) = LISTED.get_or_init(listed);
    let Some((&first, rest)) = bytes.split_first() else { return };
    let text = if first % 2 == 0 {
        String::from_utf8_lossy(rest).into_owned()
    } else {
        let mut forged = [&genuine[..9], rest].concat();
        forged.extend_from_slice(&crc32c::crc32c(&forged).to_be_bytes());
        BASE64URL_NOPAD.encode(&forged)
    };
    match collection.list().page_size(2).after(text).page().wait() {
        Ok(page) => assert!(page.entries.len() <= 2),
        Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}"),
    }
}

/// A collection of some documents, and the bytes of a cursor of its list.
fn listed() -> (Collection, Vec<u8>) {
    let kappa = Kappa::in_memory(&Options::default(), &Env::default()).expect("memory");
    let collection = kappa.collection("listed").expect("a legal name");
    for id in ["a", "b", "c", "d", "e"] {
        let document: Map<String, Value> = Map::from_iter([("id".to_owned(), json!(id))]);
        collection.create(&document).wait().expect("a new document");
    }
    let page = collection.list().page_size(2).page().wait().expect("a page");
    let cursor = page.next.expect("there are more");
    (collection, BASE64URL_NOPAD.decode(cursor.as_bytes()).expect("its own cursor"))
}
