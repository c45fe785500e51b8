//! Feed cursors: opaque text that names a database and a place in its log.

use data_encoding::BASE64URL_NOPAD;

use crate::error::{Error, ErrorKind, Result};
use crate::partition::feed::Position;

const FORM: u8 = 1;
const BYTES: usize = 1 + 8 + 2 + 8 + 4 + 4;

/// The text of `position` in partition `partition` of the database with this id.
pub fn encode(database: [u8; 16], partition: u16, position: Position) -> String {
    let mut bytes = Vec::with_capacity(BYTES);
    bytes.push(FORM);
    // Half of the id tells databases apart well enough and keeps the text short.
    bytes.extend_from_slice(&database[..8]);
    bytes.extend_from_slice(&partition.to_be_bytes());
    bytes.extend_from_slice(&position.sequence.to_be_bytes());
    bytes.extend_from_slice(&position.events.to_be_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
    BASE64URL_NOPAD.encode(&bytes)
}

/// The partition and position that `text` names.
///
/// # Errors
/// `InvalidInput` for text that no feed gave out; `Expired` for a cursor of another database, as it
/// is after a restore.
pub fn decode(database: [u8; 16], text: &str) -> Result<(u16, Position)> {
    let malformed = || Error::invalid("not a cursor of a change feed");
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| malformed())?;
    let bytes: [u8; BYTES] = bytes.try_into().map_err(|_| malformed())?;
    let (content, sum) = bytes.split_at(BYTES - 4);
    if bytes[0] != FORM || crc32c::crc32c(content).to_be_bytes() != sum {
        return Err(malformed());
    }
    if bytes[1..9] != database[..8] {
        return Err(Error::new(ErrorKind::Expired, "the cursor is of another database; start again from a fresh list"));
    }
    let partition = u16::from_be_bytes(bytes[9..11].try_into().expect("two bytes"));
    let sequence = u64::from_be_bytes(bytes[11..19].try_into().expect("eight bytes"));
    let events = u32::from_be_bytes(bytes[19..23].try_into().expect("four bytes"));
    Ok((partition, Position { sequence, events }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_names_its_place_and_only_in_its_database() {
        let position = Position { sequence: 1 << 40, events: 3 };
        let text = encode([7; 16], 2, position);
        assert_eq!(decode([7; 16], &text).expect("it is ours"), (2, position));
        assert_eq!(decode([8; 16], &text).expect_err("another database").kind(), ErrorKind::Expired);
    }

    /// A cursor comes back from a stranger: every change of it must be an error, never a place.
    #[test]
    fn a_changed_cursor_is_refused() {
        let text = encode([7; 16], 2, Position { sequence: 99, events: 1 });
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ASCII");
            assert_eq!(decode([7; 16], &changed).expect_err("changed").kind(), ErrorKind::InvalidInput, "at={at}");
        }
        for text in ["", "!", "AAAA", &"A".repeat(36), &"A".repeat(100_000)] {
            assert_eq!(decode([7; 16], text).expect_err("no cursor").kind(), ErrorKind::InvalidInput);
        }
    }
}
