//! How entries lie in the store: neighbours share a block, because what sled does costs as much for a small one as for a large.
//!
//! A block has the place `b ++ start` in sled and the bytes `crc32c, entries` in the file beside it; it holds the keys
//! from its start up to the start of the next block. An
//! entry is `key length, body length, tag, sequence, key, body`. A value of at most [`INLINE_BYTES`] is the body;
//! a larger one lies in parts, whose places are `p ++ key ++ number`, and the body holds its length and checksum. The
//! prefixes keep the order
//! of the keys as it is, let a key be any bytes, and keep parts out of every scan. Two parts never share a key:
//! equal lengths mean keys of equal length.
//!
//! In the place of a block a 0 follows every third 255 in a row, which keeps the order too. sled goes backwards from a leaf
//! to the one before it by a guess at its keys that ends in four times 255; where keys go on behind such a guess, it
//! turns in circles.

use std::borrow::Cow;

use bytes::Bytes;

use super::store::{Abandoned, StoreResult, StoredEntry, StoredValue};
use crate::engine::{Direction, KeyRange, Sequence, Versioned};

/// Larger values are split: a block with one of them would be written anew with every change of its neighbours.
pub const INLINE_BYTES: usize = 3 << 10;
/// The entries of a block take at most this much, unless there is only one. More would make drains of keys in a row cheaper, and those of
/// keys far apart dearer: each of them writes its whole block.
pub const BLOCK_BYTES: usize = (4 << 10) - CHECKSUM_BYTES;

/// What the places of blocks begin with,
pub const BLOCK: u8 = b'b';
/// and those of parts.
pub const PART: u8 = b'p';
/// So many 255 in a row are followed by a 0 in a place.
const RUN: usize = 3;
const INLINE: u8 = 1;
const SPLIT: u8 = 2;
const CHECKSUM_BYTES: usize = 4;
const HEADER_BYTES: usize = 2 + 2 + 1 + 8;

/// One entry of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The whole key.
    pub key: Bytes,
    /// The operation that put it.
    pub sequence: Sequence,
    split: bool,
    body: Bytes,
}

/// An entry where it lies.
struct Raw<'a> {
    key: &'a [u8],
    sequence: Sequence,
    split: bool,
    body: &'a [u8],
}

impl Item {
    /// The entry that says that `key` is in `state`.
    pub fn new(key: Bytes, state: &Versioned) -> Self {
        let Versioned { value, sequence } = state;
        let split = part_count(value.len()) > 0;
        let body = if split {
            let length = u32::try_from(value.len()).expect("a value is within the limit of one operation");
            let mut body = length.to_be_bytes().to_vec();
            body.extend_from_slice(&crc32c::crc32c(value).to_be_bytes());
            body.into()
        } else {
            value.clone()
        };
        Self { key, sequence: *sequence, split, body }
    }

    /// How many parts its value has beside it.
    pub fn parts(&self) -> usize {
        self.raw().parts()
    }

    fn raw(&self) -> Raw<'_> {
        Raw { key: &self.key, sequence: self.sequence, split: self.split, body: &self.body }
    }

    fn bytes(&self) -> usize {
        HEADER_BYTES + self.key.len() + self.body.len()
    }
}

impl<'a> Raw<'a> {
    /// The first entry of `bytes`, and what lies behind it.
    fn take(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let [k0, k1, b0, b1, tag, sequence @ ..] = *header;
        let (key, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([k0, k1])))?;
        let (body, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([b0, b1])))?;
        let is_sound = tag == INLINE || tag == SPLIT && body.len() == 8;
        let entry = Self { key, sequence: u64::from_be_bytes(sequence), split: tag == SPLIT, body };
        is_sound.then_some((entry, rest))
    }

    fn put(&self, out: &mut Vec<u8>) {
        let length = |bytes: &[u8]| u16::try_from(bytes.len()).expect("keys and bodies are short").to_be_bytes();
        out.extend_from_slice(&length(self.key));
        out.extend_from_slice(&length(self.body));
        out.push(if self.split { SPLIT } else { INLINE });
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(self.key);
        out.extend_from_slice(self.body);
    }

    /// Length and checksum of a value that lies in parts.
    fn of_parts(&self) -> Option<(u32, u32)> {
        let (length, checksum) = self.body.split_first_chunk::<4>().filter(|_| self.split)?;
        let checksum = checksum.first_chunk::<4>().expect("looked at when it was read");
        Some((u32::from_be_bytes(*length), u32::from_be_bytes(*checksum)))
    }

    fn parts(&self) -> usize {
        self.of_parts().map_or(0, |(length, _)| part_count(length as usize))
    }

    /// Copies of key and value: what is handed out must not hold on to its neighbours.
    fn entry(&self) -> StoredEntry {
        let value = match self.of_parts() {
            Some((length, checksum)) => StoredValue::Parts { length, checksum },
            None => StoredValue::Whole(Bytes::copy_from_slice(self.body)),
        };
        StoredEntry { key: Bytes::copy_from_slice(self.key), sequence: self.sequence, value }
    }
}

/// The bytes of the block at `start` that holds `items`.
pub fn encode(start: &[u8], items: &[Item]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(CHECKSUM_BYTES + items.iter().map(Item::bytes).sum::<usize>());
    bytes.extend_from_slice(&[0; CHECKSUM_BYTES]);
    for item in items {
        item.raw().put(&mut bytes);
    }
    let checksum = checksum(start, &bytes[CHECKSUM_BYTES..]);
    bytes[..CHECKSUM_BYTES].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// The entries of the block at `start`, in the order of their keys.
pub fn decode(start: &[u8], bytes: &Bytes) -> StoreResult<Vec<Item>> {
    let own = |raw: Raw<'_>| Item {
        key: bytes.slice_ref(raw.key),
        sequence: raw.sequence,
        split: raw.split,
        body: bytes.slice_ref(raw.body),
    };
    entries(start, bytes)?.map(|raw| raw.map(own)).collect()
}

/// The entry of `key` in the block at `start`, if it is there.
pub fn find(start: &[u8], bytes: &[u8], key: &[u8]) -> StoreResult<Option<StoredEntry>> {
    for raw in entries(start, bytes)? {
        let raw = raw?;
        if raw.key >= key {
            return Ok((raw.key == key).then(|| raw.entry()));
        }
    }
    Ok(None)
}

/// Adds copies of the entries in `range` of the block at `start` to `page`, in this direction, until it has `limit`.
pub fn within(
    start: &[u8],
    bytes: &[u8],
    range: &KeyRange,
    direction: Direction,
    limit: usize,
    page: &mut Vec<StoredEntry>,
) -> StoreResult<()> {
    let entries = entries(start, bytes)?.filter(|raw| raw.as_ref().map_or(true, |raw| range.contains(raw.key)));
    let mut entries = entries.collect::<StoreResult<Vec<_>>>()?;
    if direction == Direction::Backward {
        entries.reverse();
    }
    page.extend(entries.iter().take(limit - page.len()).map(Raw::entry));
    Ok(())
}

fn entries<'a>(start: &[u8], bytes: &'a [u8]) -> StoreResult<impl Iterator<Item = StoreResult<Raw<'a>>>> {
    let (before, mut rest) = bytes.split_first_chunk::<CHECKSUM_BYTES>().ok_or_else(|| damaged("too short", start))?;
    // Its start is in it too: a sound block in a foreign place is as wrong as a flipped bit.
    if checksum(start, rest) != u32::from_be_bytes(*before) {
        return Err(damaged("wrong checksum", start));
    }
    let at = start.len();
    Ok(std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some((raw, behind)) = Raw::take(rest) else {
            rest = &[];
            return Some(Err(Abandoned::new(format!("a block is damaged: unknown form start_bytes={at}"))));
        };
        rest = behind;
        Some(Ok(raw))
    }))
}

/// `items` in pieces of a block each, about equally large.
pub fn pieces(items: &[Item]) -> Vec<&[Item]> {
    let total: usize = items.iter().map(Item::bytes).sum();
    let target = total / total.div_ceil(BLOCK_BYTES).max(1);
    let (mut pieces, mut from, mut size) = (Vec::new(), 0, 0);
    for (number, item) in items.iter().enumerate() {
        if size > 0 && (size >= target || size + item.bytes() > BLOCK_BYTES) {
            pieces.push(&items[from..number]);
            (from, size) = (number, 0);
        }
        size += item.bytes();
    }
    if from < items.len() {
        pieces.push(&items[from..]);
    }
    pieces
}

/// Where the block that starts with `key` lies.
pub fn block_place(key: &[u8]) -> Vec<u8> {
    let mut place = Vec::with_capacity(1 + key.len());
    place.push(BLOCK);
    let mut rest = key;
    while let Some(run) = run_of_255(rest) {
        place.extend_from_slice(&rest[..run]);
        place.push(0);
        rest = &rest[run..];
    }
    place.extend_from_slice(rest);
    place
}

/// Where the block at `place` starts.
pub fn start_of(place: &[u8]) -> StoreResult<Cow<'_, [u8]>> {
    let Some((&BLOCK, mut rest)) = place.split_first() else { return Err(Abandoned::new("a scan left the blocks")) };
    let mut start = Vec::new();
    while let Some(run) = run_of_255(rest) {
        let Some((&0, behind)) = rest[run..].split_first() else {
            return Err(Abandoned::new("the place of a block is damaged"));
        };
        start.extend_from_slice(&rest[..run]);
        rest = behind;
    }
    if start.is_empty() {
        return Ok(Cow::Borrowed(rest));
    }
    start.extend_from_slice(rest);
    Ok(Cow::Owned(start))
}

/// Where the first three 255 in a row end.
fn run_of_255(bytes: &[u8]) -> Option<usize> {
    bytes.windows(RUN).position(|window| window == [255; RUN]).map(|at| at + RUN)
}

/// Where part `number` of the value of `key` lies.
pub fn part_key(key: &[u8], number: usize) -> Vec<u8> {
    let mut place = Vec::with_capacity(3 + key.len());
    place.push(PART);
    place.extend_from_slice(key);
    place.extend_from_slice(&u16::try_from(number).expect("a value has fewer parts than 65 536").to_be_bytes());
    place
}

/// The key and number of the part at `place`.
pub fn part_of(place: &[u8]) -> StoreResult<(&[u8], usize)> {
    match place {
        [PART, key @ .., high, low] => Ok((key, usize::from(u16::from_be_bytes([*high, *low])))),
        _ => Err(Abandoned::new("a scan left the parts")),
    }
}

/// How many parts a value of `length` bytes has; 0 when it is kept in its block.
pub fn part_count(length: usize) -> usize {
    if length <= INLINE_BYTES { 0 } else { length.div_ceil(INLINE_BYTES) }
}

fn damaged(what: &str, start: &[u8]) -> Abandoned {
    Abandoned::new(format!("a block is damaged: {what} start_bytes={}", start.len()))
}

fn checksum(start: &[u8], entries: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(start), entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(key: &[u8], length: usize) -> Item {
        let value = Bytes::from(vec![7; length]);
        Item::new(Bytes::copy_from_slice(key), &Versioned { value, sequence: 1 << 40 })
    }

    /// Every flipped bit, every missing byte, and a sound block in another place must be noticed.
    #[test]
    fn damage_is_noticed_bit_by_bit() {
        let items = [item(b"key", 0), item(b"key1", 5), item(b"key2", INLINE_BYTES + 1), item(b"key3", 600)];
        let sound = Bytes::from(encode(b"ke", &items));
        assert_eq!(decode(b"ke", &sound).expect("nothing was changed"), items);
        assert!(decode(b"kf", &sound).is_err());
        for bit in 0..sound.len() * 8 {
            let mut bytes = sound.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(find(b"ke", &bytes, b"key9").is_err(), "bit={bit}");
        }
        assert!((0..sound.len()).all(|length| decode(b"ke", &sound.slice(..length)).is_err()));
    }

    #[test]
    fn entries_are_found_where_they_are() {
        let items = [item(b"b", 1), item(b"d", INLINE_BYTES + 1), item(b"f", 3)];
        let bytes = encode(b"b", &items);
        for (key, there) in [(b"a", false), (b"b", true), (b"c", false), (b"d", true), (b"f", true), (b"g", false)] {
            assert_eq!(find(b"b", &bytes, key).expect("it is sound").is_some(), there, "{key:?}");
        }
        let range = |start: &'static [u8], end: Option<&'static [u8]>| KeyRange {
            start: Bytes::from_static(start),
            end: end.map(Bytes::from_static),
        };
        let keys = |range| {
            let mut found = Vec::new();
            within(b"b", &bytes, &range, Direction::Forward, 10, &mut found).expect("it is sound");
            let mut back = Vec::new();
            within(b"b", &bytes, &range, Direction::Backward, 10, &mut back).expect("it is sound");
            assert!(found.iter().eq(back.iter().rev()));
            found.iter().map(|entry| entry.key[0]).collect::<Vec<_>>()
        };
        assert_eq!(keys(range(b"", None)), b"bdf");
        assert_eq!(keys(range(b"c", Some(b"f"))), b"d");
        assert_eq!(keys(range(b"d", Some(b"g"))), b"df");
        assert_eq!(keys(range(b"g", None)), b"");
    }

    /// A block that is too large makes every change in it dear; one of a single entry where several fit would cost what blocks
    /// are there to save.
    #[test]
    fn pieces_are_full_and_never_too_full() {
        for lengths in
            [vec![], vec![1], vec![INLINE_BYTES; 3], vec![300; 100], vec![40; 7], vec![1, INLINE_BYTES, 1, 1]]
        {
            let items: Vec<Item> = lengths.iter().map(|length| item(b"0123456789", *length)).collect();
            let pieces = pieces(&items);
            assert_eq!(pieces.concat(), items);
            for piece in &pieces {
                let bytes: usize = piece.iter().map(Item::bytes).sum();
                assert!(piece.len() == 1 || bytes <= BLOCK_BYTES, "{bytes} bytes");
            }
            let small = lengths.iter().all(|length| *length <= 300);
            assert!(!small || pieces.len() <= 1 + items.iter().map(Item::bytes).sum::<usize>() / (BLOCK_BYTES * 3 / 4));
        }
    }

    /// Four times 255 in a place would let sled turn in circles, and another order of places would hide keys.
    #[test]
    fn places_keep_the_order_of_keys_and_hold_no_long_runs() {
        let mut keys = vec![Vec::new()];
        for length in 0..7 {
            for at in keys.len().saturating_sub(4_usize.pow(length))..keys.len() {
                keys.extend([0, 1, 254, 255].map(|byte| [&keys[at][..], &[byte]].concat()));
            }
        }
        keys.sort();
        let places: Vec<_> = keys.iter().map(|key| block_place(key)).collect();
        assert!(places.is_sorted_by(|one, next| one < next));
        for (key, place) in keys.iter().zip(&places) {
            assert_eq!(*start_of(place).expect("it was just made"), **key);
            assert!(!place.windows(4).any(|window| window == [255; 4]), "{place:?}");
        }
        assert!(start_of(&[BLOCK, 255, 255, 255, 1]).is_err());
        assert!(start_of(&[PART]).is_err());
    }

    /// Parts of "a" and of "a\0\0" would mix if the number were not the last two bytes of a longer key.
    #[test]
    fn parts_of_different_keys_lie_apart() {
        let keys: Vec<&[u8]> = vec![b"", b"\0", b"\0\0", b"a", b"a\0", b"a\0\0", b"a\0\x01"];
        let mut seen = std::collections::BTreeSet::new();
        for key in &keys {
            assert!((0..300).all(|number| seen.insert(part_key(key, number))), "key={key:?}");
        }
        assert!(keys.iter().all(|key| !seen.contains(&block_place(key))));
    }
}
