//! Typed stores: thin methods that build an operation and hand it to an executor.

mod list;
mod write_batch;

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::executor::{CallOptions, Executor, Pending};
use crate::operation::{Answer, CollectionInfo, CollectionName, Definition, Entry, Operation, Version};

use super::document::{Document, IntoDocument};
use super::fields::Field;
use super::products;

pub use list::{Entries, List};
pub use write_batch::Batch;

/// What a caller may say about one write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// The id of a new document that does not name one; only for `create_with`.
    pub id: Option<String>,
    /// How long the document lives, 1 ms to 100 years; the collection's rule where none is given.
    pub ttl: Option<Duration>,
    /// Refused with `VersionMismatch` unless the document has this version; not for `create_with`.
    pub if_version: Option<Version>,
    /// Makes the write safe to repeat for 24 h, see [`CallOptions::idempotency_key`].
    pub idempotency_key: Option<String>,
}

/// The documents of one collection. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Collection {
    executor: Arc<dyn Executor>,
    name: CollectionName,
}

impl Collection {
    /// The collection `name` of the database behind `executor`.
    pub(crate) fn new(executor: Arc<dyn Executor>, name: CollectionName) -> Self {
        Self { executor, name }
    }

    /// Its name.
    pub fn name(&self) -> &CollectionName {
        &self.name
    }

    /// Adds a document, with a UUID v7 as its id where it names none.
    ///
    /// # Errors
    /// `AlreadyExists` for an id or unique value that is taken; `InvalidInput`; `TooLarge`.
    pub fn create(&self, document: impl IntoDocument) -> Pending<Entry> {
        self.create_with(document, WriteOptions::default())
    }

    /// Adds a document, with options.
    ///
    /// # Errors
    /// As [`Collection::create`]; `Conflict` for an idempotency key that came with another document.
    pub fn create_with(&self, document: impl IntoDocument, options: WriteOptions) -> Pending<Entry> {
        self.write(options, |collection, options| {
            refuse(options.if_version.is_some(), "a new document has no version yet")?;
            let document = match &options.id {
                Some(id) => with_id(document.into_document()?, id)?,
                None => document.into_document()?,
            };
            Ok(Operation::Create { collection, document, ttl_ms: options.ttl_ms()? })
        })
    }

    /// One document.
    ///
    /// # Errors
    /// None of its own; a document that does not exist is `None`.
    pub fn get(&self, id: &str) -> Pending<Option<Document>> {
        self.entry(id).map(|entry| Ok(entry.map(|entry| entry.document)))
    }

    /// One document with its version.
    ///
    /// # Errors
    /// As [`Collection::get`].
    pub fn entry(&self, id: &str) -> Pending<Option<Entry>> {
        self.call(Operation::Get { collection: self.name.clone(), id: id.to_owned() }).map(|answer| match answer {
            Answer::Entry(entry) => Ok(entry),
            other => Err(unexpected(&other)),
        })
    }

    /// At most 1 000 documents with their versions, in the order asked.
    ///
    /// # Errors
    /// `TooLarge` for more ids, or documents of more than 16 MiB together.
    pub fn get_many<I: Into<String>>(&self, ids: impl IntoIterator<Item = I>) -> Pending<Vec<Option<Entry>>> {
        let ids = ids.into_iter().map(Into::into).collect();
        self.call(Operation::GetMany { collection: self.name.clone(), ids }).map(|answer| match answer {
            Answer::Entries(entries) => Ok(entries),
            other => Err(unexpected(&other)),
        })
    }

    /// Sets all fields of a document.
    ///
    /// # Errors
    /// `NotFound`; `AlreadyExists` for a unique value that is taken; `InvalidInput`; `TooLarge`.
    pub fn replace(&self, id: &str, document: impl IntoDocument) -> Pending<Entry> {
        self.replace_with(id, document, WriteOptions::default())
    }

    /// Sets all fields of a document, with options.
    ///
    /// # Errors
    /// As [`Collection::replace`]; `VersionMismatch`; `Conflict`.
    pub fn replace_with(&self, id: &str, document: impl IntoDocument, options: WriteOptions) -> Pending<Entry> {
        self.write(options, |collection, options| {
            refuse(options.id.is_some(), "the id is given by itself here")?;
            let (document, ttl_ms) = (document.into_document()?, options.ttl_ms()?);
            Ok(Operation::Replace { collection, id: id.to_owned(), document, if_version: options.if_version, ttl_ms })
        })
    }

    /// Sets the fields that `patch` names; null removes one (RFC 7396).
    ///
    /// # Errors
    /// As [`Collection::replace`].
    pub fn update(&self, id: &str, patch: impl IntoDocument) -> Pending<Entry> {
        self.update_with(id, patch, WriteOptions::default())
    }

    /// Sets the fields that `patch` names, with options.
    ///
    /// # Errors
    /// As [`Collection::replace_with`].
    pub fn update_with(&self, id: &str, patch: impl IntoDocument, options: WriteOptions) -> Pending<Entry> {
        self.write(options, |collection, options| {
            refuse(options.id.is_some(), "the id is given by itself here")?;
            let (patch, ttl_ms) = (patch.into_document()?, options.ttl_ms()?);
            Ok(Operation::Update { collection, id: id.to_owned(), patch, if_version: options.if_version, ttl_ms })
        })
    }

    /// Removes a document; answers whether there was one.
    ///
    /// # Errors
    /// None of its own.
    pub fn delete(&self, id: &str) -> Pending<bool> {
        self.delete_with(id, WriteOptions::default())
    }

    /// Removes a document, with options.
    ///
    /// # Errors
    /// `VersionMismatch`; `Conflict`.
    pub fn delete_with(&self, id: &str, options: WriteOptions) -> Pending<bool> {
        let allowed = refuse(options.id.is_some(), "the id is given by itself here")
            .and_then(|()| refuse(options.ttl.is_some(), "a deleted document has no time to live"));
        if let Err(error) = allowed {
            return Pending::ready(Err(error));
        }
        let WriteOptions { if_version, idempotency_key, .. } = options;
        let operation = Operation::Delete { collection: self.name.clone(), id: id.to_owned(), if_version };
        let call = CallOptions { idempotency_key, ..CallOptions::default() };
        self.executor.submit(operation, call).map(|answer| match answer {
            Answer::Deleted(deleted) => Ok(deleted),
            other => Err(unexpected(&other)),
        })
    }

    /// How many documents there are; ones whose time just ended may still be counted.
    ///
    /// # Errors
    /// None of its own.
    pub fn count(&self) -> Pending<u64> {
        self.call(Operation::Count { collection: self.name.clone() }).map(|answer| match answer {
            Answer::Count(count) => Ok(count),
            other => Err(unexpected(&other)),
        })
    }

    /// The documents in creation order, or as the builder is told.
    pub fn list(&self) -> List {
        List::new(Arc::clone(&self.executor), self.name.clone())
    }

    /// Makes sure that indexes and rules hold, and waits until new indexes hold every document.
    ///
    /// # Errors
    /// `InvalidInput` for a definition that contradicts an older one; `AlreadyExists` naming two
    /// documents with one value of a unique index, which is removed then.
    pub fn declare(&self, definition: Definition) -> Pending<CollectionInfo> {
        let this = self.clone();
        Pending::new(async move {
            let names: Vec<String> = definition.indexes.iter().map(|index| index.name().to_owned()).collect();
            let declared = info(this.call(Operation::Declare { collection: this.name.clone(), definition }).await?)?;
            let building = declared.building.iter().filter(|index| names.contains(index));
            for index in building.clone() {
                let operation = Operation::BuildIndex { collection: this.name.clone(), index: index.clone() };
                while let Answer::More(true) = this.call(operation.clone()).await? {}
            }
            if building.count() == 0 { Ok(declared) } else { this.describe().await }
        })
    }

    /// Removes an index.
    ///
    /// # Errors
    /// `NotFound` when there is none of this name.
    pub fn drop_index(&self, index: &str) -> Pending<CollectionInfo> {
        self.call(Operation::DropIndex { collection: self.name.clone(), index: index.to_owned() }).map(info)
    }

    /// The collection as it stands.
    ///
    /// # Errors
    /// `NotFound` when it was neither declared nor written.
    pub fn describe(&self) -> Pending<CollectionInfo> {
        self.call(Operation::Describe { collection: self.name.clone() }).map(info)
    }

    fn call(&self, operation: Operation) -> Pending<Answer> {
        self.executor.submit(operation, CallOptions::default())
    }

    fn write(
        &self,
        options: WriteOptions,
        operation: impl FnOnce(CollectionName, &WriteOptions) -> Result<Operation>,
    ) -> Pending<Entry> {
        match operation(self.name.clone(), &options) {
            Ok(operation) => {
                let call = CallOptions { idempotency_key: options.idempotency_key, ..CallOptions::default() };
                self.executor.submit(operation, call).map(|answer| match answer {
                    Answer::Written(entry) => Ok(entry),
                    other => Err(unexpected(&other)),
                })
            }
            Err(error) => Pending::ready(Err(error)),
        }
    }
}

impl WriteOptions {
    fn ttl_ms(&self) -> Result<Option<u64>> {
        let whole = |ttl: Duration| {
            u64::try_from(ttl.as_millis()).map_err(|_| Error::invalid("a time to live is at most 100 years"))
        };
        self.ttl.map(whole).transpose()
    }
}

fn with_id(document: Document, id: &str) -> Result<Document> {
    match document.read_fields()?.get("id") {
        None => document.with_id(id),
        Some(Field::String(found)) if found == id => Ok(document),
        Some(found) => Err(Error::invalid("the document has another id").with("id", id).with("in_document", found)),
    }
}

fn refuse(wrong: bool, why: &'static str) -> Result<()> {
    if wrong { Err(Error::invalid(why)) } else { Ok(()) }
}

fn info(answer: Answer) -> Result<CollectionInfo> {
    match answer {
        Answer::Collection(info) => Ok(info),
        other => Err(unexpected(&other)),
    }
}

/// The partition and this handle disagree about what an operation answers.
pub(crate) fn unexpected(answer: &Answer) -> Error {
    let kind = match answer {
        Answer::Written(_) => "written",
        Answer::Deleted(_) => "deleted",
        Answer::Entry(_) => "entry",
        Answer::Entries(_) => "entries",
        Answer::Count(_) => "count",
        Answer::Page(_) => "page",
        Answer::Collection(_) => "collection",
        Answer::Collections(_) => "collections",
        Answer::Batch(_) => "batch",
        Answer::More(_) => "more",
        Answer::Task(_) => "task",
    };
    Error::new(ErrorKind::Internal, "the answer does not fit its operation").with("answer", kind)
}

/// A store with a fixed name: the same methods as a collection, each handed on.
macro_rules! named_store {
    ($(#[$doc:meta])* $store:ident, $name:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $store(Collection);

        impl $store {
            /// The store of the database behind `executor`.
            pub(crate) fn new(executor: Arc<dyn Executor>) -> Self {
                Self(Collection::new(executor, CollectionName::new($name).expect("a fixed name is a legal one")))
            }

            /// The store as a collection like any other.
            pub fn as_collection(&self) -> &Collection {
                &self.0
            }

            /// See [`Collection::create`].
            pub fn create(&self, document: impl IntoDocument) -> Pending<Entry> {
                self.0.create(document)
            }

            /// See [`Collection::create_with`].
            pub fn create_with(&self, document: impl IntoDocument, options: WriteOptions) -> Pending<Entry> {
                self.0.create_with(document, options)
            }

            /// See [`Collection::get`].
            pub fn get(&self, id: &str) -> Pending<Option<Document>> {
                self.0.get(id)
            }

            /// See [`Collection::entry`].
            pub fn entry(&self, id: &str) -> Pending<Option<Entry>> {
                self.0.entry(id)
            }

            /// See [`Collection::get_many`].
            pub fn get_many<I: Into<String>>(&self, ids: impl IntoIterator<Item = I>) -> Pending<Vec<Option<Entry>>> {
                self.0.get_many(ids)
            }

            /// See [`Collection::replace`].
            pub fn replace(&self, id: &str, document: impl IntoDocument) -> Pending<Entry> {
                self.0.replace(id, document)
            }

            /// See [`Collection::replace_with`].
            pub fn replace_with(
                &self,
                id: &str,
                document: impl IntoDocument,
                options: WriteOptions,
            ) -> Pending<Entry> {
                self.0.replace_with(id, document, options)
            }

            /// See [`Collection::update`].
            pub fn update(&self, id: &str, patch: impl IntoDocument) -> Pending<Entry> {
                self.0.update(id, patch)
            }

            /// See [`Collection::update_with`].
            pub fn update_with(&self, id: &str, patch: impl IntoDocument, options: WriteOptions) -> Pending<Entry> {
                self.0.update_with(id, patch, options)
            }

            /// See [`Collection::delete`].
            pub fn delete(&self, id: &str) -> Pending<bool> {
                self.0.delete(id)
            }

            /// See [`Collection::delete_with`].
            pub fn delete_with(&self, id: &str, options: WriteOptions) -> Pending<bool> {
                self.0.delete_with(id, options)
            }

            /// See [`Collection::count`].
            pub fn count(&self) -> Pending<u64> {
                self.0.count()
            }

            /// See [`Collection::list`].
            pub fn list(&self) -> List {
                self.0.list()
            }

            /// See [`Collection::declare`].
            pub fn declare(&self, definition: Definition) -> Pending<CollectionInfo> {
                self.0.declare(definition)
            }

            /// See [`Collection::drop_index`].
            pub fn drop_index(&self, index: &str) -> Pending<CollectionInfo> {
                self.0.drop_index(index)
            }

            /// See [`Collection::describe`].
            pub fn describe(&self) -> Pending<CollectionInfo> {
                self.0.describe()
            }
        }
    };
}

named_store! {
    /// Products: a title, a price from 0 up, a thumbnail URL where there is one, and fields of your own.
    Products, super::PRODUCTS
}

named_store! {
    /// Users: a name, an e-mail address and a group where there are any, and fields of your own.
    Users, super::USERS
}

impl Products {
    /// Products that are made up, with ids from 1: the same for the same seed, and not stored.
    pub fn mock(count: usize, seed: u64) -> Vec<Document> {
        products::mock(count, seed)
    }
}
