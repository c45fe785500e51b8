//! What calls answer, as Python objects.

use kappa_core::random::Histogram;
use kappa_core::{Answer, Change, CollectionInfo, Document, Entry, Info, Kappa, Page};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::document::Reader;
use crate::histogram::PyHistogram;
use crate::kappa::Database;
use crate::worker::Job;

/// The answer of a call, before it is a Python object.
pub enum Reply {
    Nothing,
    Flag(bool),
    Count(u64),
    Texts(Vec<String>),
    Document(Document),
    MaybeDocument(Option<Document>),
    MaybeEntry(Option<Entry>),
    Documents(Vec<Option<Document>>),
    Rest(Option<Vec<Entry>>),
    Page(Page),
    Answers(Vec<Answer>),
    Changes(Vec<Change>),
    /// Plain data as JSON text.
    Json(String),
    /// JSON text that holds documents.
    Told(String),
    Job(Option<Box<Job>>),
    Histogram(Histogram),
    /// An open database, and whether it is in memory.
    Database(Kappa, bool),
}

impl Reply {
    /// The Python object; documents are read by `reader`.
    pub fn into_python(self, py: Python<'_>, reader: Reader) -> PyResult<Py<PyAny>> {
        let documents = |documents: Vec<Document>| -> PyResult<Py<PyAny>> {
            let documents: Vec<_> = documents.iter().map(|one| reader.read(py, one.text())).collect::<PyResult<_>>()?;
            documents.into_py_any(py)
        };
        match self {
            Self::Flag(flag) => flag.into_py_any(py),
            Self::Count(count) => count.into_py_any(py),
            Self::Texts(texts) => texts.into_py_any(py),
            Self::Nothing | Self::MaybeDocument(None) | Self::MaybeEntry(None) | Self::Rest(None) => Ok(py.None()),
            Self::Document(document) | Self::MaybeDocument(Some(document)) => {
                Ok(reader.read(py, document.text())?.unbind())
            }
            Self::MaybeEntry(Some(found)) => entry(py, &found, reader)?.into_py_any(py),
            Self::Documents(found) => {
                let read = |one: Option<Document>| one.map(|one| reader.read(py, one.text())).transpose();
                found.into_iter().map(read).collect::<PyResult<Vec<_>>>()?.into_py_any(py)
            }
            Self::Rest(Some(entries)) => documents(entries.into_iter().map(|entry| entry.document).collect()),
            Self::Page(found) => page(py, &found, reader)?.into_py_any(py),
            Self::Answers(answers) => {
                let read = |one: Answer| Self::from(one).into_python(py, reader);
                answers.into_iter().map(read).collect::<PyResult<Vec<_>>>()?.into_py_any(py)
            }
            Self::Changes(changes) => {
                let changes: Vec<_> = changes.iter().map(|one| change(py, one, reader)).collect::<PyResult<_>>()?;
                changes.into_py_any(py)
            }
            Self::Json(text) => Ok(Reader::default().read(py, &text)?.unbind()),
            Self::Told(text) => Ok(reader.read(py, &text)?.unbind()),
            Self::Job(job) => job.map(|job| *job).into_py_any(py),
            Self::Histogram(histogram) => PyHistogram::new(histogram).into_py_any(py),
            Self::Database(kappa, in_memory) => Database::new(kappa, reader, in_memory).into_py_any(py),
        }
    }
}

fn entry<'py>(py: Python<'py>, entry: &Entry, reader: Reader) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("value", reader.read(py, entry.document.text())?)?;
    dict.set_item("version", entry.version.to_string())?;
    Ok(dict)
}

fn page<'py>(py: Python<'py>, page: &Page, reader: Reader) -> PyResult<Bound<'py, PyDict>> {
    let items: Vec<_> = page.entries.iter().map(|one| entry(py, one, reader)).collect::<PyResult<_>>()?;
    let dict = PyDict::new(py);
    dict.set_item("items", PyList::new(py, items)?)?;
    dict.set_item("cursor", page.next.as_deref())?;
    Ok(dict)
}

fn change<'py>(py: Python<'py>, change: &Change, reader: Reader) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("cursor", &change.cursor)?;
    dict.set_item("collection", &change.collection)?;
    dict.set_item("id", &change.id)?;
    dict.set_item("kind", change.kind.name())?;
    dict.set_item("version", change.version.to_string())?;
    dict.set_item("time", change.time)?;
    dict.set_item("document", change.document.as_ref().map(|one| reader.read(py, one.text())).transpose()?)?;
    Ok(dict)
}

fn json(value: &impl serde::Serialize) -> Reply {
    Reply::Json(serde_json::to_string(value).expect("plain data has a JSON text"))
}

impl From<()> for Reply {
    fn from((): ()) -> Self {
        Self::Nothing
    }
}

impl From<bool> for Reply {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<u64> for Reply {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<Vec<String>> for Reply {
    fn from(texts: Vec<String>) -> Self {
        Self::Texts(texts)
    }
}

/// Of a write: the document as it stands now.
impl From<Entry> for Reply {
    fn from(entry: Entry) -> Self {
        Self::Document(entry.document)
    }
}

impl From<Option<Document>> for Reply {
    fn from(document: Option<Document>) -> Self {
        Self::MaybeDocument(document)
    }
}

impl From<Option<Entry>> for Reply {
    fn from(entry: Option<Entry>) -> Self {
        Self::MaybeEntry(entry)
    }
}

impl From<Vec<Option<Entry>>> for Reply {
    fn from(entries: Vec<Option<Entry>>) -> Self {
        Self::Documents(entries.into_iter().map(|entry| entry.map(|entry| entry.document)).collect())
    }
}

impl From<Option<Vec<Entry>>> for Reply {
    fn from(entries: Option<Vec<Entry>>) -> Self {
        Self::Rest(entries)
    }
}

impl From<Page> for Reply {
    fn from(page: Page) -> Self {
        Self::Page(page)
    }
}

impl From<Vec<Answer>> for Reply {
    fn from(answers: Vec<Answer>) -> Self {
        Self::Answers(answers)
    }
}

impl From<CollectionInfo> for Reply {
    fn from(info: CollectionInfo) -> Self {
        json(&info)
    }
}

impl From<Vec<CollectionInfo>> for Reply {
    fn from(infos: Vec<CollectionInfo>) -> Self {
        json(&infos)
    }
}

impl From<Info> for Reply {
    fn from(info: Info) -> Self {
        json(&info)
    }
}

impl From<Histogram> for Reply {
    fn from(histogram: Histogram) -> Self {
        Self::Histogram(histogram)
    }
}

impl From<(Kappa, bool)> for Reply {
    fn from((kappa, in_memory): (Kappa, bool)) -> Self {
        Self::Database(kappa, in_memory)
    }
}

/// Of one operation of a batch.
impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Written(entry) => entry.into(),
            Answer::Deleted(flag) | Answer::More(flag) => Self::Flag(flag),
            Answer::Entry(entry) => entry.into(),
            Answer::Entries(entries) => entries.into(),
            Answer::Count(count) => Self::Count(count),
            Answer::Page(page) => Self::Page(page),
            Answer::Collection(info) => info.into(),
            Answer::Collections(infos) => infos.into(),
            Answer::Batch(answers) => Self::Answers(answers),
            Answer::Task(answer) => Self::Told(answer.to_json().expect("an answer has a JSON text")),
        }
    }
}
