//! `import` and `export`: a collection from and to a file of JSON Lines or CSV.

mod csv_types;
mod export;
mod import;
mod reading;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use crate::env::exchange::{Exchange, parts};
use crate::error::{Error, ErrorKind, Result};

use super::Kinds;

/// How a file holds documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Format {
    /// One JSON object a line.
    Jsonl,
    /// A line of names, then one of values for each document (RFC 4180).
    Csv,
}

/// Adds `import` and `export` over the files below `directory`.
///
/// # Errors
/// `Unavailable` where the directory cannot be used.
pub fn put_all(kinds: &mut Kinds, directory: &Path) -> Result<()> {
    let exchange = Exchange::open(directory).map_err(|error| {
        let error = Error::new(ErrorKind::Unavailable, "the directory of files cannot be used").caused_by(error);
        error.with("directory", directory.display())
    })?;
    let exchange = Arc::new(exchange);
    kinds.insert("import", import::Import { exchange: Arc::clone(&exchange) })?;
    kinds.insert("export", export::Export { exchange })
}

/// The format of a file: as it is said, or as its name ends.
fn format_of(file: &str, given: Option<Format>) -> Result<Format> {
    if parts(file).is_none() {
        let error = Error::invalid("a file is named below the directory of files, without dots that lead elsewhere");
        return Err(error.with("file", file));
    }
    let ending = file.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    given.map_or_else(
        || match ending.as_deref() {
            Some("jsonl" | "ndjson") => Ok(Format::Jsonl),
            Some("csv") => Ok(Format::Csv),
            _ => Err(Error::invalid("say the format, jsonl or csv: the file's name does not").with("file", file)),
        },
        Ok,
    )
}
