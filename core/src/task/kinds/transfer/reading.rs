//! Documents of a file, one after another, each with the line that it stands in. No line makes the memory grow.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use serde_json::{Map, Value};

use crate::store::document::{Document, MAX_DOCUMENT_BYTES};
use crate::task::kinds::Failure;

use super::Format;
use super::csv_types::Column;

/// The longest line, or record of a table. What is longer is no document.
const MAX_RECORD_BYTES: usize = MAX_DOCUMENT_BYTES;
const BUFFER_BYTES: usize = 64 << 10;

/// A document, and the line where it begins, from 1.
pub type Numbered = (u64, Document);

/// What is wrong in a line: another attempt would find it there again.
pub fn wrong_line(line: u64, what: impl std::fmt::Display) -> Failure {
    Failure::lasting("invalid_line", format!("line {line}: {what}"))
}

/// How much was read, and how much may be read before the next record.
#[derive(Debug, Default)]
struct Meter {
    all: Cell<u64>,
    record: Cell<usize>,
}

/// A file that refuses a record without an end.
struct Metered {
    file: File,
    meter: Rc<Meter>,
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.meter.all.set(self.meter.all.get() + read as u64);
        self.meter.record.set(self.meter.record.get() + read);
        // What belongs to the records before this one was counted too; it is less than a buffer.
        if self.meter.record.get() > MAX_RECORD_BYTES + 2 * BUFFER_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is longer than 1 MiB"));
        }
        Ok(read)
    }
}

/// The documents of one file.
pub struct Documents {
    meter: Rc<Meter>,
    length: u64,
    source: Source,
}

enum Source {
    Lines { reader: BufReader<Metered>, line: u64 },
    Table { reader: Box<csv::Reader<Metered>>, columns: Vec<(String, Column)>, record: csv::StringRecord },
}

impl Documents {
    /// Reads `file`; `types` are those of a table's columns, text where nothing is said.
    ///
    /// # Errors
    /// `invalid_line` for a table without a line of names, with a name twice, or without a column that has a type.
    pub fn open(file: File, format: Format, types: &BTreeMap<String, Column>) -> Result<Self, Failure> {
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        let meter = Rc::new(Meter::default());
        let metered = Metered { file, meter: Rc::clone(&meter) };
        let source = match format {
            Format::Jsonl => Source::Lines { reader: BufReader::with_capacity(BUFFER_BYTES, metered), line: 0 },
            Format::Csv => {
                let mut reader = csv::ReaderBuilder::new().buffer_capacity(BUFFER_BYTES).from_reader(metered);
                let names = reader.headers().map_err(|error| table_failure(&error, 1))?.clone();
                let columns = columns(&names, types)?;
                Source::Table { reader: Box::new(reader), columns, record: csv::StringRecord::new() }
            }
        };
        Ok(Self { meter, length, source })
    }

    /// How much of the file was read, from 0 to 1.
    pub fn progress(&self) -> f64 {
        if self.length == 0 { 1.0 } else { (self.meter.all.get() as f64 / self.length as f64).min(1.0) }
    }

    /// The next document; none at the end.
    ///
    /// # Errors
    /// `invalid_line` with its number.
    pub fn next(&mut self) -> Result<Option<Numbered>, Failure> {
        self.meter.record.set(0);
        match &mut self.source {
            Source::Lines { reader, line } => next_line(reader, line),
            Source::Table { reader, columns, record } => {
                let here = reader.position().line();
                if !reader.read_record(record).map_err(|error| table_failure(&error, here))? {
                    return Ok(None);
                }
                let line = record.position().map_or(here, csv::Position::line);
                let document = Document::from_fields(&fields(columns, record, line)?);
                Ok(Some((line, document.map_err(|error| wrong_line(line, error))?)))
            }
        }
    }
}

fn next_line(reader: &mut BufReader<Metered>, line: &mut u64) -> Result<Option<Numbered>, Failure> {
    loop {
        *line += 1;
        let mut bytes = Vec::new();
        let most = MAX_RECORD_BYTES as u64 + 2;
        let read = reader.by_ref().take(most).read_until(b'\n', &mut bytes);
        if read.map_err(|error| reading_failure(*line, &error))? == 0 {
            return Ok(None);
        }
        let text = bytes.trim_ascii();
        if text.len() > MAX_RECORD_BYTES || (bytes.len() as u64 == most && !bytes.ends_with(b"\n")) {
            return Err(wrong_line(*line, "it is longer than 1 MiB"));
        }
        if !text.is_empty() {
            let document = Document::parse(text.to_vec()).map_err(|error| wrong_line(*line, error))?;
            return Ok(Some((*line, document)));
        }
    }
}

fn columns(names: &csv::StringRecord, types: &BTreeMap<String, Column>) -> Result<Vec<(String, Column)>, Failure> {
    let mut columns: Vec<(String, Column)> = Vec::with_capacity(names.len());
    for name in names {
        if name.is_empty() || columns.iter().any(|(known, _)| known == name) {
            return Err(wrong_line(1, format!("each column has a name of its own, not {name:?}")));
        }
        columns.push((name.to_owned(), types.get(name).copied().unwrap_or_default()));
    }
    if columns.is_empty() {
        return Err(wrong_line(1, "a table begins with the names of its columns"));
    }
    if let Some(missing) = types.keys().find(|name| !columns.iter().any(|(known, _)| known == *name)) {
        return Err(wrong_line(1, format!("there is no column {missing:?}, which has a type")));
    }
    Ok(columns)
}

fn fields(columns: &[(String, Column)], record: &csv::StringRecord, line: u64) -> Result<Map<String, Value>, Failure> {
    let mut fields = Map::new();
    for ((name, column), cell) in columns.iter().zip(record) {
        let value = column.read(cell);
        let value =
            value.map_err(|expected| wrong_line(line, format!("column {name:?} is {expected}, not {cell:?}")))?;
        if let Some(value) = value {
            fields.insert(name.clone(), value);
        }
    }
    Ok(fields)
}

fn table_failure(error: &csv::Error, here: u64) -> Failure {
    let line = error.position().map_or(here, csv::Position::line);
    match error.kind() {
        csv::ErrorKind::Io(error) => reading_failure(line, error),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            wrong_line(line, format!("it has {len} cells, and there are {expected_len} columns"))
        }
        csv::ErrorKind::Utf8 { .. } => wrong_line(line, "it is not UTF-8"),
        _ => wrong_line(line, error),
    }
}

fn reading_failure(line: u64, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::InvalidData => wrong_line(line, error),
        _ => Failure::passing("file", format!("line {line}: the file cannot be read: {error}")),
    }
}
