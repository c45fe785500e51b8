//! What keeps a connection from counting as idle.

use tokio::sync::watch;

/// One thing that a connection is busy with: a request from its head to the last byte of its answer, or a write that
/// waits for the client.
#[derive(Debug)]
pub struct Mark(watch::Sender<usize>);

impl Mark {
    /// Counts one more in `busy`, until it is dropped.
    pub fn new(busy: &watch::Sender<usize>) -> Self {
        busy.send_modify(|things| *things += 1);
        Self(busy.clone())
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.0.send_modify(|things| *things -= 1);
    }
}
