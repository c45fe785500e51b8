//! Where everything of the domain lies; `core/FORMAT.md` describes every byte.

use bytes::Bytes;

use crate::engine::KeyRange;
use crate::error::{Error, Result};

use super::order_value;

const CATALOG: u8 = 0x01;
const NEXT_NUMBER: u8 = 0x02;
const NAME: u8 = 0x03;
const DOCUMENT: u8 = 0x10;
const ORDER: u8 = 0x11;
const INDEX: u8 = 0x12;
const UNIQUE: u8 = 0x13;
const EXPIRY: u8 = 0x14;
const COUNT: u8 = 0x15;
const BUILD: u8 = 0x16;
const DROPPED: u8 = 0x17;
const ANSWER: u8 = 0x18;
const ANSWER_TIME: u8 = 0x19;
const ANSWER_COUNT: u8 = 0x1a;
const ANSWERS_FULL: u8 = 0x1b;
const SESSION: u8 = 0x1c;

/// An id is at most this long.
pub const MAX_ID_BYTES: usize = 256;

/// The place of a document in creation order: moment (8 bytes), then its place in a batch (2 bytes).
pub type Place = [u8; 10];

/// Checks the id of a document.
///
/// # Errors
/// `InvalidInput` unless it is 1 to 256 bytes of UTF-8 without control characters.
pub fn check_id(id: &str) -> Result<()> {
    if id.is_empty() || id.len() > MAX_ID_BYTES || id.chars().any(char::is_control) {
        return Err(Error::invalid("an id is 1 to 256 bytes without control characters").with("bytes", id.len()));
    }
    Ok(())
}

/// Numbers below 240 take one byte, others five; they sort as they are and none begins another.
fn push_number(key: &mut Vec<u8>, number: u32) {
    match u8::try_from(number) {
        Ok(byte) if byte < 240 => key.push(byte),
        _ => {
            key.push(u8::MAX);
            key.extend_from_slice(&number.to_be_bytes());
        }
    }
}

/// The number at the front of `bytes`, and what follows it.
fn split_number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    match *bytes.first()? {
        u8::MAX => {
            let number = bytes.get(1..5)?.try_into().ok().map(u32::from_be_bytes)?;
            Some((number, &bytes[5..]))
        }
        byte => Some((u32::from(byte), &bytes[1..])),
    }
}

fn numbered(kind: u8, numbers: &[u32], rest: &[&[u8]]) -> Bytes {
    let mut key = Vec::with_capacity(1 + numbers.len() * 5 + rest.iter().map(|part| part.len()).sum::<usize>());
    key.push(kind);
    for &number in numbers {
        push_number(&mut key, number);
    }
    for part in rest {
        key.extend_from_slice(part);
    }
    key.into()
}

/// What is declared under a name.
pub fn catalog(name: &str) -> Bytes {
    numbered(CATALOG, &[], &[name.as_bytes()])
}

/// Every declared name.
pub fn catalogs() -> KeyRange {
    KeyRange::prefix(&[CATALOG])
}

/// The name in a key of [`catalogs`].
pub fn name_in_catalog(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.get(1..)?).ok()
}

/// The number that the next collection gets.
pub fn next_number() -> Bytes {
    Bytes::from_static(&[NEXT_NUMBER])
}

/// The name behind a collection's number.
pub fn name(collection: u32) -> Bytes {
    numbered(NAME, &[collection], &[])
}

/// A document.
pub fn document(collection: u32, id: &str) -> Bytes {
    numbered(DOCUMENT, &[collection], &[id.as_bytes()])
}

/// A document's entry in creation order.
pub fn order(collection: u32, place: &Place, id: &str) -> Bytes {
    numbered(ORDER, &[collection], &[place, id.as_bytes()])
}

/// A collection in creation order.
pub fn orders(collection: u32) -> Bytes {
    numbered(ORDER, &[collection], &[])
}

/// A document's entry in an index.
pub fn index(collection: u32, index: u32, value: &[u8], place: &Place, id: &str) -> Bytes {
    numbered(INDEX, &[collection, index], &[value, place, id.as_bytes()])
}

/// All entries of an index.
pub fn indexes(collection: u32, index: u32) -> Bytes {
    numbered(INDEX, &[collection, index], &[])
}

/// Who holds a value of a unique index.
pub fn unique(collection: u32, index: u32, value: &[u8]) -> Bytes {
    numbered(UNIQUE, &[collection, index], &[value])
}

/// All values of a unique index.
pub fn uniques(collection: u32, index: u32) -> Bytes {
    numbered(UNIQUE, &[collection, index], &[])
}

/// The id at the end of what follows [`orders`].
pub fn id_in_order(rest: &[u8]) -> Option<&str> {
    std::str::from_utf8(rest.get(size_of::<Place>()..)?).ok()
}

/// The id at the end of what follows [`indexes`].
pub fn id_in_index(rest: &[u8]) -> Option<&str> {
    id_in_order(rest.get(order_value::encoded_len(rest)?..)?)
}

/// A document whose time ends at `end`.
pub fn expiry(end: i64, collection: u32, id: &str) -> Bytes {
    let mut key = vec![EXPIRY];
    key.extend_from_slice(&time(end));
    push_number(&mut key, collection);
    key.extend_from_slice(id.as_bytes());
    key.into()
}

/// Every document whose time ended by `now`.
pub fn expired_by(now: i64) -> KeyRange {
    timed_by(EXPIRY, now)
}

/// Collection and id in a key of [`expired_by`].
pub fn split_expiry(key: &[u8]) -> Option<(u32, &str)> {
    let (collection, id) = split_number(key.get(9..)?)?;
    Some((collection, std::str::from_utf8(id).ok()?))
}

/// How many documents a collection holds.
pub fn count(collection: u32) -> Bytes {
    numbered(COUNT, &[collection], &[])
}

/// How far the build of an index came.
pub fn build(collection: u32, index: u32) -> Bytes {
    numbered(BUILD, &[collection, index], &[])
}

/// A dropped index whose entries are not all gone yet.
pub fn dropped(collection: u32, index: u32) -> Bytes {
    numbered(DROPPED, &[collection, index], &[])
}

/// Every dropped index.
pub fn all_dropped() -> KeyRange {
    KeyRange::prefix(&[DROPPED])
}

/// Collection and index in a key of [`all_dropped`].
pub fn split_dropped(key: &[u8]) -> Option<(u32, u32)> {
    let (collection, rest) = split_number(key.get(1..)?)?;
    Some((collection, split_number(rest)?.0))
}

/// The answer that an idempotency key got.
pub fn answer(idempotency_key: &str) -> Bytes {
    numbered(ANSWER, &[], &[idempotency_key.as_bytes()])
}

/// When it got it.
pub fn answer_time(at: i64, idempotency_key: &str) -> Bytes {
    numbered(ANSWER_TIME, &[], &[&time(at), idempotency_key.as_bytes()])
}

/// Every answer given up to `until`.
pub fn answers_by(until: i64) -> KeyRange {
    timed_by(ANSWER_TIME, until)
}

/// The idempotency key in a key of [`answers_by`].
pub fn key_in_answer_time(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.get(9..)?).ok()
}

/// How many answers are kept.
pub fn answer_count() -> Bytes {
    Bytes::from_static(&[ANSWER_COUNT])
}

/// Stands while no more answers may be kept.
pub fn answers_full() -> Bytes {
    Bytes::from_static(&[ANSWERS_FULL])
}

/// The newest answer in a slot of a session, whose name begins with the time when the session began.
pub fn session(session: &[u8; 16], slot: u16) -> Bytes {
    numbered(SESSION, &[], &[session, &slot.to_be_bytes()])
}

/// Every answer of a session that began up to `until`.
pub fn sessions_by(until: i64) -> KeyRange {
    timed_by(SESSION, until)
}

fn time(ms: i64) -> [u8; 8] {
    u64::try_from(ms).unwrap_or(0).to_be_bytes()
}

fn timed_by(kind: u8, until: i64) -> KeyRange {
    let end = numbered(kind, &[], &[&time(until.saturating_add(1))]);
    KeyRange { start: Bytes::copy_from_slice(&[kind]), end: Some(end) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number that began another one would mix the keys of two collections.
    #[test]
    fn numbers_sort_and_never_begin_each_other() {
        let encoded = |number| {
            let mut key = Vec::new();
            push_number(&mut key, number);
            key
        };
        let numbers = [0, 1, 239, 240, 255, 256, 65_536, u32::MAX];
        for pair in numbers.windows(2) {
            let (low, high) = (encoded(pair[0]), encoded(pair[1]));
            assert!(low < high && !high.starts_with(&low), "{} and {}", pair[0], pair[1]);
        }
        for number in numbers {
            let mut key = encoded(number);
            key.extend_from_slice(b"rest");
            assert_eq!(split_number(&key), Some((number, &b"rest"[..])));
        }
    }

    #[test]
    fn parts_of_keys_are_found_again() {
        let place = [7; 10];
        assert_eq!(split_expiry(&expiry(5, 300, "é")), Some((300, "é")));
        assert_eq!(split_dropped(&dropped(1, 999)), Some((1, 999)));
        assert_eq!(id_in_order(&order(300, &place, "x")[orders(300).len()..]), Some("x"));
        let value = order_value::encode(&"a\0b".into(), "f").expect("short");
        assert_eq!(id_in_index(&index(1, 2, &value, &place, "x")[indexes(1, 2).len()..]), Some("x"));
        assert_eq!(key_in_answer_time(&answer_time(1, "k")), Some("k"));
        assert_eq!(name_in_catalog(&catalog("users")), Some("users"));
    }

    #[test]
    fn time_ranges_end_with_their_last_millisecond() {
        assert!(expired_by(5).contains(&expiry(5, 0, "zz")));
        assert!(!expired_by(5).contains(&expiry(6, 0, "a")));
        assert!(expired_by(i64::MAX).contains(&expiry(i64::MAX - 1, 0, "a")));
    }

    /// The longest id with the longest index value must still be a legal key.
    #[test]
    fn the_longest_key_is_legal() {
        let id = "x".repeat(MAX_ID_BYTES);
        let key = index(u32::MAX, u32::MAX, &[STRING_BYTE; order_value::MAX_VALUE_BYTES], &[255; 10], &id);
        assert!(key.len() <= crate::engine::MAX_KEY_BYTES, "bytes={}", key.len());
    }

    const STRING_BYTE: u8 = b'x';

    #[test]
    fn ids_are_short_text_without_control_characters() {
        for id in ["a", "é", "with space", "a/b", &"x".repeat(256)] {
            assert!(check_id(id).is_ok(), "{id}");
        }
        for id in ["", "a\n", "\0", "\u{85}", &"x".repeat(257)] {
            assert!(check_id(id).is_err(), "{id}");
        }
    }
}
