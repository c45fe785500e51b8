//! Ranges known to be without a live key, so that a scan need not step over what was removed.
//!
//! A queue removes at its front all day. Until the next checkpoint each removed key stays in the
//! memtable as a mark that hides the store, and the scan for the first ready task would step over
//! all of them again, each time: claiming n tasks would cost n x n steps.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;

use crate::engine::{Direction, KeyRange, Sequence, Write};

/// More of them than queues with their own fronts are seldom needed.
const MOST: usize = 64;
/// So many keys that are put and not published yet are known one by one.
const MOST_ARRIVING: usize = 4_096;

/// Dead ranges of a view, each valid for snapshots from some sequence on.
///
/// The invariant: no key of a range is live at any sequence from `since` to the newest applied one.
/// A removal cannot break it, and a put cuts the range before its memtable is touched. A scan adds none whose snapshot is
/// not the newest, and none around a key that is being put: a group is applied while the disk writes it, and it is then
/// that the next operations scan.
#[derive(Debug, Default)]
pub struct Gaps {
    inner: RwLock<Inner>,
    any: AtomicBool,
}

#[derive(Debug, Default)]
struct Inner {
    /// By first key; they do not overlap.
    ranges: BTreeMap<Bytes, Gap>,
    /// The newest operation that scans can see.
    published: Sequence,
    /// What operations behind that one put.
    arriving: Vec<Bytes>,
    /// They put more than is worth noting.
    many_arrive: bool,
}

#[derive(Clone, Debug)]
struct Gap {
    end: Bytes,
    since: Sequence,
}

impl Gaps {
    /// No range is known; `published` is the newest operation.
    pub fn new(published: Sequence) -> Self {
        let inner = Inner { published, ..Inner::default() };
        Self { inner: RwLock::new(inner), any: AtomicBool::new(false) }
    }

    /// Tells that `writes` are about to be applied.
    pub fn begin<'a>(&self, writes: impl Iterator<Item = &'a Write>) {
        let mut inner = self.inner.write();
        for write in writes.filter(|write| !matches!(write, Write::Delete { .. })) {
            inner.cut(write.key());
            if inner.arriving.len() < MOST_ARRIVING {
                inner.arriving.push(write.key().clone());
            } else {
                inner.many_arrive = true;
            }
        }
        self.any.store(!inner.ranges.is_empty(), Ordering::Release);
    }

    /// Tells that everything up to `sequence` is going to be seen.
    pub fn publish(&self, sequence: Sequence) {
        let mut inner = self.inner.write();
        inner.published = sequence;
        inner.arriving.clear();
        inner.many_arrive = false;
    }

    /// The range around `key`, as first key and first key behind it, if one is known at `at`. Going
    /// backward `key` is the first key behind what was passed already.
    pub fn around(&self, key: &[u8], direction: Direction, at: Sequence) -> Option<(Bytes, Bytes)> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let inner = self.inner.read();
        let mut below = match direction {
            Direction::Forward => {
                inner.ranges.range::<[u8], _>((std::ops::Bound::Unbounded, std::ops::Bound::Included(key)))
            }
            Direction::Backward => {
                inner.ranges.range::<[u8], _>((std::ops::Bound::Unbounded, std::ops::Bound::Excluded(key)))
            }
        };
        let (start, gap) = below.next_back()?;
        let inside = match direction {
            Direction::Forward => *key < gap.end[..],
            Direction::Backward => *key <= gap.end[..],
        };
        (inside && gap.since <= at).then(|| (start.clone(), gap.end.clone()))
    }

    /// Keeps a range that a scan at `at` found dead, if nothing came to life in it since.
    pub fn add(&self, range: KeyRange, at: Sequence) {
        let (mut start, Some(mut end)) = (range.start, range.end) else { return };
        let mut inner = self.inner.write();
        if inner.published > at || start >= end || inner.many_arrive {
            return;
        }
        if inner.arriving.iter().any(|key| start <= *key && *key < end) {
            return;
        }
        let mut since = at;
        while let Some((first, gap)) = inner.touching(&start, &end) {
            inner.ranges.remove(&first);
            since = since.max(gap.since);
            start = start.min(first);
            end = end.max(gap.end);
        }
        if inner.ranges.len() == MOST {
            let oldest = inner.ranges.iter().min_by_key(|(_, gap)| gap.since).map(|(start, _)| start.clone());
            inner.ranges.remove(&oldest.expect("there are many"));
        }
        // Copies, because a key may be a slice that keeps a whole record's buffer alive.
        let (start, end) = (Bytes::copy_from_slice(&start), Bytes::copy_from_slice(&end));
        inner.ranges.insert(start, Gap { end, since });
        self.any.store(true, Ordering::Release);
    }
}

impl Inner {
    fn cut(&mut self, key: &Bytes) {
        let Some((start, gap)) = self.ranges.range(..=key.clone()).next_back() else { return };
        if *key >= gap.end {
            return;
        }
        let (start, gap) = (start.clone(), gap.clone());
        self.ranges.remove(&start);
        let behind = super::store::behind(key);
        if behind < gap.end {
            self.ranges.insert(behind, gap.clone());
        }
        if start < *key {
            self.ranges.insert(start, Gap { end: Bytes::copy_from_slice(key), ..gap });
        }
    }

    /// A range that shares a key or a border with `start..end`.
    fn touching(&self, start: &Bytes, end: &Bytes) -> Option<(Bytes, Gap)> {
        let (first, gap) = self.ranges.range(..=end.clone()).next_back()?;
        (gap.end >= *start).then(|| (first.clone(), gap.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: &'static str, end: &'static str) -> KeyRange {
        KeyRange { start: Bytes::from_static(start.as_bytes()), end: Some(Bytes::from_static(end.as_bytes())) }
    }

    fn around(gaps: &Gaps, key: &str, at: Sequence) -> Option<(Bytes, Bytes)> {
        gaps.around(key.as_bytes(), Direction::Forward, at)
    }

    /// A key put into a dead range must be found, also when the scan that adds the range is late.
    #[test]
    fn a_put_cuts_the_range_it_falls_into() {
        let gaps = Gaps::new(5);
        gaps.add(range("b", "f"), 5);
        let whole = Some((Bytes::from_static(b"b"), Bytes::from_static(b"f")));
        assert_eq!((around(&gaps, "b", 5), around(&gaps, "e", 9)), (whole.clone(), whole));
        assert_eq!((around(&gaps, "c", 4), around(&gaps, "a", 5), around(&gaps, "f", 5)), (None, None, None));
        let put = Write::Put { key: Bytes::from_static(b"d"), value: Bytes::new() };
        gaps.begin(std::iter::once(&put));
        assert_eq!(around(&gaps, "d", 9), None);
        assert_eq!(around(&gaps, "c", 9).map(|gap| gap.1), Some(Bytes::from_static(b"d")));
        assert_eq!(around(&gaps, "e", 9).map(|gap| gap.0), Some(Bytes::from_static(b"d\0")));
        gaps.add(range("a", "z"), 5);
        assert_eq!(around(&gaps, "d", 9), None, "what is being put comes to life in it");
        gaps.add(range("p", "q"), 5);
        assert!(around(&gaps, "p", 9).is_some(), "nothing is put there");
        gaps.publish(6);
        gaps.add(range("a", "z"), 5);
        assert_eq!(around(&gaps, "d", 9), None, "a scan of the past knows nothing of now");
        gaps.add(range("c", "e"), 6);
        assert_eq!(around(&gaps, "d", 9), Some((Bytes::from_static(b"b"), Bytes::from_static(b"f"))));
    }

    /// A replay applies for long and publishes at its end: what it puts must not fill memory, nor be forgotten.
    #[test]
    fn no_range_is_added_while_more_is_put_than_is_noted() {
        let gaps = Gaps::new(0);
        for number in 0..=MOST_ARRIVING as u64 {
            let put = Write::Put { key: Bytes::copy_from_slice(&number.to_be_bytes()), value: Bytes::new() };
            gaps.begin(std::iter::once(&put));
        }
        assert_eq!(gaps.inner.read().arriving.len(), MOST_ARRIVING);
        gaps.add(range("b", "f"), 0);
        assert_eq!(around(&gaps, "b", 9), None);
        gaps.publish(1);
        gaps.add(range("b", "f"), 1);
        assert!(around(&gaps, "b", 9).is_some());
    }

    /// Thousands of short ranges would cost every write more than they save.
    #[test]
    fn few_ranges_are_kept_and_the_newest_among_them() {
        let gaps = Gaps::new(0);
        for number in 0..1_000_u64 {
            gaps.publish(number);
            let start = Bytes::copy_from_slice(&number.to_be_bytes());
            let end = super::super::store::behind(&start);
            gaps.add(KeyRange { start, end: Some(end) }, number);
        }
        assert_eq!(gaps.inner.read().ranges.len(), MOST);
        assert!(gaps.around(&999_u64.to_be_bytes(), Direction::Forward, 999).is_some());
    }
}
