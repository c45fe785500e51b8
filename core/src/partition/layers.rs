//! Writes that are run and not durable yet: a layer for each group on its way, the newest on top.

use crate::engine::{Direction, KeyRange, KeyValue, Record, Sequence, Versioned, Write};

use super::Run;
use super::layer::{Change, Layer};

/// A layer takes nothing more once it has so many keys: one that never ended would never be forgotten.
const MOST_KEYS: usize = 8_192;

/// Layers over one another. A whole layer goes at a time, because taking key after key out of one costs as much as
/// putting them in.
#[derive(Debug, Default)]
pub struct Layers(Vec<Dated>);

#[derive(Debug, Default)]
struct Dated {
    layer: Layer,
    /// The newest operation that wrote into it.
    last: Sequence,
}

impl Layers {
    /// What is laid from now on goes with a group of its own.
    pub fn begin(&mut self) {
        if self.0.last().is_none_or(|top| !top.layer.is_empty()) {
            self.0.push(Dated::default());
        }
    }

    /// Lays the writes of `record` over everything.
    pub fn lay(&mut self, record: &Record, sequence: Sequence) {
        if self.0.last().is_none_or(|top| top.layer.len() >= MOST_KEYS) {
            self.0.push(Dated::default());
        }
        let top = self.0.last_mut().expect("just looked at");
        for write in &record.writes {
            let change = match write {
                Write::Put { value, .. } => Change::Put(value.clone()),
                Write::Delete { .. } => Change::Delete,
                Write::Add { delta, .. } => Change::Add(*delta),
            };
            top.layer.lay(write.key().clone(), change, sequence);
        }
        top.last = sequence;
    }

    /// Drops what `durable` covers: the snapshot shows it. A layer that holds also newer writes stays as it is; it
    /// says the same as the snapshot then, or something newer.
    pub fn forget(&mut self, durable: Sequence) {
        let covered = self.0.iter().take_while(|dated| dated.last <= durable).count();
        self.0.drain(..covered);
    }

    /// The value of `key` over what `below` answers; `below` is asked only where it matters.
    pub fn get(&self, key: &[u8], mut below: impl FnMut() -> Run<Option<Versioned>>) -> Run<Option<Versioned>> {
        get(&self.0, key, &mut below)
    }

    /// At most `limit` entries of `range` over the pages that `below` answers.
    pub fn scan(
        &self,
        range: &KeyRange,
        direction: Direction,
        limit: usize,
        mut below: impl FnMut(&KeyRange, usize) -> Run<Vec<KeyValue>>,
    ) -> Run<Vec<KeyValue>> {
        scan(&self.0, range, direction, limit, &mut below)
    }
}

fn get(layers: &[Dated], key: &[u8], below: &mut dyn FnMut() -> Run<Option<Versioned>>) -> Run<Option<Versioned>> {
    match layers.split_last() {
        Some((top, rest)) => top.layer.get(key, || get(rest, key, below)),
        None => below(),
    }
}

fn scan(
    layers: &[Dated],
    range: &KeyRange,
    direction: Direction,
    limit: usize,
    below: &mut dyn FnMut(&KeyRange, usize) -> Run<Vec<KeyValue>>,
) -> Run<Vec<KeyValue>> {
    match layers.split_last() {
        Some((top, rest)) => {
            top.layer.scan(range, direction, limit, |range, limit| scan(rest, range, direction, limit, below))
        }
        None => below(range, limit),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn record(writes: &[(&'static str, Option<&'static str>)]) -> Record {
        let write = |&(key, value): &(&'static str, Option<&'static str>)| {
            let key = Bytes::from_static(key.as_bytes());
            match value {
                Some(value) => Write::Put { key, value: Bytes::from_static(value.as_bytes()) },
                None => Write::Delete { key },
            }
        };
        Record { writes: writes.iter().map(write).collect(), ..Record::default() }
    }

    fn get(layers: &Layers, key: &str) -> Option<(Bytes, Sequence)> {
        let below = || Ok(Some(Versioned { value: Bytes::from_static(b"below"), sequence: 1 }));
        let found = layers.get(key.as_bytes(), below).expect("nothing is refused");
        found.map(|found| (found.value, found.sequence))
    }

    fn keys(layers: &Layers) -> Vec<Bytes> {
        let everything = KeyRange { start: Bytes::new(), end: None };
        let entry = |key: &'static str| KeyValue { key: key.into(), value: Bytes::new(), sequence: 1 };
        let below = |_: &KeyRange, _| Ok(vec![entry("a"), entry("c"), entry("e")]);
        let page = layers.scan(&everything, Direction::Forward, 10, below).expect("nothing is refused");
        page.into_iter().map(|entry| entry.key).collect()
    }

    /// An operation must see the newest write of those before it whichever group that is in, and what is forgotten
    /// too early would be read from a snapshot that does not have it yet.
    #[test]
    fn the_newest_write_wins_and_stays_until_it_is_durable() {
        let mut layers = Layers::default();
        layers.begin();
        layers.lay(&record(&[("a", Some("1")), ("b", Some("1")), ("c", None)]), 5);
        layers.begin();
        layers.lay(&record(&[("a", None), ("d", Some("2"))]), 6);
        layers.lay(&record(&[("b", Some("3"))]), 7);
        assert_eq!(get(&layers, "a"), None);
        assert_eq!(get(&layers, "b"), Some(("3".into(), 7)));
        assert_eq!(get(&layers, "e"), Some(("below".into(), 1)));
        assert_eq!(keys(&layers), ["b", "d", "e"]);
        layers.forget(4);
        assert_eq!(get(&layers, "c"), None);
        layers.forget(5);
        assert_eq!(get(&layers, "c"), Some(("below".into(), 1)));
        layers.forget(6);
        assert_eq!(get(&layers, "d"), Some(("2".into(), 6)), "its layer is not durable as a whole");
        layers.forget(7);
        assert_eq!(keys(&layers), ["a", "c", "e"]);
    }

    /// Writers that never pause would have one layer grow for ever.
    #[test]
    fn layers_are_bounded_and_none_is_empty_for_long() {
        let mut layers = Layers::default();
        for sequence in 1..=3 * MOST_KEYS as Sequence {
            layers.begin();
            layers.begin();
            let key = Bytes::copy_from_slice(&sequence.to_be_bytes());
            layers.lay(&Record { writes: vec![Write::Delete { key }], ..Record::default() }, sequence);
        }
        assert_eq!(layers.0.len(), 3 * MOST_KEYS);
        layers.forget(Sequence::MAX);
        for sequence in 1..=3 * MOST_KEYS as Sequence {
            let key = Bytes::copy_from_slice(&sequence.to_be_bytes());
            layers.lay(&Record { writes: vec![Write::Delete { key }], ..Record::default() }, sequence);
        }
        assert_eq!(layers.0.len(), 3);
    }
}
