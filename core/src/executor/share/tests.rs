//! A client's parts, called in the order that a bad moment would give them, and an owner that says what a test wants.

use std::future::Future;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};

use bytes::BytesMut;
use tempfile::TempDir;

use super::calls::{Awaited, MAX_CALLS};
use super::link::Link;
use super::protocol::{self, MAX_REQUEST_BYTES, Request, Welcome, take_frame};
use super::reading::Told;
use super::role::Connected;
use super::wire::put_answer;
use super::*;
use crate::operation::{CollectionName, Entry, Version};
use crate::store::document::Document;

/// Longer than any call takes.
const WITHIN: Duration = Duration::from_secs(60);

/// The other end of a client's connection.
struct FakeOwner {
    stream: UnixStream,
    buffer: BytesMut,
}

impl FakeOwner {
    fn new() -> (Arc<Link>, Self) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_read_timeout(Some(WITHIN)).unwrap();
        theirs.set_write_timeout(Some(WITHIN)).unwrap();
        (Arc::new(Link::new(ours).unwrap()), Self { stream: theirs, buffer: BytesMut::new() })
    }

    fn welcome() -> Welcome {
        Welcome { version: 1, pid: 1, database: [7; 16], now: 0 }
    }

    /// The next call; none once the client has left.
    fn next(&mut self) -> Option<(u64, Request)> {
        loop {
            if let Some(frame) = take_frame(&mut self.buffer, MAX_REQUEST_BYTES).unwrap() {
                return Some((frame.number, Request::read(frame).unwrap()));
            }
            let mut chunk = [0; 4096];
            let count = self.stream.read(&mut chunk).unwrap();
            if count == 0 {
                return None;
            }
            self.buffer.extend_from_slice(&chunk[..count]);
        }
    }

    /// Sends the answers together.
    fn answer(&mut self, numbers: &[u64], answer: &Answer) {
        let mut frames = Vec::new();
        for number in numbers {
            let mut body = Vec::new();
            put_answer(&mut body, answer);
            protocol::put_answered(&mut frames, *number, &Ok(body));
        }
        self.stream.write_all(&frames).unwrap();
    }
}

fn setting(deadline: Duration) -> (TempDir, Setting) {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().to_owned();
    let options = Options { mode: Mode::Client, deadline, ..Options::default() };
    (place, Setting { directory, instance: 7, options, env: Env::default() })
}

/// A client whose threads the test plays, connected to an owner that the test plays.
fn attached() -> (TempDir, Arc<Client>, Arc<Link>, FakeOwner) {
    let (place, setting) = setting(Duration::from_secs(10));
    let client = Client::new(setting, false);
    let (link, owner) = FakeOwner::new();
    assert!(role::attach(&client, &link, &FakeOwner::welcome()));
    (place, client, link, owner)
}

fn things() -> CollectionName {
    CollectionName::new("things").unwrap()
}

fn get(client: &Arc<Client>) -> Pending<Answer> {
    client.submit(Operation::Get { collection: things(), id: "a".into() }, CallOptions::default())
}

fn create(client: &Arc<Client>) -> Pending<Answer> {
    let document = Document::parse(r#"{"n":1}"#).unwrap();
    client.submit(Operation::Create { collection: things(), document, ttl_ms: None }, CallOptions::default())
}

fn poll<T: Send + 'static>(pending: &mut Pending<T>, waker: &Waker) -> Poll<Result<T>> {
    Pin::new(pending).poll(&mut Context::from_waker(waker))
}

/// A caller who comes while answers are being handed out, its own among them.
struct Comes {
    client: Arc<Client>,
    number: u64,
    begins: Mutex<Option<bool>>,
}

impl Wake for Comes {
    fn wake(self: Arc<Self>) {
        *self.begins.lock().unwrap() = Some(self.client.begin_reading(self.number).is_some());
    }
}

/// Were reading given back before the answers that were read are with their callers, one of them would take it over and sleep
/// beside its own answer. The same where its answer is there by the time it comes.
#[test]
fn nobody_begins_to_read_for_an_answer_that_was_read() {
    let (_place, client, link, mut owner) = attached();
    let (mut polled, blocking) = (get(&client), get(&client));
    let comes = Arc::new(Comes { client: Arc::clone(&client), number: 2, begins: Mutex::default() });
    assert!(poll(&mut polled, &Waker::from(Arc::clone(&comes))).is_pending());
    assert_eq!((owner.next().unwrap().0, owner.next().unwrap().0), (1, 2), "held back frames go out together");
    owner.answer(&[1, 2], &Answer::Entry(None));
    let mut reading = client.take_reading(&link, false).unwrap();
    assert_eq!(reading.listen().unwrap(), Told::Answers { callers_read: false });
    assert_eq!(*comes.begins.lock().unwrap(), Some(false), "somebody reads");
    drop(reading);
    assert!(client.begin_reading(2).is_none(), "its answer is there");
    assert!(poll(&mut polled, Waker::noop()).is_ready());
    assert_eq!(blocking.wait().unwrap(), Answer::Entry(None));
    assert!(!client.state().turn.is_read);
}

/// Callers who make many calls before they ask for the first answer must get all of them: unread, they would be given up at
/// their deadlines although the owner has answered.
#[test]
fn answers_that_nobody_asks_for_are_read_in_time() {
    const CALLS: usize = 1_000;
    let (_place, setting) = setting(Duration::from_secs(5));
    let (link, mut owner) = FakeOwner::new();
    let found = Found::Owner(Connected { link, welcome: FakeOwner::welcome() });
    let client = Client::start(setting, false, Some(found)).unwrap();
    let document = Document::parse(format!(r#"{{"id":"a","text":"{}"}}"#, "x".repeat(16 << 10))).unwrap();
    let large = Answer::Entry(Some(Entry { id: "a".into(), version: Version(1), document }));
    let (all_answered, answered) = mpsc::channel();
    let (to_send, expected) = (large.clone(), large);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for count in 1.. {
                let Some((number, _)) = owner.next() else { return };
                owner.answer(&[number], &to_send);
                if count == CALLS {
                    all_answered.send(()).unwrap();
                }
            }
        });
        let calls: Vec<_> = (0..CALLS).map(|_| get(&client)).collect();
        answered.recv_timeout(WITHIN).expect("the owner could send all answers");
        for call in calls {
            assert_eq!(call.wait().unwrap(), expected);
        }
        client.close().unwrap();
    });
}

/// While callers read for themselves the client's thread sleeps. It has to read whatever none of them reads: room would
/// never come, a close would wait for deadlines.
#[test]
fn what_no_caller_reads_wakes_the_clients_thread() {
    let (_place, client, _link, _owner) = attached();
    let wakes = |what: &str, act: &mut dyn FnMut() -> Vec<Pending<Answer>>| {
        client.state().turn.sleeps = true;
        let calls = act();
        let mut state = client.state();
        assert!(!std::mem::take(&mut state.turn.sleeps), "{what}");
        assert!(state.wants_reading(), "{what}");
        drop(state.calls.remove_all(|_| true));
        assert!(!state.wants_reading(), "{what}");
        drop(state);
        drop(calls);
    };
    wakes("a write that was dropped", &mut || {
        drop(create(&client));
        Vec::new()
    });
    wakes("a call that is polled", &mut || {
        let mut polled = get(&client);
        assert!(poll(&mut polled, Waker::noop()).is_pending());
        vec![polled]
    });
    wakes("a call near its deadline", &mut || {
        let calls = vec![get(&client)];
        let mut state = client.state();
        state.calls.await_due(u64::MAX);
        client.call_reader(&mut state);
        calls
    });
    wakes("a caller who finds another one reading", &mut || {
        let calls = vec![get(&client), get(&client)];
        let number = client.state().calls.next_number() - 2;
        let reading = client.begin_reading(number).expect("nobody else reads");
        assert!(client.begin_reading(number + 1).is_none());
        drop(reading);
        calls
    });
    let full: Vec<_> = (0..MAX_CALLS).map(|_| get(&client)).collect();
    client.state().turn.sleeps = true;
    let mut without_room = get(&client);
    assert!(!std::mem::replace(&mut client.state().turn.sleeps, true), "a call that found no room");
    assert!(poll(&mut without_room, Waker::noop()).is_pending());
    assert!(!client.state().turn.sleeps && client.state().wants_reading(), "a caller who waits for room");
    drop(without_room);
    assert!(!client.state().wants_reading());
    drop(full);
    client.state().turn.sleeps = true;
    client.close().unwrap();
    assert!(!client.state().turn.sleeps && client.state().wants_reading(), "a close");
}

/// A caller who reads for others may panic there, or in what it was called from: somebody else must go on.
#[test]
fn a_panic_gives_the_reading_back() {
    let (_place, client, link, mut owner) = attached();
    let first = get(&client);
    let second = get(&client);
    client.state().turn.sleeps = true;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _reading = client.begin_reading(1).expect("nobody else reads");
        panic!("a caller falls");
    }));
    assert!(panicked.is_err());
    assert!(!client.state().turn.is_read && !client.state().turn.sleeps, "the client's thread goes on");
    drop(first);
    link.push();
    owner.answer(&[2], &Answer::Entry(None));
    assert_eq!(second.wait().unwrap(), Answer::Entry(None), "and so may any caller");
}

/// Whoever reads wakes the callers of others, in code that is not ours.
#[test]
fn a_caller_whose_waking_panics_costs_nobody_else_an_answer() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("a waker falls");
        }
    }
    let (_place, client, link, mut owner) = attached();
    let (mut polled, blocking) = (get(&client), get(&client));
    assert!(poll(&mut polled, &Waker::from(Arc::new(Panics))).is_pending());
    owner.answer(&[1, 2], &Answer::Entry(None));
    let mut reading = client.take_reading(&link, false).unwrap();
    assert!(reading.listen().is_ok());
    drop(reading);
    assert_eq!(blocking.wait().unwrap(), Answer::Entry(None));
}

/// Waking the client's thread for each answer costs more than the answer where callers block and can read; where they poll
/// it has to go on.
#[test]
fn the_clients_thread_leaves_reading_to_callers_who_can() {
    let (_place, client, link, mut owner) = attached();
    let told = |by: &[Awaited], owner: &mut FakeOwner| {
        let first = client.state().calls.next_number();
        let calls: Vec<_> = by.iter().map(|_| get(&client)).collect();
        let numbers: Vec<u64> = (first..).take(by.len()).collect();
        for (number, by) in numbers.iter().zip(by).filter(|(_, by)| **by != Awaited::NotYet) {
            client.await_answer(*number, *by);
        }
        owner.answer(&numbers, &Answer::Entry(None));
        let told = client.take_reading(&link, false).unwrap().listen().unwrap();
        drop(calls);
        told == Told::Answers { callers_read: true }
    };
    assert!(told(&[Awaited::Blocking], &mut owner));
    assert!(told(&[Awaited::NotYet, Awaited::Blocking, Awaited::Anyway], &mut owner));
    assert!(!told(&[Awaited::Blocking, Awaited::Polling], &mut owner));
    assert!(!told(&[Awaited::NotYet], &mut owner), "more may come that nobody asks for");
}

/// The connection ends while a caller reads: its call is repeated on the next one, and somebody reads there.
#[test]
fn a_caller_who_reads_to_the_end_of_a_connection_is_answered_over_the_next() {
    let (_place, client, link, owner) = attached();
    let call = get(&client);
    let mut reading = client.begin_reading(1).expect("nobody else reads");
    drop(owner);
    assert_eq!(reading.listen().unwrap(), Told::End);
    drop(reading);
    assert!(client.state().wants_reading(), "the client's thread finds the end at once");
    let mut reading = client.take_reading(&link, true).unwrap();
    assert_eq!(reading.listen().unwrap(), Told::End);
    role::leave(&client, &link);
    assert!(client.begin_reading(1).is_none(), "there is nothing to read");
    drop(reading);
    let (link, mut owner) = FakeOwner::new();
    assert!(role::attach(&client, &link, &FakeOwner::welcome()));
    assert_eq!(owner.next().unwrap().0, 1);
    owner.answer(&[1], &Answer::Entry(None));
    let mut reading = client.take_reading(&link, true).unwrap();
    assert_eq!(reading.listen().unwrap(), Told::Answers { callers_read: true });
    drop(reading);
    assert_eq!(call.wait().unwrap(), Answer::Entry(None));
}

/// What was read and lost, because who read it says what is no frame, must not keep its caller waiting until its deadline.
#[test]
fn a_connection_that_says_what_is_no_answer_is_ended() {
    let (_place, client, link, mut owner) = attached();
    let call = get(&client);
    link.push();
    owner.next().unwrap();
    owner.stream.write_all(&[0xff; 64]).unwrap();
    let mut reading = client.begin_reading(1).expect("nobody else reads");
    assert!(reading.listen().is_err());
    drop(reading);
    assert!(owner.next().is_none(), "the connection is over");
    drop(call);
}

/// Frames that are held back until somebody wants an answer are not what the owner refuses to take: counted as that, they
/// would send callers to wait for room that is there.
#[test]
fn large_frames_are_not_held_back() {
    let (link, mut owner) = FakeOwner::new();
    assert!(!link.hold(&[0; 1024]), "small ones wait for more");
    assert!(link.hold(&vec![0; 64 << 10]), "large ones go");
    assert!(!link.is_clogged(4 << 10), "what is over the limit is tried first");
    let mut taken = vec![0; 65 << 10];
    owner.stream.read_exact(&mut taken).unwrap();
}
