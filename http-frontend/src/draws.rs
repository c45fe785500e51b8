//! Bounded work for processors: at most so many draws at once, each stopped when nobody waits for it any more.

use std::sync::Arc;
use std::time::Duration;

use kappa_core::random::{Control, Histogram, HistogramRequest, Method, histogram};
use kappa_core::{Error, ErrorKind, Result};
use tokio::sync::Semaphore;

/// The most numbers that are really drawn for one request.
pub const MAX_COUNT: u64 = 10_000_000_000;

/// Slots for draws.
#[derive(Clone, Debug)]
pub struct Draws {
    slots: Arc<Semaphore>,
    most: usize,
}

impl Draws {
    /// At most `most` at once.
    pub fn new(most: usize) -> Self {
        Self { slots: Arc::new(Semaphore::new(most)), most }
    }

    /// How many run now.
    pub fn running(&self) -> usize {
        self.most - self.slots.available_permits()
    }

    /// How many may run at once.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Draws, and turns the answer into what is sent, on a thread that may compute.
    ///
    /// Dropping the future stops the draw; its slot is free as soon as it has really ended, so abandoned requests
    /// cannot pile up work.
    ///
    /// # Errors
    /// `Overloaded` when every slot is taken; `InvalidInput` for too many single draws; `Cancelled` after `timeout`.
    pub async fn run<T: Send + 'static>(
        &self,
        request: HistogramRequest,
        size: (u64, Method),
        timeout: Duration,
        render: impl FnOnce(&Histogram) -> T + Send + 'static,
    ) -> Result<T> {
        let (count, method) = size;
        if method == Method::Draw && count > MAX_COUNT {
            return Err(Error::invalid("too many single draws; method multinomial gives the same distribution")
                .with("count", count)
                .with("most", MAX_COUNT));
        }
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            return Err(Error::new(ErrorKind::Overloaded, "as many draws as processors run already; retry later")
                .with("running", self.most));
        };
        let control = Control::new();
        let _stop_when_dropped = control.cancel_on_drop();
        let request = request.count(count).method(method).control(&control);
        let work = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            histogram(&request).map(|answer| render(&answer))
        });
        match tokio::time::timeout(timeout, work).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Err(Error::new(ErrorKind::Internal, "a draw did not end well").caused_by(error)),
            Err(_) => Err(Error::new(ErrorKind::Cancelled, "the draw took too long and was stopped")),
        }
    }
}
