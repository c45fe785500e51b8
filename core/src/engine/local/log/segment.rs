//! One file of the tail: preallocated and zeroed, with a header written when it is first used.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{BufMut, Bytes};
use parking_lot::RwLock;

use super::bytes::Fields;
use super::manifest::{End, FORMAT_VERSION};
use super::record::{ChainHash, DatabaseId, Position};
use crate::engine::Sequence;
use crate::env::files::{File, Files, OpenMode};

/// Bytes before the first record.
pub const HEADER_BYTES: usize = 128;
const MAGIC: [u8; 4] = *b"KSEG";
const PREFIX: &str = "segment-";
/// A seek reads at most about this much before the record it wants.
const MARK_DISTANCE: u32 = 8 << 10;
const CHUNK: usize = 1 << 20;

/// The name of a segment's file.
pub fn file_name(id: u64) -> String {
    format!("{PREFIX}{id:020}")
}

/// The id in a segment's file name.
pub fn id_of(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

/// What a segment says about itself: how it continues the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the whole file.
    pub bytes: u32,
    /// The record before the first one here; 0 at the start of the log.
    pub previous: Sequence,
    /// Its hash.
    pub hash: ChainHash,
    /// Its engine time.
    pub time: i64,
}

impl Header {
    /// Whether `bytes` are the header of some segment, of whatever database and version.
    pub fn is_whole(bytes: &[u8]) -> bool {
        let Some(header) = bytes.get(..HEADER_BYTES) else { return false };
        let (content, checksum) = header.split_at(HEADER_BYTES - 4);
        content[..4] == MAGIC && crc32c::crc32c(content).to_be_bytes() == checksum
    }

    /// The header's bytes in the segment `id`.
    pub fn encode(&self, database: &DatabaseId, id: u64) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        let mut out = &mut header[..];
        out.put_slice(&MAGIC);
        out.put_u16(FORMAT_VERSION);
        out.put_u16(0);
        out.put_slice(database);
        out.put_u64(id);
        out.put_u32(self.bytes);
        out.put_u32(0);
        out.put_u64(self.previous);
        out.put_u128(self.hash);
        out.put_i64(self.time);
        let checksum = crc32c::crc32c(&header[..HEADER_BYTES - 4]);
        header[HEADER_BYTES - 4..].copy_from_slice(&checksum.to_be_bytes());
        header
    }

    /// The header in `bytes`, none when it is not one of this segment.
    pub fn decode(bytes: &[u8], database: &DatabaseId, id: u64) -> Option<Self> {
        if !Self::is_whole(bytes) {
            return None;
        }
        let content = &bytes[..HEADER_BYTES - 4];
        let mut fields = Fields::new(Bytes::copy_from_slice(&content[4..]));
        if fields.u16()? != FORMAT_VERSION {
            return None;
        }
        fields.u16()?;
        if fields.id()? != *database || fields.u64()? != id {
            return None;
        }
        let bytes = fields.u32()?;
        fields.u32()?;
        Some(Self { bytes, previous: fields.u64()?, hash: fields.u128()?, time: fields.i64()? })
    }
}

/// A segment that was made and holds nothing yet: zeros up to its end.
#[derive(Clone, Debug)]
pub struct Spare {
    /// Its number; segments are used in this order.
    pub id: u64,
    /// Its file.
    pub path: PathBuf,
    /// The same, open.
    pub file: Arc<dyn File>,
    /// Bytes of the whole file.
    pub bytes: u32,
}

impl Spare {
    /// Makes the file, durable but for its name: the caller syncs the directory.
    pub fn create(files: &dyn Files, dir: &Path, id: u64, bytes: u32) -> io::Result<Self> {
        let path = dir.join(file_name(id));
        if files.exists(&path)? {
            files.remove_file(&path)?;
        }
        let file = files.open(&path, OpenMode::CreateNew)?;
        // Blocks that are only reserved would be converted inside every fdatasync of the appends.
        let filled =
            file.allocate(u64::from(bytes)).and_then(|()| zero(&*file, 0, bytes)).and_then(|()| file.sync_all());
        if let Err(error) = filled {
            // The name goes, so that its blocks are free again; a leftover is removed by the next try.
            files.remove_file(&path).ok();
            return Err(error);
        }
        Ok(Self { id, path, file, bytes })
    }

    /// Opens a file that was made before.
    pub fn open(files: &dyn Files, dir: &Path, id: u64) -> io::Result<Self> {
        let path = dir.join(file_name(id));
        let file = files.open(&path, OpenMode::Existing)?;
        let bytes = u32::try_from(file.len()?).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(Self { id, path, file, bytes })
    }

    /// The segment this becomes with its header, which the caller writes.
    pub fn start(self, header: Header) -> Segment {
        Segment { id: self.id, path: self.path, file: self.file, header, marks: RwLock::new(None) }
    }

    /// The last byte that is not zero, none when all are.
    pub fn last_used(&self, from: u32) -> io::Result<Option<u32>> {
        let mut chunk = vec![0; CHUNK];
        let mut last = None;
        let mut start = from;
        while start < self.bytes {
            let length = CHUNK.min((self.bytes - start) as usize);
            self.file.read_at(&mut chunk[..length], u64::from(start))?;
            if let Some(used) = chunk[..length].iter().rposition(|&byte| byte != 0) {
                last = Some(start + u32::try_from(used).expect("a chunk is small"));
            }
            start += u32::try_from(length).expect("a chunk is small");
        }
        Ok(last)
    }
}

/// Writes zeros from `start` to `end`.
pub fn zero(file: &dyn File, start: u32, end: u32) -> io::Result<()> {
    let zeros = vec![0; CHUNK.min((end - start) as usize)];
    let mut start = start;
    while start < end {
        let length = zeros.len().min((end - start) as usize);
        file.write_at(&zeros[..length], u64::from(start))?;
        file.write_back(u64::from(start), length as u64);
        start += u32::try_from(length).expect("a chunk is small");
    }
    Ok(())
}

/// A segment that holds records.
#[derive(Debug)]
pub struct Segment {
    /// Its number.
    pub id: u64,
    /// Its file.
    pub path: PathBuf,
    /// The same, open.
    pub file: Arc<dyn File>,
    /// How it continues the chain.
    pub header: Header,
    /// Some records and where they are, ascending; none until the segment was read once.
    marks: RwLock<Option<Vec<(Sequence, u32)>>>,
}

impl Segment {
    /// Where its first record is.
    pub fn start(&self) -> Position {
        Position { segment: self.id, offset: u32::try_from(HEADER_BYTES).expect("a small constant") }
    }

    /// The end of the tail just before this segment.
    pub fn before(&self) -> End {
        End { position: self.start(), sequence: self.header.previous, hash: self.header.hash, time: self.header.time }
    }

    /// Whether the places of its records are known.
    pub fn is_marked(&self) -> bool {
        self.marks.read().is_some()
    }

    /// Notes where records are: all from the start on, in order, possibly in several calls.
    pub fn mark(&self, places: impl IntoIterator<Item = (Sequence, u32)>) {
        let mut marks = self.marks.write();
        let marks = marks.get_or_insert_default();
        for (sequence, offset) in places {
            if marks.last().is_none_or(|(_, last)| offset >= last + MARK_DISTANCE) {
                marks.push((sequence, offset));
            }
        }
    }

    /// Where to start reading for records behind `after`.
    pub fn seek(&self, after: Sequence) -> u32 {
        let marks = self.marks.read();
        let marks = marks.as_deref().unwrap_or_default();
        let at = marks.partition_point(|(sequence, _)| *sequence <= after);
        at.checked_sub(1).map_or(self.start().offset, |at| marks[at].1)
    }
}
