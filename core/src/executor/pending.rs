//! An answer that is on its way: a future that can also be waited for.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// The answer of a call. Await it, or block on it with [`Pending::wait`]; dropping it gives up the
/// answer, and the call itself only while it still waits for room among the writes before it.
#[must_use = "a call's failure shows only in its answer"]
pub struct Pending<T>(Pin<Box<dyn Future<Output = Result<T>> + Send>>);

impl<T: Send + 'static> Pending<T> {
    /// An answer that is there already.
    pub fn ready(answer: Result<T>) -> Self {
        Self(Box::pin(std::future::ready(answer)))
    }

    /// The answer that `future` will give.
    pub fn new(future: impl Future<Output = Result<T>> + Send + 'static) -> Self {
        Self(Box::pin(future))
    }

    /// The answer that arrives on `receiver`; a sender that is dropped means the partition stopped.
    pub fn receive(receiver: oneshot::Receiver<Result<T>>) -> Self {
        Self::new(async move {
            receiver.await.unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::Ambiguous, "the partition stopped before it answered; reopen and read"))
            })
        })
    }

    /// The answer turned into what the caller asked for.
    pub fn map<U: Send + 'static>(self, convert: impl FnOnce(T) -> Result<U> + Send + 'static) -> Pending<U> {
        Pending::new(async move { convert(self.await?) })
    }

    /// Blocks this thread until the answer is there.
    ///
    /// # Errors
    /// Whatever the call answered.
    pub fn wait(self) -> Result<T> {
        block_on(self.0, None).expect("without an end the answer comes")
    }

    /// Blocks this thread until the answer is there, or gives it up after `wait`, as dropping it does.
    pub fn wait_for(self, wait: Duration) -> Option<Result<T>> {
        block_on(self.0, Some(wait))
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context)
    }
}

/// Runs one future on this thread, parked between polls; none when it takes longer than `wait`.
#[expect(clippy::disallowed_methods, reason = "a caller's patience is measured on the caller's thread")]
fn block_on<F: Future>(future: F, wait: Option<Duration>) -> Option<F::Output> {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    // A wait beyond what the clock can count is one without an end.
    let until = wait.and_then(|wait| std::time::Instant::now().checked_add(wait));
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut context = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        match until {
            None => std::thread::park(),
            Some(until) => {
                let left = until.saturating_duration_since(std::time::Instant::now());
                if left.is_zero() {
                    return None;
                }
                std::thread::park_timeout(left);
            }
        }
    }
}
