//! Answers as the JSON text that JavaScript reads.

use std::borrow::Cow;
use std::fmt::Write;

use kappa_core::{Answer, Document, Entry, Error, ErrorKind, Page, Result};
use serde::Serialize;

use crate::numbers::fit_doubles;

/// Room that is made for one document among several: growing copies what is there.
const LIKELY_BYTES: usize = 384;

/// JSON text, and whether `JSON.parse` would lose digits of its numbers.
#[derive(Debug)]
pub struct Text {
    /// The text.
    pub json: Json,
    /// Whether `JSON.parse` gives every number as it is.
    pub exact: bool,
}

/// JSON text that was made here, or lies in a document.
#[derive(Debug)]
pub enum Json {
    /// Made here.
    Made(String),
    /// That of the document, which is not copied.
    Stored(Document),
}

impl Json {
    /// The text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Made(text) => text,
            Self::Stored(document) => document.text(),
        }
    }
}

impl Text {
    /// Text that may hold any number.
    pub fn new(json: String) -> Self {
        let exact = fit_doubles(&json);
        Self { json: Json::Made(json), exact }
    }

    /// Anything of Kappa's own.
    pub fn of(value: &impl Serialize) -> Result<Self> {
        let json = serde_json::to_string(value);
        json.map(Self::new).map_err(|error| Error::new(ErrorKind::Internal, "an answer has no text").caused_by(error))
    }

    /// One document, or null.
    pub fn document(document: Option<Document>) -> Self {
        let Some(document) = document else { return Self::new("null".to_owned()) };
        let exact = fit_doubles(document.text());
        Self { json: Json::Stored(document), exact }
    }

    /// One document with its version, or null.
    pub fn entry(entry: Option<&Entry>) -> Self {
        let mut json = String::new();
        match entry {
            Some(entry) => write_entry(&mut json, entry),
            None => json.push_str("null"),
        }
        Self::new(json)
    }

    /// Documents, or null where there is none.
    pub fn documents(entries: &[Option<Entry>]) -> Self {
        Self::new(array(entries, |json, entry| {
            json.push_str(entry.as_ref().map_or("null", |entry| entry.document.text()));
        }))
    }

    /// The documents of one page of a list.
    pub fn items(page: &Page) -> Self {
        Self::new(array(&page.entries, |json, entry| json.push_str(entry.document.text())))
    }

    /// One page of a list.
    pub fn page(page: &Page) -> Self {
        let items = array(&page.entries, write_entry);
        let cursor = page.next.as_ref().map_or("null".to_owned(), |cursor| quoted(cursor));
        Self::new(format!("{{\"items\":{items},\"cursor\":{cursor}}}"))
    }

    /// What each operation of a batch gave: the document it wrote, whether it deleted one, or the task that it enqueued.
    pub fn batch(answers: &[Answer]) -> Result<Self> {
        let texts = answers.iter().map(|answer| match answer {
            Answer::Written(entry) => Ok(entry.document.text().into()),
            Answer::Deleted(deleted) => Ok(Cow::from(if *deleted { "true" } else { "false" })),
            Answer::Task(answer) => answer.to_json().map(Cow::from),
            _ => Err(Error::new(ErrorKind::Internal, "a batch answered what it was not asked")),
        });
        let texts: Vec<Cow<'_, str>> = texts.collect::<Result<_>>()?;
        Ok(Self::new(array(&texts, |json, text| json.push_str(text))))
    }

    /// For a call that answers at once: text that does not fit `JSON.parse` begins with a space.
    pub fn marked(self) -> Json {
        if self.exact { self.json } else { Json::Made(format!(" {}", self.json.as_str())) }
    }
}

/// `text` as a JSON string.
pub fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string has a JSON text")
}

fn write_entry(json: &mut String, entry: &Entry) {
    let (value, version) = (entry.document.text(), entry.version);
    write!(json, "{{\"value\":{value},\"version\":\"{version}\"}}").expect("a string takes all text");
}

fn array<T>(items: &[T], mut write: impl FnMut(&mut String, &T)) -> String {
    let mut json = String::with_capacity(items.len() * LIKELY_BYTES + 2);
    json.push('[');
    for (position, item) in items.iter().enumerate() {
        if position > 0 {
            json.push(',');
        }
        write(&mut json, item);
    }
    json.push(']');
    json
}
