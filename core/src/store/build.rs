//! Declaring indexes, building them on documents that are there already, and dropping them.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::engine::{Direction, KeyRange};
use crate::error::{Error, ErrorKind, Result};
use crate::operation::{Answer, CollectionName, Definition, IndexDefinition};
use crate::partition::{Halt, Run, Transaction};

use super::catalog::{self, Catalog, FailedBuild, Failure, Index, IndexState, MAX_INDEXES};
use super::collection;
use super::index::{self, Holder, Member, Scope};
use super::{damaged, expiry, get_all, key_behind, keys};

/// One step adds at most this many documents,
const STEP: usize = 256;
/// and reads about this many bytes of them.
const STEP_READ_BYTES: usize = 4 << 20;
/// Documents are fetched this many at a time.
const FETCH: usize = 32;
/// One step drops at most this many entries.
const DROP_STEP: usize = 1_000;
/// Names of fields and indexes are at most this long.
const MAX_NAME_BYTES: usize = 128;

/// Adds what `definition` asks for and is not there yet; writes nothing when all of it is.
pub fn declare(
    tx: &mut Transaction<'_>,
    name: &CollectionName,
    definition: &Definition,
    partitions: u32,
) -> Run<Answer> {
    check(definition)?;
    let before = catalog::load(tx, name.as_str())?;
    let is_new = before.is_none();
    let mut catalog = catalog::load_or_add(tx, name)?;
    let loaded = catalog.clone();
    set_rules(&mut catalog, definition)?;
    let mut last = None;
    for wanted in &definition.indexes {
        if let Some(index) = catalog.indexes.iter().find(|index| index.name == wanted.name()) {
            check_same(index, wanted)?;
            continue;
        }
        check_unique(&catalog, wanted, partitions)?;
        if last.is_none() {
            last = Some(if is_new { None } else { last_document(tx, &catalog)? });
        }
        let until = last.as_ref().and_then(Option::as_ref);
        let number = add_index(&mut catalog, wanted, until.is_some())?;
        if let Some(until) = until {
            let progress = Progress { until: until.clone(), reached: Bytes::new() };
            tx.put(keys::build(catalog.number, number), progress.encode())?;
        }
    }
    if catalog != loaded {
        catalog::save(tx, name.as_str(), &catalog)?;
    }
    catalog::describe(tx, name)
}

/// Adds some documents to an index; answers whether there are more.
pub fn step(tx: &mut Transaction<'_>, name: &CollectionName, index: &str) -> Run<Answer> {
    let mut catalog = load(tx, name)?;
    if let Some(failed) = catalog.failed.iter().find(|failed| failed.name == index) {
        return Err(failed.error().into());
    }
    let index = catalog.index(index)?.clone();
    if index.state == IndexState::Ready {
        return Ok(Answer::More(false));
    }
    let key = keys::build(catalog.number, index.number);
    let progress = tx.get(&key)?.and_then(|stored| Progress::decode(&stored.value)).ok_or_else(damaged)?;
    let prefix = keys::orders(catalog.number);
    let range = progress.rest(&prefix);
    let found = tx.scan(&range, Direction::Forward, STEP)?;
    let places: Vec<Bytes> = found.into_iter().map(|entry| entry.key.slice(prefix.len()..)).collect();
    let added = match add_documents(tx, Scope { name, catalog: &catalog }, &index, &places)? {
        Step::Added(added) => added,
        Step::Failed(failure) => {
            let field = index.field.clone();
            take_index(tx, &mut catalog, &index)?;
            catalog.failed.push(FailedBuild { name: index.name, field, failure });
            catalog::save(tx, name.as_str(), &catalog)?;
            // A refusal would keep nothing of this, so the next step is the one that tells.
            return Ok(Answer::More(true));
        }
    };
    if added == places.len() && added < STEP {
        let built = catalog.indexes.iter_mut().find(|built| built.number == index.number);
        built.expect("the index was found above").state = IndexState::Ready;
        catalog::save(tx, name.as_str(), &catalog)?;
        tx.delete(key)?;
        return Ok(Answer::More(false));
    }
    let reached = places[added - 1].clone();
    tx.put(key, Progress { reached, ..progress }.encode())?;
    Ok(Answer::More(true))
}

/// Takes an index away; entries that are too many for one operation go in later sweeps, unseen.
pub fn drop_index(tx: &mut Transaction<'_>, name: &CollectionName, index: &str) -> Run<Answer> {
    let mut catalog = load(tx, name)?;
    if let Some(failed) = catalog.failed.iter().position(|failed| failed.name == index) {
        catalog.failed.remove(failed);
    } else {
        let index = catalog.index(index)?.clone();
        take_index(tx, &mut catalog, &index)?;
    }
    catalog::save(tx, name.as_str(), &catalog)?;
    catalog::describe(tx, name)
}

/// Removes entries of dropped indexes; answers whether there are more.
pub fn sweep_dropped(tx: &mut Transaction<'_>) -> Run<bool> {
    let dropped = tx.scan(&keys::all_dropped(), Direction::Forward, 1)?;
    let Some(entry) = dropped.first() else { return Ok(false) };
    let (collection, index) = keys::split_dropped(&entry.key).ok_or_else(damaged)?;
    if remove_entries(tx, collection, index)? {
        tx.delete(entry.key.clone())?;
    }
    // Whether another index waits behind this one is for the next sweep to see.
    Ok(true)
}

fn load(tx: &mut Transaction<'_>, name: &CollectionName) -> Run<Catalog> {
    let no_such = || Error::new(ErrorKind::NotFound, "no such collection").with("collection", name);
    Ok(catalog::load(tx, name.as_str())?.ok_or_else(no_such)?)
}

fn check(definition: &Definition) -> Result<()> {
    if let Some(ttl_ms) = definition.ttl_ms {
        expiry::check(ttl_ms)?;
    }
    let indexed = definition.indexes.iter().flat_map(|index| [index.name(), &index.field]);
    for name in indexed.chain(definition.partition_field.as_deref()) {
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(Error::invalid("names of fields and indexes are 1 to 128 bytes").with("name", name));
        }
    }
    let mut names = BTreeSet::new();
    for index in &definition.indexes {
        if !names.insert(index.name()) {
            return Err(Error::invalid("an index is declared twice").with("index", index.name()));
        }
    }
    Ok(())
}

fn set_rules(catalog: &mut Catalog, definition: &Definition) -> Result<()> {
    catalog.ttl_ms = definition.ttl_ms.or(catalog.ttl_ms);
    match (&catalog.partition_field, &definition.partition_field) {
        (Some(before), Some(wanted)) if before != wanted => {
            let error = Error::invalid("the partition field of a collection stays as it was first declared");
            return Err(error.with("declared", before).with("wanted", wanted));
        }
        (None, Some(wanted)) => catalog.partition_field = Some(wanted.clone()),
        _ => {}
    }
    Ok(())
}

fn check_same(index: &Index, wanted: &IndexDefinition) -> Result<()> {
    if index.field != wanted.field || index.unique != wanted.unique {
        let error = Error::invalid("there is an index with this name and another definition; drop it first");
        return Err(error.with("index", &index.name).with("field", &index.field).with("unique", index.unique));
    }
    Ok(())
}

/// Values of two partitions are not compared, so that uniqueness over them could not be kept.
fn check_unique(catalog: &Catalog, wanted: &IndexDefinition, partitions: u32) -> Result<()> {
    let in_one_partition = partitions == 1 || catalog.partition_field.as_ref() == Some(&wanted.field);
    if wanted.unique && !in_one_partition {
        let error = Error::invalid("a unique index needs one partition, or the partition field as its field");
        return Err(error.with("index", wanted.name()).with("partitions", partitions));
    }
    Ok(())
}

/// Which documents a build has left: those behind `reached`, up to the last one that was there when the
/// index was declared. Later ones add themselves; a build that went after them might never catch up.
struct Progress {
    until: Bytes,
    reached: Bytes,
}

impl Progress {
    fn rest(&self, prefix: &[u8]) -> KeyRange {
        let behind = |place: &[u8]| key_behind(&[prefix, place].concat());
        let start = if self.reached.is_empty() { Bytes::copy_from_slice(prefix) } else { behind(&self.reached) };
        KeyRange { start, end: Some(behind(&self.until)) }
    }

    fn encode(&self) -> Bytes {
        let length = u16::try_from(self.until.len()).expect("a place and an id are short");
        [&length.to_be_bytes()[..], &self.until, &self.reached].concat().into()
    }

    fn decode(bytes: &Bytes) -> Option<Self> {
        let until = 2..2 + usize::from(u16::from_be_bytes(*bytes.first_chunk()?));
        let reached = until.end..bytes.len();
        (until.end <= bytes.len()).then(|| Self { until: bytes.slice(until), reached: bytes.slice(reached) })
    }
}

/// The place and id of the newest document; an empty collection has nothing to build. One that another
/// process adds meanwhile would be missed by a plain scan, hence the stable one.
fn last_document(tx: &mut Transaction<'_>, catalog: &Catalog) -> Run<Option<Bytes>> {
    let prefix = keys::orders(catalog.number);
    let last = tx.scan_stable(&KeyRange::prefix(&prefix), Direction::Backward, 1)?;
    Ok(last.first().map(|entry| entry.key.slice(prefix.len()..)))
}

fn add_index(catalog: &mut Catalog, wanted: &IndexDefinition, building: bool) -> Result<u32> {
    catalog.failed.retain(|failed| failed.name != wanted.name());
    if catalog.indexes.len() + catalog.failed.len() >= MAX_INDEXES {
        let error = Error::new(ErrorKind::TooLarge, "a collection has too many indexes");
        return Err(error.with("limit", MAX_INDEXES));
    }
    let number = catalog.next_index;
    catalog.next_index += 1;
    let (name, field) = (wanted.name().to_owned(), wanted.field.clone());
    let state = if building { IndexState::Building } else { IndexState::Ready };
    catalog.indexes.push(Index { number, name, field, unique: wanted.unique, state });
    Ok(number)
}

enum Step {
    Added(usize),
    Failed(Failure),
}

/// Adds the documents at `places` to the index until the step is long enough.
fn add_documents(tx: &mut Transaction<'_>, scope: Scope<'_>, index: &Index, places: &[Bytes]) -> Run<Step> {
    let mut added = 0;
    let mut read = 0;
    for chunk in places.chunks(FETCH) {
        let ids = chunk.iter().map(|place| keys::id_in_order(place).ok_or_else(damaged)).collect::<Result<Vec<_>>>()?;
        let documents = ids.iter().map(|id| keys::document(scope.catalog.number, id));
        let documents = get_all(tx, documents)?;
        let mut missing = false;
        for ((place, id), stored) in chunk.iter().zip(ids).zip(documents) {
            let stored = stored.ok_or_else(damaged)?;
            read += stored.value.len();
            let place = place[..size_of::<keys::Place>()].try_into().expect("an id was found behind the place");
            let found = collection::Found::decode(stored)?;
            match add_document(tx, scope, index, Member { id, place: &place }, &found) {
                Ok(None) => added += 1,
                Ok(Some(failure)) if !missing => return Ok(Step::Failed(failure)),
                Ok(Some(_)) => {}
                Err(Halt::NeedsRead) => missing = true,
                Err(refused) => return Err(refused),
            }
        }
        if missing {
            return Err(Halt::NeedsRead);
        }
        if read >= STEP_READ_BYTES || expiry::is_enough(tx) {
            break;
        }
    }
    Ok(Step::Added(added))
}

fn add_document(
    tx: &mut Transaction<'_>,
    scope: Scope<'_>,
    index: &Index,
    member: Member<'_>,
    found: &collection::Found,
) -> Run<Option<Failure>> {
    if found.envelope.is_expired(tx.now()) {
        // Left without an entry, it would take that of another document along when it is swept.
        collection::expire(tx, scope, member.id, &found.envelope)?;
        return Ok(None);
    }
    let value = match index::value(index, member.id, found.envelope.document.read_fields()?) {
        Ok(Some(value)) => value,
        Ok(None) => return Ok(None),
        Err(error) => {
            let too_large = error.kind() == ErrorKind::TooLarge;
            return Ok(Some(Failure::Value { id: member.id.to_owned(), too_large }));
        }
    };
    if index.unique
        && let Holder::Other(holder) = index::holder(tx, scope, index, &value, member.id)?
    {
        return Ok(Some(Failure::Duplicate { holder, id: member.id.to_owned() }));
    }
    index::add(tx, scope, index, &value, member)?;
    Ok(None)
}

/// Takes an index out of the catalog and removes its entries, or notes that they are to be removed.
fn take_index(tx: &mut Transaction<'_>, catalog: &mut Catalog, index: &Index) -> Run<()> {
    catalog.indexes.retain(|kept| kept.number != index.number);
    if index.state == IndexState::Building {
        tx.delete(keys::build(catalog.number, index.number))?;
    }
    if !remove_entries(tx, catalog.number, index.number)? {
        tx.put(keys::dropped(catalog.number, index.number), Bytes::new())?;
    }
    Ok(())
}

/// Removes entries of an index that no write maintains any more; answers whether none is left.
fn remove_entries(tx: &mut Transaction<'_>, collection: u32, index: u32) -> Run<bool> {
    for prefix in [keys::indexes(collection, index), keys::uniques(collection, index)] {
        let found = tx.scan(&KeyRange::prefix(&prefix), Direction::Forward, DROP_STEP)?;
        for entry in &found {
            if expiry::is_enough(tx) {
                return Ok(false);
            }
            tx.delete(entry.key.clone())?;
        }
        if found.len() == DROP_STEP {
            return Ok(false);
        }
    }
    Ok(true)
}
