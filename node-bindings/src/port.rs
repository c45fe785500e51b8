//! Where the answers of one JavaScript environment arrive: the main thread's, or that of one worker.
//!
//! A call is a future with a number. It is polled on the environment's own thread: when it starts, and whenever it was
//! woken. Whoever wakes it (the committer, a reader) only puts it into the queue of its port and rings; one turn of the
//! event loop hands over what has gathered by then, as one JSON text. What is left, and what comes meanwhile, is for the
//! next turn: answers that bring forth new calls would keep the loop from everything else otherwise.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::fmt::Write;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, Wake, Waker};

use kappa_core::{Error, ErrorKind, Result};
use napi::bindgen_prelude::{External, Function, ToNapiValue};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, JsValue, Status};
use napi_derive::napi;
use parking_lot::Mutex;

use crate::answer::{Json, Text, quoted};
use crate::database::{Handle, close_all};
use crate::error;
use crate::guard::{caught, export, panic_if_armed};

/// The number by which JavaScript knows a call.
pub type Slot = i64;
/// Answers of this length are handed over before more are gathered,
const HAND_OVER_BYTES: usize = 64 << 10;
/// and so many of any length: what their callers do with them is part of the turn, too.
const HAND_OVER_CALLS: usize = 64;

type Running = Pin<Box<dyn Future<Output = Answers> + Send>>;
type Bell = ThreadsafeFunction<(), (), JsText, Status, false, true>;

/// One environment's door.
#[derive(Default)]
pub struct Port {
    /// Set once, before any call can be made.
    bell: OnceLock<Bell>,
    /// Calls to be polled again.
    woken: Mutex<Woken>,
    /// Calls under way, so that they can be cancelled.
    calls: Mutex<HashMap<Slot, Arc<Call>>>,
    /// What calls made besides their text, until JavaScript takes it.
    made: Mutex<HashMap<Slot, Box<dyn Any + Send>>>,
    /// Databases that this environment opened.
    handles: Mutex<Vec<Weak<Handle>>>,
    ended: AtomicBool,
}

#[derive(Default)]
struct Woken {
    calls: VecDeque<Arc<Call>>,
    /// Whether a turn of the event loop is on its way to them. It is until a turn finds none.
    expected: bool,
}

/// What a call gives.
enum Answers {
    /// The answer of the one call; an error is that of all calls that were made together.
    One(Result<Text>),
    /// One for each of the calls that were made together.
    Each(Vec<Result<Text>>),
}

struct Call {
    slot: Slot,
    /// So many calls were made together, numbered from `slot` on.
    count: usize,
    /// Its export.
    name: &'static str,
    port: Weak<Port>,
    running: Mutex<Option<Running>>,
    queued: AtomicBool,
}

impl Port {
    /// Starts the call `slot`. An answer that is there at once is returned instead of being handed over later.
    pub fn start(
        self: &Arc<Self>,
        slot: Slot,
        name: &'static str,
        future: impl Future<Output = Result<Text>> + Send + 'static,
    ) -> Option<String> {
        let mut text = String::new();
        self.begin(&mut text, slot, name, future);
        closed(text)
    }

    /// As [`Self::start`]; an answer that is there at once goes to the end of `text`, which [`closed`] ends.
    pub fn begin(
        self: &Arc<Self>,
        text: &mut String,
        slot: Slot,
        name: &'static str,
        future: impl Future<Output = Result<Text>> + Send + 'static,
    ) {
        self.run(text, (slot, 1), name, async move { Answers::One(future.await) });
    }

    /// As [`Self::begin`], for so many calls, numbered from `first` on, that are made together.
    pub fn begin_all(
        self: &Arc<Self>,
        text: &mut String,
        (first, count): (Slot, usize),
        name: &'static str,
        future: impl Future<Output = Result<Vec<Result<Text>>>> + Send + 'static,
    ) {
        let answers = async move { future.await.map_or_else(|error| Answers::One(Err(error)), Answers::Each) };
        self.run(text, (first, count), name, answers);
    }

    fn run(
        self: &Arc<Self>,
        text: &mut String,
        (slot, count): (Slot, usize),
        name: &'static str,
        future: impl Future<Output = Answers> + Send + 'static,
    ) {
        let running: Option<Running> = Some(Box::pin(future));
        let call = Call {
            slot,
            count,
            name,
            port: Arc::downgrade(self),
            running: Mutex::new(running),
            queued: AtomicBool::new(false),
        };
        let call = Arc::new(call);
        match call.poll() {
            Some(answers) => write_answers(text, &call, answers),
            None => drop(self.calls.lock().insert(slot, call)),
        }
    }

    /// Notes a database that must be closed before this environment ends.
    pub fn note(&self, handle: &Arc<Handle>) {
        let mut handles = self.handles.lock();
        handles.retain(|handle| handle.strong_count() > 0);
        handles.push(Arc::downgrade(handle));
    }

    /// Keeps what the call `slot` made until JavaScript takes it.
    pub fn keep<T: Send + 'static>(&self, slot: Slot, made: T) {
        self.made.lock().insert(slot, Box::new(made));
    }

    /// What the call `slot` made.
    ///
    /// # Errors
    /// `Internal` when it made nothing of this kind, or it was taken already.
    pub fn take<T: Send + 'static>(&self, slot: Slot) -> Result<T> {
        let made = self.made.lock().remove(&slot).and_then(|made| made.downcast::<T>().ok());
        made.map(|made| *made).ok_or_else(|| Error::new(ErrorKind::Internal, "the call made nothing that is left"))
    }

    fn wake(&self, call: Arc<Call>) {
        if self.ended.load(Ordering::Acquire) {
            return;
        }
        let mut woken = self.woken.lock();
        woken.calls.push_back(call);
        let expected = std::mem::replace(&mut woken.expected, true);
        drop(woken);
        if !expected {
            // An environment that has ended takes no more answers; there is nobody left to tell.
            let _ = self.bell.get().map(|bell| bell.call((), ThreadsafeFunctionCallMode::NonBlocking));
        }
    }

    fn cancel(&self, slot: Slot) -> bool {
        let call = self.calls.lock().remove(&slot);
        let running = call.and_then(|call| call.running.lock().take());
        let made = self.made.lock().remove(&slot);
        running.is_some() || made.is_some()
    }

    /// Gives up every call and closes every database of this environment.
    fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.woken.lock().calls.clear();
        let handles: Vec<_> = self.handles.lock().drain(..).filter_map(|handle| handle.upgrade()).collect();
        close_all(handles);
        let calls = std::mem::take(&mut *self.calls.lock());
        drop(calls);
        let made = std::mem::take(&mut *self.made.lock());
        drop(made);
    }

    /// Answers that have arrived, as `[slot, kind, answer, ..]`, and empty where calls got on without an answer. None
    /// when there was nothing to do; otherwise the next turn has to ask again.
    fn gather(&self) -> Option<String> {
        let mut text = String::new();
        for gathered in 0..HAND_OVER_CALLS {
            let mut woken = self.woken.lock();
            let Some(call) = woken.calls.pop_front() else {
                if gathered == 0 {
                    // Whoever wakes a call from here on rings again.
                    woken.expected = false;
                    return None;
                }
                break;
            };
            drop(woken);
            let Some(answers) = call.poll() else { continue };
            self.calls.lock().remove(&call.slot);
            write_answers(&mut text, &call, answers);
            if text.len() >= HAND_OVER_BYTES {
                break;
            }
        }
        Some(closed(text).unwrap_or_default())
    }
}

impl Call {
    /// Its answer, once there is one. A call that was cancelled has none.
    fn poll(self: &Arc<Self>) -> Option<Answers> {
        self.queued.store(false, Ordering::Release);
        let mut running = self.running.lock();
        let future = running.as_mut()?;
        let waker = Waker::from(Arc::clone(self));
        let mut context = Context::from_waker(&waker);
        let polled = caught(self.name, || {
            panic_if_armed(self.name, ":answer");
            Ok(future.as_mut().poll(&mut context))
        });
        let answers = match polled {
            Ok(Poll::Pending) => return None,
            Ok(Poll::Ready(answers)) => answers,
            Err(error) => Answers::One(Err(error)),
        };
        let finished = running.take();
        drop(running);
        drop(finished);
        Some(answers)
    }
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        if let Some(port) = self.port.upgrade()
            && !self.queued.swap(true, Ordering::AcqRel)
        {
            port.wake(self);
        }
    }
}

fn write_answers(text: &mut String, call: &Call, answers: Answers) {
    let named = |error: Error| error.during(call.name);
    match answers {
        Answers::One(Err(error)) => {
            let error = named(error);
            for slot in (call.slot..).take(call.count) {
                write_answer(text, slot, &Err(error.clone()));
            }
        }
        Answers::One(answer) => write_answer(text, call.slot, &answer),
        Answers::Each(answers) => {
            for (slot, answer) in (call.slot..).zip(answers) {
                write_answer(text, slot, &answer.map_err(named));
            }
        }
    }
}

fn write_answer(text: &mut String, slot: Slot, answer: &Result<Text>) {
    let open = if text.is_empty() { '[' } else { ',' };
    let written = match answer {
        Ok(Text { json, exact: true }) => write!(text, "{open}{slot},0,{}", json.as_str()),
        Ok(Text { json, exact: false }) => write!(text, "{open}{slot},2,{}", quoted(json.as_str())),
        Err(error) => write!(text, "{open}{slot},1,{}", error::to_json(error)),
    };
    written.expect("a string takes all text");
}

/// The text of answers with its end; none where no answer was written.
pub fn closed(mut text: String) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    text.push(']');
    Some(text)
}

/// A string on its way into JavaScript.
pub struct JsText(Json);

impl From<Json> for JsText {
    fn from(json: Json) -> Self {
        Self(json)
    }
}

impl From<String> for JsText {
    fn from(text: String) -> Self {
        Self(Json::Made(text))
    }
}

impl ToNapiValue for JsText {
    unsafe fn to_napi_value(env: napi::sys::napi_env, text: Self) -> napi::Result<napi::sys::napi_value> {
        let (env, text) = (Env::from_raw(env), text.0.as_str());
        // ASCII needs no decoding, which is most of the cost of a long string.
        let string = if text.is_ascii() { env.create_string_latin1(text) } else { env.create_string(text) };
        string.map(|string| string.raw())
    }
}

/// Opens the door of this environment; `answered` is called with each text of answers.
#[napi]
pub fn attach(env: Env, answered: Function<'_, JsText, ()>) -> napi::Result<External<Arc<Port>>> {
    export("attach", || {
        let port = Arc::new(Port::default());
        let gathering = Arc::downgrade(&port);
        let gather = move || gathering.upgrade().and_then(|port| port.gather()).unwrap_or_default();
        let bell = answered.build_threadsafe_function::<()>().weak::<true>().callee_handled::<false>();
        let bell =
            bell.build_callback(move |_| Ok(JsText::from(caught("answers", || Ok(gather())).unwrap_or_default())));
        let bell = bell.map_err(refused)?;
        assert!(port.bell.set(bell).is_ok(), "the port is new");
        env.add_env_cleanup_hook(Arc::clone(&port), |port| port.end()).map_err(refused)?;
        Ok(External::new(port))
    })
}

fn refused(error: napi::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "Node refused what an environment needs").with("reason", error.reason.clone())
}

/// Further answers, in a turn of the event loop of their own; none when there is nothing to ask for any more.
#[napi]
pub fn gather(port: &External<Arc<Port>>) -> napi::Result<Option<JsText>> {
    export("gather", || Ok(port.gather().map(JsText::from)))
}

/// Gives up the call `slot`; answers whether it was still under way.
#[napi]
pub fn cancel(port: &External<Arc<Port>>, slot: Slot) -> napi::Result<bool> {
    export("cancel", || Ok(port.cancel(slot)))
}

/// Closes every database of this environment, at its end.
#[napi]
pub fn end(port: &External<Arc<Port>>) -> napi::Result<()> {
    export("end", || {
        port.end();
        Ok(())
    })
}
