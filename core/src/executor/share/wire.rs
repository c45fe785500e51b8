//! What is said between processes, as bytes: numbers big-endian, texts with their length before them.

use std::fmt;

use bytes::Bytes;

use crate::engine::EventKind;
use crate::error::{Error, ErrorKind, Result};
use crate::executor::names::known;
use crate::executor::{Change, Info};
use crate::operation::{Answer, Entry, Page, Version};
use crate::store::document::Document;

mod tag {
    pub const WRITTEN: u8 = 0;
    pub const DELETED: u8 = 1;
    pub const ENTRY: u8 = 2;
    pub const ENTRIES: u8 = 3;
    pub const COUNT: u8 = 4;
    pub const PAGE: u8 = 5;
    pub const BATCH: u8 = 6;
    pub const MORE: u8 = 7;
    /// What is asked seldom, as JSON.
    pub const OTHER: u8 = 8;
}

/// Batches hold no batches; a message that says otherwise must not fill the stack.
const MAX_DEPTH: usize = 2;

pub fn malformed() -> Error {
    Error::new(ErrorKind::Internal, "a message of another process cannot be read; do all run versions that fit?")
}

/// Takes a message apart; never reads behind its end.
#[derive(Debug)]
pub struct Reader(Bytes);

impl Reader {
    pub fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    pub fn take(&mut self, count: usize) -> Result<Bytes> {
        if self.0.len() < count {
            return Err(malformed());
        }
        Ok(self.0.split_to(count))
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?[..].try_into().expect("just as many"))
    }

    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    pub fn bool(&mut self) -> Result<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(malformed()),
        }
    }

    pub fn bytes(&mut self) -> Result<Bytes> {
        let count = self.u32()?;
        self.take(count as usize)
    }

    pub fn text(&mut self) -> Result<String> {
        String::from_utf8(self.bytes()?.into()).map_err(|_| malformed())
    }

    /// How many items follow; no message holds more of them than it has bytes.
    pub fn count(&mut self) -> Result<usize> {
        let count = self.u32()? as usize;
        if count > self.0.len() { Err(malformed()) } else { Ok(count) }
    }

    /// Everything that is left.
    pub fn rest(self) -> Bytes {
        self.0
    }

    /// Nothing may be left.
    pub fn end(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(malformed()) }
    }

    /// A document of a process that has checked it.
    fn document(&mut self) -> Result<Document> {
        let text = self.bytes()?;
        std::str::from_utf8(&text).map_err(|_| malformed())?;
        Ok(Document::from_stored(text))
    }

    fn entry(&mut self) -> Result<Entry> {
        Ok(Entry { id: self.text()?, version: Version(self.u64()?), document: self.document()? })
    }

    fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        if self.bool()? { read(self).map(Some) } else { Ok(None) }
    }

    fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        (0..self.count()?).map(|_| read(self)).collect()
    }

    fn answer_below(&mut self, depth: usize) -> Result<Answer> {
        if depth == 0 {
            return Err(malformed());
        }
        Ok(match self.u8()? {
            tag::WRITTEN => Answer::Written(self.entry()?),
            tag::DELETED => Answer::Deleted(self.bool()?),
            tag::ENTRY => Answer::Entry(self.option(Self::entry)?),
            tag::ENTRIES => Answer::Entries(self.list(|reader| reader.option(Self::entry))?),
            tag::COUNT => Answer::Count(self.u64()?),
            tag::PAGE => {
                let entries = self.list(Self::entry)?;
                Answer::Page(Page { entries, next: self.option(Self::text)? })
            }
            tag::BATCH => Answer::Batch(self.list(|reader| reader.answer_below(depth - 1))?),
            tag::MORE => Answer::More(self.bool()?),
            tag::OTHER => serde_json::from_slice(&self.bytes()?).map_err(|error| malformed().caused_by(error))?,
            _ => return Err(malformed()),
        })
    }

    /// As [`put_answer`] wrote it.
    pub fn answer(&mut self) -> Result<Answer> {
        self.answer_below(MAX_DEPTH)
    }

    fn change(&mut self) -> Result<Change> {
        Ok(Change {
            cursor: self.text()?,
            collection: self.text()?,
            id: self.text()?,
            kind: match self.u8()? {
                0 => EventKind::Created,
                1 => EventKind::Updated,
                2 => EventKind::Deleted,
                3 => EventKind::Expired,
                _ => return Err(malformed()),
            },
            version: Version(self.u64()?),
            time: self.i64()?,
            document: self.option(Self::document)?,
        })
    }

    /// As [`put_changes`] wrote them.
    pub fn changes(&mut self) -> Result<(Vec<Change>, String)> {
        Ok((self.list(Self::change)?, self.text()?))
    }

    /// As [`put_error`] wrote it.
    pub fn error(&mut self) -> Result<Error> {
        let code = self.text()?;
        let kind = ErrorKind::ALL.iter().find(|kind| kind.code() == code).copied().unwrap_or(ErrorKind::Internal);
        let mut error = Error::new(kind, self.text()?);
        if let Some(operation) = self.option(Self::text)?.and_then(|name| known(&name)) {
            error = error.during(operation);
        }
        for _ in 0..self.count()? {
            let (name, value) = (self.text()?, self.text()?);
            if let Some(name) = known(&name) {
                error = error.with(name, value);
            }
        }
        Ok(match self.option(Self::text)? {
            Some(cause) => error.caused_by(Cause(cause)),
            None => error,
        })
    }

    /// As [`put_info`] wrote it; `id` was said at the beginning of the connection.
    pub fn info(&mut self, id: String) -> Result<Info> {
        let mut name = || self.text().map(|name| known(&name).unwrap_or("unknown"));
        Ok(Info {
            id,
            version: name()?,
            durability: name()?,
            view: name()?,
            newest: Version(self.u64()?),
            oldest: Version(self.u64()?),
            partitions: self.u32()?,
            recovery: self.list(Self::text)?,
            role: "client",
            owner_pid: self.u32()?,
        })
    }

    /// Texts.
    pub fn texts(&mut self) -> Result<Vec<String>> {
        self.list(Self::text)
    }
}

/// What lay below an error of another process, in words.
#[derive(Debug)]
struct Cause(String);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Cause {}

fn put_length(out: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("no message is that long");
    out.extend_from_slice(&length.to_be_bytes());
}

pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_option<T>(out: &mut Vec<u8>, option: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    out.push(u8::from(option.is_some()));
    if let Some(value) = option {
        put(out, value);
    }
}

pub fn put_texts(out: &mut Vec<u8>, texts: &[String]) {
    put_length(out, texts.len());
    for text in texts {
        put_bytes(out, text.as_bytes());
    }
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    put_bytes(out, entry.id.as_bytes());
    out.extend_from_slice(&entry.version.0.to_be_bytes());
    put_bytes(out, entry.document.text().as_bytes());
}

pub fn put_answer(out: &mut Vec<u8>, answer: &Answer) {
    match answer {
        Answer::Written(entry) => {
            out.push(tag::WRITTEN);
            put_entry(out, entry);
        }
        Answer::Deleted(deleted) => out.extend_from_slice(&[tag::DELETED, u8::from(*deleted)]),
        Answer::Entry(entry) => {
            out.push(tag::ENTRY);
            put_option(out, entry.as_ref(), put_entry);
        }
        Answer::Entries(entries) => {
            out.push(tag::ENTRIES);
            put_length(out, entries.len());
            for entry in entries {
                put_option(out, entry.as_ref(), put_entry);
            }
        }
        Answer::Count(count) => {
            out.push(tag::COUNT);
            out.extend_from_slice(&count.to_be_bytes());
        }
        Answer::Page(page) => {
            out.push(tag::PAGE);
            put_length(out, page.entries.len());
            for entry in &page.entries {
                put_entry(out, entry);
            }
            put_option(out, page.next.as_ref(), |out, next| put_bytes(out, next.as_bytes()));
        }
        Answer::Batch(answers) => {
            out.push(tag::BATCH);
            put_length(out, answers.len());
            for answer in answers {
                put_answer(out, answer);
            }
        }
        Answer::More(more) => out.extend_from_slice(&[tag::MORE, u8::from(*more)]),
        Answer::Collection(_) | Answer::Collections(_) | Answer::Task(_) => {
            out.push(tag::OTHER);
            put_bytes(out, &serde_json::to_vec(answer).expect("an answer has a JSON text"));
        }
    }
}

pub fn put_changes(out: &mut Vec<u8>, changes: &[Change], behind: &str) {
    put_length(out, changes.len());
    for change in changes {
        for text in [&change.cursor, &change.collection, &change.id] {
            put_bytes(out, text.as_bytes());
        }
        out.push(match change.kind {
            EventKind::Created => 0,
            EventKind::Updated => 1,
            EventKind::Deleted => 2,
            EventKind::Expired => 3,
        });
        out.extend_from_slice(&change.version.0.to_be_bytes());
        out.extend_from_slice(&change.time.to_be_bytes());
        put_option(out, change.document.as_ref(), |out, document| put_bytes(out, document.text().as_bytes()));
    }
    put_bytes(out, behind.as_bytes());
}

pub fn put_error(out: &mut Vec<u8>, error: &Error) {
    put_bytes(out, error.kind().code().as_bytes());
    put_bytes(out, error.message().as_bytes());
    put_option(out, error.operation(), |out, name| put_bytes(out, name.as_bytes()));
    put_length(out, error.context().len());
    for (name, value) in error.context() {
        put_bytes(out, name.as_bytes());
        put_bytes(out, value.as_bytes());
    }
    let cause = std::error::Error::source(error).map(ToString::to_string);
    put_option(out, cause, |out, cause| put_bytes(out, cause.as_bytes()));
}

pub fn put_info(out: &mut Vec<u8>, info: &Info) {
    for text in [info.version, info.durability, info.view] {
        put_bytes(out, text.as_bytes());
    }
    out.extend_from_slice(&info.newest.0.to_be_bytes());
    out.extend_from_slice(&info.oldest.0.to_be_bytes());
    out.extend_from_slice(&info.partitions.to_be_bytes());
    put_texts(out, &info.recovery);
    out.extend_from_slice(&info.owner_pid.to_be_bytes());
}
