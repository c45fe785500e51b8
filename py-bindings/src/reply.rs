//! What calls answer, as Python objects.

use kappa_core::random::Histogram;
use kappa_core::{Answer, Change, CollectionInfo, Document, Entry, Info, Kappa, Page};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;

use crate::document::{Reader, Tape, object};
use crate::histogram::PyHistogram;
use crate::kappa::Database;
use crate::list::Listed;
use crate::worker::Job;

/// The answer of a call, before it is a Python object.
pub enum Reply {
    /// Plain data and documents.
    Data(Tape),
    /// A page of a list.
    Listed(Box<Listed>),
    Job(Option<Box<Job>>),
    Histogram(Histogram),
    /// An open database, and whether it is in memory.
    Database(Kappa, bool),
}

impl Reply {
    /// The Python object; documents of a database that was opened are read by `reader`.
    pub fn into_python(self, py: Python<'_>, reader: Reader) -> PyResult<Py<PyAny>> {
        match self {
            Self::Data(tape) => Ok(object(py, tape)?.unbind()),
            Self::Listed(page) => page.into_python(py),
            Self::Job(job) => job.map(|job| *job).into_py_any(py),
            Self::Histogram(histogram) => PyHistogram::new(histogram).into_py_any(py),
            Self::Database(kappa, in_memory) => Database::new(kappa, reader, in_memory).into_py_any(py),
        }
    }
}

/// What a call answers: made ready for Python where the interpreter is not needed, so that other threads have it meanwhile.
pub trait IntoReply {
    /// The reply; documents are read as `reader` says.
    fn into_reply(self, reader: Reader) -> Reply;
}

impl IntoReply for Reply {
    fn into_reply(self, _: Reader) -> Reply {
        self
    }
}

impl IntoReply for Histogram {
    fn into_reply(self, _: Reader) -> Reply {
        Reply::Histogram(self)
    }
}

impl IntoReply for (Kappa, bool) {
    fn into_reply(self, _: Reader) -> Reply {
        Reply::Database(self.0, self.1)
    }
}

impl<T: Data> IntoReply for T {
    fn into_reply(self, reader: Reader) -> Reply {
        Reply::Data(Tape::of(|tape| self.write(tape, reader)))
    }
}

/// JSON text that Kappa made of plain data; its numbers are never decimals.
pub struct Json(pub String);
/// JSON text that holds documents.
pub struct Told(pub String);
/// Documents without their versions.
pub struct Documents(pub Vec<Option<Entry>>);

/// Answers that have a meaning as plain data.
pub trait Data {
    /// Puts it on the tape; documents are read as `reader` says.
    fn write(&self, tape: &mut Tape, reader: Reader);
}

impl Data for () {
    fn write(&self, tape: &mut Tape, _: Reader) {
        tape.null();
    }
}

impl Data for bool {
    fn write(&self, tape: &mut Tape, _: Reader) {
        tape.flag(*self);
    }
}

impl Data for u64 {
    fn write(&self, tape: &mut Tape, _: Reader) {
        tape.count(*self);
    }
}

impl Data for String {
    fn write(&self, tape: &mut Tape, _: Reader) {
        tape.text(self);
    }
}

impl Data for Json {
    fn write(&self, tape: &mut Tape, _: Reader) {
        tape.json(&self.0, Reader::default());
    }
}

impl Data for Told {
    fn write(&self, tape: &mut Tape, reader: Reader) {
        tape.json(&self.0, reader);
    }
}

impl Data for Document {
    fn write(&self, tape: &mut Tape, reader: Reader) {
        tape.json(self.text(), reader);
    }
}

impl<T: Data> Data for Option<T> {
    fn write(&self, tape: &mut Tape, reader: Reader) {
        match self {
            Some(data) => data.write(tape, reader),
            None => tape.null(),
        }
    }
}

impl<T: Data> Data for Vec<T> {
    fn write(&self, tape: &mut Tape, reader: Reader) {
        tape.list(self.len());
        for data in self {
            data.write(tape, reader);
        }
    }
}

impl Data for Documents {
    fn write(&self, tape: &mut Tape, reader: Reader) {
        documents(&self.0, tape, reader);
    }
}

fn documents(entries: &[Option<Entry>], tape: &mut Tape, reader: Reader) {
    tape.list(entries.len());
    for entry in entries {
        entry.as_ref().map(|entry| entry.document.clone()).write(tape, reader);
    }
}

/// With its version.
impl Data for Entry {
    fn write(&self, tape: &mut Tape, reader: Reader) {
        tape.dict(2);
        tape.name("value");
        self.document.write(tape, reader);
        tape.name("version");
        self.version.to_string().write(tape, reader);
    }
}

impl Data for Page {
    fn write(&self, tape: &mut Tape, reader: Reader) {
        tape.dict(2);
        tape.name("items");
        self.entries.write(tape, reader);
        tape.name("cursor");
        self.next.write(tape, reader);
    }
}

impl Data for Change {
    fn write(&self, tape: &mut Tape, reader: Reader) {
        tape.dict(7);
        for (name, text) in [("cursor", &self.cursor), ("collection", &self.collection), ("id", &self.id)] {
            tape.name(name);
            tape.text(text);
        }
        tape.name("kind");
        tape.text(self.kind.name());
        tape.name("version");
        tape.text(&self.version.to_string());
        tape.name("time");
        tape.int(self.time);
        tape.name("document");
        self.document.write(tape, reader);
    }
}

impl Data for CollectionInfo {
    fn write(&self, tape: &mut Tape, reader: Reader) {
        json(self).write(tape, reader);
    }
}

impl Data for Info {
    fn write(&self, tape: &mut Tape, reader: Reader) {
        json(self).write(tape, reader);
    }
}

fn json(value: &impl serde::Serialize) -> Json {
    Json(serde_json::to_string(value).expect("plain data has a JSON text"))
}

/// Of one operation of a batch.
impl Data for Answer {
    fn write(&self, tape: &mut Tape, reader: Reader) {
        match self {
            Self::Written(entry) => entry.document.write(tape, reader),
            Self::Deleted(flag) | Self::More(flag) => flag.write(tape, reader),
            Self::Entry(entry) => entry.write(tape, reader),
            Self::Entries(entries) => documents(entries, tape, reader),
            Self::Count(count) => count.write(tape, reader),
            Self::Page(page) => page.write(tape, reader),
            Self::Collection(info) => info.write(tape, reader),
            Self::Collections(infos) => infos.write(tape, reader),
            Self::Batch(answers) => answers.write(tape, reader),
            Self::Task(answer) => Told(answer.to_json().expect("an answer has a JSON text")).write(tape, reader),
        }
    }
}
