//! Who runs an operation, and the answer that comes later.

pub mod cursor;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod local;
mod maintenance;
#[cfg(any(unix, feature = "remote"))]
mod names;
mod pending;
#[cfg(feature = "remote")]
pub mod remote;
mod rules;
#[cfg(unix)]
pub mod share;

use std::fmt;
use std::time::Duration;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

pub use pending::Pending;
pub(crate) use pending::{Coming, block_on};

use crate::engine::EventKind;
use crate::env::Entropy;
use crate::error::Result;
use crate::operation::{Answer, Operation, Version};
use crate::store::document::Document;

/// What a caller may say about one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallOptions {
    /// Makes a write safe to repeat for 24 h: the same key and content get the first answer again, also that a
    /// delete found nothing. Versions and ids are those of the first answer; the text of a document is that of
    /// today (only the id when it is gone, or has no room in the answer of a batch), and reads within a batch
    /// are read again. A refusal keeps no key, so that the call may be tried again.
    pub idempotency_key: Option<String>,
    /// How long the call may wait for room before it answers `Overloaded`; the database's rule where none is given.
    pub deadline: Option<Duration>,
}

/// One change of one document, as the feed tells it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Change {
    /// Go on behind this change by giving it as [`FeedStart::After`].
    pub cursor: String,
    /// Which collection.
    pub collection: String,
    /// Which document.
    pub id: String,
    /// What happened.
    pub kind: EventKind,
    /// The version the document has since.
    pub version: Version,
    /// Engine time in milliseconds since 1970.
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

/// What an operator wants to know about an open database.
#[derive(Clone, Debug, Serialize)]
pub struct Info {
    /// Tells this database from all others, wherever it is moved: 32 hexadecimal digits. A copy of its files has the same.
    pub id: String,
    /// The version of this library.
    pub version: &'static str,
    /// The level every answer has.
    pub durability: &'static str,
    /// What answers reads.
    pub view: &'static str,
    /// The newest durable version.
    pub newest: Version,
    /// The oldest version that a feed may still start behind.
    pub oldest: Version,
    /// How many partitions the database has.
    pub partitions: u32,
    /// What recovery found at open, in words; empty after a clean end.
    pub recovery: Vec<String>,
    /// `owner` where this process has the data directory open; `client` where it asks the one that has.
    pub role: &'static str,
    /// The process that has the data directory open.
    pub owner_pid: u32,
}

/// The text of a database's id.
pub fn id_text(database: [u8; 16]) -> String {
    HEXLOWER.encode(&database)
}

/// A number for [`Executor::instance`]; below 2^53, so that every language holds it.
pub fn draw_instance(entropy: &dyn Entropy) -> u64 {
    let mut bytes = [0; 8];
    entropy.fill(&mut bytes);
    (u64::from_ne_bytes(bytes) >> 11).max(1)
}

/// Runs operations: in this process, or elsewhere.
pub trait Executor: Send + Sync + fmt::Debug {
    /// Takes the operation in; its answer comes when it is durable.
    fn submit(&self, operation: Operation, options: CallOptions) -> Pending<Answer>;
    /// The cursor that `start` stands for. What is written by calls behind this one lies behind [`FeedStart::Now`].
    fn seek(&self, start: FeedStart) -> Pending<String>;
    /// The changes behind `cursor`, as soon as there is one; and the cursor behind them.
    fn changes(&self, cursor: String) -> Pending<(Vec<Change>, String)>;
    /// The changes behind `cursor` that are there already, at once, and the cursor behind everything that was looked
    /// through. Reads files on this thread.
    fn changes_now(&self, cursor: &str) -> Result<(Vec<Change>, String)>;
    /// Ready once something was committed, or the database was closed, since this call.
    fn committed(&self) -> Pending<()>;
    /// Whether reads and writes are being answered.
    fn ready(&self) -> Result<()>;
    /// Tells this handle from every other one; 0 for one that never owns the data.
    fn instance(&self) -> u64;
    /// How the database stands.
    fn info(&self) -> Result<Info>;
    /// Reads everything that is stored and says in words what is damaged.
    fn check(&self) -> Result<Vec<String>>;
    /// Finishes what was taken in and gives everything back.
    fn close(&self) -> Result<()>;
}
