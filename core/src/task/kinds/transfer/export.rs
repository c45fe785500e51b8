//! `export`: the documents of a collection into a file.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::env::exchange::Exchange;
use crate::error::{Error, Result};
use crate::operation::CollectionName;
use crate::store::document::Document;
use crate::task::kinds::{Context, Failure, Kind, Outcome, parameters};

use super::csv_types::cell;
use super::{Format, format_of};

const PAGE: usize = 500;
/// How often cancellation is looked for.
const LOOK_EVERY: u64 = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    collection: CollectionName,
    file: String,
    format: Option<Format>,
    #[serde(default)]
    fields: Vec<String>,
}

/// Writes a collection to a file: `collection`, `file`, `format` (`jsonl` or `csv`, as the file's name ends unless it is said) and, for a
/// table, `fields`, its columns. A document that is there from the start to the end stands in it once, in order of creation. Result:
/// `{"exported", "bytes"}`. The file gets its name when it is whole and takes the place of an older one, so a run after a
/// crash begins again and leaves nothing twice.
pub struct Export {
    pub exchange: Arc<Exchange>,
}

fn read(params: &Value) -> Result<(Parameters, Format)> {
    let parameters: Parameters = parameters::read(params)?;
    let format = format_of(&parameters.file, parameters.format)?;
    if (format == Format::Csv) == parameters.fields.is_empty() {
        let message = "a table needs fields, which are its columns; nothing else has them";
        return Err(Error::invalid(message).with("field", "fields"));
    }
    Ok((parameters, format))
}

impl Kind for Export {
    fn check(&self, params: &Value) -> Result<()> {
        read(params).map(drop)
    }

    fn run(&self, context: &dyn Context) -> Outcome {
        let (parameters, format) = read(context.params())?;
        let Parameters { collection, file, fields, .. } = parameters;
        let failed = |error: &io::Error| file_failure(&file, error);
        let draft = self.exchange.write(&file, &context.fence()).map_err(|error| failed(&error))?;
        let mut out = Table { out: Counted { out: BufWriter::new(draft.file()), bytes: 0 }, fields: &fields };
        if format == Format::Csv {
            out.row(fields.iter().map(String::as_str)).map_err(|error| failed(&error))?;
        }
        let collection = context.kappa().collection(collection.as_str())?;
        let count = collection.count().wait()?.max(1);
        let mut exported = 0;
        for entry in collection.list().page_size(PAGE) {
            let document = entry?.document;
            out.document(format, &document).map_err(|error| failed(&error))?;
            exported += 1;
            if exported % LOOK_EVERY == 0 {
                if context.cancelled() {
                    return Err(Failure::cancelled());
                }
                context.progress((exported as f64 / count as f64).min(1.0));
            }
        }
        out.out.flush().map_err(|error| failed(&error))?;
        let bytes = out.out.bytes;
        drop(out);
        draft.finish().map_err(|error| failed(&error))?;
        context.progress(1.0);
        Ok(json!({"exported": exported, "bytes": bytes}))
    }
}

/// A disk that is full now may have room for the next attempt.
fn file_failure(file: &str, error: &io::Error) -> Failure {
    let message = format!("the file {file:?} cannot be written: {error}");
    match error.kind() {
        io::ErrorKind::InvalidInput
        | io::ErrorKind::NotFound
        | io::ErrorKind::PermissionDenied
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory => Failure::lasting("file", message),
        _ => Failure::passing("file", message),
    }
}

struct Table<'a, W: Write> {
    out: Counted<W>,
    fields: &'a [String],
}

impl<W: Write> Table<'_, W> {
    fn document(&mut self, format: Format, document: &Document) -> io::Result<()> {
        match format {
            Format::Jsonl => {
                self.out.write_all(document.text().as_bytes())?;
                self.out.write_all(b"\n")
            }
            Format::Csv => {
                let fields = document.fields();
                let cells: Vec<String> = self.fields.iter().map(|name| cell(fields.get(name))).collect();
                self.row(cells.iter().map(String::as_str))
            }
        }
    }

    fn row<'c>(&mut self, cells: impl Iterator<Item = &'c str>) -> io::Result<()> {
        let mut writer = csv::Writer::from_writer(&mut self.out);
        writer.write_record(cells).map_err(io::Error::other)?;
        writer.flush()
    }
}

struct Counted<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
