//! One record of the tail: a frame that is bound to its place, and a content that is not.
//!
//! The frame lets a reader judge bytes found anywhere; the content is the same on every replica and
//! is what the hash chain runs over. `core/FORMAT.md` has both byte by byte.

use std::sync::Arc;

use bytes::{BufMut, Bytes};
use xxhash_rust::xxh3::xxh3_128;

use super::bytes::Fields;
use crate::engine::{
    Event, EventKind, MAX_KEY_BYTES, MAX_OPERATION_BYTES, MAX_OPERATION_KEYS, Record, Sequence, Write,
};
use crate::error::{Error, ErrorKind, Result};

/// Names a database for its whole life; a restored copy gets a new one.
pub type DatabaseId = [u8; 16];
/// The xxh3-128 of a record's content, which holds the hash of the record before.
pub type ChainHash = u128;

/// Bytes before the content.
pub const FRAME_BYTES: usize = 32;
/// Records start at multiples of this, so that a search behind damage has few places to look at.
pub const ALIGNMENT: usize = 8;
/// Content bytes before events and writes.
const LINK_BYTES: usize = 48;
const MAGIC: [u8; 4] = *b"KREC";
const PUT: u8 = 1;
const DELETE: u8 = 2;

/// A byte of the tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// Which segment.
    pub segment: u64,
    /// The offset in its file.
    pub offset: u32,
}

/// What stands before a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Bytes of content behind the frame.
    pub length: u32,
    /// Everything before this was durable when the record was written.
    pub synced: Position,
    /// CRC32C of the content.
    pub checksum: u32,
}

/// What ties a record to the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The number of this record.
    pub sequence: Sequence,
    /// The hash of the record before.
    pub previous: ChainHash,
    /// Engine time in milliseconds.
    pub time: i64,
}

impl Frame {
    /// The frame's bytes at `position` of the database.
    pub fn encode(&self, database: &DatabaseId, position: Position) -> [u8; FRAME_BYTES] {
        let mut frame = [0; FRAME_BYTES];
        let mut out = &mut frame[..];
        out.put_slice(&MAGIC);
        out.put_u32(self.length);
        out.put_u64(self.synced.segment);
        out.put_u32(self.synced.offset);
        out.put_u32(self.checksum);
        let checksum = place_checksum(&frame[..FRAME_BYTES - 4], database, position);
        frame[FRAME_BYTES - 4..].copy_from_slice(&checksum.to_be_bytes());
        frame
    }

    /// The frame that `bytes` hold, none when they hold none that was written to exactly this place.
    pub fn decode(bytes: &[u8], database: &DatabaseId, position: Position) -> Option<Self> {
        let frame = bytes.get(..FRAME_BYTES)?;
        if frame[..4] != MAGIC {
            return None;
        }
        let (fields, checksum) = frame.split_at(FRAME_BYTES - 4);
        if place_checksum(fields, database, position).to_be_bytes() != checksum {
            return None;
        }
        let mut fields = Fields::new(Bytes::copy_from_slice(&fields[4..]));
        Some(Self {
            length: fields.u32()?,
            synced: Position { segment: fields.u64()?, offset: fields.u32()? },
            checksum: fields.u32()?,
        })
    }

    /// Bytes from the start of this frame to the next.
    pub fn total(&self) -> usize {
        padded(FRAME_BYTES + self.length as usize)
    }
}

fn place_checksum(fields: &[u8], database: &DatabaseId, position: Position) -> u32 {
    let mut checksum = crc32c::crc32c(fields);
    #[cfg(test)]
    if super::planted::is(super::Planted::FrameWithoutPlace) {
        return checksum;
    }
    checksum = crc32c::crc32c_append(checksum, database);
    checksum = crc32c::crc32c_append(checksum, &position.segment.to_be_bytes());
    crc32c::crc32c_append(checksum, &position.offset.to_be_bytes())
}

/// Rounded up to where a record may start.
pub fn padded(length: usize) -> usize {
    length.next_multiple_of(ALIGNMENT)
}

/// Bytes of the record in the tail, frame and padding included; refuses what the log does not take.
pub fn encoded_len(record: &Record) -> Result<usize> {
    if record.writes.len() > MAX_OPERATION_KEYS || record.len() > MAX_OPERATION_BYTES {
        return Err(Error::new(ErrorKind::TooLarge, "one operation writes at most 1 152 KiB and 10 000 keys")
            .with("bytes", record.len())
            .with("keys", record.writes.len()));
    }
    let mut length = FRAME_BYTES + LINK_BYTES;
    for event in &record.events {
        let longest = event.collection.len().max(event.id.len()).max(event.key.len());
        if longest > usize::from(u16::MAX) {
            return Err(Error::new(ErrorKind::TooLarge, "a name in an event is too long").with("bytes", longest));
        }
        length += 7 + event.collection.len() + event.id.len() + event.key.len();
    }
    for write in &record.writes {
        if write.key().len() > MAX_KEY_BYTES {
            return Err(
                Error::new(ErrorKind::TooLarge, "an encoded key is at most 1 KiB").with("bytes", write.key().len())
            );
        }
        length += match write {
            Write::Put { key, value } => 7 + key.len() + value.len(),
            Write::Delete { key } => 3 + key.len(),
            Write::Add { .. } => {
                return Err(Error::new(ErrorKind::Internal, "an addition must be folded before it reaches the log"));
            }
        };
    }
    Ok(padded(length))
}

/// Appends the content of a record that [`encoded_len`] has accepted.
pub fn encode_content(record: &Record, link: Link, out: &mut Vec<u8>) {
    out.put_u64(link.sequence >> 32);
    out.put_u64(link.sequence);
    out.put_u128(link.previous);
    out.put_i64(link.time);
    out.put_u32(u32::try_from(record.events.len()).expect("a bounded record has few events"));
    out.put_u32(u32::try_from(record.writes.len()).expect("a bounded record has few writes"));
    let short = |length: usize| u16::try_from(length).expect("lengths were checked");
    for event in &record.events {
        out.put_u8(match event.kind {
            EventKind::Created => 1,
            EventKind::Updated => 2,
            EventKind::Deleted => 3,
            EventKind::Expired => 4,
        });
        out.put_u16(short(event.collection.len()));
        out.put_u16(short(event.id.len()));
        out.put_u16(short(event.key.len()));
        out.put_slice(event.collection.as_bytes());
        out.put_slice(event.id.as_bytes());
        out.put_slice(&event.key);
    }
    for write in &record.writes {
        match write {
            Write::Put { key, value } => {
                out.put_u8(PUT);
                out.put_u16(short(key.len()));
                out.put_u32(u32::try_from(value.len()).expect("lengths were checked"));
                out.put_slice(key);
                out.put_slice(value);
            }
            Write::Delete { key } => {
                out.put_u8(DELETE);
                out.put_u16(short(key.len()));
                out.put_slice(key);
            }
            Write::Add { .. } => unreachable!("encoded_len refuses additions"),
        }
    }
}

/// The link of a content; none when it is not one.
pub fn decode_link(content: &Bytes) -> Option<Link> {
    let mut fields = Fields::new(content.slice(..content.len().min(LINK_BYTES)));
    let epoch = fields.u64()?;
    let link = Link { sequence: fields.u64()?, previous: fields.u128()?, time: fields.i64()? };
    (link.sequence >> 32 == epoch).then_some(link)
}

/// The record of a content whose checksum was right; its bytes are shared with the content.
pub fn decode_record(content: &Bytes) -> Option<Record> {
    let mut fields = Fields::new(content.clone());
    fields.bytes(LINK_BYTES - 16)?;
    let time = fields.i64()?;
    let (events, writes) = (fields.u32()? as usize, fields.u32()? as usize);
    let mut record = Record { time, events: Vec::new(), writes: Vec::new() };
    for _ in 0..events {
        let kind = match fields.u8()? {
            1 => EventKind::Created,
            2 => EventKind::Updated,
            3 => EventKind::Deleted,
            4 => EventKind::Expired,
            _ => return None,
        };
        let lengths = [fields.u16()?, fields.u16()?, fields.u16()?].map(usize::from);
        let collection = text(&fields.bytes(lengths[0])?)?;
        let id = text(&fields.bytes(lengths[1])?)?;
        record.events.push(Event { collection, id, kind, key: fields.bytes(lengths[2])? });
    }
    for _ in 0..writes {
        record.writes.push(match fields.u8()? {
            PUT => {
                let (key, value) = (usize::from(fields.u16()?), fields.u32()? as usize);
                Write::Put { key: fields.bytes(key)?, value: fields.bytes(value)? }
            }
            DELETE => {
                let key = usize::from(fields.u16()?);
                Write::Delete { key: fields.bytes(key)? }
            }
            _ => return None,
        });
    }
    (fields.left() == 0).then_some(record)
}

fn text(bytes: &[u8]) -> Option<Arc<str>> {
    std::str::from_utf8(bytes).ok().map(Arc::from)
}

/// The hash that the next record names.
pub fn chain_hash(content: &[u8]) -> ChainHash {
    xxh3_128(content)
}

/// Whether a record numbered `next` may follow `previous`: the next number, or the first of a later epoch.
pub fn follows(previous: Sequence, next: Sequence) -> bool {
    next == previous + 1 || (next >> 32 > previous >> 32 && next & u64::from(u32::MAX) == 1)
}
