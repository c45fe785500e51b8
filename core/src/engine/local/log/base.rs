//! The base: every live key at one sequence, in key order, in checked blocks. Runs of a merge have the same form.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{BufMut, Bytes};

use super::bytes::Fields;
use super::failure::{damaged, file_failed};
use super::manifest::{BaseName, FORMAT_VERSION};
use super::record::{ChainHash, DatabaseId};
use crate::engine::Sequence;
use crate::env::files::{File, Files, OpenMode};
use crate::error::Result;

/// Bytes before the first block.
const HEADER_BYTES: usize = 64;
/// Bytes behind the last block.
pub const FOOTER_BYTES: usize = 96;
const BLOCK_HEADER_BYTES: usize = 12;
/// No block is longer: one entry of the largest operation, with room to spare.
const MAX_BLOCK_BYTES: u32 = 4 << 20;
/// The disk is told to write after so many bytes: often enough that a sync of something else waits for few of them.
const WRITE_BACK_BYTES: u64 = 1 << 20;
const PUT: u8 = 1;
const DELETE: u8 = 2;

/// The name of a base's file.
pub fn file_name(number: u64) -> String {
    format!("base-{number:020}")
}

/// One key of a base or run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseEntry {
    /// The key.
    pub key: Bytes,
    /// Its value; none where a run says that it was deleted, never in a base.
    pub value: Option<Bytes>,
    /// The operation that wrote it.
    pub sequence: Sequence,
}

/// What stands behind the last block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Footer {
    /// The newest operation folded in.
    pub sequence: Sequence,
    /// The chain hash there.
    pub hash: ChainHash,
    /// Its engine time.
    pub time: i64,
    /// Entries in all.
    pub count: u64,
    /// Bytes of all blocks.
    pub bytes: u64,
}

impl Footer {
    fn encode(&self, database: &DatabaseId) -> [u8; FOOTER_BYTES] {
        let mut footer = [0; FOOTER_BYTES];
        let mut out = &mut footer[..];
        out.put_slice(b"KEND");
        out.put_u16(FORMAT_VERSION);
        out.put_u16(0);
        out.put_slice(database);
        out.put_u64(self.sequence >> 32);
        out.put_u64(self.sequence);
        out.put_u128(self.hash);
        out.put_i64(self.time);
        out.put_u64(self.count);
        out.put_u64(self.bytes);
        seal(&mut footer);
        footer
    }

    fn decode(bytes: &[u8], database: &DatabaseId) -> Option<Self> {
        let mut fields = opened(bytes, *b"KEND")?;
        if fields.id()? != *database {
            return None;
        }
        fields.u64()?;
        Some(Self {
            sequence: fields.u64()?,
            hash: fields.u128()?,
            time: fields.i64()?,
            count: fields.u64()?,
            bytes: fields.u64()?,
        })
    }
}

/// Puts the CRC32C of all bytes before them into the last four.
fn seal(bytes: &mut [u8]) {
    let (content, checksum) = bytes.split_at_mut(bytes.len() - 4);
    checksum.copy_from_slice(&crc32c::crc32c(content).to_be_bytes());
}

/// The fields behind magic and version, when both and the checksum are right.
fn opened(bytes: &[u8], magic: [u8; 4]) -> Option<Fields> {
    let (content, checksum) = bytes.split_at(bytes.len() - 4);
    if content[..4] != magic || crc32c::crc32c(content).to_be_bytes() != checksum {
        return None;
    }
    let mut fields = Fields::new(Bytes::copy_from_slice(&content[4..]));
    let version = fields.u16()?;
    fields.u16()?;
    (version == FORMAT_VERSION).then_some(fields)
}

fn header(database: &DatabaseId) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let mut out = &mut header[..];
    out.put_slice(b"KBAS");
    out.put_u16(FORMAT_VERSION);
    out.put_u16(0);
    out.put_slice(database);
    seal(&mut header);
    header
}

/// Fills a new file with entries.
#[derive(Debug)]
pub struct BaseWriter {
    file: Arc<dyn File>,
    database: DatabaseId,
    block_bytes: usize,
    block: Vec<u8>,
    block_count: u32,
    offset: u64,
    /// Up to here the disk was told to write, where the file is going to stay.
    written_back: Option<u64>,
    count: u64,
}

impl BaseWriter {
    /// Starts a file; what had this name before is removed.
    pub fn create(files: &dyn Files, path: &Path, database: DatabaseId, block_bytes: usize) -> io::Result<Self> {
        if files.exists(path)? {
            files.remove_file(path)?;
        }
        let file = files.open(path, OpenMode::CreateNew)?;
        file.write_at(&header(&database), 0)?;
        let block = vec![0; BLOCK_HEADER_BYTES];
        Ok(Self {
            file,
            database,
            block_bytes,
            block,
            block_count: 0,
            offset: HEADER_BYTES as u64,
            written_back: None,
            count: 0,
        })
    }

    /// Has the disk write along, because a sync follows: all at once it would hold up the syncs of the appends.
    pub fn write_back(self) -> Self {
        Self { written_back: Some(0), ..self }
    }

    /// Adds an entry; its key is above all before.
    pub fn push(&mut self, entry: &BaseEntry) -> io::Result<()> {
        let value = entry.value.as_deref().unwrap_or_default();
        self.block.put_u8(if entry.value.is_some() { PUT } else { DELETE });
        self.block.put_u16(u16::try_from(entry.key.len()).expect("keys are at most 1 KiB"));
        self.block.put_u32(u32::try_from(value.len()).expect("a value is within the limit of one operation"));
        self.block.put_u64(entry.sequence);
        self.block.put_slice(&entry.key);
        self.block.put_slice(value);
        self.block_count += 1;
        self.count += 1;
        if self.block.len() >= self.block_bytes { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> io::Result<()> {
        if self.block_count == 0 {
            return Ok(());
        }
        let length = u32::try_from(self.block.len() - BLOCK_HEADER_BYTES).expect("blocks are small");
        let checksum = block_checksum(length, self.block_count, self.offset, &self.block[BLOCK_HEADER_BYTES..]);
        let mut out = &mut self.block[..BLOCK_HEADER_BYTES];
        out.put_u32(length);
        out.put_u32(self.block_count);
        out.put_u32(checksum);
        self.file.write_at(&self.block, self.offset)?;
        self.offset += self.block.len() as u64;
        if let Some(from) = self.written_back.filter(|from| self.offset - from >= WRITE_BACK_BYTES) {
            self.file.write_back(from, self.offset - from);
            self.written_back = Some(self.offset);
        }
        self.block.truncate(BLOCK_HEADER_BYTES);
        self.block_count = 0;
        Ok(())
    }

    /// Writes what is left and the footer; nothing is durable yet.
    pub fn finish(mut self, sequence: Sequence, hash: ChainHash, time: i64) -> io::Result<(Arc<dyn File>, Footer)> {
        self.end_block()?;
        let footer = Footer { sequence, hash, time, count: self.count, bytes: self.offset - HEADER_BYTES as u64 };
        self.file.write_at(&footer.encode(&self.database), self.offset)?;
        Ok((self.file, footer))
    }
}

/// A block that was moved must not pass, so its place is part of the checksum.
fn block_checksum(length: u32, count: u32, offset: u64, entries: &[u8]) -> u32 {
    let mut checksum = crc32c::crc32c(&length.to_be_bytes());
    checksum = crc32c::crc32c_append(checksum, &count.to_be_bytes());
    checksum = crc32c::crc32c_append(checksum, &offset.to_be_bytes());
    crc32c::crc32c_append(checksum, entries)
}

/// A file with one block of these entries, and its footer.
#[cfg(any(test, feature = "fuzzing"))]
pub fn as_file(database: &DatabaseId, count: u32, entries: &[u8]) -> (Vec<u8>, Footer) {
    let length = u32::try_from(entries.len()).expect("a small block");
    let checksum = block_checksum(length, count, HEADER_BYTES as u64, entries);
    let mut file = header(database).to_vec();
    file.put_u32(length);
    file.put_u32(count);
    file.put_u32(checksum);
    file.put_slice(entries);
    let bytes = (file.len() - HEADER_BYTES) as u64;
    (file, Footer { count: count.into(), bytes, ..Footer::default() })
}

/// A finished file of entries.
#[derive(Clone, Debug)]
pub struct Base {
    /// Its file.
    pub path: PathBuf,
    /// The same, open.
    pub file: Arc<dyn File>,
    /// What its end says.
    pub footer: Footer,
}

impl Base {
    /// Opens a file and reads header and footer, not the blocks.
    pub fn open(files: &dyn Files, path: &Path, database: &DatabaseId) -> Result<Self> {
        let failed = |error| file_failed("log.open", path, error);
        let file = files.open(path, OpenMode::Existing).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => damaged(path, 0, "the base that MANIFEST names is missing"),
            _ => failed(error),
        })?;
        let length = file.len().map_err(failed)?;
        let Some(end) = length.checked_sub((HEADER_BYTES + FOOTER_BYTES) as u64) else {
            return Err(damaged(path, length, "the base is too short"));
        };
        let mut start = [0; HEADER_BYTES];
        file.read_at(&mut start, 0).map_err(failed)?;
        if start != header(database) {
            return Err(damaged(path, 0, "the header of the base is damaged"));
        }
        let place = HEADER_BYTES as u64 + end;
        let mut bytes = [0; FOOTER_BYTES];
        file.read_at(&mut bytes, place).map_err(failed)?;
        match Footer::decode(&bytes, database) {
            Some(footer) if footer.bytes == end => Ok(Self { path: path.to_path_buf(), file, footer }),
            _ => Err(damaged(path, place, "the footer of the base is damaged")),
        }
    }

    /// Opens the base that MANIFEST names.
    pub fn open_named(files: &dyn Files, dir: &Path, name: BaseName, database: &DatabaseId) -> Result<Self> {
        let base = Self::open(files, &dir.join(file_name(name.number)), database)?;
        if (base.footer.sequence, base.footer.hash) != (name.sequence, name.hash) {
            return Err(damaged(&base.path, base.footer.bytes, "the base is not the one that MANIFEST names"));
        }
        Ok(base)
    }

    /// All entries in key order.
    pub fn iter(&self) -> BaseIter {
        BaseIter {
            base: self.clone(),
            offset: HEADER_BYTES as u64,
            block: Fields::new(Bytes::new()),
            block_left: 0,
            block_start: HEADER_BYTES as u64,
            count: 0,
            last: None,
            failed: false,
        }
    }
}

/// The entries of a base in key order; damage ends them with an error.
#[derive(Debug)]
pub struct BaseIter {
    base: Base,
    offset: u64,
    block: Fields,
    block_left: u32,
    block_start: u64,
    count: u64,
    last: Option<Bytes>,
    failed: bool,
}

impl BaseIter {
    /// Bytes read, and bytes there are in all.
    pub fn progress(&self) -> (u64, u64) {
        (self.offset - HEADER_BYTES as u64, self.base.footer.bytes)
    }

    fn damaged(&self, what: &str) -> crate::error::Error {
        damaged(&self.base.path, self.block_start, what)
    }

    fn read_block(&mut self) -> Result<bool> {
        let end = HEADER_BYTES as u64 + self.base.footer.bytes;
        self.block_start = self.offset;
        if self.offset == end {
            if self.count != self.base.footer.count {
                return Err(self.damaged("the base holds another number of keys than its footer says"));
            }
            return Ok(false);
        }
        let failed = |error| file_failed("log.read", &self.base.path, error);
        let mut header = [0; BLOCK_HEADER_BYTES];
        self.base.file.read_at(&mut header, self.offset).map_err(failed)?;
        let [length, count, checksum] =
            [0, 4, 8].map(|at| u32::from_be_bytes(header[at..at + 4].try_into().expect("four bytes")));
        let next = self.offset + BLOCK_HEADER_BYTES as u64 + u64::from(length);
        if length > MAX_BLOCK_BYTES || count == 0 || next > end {
            return Err(self.damaged("a block of the base is damaged"));
        }
        let mut entries = vec![0; length as usize];
        self.base.file.read_at(&mut entries, self.offset + BLOCK_HEADER_BYTES as u64).map_err(failed)?;
        if block_checksum(length, count, self.offset, &entries) != checksum {
            return Err(self.damaged("a block of the base is damaged"));
        }
        self.block = Fields::new(entries.into());
        self.block_left = count;
        self.offset = next;
        Ok(true)
    }

    fn next_entry(&mut self) -> Result<Option<BaseEntry>> {
        if self.block_left == 0 && !self.read_block()? {
            return Ok(None);
        }
        let entry = self.decode().ok_or_else(|| self.damaged("an entry of the base cannot be read"))?;
        if self.last.as_ref().is_some_and(|last| *last >= entry.key) {
            return Err(self.damaged("the keys of the base are out of order"));
        }
        self.last = Some(entry.key.clone());
        self.block_left -= 1;
        self.count += 1;
        if self.block_left == 0 && self.block.left() > 0 {
            return Err(self.damaged("a block of the base holds more than it says"));
        }
        Ok(Some(entry))
    }

    fn decode(&mut self) -> Option<BaseEntry> {
        let put = match self.block.u8()? {
            PUT => true,
            DELETE => false,
            _ => return None,
        };
        let (key, value) = (usize::from(self.block.u16()?), self.block.u32()? as usize);
        let sequence = self.block.u64()?;
        let (key, value) = (self.block.bytes(key)?, self.block.bytes(value)?);
        Some(BaseEntry { key, value: put.then_some(value), sequence })
    }
}

impl Iterator for BaseIter {
    type Item = Result<BaseEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let entry = self.next_entry();
        self.failed = entry.is_err();
        entry.transpose()
    }
}
