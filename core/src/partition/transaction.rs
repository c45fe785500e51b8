//! What one operation sees and writes.

use bytes::Bytes;
use uuid::Uuid;

use crate::engine::{
    Direction, Event, KeyRange, KeyValue, MAX_KEY_BYTES, MAX_OPERATION_BYTES, MAX_OPERATION_KEYS, Record, Sequence,
    Versioned, Write,
};
use crate::error::{Error, ErrorKind};

use super::layer::{Change, Layer};

/// Why a run ended before its answer.
#[derive(Debug)]
pub enum Halt {
    /// A read is not at hand; it has been noted, the run starts again once it is there.
    NeedsRead,
    /// The operation is refused; none of its writes are kept.
    Refused(Error),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// What a step of a run gives.
pub type Run<T> = Result<T, Halt>;

/// When an operation was taken in: engine time, and its place within that millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment {
    /// Engine time in milliseconds since 1970.
    pub ms: i64,
    /// How many operations of this partition came earlier in the same millisecond.
    pub tick: u16,
}

impl Moment {
    /// Eight bytes that sort as moments do.
    pub fn to_bytes(self) -> [u8; 8] {
        let ms = u64::try_from(self.ms).unwrap_or(0) & 0xffff_ffff_ffff;
        (ms << 16 | u64::from(self.tick)).to_be_bytes()
    }

    #[cfg(test)]
    /// The moment that [`Moment::to_bytes`] wrote.
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        let joined = u64::from_be_bytes(bytes);
        Self { ms: i64::try_from(joined >> 16).unwrap_or(i64::MAX), tick: (joined & 0xffff) as u16 }
    }
}

/// What is drawn once for an operation, so that every run of it writes the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct Drawn {
    /// When the operation was taken in.
    pub moment: Moment,
    /// Chance for the ids it makes.
    pub seed: u64,
}

/// Where a transaction's reads go: the groups before it, over the engine's snapshot.
pub trait Source {
    /// The newest value of `key` that the operation may see.
    fn get(&mut self, key: &[u8]) -> Run<Option<Versioned>>;
    /// At most `limit` entries; may end early, see [`crate::partition::layer::page_is_full`].
    fn scan(&mut self, range: &KeyRange, direction: Direction, limit: usize) -> Run<Vec<KeyValue>>;
    /// From now on the commit fails if anything in the partition changed since the snapshot.
    fn need_stable(&mut self);
}

/// One operation's view of its partition, and the writes it wants to make.
pub struct Transaction<'a> {
    source: &'a mut dyn Source,
    drawn: Drawn,
    sequence: Sequence,
    own: Layer,
    events: Vec<Event>,
    bytes: usize,
    writes: usize,
    ids: u32,
}

impl<'a> Transaction<'a> {
    /// A transaction over `source` whose record will carry the number `sequence`.
    pub fn new(source: &'a mut dyn Source, drawn: Drawn, sequence: Sequence) -> Self {
        Self { source, drawn, sequence, own: Layer::default(), events: Vec::new(), bytes: 0, writes: 0, ids: 0 }
    }

    /// The newest value of `key`, own writes included.
    pub fn get(&mut self, key: &[u8]) -> Run<Option<Versioned>> {
        let source = &mut self.source;
        self.own.get(key, || source.get(key))
    }

    /// At most `limit` entries of `range` (never more than a page), own writes included. A hint
    /// where several processes write: entries that appeared since may be missed.
    pub fn scan(&mut self, range: &KeyRange, direction: Direction, limit: usize) -> Run<Vec<KeyValue>> {
        let source = &mut self.source;
        self.own.scan(range, direction, limit, |range, limit| source.scan(range, direction, limit))
    }

    /// As [`Transaction::scan`], and the commit is valid only if nothing in the partition changed meanwhile.
    pub fn scan_stable(&mut self, range: &KeyRange, direction: Direction, limit: usize) -> Run<Vec<KeyValue>> {
        self.source.need_stable();
        self.scan(range, direction, limit)
    }

    /// A counter's value; absent counts as 0.
    pub fn counter(&mut self, key: &[u8]) -> Run<i64> {
        let value = self.get(key)?;
        Ok(value.and_then(|versioned| versioned.value[..].try_into().ok()).map_or(0, i64::from_be_bytes))
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, key: Bytes, value: Bytes) -> Run<()> {
        self.account(&key, value.len())?;
        self.own.lay(key, Change::Put(value), self.sequence);
        Ok(())
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: Bytes) -> Run<()> {
        self.account(&key, 0)?;
        self.own.lay(key, Change::Delete, self.sequence);
        Ok(())
    }

    /// Moves a counter; not a read, so that counters never make two operations conflict.
    pub fn add(&mut self, key: Bytes, delta: i64) -> Run<()> {
        self.account(&key, 8)?;
        self.own.lay(key, Change::Add(delta), self.sequence);
        Ok(())
    }

    /// Notes what the writes mean, for the change feed.
    pub fn emit(&mut self, event: Event) -> Run<()> {
        self.account(&event.key, event.id.len() + event.collection.len())?;
        self.events.push(event);
        Ok(())
    }

    /// When this operation was taken in.
    pub fn moment(&self) -> Moment {
        self.drawn.moment
    }

    /// Engine time of this operation in milliseconds.
    pub fn now(&self) -> i64 {
        self.drawn.moment.ms
    }

    /// The version that every key written here will have. It goes into answers only, never into a
    /// stored value: engines shared by several processes may number the record differently.
    pub fn version(&self) -> Sequence {
        self.sequence
    }

    /// Chance, the same in every run of this operation.
    pub fn seed(&self) -> u64 {
        self.drawn.seed
    }

    /// A new UUID v7 in creation order; the same one in every run of this operation.
    pub fn new_id(&mut self) -> Uuid {
        let n = self.ids;
        self.ids += 1;
        uuid_v7(self.drawn.moment, n, self.drawn.seed)
    }

    /// Whether anything was written so far.
    pub fn is_read_only(&self) -> bool {
        self.own.is_empty() && self.events.is_empty()
    }

    /// Bytes of keys, values and events so far, as counted against the limit of one operation.
    pub fn written(&self) -> usize {
        self.bytes
    }

    /// The record of this operation; adds stay adds.
    pub fn into_record(self) -> Record {
        let write = |(key, change)| match change {
            Change::Put(value) => Write::Put { key, value },
            Change::Delete => Write::Delete { key },
            Change::Add(delta) => Write::Add { key, delta },
        };
        let writes = self.own.into_changes().map(write).collect();
        Record { time: self.drawn.moment.ms, events: self.events, writes }
    }

    fn account(&mut self, key: &Bytes, more: usize) -> Run<()> {
        if key.len() > MAX_KEY_BYTES {
            let error = Error::new(ErrorKind::TooLarge, "an encoded key is over its limit");
            return Err(error.with("bytes", key.len()).with("limit", MAX_KEY_BYTES).into());
        }
        self.bytes += key.len() + more;
        self.writes += 1;
        if self.bytes > MAX_OPERATION_BYTES {
            let error = Error::new(ErrorKind::TooLarge, "one operation writes more than its limit; split it");
            return Err(error.with("bytes", self.bytes).with("limit", MAX_OPERATION_BYTES).into());
        }
        if self.writes > MAX_OPERATION_KEYS {
            let error = Error::new(ErrorKind::TooLarge, "one operation writes more keys than its limit; split it");
            return Err(error.with("keys", self.writes).with("limit", MAX_OPERATION_KEYS).into());
        }
        Ok(())
    }
}

/// UUID v7 (RFC 9562, method 1): 48 bits of milliseconds, then the place within the millisecond, then chance.
pub fn uuid_v7(moment: Moment, n: u32, seed: u64) -> Uuid {
    let ms = u64::try_from(moment.ms).unwrap_or(0) & 0xffff_ffff_ffff;
    // 12 bits in front of the variant and 4 behind it hold the tick; 16 more the count within the operation.
    let tick = u64::from(moment.tick);
    let high = ms << 16 | 0x7000 | tick >> 4;
    let chance = seed ^ u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let low = 0b10 << 62 | (tick & 0xf) << 58 | u64::from(n & 0xffff) << 42 | chance & 0x3ff_ffff_ffff;
    Uuid::from_u64_pair(high, low)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids that do not sort as they were made would break "in creation order" for everybody who sorts by id.
    #[test]
    fn ids_are_version_7_and_sort_by_moment_and_count() {
        let early = uuid_v7(Moment { ms: 1_700_000_000_000, tick: 4_095 }, 7, 1);
        let later = uuid_v7(Moment { ms: 1_700_000_000_000, tick: 4_096 }, 0, u64::MAX);
        let next = uuid_v7(Moment { ms: 1_700_000_000_000, tick: 4_096 }, 1, 0);
        assert!(early < later && later < next);
        assert_eq!(early.get_version_num(), 7);
        assert_eq!(early.get_variant(), uuid::Variant::RFC4122);
    }
}
