//! The deadlines of a client's calls, and the frames that have to go out without anybody asking.

use std::sync::{MutexGuard, PoisonError};

use super::calls::Outcome;
use super::client::{Client, Stage, State, TICK};

/// So long before its deadline an answer is read although nobody has asked for it yet.
const NEARLY_DUE_MS: u64 = 100;

impl Client {
    /// What a thread of the client does as long as that lives: sends what is left, and ends calls past their deadline.
    pub fn look_after_deadlines(&self) {
        let mut state = self.state();
        while state.stage != Stage::Ended && self.owner.get().is_none() {
            if state.unsent {
                state.unsent = false;
                let link = state.link.clone();
                drop(state);
                if link.is_some_and(|link| link.flush(TICK)) {
                    self.state().unsent = true;
                }
                state = self.state();
                state = self.expire(state);
                continue;
            }
            state.ticking = !state.calls.is_idle() || state.waiting > 0;
            let woken = if state.ticking {
                self.tick.wait_timeout(state, TICK).map(|(state, _)| state).map_err(|poisoned| poisoned.into_inner().0)
            } else {
                self.tick.wait(state).map_err(PoisonError::into_inner)
            };
            state = woken.unwrap_or_else(|state| state);
            state.ticking = true;
            let link = state.link.clone();
            drop(state);
            // A call that nobody asked for yet begins all the same.
            let more = link.is_some_and(|link| link.push());
            state = self.state();
            state.unsent |= more;
            state = self.expire(state);
        }
        drop(state);
        self.room.notify(usize::MAX);
    }

    fn expire<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let now = self.boot_ms();
        state.calls.await_due(now + NEARLY_DUE_MS);
        self.call_reader(&mut state);
        let expired = state.calls.remove_all(|call| call.until.is_some_and(|until| until <= now));
        let waiting = state.waiting > 0;
        if expired.is_empty() && !waiting {
            return state;
        }
        let why = self.nobody(&state);
        drop(state);
        for call in expired {
            let error = call.unanswered(&why);
            call.end(Outcome::Failed(error));
        }
        self.room.notify(usize::MAX);
        self.changed.notify_all();
        self.state()
    }
}
