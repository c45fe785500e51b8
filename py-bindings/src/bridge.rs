//! The way from core's threads to an event loop: they wake it through a socket and never wait for Python.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use kappa_core::{Error, ErrorKind, Pending, Result};
use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::call::Call;
use crate::document::Reader;
use crate::error::exception;
use crate::guard::{catch, guard};
use crate::kappa::export;
use crate::owned::Owned;
use crate::reply::Reply;

/// Answers in one turn of a loop; what their tasks do with them is part of the turn, too.
const MAX_A_TURN: usize = 64;

/// The calls that one event loop awaits. All of its methods run on the loop's thread.
#[pyclass(frozen, module = "kappa_core._kappa_core")]
pub struct Bridge {
    doorbell: Arc<Doorbell>,
    ring: UnixStream,
    awaited: Mutex<HashMap<u64, Awaited>>,
    next: AtomicU64,
}

struct Awaited {
    pending: Owned<Pending<Reply>>,
    reader: Reader,
    future: Py<PyAny>,
}

/// What core's threads reach: which calls got on, and the bell. Many answers ring once.
struct Doorbell {
    ready: Mutex<VecDeque<u64>>,
    rung: AtomicBool,
    bell: UnixStream,
}

struct Visitor {
    doorbell: Arc<Doorbell>,
    call: u64,
}

impl Wake for Visitor {
    fn wake(self: Arc<Self>) {
        self.doorbell.ready.lock().push_back(self.call);
        self.doorbell.ring();
    }
}

impl Doorbell {
    fn ring(&self) {
        if !self.rung.swap(true, Ordering::SeqCst) {
            // A bell that is full has been rung; one without a listener belongs to a loop that is gone.
            let _ = (&self.bell).write(&[1]);
        }
    }

    /// Calls for one turn of the loop, and whether more are ready.
    fn take(&self) -> (VecDeque<u64>, bool) {
        let mut ready = self.ready.lock();
        let later = if ready.len() > MAX_A_TURN { ready.split_off(MAX_A_TURN) } else { VecDeque::new() };
        let now = std::mem::replace(&mut *ready, later);
        (now, !ready.is_empty())
    }
}

#[pymethods]
impl Bridge {
    #[new]
    fn new() -> PyResult<Self> {
        export("Bridge.__new__", || {
            let unavailable =
                |error| Error::new(ErrorKind::Unavailable, "no socket to wake the event loop").caused_by(error);
            let (bell, ring) = UnixStream::pair().map_err(unavailable)?;
            bell.set_nonblocking(true).and_then(|()| ring.set_nonblocking(true)).map_err(unavailable)?;
            let doorbell = Doorbell { ready: Mutex::default(), rung: AtomicBool::new(false), bell };
            Ok(Self { doorbell: Arc::new(doorbell), ring, awaited: Mutex::default(), next: AtomicU64::new(0) })
        })
    }

    /// What the loop listens to; `drain` is to be called when it can be read.
    fn fileno(&self) -> PyResult<i32> {
        guard("Bridge.fileno", || Ok(self.ring.as_raw_fd()))
    }

    /// Begins `call`, whose answer `future` gets; gives the number by which it can be forgotten.
    fn start(&self, py: Python<'_>, call: &Call, future: Py<PyAny>) -> PyResult<u64> {
        guard("Bridge.start", || {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let pending = call.begin().map_err(|error| exception(&error))?;
            self.turn(py, number, Awaited { pending: Owned::new(pending), reader: call.reader(), future })?;
            Ok(number)
        })
    }

    /// Gives answers that have come to their futures: so many that the loop's other work does not wait for long. Those
    /// that are left ring again.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        guard("Bridge.drain", || {
            // Quiet before the look, so that what comes behind the look rings again.
            while matches!((&self.ring).read(&mut [0; 64]), Ok(read) if read > 0) {}
            self.doorbell.rung.store(false, Ordering::SeqCst);
            let (ready, left) = self.doorbell.take();
            if left {
                self.doorbell.ring();
            }
            for number in ready {
                let awaited = self.awaited.lock().remove(&number);
                if let Some(awaited) = awaited {
                    self.turn(py, number, awaited)?;
                }
            }
            Ok(())
        })
    }

    /// Gives up the call with this number, if it is still awaited.
    fn forget(&self, number: u64) -> PyResult<()> {
        guard("Bridge.forget", || {
            let awaited = self.awaited.lock().remove(&number);
            drop(awaited);
            Ok(())
        })
    }

    /// How many calls are awaited.
    fn awaiting(&self) -> PyResult<usize> {
        guard("Bridge.awaiting", || Ok(self.awaited.lock().len()))
    }
}

impl Bridge {
    /// Gives the answer of `awaited` to its future if it has come, and keeps it otherwise.
    fn turn(&self, py: Python<'_>, number: u64, mut awaited: Awaited) -> PyResult<()> {
        let waker = Waker::from(Arc::new(Visitor { doorbell: Arc::clone(&self.doorbell), call: number }));
        let polled =
            catch("await", || poll(&mut awaited.pending, &waker)).unwrap_or_else(|error| Poll::Ready(Err(error)));
        let Poll::Ready(answer) = polled else {
            self.awaited.lock().insert(number, awaited);
            return Ok(());
        };
        let future = awaited.future.bind(py);
        if future.call_method0("done")?.is_truthy()? {
            return Ok(());
        }
        let answer = answer.map_err(|error| exception(&error)).and_then(|reply| reply.into_python(py, awaited.reader));
        match answer {
            Ok(object) => future.call_method1("set_result", (object,))?,
            Err(error) => future.call_method1("set_exception", (error.into_value(py),))?,
        };
        Ok(())
    }
}

fn poll(pending: &mut Owned<Pending<Reply>>, waker: &Waker) -> Poll<Result<Reply>> {
    match pending.get_mut() {
        Ok(pending) => Pin::new(pending).poll(&mut Context::from_waker(waker)),
        Err(error) => Poll::Ready(Err(error)),
    }
}
