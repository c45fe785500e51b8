//! One client as its owner sees it: a thread that reads calls and answers reads, and one that sends what comes later.

use std::collections::HashMap;
use std::future::Future;
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::{Condvar, Mutex};

use crate::env::{fork, socket};
use crate::error::{Error, ErrorKind, Result};
use crate::executor::Pending;
use crate::executor::local::Local;

use super::protocol::{Frame, Hello, MAX_REQUEST_BYTES, Request, Welcome, put_answered, take_frame};
use super::serve::{Served, serve};
use super::wire::malformed;

/// A client that says nothing at first, or takes nothing for so long, is let go; it comes back and repeats.
const PATIENCE: Duration = Duration::from_secs(30);
/// Calls of one client that are under way, feeds included; a client keeps to less by itself.
const MAX_UNDER_WAY: usize = 8_192;
/// Bytes that wait to be sent before those who have more must wait too.
const MAX_UNSENT: usize = 4 << 20;
const READ_BYTES: usize = 64 << 10;
/// Bytes of answers that are sent before those behind them are there: their callers can go on meanwhile.
const SENT_EARLY: usize = 8 << 10;
/// Calls that are gathered before the committer hears of them: what came together may become durable together.
const GATHERED: usize = 256;

/// One connected client.
pub struct Connection {
    /// Before the stream, so that it is dropped before it.
    _guard: Option<fork::Guard>,
    stream: UnixStream,
    local: Arc<Local>,
    out: Mutex<Out>,
    sent: Condvar,
    under_way: Mutex<HashMap<u64, UnderWay>>,
    woken: Mutex<Woken>,
    rung: Condvar,
}

#[derive(Default)]
struct Out {
    bytes: Vec<u8>,
    /// Somebody is sending, and sends what comes meanwhile.
    sending: bool,
    broken: bool,
}

struct UnderWay {
    pending: Pending<Vec<u8>>,
    kind: Kind,
}

/// What a call under way rests on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The committer.
    Write,
    /// Others, but its answer comes whether or not anything else happens, so that an end can wait for it.
    Owed,
    /// What may take as long as it likes: asked again elsewhere.
    Free,
}

impl Kind {
    fn of(request: &Request) -> Self {
        match request {
            Request::Write { .. } => Self::Write,
            Request::Changes(_) | Request::Committed | Request::Check => Self::Free,
            _ => Self::Owed,
        }
    }
}

/// Calls that were read, and what they have come to.
#[derive(Default)]
struct Taken {
    answers: Vec<u8>,
    /// Writes that are not begun, in the order in which they came.
    later: Vec<(u64, UnderWay)>,
}

#[derive(Default)]
struct Woken {
    numbers: Vec<u64>,
    /// One of them that is a write which nobody has begun.
    alone: Option<u64>,
    owed: usize,
    /// The sending thread waits for one of these to change; otherwise it may wait for its client.
    waits: bool,
    /// The reader has ended: nothing more comes under way.
    read: bool,
    over: bool,
}

/// Wakes the sending thread for one call.
struct CallWaker {
    connection: Arc<Connection>,
    number: u64,
}

impl Wake for CallWaker {
    fn wake(self: Arc<Self>) {
        let mut woken = self.connection.woken.lock();
        woken.numbers.push(self.number);
        // Only the first: the thread takes all there are by the time it runs.
        if woken.numbers.len() == 1 {
            self.connection.rung.notify_all();
        }
    }
}

impl Connection {
    /// The client behind `stream`.
    ///
    /// # Errors
    /// Of the system.
    pub fn new(stream: UnixStream, local: Arc<Local>) -> io::Result<Self> {
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            _guard: fork::Guard::new(&stream),
            stream,
            local,
            out: Mutex::default(),
            sent: Condvar::new(),
            under_way: Mutex::default(),
            woken: Mutex::default(),
            rung: Condvar::new(),
        })
    }

    /// Reads calls until the client leaves or the owner stops listening.
    pub fn read(self: &Arc<Self>) {
        if let Err(error) = self.read_calls() {
            tracing::warn!(%error, "a client was let go");
            let mut frame = Vec::new();
            put_answered(&mut frame, 0, &Err(error));
            self.send(frame);
        }
        self.woken.lock().read = true;
        self.rung.notify_all();
    }

    fn read_calls(self: &Arc<Self>) -> Result<()> {
        let mut buffer = BytesMut::new();
        let mut chunk = vec![0; READ_BYTES];
        let mut greeted = false;
        while let Some(count) = self.receive(&mut chunk)? {
            buffer.extend_from_slice(&chunk[..count]);
            let mut taken = Taken::default();
            while let Some(frame) = take_frame(&mut buffer, MAX_REQUEST_BYTES)? {
                if greeted {
                    self.take_call(frame, &mut taken);
                } else {
                    self.greet(&Hello::read(frame)?, &mut taken.answers)?;
                    greeted = true;
                }
                if taken.later.len() >= GATHERED {
                    self.begin(&mut taken);
                }
                if taken.answers.len() > SENT_EARLY {
                    // The client may take nothing for a while.
                    self.begin(&mut taken);
                    self.send(std::mem::take(&mut taken.answers));
                }
            }
            if buffer.is_empty() && taken.answers.is_empty() {
                self.begin_alone(&mut taken);
            }
            self.begin(&mut taken);
            self.send(taken.answers);
        }
        Ok(())
    }

    /// The next bytes of the client; none once it has left.
    fn receive(&self, chunk: &mut [u8]) -> Result<Option<usize>> {
        loop {
            match (&self.stream).read(chunk) {
                Ok(0) => return Ok(None),
                Ok(count) => return Ok(Some(count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Only before the greeting, see below.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(malformed()),
                Err(error) => {
                    tracing::debug!(%error, "a client is gone");
                    return Ok(None);
                }
            }
        }
    }

    fn greet(&self, hello: &Hello, out: &mut Vec<u8>) -> Result<()> {
        let version = hello.agree()?;
        let (database, now) = (self.local.database(), self.local.now());
        Welcome { version, pid: std::process::id(), database, now }.put(out);
        let unset = self.stream.set_read_timeout(None);
        unset.map_err(|error| Error::new(ErrorKind::Unavailable, "the connection is lost").caused_by(error))
    }

    fn take_call(self: &Arc<Self>, frame: Frame, taken: &mut Taken) {
        let number = frame.number;
        let request = Request::read(frame);
        let is_write = matches!(request, Ok(Request::Write { .. }));
        if !is_write {
            // A read may take long, and a feed begins behind what came before it.
            self.begin(taken);
        }
        let (kind, served) = match request {
            Ok(Request::Cancel) => {
                let cancelled = self.under_way.lock().remove(&number);
                self.settle(cancelled.as_ref());
                return;
            }
            Ok(request) => (Kind::of(&request), serve(&self.local, request)),
            Err(error) => (Kind::Owed, Served::Now(Err(error))),
        };
        match served {
            Served::Now(result) => put_answered(&mut taken.answers, number, &result),
            Served::Later(pending) => taken.later.push((number, UnderWay { pending, kind })),
        }
        if !is_write {
            self.begin(taken);
        }
    }

    /// Has the sending thread do a write that nothing else is under way with, where it has nothing else to do: it commits it
    /// itself, which saves waking the committer.
    fn begin_alone(&self, taken: &mut Taken) {
        let [(number, UnderWay { kind: Kind::Write, .. })] = taken.later[..] else { return };
        let mut under_way = self.under_way.lock();
        let mut woken = self.woken.lock();
        if !under_way.is_empty() || !woken.waits || woken.over {
            return;
        }
        woken.waits = false;
        under_way.extend(taken.later.drain(..));
        woken.owed += 1;
        woken.numbers.push(number);
        woken.alone = Some(number);
        drop(woken);
        drop(under_way);
        self.rung.notify_all();
    }

    /// Begins what was read.
    fn begin(self: &Arc<Self>, taken: &mut Taken) {
        let Taken { answers, later } = taken;
        if later.is_empty() {
            return;
        }
        let mut under_way = self.under_way.lock();
        for (number, UnderWay { mut pending, kind }) in later.drain(..) {
            if under_way.len() >= MAX_UNDER_WAY {
                let error = Error::new(ErrorKind::Overloaded, "too many calls of this process are under way");
                put_answered(answers, number, &Err(error));
                continue;
            }
            // Under the lock, so that a wake that comes at once finds the call in its place.
            match self.poll(&mut pending, number) {
                Poll::Ready(result) => put_answered(answers, number, &result),
                Poll::Pending => {
                    let mut woken = self.woken.lock();
                    // Nobody would take it out again, and its waker holds the connection.
                    if woken.over {
                        continue;
                    }
                    woken.owed += usize::from(kind != Kind::Free);
                    drop(woken);
                    let before = under_way.insert(number, UnderWay { pending, kind });
                    self.settle(before.as_ref());
                }
            }
        }
    }

    /// Takes a call that is no longer under way off what is owed.
    fn settle(&self, call: Option<&UnderWay>) {
        if call.is_some_and(|call| call.kind != Kind::Free) {
            let mut woken = self.woken.lock();
            woken.owed -= 1;
            self.rung.notify_all();
        }
    }

    fn poll(self: &Arc<Self>, pending: &mut Pending<Vec<u8>>, number: u64) -> Poll<Result<Vec<u8>>> {
        let waker = Waker::from(Arc::new(CallWaker { connection: Arc::clone(self), number }));
        Pin::new(pending).poll(&mut Context::from_waker(&waker))
    }

    /// Sends answers as they come, until the connection is over, or nothing comes any more.
    pub fn write(self: &Arc<Self>) {
        while let Some((numbers, alone)) = self.next_woken() {
            let (mut answers, mut settled) = (Vec::new(), 0);
            if let Some(number) = alone {
                self.help(number);
            }
            let mut under_way = self.under_way.lock();
            for number in numbers {
                let Some(call) = under_way.get_mut(&number) else { continue };
                if let Poll::Ready(result) = self.poll(&mut call.pending, number) {
                    put_answered(&mut answers, number, &result);
                    settled += usize::from(call.kind != Kind::Free);
                    under_way.remove(&number);
                }
            }
            drop(under_way);
            self.send(answers);
            // Behind the sending, because the end of the connection waits for this.
            self.woken.lock().owed -= settled;
        }
        self.end();
        // Wakers hold the connection, and it holds them.
        let left = std::mem::take(&mut *self.under_way.lock());
        drop(left);
    }

    /// Commits the write with this number where nobody else does. It is not in its place meanwhile, so that its client can be
    /// read; nobody wakes it before it was polled.
    fn help(&self, number: u64) {
        let Some(mut call) = self.under_way.lock().remove(&number) else { return };
        call.pending.help();
        let mut under_way = self.under_way.lock();
        if self.woken.lock().over {
            drop(under_way);
            self.settle(Some(&call));
            return;
        }
        // A client that gave a number twice has the later one.
        let before = under_way.insert(number, call);
        drop(under_way);
        self.settle(before.as_ref());
    }

    fn next_woken(&self) -> Option<(Vec<u64>, Option<u64>)> {
        let mut woken = self.woken.lock();
        loop {
            if woken.over {
                return None;
            }
            if !woken.numbers.is_empty() {
                let alone = woken.alone.take();
                return Some((std::mem::take(&mut woken.numbers), alone));
            }
            if woken.read && woken.owed == 0 {
                return None;
            }
            woken.waits = true;
            self.rung.wait(&mut woken);
            woken.waits = false;
        }
    }

    /// Sends `bytes` behind what waits already. Whoever finds nobody sending sends for everybody.
    fn send(&self, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let mut out = self.out.lock();
        while out.sending && out.bytes.len() >= MAX_UNSENT && !out.broken {
            self.sent.wait(&mut out);
        }
        if out.broken {
            return;
        }
        if out.bytes.is_empty() {
            out.bytes = bytes;
        } else {
            out.bytes.extend_from_slice(&bytes);
        }
        if out.sending {
            return;
        }
        out.sending = true;
        while !out.bytes.is_empty() && !out.broken {
            let bytes = std::mem::take(&mut out.bytes);
            drop(out);
            let sent = socket::send_all(&self.stream, &bytes);
            out = self.out.lock();
            if let Err(error) = sent {
                tracing::debug!(%error, "a client is gone");
                out.broken = true;
                let _ = self.stream.shutdown(Shutdown::Both);
            }
            self.sent.notify_all();
        }
        out.sending = false;
    }

    /// Takes no more calls; those that were read are still answered.
    pub fn stop_reading(&self) {
        let _ = self.stream.shutdown(Shutdown::Read);
    }

    /// Ends the connection; what is under way is answered to nobody.
    pub fn end(&self) {
        self.woken.lock().over = true;
        self.rung.notify_all();
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests;
