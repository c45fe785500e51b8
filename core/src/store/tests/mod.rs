//! A partition in memory that runs every operation twice: reads at hand, and reads that have to be fetched.

mod build;
mod handle;
mod idempotency;
mod limits;
mod model;
mod rules;
mod session;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::engine::{
    Direction, Event, EventKind, KeyRange, KeyValue, MAX_OPERATION_BYTES, MAX_OPERATION_KEYS, Record, Sequence,
    Versioned, Write,
};
use crate::error::{ErrorKind, Result};
use crate::operation::{
    Answer, CollectionInfo, CollectionName, Definition, Entry, IndexDefinition, ListRequest, Operation, Order, Page,
    Version, run, run_idempotent,
};
use crate::partition::layer::{add, scan_map};
use crate::partition::transaction::{Drawn, Source};
use crate::partition::{Halt, Moment, Run, Transaction};

use super::catalog::{Catalog, IndexState};
use super::document::Document;
use super::envelope::Envelope;
use super::fields::Fields;
use super::{catalog, index, keys};

type Keys = BTreeMap<Bytes, Versioned>;

/// Every read is at hand.
struct AtHand<'a>(&'a Keys);

impl Source for AtHand<'_> {
    fn get(&mut self, key: &[u8]) -> Run<Option<Versioned>> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&mut self, range: &KeyRange, direction: Direction, limit: usize) -> Run<Vec<KeyValue>> {
        Ok(scan_map(self.0, range, direction, limit))
    }

    fn need_stable(&mut self) {}
}

/// A read is answered only in the runs after the one that asked for it first.
struct Fetched<'a> {
    keys: &'a Keys,
    known: BTreeSet<String>,
    missing: BTreeSet<String>,
}

impl Fetched<'_> {
    fn need(&mut self, read: String) -> Run<()> {
        if self.known.contains(&read) {
            return Ok(());
        }
        self.missing.insert(read);
        Err(Halt::NeedsRead)
    }
}

impl Source for Fetched<'_> {
    fn get(&mut self, key: &[u8]) -> Run<Option<Versioned>> {
        self.need(format!("{key:?}"))?;
        Ok(self.keys.get(key).cloned())
    }

    fn scan(&mut self, range: &KeyRange, direction: Direction, limit: usize) -> Run<Vec<KeyValue>> {
        self.need(format!("{range:?}{direction:?}{limit}"))?;
        Ok(scan_map(self.keys, range, direction, limit))
    }

    fn need_stable(&mut self) {}
}

/// One partition with its clock.
#[derive(Default)]
struct Partition {
    keys: Keys,
    sequence: Sequence,
    moment: Moment,
    events: Vec<Event>,
    /// How many rounds of fetching the newest operation took.
    rounds: usize,
}

impl Partition {
    fn new() -> Self {
        Self { moment: Moment { ms: 1_700_000_000_000, tick: 0 }, sequence: 100, ..Self::default() }
    }

    fn wait(&mut self, ms: i64) {
        if ms > 0 {
            self.moment = Moment { ms: self.moment.ms + ms, tick: 0 };
        }
    }

    fn call(&mut self, operation: &Operation) -> Result<Answer> {
        self.call_with(operation, None)
    }

    fn call_with(&mut self, operation: &Operation, key: Option<&str>) -> Result<Answer> {
        self.run_both_ways(operation, &|tx| match key {
            Some(key) => run_idempotent(operation, key, tx),
            None => run(operation, tx),
        })
    }

    /// Runs the operation in both ways, which must agree whatever number the record gets.
    fn run_both_ways(
        &mut self,
        operation: &Operation,
        run: &dyn Fn(&mut Transaction<'_>) -> Run<Answer>,
    ) -> Result<Answer> {
        const APART: Sequence = 7;
        self.moment.tick += 1;
        let number = self.sequence + 1;
        let drawn = Drawn { moment: self.moment, seed: number.wrapping_mul(0x9e37_79b9_7f4a_7c15) };
        let start = |source: &mut dyn Source, number| {
            let mut tx = Transaction::new(source, drawn, number);
            let answer = run(&mut tx);
            (answer, tx.into_record())
        };
        let (answer, record) = start(&mut AtHand(&self.keys), number);
        let mut source = Fetched { keys: &self.keys, known: BTreeSet::new(), missing: BTreeSet::new() };
        let (again, other) = loop {
            match start(&mut source, number + APART) {
                (Err(Halt::NeedsRead), _) => {
                    assert!(!source.missing.is_empty(), "an operation that waits has said what for");
                    self.rounds = if source.known.is_empty() { 1 } else { self.rounds + 1 };
                    assert!(self.rounds < 100, "reads are fetched one by one: {operation:?}");
                    source.known.append(&mut source.missing);
                }
                ended => break ended,
            }
        };
        match (answer, again) {
            (Ok(mut answer), Ok(again)) => {
                let given = answer.clone();
                answer.renumber(number, APART);
                assert_eq!(answer, again, "{operation:?}");
                assert_eq!(record, other, "a version went into a value, or a second run writes something else");
                assert!(!operation.is_read() || record.is_empty(), "a read wrote");
                self.commit(record);
                Ok(given)
            }
            (Err(Halt::Refused(error)), Err(Halt::Refused(again))) => {
                assert_eq!(error.to_string(), again.to_string(), "{operation:?}");
                Err(error)
            }
            (answer, again) => panic!("{operation:?}: {answer:?} but {again:?}"),
        }
    }

    fn commit(&mut self, record: Record) {
        if record.is_empty() {
            return;
        }
        assert!(record.len() <= MAX_OPERATION_BYTES && record.writes.len() <= MAX_OPERATION_KEYS);
        self.sequence += 1;
        let sequence = self.sequence;
        for write in &record.writes {
            let (key, value) = match write {
                Write::Put { key, value } => (key, value.clone()),
                Write::Add { key, delta } => (key, add(self.keys.get(key).map(|old| &old.value), *delta)),
                Write::Delete { key } => {
                    self.keys.remove(key);
                    continue;
                }
            };
            self.keys.insert(key.clone(), Versioned { value, sequence });
        }
        self.events = record.events;
    }

    /// Reads outside of any operation.
    fn read<T>(&self, read: impl FnOnce(&mut Transaction<'_>) -> Run<T>) -> T {
        let mut source = AtHand(&self.keys);
        let drawn = Drawn { moment: self.moment, seed: 0 };
        read(&mut Transaction::new(&mut source, drawn, self.sequence + 1)).unwrap()
    }

    fn catalog(&self, collection: &str) -> Option<Catalog> {
        self.read(|tx| catalog::load(tx, collection))
    }

    /// Every key must follow from the documents and declarations, and everything that follows must be there.
    fn check(&self) {
        let Answer::Collections(collections) = self.read(catalog::collections) else { panic!("no collections") };
        let mut left = self.keys.clone();
        let mut take = |key: Bytes| left.remove(&key).unwrap_or_else(|| panic!("missing key {key:?}"));
        for CollectionInfo { name, count, .. } in collections {
            let catalog = self.catalog(name.as_str()).unwrap();
            take(keys::catalog(name.as_str()));
            take(keys::name(catalog.number));
            let mut documents = 0;
            let prefix = keys::document(catalog.number, "");
            for (key, stored) in self.keys.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix)) {
                documents += 1;
                take(key.clone());
                let id = std::str::from_utf8(&key[prefix.len()..]).unwrap();
                let envelope = Envelope::decode(stored.value.clone()).unwrap();
                let fields = envelope.document.fields();
                assert_eq!(fields["id"], id);
                assert!(take(keys::order(catalog.number, &envelope.place, id)).value.is_empty());
                if let Some(end) = envelope.expires {
                    take(keys::expiry(end, catalog.number, id));
                }
                for index in catalog.indexes.iter().filter(|index| index.state == IndexState::Ready) {
                    let Some(value) = index::value(index, id, Fields::Values(fields)).unwrap() else { continue };
                    if index.unique {
                        assert_eq!(take(keys::unique(catalog.number, index.number, &value)).value, id.as_bytes());
                    } else {
                        take(keys::index(catalog.number, index.number, &value, &envelope.place, id));
                    }
                }
            }
            assert_eq!(count, documents, "collection={name}");
        }
        self.check_rest(&left);
    }

    /// What may remain: entries of indexes in the making or dropped, counters, idempotency keys.
    fn check_rest(&self, left: &Keys) {
        let dropped: Vec<_> =
            left.keys().filter(|key| key[0] == 0x17).map(|key| keys::split_dropped(key).unwrap()).collect();
        let mut building = Vec::new();
        if let Answer::Collections(collections) = self.read(catalog::collections) {
            for info in collections {
                let catalog = self.catalog(info.name.as_str()).unwrap();
                let unready = catalog.indexes.iter().filter(|index| index.state == IndexState::Building);
                building.extend(unready.map(|index| (catalog.number, index.number)));
            }
        }
        for key in left.keys() {
            let in_unready = dropped.iter().chain(&building).any(|&(collection, index)| {
                [keys::indexes(collection, index), keys::uniques(collection, index), keys::build(collection, index)]
                    .iter()
                    .any(|prefix| key.starts_with(prefix))
            });
            assert!(in_unready || matches!(key[0], 0x02 | 0x15 | 0x17..=0x1b), "left over key {key:?}");
        }
    }
}

fn name(name: &str) -> CollectionName {
    CollectionName::new(name).unwrap()
}

fn document(text: &str) -> Document {
    Document::parse(text.to_owned()).unwrap()
}

fn create(collection: &str, text: &str) -> Operation {
    Operation::Create { collection: name(collection), document: document(text), ttl_ms: None }
}

fn create_for(collection: &str, text: &str, ttl_ms: u64) -> Operation {
    Operation::Create { collection: name(collection), document: document(text), ttl_ms: Some(ttl_ms) }
}

fn replace(collection: &str, id: &str, text: &str) -> Operation {
    let (collection, document) = (name(collection), document(text));
    Operation::Replace { collection, id: id.to_owned(), document, if_version: None, ttl_ms: None }
}

fn update(collection: &str, id: &str, text: &str) -> Operation {
    let (collection, patch) = (name(collection), document(text));
    Operation::Update { collection, id: id.to_owned(), patch, if_version: None, ttl_ms: None }
}

fn delete(collection: &str, id: &str) -> Operation {
    Operation::Delete { collection: name(collection), id: id.to_owned(), if_version: None }
}

fn get(collection: &str, id: &str) -> Operation {
    Operation::Get { collection: name(collection), id: id.to_owned() }
}

fn count(collection: &str) -> Operation {
    Operation::Count { collection: name(collection) }
}

fn list(collection: &str, limit: usize) -> ListRequest {
    ListRequest {
        collection: name(collection),
        order: Order::Creation,
        direction: Direction::Forward,
        limit,
        after: None,
    }
}

fn by_index(collection: &str, index: &str, limit: usize) -> ListRequest {
    let order = Order::Index { index: index.to_owned(), from: None, to: None };
    ListRequest { order, ..list(collection, limit) }
}

fn declare(collection: &str, indexes: &[(&str, bool)]) -> Operation {
    let index =
        |&(field, unique): &(&str, bool)| IndexDefinition { name: String::new(), field: field.to_owned(), unique };
    let definition = Definition { indexes: indexes.iter().map(index).collect(), ..Definition::default() };
    Operation::Declare { collection: name(collection), definition }
}

fn build_index(collection: &str, index: &str) -> Operation {
    Operation::BuildIndex { collection: name(collection), index: index.to_owned() }
}

impl Partition {
    fn written(&mut self, operation: &Operation) -> Entry {
        match self.call(operation).unwrap() {
            Answer::Written(entry) => entry,
            other => panic!("{other:?}"),
        }
    }

    fn got(&mut self, collection: &str, id: &str) -> Option<Entry> {
        match self.call(&get(collection, id)).unwrap() {
            Answer::Entry(entry) => entry,
            other => panic!("{other:?}"),
        }
    }

    fn counted(&mut self, collection: &str) -> u64 {
        match self.call(&count(collection)).unwrap() {
            Answer::Count(count) => count,
            other => panic!("{other:?}"),
        }
    }

    fn more(&mut self, operation: &Operation) -> bool {
        match self.call(operation).unwrap() {
            Answer::More(more) => more,
            other => panic!("{other:?}"),
        }
    }

    fn sweep(&mut self) {
        while self.more(&Operation::Sweep) {}
    }

    fn page(&mut self, request: &ListRequest) -> Page {
        match self.call(&Operation::List(request.clone())).unwrap() {
            Answer::Page(page) => page,
            other => panic!("{other:?}"),
        }
    }

    /// The ids of a whole list.
    fn ids(&mut self, mut request: ListRequest) -> Vec<String> {
        let mut ids = Vec::new();
        loop {
            let page = self.page(&request);
            assert!(page.entries.len() <= request.limit);
            ids.extend(page.entries.into_iter().map(|entry| entry.id));
            request.after = page.next;
            if request.after.is_none() {
                return ids;
            }
        }
    }

    fn refused(&mut self, operation: &Operation) -> ErrorKind {
        let before = self.keys.clone();
        let error = self.call(operation).expect_err("refused");
        assert_eq!(self.keys, before, "a refusal wrote");
        error.kind()
    }
}
