//! One call: described by an exported function, then waited for by a thread or awaited on an event loop.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use kappa_core::env::{Env, generation};
use kappa_core::{Error, ErrorKind, Pending, Result};
use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::arguments::duration;
use crate::document::Reader;
use crate::error::exception;
use crate::guard::guard;
use crate::origin::Origin;
use crate::owned::Owned;
use crate::reply::{IntoReply, Reply};
use crate::threads::{Readers, Runner};

/// How often a thread that waits looks for signals such as Ctrl-C.
const SIGNAL_TICK: Duration = Duration::from_millis(50);

/// For fewer documents another thread is not woken; for so many it pays, as measured.
const WORTH_A_THREAD: usize = 30;

type Start = Box<dyn FnOnce(Runner) -> Pending<Reply> + Send>;

/// A call that has not begun.
#[pyclass(frozen, module = "kappa_core._kappa_core")]
pub struct Call {
    start: Mutex<Option<Owned<Start>>>,
    readers: Arc<Readers>,
    reader: Reader,
    kind: Kind,
}

/// What is known about a call before it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Other,
    /// It hardly ever waits for anything.
    Brief,
    /// Reading its answer takes as long as making objects of it.
    Large,
}

impl Call {
    /// A call whose reads run on `readers` when an event loop awaits it.
    pub fn new<T: IntoReply + Send + 'static>(
        origin: &Origin,
        start: impl FnOnce(Runner) -> Pending<T> + Send + 'static,
    ) -> Self {
        let reader = origin.reader;
        let start: Start = Box::new(move |runner| start(runner).map(move |answer| Ok(answer.into_reply(reader))));
        let start = Mutex::new(Some(Owned::new(start)));
        Self { start, readers: Arc::clone(&origin.readers), reader: origin.reader, kind: Kind::Other }
    }

    /// A write: handing it in takes no time, wherever it is awaited.
    pub fn write<T: IntoReply + Send + 'static>(
        origin: &Origin,
        submit: impl FnOnce() -> Pending<T> + Send + 'static,
    ) -> Self {
        Self::new(origin, |_| submit())
    }

    /// A read, which may wait for the disk before it returns.
    pub fn read<T: IntoReply + Send + 'static>(
        origin: &Origin,
        submit: impl FnOnce() -> Pending<T> + Send + 'static,
    ) -> Self {
        let reader = origin.reader;
        // Made ready where it is read: an event loop has other work.
        let submit = move || submit().map(move |answer| Ok(answer.into_reply(reader)));
        Self::new(origin, move |runner| runner.submit(submit))
    }

    /// A read of one document: other threads are let in only where it takes long, because that costs more than a read
    /// from memory does.
    pub fn brief<T: IntoReply + Send + 'static>(
        origin: &Origin,
        submit: impl FnOnce() -> Pending<T> + Send + 'static,
    ) -> Self {
        Self { kind: Kind::Brief, ..Self::read(origin, submit) }
    }

    /// A read of so many documents.
    pub fn of_many<T: IntoReply + Send + 'static>(
        origin: &Origin,
        documents: usize,
        submit: impl FnOnce() -> Pending<T> + Send + 'static,
    ) -> Self {
        let kind = if documents >= WORTH_A_THREAD { Kind::Large } else { Kind::Other };
        Self { kind, ..Self::read(origin, submit) }
    }

    /// How the documents of the answer are read.
    pub fn reader(&self) -> Reader {
        self.reader
    }

    /// Begins the call for an event loop.
    pub fn begin(&self) -> Result<Pending<Reply>> {
        Ok(self.take()?(Runner::Readers(Arc::clone(&self.readers))))
    }

    fn take(&self) -> Result<Start> {
        let start = self.start.lock().take();
        start.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "a call can be waited for once"))?.take()
    }
}

#[pymethods]
impl Call {
    /// Blocks until the answer is there; other threads run meanwhile, and Ctrl-C ends the wait.
    fn wait(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        guard("Call.wait", || self.answer(py, None).map(|answer| answer.unwrap_or_else(|| py.None())))
    }

    /// The same for so many seconds at most; None when the answer is not there by then.
    fn wait_within(&self, py: Python<'_>, wait: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
        guard("Call.wait_within", || {
            let wait = duration("timeout", wait).map_err(|error| exception(&error))?;
            self.answer(py, Some(wait))
        })
    }
}

impl Call {
    /// The answer; none when it is not there within `wait`.
    fn answer(&self, py: Python<'_>, wait: Option<Duration>) -> PyResult<Option<Py<PyAny>>> {
        let start = self.take().map_err(|error| exception(&error))?;
        if self.kind == Kind::Large {
            let crowd = self.readers.join();
            let runner = self.readers.for_one_of(&crowd);
            return self.wait_for(py, move || start(runner), wait);
        }
        if self.kind == Kind::Brief && self.readers.are_quick() {
            let mut pending = self.readers.watch(|| start(Runner::Caller).start());
            return match Pin::new(&mut pending).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(answer) => self.convert(py, answer).map(Some),
                Poll::Pending => {
                    // Another process is asked: that takes longer than letting other threads in.
                    self.readers.were_slow();
                    self.wait_for(py, move || pending, wait)
                }
            };
        }
        self.wait_for(py, move || start(Runner::Caller), wait)
    }

    fn wait_for(
        &self,
        py: Python<'_>,
        start: impl FnOnce() -> Pending<Reply> + Send,
        wait: Option<Duration>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let (mut start, mut pending) = (Some(start), None);
        let process = generation();
        // Looked at where the wait has a bound: most have none, and cost no clock.
        let until = wait.map(|wait| (Env::default().clock, wait)).map(|(clock, wait)| {
            let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            (clock.boot_ms().saturating_add(millis), clock)
        });
        loop {
            let polled = py.detach(|| {
                let begin = || start.take().expect("the first turn starts the call")();
                poll_for_a_while(pending.get_or_insert_with(begin), &waker)
            });
            match polled {
                Poll::Ready(answer) => return self.convert(py, answer).map(Some),
                Poll::Pending => {
                    let heard = py.check_signals();
                    if process != generation() {
                        // A handler of a signal has forked, and this is the child: whoever would answer is not here, and what
                        // they held when it came about is held for good, so that not even a drop may wait for it.
                        Box::leak(Box::new(pending));
                        return heard.and(Err(exception(&forked())));
                    }
                    heard?;
                }
            }
            if until.as_ref().is_some_and(|(until, clock)| clock.boot_ms() >= *until) {
                return Ok(None);
            }
        }
    }

    fn convert(&self, py: Python<'_>, answer: Result<Reply>) -> PyResult<Py<PyAny>> {
        answer.map_err(|error| exception(&error))?.into_python(py, self.reader)
    }
}

/// As core says it of a call that another process was asked for.
fn forked() -> Error {
    let message = "the call began in the process that this one was forked from; begin it again";
    Error::new(ErrorKind::Unavailable, message)
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls, and once more after the answer's wake-up or a tick. The wake-up ends the wait at once, so ticks delay no answer.
fn poll_for_a_while(pending: &mut Pending<Reply>, waker: &Waker) -> Poll<Result<Reply>> {
    let mut context = Context::from_waker(waker);
    let answer = Pin::new(&mut *pending).poll(&mut context);
    if answer.is_ready() {
        return answer;
    }
    std::thread::park_timeout(SIGNAL_TICK);
    Pin::new(pending).poll(&mut context)
}
