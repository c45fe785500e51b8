//! A process that asks the owner: its calls, their deadlines, and what becomes of them when the owner changes.
//!
//! Locks here are those of the standard library: a forked child may use this code, and must not meet a lock table
//! that was copied while another thread of its parent held it.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use event_listener::Event;

use crate::env::fork;
use crate::error::{Error, ErrorKind, Result};
use crate::executor::{CallOptions, Change, Executor, FeedStart, Info, Pending, id_text};
use crate::operation::{Answer, Operation};
use crate::store::session::SessionCall;

use super::Setting;
use super::awaiting::{Answering, Waiting};
use super::calls::{Awaited, Calls, Kind, Outcome, UnderWay};
use super::link::Link;
use super::owner::Owner;
use super::protocol::{self, MAX_REQUEST_BYTES, Request};
use super::reading::Turn;
use super::role;
use super::wire::Reader;

/// How often calls are looked through for those past their deadline.
pub const TICK: Duration = Duration::from_millis(50);
/// No call gives up sooner: two processes need a moment.
const MIN_PATIENCE_MS: u64 = 250;
/// Bytes that an owner may leave untaken before further calls wait.
const MAX_UNSENT: usize = 4 << 20;
/// A check reads the whole directory.
const CHECK_PATIENCE: Duration = Duration::from_secs(15 * 60);
/// A longer deadline is as good as this one; a call that is repeated later could not be told from a new one.
const MAX_PATIENCE_MS: u64 = 3_600 * 1_000;

/// One client of an owner; becomes the owner itself when that one dies or closes.
pub struct Client {
    pub setting: Setting,
    /// Whether this process may become the owner.
    pub may_own: bool,
    /// Which process of a line of forks its threads live in.
    generation: u64,
    /// Set once this process owns the data.
    pub owner: OnceLock<Arc<Owner>>,
    state: Mutex<State>,
    /// Rings when calls end, the role changes, or the end is asked for.
    pub changed: Condvar,
    /// Wakes the thread that looks after deadlines.
    pub tick: Condvar,
    /// Wakes the client's thread to read answers.
    pub reading: Condvar,
    /// Rings when a call that waits for room should look again.
    pub room: Event,
}

/// How far its end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Open,
    /// No new calls.
    Closing,
    /// No calls at all.
    Ended,
}

/// What its threads and callers share.
pub struct State {
    pub calls: Calls,
    pub link: Option<Arc<Link>>,
    /// Which database this is; none before the first owner said so.
    pub database: Option<[u8; 16]>,
    pub owner_pid: Option<u32>,
    /// Why there is no owner, as far as this process knows.
    pub problem: Option<Error>,
    pub stage: Stage,
    /// Threads of this client that have not ended.
    pub threads: usize,
    /// Whose turn it is to read answers.
    pub turn: Turn,
    /// Callers who wait for room.
    pub waiting: usize,
    /// The thread that looks after deadlines does so by itself.
    pub ticking: bool,
    /// The owner did not take everything at once.
    pub unsent: bool,
}

impl State {
    /// Whether no call is answered any more.
    pub fn has_ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    /// Whether the client's own thread has to read, because nobody else may come to do it.
    pub fn wants_reading(&self) -> bool {
        self.calls.any_awaited() || self.waiting > 0 || self.stage != Stage::Open
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("directory", &self.setting.directory).finish_non_exhaustive()
    }
}

/// When the frame of a call goes out.
#[derive(Clone, Copy)]
enum Sent {
    Now,
    /// When somebody wants its answer, or that of an other call: together with what came meanwhile.
    WhenWanted,
}

/// What became of a call that came in.
enum Taken {
    In(Waiting),
    /// Here is its frame back.
    Full(Vec<u8>),
    /// This process owns the data by now.
    Here(Arc<Owner>),
    Failed(Error),
}

/// A caller who waits for room.
struct Counted(Arc<Client>);

impl Drop for Counted {
    fn drop(&mut self) {
        // A lock may be held by nobody in a forked child.
        if !self.0.is_inherited() {
            self.0.state().waiting -= 1;
        }
    }
}

impl Client {
    /// A client whose threads start; it looks for the owner where `found` is none.
    ///
    /// # Errors
    /// `Unavailable` when the system gives no threads.
    pub fn start(setting: Setting, may_own: bool, found: Option<role::Found>) -> Result<Arc<Self>> {
        let client = Self::new(setting, may_own);
        client.spawn("kappa-deadlines", |client| client.look_after_deadlines())?;
        client.spawn("kappa-client", move |client| role::play(client, found))?;
        Ok(client)
    }

    /// A client without its threads.
    pub fn new(setting: Setting, may_own: bool) -> Arc<Self> {
        let state = State {
            calls: Calls::new(setting.options.intake_bytes),
            link: None,
            database: None,
            owner_pid: None,
            problem: None,
            stage: Stage::Open,
            threads: 0,
            turn: Turn::default(),
            waiting: 0,
            ticking: false,
            unsent: false,
        };
        Arc::new(Self {
            setting,
            may_own,
            generation: fork::generation(),
            owner: OnceLock::new(),
            state: Mutex::new(state),
            changed: Condvar::new(),
            tick: Condvar::new(),
            reading: Condvar::new(),
            room: Event::new(),
        })
    }

    fn spawn(self: &Arc<Self>, name: &str, work: impl FnOnce(&Arc<Self>) + Send + 'static) -> Result<()> {
        struct Running(Arc<Client>);
        impl Drop for Running {
            fn drop(&mut self) {
                self.0.state().threads -= 1;
                self.0.changed.notify_all();
            }
        }
        self.state().threads += 1;
        let running = Running(Arc::clone(self));
        let spawned = std::thread::Builder::new().name(name.into()).spawn(move || work(&running.0));
        spawned.map(drop).map_err(|error| {
            self.end();
            Error::new(ErrorKind::Unavailable, "the system gave no thread").caused_by(error)
        })
    }

    /// Whether this is the copy in a forked child, where no thread answers and a lock may be held by nobody.
    pub fn is_inherited(&self) -> bool {
        self.generation != fork::generation()
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time since boot, in milliseconds.
    pub fn boot_ms(&self) -> u64 {
        self.setting.env.clock.boot_ms()
    }

    /// A read or a write.
    pub fn submit(self: &Arc<Self>, operation: Operation, options: CallOptions) -> Pending<Answer> {
        let patience = options.deadline.unwrap_or(self.setting.options.deadline);
        let mut frame = Vec::with_capacity(128);
        let kind = if operation.is_read() {
            protocol::put_read(&mut frame, 0, &operation);
            Kind::Read
        } else {
            // What the owner is told to wait for room ends before this process gives up, so that its refusal arrives.
            let wait = patience.mul_f32(0.75);
            let session = SessionCall { session: [0; 16], slot: 0, number: 0 };
            protocol::put_write(&mut frame, &session, wait, options.idempotency_key.as_deref(), &operation);
            Kind::Write { slot: 0 }
        };
        if frame.len() > MAX_REQUEST_BYTES {
            let error = Error::new(ErrorKind::TooLarge, "one operation says more than its limit; split it");
            return Pending::ready(Err(error.with("limit", MAX_REQUEST_BYTES)));
        }
        let until = self.until(patience);
        match self.take_in(kind, frame, Some(until), Sent::WhenWanted) {
            Taken::In(waiting) => Pending::coming(Answering(waiting)),
            Taken::Here(owner) => owner.local.submit(operation, options),
            Taken::Failed(error) => Pending::ready(Err(error)),
            Taken::Full(frame) => {
                let client = Arc::clone(self);
                Pending::new(async move {
                    match client.wait_for_room(kind, frame, until).await {
                        Taken::In(waiting) => answer(waiting.await),
                        Taken::Here(owner) => owner.local.submit(operation, options).await,
                        Taken::Failed(error) => Err(error),
                        Taken::Full(_) => Err(full()),
                    }
                })
            }
        }
    }

    fn until(&self, patience: Duration) -> u64 {
        let patience = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        self.boot_ms() + patience.clamp(MIN_PATIENCE_MS, MAX_PATIENCE_MS)
    }

    /// Numbers the call, notes it, and sends it where there is somebody to send it to.
    fn take_in(self: &Arc<Self>, mut kind: Kind, mut frame: Vec<u8>, until: Option<u64>, sent: Sent) -> Taken {
        if self.is_inherited() {
            return Taken::Failed(inherited());
        }
        let (reply, receiver) = oneshot::channel();
        let mut state = self.state();
        if let Some(owner) = self.owner.get() {
            return Taken::Here(Arc::clone(owner));
        }
        if state.stage != Stage::Open {
            return Taken::Failed(closed());
        }
        // A stopped owner takes nothing, and calls that were given up meanwhile stay in what is to be sent.
        let clogged = state.link.as_ref().is_some_and(|link| link.is_clogged(MAX_UNSENT));
        state.unsent |= clogged;
        if clogged || !state.calls.has_room(matches!(kind, Kind::Changes | Kind::Committed), frame.len()) {
            // Room comes with the answers of those before, also while nobody asks for them.
            self.call_reader_once(&mut state);
            return Taken::Full(frame);
        }
        let number = state.calls.next_number();
        if let Kind::Write { slot } = &mut kind {
            let Some(session) = state.calls.session(self.boot_ms(), || self.chance()) else {
                return Taken::Full(frame);
            };
            *slot = state.calls.take_slot();
            protocol::set_session(&mut frame, &SessionCall { session, slot: *slot, number });
        }
        protocol::set_number(&mut frame, number);
        let frame = Bytes::from(frame);
        let link = state.link.clone();
        let (reply, copy) = (Some(reply), frame.clone());
        let awaited = Awaited::NotYet;
        state.calls.add(UnderWay { kind, frame: copy, reply, until, sent: link.is_some(), repeated: false, awaited });
        let wake = until.is_some() && !state.ticking;
        drop(state);
        if wake {
            self.tick.notify_all();
        }
        let more = link.as_ref().is_some_and(|link| match sent {
            Sent::Now => link.send(&frame),
            Sent::WhenWanted => link.hold(&frame) && link.push(),
        });
        if more {
            self.flush_later();
        }
        Taken::In(Waiting::new(receiver, Arc::clone(self), number, link))
    }

    pub fn chance(&self) -> [u8; 8] {
        let mut chance = [0; 8];
        self.setting.env.entropy.fill(&mut chance);
        chance
    }

    /// Lets the other thread send what the owner did not take at once.
    pub fn flush_later(&self) {
        self.state().unsent = true;
        self.tick.notify_all();
    }

    /// Counts a caller who waits for room, until the guard is dropped.
    fn count(self: &Arc<Self>) -> Counted {
        if self.is_inherited() {
            return Counted(Arc::clone(self));
        }
        let mut state = self.state();
        state.waiting += 1;
        // Room comes with the answers of those before, for which perhaps nobody has asked.
        self.call_reader(&mut state);
        drop(state);
        self.tick.notify_all();
        Counted(Arc::clone(self))
    }

    async fn wait_for_room(self: Arc<Self>, kind: Kind, frame: Vec<u8>, until: u64) -> Taken {
        let _counted = self.count();
        let mut frame = frame;
        loop {
            let listener = self.room.listen();
            match self.take_in(kind, frame, Some(until), Sent::Now) {
                Taken::Full(refused) => frame = refused,
                other => return other,
            }
            if self.boot_ms() >= until {
                let state = self.state();
                let alone = state.link.is_none();
                return if alone { Taken::Failed(self.nobody(&state)) } else { Taken::Full(frame) };
            }
            listener.await;
        }
    }

    /// A call that is neither read nor write. It is sent before this returns, where there is room.
    fn ask(self: &Arc<Self>, request: &Request, patience: Duration) -> Pending<Asked> {
        let mut frame = Vec::new();
        request.put(&mut frame, 0);
        let until = self.until(patience);
        let client = Arc::clone(self);
        let taken = self.take_in(Kind::Read, frame, Some(until), Sent::Now);
        Pending::new(async move {
            let taken = match taken {
                Taken::Full(frame) => Arc::clone(&client).wait_for_room(Kind::Read, frame, until).await,
                other => other,
            };
            match taken {
                Taken::In(waiting) => match waiting.await {
                    Outcome::Answered(body) => Ok(Asked::There(Reader::new(body))),
                    Outcome::Failed(error) => Err(error),
                    Outcome::Moved => client.owner.get().map(|owner| Asked::Here(Arc::clone(owner))).ok_or_else(closed),
                },
                Taken::Here(owner) => Ok(Asked::Here(owner)),
                Taken::Failed(error) => Err(error),
                Taken::Full(_) => Err(full()),
            }
        })
    }

    /// As [`Executor::seek`].
    pub fn seek(self: &Arc<Self>, start: FeedStart) -> Pending<String> {
        self.ask(&Request::Seek(start.clone()), self.setting.options.deadline).map(|asked| match asked {
            Asked::There(mut reader) => reader.text(),
            // What this process owns is at hand.
            Asked::Here(owner) => owner.local.place_of(start),
        })
    }

    /// As [`Executor::changes_now`].
    pub fn changes_now(self: &Arc<Self>, cursor: &str) -> Result<(Vec<Change>, String)> {
        match self.ask(&Request::ChangesNow(cursor.to_owned()), self.setting.options.deadline).wait()? {
            Asked::There(mut reader) => reader.changes(),
            Asked::Here(owner) => owner.local.changes_now(cursor),
        }
    }

    /// As [`Executor::ready`].
    pub fn ready(self: &Arc<Self>) -> Result<()> {
        match self.ask(&Request::Ready, self.setting.options.deadline).wait()? {
            Asked::There(reader) => reader.end(),
            Asked::Here(owner) => owner.local.ready(),
        }
    }

    /// As [`Executor::info`].
    pub fn info(self: &Arc<Self>) -> Result<Info> {
        match self.ask(&Request::Info, self.setting.options.deadline).wait()? {
            Asked::There(mut reader) => reader.info(self.state().database.map(id_text).unwrap_or_default()),
            Asked::Here(owner) => owner.local.info(),
        }
    }

    /// As [`Executor::check`].
    pub fn check(self: &Arc<Self>) -> Result<Vec<String>> {
        match self.ask(&Request::Check, CHECK_PATIENCE).wait()? {
            Asked::There(mut reader) => reader.texts(),
            Asked::Here(owner) => owner.local.check(),
        }
    }

    /// As [`Executor::changes`]; goes on at whoever owns the data.
    pub fn changes(self: &Arc<Self>, cursor: String) -> Pending<(Vec<Change>, String)> {
        let client = Arc::clone(self);
        Pending::new(async move {
            loop {
                let mut frame = Vec::new();
                Request::Changes(cursor.clone()).put(&mut frame, 0);
                match client.take_in(Kind::Changes, frame, None, Sent::Now) {
                    Taken::In(waiting) => match waiting.await {
                        Outcome::Answered(body) => return Reader::new(body).changes(),
                        Outcome::Failed(error) => return Err(error),
                        Outcome::Moved => {}
                    },
                    Taken::Here(owner) => return owner.local.changes(cursor).await,
                    Taken::Failed(error) => return Err(error),
                    Taken::Full(_) => return Err(full()),
                }
            }
        })
    }

    /// As [`Executor::committed`]; ready also when the owner changes.
    pub fn committed(self: &Arc<Self>) -> Pending<()> {
        let mut frame = Vec::new();
        Request::Committed.put(&mut frame, 0);
        match self.take_in(Kind::Committed, frame, None, Sent::Now) {
            Taken::In(waiting) => Pending::new(async move {
                match waiting.await {
                    Outcome::Failed(error) => Err(error),
                    Outcome::Answered(_) | Outcome::Moved => Ok(()),
                }
            }),
            Taken::Here(owner) => owner.local.committed(),
            Taken::Failed(error) => Pending::ready(Err(error)),
            Taken::Full(_) => Pending::ready(Err(full())),
        }
    }

    /// Nobody waits for the answer. A write is done all the same.
    pub fn give_up(&self, number: u64) {
        if self.is_inherited() {
            return;
        }
        let mut state = self.state();
        let Some(call) = state.calls.get_mut(number) else { return };
        if matches!(call.kind, Kind::Write { .. }) {
            call.reply = None;
            // Its room and its slot are free when its answer was read.
            state.calls.await_answer(number, Awaited::Anyway);
            self.call_reader(&mut state);
            let link = state.link.clone();
            drop(state);
            // It may be held back still.
            if link.is_some_and(|link| link.push()) {
                self.flush_later();
            }
            return;
        }
        let kind = call.kind;
        let dropped = state.calls.remove(number);
        let link = state.link.clone();
        drop(state);
        drop(dropped);
        self.room.notify(usize::MAX);
        if let (Kind::Changes | Kind::Committed, Some(link)) = (kind, link) {
            let mut frame = Vec::new();
            Request::Cancel.put(&mut frame, number);
            if link.send(&frame) {
                self.flush_later();
            }
        }
    }

    /// Lets callers that wait for room look again.
    pub fn ring_for_room(&self) {
        self.room.notify(usize::MAX);
    }

    /// Why nobody answers.
    pub fn nobody(&self, state: &State) -> Error {
        let message = "the process that owns the data directory does not answer";
        let mut error = Error::new(ErrorKind::Unavailable, message);
        if let Some(pid) = state.owner_pid {
            error = error.with("pid", pid);
        }
        error = error.with("directory", self.setting.directory.display());
        match &state.problem {
            Some(problem) => error.caused_by(problem.clone()),
            None => error,
        }
    }

    /// Takes no more calls, waits for those under way up to their deadlines, and ends.
    ///
    /// # Errors
    /// Whatever closing the database answers where this process owns it by now.
    pub fn close(&self) -> Result<()> {
        let mut state = self.state();
        state.stage = state.stage.max(Stage::Closing);
        self.call_reader(&mut state);
        while !state.calls.is_idle() && state.stage != Stage::Ended && self.owner.get().is_none() {
            // Each call has a deadline, so this ends.
            state = self.changed.wait_timeout(state, TICK).map_or_else(|poisoned| poisoned.into_inner().0, |(s, _)| s);
        }
        drop(state);
        self.end();
        let mut state = self.state();
        // A thread that is just opening the database finishes that first, and closes it again.
        while state.threads > 0 && self.owner.get().is_none() {
            state = self.changed.wait_timeout(state, TICK).map_or_else(|poisoned| poisoned.into_inner().0, |(s, _)| s);
        }
        drop(state);
        self.owner.get().map_or(Ok(()), |owner| owner.close())
    }

    /// Ends the threads and every call.
    fn end(&self) {
        let mut state = self.state();
        state.stage = Stage::Ended;
        let left = state.calls.remove_all(|_| true);
        let link = state.link.take();
        drop(state);
        if let Some(link) = link {
            link.end();
        }
        self.tick.notify_all();
        self.reading.notify_all();
        self.changed.notify_all();
        self.room.notify(usize::MAX);
        for call in left {
            let error = call.unanswered(&closed());
            call.end(Outcome::Failed(error));
        }
    }
}

/// Where a question was answered, or is to be asked.
enum Asked {
    There(Reader),
    Here(Arc<Owner>),
}

pub fn answer(outcome: Outcome) -> Result<Answer> {
    match outcome {
        Outcome::Answered(body) => Reader::new(body).answer(),
        Outcome::Failed(error) => Err(error),
        Outcome::Moved => Err(closed()),
    }
}

pub fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the database is closed")
}

pub fn inherited() -> Error {
    let message = "the call began in the process that this one was forked from; begin it again";
    Error::new(ErrorKind::Unavailable, message)
}

fn full() -> Error {
    Error::new(ErrorKind::Overloaded, "too many calls are under way; retry later")
}
