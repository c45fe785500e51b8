//! A client's connection to the owner: sends from any thread and never waits, and is read by one at a time.

use std::io::{self, Read};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;

use crate::env::{fork, socket};
use crate::error::Result;

use super::protocol::{Frame, MAX_ANSWER_BYTES, take_frame};

/// How often a reader that hears nothing looks whether the owner still lives.
pub const LISTEN: Duration = Duration::from_millis(250);
const READ_BYTES: usize = 64 << 10;
/// So many frames that are held back are sent although nobody waits for an answer yet: the owner can begin with them while
/// others are made.
const HELD: usize = 16;
/// The same of so many bytes: what is held back must not count as what the owner does not take.
const HELD_BYTES: usize = 64 << 10;

/// One connection; what it sends and is not taken yet waits here, bounded by the calls that are under way.
#[derive(Debug)]
pub struct Link {
    /// Before the stream, so that it is dropped before it.
    _guard: Option<fork::Guard>,
    stream: UnixStream,
    unsent: Mutex<Vec<u8>>,
    /// How many frames of it were never tried to send.
    held: AtomicUsize,
    inbox: Mutex<Inbox>,
}

/// What a reader keeps from one look to the next.
#[derive(Debug)]
pub struct Inbox {
    chunk: Vec<u8>,
    /// The beginning of a frame.
    buffer: BytesMut,
}

impl Default for Inbox {
    fn default() -> Self {
        Self { chunk: vec![0; READ_BYTES], buffer: BytesMut::new() }
    }
}

/// What was heard.
pub enum Heard {
    Frames(Vec<Frame>),
    /// Nothing for a while.
    Silence,
    /// The connection is over.
    End,
}

impl Link {
    /// Takes a connection that was just made.
    ///
    /// # Errors
    /// Of the system.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(LISTEN))?;
        Ok(Self {
            _guard: fork::Guard::new(&stream),
            stream,
            unsent: Mutex::default(),
            held: AtomicUsize::new(0),
            inbox: Mutex::default(),
        })
    }

    fn unsent(&self) -> MutexGuard<'_, Vec<u8>> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends `bytes`, and what lies before it, as far as that goes without waiting; whether something is left for
    /// [`Link::flush`].
    pub fn send(&self, bytes: &[u8]) -> bool {
        let mut unsent = self.unsent();
        if unsent.is_empty() {
            let sent = self.send_now(bytes);
            unsent.extend_from_slice(&bytes[sent..]);
        } else {
            unsent.extend_from_slice(bytes);
            self.send_unsent(&mut unsent);
        }
        !unsent.is_empty()
    }

    /// Holds `bytes` back until [`Link::push`], so that calls that are made one after another go out together: each
    /// sending costs more than the call. Whether so many are held that they should be pushed now.
    pub fn hold(&self, bytes: &[u8]) -> bool {
        let mut unsent = self.unsent();
        unsent.extend_from_slice(bytes);
        let held = self.held.fetch_add(1, Ordering::AcqRel) + 1;
        held >= HELD || unsent.len() >= HELD_BYTES
    }

    /// Sends what is held back, as far as that goes without waiting; whether something is left for [`Link::flush`].
    pub fn push(&self) -> bool {
        // Most who wait find that others have pushed.
        if self.held.load(Ordering::Acquire) == 0 || self.held.swap(0, Ordering::AcqRel) == 0 {
            return false;
        }
        let mut unsent = self.unsent();
        self.send_unsent(&mut unsent);
        !unsent.is_empty()
    }

    fn send_unsent(&self, unsent: &mut Vec<u8>) {
        let sent = self.send_now(unsent);
        unsent.drain(..sent);
    }

    /// What was read of a frame. Held by whoever reads, to the end of its reading.
    pub fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the owner leaves more than so many bytes untaken, also of calls that nobody waits for any more.
    pub fn is_clogged(&self, limit: usize) -> bool {
        let mut unsent = self.unsent();
        if unsent.len() > limit {
            // Some of it may only have been held back.
            self.send_unsent(&mut unsent);
        }
        unsent.len() > limit
    }

    /// Waits a moment for room and sends what is left; whether there is still more.
    pub fn flush(&self, wait: Duration) -> bool {
        // An error shows in the sending.
        let _ = socket::wait_writable(&self.stream, wait);
        let mut unsent = self.unsent();
        self.send_unsent(&mut unsent);
        !unsent.is_empty()
    }

    fn send_now(&self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            match socket::send_now(&self.stream, &bytes[sent..]) {
                Ok(0) => break,
                Ok(count) => sent += count,
                // The reader finds the end of the connection, and everything is sent again on the next.
                Err(_) => return bytes.len(),
            }
        }
        sent
    }

    /// What the owner sends next.
    ///
    /// # Errors
    /// When the owner sends what is no frame.
    pub fn receive(&self, inbox: &mut Inbox) -> Result<Heard> {
        let Inbox { chunk, buffer } = inbox;
        let count = match (&self.stream).read(chunk) {
            Ok(0) => return Ok(Heard::End),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(Heard::Silence);
            }
            Err(_) => return Ok(Heard::End),
        };
        buffer.extend_from_slice(&chunk[..count]);
        let mut frames = Vec::new();
        while let Some(frame) = take_frame(buffer, MAX_ANSWER_BYTES)? {
            frames.push(frame);
        }
        Ok(Heard::Frames(frames))
    }

    /// Ends the connection; its reader finds out.
    pub fn end(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
