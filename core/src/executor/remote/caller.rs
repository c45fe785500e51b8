//! Calls to a server: repeated over broken connections, each with its end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::error::{Error, ErrorKind, Result};
use crate::executor::Pending;

use super::transport::{Ask, MAX_CONNECTIONS, Transport, Tried};

/// Feeds that wait for changes at once; each has a connection.
const MAX_WAITS: usize = 64;
/// The pauses between tries grow from the first to the last of these.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// No call gives up sooner: a network needs a moment.
const MIN_PATIENCE: Duration = Duration::from_millis(250);
/// A longer deadline is as good as this one.
const MAX_PATIENCE: Duration = Duration::from_secs(3_600);
/// How long a server may take to answer beyond the time that it was asked to wait.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// What a call is, as far as its fate depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Tried once, so that a wrong URL is told at once.
    First,
    /// Repeated up to its deadline.
    Read,
    /// The same; it is known under a key, so that a repetition does nothing.
    Write,
}

/// Makes the calls of one handle, on the runtime of its thread.
#[derive(Debug)]
pub struct Caller {
    transport: Transport,
    handle: Handle,
    room: Semaphore,
    waits: Semaphore,
    /// Turns true when no more calls are taken.
    closing: watch::Sender<bool>,
    /// A position of the feed that the server was seen at.
    mark: Mutex<Option<String>>,
}

/// Gives a call up when nobody waits for it any more.
struct Interest {
    task: AbortHandle,
    /// A write that has begun goes on: whoever left may count on it.
    begun: Option<Arc<AtomicBool>>,
}

impl Drop for Interest {
    fn drop(&mut self) {
        if self.begun.as_ref().is_none_or(|begun| !begun.load(Ordering::Acquire)) {
            self.task.abort();
        }
    }
}

impl Caller {
    /// Calls over `transport`, made on the runtime of `handle`.
    pub fn new(transport: Transport, handle: Handle) -> Arc<Self> {
        Arc::new(Self {
            transport,
            handle,
            room: Semaphore::new(MAX_CONNECTIONS),
            waits: Semaphore::new(MAX_WAITS),
            closing: watch::channel(false).0,
            mark: Mutex::new(None),
        })
    }

    /// Notes where the server's feed stands.
    pub fn note(&self, newest: String) {
        *self.mark.lock().unwrap_or_else(PoisonError::into_inner) = Some(newest);
    }

    /// Where the server's feed stood when it was last asked.
    pub fn mark(&self) -> Option<String> {
        self.mark.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends `ask` until it is answered, or `patience` ends.
    pub fn call(self: &Arc<Self>, ask: Ask, kind: Kind, patience: Duration) -> Pending<Bytes> {
        if *self.closing.borrow() {
            return Pending::ready(Err(closed()));
        }
        let begun = Arc::new(AtomicBool::new(false));
        let caller = Arc::clone(self);
        let patience = patience.clamp(MIN_PATIENCE, MAX_PATIENCE);
        let noted = Arc::clone(&begun);
        self.spawn(
            (kind == Kind::Write).then_some(begun),
            async move { caller.until(ask, kind, patience, &noted).await },
        )
    }

    /// Asks again and again for what comes some day: `ask` lets the server wait for `wait`, and `take` says whether its
    /// answer is there, or what to ask next.
    pub fn wait<T: Send + 'static>(
        self: &Arc<Self>,
        ask: Ask,
        wait: Duration,
        take: impl Fn(&Self, Bytes) -> Result<Result<T, Ask>> + Send + Sync + 'static,
    ) -> Pending<T> {
        let caller = Arc::clone(self);
        self.spawn(None, async move {
            let mut closing = caller.closing.subscribe();
            tokio::select! {
                _ = closing.wait_for(|closing| *closing) => Err(closed()),
                answer = caller.again(ask, wait, take) => answer,
            }
        })
    }

    /// Takes no more calls, and waits for those under way: each has a deadline.
    pub fn close(self: &Arc<Self>) {
        self.closing.send_replace(true);
        let caller = Arc::clone(self);
        let ended = self.spawn(None, async move {
            // Room is given in the order of asking, so all of it comes last.
            drop(timeout(MAX_PATIENCE, caller.room.acquire_many(MAX_CONNECTIONS as u32)).await);
            Ok(())
        });
        // Without a runtime there is nothing to wait for.
        drop(ended.wait());
    }

    fn spawn<T: Send + 'static>(
        &self,
        begun: Option<Arc<AtomicBool>>,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Pending<T> {
        let (reply, receiver) = oneshot::channel();
        let task = self.handle.spawn(async move {
            // The caller may have left.
            let _ = reply.send(work.await);
        });
        let interest = Interest { task: task.abort_handle(), begun };
        Pending::new(async move {
            let _interest = interest;
            receiver.await.unwrap_or_else(|_| Err(closed()))
        })
    }

    async fn until(&self, ask: Ask, kind: Kind, patience: Duration, begun: &AtomicBool) -> Result<Bytes> {
        let until = Instant::now() + patience;
        let sent = Arc::new(AtomicBool::new(false));
        let mut why = None;
        let trying = async {
            let _room = self.room.acquire().await.map_err(|_| closed())?;
            begun.store(true, Ordering::Release);
            let mut pause = FIRST_PAUSE;
            loop {
                match self.transport.send(&ask, &sent).await {
                    Tried::Answered(answer) => return answer,
                    Tried::Broken(error) if kind == Kind::First => return Err(error),
                    Tried::Broken(error) => why = Some(error),
                }
                sleep(pause).await;
                pause = (pause * 2).min(LAST_PAUSE);
            }
        };
        if let Ok(answer) = timeout_at(until, trying).await {
            return answer;
        }
        if !begun.load(Ordering::Acquire) {
            return Err(full());
        }
        let (kind, message) = if kind == Kind::Write && sent.load(Ordering::Acquire) {
            (ErrorKind::Ambiguous, "the server did not answer; the write may or may not be done")
        } else {
            (ErrorKind::Unavailable, "the server did not answer in time")
        };
        let error = Error::new(kind, message).with("url", self.transport.url());
        Err(match why {
            Some(why) => error.caused_by(why),
            None => error,
        })
    }

    async fn again<T>(
        &self,
        mut ask: Ask,
        wait: Duration,
        take: impl Fn(&Self, Bytes) -> Result<Result<T, Ask>>,
    ) -> Result<T> {
        let _room = self.waits.try_acquire().map_err(|_| full())?;
        let mut pause = FIRST_PAUSE;
        loop {
            let sent = Arc::new(AtomicBool::new(false));
            match timeout(wait + ANSWER_WITHIN, self.transport.send(&ask, &sent)).await {
                Ok(Tried::Answered(Ok(body))) => match take(self, body)? {
                    Ok(answer) => return Ok(answer),
                    Err(next) => {
                        ask = next;
                        pause = FIRST_PAUSE;
                        continue;
                    }
                },
                // The same position is asked for again, so nothing is missed.
                Ok(Tried::Answered(Err(error))) if !error.kind().is_retryable() => return Err(error),
                Ok(Tried::Answered(Err(_)) | Tried::Broken(_)) | Err(_) => {}
            }
            sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }
}

pub fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the database is closed")
}

fn full() -> Error {
    Error::new(ErrorKind::Overloaded, "too many calls are under way; retry later")
}
