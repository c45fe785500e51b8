//! Documents of one collection: create, replace, update, delete, read.

use std::borrow::Cow;

use bytes::Bytes;

use crate::engine::{Event, EventKind, Sequence, Versioned};
use crate::error::{Error, ErrorKind, Result};
use crate::operation::{Answer, CollectionName, Entry, Version};
use crate::partition::{Run, Transaction};

use super::catalog::{self, Catalog};
use super::document::Document;
use super::envelope::Envelope;
use super::fields::Field;
use super::index::{self, Member, Scope};
use super::keys::Place;
use super::{MAX_ANSWER_BYTES, expiry, get_all, keys, merge_patch, products, users};

/// One call asks for at most this many documents by id.
pub const MAX_IDS: usize = 1_000;

/// The document that a write is about.
pub struct Wanted<'a> {
    /// Where.
    pub collection: &'a CollectionName,
    /// Which one.
    pub id: &'a str,
    /// The version it must have.
    pub if_version: Option<Version>,
}

/// A stored document with its version.
pub struct Found {
    /// What is stored.
    pub envelope: Envelope,
    /// Who wrote it.
    pub version: Sequence,
}

/// Adds a document.
pub fn create(
    tx: &mut Transaction<'_>,
    name: &CollectionName,
    document: &Document,
    ttl_ms: Option<u64>,
    n: u16,
) -> Run<Answer> {
    check_rules(name, document)?;
    let catalog = catalog::load_or_add(tx, name)?;
    let scope = Scope { name, catalog: &catalog };
    let (id, document) = if let Some(id) = id_of(document)? {
        make_room(tx, scope, &id)?;
        (id.into_owned(), document.clone())
    } else {
        // Not looked up: it holds the moment of this operation and chance, and a read of what is not there
        // costs as much as the rest of a create.
        let id = tx.new_id().to_string();
        let document = document.with_id(&id)?;
        (id, document)
    };
    let place = place(tx, n);
    let expires = expiry::end(tx.now(), ttl_ms.or(catalog.ttl_ms))?;
    tx.put(keys::order(catalog.number, &place, &id), Bytes::new())?;
    tx.add(keys::count(catalog.number), 1)?;
    write(tx, scope, &id, None, Envelope { place, expires, document })
}

/// Sees to it that no document has `id`.
fn make_room(tx: &mut Transaction<'_>, scope: Scope<'_>, id: &str) -> Run<()> {
    match find(tx, scope.catalog.number, id)? {
        Some(found) if !found.envelope.is_expired(tx.now()) => {
            let error = Error::new(ErrorKind::AlreadyExists, "there is a document with this id");
            Err(error.with("collection", scope.name).with("id", id).into())
        }
        Some(expired) => expire(tx, scope, id, &expired.envelope),
        None => Ok(()),
    }
}

/// Sets all fields of a document.
pub fn replace(tx: &mut Transaction<'_>, wanted: &Wanted<'_>, document: &Document, ttl_ms: Option<u64>) -> Run<Answer> {
    check_rules(wanted.collection, document)?;
    let document = if let Some(id) = id_of(document)? {
        check_same_id(&id, wanted.id)?;
        document.clone()
    } else {
        keys::check_id(wanted.id)?;
        document.with_id(wanted.id)?
    };
    let (catalog, found) = find_living(tx, wanted)?;
    let expires = expiry::end(tx.now(), ttl_ms.or(catalog.ttl_ms))?;
    let scope = Scope { name: wanted.collection, catalog: &catalog };
    let new = Envelope { place: found.envelope.place, expires, document };
    write(tx, scope, wanted.id, Some(&found.envelope), new)
}

/// Merges a patch into a document.
pub fn update(tx: &mut Transaction<'_>, wanted: &Wanted<'_>, patch: &Document, ttl_ms: Option<u64>) -> Run<Answer> {
    match patch.read_fields()?.get("id") {
        None => {}
        Some(Field::String(id)) => check_same_id(&id, wanted.id)?,
        Some(_) => return Err(Error::invalid("an id cannot be changed or removed").with("id", wanted.id).into()),
    }
    let (catalog, found) = find_living(tx, wanted)?;
    let mut fields = found.envelope.document.read_values()?.clone();
    merge_patch::apply(&mut fields, patch.fields());
    let document = Document::from_merged(fields)?;
    check_rules(wanted.collection, &document)?;
    let expires = match ttl_ms {
        Some(_) => expiry::end(tx.now(), ttl_ms)?,
        None => found.envelope.expires,
    };
    let scope = Scope { name: wanted.collection, catalog: &catalog };
    let new = Envelope { place: found.envelope.place, expires, document };
    write(tx, scope, wanted.id, Some(&found.envelope), new)
}

/// Removes a document.
pub fn delete(tx: &mut Transaction<'_>, wanted: &Wanted<'_>) -> Run<Answer> {
    let Some((catalog, found)) = find_wanted(tx, wanted)? else { return Ok(Answer::Deleted(false)) };
    check_version(wanted, found.version)?;
    let scope = Scope { name: wanted.collection, catalog: &catalog };
    remove(tx, scope, wanted.id, &found.envelope, EventKind::Deleted)?;
    Ok(Answer::Deleted(true))
}

/// Reads one document.
pub fn get(tx: &mut Transaction<'_>, name: &CollectionName, id: &str) -> Run<Answer> {
    let Some(number) = catalog::number(tx, name.as_str())? else { return Ok(Answer::Entry(None)) };
    let found = find(tx, number, id)?.filter(|found| !found.envelope.is_expired(tx.now()));
    Ok(Answer::Entry(found.map(|found| found.into_entry(id))))
}

/// Reads several documents.
pub fn get_many(tx: &mut Transaction<'_>, name: &CollectionName, ids: &[String]) -> Run<Answer> {
    if ids.len() > MAX_IDS {
        let error = Error::new(ErrorKind::TooLarge, "too many ids in one call");
        return Err(error.with("ids", ids.len()).with("limit", MAX_IDS).into());
    }
    let Some(number) = catalog::number(tx, name.as_str())? else { return Ok(Answer::Entries(vec![None; ids.len()])) };
    let found = get_all(tx, ids.iter().map(|id| document_key(number, id)))?;
    let mut entries = Vec::with_capacity(ids.len());
    let mut bytes = 0;
    for (id, stored) in ids.iter().zip(found) {
        let living = stored.map(Found::decode).transpose()?;
        let living = living.filter(|found| !found.envelope.is_expired(tx.now()));
        bytes += living.as_ref().map_or(0, |found| found.envelope.document.len());
        entries.push(living.map(|found| found.into_entry(id)));
    }
    if bytes > MAX_ANSWER_BYTES {
        let error = Error::new(ErrorKind::TooLarge, "the documents are too large for one answer; ask for fewer");
        return Err(error.with("bytes", bytes).with("limit", MAX_ANSWER_BYTES).into());
    }
    Ok(Answer::Entries(entries))
}

/// Reads how many documents there are.
pub fn count(tx: &mut Transaction<'_>, name: &CollectionName) -> Run<Answer> {
    let Some(number) = catalog::number(tx, name.as_str())? else { return Ok(Answer::Count(0)) };
    let count = tx.counter(&keys::count(number))?;
    Ok(Answer::Count(u64::try_from(count).unwrap_or(0)))
}

impl Found {
    /// The document in a stored value.
    pub fn decode(stored: Versioned) -> Result<Self> {
        Ok(Self { envelope: Envelope::decode(stored.value)?, version: stored.sequence })
    }

    /// The document as callers see it.
    pub fn into_entry(self, id: &str) -> Entry {
        Entry { id: id.to_owned(), version: Version(self.version), document: self.envelope.document }
    }
}

/// The document `id` of the collection with this number, expired or not.
pub fn find(tx: &mut Transaction<'_>, collection: u32, id: &str) -> Run<Option<Found>> {
    let stored = tx.get(&document_key(collection, id))?;
    Ok(stored.map(Found::decode).transpose()?)
}

/// Removes a document whose time has ended.
pub fn expire(tx: &mut Transaction<'_>, scope: Scope<'_>, id: &str, old: &Envelope) -> Run<()> {
    remove(tx, scope, id, old, EventKind::Expired)
}

fn document_key(collection: u32, id: &str) -> Bytes {
    // No document has such an id, and the key of a shorter one is as absent as its own would be.
    let id = if keys::check_id(id).is_ok() { id } else { "" };
    keys::document(collection, id)
}

fn find_wanted(tx: &mut Transaction<'_>, wanted: &Wanted<'_>) -> Run<Option<(Catalog, Found)>> {
    let Some(catalog) = catalog::load(tx, wanted.collection.as_str())? else { return Ok(None) };
    let found = find(tx, catalog.number, wanted.id)?.filter(|found| !found.envelope.is_expired(tx.now()));
    Ok(found.map(|found| (catalog, found)))
}

fn find_living(tx: &mut Transaction<'_>, wanted: &Wanted<'_>) -> Run<(Catalog, Found)> {
    let Some((catalog, found)) = find_wanted(tx, wanted)? else {
        return Err(Error::new(ErrorKind::NotFound, "no such document")
            .with("collection", wanted.collection)
            .with("id", wanted.id)
            .into());
    };
    check_version(wanted, found.version)?;
    Ok((catalog, found))
}

fn check_version(wanted: &Wanted<'_>, found: Sequence) -> Result<()> {
    match wanted.if_version {
        Some(expected) if expected != Version(found) => {
            Err(Error::new(ErrorKind::VersionMismatch, "the document was written since; read it again")
                .with("id", wanted.id)
                .with("expected", expected)
                .with("found", found))
        }
        _ => Ok(()),
    }
}

/// Puts a document with its index entries and its end; `old` is what it replaces.
fn write(tx: &mut Transaction<'_>, scope: Scope<'_>, id: &str, old: Option<&Envelope>, new: Envelope) -> Run<Answer> {
    let member = Member { id, place: &new.place };
    index::maintain(tx, scope, member, old.map(|old| &old.document), Some(&new.document))?;
    expiry::maintain(tx, scope.catalog.number, id, old.and_then(|old| old.expires), new.expires)?;
    let key = keys::document(scope.catalog.number, id);
    tx.put(key.clone(), new.encode())?;
    let kind = if old.is_some() { EventKind::Updated } else { EventKind::Created };
    tx.emit(Event { collection: scope.name.shared(), id: id.into(), kind, key })?;
    let version = Version(tx.version());
    Ok(Answer::Written(Entry { id: id.to_owned(), version, document: new.document }))
}

fn remove(tx: &mut Transaction<'_>, scope: Scope<'_>, id: &str, old: &Envelope, kind: EventKind) -> Run<()> {
    let collection = scope.catalog.number;
    index::maintain(tx, scope, Member { id, place: &old.place }, Some(&old.document), None)?;
    expiry::maintain(tx, collection, id, old.expires, None)?;
    tx.delete(keys::order(collection, &old.place, id))?;
    tx.delete(keys::document(collection, id))?;
    tx.add(keys::count(collection), -1)?;
    tx.emit(Event { collection: scope.name.shared(), id: id.into(), kind, key: Bytes::new() })
}

fn place(tx: &Transaction<'_>, n: u16) -> Place {
    let mut place = Place::default();
    place[..8].copy_from_slice(&tx.moment().to_bytes());
    place[8..].copy_from_slice(&n.to_be_bytes());
    place
}

/// The id that a document says it has.
fn id_of(document: &Document) -> Result<Option<Cow<'_, str>>> {
    match document.read_fields()?.get("id") {
        None => Ok(None),
        Some(Field::String(id)) => {
            keys::check_id(&id)?;
            Ok(Some(id))
        }
        Some(other) => Err(Error::invalid("an id is a string").with("id", other)),
    }
}

fn check_same_id(in_document: &str, wanted: &str) -> Result<()> {
    if in_document != wanted {
        let error = Error::invalid("the id in the document is not the one that was asked for");
        return Err(error.with("id", wanted).with("in_document", in_document));
    }
    Ok(())
}

fn check_rules(name: &CollectionName, document: &Document) -> Result<()> {
    match name.as_str() {
        super::PRODUCTS => products::check(document.read_fields()?),
        super::USERS => users::check(document.read_fields()?),
        _ => Ok(()),
    }
}
