//! The answer of a call under way: who waits for it, and who reads meanwhile.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::error::Result;
use crate::executor::pending::{Coming, block_on};
use crate::operation::Answer;

use super::calls::Outcome;
use super::client::{Client, answer, closed, inherited};
use super::link::{Heard, LISTEN, Link};
use super::role::{self, Look};

/// A caller's end of a call. Its frame may be held back until somebody wants the answer.
pub struct Waiting {
    receiver: Receiver,
    interest: Interest,
    /// Where the frame went, if anywhere.
    link: Option<Arc<Link>>,
}

enum Receiver {
    Blocking(oneshot::Receiver<Outcome>),
    Polled(oneshot::AsyncReceiver<Outcome>),
    Moving,
}

/// That somebody waits for a call, until it is dropped.
struct Interest {
    client: Arc<Client>,
    number: u64,
    over: bool,
}

impl Drop for Interest {
    fn drop(&mut self) {
        if !self.over {
            self.client.give_up(self.number);
        }
    }
}

impl Waiting {
    pub fn new(
        receiver: oneshot::Receiver<Outcome>,
        client: Arc<Client>,
        number: u64,
        link: Option<Arc<Link>>,
    ) -> Self {
        let interest = Interest { client, number, over: false };
        Self { receiver: Receiver::Blocking(receiver), interest, link }
    }

    /// Sends what is held back.
    fn push(&mut self) {
        if self.link.take().is_some_and(|link| link.push()) {
            self.interest.client.flush_later();
        }
    }

    fn over(&mut self, outcome: Option<Outcome>) -> Outcome {
        self.interest.over = true;
        outcome.unwrap_or_else(|| Outcome::Failed(closed()))
    }

    /// Blocks until the call has ended. Where nobody reads answers this thread does, which saves waking it.
    fn wait(mut self) -> Outcome {
        let client = Arc::clone(&self.interest.client);
        if client.is_inherited() {
            return self.over(Some(Outcome::Failed(inherited())));
        }
        let receiver = match std::mem::replace(&mut self.receiver, Receiver::Moving) {
            Receiver::Blocking(receiver) => receiver,
            polled => {
                self.receiver = polled;
                return block_on(|context| Pin::new(&mut self).poll(context), None).expect("without an end it comes");
            }
        };
        match receiver.try_recv() {
            Ok(outcome) => return self.over(Some(outcome)),
            Err(oneshot::TryRecvError::Disconnected) => return self.over(None),
            Err(oneshot::TryRecvError::Empty) => {}
        }
        self.push();
        let number = self.interest.number;
        if let Some(link) = client.begin_reading(number) {
            let answered = read(&client, &link, &receiver);
            client.end_reading((!answered).then_some(number));
        }
        let outcome = receiver.recv().ok();
        self.over(outcome)
    }
}

/// Who reads answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    Nobody,
    /// The client's own thread.
    Thread,
    /// A caller who blocks on an answer.
    Caller,
}

impl Client {
    /// Notes that the caller of a call relies on others to read its answer.
    pub fn await_answer(&self, number: u64) {
        let mut state = self.state();
        state.calls.await_answer(number);
        if state.reads == Reads::Nobody {
            self.reading.notify_all();
        }
    }

    /// Gives the connection to a caller who blocks on the call, to read answers until [`Client::end_reading`]. None where
    /// somebody else reads, or will.
    pub fn begin_reading(&self, number: u64) -> Option<Arc<Link>> {
        let mut state = self.state();
        if state.reads == Reads::Nobody
            && !state.calls.any_awaited()
            && let Some(link) = state.link.clone()
        {
            state.reads = Reads::Caller;
            return Some(link);
        }
        state.calls.await_answer(number);
        if state.reads == Reads::Nobody {
            self.reading.notify_all();
        }
        None
    }

    /// Others read from here on, also the answer of the call that was `left`.
    pub fn end_reading(&self, left: Option<u64>) {
        let mut state = self.state();
        state.reads = Reads::Nobody;
        state.was_read = true;
        if let Some(left) = left {
            state.calls.await_answer(left);
        }
        if state.calls.any_awaited() {
            self.reading.notify_all();
        }
    }

    /// Waits until reading is for the client's own thread: while there are `answers` for callers who block and can read for
    /// themselves, waking it for each would cost more than the answers. False once the client has ended.
    pub fn take_reading(&self, answers: bool) -> bool {
        let mut state = self.state();
        loop {
            if state.has_ended() {
                return false;
            }
            if state.reads == Reads::Nobody && (!answers || state.calls.any_awaited()) {
                break;
            }
            let (woken, waited) = match self.reading.wait_timeout(state, LISTEN) {
                Ok((state, waited)) => (state, waited),
                Err(poisoned) => poisoned.into_inner(),
            };
            state = woken;
            // Who hears nobody must listen itself, or the end of the owner would not be noticed.
            if waited.timed_out() && !std::mem::take(&mut state.was_read) && state.reads == Reads::Nobody {
                break;
            }
        }
        state.reads = Reads::Thread;
        true
    }

    /// Ends what [`Client::take_reading`] began.
    pub fn leave_reading(&self) {
        self.state().reads = Reads::Nobody;
    }
}

/// Reads answers, also of others, until this one is there; false when somebody else has to go on, because the connection
/// is over or silent.
fn read(client: &Client, link: &Link, receiver: &oneshot::Receiver<Outcome>) -> bool {
    let mut inbox = link.inbox();
    while !receiver.has_message() {
        let heard = link.receive(&mut inbox);
        let problem = match heard {
            Ok(Heard::Frames(frames)) => role::hand_out(client, frames).err(),
            Ok(Heard::Silence | Heard::End) => return receiver.has_message(),
            Err(error) => Some(error),
        };
        if let Some(problem) = problem {
            client.note(problem);
            link.end();
            return receiver.has_message();
        }
    }
    true
}

impl Future for Waiting {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        if self.interest.client.is_inherited() {
            return Poll::Ready(self.over(Some(Outcome::Failed(inherited()))));
        }
        let first = matches!(self.receiver, Receiver::Blocking(_));
        self.receiver = match std::mem::replace(&mut self.receiver, Receiver::Moving) {
            Receiver::Blocking(receiver) => Receiver::Polled(receiver.into_future()),
            polled => polled,
        };
        let Receiver::Polled(receiver) = &mut self.receiver else { unreachable!("it was just turned into one") };
        let polled = Pin::new(receiver).poll(context);
        match polled {
            Poll::Ready(outcome) => Poll::Ready(self.over(outcome.ok())),
            Poll::Pending => {
                if first {
                    self.interest.client.await_answer(self.interest.number);
                }
                self.push();
                Poll::Pending
            }
        }
    }
}

/// The answer of a read or a write.
pub struct Answering(pub Waiting);

impl Coming<Answer> for Answering {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Answer>> {
        Pin::new(&mut self.0).poll(context).map(answer)
    }

    fn wait(mut self: Box<Self>, until: Option<Instant>) -> Option<Result<Answer>> {
        match until {
            None => Some(answer(self.0.wait())),
            Some(_) => block_on(|context| self.poll(context), until),
        }
    }
}
