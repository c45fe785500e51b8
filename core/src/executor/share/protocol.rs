//! The frames on the socket between an owner and its clients; `core/FORMAT.md` describes every byte.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::error::{Error, ErrorKind, Result};
use crate::executor::FeedStart;
use crate::operation::Operation;
use crate::store::session::SessionCall;

use super::wire::{Reader, malformed, put_bytes, put_error};

/// The versions of the protocol that this build speaks: its own, and the one before.
pub const LOWEST: u16 = 1;
pub const HIGHEST: u16 = 1;

/// The frame of a call is at most this long; a larger one would be refused for what it writes.
pub const MAX_REQUEST_BYTES: usize = 16 << 20;
/// The frame of an answer is at most this long: the documents of the largest answer, and what goes with them.
pub const MAX_ANSWER_BYTES: usize = 64 << 20;

const MAGIC: &[u8; 5] = b"kappa";
/// Length, kind, number.
const HEAD_BYTES: usize = 4 + 1 + 8;

mod kind {
    pub const HELLO: u8 = 1;
    pub const READ: u8 = 2;
    pub const WRITE: u8 = 3;
    pub const SEEK: u8 = 4;
    pub const CHANGES: u8 = 5;
    pub const CHANGES_NOW: u8 = 6;
    pub const COMMITTED: u8 = 7;
    pub const READY: u8 = 8;
    pub const INFO: u8 = 9;
    pub const CHECK: u8 = 10;
    pub const CANCEL: u8 = 11;
    pub const WELCOME: u8 = 64;
    pub const ANSWERED: u8 = 65;
    pub const FAILED: u8 = 66;
}

/// One message as it travels.
#[derive(Debug, PartialEq)]
pub struct Frame {
    kind: u8,
    /// Which call; 0 in greetings.
    pub number: u64,
    body: Bytes,
}

/// Takes the next whole frame off the front of `buffer`; none when more bytes are needed.
///
/// # Errors
/// When the frame is longer than `limit`, or is none.
pub fn take_frame(buffer: &mut BytesMut, limit: usize) -> Result<Option<Frame>> {
    let Some(head) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*head) as usize;
    if length < HEAD_BYTES - 4 || length > limit {
        return Err(malformed().with("bytes", length).with("limit", limit));
    }
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    let mut reader = Reader::new(Bytes::copy_from_slice(&buffer[4..4 + length]));
    let _ = buffer.split_to(4 + length);
    Ok(Some(Frame { kind: reader.u8()?, number: reader.u64()?, body: reader.rest() }))
}

/// Appends a frame whose body `put` writes.
fn put_frame(out: &mut Vec<u8>, kind: u8, number: u64, put: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.push(kind);
    out.extend_from_slice(&number.to_be_bytes());
    put(out);
    let length = u32::try_from(out.len() - start - 4).expect("bodies are bounded before they are sent");
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// The first frame of a client.
#[derive(Debug, PartialEq)]
pub struct Hello {
    /// The oldest version it speaks,
    pub lowest: u16,
    /// and the newest.
    pub highest: u16,
    /// Its process.
    pub pid: u32,
}

impl Hello {
    pub fn put(&self, out: &mut Vec<u8>) {
        put_frame(out, kind::HELLO, 0, |out| {
            out.extend_from_slice(MAGIC);
            out.extend_from_slice(&self.lowest.to_be_bytes());
            out.extend_from_slice(&self.highest.to_be_bytes());
            out.extend_from_slice(&self.pid.to_be_bytes());
        });
    }

    /// What follows the fields that this build knows is left to later versions.
    pub fn read(frame: Frame) -> Result<Self> {
        let mut reader = Reader::new(frame.body);
        if frame.kind != kind::HELLO || reader.array::<5>()? != *MAGIC {
            return Err(malformed());
        }
        Ok(Self { lowest: reader.u16()?, highest: reader.u16()?, pid: reader.u32()? })
    }

    /// The newest version that both sides speak.
    ///
    /// # Errors
    /// `Unsupported` when there is none.
    pub fn agree(&self) -> Result<u16> {
        let version = self.highest.min(HIGHEST);
        if version < self.lowest.max(LOWEST) {
            let message = "the process that owns the data directory speaks another version; update both";
            let error = Error::new(ErrorKind::Unsupported, message).with("speaks", format!("{LOWEST}..{HIGHEST}"));
            return Err(error.with("asked", format!("{}..{}", self.lowest, self.highest)));
        }
        Ok(version)
    }
}

/// The first frame of an owner, sent as soon as it answers calls.
#[derive(Debug, PartialEq)]
pub struct Welcome {
    /// What both speak from now on.
    pub version: u16,
    /// The owner's process.
    pub pid: u32,
    /// Which database this is.
    pub database: [u8; 16],
    /// Engine time.
    pub now: i64,
}

impl Welcome {
    pub fn put(&self, out: &mut Vec<u8>) {
        put_frame(out, kind::WELCOME, 0, |out| {
            out.extend_from_slice(&self.version.to_be_bytes());
            out.extend_from_slice(&self.pid.to_be_bytes());
            out.extend_from_slice(&self.database);
            out.extend_from_slice(&self.now.to_be_bytes());
        });
    }

    /// # Errors
    /// What the owner refused with.
    pub fn read(frame: Frame) -> Result<Self> {
        let mut reader = Reader::new(frame.body);
        match frame.kind {
            kind::WELCOME => {
                Ok(Self { version: reader.u16()?, pid: reader.u32()?, database: reader.array()?, now: reader.i64()? })
            }
            kind::FAILED => Err(reader.error()?),
            _ => Err(malformed()),
        }
    }
}

/// One call of a client.
#[derive(Debug, PartialEq)]
pub enum Request {
    Read(Operation),
    Write {
        session: SessionCall,
        /// How long it may wait for room.
        wait: Duration,
        idempotency_key: Option<String>,
        operation: Operation,
    },
    Seek(FeedStart),
    Changes(String),
    ChangesNow(String),
    Committed,
    Ready,
    Info,
    Check,
    /// Nobody waits for the call with this number any more.
    Cancel,
}

/// Appends the frame of a read.
pub fn put_read(out: &mut Vec<u8>, number: u64, operation: &Operation) {
    put_frame(out, kind::READ, number, |out| put_operation(out, operation));
}

/// Appends the frame of a write.
pub fn put_write(
    out: &mut Vec<u8>,
    session: &SessionCall,
    wait: Duration,
    idempotency_key: Option<&str>,
    operation: &Operation,
) {
    put_frame(out, kind::WRITE, session.number, |out| {
        out.extend_from_slice(&session.session);
        out.extend_from_slice(&session.slot.to_be_bytes());
        out.extend_from_slice(&u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).to_be_bytes());
        out.push(u8::from(idempotency_key.is_some()));
        if let Some(key) = idempotency_key {
            put_bytes(out, key.as_bytes());
        }
        put_operation(out, operation);
    });
}

/// Where a frame has its number, and that of a write its session and slot behind it.
const NUMBER_AT: usize = 5;
const SESSION_AT: usize = HEAD_BYTES;
const SLOT_AT: usize = SESSION_AT + 16;

/// Numbers a frame that was made without a number, so that making it needs no lock.
pub fn set_number(frame: &mut [u8], number: u64) {
    frame[NUMBER_AT..HEAD_BYTES].copy_from_slice(&number.to_be_bytes());
}

/// The same for the session of a write.
pub fn set_session(frame: &mut [u8], session: &SessionCall) {
    set_number(frame, session.number);
    frame[SESSION_AT..SLOT_AT].copy_from_slice(&session.session);
    frame[SLOT_AT..SLOT_AT + 2].copy_from_slice(&session.slot.to_be_bytes());
}

fn put_operation(out: &mut Vec<u8>, operation: &Operation) {
    serde_json::to_writer(out, operation).expect("an operation has a JSON text");
}

fn read_operation(reader: Reader) -> Result<Operation> {
    serde_json::from_slice(&reader.rest()).map_err(|error| {
        let message = "the process that owns the data directory does not know this operation; update it";
        Error::new(ErrorKind::Unsupported, message).caused_by(error)
    })
}

impl Request {
    /// Appends its frame.
    pub fn put(&self, out: &mut Vec<u8>, number: u64) {
        let kind = match self {
            Self::Read(operation) => return put_read(out, number, operation),
            Self::Write { session, wait, idempotency_key, operation } => {
                return put_write(out, session, *wait, idempotency_key.as_deref(), operation);
            }
            Self::Seek(_) => kind::SEEK,
            Self::Changes(_) => kind::CHANGES,
            Self::ChangesNow(_) => kind::CHANGES_NOW,
            Self::Committed => kind::COMMITTED,
            Self::Ready => kind::READY,
            Self::Info => kind::INFO,
            Self::Check => kind::CHECK,
            Self::Cancel => kind::CANCEL,
        };
        put_frame(out, kind, number, |out| match self {
            Self::Seek(FeedStart::Now) => out.push(0),
            Self::Seek(FeedStart::Oldest) => out.push(1),
            Self::Seek(FeedStart::After(cursor)) => {
                out.push(2);
                put_bytes(out, cursor.as_bytes());
            }
            Self::Changes(cursor) | Self::ChangesNow(cursor) => put_bytes(out, cursor.as_bytes()),
            _ => {}
        });
    }

    /// # Errors
    /// `Unsupported` for what a newer build says; `Internal` for what nobody says.
    pub fn read(frame: Frame) -> Result<Self> {
        let mut reader = Reader::new(frame.body);
        let request = match frame.kind {
            kind::READ => return Ok(Self::Read(read_operation(reader)?)),
            kind::WRITE => {
                let session = SessionCall { session: reader.array()?, slot: reader.u16()?, number: frame.number };
                let wait = Duration::from_millis(u64::from(reader.u32()?));
                let idempotency_key = if reader.bool()? { Some(reader.text()?) } else { None };
                return Ok(Self::Write { session, wait, idempotency_key, operation: read_operation(reader)? });
            }
            kind::SEEK => Self::Seek(match reader.u8()? {
                0 => FeedStart::Now,
                1 => FeedStart::Oldest,
                2 => FeedStart::After(reader.text()?),
                _ => return Err(malformed()),
            }),
            kind::CHANGES => Self::Changes(reader.text()?),
            kind::CHANGES_NOW => Self::ChangesNow(reader.text()?),
            kind::COMMITTED => Self::Committed,
            kind::READY => Self::Ready,
            kind::INFO => Self::Info,
            kind::CHECK => Self::Check,
            kind::CANCEL => Self::Cancel,
            other => {
                let message = "the process that owns the data directory does not know this call; update it";
                return Err(Error::new(ErrorKind::Unsupported, message).with("call", other));
            }
        };
        reader.end()?;
        Ok(request)
    }
}

/// Appends the frame that answers a call; the body is read by who asked.
pub fn put_answered(out: &mut Vec<u8>, number: u64, result: &Result<Vec<u8>>) {
    let too_large;
    let result = match result {
        Ok(body) if body.len() > MAX_ANSWER_BYTES - HEAD_BYTES => {
            too_large = Error::new(ErrorKind::TooLarge, "the answer is over its limit; ask for less");
            Err(&too_large)
        }
        other => other.as_ref(),
    };
    match result {
        Ok(body) => put_frame(out, kind::ANSWERED, number, |out| out.extend_from_slice(body)),
        Err(error) => put_frame(out, kind::FAILED, number, |out| put_error(out, error)),
    }
}

/// The body that answers a call, or what it failed with.
pub fn read_answered(frame: Frame) -> Result<Result<Bytes>> {
    match frame.kind {
        kind::ANSWERED => Ok(Ok(frame.body)),
        kind::FAILED => Ok(Err(Reader::new(frame.body).error()?)),
        _ => Err(malformed()),
    }
}

#[cfg(test)]
mod tests;
