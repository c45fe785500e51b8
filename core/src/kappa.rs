//! The handle: one open database and its typed stores.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::engine::EventKind;
use crate::env::Env;
use crate::error::Result;
use crate::executor::{CallOptions, Executor, Pending};
use crate::operation::{Answer, CollectionName, Operation, Version};
use crate::options::Options;
use crate::store::document::Document;
use crate::store::handle::{Batch, Collection, Products, Users};

/// One open database. Cloning shares it; the last clone that is dropped closes it.
#[derive(Clone, Debug)]
pub struct Kappa(Arc<dyn Executor>);

/// One change of one document, as the feed tells it.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// Go on behind this change by giving it as `after`.
    pub cursor: String,
    /// Which collection.
    pub collection: String,
    /// Which document.
    pub id: String,
    /// What happened.
    pub kind: EventKind,
    /// The version the document has since.
    pub version: Version,
    /// Engine time in milliseconds.
    pub time: i64,
    /// The new value; none when it was deleted or expired.
    pub document: Option<Document>,
}

/// Where a feed starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FeedStart {
    /// With what happens from now on.
    #[default]
    Now,
    /// With the oldest change that is kept.
    Oldest,
    /// Behind the change with this cursor.
    After(String),
}

/// Changes in the order they were committed, at least once each, from a cursor on.
#[derive(Debug)]
pub struct Feed {}

impl Feed {
    /// The next change, as soon as there is one.
    ///
    /// # Errors
    /// `Expired` when the cursor lies before what is kept; `Closed` when the database is.
    pub async fn next(&mut self) -> Result<Change> {
        unimplemented!()
    }

    /// The next change, or none when none came within `wait`.
    ///
    /// # Errors
    /// As [`Feed::next`].
    pub fn next_within(&mut self, _wait: Duration) -> Result<Option<Change>> {
        unimplemented!()
    }

    /// The cursor behind the newest change seen, also when none was.
    pub fn cursor(&self) -> String {
        unimplemented!()
    }
}

/// What an operator wants to know about an open database.
#[derive(Clone, Debug, Serialize)]
pub struct Info {
    /// The version of this library.
    pub version: &'static str,
    /// The level every answer has.
    pub durability: &'static str,
    /// What answers reads.
    pub view: &'static str,
    /// The newest durable version.
    pub newest: Version,
    /// The oldest cursor position the feed still takes.
    pub oldest: Version,
    /// How many partitions the database has.
    pub partitions: u32,
    /// What recovery found at open, in words; empty after a clean end.
    pub recovery: Vec<String>,
}

impl Kappa {
    /// Opens the database in `directory`, made if it is not there, with default options.
    ///
    /// # Errors
    /// `Locked` with the holder's pid; `Damaged` with file and offset.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(directory, Options::default(), Env::default())
    }

    /// Opens with the caller's options and doors to the outside.
    ///
    /// # Errors
    /// As [`Kappa::open`]; `Unsupported` for a durability the engine does not give.
    pub fn open_with(_directory: impl AsRef<Path>, _options: Options, _env: Env) -> Result<Self> {
        unimplemented!()
    }

    /// A database in memory: gone when the last handle is.
    pub fn in_memory(_options: Options, _env: Env) -> Result<Self> {
        unimplemented!()
    }

    /// Runs any operation.
    pub fn call(&self, operation: Operation, options: CallOptions) -> Pending<Answer> {
        self.0.submit(operation, options)
    }

    /// Products.
    pub fn products(&self) -> Products {
        Products::new(Arc::clone(&self.0))
    }

    /// Users.
    pub fn users(&self) -> Users {
        Users::new(Arc::clone(&self.0))
    }

    /// The collection `name`; it need not be there yet.
    ///
    /// # Errors
    /// `InvalidInput` for a name that breaks the rule of [`CollectionName`].
    pub fn collection(&self, name: &str) -> Result<Collection> {
        Ok(Collection::new(Arc::clone(&self.0), CollectionName::new(name)?))
    }

    /// Writes that happen together or not at all.
    pub fn batch(&self) -> Batch {
        Batch::new(Arc::clone(&self.0))
    }

    /// The change feed.
    ///
    /// # Errors
    /// `InvalidInput` for a cursor that is none; `Expired` for one too old.
    pub fn feed(&self, _start: FeedStart) -> Result<Feed> {
        unimplemented!()
    }

    /// How the database stands.
    ///
    /// # Errors
    /// `Closed` after close.
    pub fn info(&self) -> Result<Info> {
        unimplemented!()
    }

    /// Waits for writes in flight and background work, marks a clean end and releases the lock.
    /// Other clones of the handle answer `Closed` from then on.
    ///
    /// # Errors
    /// Whatever the last flush answered.
    pub fn close(&self) -> Result<()> {
        unimplemented!()
    }
}
