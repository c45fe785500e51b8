//! How keys and values lie in sled: prefixes, parts, sequence and checksum.
//!
//! An entry is `k ++ key` -> `tag, crc32c, sequence, body`. A value of at most [`INLINE_BYTES`] is
//! the body; a larger one lies in parts `p ++ key ++ number`, and the body holds its length and
//! checksum. The prefixes keep the order of the keys as it is, let a key be any bytes, and keep
//! parts out of every scan. Two parts never share a key: equal lengths mean keys of equal length.

use bytes::Bytes;

use super::store::{Abandoned, StoreResult, StoredEntry, StoredValue};
use crate::engine::{KeyRange, Sequence};

/// Larger values are split. A leaf of sled holds up to 17 entries and must stay below 131 052 bytes,
/// otherwise it goes to a file of its own that sled never syncs: 17 x (1 027 + 3 085) = 69 904.
pub const INLINE_BYTES: usize = 3 << 10;

const ENTRY: u8 = b'k';
/// What the places of parts begin with.
pub const PART: u8 = b'p';
const BEHIND_ENTRIES: u8 = ENTRY + 1;
const INLINE: u8 = 1;
const SPLIT: u8 = 2;
const HEADER_BYTES: usize = 1 + 4 + 8;

/// Where the entry of `key` lies.
pub fn entry_key(key: &[u8]) -> Vec<u8> {
    let mut place = Vec::with_capacity(1 + key.len());
    place.push(ENTRY);
    place.extend_from_slice(key);
    place
}

/// Where part `number` of the value of `key` lies.
pub fn part_key(key: &[u8], number: usize) -> Vec<u8> {
    let mut place = Vec::with_capacity(3 + key.len());
    place.push(PART);
    place.extend_from_slice(key);
    place.extend_from_slice(&u16::try_from(number).expect("a value has fewer parts than 65 536").to_be_bytes());
    place
}

/// The places of the entries of `range`, the last one excluded.
pub fn entry_range(range: &KeyRange) -> std::ops::Range<Vec<u8>> {
    let end = range.end.as_ref().map_or_else(|| vec![BEHIND_ENTRIES], |end| entry_key(end));
    entry_key(&range.start)..end
}

/// How many parts a value of `length` bytes has; 0 when it is kept with its entry.
pub fn part_count(length: usize) -> usize {
    if length <= INLINE_BYTES { 0 } else { length.div_ceil(INLINE_BYTES) }
}

/// The bytes of an entry.
pub fn encode(key: &[u8], value: &[u8], sequence: Sequence) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + value.len().min(INLINE_BYTES));
    let split = part_count(value.len()) > 0;
    bytes.push(if split { SPLIT } else { INLINE });
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&sequence.to_be_bytes());
    if split {
        bytes.extend_from_slice(
            &u32::try_from(value.len()).expect("a value is within the limit of one operation").to_be_bytes(),
        );
        bytes.extend_from_slice(&crc32c::crc32c(value).to_be_bytes());
    } else {
        bytes.extend_from_slice(value);
    }
    let checksum = checksum(key, &bytes);
    bytes[1..5].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// The entry of `key` that `bytes` hold.
pub fn decode(key: &[u8], bytes: &[u8]) -> StoreResult<StoredEntry> {
    let sequence = decode_sequence(key, bytes)?;
    let body = &bytes[HEADER_BYTES..];
    let value = match (bytes[0], body.len()) {
        (INLINE, _) => StoredValue::Whole(Bytes::copy_from_slice(body)),
        (SPLIT, 8) => StoredValue::Parts {
            length: u32::from_be_bytes(body[..4].try_into().expect("four bytes")),
            checksum: u32::from_be_bytes(body[4..].try_into().expect("four bytes")),
        },
        _ => return Err(damaged("unknown form", key)),
    };
    Ok(StoredEntry { key: Bytes::copy_from_slice(key), sequence, value })
}

/// Which operation put the entry of `key` that `bytes` hold, without a copy of its value.
pub fn decode_sequence(key: &[u8], bytes: &[u8]) -> StoreResult<Sequence> {
    if bytes.len() < HEADER_BYTES {
        return Err(damaged("too short", key));
    }
    // The key is in it too: a sound value under a foreign key is as wrong as a flipped bit.
    if checksum(key, bytes).to_be_bytes() != bytes[1..5] {
        return Err(damaged("wrong checksum", key));
    }
    Ok(u64::from_be_bytes(bytes[5..HEADER_BYTES].try_into().expect("eight bytes")))
}

/// The key of an entry that a scan found at `place`.
pub fn key_of(place: &[u8]) -> StoreResult<&[u8]> {
    match place.split_first() {
        Some((&ENTRY, key)) => Ok(key),
        _ => Err(Abandoned::new("a scan left the entries")),
    }
}

/// The key and number of the part at `place`.
pub fn part_of(place: &[u8]) -> StoreResult<(&[u8], usize)> {
    match place {
        [PART, key @ .., high, low] => Ok((key, usize::from(u16::from_be_bytes([*high, *low])))),
        _ => Err(Abandoned::new("a scan left the parts")),
    }
}

fn damaged(what: &str, key: &[u8]) -> Abandoned {
    Abandoned::new(format!("an entry is damaged: {what} key_bytes={}", key.len()))
}

/// Over everything but the checksum itself.
fn checksum(key: &[u8], bytes: &[u8]) -> u32 {
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..1]), &bytes[5..]);
    crc32c::crc32c_append(checksum, key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every flipped bit, and a sound entry under another key, must be noticed.
    #[test]
    fn damage_is_noticed_bit_by_bit() {
        for value in [&b""[..], b"value", &[7; INLINE_BYTES + 1]] {
            let sound = encode(b"key", value, 1 << 40);
            let entry = decode(b"key", &sound).expect("nothing was changed");
            assert_eq!(entry.sequence, 1 << 40);
            assert!(decode(b"kez", &sound).is_err());
            for bit in 0..sound.len() * 8 {
                let mut bytes = sound.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(decode(b"key", &bytes).is_err(), "bit={bit}");
            }
            assert!((0..sound.len()).all(|length| decode(b"key", &sound[..length]).is_err()));
        }
    }

    /// Parts of "a" and of "a\0\0" would mix if the number were not the last two bytes of a longer key.
    #[test]
    fn parts_of_different_keys_lie_apart() {
        let keys: Vec<&[u8]> = vec![b"", b"\0", b"\0\0", b"a", b"a\0", b"a\0\0", b"a\0\x01"];
        let mut seen = std::collections::BTreeSet::new();
        for key in &keys {
            assert!((0..300).all(|number| seen.insert(part_key(key, number))), "key={key:?}");
        }
        assert!(keys.iter().all(|key| !seen.contains(&entry_key(key))));
    }
}
