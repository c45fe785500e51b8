//! The end of the log that grows: append, sync, and the step into the next segment.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Log;
use super::manifest::End;
use super::record::{self, FRAME_BYTES, Frame, Link, Position, chain_hash, encode_content, encoded_len};
use super::segment::{HEADER_BYTES, Header, Segment};
use crate::engine::{Durability, Record, Sequence};
use crate::error::{Error, ErrorKind, Result};

/// Versions stay below 2^53, so that every language can hold them.
pub const LAST_EPOCH: u64 = (1 << 21) - 1;

/// What only the appending thread changes.
#[derive(Debug)]
pub struct Tail {
    /// Behind the last record that was written.
    pub appended: End,
    /// Behind the last record that is on disk.
    pub synced: End,
    /// The number of the next record.
    pub next: Sequence,
    /// When the caller's clock first saw unsynced records.
    pub dirty_since: Option<u64>,
    /// Memory for the next group.
    pub buffer: Vec<u8>,
}

impl Log {
    /// Writes records behind the newest and answers the number of the first; the others follow it.
    ///
    /// They are durable after [`Log::sync`], and visible to readers at the level of the log. One call at a
    /// time; readers are never held up.
    ///
    /// # Errors
    /// `StorageFull`, `TooLarge`, `Unavailable`: nothing was written. `Ambiguous`: any part may have been
    /// written, and the log takes nothing more until it is opened again.
    pub fn append(&self, records: &[Record]) -> Result<Sequence> {
        let lengths = records.iter().map(encoded_len).collect::<Result<Vec<_>>>()?;
        let mut tail = self.tail.lock();
        self.check_usable()?;
        let runs = self.plan(&tail, &lengths)?;
        while self.state.read().spares.len() + 1 < runs.len() {
            self.prepare_spare()?;
        }
        let first = tail.next;
        self.cover_epoch((first + records.len() as u64) >> 32)?;
        for (index, run) in runs.into_iter().enumerate() {
            self.write_run(&mut tail, index > 0, &records[run]).map_err(|error| self.stop(&error))?;
        }
        if self.options.durability == Durability::Written {
            self.publish(tail.appended, tail.next - 1);
        }
        Ok(first)
    }

    /// Makes every appended record durable and visible.
    ///
    /// # Errors
    /// `Ambiguous`: any part may be lost; the log takes nothing more until it is opened again.
    pub fn sync(&self) -> Result<()> {
        let mut tail = self.tail.lock();
        self.check_usable()?;
        self.sync_tail(&mut tail).map_err(|error| self.stop(&error))
    }

    /// Syncs when unsynced records have been seen for half a second, so that [`Durability::Written`] keeps its
    /// promise of one second; to be called at least every quarter of one with a clock that never goes back.
    ///
    /// # Errors
    /// As [`Log::sync`].
    pub fn sync_if_due(&self, now_ms: u64) -> Result<()> {
        let mut tail = self.tail.lock();
        if tail.synced == tail.appended {
            return Ok(());
        }
        let since = *tail.dirty_since.get_or_insert(now_ms);
        if now_ms.saturating_sub(since) < 500 {
            return Ok(());
        }
        self.check_usable()?;
        self.sync_tail(&mut tail).map_err(|error| self.stop(&error))
    }

    #[cfg(test)]
    /// Ends the current segment, so that a merge can fold all there is up to now.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn seal(&self) -> Result<()> {
        let mut tail = self.tail.lock();
        self.check_usable()?;
        let unused = self.state.read().segments.last().is_none_or(|active| active.start() == tail.appended.position);
        if unused {
            return Ok(());
        }
        if self.state.read().spares.is_empty() {
            self.prepare_spare()?;
        }
        self.write_run(&mut tail, true, &[]).and_then(|()| self.sync_tail(&mut tail)).map_err(|error| self.stop(&error))
    }

    #[cfg(test)]
    /// Starts a new epoch, at least `at_least`, and answers which: a promoted replica numbers its records
    /// above everything that the primary before it can have handed out.
    ///
    /// # Errors
    /// As [`Log::update_manifest`].
    pub fn begin_epoch(&self, at_least: u64) -> Result<u64> {
        let mut tail = self.tail.lock();
        self.check_usable()?;
        let epoch = (self.state.read().manifest.epoch + 1).max(at_least);
        self.cover_epoch(epoch)?;
        tail.next = (epoch << 32) + 1;
        if tail.synced == tail.appended {
            self.publish(tail.synced, tail.next - 1);
        }
        Ok(epoch)
    }

    /// Which records go into the current segment (the first run), and which into each new one.
    fn plan(&self, tail: &Tail, lengths: &[usize]) -> Result<Vec<Range<usize>>> {
        let state = self.state.read();
        let active = state.segments.last();
        let mut room = active.map_or(0, |active| (active.header.bytes - tail.appended.position.offset) as usize);
        let mut spares = state.spares.iter().map(|spare| spare.bytes);
        let mut runs = Vec::from([Range::default()]);
        for (index, &length) in lengths.iter().enumerate() {
            if length > room {
                room = spares.next().unwrap_or(self.options.segment_bytes) as usize - HEADER_BYTES;
                runs.push(index..index);
            }
            if length > room {
                return Err(
                    Error::new(ErrorKind::TooLarge, "a record does not fit into a segment").with("bytes", length)
                );
            }
            room -= length;
            runs.last_mut().expect("there is at least one run").end = index + 1;
        }
        Ok(runs)
    }

    /// No record may carry an epoch that MANIFEST does not know durably: the next open goes above that one.
    fn cover_epoch(&self, epoch: u64) -> Result<()> {
        if epoch <= self.state.read().manifest.epoch {
            return Ok(());
        }
        if epoch > LAST_EPOCH {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "all record numbers are used up; copy the data into a new database",
            ));
        }
        self.update_manifest(|manifest| manifest.epoch = manifest.epoch.max(epoch))
    }

    fn write_run(&self, tail: &mut Tail, roll: bool, records: &[Record]) -> std::io::Result<()> {
        if records.is_empty() && !roll {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut tail.buffer);
        buffer.clear();
        let mut places = Vec::with_capacity(records.len());
        let mut end = tail.appended;
        let started = if roll { Some(self.start_segment(tail, &mut buffer)?) } else { None };
        if let Some(segment) = &started {
            end.position = Position { segment: segment.id, offset: 0 };
        }
        let begin = end.position.offset as usize;
        for record in records {
            let start = buffer.len();
            let position = Position {
                segment: end.position.segment,
                offset: u32::try_from(begin + start).expect("segments are below 4 GiB"),
            };
            buffer.resize(start + FRAME_BYTES, 0);
            end.time = end.time.max(record.time);
            let link = Link { sequence: tail.next, previous: end.hash, time: end.time };
            encode_content(record, link, &mut buffer);
            let content = &buffer[start + FRAME_BYTES..];
            let frame = Frame {
                length: u32::try_from(content.len()).expect("records are small"),
                synced: tail.synced.position,
                checksum: crc32c::crc32c(content),
            };
            end.hash = chain_hash(content);
            buffer[start..start + FRAME_BYTES].copy_from_slice(&frame.encode(&self.identity.database, position));
            buffer.resize(record::padded(buffer.len()), 0);
            places.push((tail.next, position.offset));
            end.sequence = tail.next;
            tail.next += 1;
        }
        let active = started.unwrap_or_else(|| self.active().expect("a run without a roll has a segment"));
        active.file.write_at(&buffer, begin as u64)?;
        // One record is applied sooner than the disk begins.
        if records.len() > 1 && self.options.durability >= Durability::Synced {
            active.file.write_back(begin as u64, buffer.len() as u64);
        }
        end.position.offset = u32::try_from(begin + buffer.len()).expect("segments are below 4 GiB");
        active.mark(places);
        if roll {
            let mut state = self.state.write();
            state.spares.pop_front();
            state.segments.push(active);
        }
        tail.appended = end;
        tail.buffer = buffer;
        Ok(())
    }

    /// The next segment, with its header in front of what is going to be written.
    ///
    /// The one before is made durable first: only so is a bad record in any but the last segment surely damage.
    fn start_segment(&self, tail: &mut Tail, buffer: &mut Vec<u8>) -> std::io::Result<Arc<Segment>> {
        #[cfg(test)]
        let skip = super::planted::is(super::Planted::RollWithoutSync);
        #[cfg(not(test))]
        let skip = false;
        if !skip {
            self.sync_tail(tail)?;
        }
        let spare = self.state.read().spares.front().cloned().expect("spares were made before the first write");
        let end = tail.appended;
        let header = Header { bytes: spare.bytes, previous: end.sequence, hash: end.hash, time: end.time };
        buffer.extend_from_slice(&header.encode(&self.identity.database, spare.id));
        let segment = spare.start(header);
        segment.mark([]);
        Ok(Arc::new(segment))
    }

    /// The tail stays locked meanwhile: of two syncs at a time the system tells only one about a failure, and
    /// the other would acknowledge what is lost.
    fn sync_tail(&self, tail: &mut Tail) -> std::io::Result<()> {
        if tail.synced != tail.appended {
            let active = self.active().expect("records stand in a segment");
            #[cfg(test)]
            let result = match () {
                () if super::planted::is(super::Planted::SkipSync) => Ok(()),
                () if super::planted::is(super::Planted::IgnoreFailedSync) => active.file.sync_data().or(Ok(())),
                () => active.file.sync_data(),
            };
            #[cfg(not(test))]
            let result = active.file.sync_data();
            result?;
            tail.synced = tail.appended;
            self.state.write().synced = tail.synced;
        }
        tail.dirty_since = None;
        self.publish(tail.synced, tail.next - 1);
        Ok(())
    }

    /// Shows records to readers.
    fn publish(&self, end: End, newest: Sequence) {
        self.state.write().visible = end;
        // After the state, so that whoever sees the number finds the records.
        self.newest.store(newest, Ordering::Release);
    }

    fn active(&self) -> Option<Arc<Segment>> {
        self.state.read().segments.last().cloned()
    }

    /// The log takes nothing more: nobody knows what a failed write or sync left on disk.
    fn stop(&self, error: &std::io::Error) -> Error {
        self.poisoned.store(true, Ordering::SeqCst);
        Error::new(ErrorKind::Ambiguous, "a write may be lost; open the log again, then read before repeating")
            .with("directory", self.dir.display())
            .during("log.append")
            .caused_by(std::io::Error::new(error.kind(), error.to_string()))
    }
}
