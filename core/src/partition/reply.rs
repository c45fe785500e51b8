//! The way of an answer to its caller, and the bell that wakes the callers of a batch together.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Wakes everybody who blocks on it, with one call of the system: one a caller costs more than the rest of a small
/// operation, and each may take the processor from the thread that wakes.
#[derive(Debug, Default)]
pub struct Bell {
    /// How many wait. Of the standard library, whose condition variable wakes all of them at once.
    waiting: Mutex<usize>,
    rung: Condvar,
}

impl Bell {
    /// Blocks until `ready` gives something, which is asked at first and after each ring; none when that takes longer
    /// than `until`.
    #[expect(clippy::disallowed_methods, reason = "a caller's patience is measured on the caller's thread")]
    pub fn wait<T>(&self, until: Option<Instant>, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
        let mut waiting = self.lock();
        loop {
            // Under the lock, which who answers takes behind the answer: otherwise a ring between this look and the
            // wait would be missed.
            if let Some(ready) = ready() {
                return Some(ready);
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return None;
            }
            *waiting += 1;
            waiting = match left {
                None => self.rung.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                Some(left) => self.rung.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0,
            };
            *waiting -= 1;
        }
    }

    /// Has those who wait look again.
    pub fn ring(&self) {
        let waiting = *self.lock();
        if waiting > 0 {
            self.rung.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One caller's end of an answer. Dropping it tells the caller that none will come.
#[derive(Debug)]
pub struct Reply<T> {
    sender: Option<oneshot::Sender<T>>,
    /// Where the caller blocks, if it does; the same for all that are run together.
    bell: Option<Arc<Bell>>,
}

impl<T> Reply<T> {
    /// The reply through `sender`.
    pub fn new(sender: oneshot::Sender<T>) -> Self {
        Self { sender: Some(sender), bell: None }
    }

    /// The caller will block on `bell`.
    pub fn by(&mut self, bell: Arc<Bell>) {
        self.bell = Some(bell);
    }

    /// Gives the answer to a caller, who may have left; whoever blocks learns of it when the bell is rung.
    #[must_use = "the caller sleeps until its bell is rung"]
    pub fn give(mut self, answer: T) -> Option<Arc<Bell>> {
        if let Some(sender) = self.sender.take() {
            // A write stands also when nobody waits for its answer.
            let _ = sender.send(answer);
        }
        self.bell.take()
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take() {
            drop(sender);
            if let Some(bell) = &self.bell {
                bell.ring();
            }
        }
    }
}

/// Gives all answers, then rings each bell once.
pub fn give_all<T>(answers: impl Iterator<Item = (Reply<T>, T)>) {
    let mut bells: Vec<Arc<Bell>> = Vec::new();
    for (reply, answer) in answers {
        // Those of one batch come one after another.
        let new = |bell: &Arc<Bell>| bells.last().is_none_or(|last| !Arc::ptr_eq(last, bell));
        let bell = reply.give(answer).filter(new);
        bells.extend(bell);
    }
    for bell in bells {
        bell.ring();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A caller who is not woken, or whose answer comes between its look and its sleep, would hang for ever.
    #[test]
    fn every_caller_of_a_batch_gets_its_answer_whenever_it_begins_to_wait() {
        for round in 0..200_usize {
            let bell = Arc::new(Bell::default());
            let (replies, receivers): (Vec<_>, Vec<_>) = (0..8)
                .map(|number| {
                    let (sender, receiver) = oneshot::channel();
                    let mut reply = Reply::new(sender);
                    reply.by(Arc::clone(&bell));
                    ((reply, number), receiver)
                })
                .unzip();
            std::thread::scope(|scope| {
                let callers: Vec<_> = receivers
                    .into_iter()
                    .map(|receiver| scope.spawn(|| bell.wait(None, move || receiver.try_recv().ok())))
                    .collect();
                // Sometimes before all of them sleep, sometimes behind.
                while round % 2 == 0 && *bell.lock() < 8 {
                    std::thread::yield_now();
                }
                give_all(replies.into_iter());
                let answers: Vec<_> = callers.into_iter().map(|caller| caller.join().expect("no panic")).collect();
                assert_eq!(answers, (0..8).map(Some).collect::<Vec<_>>());
            });
        }
    }

    /// A committer that panics drops what it had: its callers must not wait for it.
    #[test]
    fn a_reply_that_is_dropped_wakes_its_caller() {
        let (sender, receiver) = oneshot::channel::<()>();
        let bell = Arc::new(Bell::default());
        let mut reply = Reply::new(sender);
        reply.by(Arc::clone(&bell));
        std::thread::scope(|scope| {
            let caller = scope.spawn(|| {
                let is_over = move || receiver.try_recv() == Err(oneshot::TryRecvError::Disconnected);
                bell.wait(None, || is_over().then_some("nobody answers"))
            });
            while *bell.lock() == 0 {
                std::thread::yield_now();
            }
            drop(reply);
            assert_eq!(caller.join().expect("no panic"), Some("nobody answers"));
        });
    }

    #[test]
    fn patience_ends() {
        let bell = Bell::default();
        #[expect(clippy::disallowed_methods, reason = "the end lies in the caller's time")]
        let until = Instant::now() + Duration::from_millis(1);
        assert_eq!(bell.wait(Some(until), || None::<()>), None);
        assert_eq!(*bell.lock(), 0);
    }
}
