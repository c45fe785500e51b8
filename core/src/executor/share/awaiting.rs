//! The answer of a call under way, as its caller waits for it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::error::Result;
use crate::executor::pending::{Coming, block_on};
use crate::operation::Answer;

use super::calls::{Awaited, Outcome};
use super::client::{Client, answer, closed, inherited};
use super::link::Link;
use super::reading::Told;
use super::role::Look;

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
        read(&client, self.interest.number, &receiver);
        let outcome = receiver.recv().ok();
        self.over(outcome)
    }
}

/// Reads answers, also of others, until this one is there; or leaves it to somebody else, at once or because the connection
/// is over or silent.
fn read(client: &Client, number: u64, receiver: &oneshot::Receiver<Outcome>) {
    let Some(mut reading) = client.begin_reading(number) else { return };
    while !receiver.has_message() {
        match reading.listen() {
            Ok(Told::Answers { .. }) => {}
            Ok(Told::Silence | Told::End) => return,
            Err(problem) => {
                client.note(problem);
                return;
            }
        }
    }
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
                    self.interest.client.await_answer(self.interest.number, Awaited::Polling);
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
