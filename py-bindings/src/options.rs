//! The options of a database by the names of core's.

use kappa_core::{Error, Options, Result};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arguments::{duration, flag, number, text};
use crate::document::Reader;

/// The options in `given`, and how documents are read.
pub fn options(given: &Bound<'_, PyDict>) -> Result<(Options, Reader)> {
    let mut options = Options::default();
    let mut reader = Reader::default();
    for (name, value) in given {
        if value.is_none() {
            continue;
        }
        match text("option", &name)?.as_str() {
            "durability" => options.durability = text("durability", &value)?.parse()?,
            "view" => options.view = text("view", &value)?.parse()?,
            "mode" => options.mode = text("mode", &value)?.parse()?,
            "decimals" => reader.decimals = flag("decimals", &value)?,
            "deadline" => options.deadline = duration("deadline", &value)?,
            "log_retention" => options.log_retention = duration("log_retention", &value)?,
            "intake_bytes" => options.intake_bytes = number("intake_bytes", &value)?,
            "memtable_bytes" => options.memtable_bytes = number("memtable_bytes", &value)?,
            "cache_bytes" => options.cache_bytes = number("cache_bytes", &value)?,
            "log_retention_bytes" => options.log_retention_bytes = number("log_retention_bytes", &value)?,
            "segment_bytes" => options.segment_bytes = number("segment_bytes", &value)?,
            "merge_bytes" => options.merge_bytes = number("merge_bytes", &value)?,
            "network_disk" => options.network_disk = flag("network_disk", &value)?,
            other => return Err(Error::invalid("there is no such option").with("option", other)),
        }
    }
    Ok((options, reader))
}
