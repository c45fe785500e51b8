//! Encoding and decoding of single records, also of bytes that never were one.

use bytes::Bytes;
use proptest::prelude::*;

use crate::engine::local::log::record::{
    FRAME_BYTES, Frame, Link, Position, chain_hash, decode_link, decode_record, encode_content, encoded_len, padded,
};
use crate::engine::{Event, EventKind, Record, Write};

fn short() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

fn record() -> impl Strategy<Value = Record> {
    let kind =
        prop::sample::select(vec![EventKind::Created, EventKind::Updated, EventKind::Deleted, EventKind::Expired]);
    let event = (".{0,5}", ".{0,5}", kind, short()).prop_map(|(collection, id, kind, key)| Event {
        collection: collection.into(),
        id: id.into(),
        kind,
        key,
    });
    let write = (short(), proptest::option::of(short())).prop_map(|(key, value)| match value {
        Some(value) => Write::Put { key, value },
        None => Write::Delete { key },
    });
    let (events, writes) = (prop::collection::vec(event, 0..4), prop::collection::vec(write, 0..6));
    (any::<i64>(), events, writes).prop_map(|(time, events, writes)| Record { time, events, writes })
}

fn content(record: &Record, sequence: u64, previous: u128) -> Bytes {
    let mut content = Vec::new();
    encode_content(record, Link { sequence, previous, time: record.time }, &mut content);
    content.into()
}

proptest! {
    /// A field that is written and read in another order or width changes every record of every database.
    #[test]
    fn a_record_is_read_as_it_was_written(record in record(), sequence: u64, previous: u128) {
        let content = content(&record, sequence, previous);
        prop_assert_eq!(encoded_len(&record).unwrap(), padded(FRAME_BYTES + content.len()));
        prop_assert_eq!(decode_link(&content), Some(Link { sequence, previous, time: record.time }));
        prop_assert_eq!(decode_record(&content), Some(record));
    }

    /// A checksum can be right by accident or by malice; what is behind it is still not to be believed.
    #[test]
    fn bytes_that_are_no_record_are_refused_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        record in record(),
        cut in any::<prop::sample::Index>(),
    ) {
        decode_record(&bytes.clone().into());
        decode_link(&bytes.into());
        let whole = content(&record, 1, 2);
        let cut = cut.index(whole.len());
        prop_assert_eq!(decode_record(&whole.slice(..cut)), None);
    }

    /// Two contents with one hash would let a replica agree on records it does not have.
    #[test]
    fn the_hash_covers_every_field(record in record(), sequence in 0..u64::MAX, previous in 0..u128::MAX) {
        let hash = chain_hash(&content(&record, sequence, previous));
        prop_assert_ne!(hash, chain_hash(&content(&record, sequence + 1, previous)));
        prop_assert_ne!(hash, chain_hash(&content(&record, sequence, previous + 1)));
        let later = Record { time: record.time.wrapping_add(1), ..record };
        prop_assert_ne!(hash, chain_hash(&content(&later, sequence, previous)));
    }

    /// The bytes of a frame must mean nothing at any other place or in any other database.
    #[test]
    fn a_frame_is_valid_only_where_it_was_written(
        segment: u64, offset: u32, length: u32, checksum: u32, other: u64, away: u32, database: [u8; 16], foreign: [u8; 16],
    ) {
        let position = Position { segment, offset };
        let frame = Frame { length, synced: Position { segment: other, offset: away }, checksum };
        let bytes = frame.encode(&database, position);
        prop_assert_eq!(Frame::decode(&bytes, &database, position), Some(frame));
        for (database, position, here) in [
            (database, Position { segment: other, offset }, segment == other),
            (database, Position { segment, offset: away }, offset == away),
            (foreign, position, database == foreign),
        ] {
            prop_assert_eq!(Frame::decode(&bytes, &database, position).is_some(), here);
        }
    }
}
