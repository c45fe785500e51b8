//! What is declared about a collection, and the small number that its keys carry.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::engine::{Direction, KeyRange, MAX_PAGE_ENTRIES};
use crate::error::{Error, ErrorKind, Result};
use crate::operation::{Answer, CollectionInfo, CollectionName, Definition, FailedIndex, IndexDefinition};
use crate::partition::{Run, Transaction};

use super::{damaged, keys};

/// A database holds at most this many collections.
pub const MAX_COLLECTIONS: u32 = 10_000;
/// A collection has at most this many indexes.
pub const MAX_INDEXES: usize = 32;

const VERSION: u8 = 1;

/// How far an index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IndexState {
    /// It holds every document.
    Ready,
    /// Writes maintain it, older documents are being added.
    Building,
}

/// One index as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// What its keys carry; never used twice within a collection.
    pub number: u32,
    /// How queries name it.
    pub name: String,
    /// What it orders by.
    pub field: String,
    /// Whether a value has one holder.
    pub unique: bool,
    /// Whether it answers queries.
    pub state: IndexState,
}

/// Why the build of an index ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// Two documents share a value that must be unique.
    Duplicate {
        /// The document that was added first.
        holder: String,
        /// The one that could not be.
        id: String,
    },
    /// A document's value cannot be indexed.
    Value {
        /// The document.
        id: String,
        /// Whether the value is too long, as opposed to being an array or object.
        too_large: bool,
    },
}

/// An index that could not be built; kept until its name is declared again or dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedBuild {
    /// Its name.
    pub name: String,
    /// Its field.
    pub field: String,
    /// Why.
    pub failure: Failure,
}

impl FailedBuild {
    /// What whoever asks how the collection stands is told.
    fn told(&self) -> FailedIndex {
        let error = self.error();
        FailedIndex { index: self.name.clone(), code: error.kind().code().to_owned(), detail: error.to_string() }
    }

    /// What whoever waits for the index is told.
    pub fn error(&self) -> Error {
        match &self.failure {
            Failure::Duplicate { holder, id } => Error::new(
                ErrorKind::AlreadyExists,
                "two documents share a value that must be unique; the index was removed",
            )
            .with("index", &self.name)
            .with("field", &self.field)
            .with("id", holder)
            .with("other", id),
            Failure::Value { id, too_large } => {
                let kind = if *too_large { ErrorKind::TooLarge } else { ErrorKind::InvalidInput };
                Error::new(kind, "a document's value cannot be indexed; the index was removed")
                    .with("index", &self.name)
                    .with("field", &self.field)
                    .with("id", id)
            }
        }
    }
}

/// A collection as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    /// What its keys carry.
    pub number: u32,
    /// The number that the next index gets.
    pub next_index: u32,
    /// See [`Definition::partition_field`].
    pub partition_field: Option<String>,
    /// See [`Definition::ttl_ms`].
    pub ttl_ms: Option<u64>,
    /// Indexes that writes maintain.
    pub indexes: Vec<Index>,
    /// Indexes that could not be built.
    pub failed: Vec<FailedBuild>,
}

impl Catalog {
    /// What holds for a collection before anything is declared about it.
    pub fn undeclared(name: &CollectionName) -> Self {
        let partition_field = (name.as_str() == super::USERS).then(|| "group".to_owned());
        Self { partition_field, ..Self::default() }
    }

    /// The index that `name` means.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub fn index(&self, name: &str) -> Result<&Index> {
        let index = self.indexes.iter().find(|index| index.name == name);
        index.ok_or_else(|| Error::new(ErrorKind::NotFound, "no such index").with("index", name))
    }

    /// The collection as callers see it; `count` is that of its documents.
    fn info(&self, name: CollectionName, count: i64) -> CollectionInfo {
        let definition = |index: &Index| IndexDefinition {
            name: index.name.clone(),
            field: index.field.clone(),
            unique: index.unique,
        };
        let building = |index: &&Index| index.state == IndexState::Building;
        CollectionInfo {
            name,
            definition: Definition {
                indexes: self.indexes.iter().map(definition).collect(),
                partition_field: self.partition_field.clone(),
                ttl_ms: self.ttl_ms,
            },
            building: self.indexes.iter().filter(building).map(|index| index.name.clone()).collect(),
            failed: self.failed.iter().map(FailedBuild::told).collect(),
            count: u64::try_from(count).unwrap_or(0),
        }
    }
}

/// What is known about `name`; none when it was neither declared nor written.
pub fn load(tx: &mut Transaction<'_>, name: &str) -> Run<Option<Catalog>> {
    let stored = tx.get(&keys::catalog(name))?;
    Ok(stored.map(|stored| decode(&stored.value)).transpose()?)
}

/// What the keys of `name` carry; none when it was neither declared nor written. For those who need nothing else: reading
/// the rest would cost as much as finding a document does.
pub fn number(tx: &mut Transaction<'_>, name: &str) -> Run<Option<u32>> {
    let Some(stored) = tx.get(&keys::catalog(name))? else { return Ok(None) };
    // The first field.
    let number = content(&stored.value).and_then(|rest| {
        postcard::take_from_bytes::<u32>(rest).map(|(number, _)| number).map_err(|error| damaged().caused_by(error))
    });
    Ok(Some(number?))
}

/// What is known about `name`, which is added if it is new.
pub fn load_or_add(tx: &mut Transaction<'_>, name: &CollectionName) -> Run<Catalog> {
    if let Some(catalog) = load(tx, name.as_str())? {
        return Ok(catalog);
    }
    let next = tx.get(&keys::next_number())?;
    let number = next.map_or(Ok(0), |next| next.value[..].try_into().map(u32::from_be_bytes).map_err(|_| damaged()))?;
    if number >= MAX_COLLECTIONS {
        let error = Error::new(ErrorKind::TooLarge, "the database has as many collections as it can hold");
        return Err(error.with("limit", MAX_COLLECTIONS).into());
    }
    tx.put(keys::next_number(), Bytes::copy_from_slice(&(number + 1).to_be_bytes()))?;
    tx.put(keys::name(number), Bytes::copy_from_slice(name.as_str().as_bytes()))?;
    let catalog = Catalog { number, ..Catalog::undeclared(name) };
    save(tx, name.as_str(), &catalog)?;
    Ok(catalog)
}

/// Keeps what is known about `name`.
pub fn save(tx: &mut Transaction<'_>, name: &str, catalog: &Catalog) -> Run<()> {
    let bytes = postcard::to_extend(catalog, vec![VERSION]).expect("a catalog entry has a binary form");
    tx.put(keys::catalog(name), bytes.into())
}

/// The name of the collection with this number.
pub fn name_of(tx: &mut Transaction<'_>, collection: u32) -> Run<Option<CollectionName>> {
    let Some(stored) = tx.get(&keys::name(collection))? else { return Ok(None) };
    let name = std::str::from_utf8(&stored.value).map_err(|_| damaged())?;
    Ok(Some(CollectionName::new(name)?))
}

/// A collection as it stands; the two that Kappa knows by name are there before their first document.
pub fn describe(tx: &mut Transaction<'_>, name: &CollectionName) -> Run<Answer> {
    let Some(catalog) = load(tx, name.as_str())? else {
        if name.as_str() == super::USERS || name.as_str() == super::PRODUCTS {
            return Ok(Answer::Collection(Catalog::undeclared(name).info(name.clone(), 0)));
        }
        return Err(Error::new(ErrorKind::NotFound, "no such collection").with("collection", name).into());
    };
    let count = tx.counter(&keys::count(catalog.number))?;
    Ok(Answer::Collection(catalog.info(name.clone(), count)))
}

/// Every collection, by name.
pub fn collections(tx: &mut Transaction<'_>) -> Run<Answer> {
    let mut found = Vec::new();
    let mut rest = keys::catalogs();
    loop {
        let page = tx.scan(&rest, Direction::Forward, MAX_PAGE_ENTRIES)?;
        let mut catalogs = Vec::with_capacity(page.len());
        for entry in &page {
            let name = keys::name_in_catalog(&entry.key).ok_or_else(damaged)?;
            catalogs.push((CollectionName::new(name)?, decode(&entry.value)?));
        }
        let counts = super::get_all(tx, catalogs.iter().map(|(_, catalog)| keys::count(catalog.number)))?;
        for ((name, catalog), count) in catalogs.into_iter().zip(counts) {
            let count = count.and_then(|count| count.value[..].try_into().ok()).map_or(0, i64::from_be_bytes);
            found.push(catalog.info(name, count));
        }
        let Some(last) = page.last().filter(|_| page.len() == MAX_PAGE_ENTRIES) else { break };
        rest = KeyRange { start: super::key_behind(&last.key), end: rest.end };
    }
    Ok(Answer::Collections(found))
}

fn decode(bytes: &[u8]) -> Result<Catalog> {
    postcard::from_bytes(content(bytes)?).map_err(|error| damaged().caused_by(error))
}

fn content(bytes: &[u8]) -> Result<&[u8]> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => Ok(rest),
        _ => Err(damaged()),
    }
}
