//! An answer that is on its way: a future that can also be waited for.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crate::error::Result;

/// The answer of a call. Await it, or block on it with [`Pending::wait`].
///
/// Like any future it is lazy: a write begins when somebody polls, waits for or drops its answer, or when an other
/// call's answer is asked for. Dropping gives up the answer, and the call itself only while it still waits for room
/// among the writes before it.
#[must_use = "a call's failure shows only in its answer"]
pub struct Pending<T>(State<T>);

enum State<T> {
    Ready(Option<Result<T>>),
    Coming(Box<dyn Coming<T>>),
}

/// Where an answer comes from, for those who await it and for those who block.
pub trait Coming<T>: Send {
    /// As [`Future::poll`].
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<T>>;
    /// Does the work of the committer on this thread, where the answer rests on it and nobody else does it.
    fn help(&mut self) {}
    /// Blocks this thread; none when the answer took longer than `until`.
    fn wait(self: Box<Self>, until: Option<Instant>) -> Option<Result<T>>;
}

impl<T: Send + 'static> Pending<T> {
    /// An answer that is there already.
    pub fn ready(answer: Result<T>) -> Self {
        Self(State::Ready(Some(answer)))
    }

    /// The answer that `future` will give.
    pub fn new(future: impl Future<Output = Result<T>> + Send + 'static) -> Self {
        Self::coming(FromFuture(Box::pin(future)))
    }

    /// The answer from `source`.
    pub(crate) fn coming(source: impl Coming<T> + 'static) -> Self {
        Self(State::Coming(Box::new(source)))
    }

    /// The answer turned into what the caller asked for.
    pub fn map<U: Send + 'static>(self, convert: impl FnOnce(T) -> Result<U> + Send + 'static) -> Pending<U> {
        match self.0 {
            State::Ready(answer) => Pending::ready(taken(answer).and_then(convert)),
            State::Coming(source) => Pending::coming(Mapped { source, convert: Some(convert) }),
        }
    }

    /// Begins the call now, for those who ask for its answer later.
    pub fn start(mut self) -> Self {
        if let State::Coming(source) = &mut self.0
            && let Poll::Ready(answer) = source.poll(&mut Context::from_waker(Waker::noop()))
        {
            return Self::ready(answer);
        }
        self
    }

    /// Does what the answer rests on with this thread, where nobody else does it and it needs no more than that: it saves
    /// waking another one. May take as long as a sync.
    pub(crate) fn help(&mut self) {
        if let State::Coming(source) = &mut self.0 {
            source.help();
        }
    }

    /// Blocks this thread until the answer is there. The thread may do the work of the committer meanwhile.
    ///
    /// # Errors
    /// Whatever the call answered.
    pub fn wait(self) -> Result<T> {
        match self.0 {
            State::Ready(answer) => taken(answer),
            State::Coming(source) => source.wait(None).expect("without an end the answer comes"),
        }
    }

    /// Blocks this thread until the answer is there, or gives it up after `wait`, as dropping it does.
    #[expect(clippy::disallowed_methods, reason = "a caller's patience is measured on the caller's thread")]
    pub fn wait_for(self, wait: Duration) -> Option<Result<T>> {
        match self.0 {
            State::Ready(answer) => Some(taken(answer)),
            // A wait beyond what the clock can count is one without an end.
            State::Coming(source) => source.wait(Instant::now().checked_add(wait)),
        }
    }
}

fn taken<T>(answer: Option<Result<T>>) -> Result<T> {
    answer.expect("an answer is taken once")
}

impl<T> Unpin for Pending<T> {}

impl<T> Future for Pending<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Ready(answer) => Poll::Ready(taken(answer.take())),
            State::Coming(source) => source.poll(context),
        }
    }
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}

struct FromFuture<T>(Pin<Box<dyn Future<Output = Result<T>> + Send>>);

impl<T> Coming<T> for FromFuture<T> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<T>> {
        self.0.as_mut().poll(context)
    }

    fn wait(mut self: Box<Self>, until: Option<Instant>) -> Option<Result<T>> {
        block_on(|context| self.poll(context), until)
    }
}

struct Mapped<T, F> {
    source: Box<dyn Coming<T>>,
    convert: Option<F>,
}

impl<T: Send, U, F: FnOnce(T) -> Result<U> + Send> Coming<U> for Mapped<T, F> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<U>> {
        let convert = &mut self.convert;
        self.source.poll(context).map(|answer| answer.and_then(convert.take().expect("an answer is taken once")))
    }

    fn help(&mut self) {
        self.source.help();
    }

    fn wait(self: Box<Self>, until: Option<Instant>) -> Option<Result<U>> {
        let Self { source, convert } = *self;
        source.wait(until).map(|answer| answer.and_then(convert.expect("an answer is taken once")))
    }
}

/// Polls on this thread, parked between polls; none when it takes longer than `until`.
#[expect(clippy::disallowed_methods, reason = "a caller's patience is measured on the caller's thread")]
pub(crate) fn block_on<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>, until: Option<Instant>) -> Option<T> {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = poll(&mut context) {
            return Some(output);
        }
        match until {
            None => std::thread::park(),
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return None;
                }
                std::thread::park_timeout(left);
            }
        }
    }
}
