//! Every domain call as data: `Operation` in, `Answer` out, `run` between them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::engine::{Direction, Growth, Sequence};
use crate::error::{Error, Result};
use crate::partition::{Run, Transaction};
use crate::store::document::Document;
use crate::task::operation::{TaskAnswer, TaskOperation};

/// The version of a document: the number of the operation that last wrote it.
///
/// It is the `ETag`, the compare-and-set token and the fencing token. In JSON it is a string, because
/// some languages lose digits above 2^53.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub Sequence);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.then(|| text.parse().ok()).flatten();
        number.map(Self).ok_or_else(|| Error::invalid("a version is a whole number, as a string").with("version", text))
    }
}

impl Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The name of a collection: 1 to 64 of `a-z`, `0-9`, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CollectionName(Arc<str>);

impl CollectionName {
    /// The longest name.
    pub const MAX_BYTES: usize = 64;

    /// Checks `name`.
    ///
    /// # Errors
    /// `InvalidInput` when it breaks the rule above.
    pub fn new(name: &str) -> Result<Self> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
        if name.is_empty() || name.len() > Self::MAX_BYTES || !name.bytes().all(allowed) {
            return Err(Error::invalid("a collection name is 1 to 64 of a-z, 0-9, _ and -").with("name", name));
        }
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, shared.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl TryFrom<String> for CollectionName {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        Self::new(&name)
    }
}

impl From<CollectionName> for String {
    fn from(name: CollectionName) -> Self {
        name.0.to_string()
    }
}

impl fmt::Display for CollectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One index of a collection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexDefinition {
    /// How queries name it; as its field where this is empty or not given.
    #[serde(default)]
    pub name: String,
    /// The top-level field it orders by.
    pub field: String,
    /// Whether two documents may not share a value.
    #[serde(default)]
    pub unique: bool,
}

impl IndexDefinition {
    /// An index by `field`, named as it.
    pub fn by(field: impl Into<String>) -> Self {
        Self { name: String::new(), field: field.into(), unique: false }
    }

    /// The same index, in which two documents may not share a value.
    #[must_use]
    pub fn unique(self) -> Self {
        Self { unique: true, ..self }
    }

    /// How queries name it.
    pub fn name(&self) -> &str {
        if self.name.is_empty() { &self.field } else { &self.name }
    }
}

/// What a collection promises beyond keeping documents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Definition {
    /// Indexes that must exist; ones not named stay.
    pub indexes: Vec<IndexDefinition>,
    /// The field whose value decides the partition; the id where none is named.
    pub partition_field: Option<String>,
    /// How long a document lives after it was created or replaced, in milliseconds, unless the write says
    /// otherwise; an update keeps the end it has.
    pub ttl_ms: Option<u64>,
}

/// One document as it is stored, with its version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The document's id.
    pub id: String,
    /// Its newest version.
    pub version: Version,
    /// Its fields, `id` first.
    pub document: Document,
}

/// What a list is ordered by, and which part of that order is wanted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Order {
    /// As the documents were created.
    #[default]
    Creation,
    /// By an index.
    Index {
        /// The index's name.
        index: String,
        /// The first value wanted; none means from the first.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
        from: Option<Value>,
        /// The last value wanted, itself included; none means to the last.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
        to: Option<Value>,
    },
}

/// A bound that is null is a bound; one that is missing is none.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListRequest {
    /// Which collection.
    pub collection: CollectionName,
    /// In which order.
    pub order: Order,
    /// From which end.
    #[serde(with = "direction")]
    pub direction: Direction,
    /// At most this many, 1 to 1 000.
    pub limit: usize,
    /// The cursor of the page before.
    pub after: Option<String>,
}

mod direction {
    //! A direction as a boolean: whether the list runs backward.
    use super::{Deserialize, Direction, Serialize};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
    pub(super) fn serialize<S: serde::Serializer>(direction: &Direction, serializer: S) -> Result<S::Ok, S::Error> {
        (*direction == Direction::Backward).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Direction, D::Error> {
        let backward = bool::deserialize(deserializer)?;
        Ok(if backward { Direction::Backward } else { Direction::Forward })
    }
}

/// Some documents in order, and where to go on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// The documents.
    pub entries: Vec<Entry>,
    /// Where the next page starts; none when this was the last.
    pub next: Option<String>,
}

/// An index that could not be built on the documents that were there, and was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedIndex {
    /// Its name.
    pub index: String,
    /// Why, as an [`ErrorKind::code`](crate::ErrorKind::code): `already_exists` for a value that two documents share
    /// and that had to be unique, `invalid_input` or `too_large` for one that cannot be indexed.
    pub code: String,
    /// The same for people; it names the documents, both of them where two share a value.
    pub detail: String,
}

/// A collection as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CollectionInfo {
    /// Its name.
    pub name: CollectionName,
    /// What was declared.
    pub definition: Definition,
    /// Indexes that are still being built on existing documents, by name.
    pub building: Vec<String>,
    /// Indexes that could not be built, each until its name is declared again or dropped; they are not in `definition`.
    pub failed: Vec<FailedIndex>,
    /// How many documents it holds, expired ones that are not swept yet included.
    pub count: u64,
}

/// One call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Adds a document; with no id it gets a UUID v7.
    Create {
        /// Where.
        collection: CollectionName,
        /// The document; its `id` field, where present, is its id.
        document: Document,
        /// How long it lives, in milliseconds; the collection's rule where none is given.
        ttl_ms: Option<u64>,
    },
    /// Sets all fields of an existing document.
    Replace {
        /// Where.
        collection: CollectionName,
        /// Which document.
        id: String,
        /// Its new fields.
        document: Document,
        /// Refused with `VersionMismatch` unless the document has this version.
        if_version: Option<Version>,
        /// As for `Create`.
        ttl_ms: Option<u64>,
    },
    /// Merges a patch (RFC 7396) into an existing document.
    Update {
        /// Where.
        collection: CollectionName,
        /// Which document.
        id: String,
        /// The fields to set; null removes one.
        patch: Document,
        /// As for `Replace`.
        if_version: Option<Version>,
        /// As for `Create`; without it the document keeps the end it has.
        ttl_ms: Option<u64>,
    },
    /// Removes a document.
    Delete {
        /// Where.
        collection: CollectionName,
        /// Which document.
        id: String,
        /// As for `Replace`.
        if_version: Option<Version>,
    },
    /// One document with its version.
    Get {
        /// Where.
        collection: CollectionName,
        /// Which document.
        id: String,
    },
    /// At most 1 000 documents, in the order asked.
    GetMany {
        /// Where.
        collection: CollectionName,
        /// Which documents.
        ids: Vec<String>,
    },
    /// How many documents there are.
    Count {
        /// Where.
        collection: CollectionName,
    },
    /// One page of documents.
    List(ListRequest),
    /// Declares a collection's indexes and rules; idempotent and additive.
    Declare {
        /// Where.
        collection: CollectionName,
        /// What must hold from now on.
        definition: Definition,
    },
    /// Removes an index.
    DropIndex {
        /// Where.
        collection: CollectionName,
        /// The index's name.
        index: String,
    },
    /// A collection as it stands.
    Describe {
        /// Which one.
        collection: CollectionName,
    },
    /// Every collection that was declared or written.
    Collections,
    /// At most 1 000 operations that happen together or not at all.
    Batch(Vec<Operation>),
    /// Goes on building an index on existing documents; asked for by Kappa itself.
    BuildIndex {
        /// Where.
        collection: CollectionName,
        /// The index's name.
        index: String,
    },
    /// Deletes documents whose time ended and forgets old idempotency keys; asked for by Kappa itself.
    Sweep,
    /// A call of the queue.
    Task(TaskOperation),
}

/// What an operation gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Of `Create`, `Replace` and `Update`: the document as it stands now.
    Written(Entry),
    /// Of `Delete`: whether there was such a document.
    Deleted(bool),
    /// Of `Get`.
    Entry(Option<Entry>),
    /// Of `GetMany`, in the order asked.
    Entries(Vec<Option<Entry>>),
    /// Of `Count`.
    Count(u64),
    /// Of `List`.
    Page(Page),
    /// Of `Declare`, `DropIndex` and `Describe`.
    Collection(CollectionInfo),
    /// Of `Collections`.
    Collections(Vec<CollectionInfo>),
    /// Of `Batch`, one answer an operation.
    Batch(Vec<Answer>),
    /// Of `BuildIndex` and `Sweep`: whether there is more to do.
    More(bool),
    /// Of `Task`.
    Task(TaskAnswer),
}

impl Answer {
    /// Moves every version from `from` on by `by`: for engines that number a record otherwise than its
    /// writer expected.
    pub fn renumber(&mut self, from: Sequence, by: Sequence) {
        let renumber = |entry: &mut Entry| {
            if entry.version.0 >= from {
                entry.version.0 += by;
            }
        };
        match self {
            Self::Written(entry) | Self::Entry(Some(entry)) => renumber(entry),
            Self::Entries(entries) => entries.iter_mut().flatten().for_each(renumber),
            Self::Page(page) => page.entries.iter_mut().for_each(renumber),
            Self::Batch(answers) => answers.iter_mut().for_each(|answer| answer.renumber(from, by)),
            Self::Entry(None)
            | Self::Deleted(_)
            | Self::Count(_)
            | Self::Collection(_)
            | Self::Collections(_)
            | Self::More(_)
            | Self::Task(_) => {}
        }
    }
}

impl Operation {
    /// Whether the operation can never write; such operations need no committer.
    pub fn is_read(&self) -> bool {
        matches!(
            self,
            Self::Get { .. }
                | Self::GetMany { .. }
                | Self::Count { .. }
                | Self::List(_)
                | Self::Describe { .. }
                | Self::Collections
        ) || matches!(self, Self::Task(task) if task.is_read())
    }

    /// Whether the operation takes space in the long run; one that only reads takes none, and must not keep
    /// the deletes beside it in a batch from a full disk.
    pub fn growth(&self) -> Growth {
        match self {
            Self::Delete { .. } | Self::DropIndex { .. } | Self::Sweep => Growth::Shrinks,
            Self::Batch(operations) if operations.iter().all(|operation| operation.growth() == Growth::Shrinks) => {
                Growth::Shrinks
            }
            Self::Task(task) => task.growth(),
            read if read.is_read() => Growth::Shrinks,
            _ => Growth::Grows,
        }
    }

    /// The bytes it holds while it waits to be run, near enough for a bound.
    pub fn len(&self) -> usize {
        const FIXED: usize = 128;
        FIXED
            + match self {
                Self::Create { document, .. } => document.len(),
                Self::Replace { id, document, .. } => id.len() + document.len(),
                Self::Update { id, patch, .. } => id.len() + patch.len(),
                Self::Delete { id, .. } | Self::Get { id, .. } => id.len(),
                Self::GetMany { ids, .. } => ids.iter().map(String::len).sum(),
                Self::Batch(operations) => operations.iter().map(Self::len).sum(),
                Self::Task(task) => task.len(),
                _ => 0,
            }
    }

    /// Never: every operation takes some room.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// The domain: what `operation` does to its partition, and what it answers.
///
/// # Errors
/// `Halt::Refused` when a rule says no; nothing it wrote is kept then.
pub fn run(operation: &Operation, transaction: &mut Transaction<'_>) -> Run<Answer> {
    crate::store::run(operation, transaction)
}

/// As [`run`], but a second time under the same idempotency key gives the first answer again.
///
/// # Errors
/// As [`run`]; `Conflict` when the key came with another operation, `Overloaded` when too many are kept.
pub fn run_idempotent(operation: &Operation, key: &str, transaction: &mut Transaction<'_>) -> Run<Answer> {
    crate::store::run_idempotent(operation, key, transaction)
}

/// Moves the versions of `answer`, see [`Answer::renumber`].
pub fn renumber(answer: &mut Answer, from: Sequence, by: Sequence) {
    answer.renumber(from, by);
}
