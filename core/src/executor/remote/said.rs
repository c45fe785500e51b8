//! What a server says and is told, as JSON.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::executor::names::known;
use crate::executor::{Change, Info};
use crate::operation::{Operation, Version};

/// One operation, and what is said about it.
#[derive(Debug, Serialize)]
pub struct Call<'a> {
    /// What to do.
    pub operation: &'a Operation,
    /// Makes a write safe to repeat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<&'a str>,
    /// How long it may wait for room.
    pub deadline_ms: u64,
}

/// Changes in order.
#[derive(Debug, Deserialize)]
pub struct ChangesPage {
    /// None when nothing came in time.
    pub changes: Vec<Change>,
    /// Behind everything that was looked through.
    pub behind: String,
    /// Where the feed stood.
    pub newest: String,
}

/// What a check found.
#[derive(Debug, Deserialize)]
pub struct Checked {
    /// In words; nothing when all is well.
    pub findings: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Report {
    database: Database,
}

#[derive(Debug, Deserialize)]
struct Database {
    /// Nothing from a server that is older than this field.
    #[serde(default)]
    id: String,
    version: String,
    durability: String,
    view: String,
    newest: Version,
    oldest: Version,
    partitions: u32,
    recovery: Vec<String>,
    owner_pid: u32,
}

/// Reads an answer.
///
/// # Errors
/// `Unsupported` when it is none of this build's.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| {
        let message = "the server's answer cannot be read; do both run versions that fit?";
        Error::new(ErrorKind::Unsupported, message).caused_by(error)
    })
}

/// Reads how the database stands.
///
/// # Errors
/// As [`read`].
pub fn read_info(body: &[u8]) -> Result<Info> {
    let Report { database } = read(body)?;
    let name = |text: &str| known(text).unwrap_or("unknown");
    Ok(Info {
        id: database.id,
        version: name(&database.version),
        durability: name(&database.durability),
        view: name(&database.view),
        newest: database.newest,
        oldest: database.oldest,
        partitions: database.partitions,
        recovery: database.recovery,
        role: "client",
        owner_pid: database.owner_pid,
    })
}
