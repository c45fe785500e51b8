//! Who reads a client's answers: its own thread, or a caller who blocks on one of them.

use std::sync::{Arc, PoisonError};

use crate::error::Result;

use super::calls::Awaited;
use super::client::{Client, State};
use super::link::{Heard, LISTEN, Link};
use super::role;

/// Whose turn it is to read answers.
#[derive(Debug, Default)]
pub struct Turn {
    /// Somebody reads, see [`Reading`].
    pub is_read: bool,
    /// A caller has read since the client's thread looked last.
    pub was_read: bool,
    /// The client's thread waits until it has to read, and was not woken for that yet.
    pub sleeps: bool,
}

/// The right to read answers, of one at a time. Given back when it is dropped, also by a panic: otherwise nobody would read
/// any more.
pub struct Reading<'a> {
    client: &'a Client,
    link: Arc<Link>,
    /// The call of the caller who reads; none for the client's own thread.
    number: Option<u64>,
    /// Everything that was read is with its callers.
    whole: bool,
}

/// What came of listening.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// Answers, which are with their callers now. `callers_read`: they were for callers who block and can read the next ones
    /// for themselves.
    Answers {
        /// See above.
        callers_read: bool,
    },
    /// Nothing for a while.
    Silence,
    /// The connection is over.
    End,
}

impl Reading<'_> {
    /// Waits for what the owner sends next and gives it to those who wait for it.
    ///
    /// # Errors
    /// What the owner says who lets this client go; when it sends what is no answer. The connection is of no use then.
    pub fn listen(&mut self) -> Result<Told> {
        self.whole = false;
        let heard = self.link.receive(&mut self.link.inbox())?;
        let told = match heard {
            Heard::Frames(frames) => Told::Answers { callers_read: role::hand_out(self.client, frames)? },
            Heard::Silence => Told::Silence,
            Heard::End => Told::End,
        };
        self.whole = true;
        Ok(told)
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if self.client.is_inherited() {
            return;
        }
        if !self.whole {
            // What was read and not handed out is lost: over another connection it is asked for again.
            self.link.end();
        }
        let mut state = self.client.state();
        state.turn.is_read = false;
        if let Some(number) = self.number {
            state.turn.was_read = true;
            // Where its answer is not there, somebody else has to go on.
            state.calls.await_answer(number, Awaited::Blocking);
        }
        self.client.call_reader(&mut state);
    }
}

impl Client {
    /// Notes that the answer of a call has to be read by somebody else than its caller.
    pub fn await_answer(&self, number: u64, by: Awaited) {
        let mut state = self.state();
        state.calls.await_answer(number, by);
        self.call_reader(&mut state);
    }

    /// Wakes the client's thread where it has to read.
    pub fn call_reader(&self, state: &mut State) {
        if state.wants_reading() {
            self.call_reader_once(state);
        }
    }

    /// Wakes the client's thread to read what is there.
    pub fn call_reader_once(&self, state: &mut State) {
        // Waking costs a call of the system also where nobody sleeps.
        if state.turn.sleeps && !state.turn.is_read {
            state.turn.sleeps = false;
            self.reading.notify_all();
        }
    }

    /// Has a caller who blocks on the call read answers. None where somebody else reads or will, and where its answer is
    /// there or on its way already: who read for it then would sleep beside it.
    pub fn begin_reading(&self, number: u64) -> Option<Reading<'_>> {
        let mut state = self.state();
        if !state.calls.contains(number) {
            return None;
        }
        if !state.turn.is_read
            && !state.wants_reading()
            && let Some(link) = state.link.clone()
        {
            state.turn.is_read = true;
            return Some(Reading { client: self, link, number: Some(number), whole: true });
        }
        state.calls.await_answer(number, Awaited::Blocking);
        self.call_reader(&mut state);
        None
    }

    /// Waits until reading is for the client's own thread: while `callers_read` for themselves, waking it for each answer would
    /// cost more than the answers. None once the client has ended.
    pub fn take_reading(&self, link: &Arc<Link>, callers_read: bool) -> Option<Reading<'_>> {
        let mut state = self.state();
        let mut look = !callers_read;
        loop {
            if state.has_ended() {
                return None;
            }
            if !state.turn.is_read && (look || state.wants_reading()) {
                state.turn.is_read = true;
                return Some(Reading { client: self, link: Arc::clone(link), number: None, whole: true });
            }
            state.turn.sleeps = true;
            let (woken, _) = self.reading.wait_timeout(state, LISTEN).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            let called = !std::mem::replace(&mut state.turn.sleeps, false);
            // Who hears nobody must listen itself, or the end of the owner would not be noticed, and answers that nobody asks
            // for would be in the way of others.
            look = called || (!state.turn.is_read && !std::mem::take(&mut state.turn.was_read));
        }
    }
}
