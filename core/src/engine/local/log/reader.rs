//! Reading the log: the feed's pages, the records behind a sequence, and all there is for a new view.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Log;
use super::base::{Base, BaseIter};
use super::manifest::End;
use super::scan::{self, Ending, TailIter};
use super::segment::Segment;
use crate::engine::{CommittedRecord, Sequence};
use crate::error::{Error, ErrorKind, Result};

impl Log {
    /// The newest visible operation and its engine time. After an open this is the start of the epoch, a
    /// number that no record has: the next record gets the number behind it.
    pub fn newest(&self) -> (Sequence, i64) {
        let time = self.state.read().visible.time;
        (self.newest.load(Ordering::Acquire), time)
    }

    /// The oldest `after` that [`Log::read_from`] takes.
    pub fn oldest(&self) -> Sequence {
        let state = self.state.read();
        let base = state.base.as_ref().map_or(0, |base| base.footer.sequence);
        state.segments.first().map_or(base, |first| first.header.previous)
    }

    /// Visible records behind `after`, oldest first: at most `max_records`, and once there is one, no more
    /// than `max_bytes` of writes and events.
    ///
    /// # Errors
    /// `Expired`: records behind `after` are no longer kept.
    pub fn read_from(&self, after: Sequence, max_records: usize, max_bytes: usize) -> Result<Vec<CommittedRecord>> {
        if after >= self.newest.load(Ordering::Acquire) {
            return Ok(Vec::new());
        }
        let mut records = Vec::new();
        let mut bytes = 0;
        for record in self.tail_iter(after)? {
            let record = record?;
            bytes += record.record.len();
            if records.len() >= max_records || (bytes > max_bytes && !records.is_empty()) {
                break;
            }
            records.push(record);
        }
        Ok(records)
    }

    /// The visible records behind `after`, as of now.
    ///
    /// # Errors
    /// `Expired`: records behind `after` are no longer kept; start from [`Log::base_iter`].
    pub fn tail_iter(&self, after: Sequence) -> Result<TailIter> {
        let (tail, _) = self.tail_and_base();
        self.walk(tail, after)
    }

    /// The base in key order and the operation it is at; none before the first merge. With
    /// [`Log::tail_iter`] behind that operation it is everything there is.
    #[cfg(test)]
    pub fn base_iter(&self) -> Option<(BaseIter, Sequence)> {
        let base = self.state.read().base.clone()?;
        Some((base.iter(), base.footer.sequence))
    }

    /// Everything there is, as of now: the base, the operation it is at, and the visible records behind it.
    /// A merge that ends in between takes nothing away from it.
    ///
    /// # Errors
    /// `Damaged`, `Unavailable`: a segment cannot be read.
    pub fn rebuild_iter(&self) -> Result<(Option<BaseIter>, Sequence, TailIter)> {
        let (tail, base) = self.tail_and_base();
        let after = base.as_ref().map_or(0, |base| base.footer.sequence);
        Ok((base.map(|base| base.iter()), after, self.walk(tail, after)?))
    }

    fn tail_and_base(&self) -> (VisibleTail, Option<Arc<Base>>) {
        let state = self.state.read();
        let end = state.visible;
        let segments: Vec<_> =
            state.segments.iter().filter(|segment| segment.id <= end.position.segment).cloned().collect();
        let base = state.base.as_ref().map_or(0, |base| base.footer.sequence);
        let oldest = segments.first().map_or(base, |first| first.header.previous);
        (VisibleTail { segments, end, oldest }, state.base.clone())
    }

    fn walk(&self, tail: VisibleTail, after: Sequence) -> Result<TailIter> {
        let VisibleTail { segments, end, oldest } = tail;
        if oldest > after {
            let expired = "records behind this one are no longer kept; start from a fresh list";
            return Err(Error::new(ErrorKind::Expired, expired).with("after", after).with("oldest", oldest));
        }
        let seek = segments.iter().rev().find(|segment| segment.header.previous <= after);
        if let Some(segment) = seek.filter(|segment| segment.header.previous < after) {
            scan::mark(segment, self.identity.database)?;
        }
        let ending = Ending { limit: Some(end.position.offset), sequence: end.sequence, hash: end.hash };
        Ok(TailIter::new(self.identity.database, segments, ending, after))
    }
}

/// The part of the tail that readers may see, as of one moment.
struct VisibleTail {
    segments: Vec<Arc<Segment>>,
    end: End,
    oldest: Sequence,
}
