//! Where a list goes on: opaque text that only the list it came from accepts.

use data_encoding::BASE64URL_NOPAD;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};

const VERSION: u8 = 1;
const HEAD: usize = 1 + 8;
const CHECKSUM: usize = 4;

/// The cursor behind `position` in the list that `query` describes.
pub fn encode(query: &[u8], position: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(HEAD + position.len() + CHECKSUM);
    bytes.push(VERSION);
    bytes.extend_from_slice(&xxh3_64(query).to_be_bytes());
    bytes.extend_from_slice(position);
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
    BASE64URL_NOPAD.encode(&bytes)
}

/// The position in `cursor`.
///
/// # Errors
/// `InvalidInput` when it is no cursor or one of another list.
pub fn decode(query: &[u8], cursor: &str) -> Result<Vec<u8>> {
    let wrong = || Error::invalid("not a cursor; take the one that the page before gave");
    let mut bytes = BASE64URL_NOPAD.decode(cursor.as_bytes()).map_err(|_| wrong())?;
    if bytes.len() < HEAD + CHECKSUM {
        return Err(wrong());
    }
    let checksum = bytes.split_off(bytes.len() - CHECKSUM);
    if checksum != crc32c::crc32c(&bytes).to_be_bytes() || bytes[0] != VERSION {
        return Err(wrong());
    }
    if bytes[1..HEAD] != xxh3_64(query).to_be_bytes() {
        return Err(Error::invalid("the cursor belongs to another list"));
    }
    Ok(bytes.split_off(HEAD))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]

        /// Cursors come from outside: any text must be an error at worst.
        #[test]
        fn any_text_is_refused_without_a_panic(text in "\\PC*|[A-Za-z0-9_-]{0,60}") {
            prop_assert!(decode(b"q", &text).is_err());
        }

        #[test]
        fn a_position_comes_back_and_a_changed_byte_does_not(position: Vec<u8>, at: prop::sample::Index, bit in 0u8..8) {
            let cursor = encode(b"q", &position);
            prop_assert_eq!(decode(b"q", &cursor).expect("its own"), position);
            prop_assert!(decode(b"other", &cursor).is_err());
            let mut bytes = BASE64URL_NOPAD.decode(cursor.as_bytes()).expect("base64");
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(decode(b"q", &BASE64URL_NOPAD.encode(&bytes)).is_err());
        }
    }
}
