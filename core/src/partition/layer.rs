//! Changes that lie over older state: an operation's own writes, and the groups on their way to the disk.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use bytes::Bytes;

use crate::engine::{Direction, KeyRange, KeyValue, MAX_PAGE_BYTES, MAX_PAGE_ENTRIES, Sequence, Versioned};

use super::Run;

/// What happened to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has this value.
    Put(Bytes),
    /// It is gone.
    Delete,
    /// Its counter moved by this much over what lies below.
    Add(i64),
}

#[derive(Clone, Debug)]
struct Changed {
    change: Change,
    sequence: Sequence,
}

/// The newest change of each key, in key order.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    keys: BTreeMap<Bytes, Changed>,
}

impl Layer {
    /// Lays `change` over what the key had; two adds become one.
    pub fn lay(&mut self, key: Bytes, change: Change, sequence: Sequence) {
        match self.keys.entry(key) {
            Entry::Vacant(place) => {
                place.insert(Changed { change, sequence });
            }
            Entry::Occupied(mut place) => {
                let change = match (&place.get().change, change) {
                    (Change::Add(before), Change::Add(delta)) => Change::Add(before.saturating_add(delta)),
                    (Change::Put(value), Change::Add(delta)) => Change::Put(add(Some(value), delta)),
                    (Change::Delete, Change::Add(delta)) => Change::Put(add(None, delta)),
                    (_, change) => change,
                };
                place.insert(Changed { change, sequence });
            }
        }
    }

    /// How many keys changed.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key changed.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Every change in key order.
    pub fn into_changes(self) -> impl ExactSizeIterator<Item = (Bytes, Change)> {
        self.keys.into_iter().map(|(key, changed)| (key, changed.change))
    }

    /// The value of `key` over what `below` answers; `below` is asked only where it matters.
    pub fn get(&self, key: &[u8], below: impl FnOnce() -> Run<Option<Versioned>>) -> Run<Option<Versioned>> {
        let Some(changed) = self.keys.get(key) else { return below() };
        Ok(match &changed.change {
            Change::Put(value) => Some(Versioned { value: value.clone(), sequence: changed.sequence }),
            Change::Delete => None,
            Change::Add(delta) => {
                let base = below()?;
                let value = add(base.as_ref().map(|versioned| &versioned.value), *delta);
                Some(Versioned { value, sequence: changed.sequence })
            }
        })
    }

    /// At most `limit` entries of `range` over the pages that `below` answers.
    pub fn scan(
        &self,
        range: &KeyRange,
        direction: Direction,
        limit: usize,
        mut below: impl FnMut(&KeyRange, usize) -> Run<Vec<KeyValue>>,
    ) -> Run<Vec<KeyValue>> {
        let limit = limit.min(MAX_PAGE_ENTRIES);
        let mut merged = Vec::new();
        let mut rest = range.clone();
        while merged.len() < limit && !rest.is_empty() {
            let page = below(&rest, limit)?;
            let whole = !page_is_full(&page, limit);
            let (covered, behind) = split(&rest, direction, if whole { None } else { page.last() });
            self.merge(&covered, direction, page, &mut merged);
            match behind {
                Some(behind) => rest = behind,
                None => break,
            }
        }
        merged.truncate(limit);
        Ok(merged)
    }

    fn merge(&self, covered: &KeyRange, direction: Direction, page: Vec<KeyValue>, merged: &mut Vec<KeyValue>) {
        if covered.is_empty() {
            return;
        }
        let changes = self.keys.range(covered.bounds());
        let mut laid: Box<dyn Iterator<Item = (&Bytes, &Changed)>> = match direction {
            Direction::Forward => Box::new(changes),
            Direction::Backward => Box::new(changes.rev()),
        };
        let before = |left: &Bytes, right: &Bytes| match direction {
            Direction::Forward => left < right,
            Direction::Backward => left > right,
        };
        let mut next = laid.next();
        for entry in page {
            while let Some((key, changed)) = next.filter(|(key, _)| before(key, &entry.key)) {
                merged.extend(laid_over(key, changed, None));
                next = laid.next();
            }
            match next.filter(|(key, _)| **key == entry.key) {
                Some((key, newer)) => {
                    merged.extend(laid_over(key, newer, Some(&entry.value)));
                    next = laid.next();
                }
                None => merged.push(entry),
            }
        }
        while let Some((key, changed)) = next {
            merged.extend(laid_over(key, changed, None));
            next = laid.next();
        }
    }
}

/// Whether a page may have ended before its range did.
pub fn page_is_full(page: &[KeyValue], limit: usize) -> bool {
    page.len() >= limit.min(MAX_PAGE_ENTRIES)
        || page.iter().map(|entry| entry.key.len() + entry.value.len()).sum::<usize>() >= MAX_PAGE_BYTES
}

/// A counter's bytes moved by `delta`; anything that is not eight bytes counts as zero.
pub fn add(base: Option<&Bytes>, delta: i64) -> Bytes {
    let base = base.and_then(|bytes| bytes[..].try_into().ok()).map_or(0, i64::from_be_bytes);
    Bytes::copy_from_slice(&base.saturating_add(delta).to_be_bytes())
}

fn laid_over(key: &Bytes, changed: &Changed, below: Option<&Bytes>) -> Option<KeyValue> {
    let value = match &changed.change {
        Change::Put(value) => value.clone(),
        Change::Delete => return None,
        Change::Add(delta) => add(below, *delta),
    };
    Some(KeyValue { key: key.clone(), value, sequence: changed.sequence })
}

/// The part of `range` that a page ending with `last` speaks for, and the part behind it.
fn split(range: &KeyRange, direction: Direction, last: Option<&KeyValue>) -> (KeyRange, Option<KeyRange>) {
    let Some(last) = last else { return (range.clone(), None) };
    match direction {
        Direction::Forward => {
            // The smallest key behind `last` is `last` with a zero byte appended.
            let mut next = last.key.to_vec();
            next.push(0);
            let next = Bytes::from(next);
            (
                KeyRange { start: range.start.clone(), end: Some(next.clone()) },
                Some(KeyRange { start: next, end: range.end.clone() }),
            )
        }
        Direction::Backward => (
            KeyRange { start: last.key.clone(), end: range.end.clone() },
            Some(KeyRange { start: range.start.clone(), end: Some(last.key.clone()) }),
        ),
    }
}

/// Sorted entries as a page source, for tests and for engines in memory.
pub fn scan_map<'a>(
    map: &'a BTreeMap<Bytes, Versioned>,
    range: &KeyRange,
    direction: Direction,
    limit: usize,
) -> Vec<KeyValue> {
    if range.is_empty() {
        return Vec::new();
    }
    let (start, end) = range.bounds();
    let bounds = (start.as_ref().map(|key| &key[..]), end.as_ref().map(|key| &key[..]));
    let entries = map.range::<[u8], (Bound<&[u8]>, Bound<&[u8]>)>(bounds);
    let entries: Box<dyn Iterator<Item = (&'a Bytes, &'a Versioned)>> = match direction {
        Direction::Forward => Box::new(entries),
        Direction::Backward => Box::new(entries.rev()),
    };
    let mut page = Vec::new();
    let mut bytes = 0;
    for (key, versioned) in entries.take(limit.min(MAX_PAGE_ENTRIES)) {
        bytes += key.len() + versioned.value.len();
        page.push(KeyValue { key: key.clone(), value: versioned.value.clone(), sequence: versioned.sequence });
        if bytes >= MAX_PAGE_BYTES {
            break;
        }
    }
    page
}
