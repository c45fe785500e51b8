//! One piece of memory for the keys and values of a record.

use bytes::Bytes;

use crate::engine::{Record, Write};

/// Larger values stay where they are: copying them would cost more than the piece of memory that it saves.
const LARGEST: usize = 4 << 10;

/// Moves keys and values together. They are kept side by side in memtables and go together too, and of many small
/// pieces each would be asked of the allocator twice: once for the bytes, once to count who shares them.
pub fn pack(record: &mut Record) {
    let packed = |value: &Bytes| if value.len() <= LARGEST { value.len() } else { 0 };
    let size = |write: &Write| match write {
        Write::Put { key, value } => key.len() + packed(value),
        Write::Delete { key } | Write::Add { key, .. } => key.len(),
    };
    let mut memory = Vec::with_capacity(record.writes.iter().map(size).sum());
    for write in &record.writes {
        memory.extend_from_slice(write.key());
        if let Write::Put { value, .. } = write
            && value.len() <= LARGEST
        {
            memory.extend_from_slice(value);
        }
    }
    let mut rest = Bytes::from(memory);
    for event in &mut record.events {
        // Before the keys move: an event that shares its key's memory would keep the old piece.
        if let Ok(at) = record.writes.binary_search_by(|write| write.key().cmp(&event.key)) {
            let before: usize = record.writes[..at].iter().map(size).sum();
            event.key = rest.slice(before..before + event.key.len());
        }
    }
    for write in &mut record.writes {
        match write {
            Write::Put { key, value } => {
                *key = rest.split_to(key.len());
                if value.len() <= LARGEST {
                    *value = rest.split_to(value.len());
                }
            }
            Write::Delete { key } | Write::Add { key, .. } => *key = rest.split_to(key.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Event, EventKind};

    /// A key that ends up with its neighbour's bytes is a document under a foreign id.
    #[test]
    fn packing_changes_nothing_but_the_place() {
        let key = |text: &'static str| Bytes::from_static(text.as_bytes());
        let writes = vec![
            Write::Put { key: key("a"), value: key("first") },
            Write::Delete { key: key("bb") },
            Write::Put { key: key("c"), value: vec![7; LARGEST + 1].into() },
            Write::Put { key: key("ccc"), value: vec![8; LARGEST].into() },
            Write::Add { key: key("d"), delta: -3 },
            Write::Put { key: key("e"), value: Bytes::new() },
        ];
        let event = |text| Event { collection: "c".into(), id: "i".into(), kind: EventKind::Created, key: key(text) };
        let record = Record { time: 3, events: vec![event("ccc"), event(""), event("absent"), event("e")], writes };
        let mut packed = record.clone();
        pack(&mut packed);
        assert_eq!(packed, record);
        let place = |write: &Write| write.key().as_ptr() as usize;
        assert!(packed.writes.windows(2).all(|pair| place(&pair[0]) < place(&pair[1])), "one behind the other");
        assert_eq!(packed.events[0].key.as_ptr(), packed.writes[3].key().as_ptr());
        let mut empty = Record::default();
        pack(&mut empty);
        assert_eq!(empty, Record::default());
    }
}
