//! Door for fuzzers: feed cursors, as any client may send them.

use data_encoding::BASE64URL_NOPAD;

use super::cursor;

const DATABASE: [u8; 16] = *b"fuzzed-database!";

/// A cursor as text; and the same bytes with a checksum that is right, so that a fuzzer gets behind it.
pub fn feed_cursor(bytes: &[u8]) {
    let sealed = [bytes, &crc32c::crc32c(bytes).to_be_bytes()].concat();
    for text in [String::from_utf8_lossy(bytes).into_owned(), BASE64URL_NOPAD.encode(&sealed)] {
        if let Ok((partition, position)) = cursor::decode(DATABASE, &text) {
            assert_eq!(cursor::encode(DATABASE, partition, position), text, "a cursor has one form");
        }
    }
}
