//! Reading the records of a segment, one after the other, believing none of the bytes.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::failure::{damaged, file_failed};
use super::record::{
    self, ALIGNMENT, ChainHash, DatabaseId, FRAME_BYTES, Frame, Link, Position, chain_hash, decode_link, decode_record,
};
use super::segment::Segment;
use crate::engine::{CommittedRecord, Sequence};
use crate::env::files::File;
use crate::error::Result;

const WINDOW_BYTES: u32 = 256 << 10;

/// One record whose checksums are right.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where its frame starts.
    pub offset: u32,
    /// Its frame.
    pub frame: Frame,
    /// How it continues the chain.
    pub link: Link,
    /// Its content.
    pub content: Bytes,
}

/// What stands at one place of a segment.
#[derive(Debug)]
pub enum Step {
    /// A record.
    Found(Found),
    /// No record was ever written here: zeros, or no room for one.
    End,
    /// Something else.
    Bad,
}

/// Walks over the bytes of one segment.
#[derive(Debug)]
pub struct Scanner {
    file: Arc<dyn File>,
    database: DatabaseId,
    at: Position,
    limit: u32,
    window: Bytes,
    window_start: u32,
}

impl Scanner {
    /// Starts at `at` and ends at the offset `limit`.
    pub fn new(file: &Arc<dyn File>, database: DatabaseId, at: Position, limit: u32) -> Self {
        Self { file: Arc::clone(file), database, at, limit, window: Bytes::new(), window_start: 0 }
    }

    /// Where the next step looks.
    pub fn offset(&self) -> u32 {
        self.at.offset
    }

    /// What stands here; moves behind it if it is a record.
    pub fn step(&mut self) -> io::Result<Step> {
        let offset = self.at.offset;
        let Some(frame) = self.bytes(offset, FRAME_BYTES)? else { return Ok(Step::End) };
        if frame.iter().all(|&byte| byte == 0) {
            return Ok(Step::End);
        }
        let Some(frame) = Frame::decode(&frame, &self.database, self.at) else { return Ok(Step::Bad) };
        let total = u32::try_from(frame.total()).unwrap_or(u32::MAX);
        if total > self.limit - offset {
            return Ok(Step::Bad);
        }
        let Some(whole) = self.bytes(offset, total as usize)? else { return Ok(Step::Bad) };
        let content = whole.slice(FRAME_BYTES..FRAME_BYTES + frame.length as usize);
        if crc32c::crc32c(&content) != frame.checksum {
            return Ok(Step::Bad);
        }
        let Some(link) = decode_link(&content) else { return Ok(Step::Bad) };
        self.at.offset += total;
        Ok(Step::Found(Found { offset, frame, link, content }))
    }

    /// The next valid frame behind this place, also when its content is torn; moves behind its start.
    pub fn search(&mut self) -> io::Result<Option<Frame>> {
        loop {
            self.at.offset = self.at.offset.saturating_add(ALIGNMENT as u32);
            let Some(bytes) = self.bytes(self.at.offset, FRAME_BYTES)? else { return Ok(None) };
            if let Some(frame) = Frame::decode(&bytes, &self.database, self.at) {
                return Ok(Some(frame));
            }
        }
    }

    fn bytes(&mut self, offset: u32, length: usize) -> io::Result<Option<Bytes>> {
        if offset > self.limit || length > (self.limit - offset) as usize {
            return Ok(None);
        }
        let start = offset.wrapping_sub(self.window_start) as usize;
        if offset < self.window_start || start + length > self.window.len() {
            let size = (length as u64).max(u64::from(WINDOW_BYTES)).min(u64::from(self.limit - offset));
            let mut window = vec![0; usize::try_from(size).expect("a window fits into memory")];
            self.file.read_at(&mut window, u64::from(offset))?;
            self.window = window.into();
            self.window_start = offset;
            return Ok(Some(self.window.slice(..length)));
        }
        Ok(Some(self.window.slice(start..start + length)))
    }
}

/// Where a walk over the tail ends.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// The offset in the last segment; none means wherever its records end.
    pub limit: Option<u32>,
    /// The last record.
    pub sequence: Sequence,
    /// Its hash.
    pub hash: ChainHash,
}

/// Records of the tail in order, with the chain checked on the way.
#[derive(Debug)]
pub struct TailIter {
    database: DatabaseId,
    segments: VecDeque<Arc<Segment>>,
    ending: Ending,
    after: Sequence,
    current: Option<(Arc<Segment>, Scanner)>,
    /// The record before; none right after a seek into the middle of a segment.
    last: Option<(Sequence, ChainHash)>,
    failed: bool,
    total: u64,
    left: u64,
}

impl TailIter {
    /// The records behind `after` in `segments`, which are consecutive.
    pub fn new(database: DatabaseId, segments: Vec<Arc<Segment>>, ending: Ending, after: Sequence) -> Self {
        let mut segments = VecDeque::from(segments);
        // Segments that end before the first wanted record need not be read.
        while segments.get(1).is_some_and(|next| next.header.previous <= after) {
            segments.pop_front();
        }
        let total = segments.iter().map(|segment| u64::from(segment.header.bytes)).sum();
        let mut iter =
            Self { database, segments, ending, after, current: None, last: None, failed: false, total, left: total };
        iter.enter();
        iter
    }

    /// Bytes walked over, and bytes there were in all.
    pub fn progress(&self) -> (u64, u64) {
        (self.total - self.left, self.total)
    }

    /// The next record without its content being taken apart.
    pub fn next_found(&mut self) -> Result<Option<Found>> {
        loop {
            let Some((segment, scanner)) = self.current.as_mut() else { return Ok(None) };
            let (segment, offset) = (Arc::clone(segment), scanner.offset());
            let step = scanner.step().map_err(|error| file_failed("log.read", &segment.path, error))?;
            let moved = u64::from(scanner.offset() - offset);
            match step {
                Step::Bad => return Err(damaged(&segment.path, u64::from(offset), "a record is damaged")),
                Step::End => self.leave(&segment, offset)?,
                Step::Found(found) => {
                    let broken = self.last.is_some_and(|(sequence, hash)| {
                        found.link.previous != hash || !record::follows(sequence, found.link.sequence)
                    });
                    if broken {
                        return Err(damaged(&segment.path, u64::from(offset), "a record does not continue the chain"));
                    }
                    self.last = Some((found.link.sequence, chain_hash(&found.content)));
                    self.left = self.left.saturating_sub(moved);
                    if found.link.sequence > self.after {
                        return Ok(Some(found));
                    }
                }
            }
        }
    }

    /// The segment has no further record: either the next one goes on exactly here, or this is the end.
    fn leave(&mut self, segment: &Segment, offset: u32) -> Result<()> {
        let next = self.segments.front();
        let expected =
            next.map_or((self.ending.sequence, self.ending.hash), |next| (next.header.previous, next.header.hash));
        let limit = if next.is_some() { None } else { self.ending.limit };
        if self.last.is_some_and(|last| last != expected) || limit.is_some_and(|limit| limit != offset) {
            return Err(damaged(&segment.path, u64::from(offset), "records are missing"));
        }
        self.left = self.left.saturating_sub(u64::from(segment.header.bytes - offset));
        self.enter();
        Ok(())
    }

    fn enter(&mut self) {
        self.current = self.segments.pop_front().map(|segment| {
            let limit = if self.segments.is_empty() { self.ending.limit } else { None };
            let limit = limit.unwrap_or(segment.header.bytes);
            let offset = segment.seek(self.after);
            let at_start = offset == segment.start().offset;
            self.last = at_start.then_some((segment.header.previous, segment.header.hash));
            self.left = self.left.saturating_sub(u64::from(offset));
            let at = Position { segment: segment.id, offset };
            let scanner = Scanner::new(&segment.file, self.database, at, limit);
            (segment, scanner)
        });
    }
}

impl Iterator for TailIter {
    type Item = Result<CommittedRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let path = self.current.as_ref().map(|(segment, _)| segment.path.clone());
        let record = self.next_found().and_then(|found| {
            let Some(found) = found else { return Ok(None) };
            match decode_record(&found.content) {
                Some(record) => Ok(Some(CommittedRecord { sequence: found.link.sequence, record })),
                None => Err(damaged(&path.unwrap_or_default(), u64::from(found.offset), "a record cannot be read")),
            }
        });
        self.failed = record.is_err();
        record.transpose()
    }
}

/// Notes where the records of a segment are, for later seeks; one that was noted already is left alone.
pub fn mark(segment: &Segment, database: DatabaseId) -> Result<()> {
    if segment.is_marked() {
        return Ok(());
    }
    let mut scanner = Scanner::new(&segment.file, database, segment.start(), segment.header.bytes);
    let mut places = Vec::new();
    // Whoever reads up to a bad record meets the damage and names it.
    while let Step::Found(found) = scanner.step().map_err(|error| file_failed("log.read", &segment.path, error))? {
        places.push((found.link.sequence, found.offset));
    }
    segment.mark(places);
    Ok(())
}
