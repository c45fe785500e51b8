//! What a thread waits for that several things may wake.

use std::sync::Arc;
use std::task::Wake;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Rings once for everything that happened since the last wait.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Mutex<bool>,
    ringing: Condvar,
}

impl Bell {
    /// Ends the wait under way, or the next one.
    pub fn ring(&self) {
        *self.rung.lock() = true;
        self.ringing.notify_all();
    }

    /// Waits until it rings, at most `wait`; whether it rang.
    pub fn wait(&self, wait: Duration) -> bool {
        let mut rung = self.rung.lock();
        if !*rung {
            self.ringing.wait_for(&mut rung, wait);
        }
        std::mem::take(&mut *rung)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}
