//! Doors for fuzzers: records and blocks of a base, as a damaged or hostile disk could hold them.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::base::{Base, Footer, as_file};
use super::record::{self, Frame, Position};
use super::segment;
use crate::env::files::File;

const DATABASE: [u8; 16] = *b"fuzzed-database!";

/// A frame, a header of a segment, or the content of a record: what can be read says the same when it is
/// written again.
pub fn log_record(bytes: &[u8]) {
    let position = Position { segment: 1, offset: 128 };
    if let Some(frame) = Frame::decode(bytes, &DATABASE, position) {
        assert_eq!(frame.encode(&DATABASE, position), bytes[..record::FRAME_BYTES], "a frame has one form");
    }
    if let Some(header) = segment::Header::decode(bytes, &DATABASE, 1) {
        assert!(segment::Header::decode(&header.encode(&DATABASE, 1), &DATABASE, 1) == Some(header));
    }
    let content = Bytes::copy_from_slice(bytes);
    let (Some(link), Some(read)) = (record::decode_link(&content), record::decode_record(&content)) else { return };
    if record::encoded_len(&read).is_ok() {
        let mut written = Vec::new();
        record::encode_content(&read, link, &mut written);
        assert_eq!(written, bytes, "a record has one form");
    }
}

/// The blocks of a base. The first byte says whether checksum, length and footer are made right around the
/// rest, so that a fuzzer gets behind them.
pub fn base_block(bytes: &[u8]) {
    let Some((&first, entries)) = bytes.split_first() else { return };
    let (whole, footer) = if first % 2 == 0 {
        as_file(&DATABASE, u32::from(first / 2), entries)
    } else {
        let footer = Footer { count: u64::from(first / 2), bytes: entries.len() as u64, ..Footer::default() };
        ([&[0; 64], entries].concat(), footer)
    };
    let base = Base { path: PathBuf::from("base"), file: Arc::new(Memory(whole)), footer };
    let mut last: Option<Bytes> = None;
    for entry in base.iter() {
        let Ok(entry) = entry else { return };
        assert!(last.is_none_or(|last| last < entry.key), "keys come in order");
        last = Some(entry.key);
    }
}

/// A file of bytes that are given.
#[derive(Debug)]
struct Memory(Vec<u8>);

impl File for Memory {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let from = usize::try_from(position).expect("a position in memory");
        let bytes = self.0.get(from..).and_then(|bytes| bytes.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }
}
