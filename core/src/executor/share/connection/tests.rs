//! The owner's side of one connection, its threads played by the test where the order matters.

use std::io::Write;

use super::super::protocol::{self, HIGHEST, LOWEST};
use super::*;
use crate::engine::memory::MemoryEngine;
use crate::env::Env;
use crate::executor::local::About;
use crate::executor::{CallOptions, Coming, Executor, FeedStart};
use crate::operation::{CollectionName, Operation};
use crate::options::Options;
use crate::store::document::Document;
use crate::store::session::{SessionCall, session_id};

const WITHIN: Duration = Duration::from_secs(20);

fn local() -> Arc<Local> {
    let about = About { database: [7; 16], instance: 7, view: "memory", recovery: Vec::new() };
    let engine = Arc::new(MemoryEngine::default());
    Arc::new(Local::start(engine, about, None, &Options::default(), &Env::default()).unwrap())
}

fn connected() -> (Arc<Local>, Arc<Connection>, UnixStream) {
    let local = local();
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Arc::clone(&local), Arc::new(Connection::new(ours, local).unwrap()), theirs)
}

fn create(document: &str) -> Operation {
    let collection = CollectionName::new("things").unwrap();
    Operation::Create { collection, document: Document::parse(document.to_owned()).unwrap(), ttl_ms: None }
}

fn put_write(out: &mut Vec<u8>, local: &Local, number: u64, document: &str) {
    let session =
        SessionCall { session: session_id(local.now(), [7; 8]), slot: u16::try_from(number).unwrap(), number };
    protocol::put_write(out, &session, WITHIN, None, &create(document));
}

fn put_get(out: &mut Vec<u8>, number: u64, id: &str) {
    let get = Operation::Get { collection: CollectionName::new("things").unwrap(), id: id.into() };
    protocol::put_read(out, number, &get);
}

fn frame(put: impl FnOnce(&mut Vec<u8>)) -> Frame {
    let mut out = Vec::new();
    put(&mut out);
    take_frame(&mut BytesMut::from(&out[..]), MAX_REQUEST_BYTES).unwrap().unwrap()
}

/// Writes that come together are begun together, but never behind a read, which may take long, nor behind each other's end.
#[test]
fn a_write_is_begun_before_the_read_that_follows_it() {
    let (local, connection, _client) = connected();
    let mut taken = Taken::default();
    for number in [1, 2] {
        connection.take_call(frame(|out| put_write(out, &local, number, "{}")), &mut taken);
    }
    assert_eq!(taken.later.len(), 2, "they are gathered");
    connection.take_call(frame(|out| put_get(out, 3, "a")), &mut taken);
    assert!(taken.later.is_empty(), "they are on their way");
    connection.take_call(frame(|out| Request::Committed.put(out, 4)), &mut taken);
    assert!(taken.later.is_empty(), "it hears of every commit from here on");
}

/// A client that sends a write and many reads, and takes no answers for a while: the write is done all the same.
#[test]
fn a_write_does_not_wait_for_answers_that_are_not_taken() {
    let (local, connection, mut client) = connected();
    let large = format!(r#"{{"id":"large","text":"{}"}}"#, "x".repeat(900 << 10));
    local.submit(create(&large), CallOptions::default()).wait().unwrap();
    let start = local.seek(FeedStart::Now).wait().unwrap();
    let mut frames = Vec::new();
    Hello { lowest: LOWEST, highest: HIGHEST, pid: 1 }.put(&mut frames);
    put_write(&mut frames, &local, 1, r#"{"id":"small"}"#);
    for number in 2..40 {
        put_get(&mut frames, number, "large");
    }
    client.write_all(&frames).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| connection.read());
        scope.spawn(|| connection.write());
        let changes = local.changes(start).wait_for(WITHIN);
        // Whatever came of it, the threads must end.
        drop(client);
        let (changes, _) = changes.expect("the write is done").unwrap();
        assert_eq!(changes[0].id, "small");
    });
}

/// The thread that sends answers may be stuck in a send to its client: a write that was left to it then would wait for that.
#[test]
fn a_lone_write_is_left_to_the_sending_thread_only_where_that_one_waits() {
    let (local, connection, _client) = connected();
    let start = local.seek(FeedStart::Now).wait().unwrap();
    let mut taken = Taken::default();
    connection.take_call(frame(|out| put_write(out, &local, 1, r#"{"id":"a"}"#)), &mut taken);
    connection.begin_alone(&mut taken);
    assert_eq!(taken.later.len(), 1, "nobody waits for it");
    connection.begin(&mut taken);
    let (changes, behind) = local.changes(start).wait_for(WITHIN).expect("the committer does it").unwrap();
    assert_eq!(changes[0].id, "a");
    connection.under_way.lock().clear();
    connection.woken.lock().waits = true;
    connection.woken.lock().numbers.clear();
    connection.take_call(frame(|out| put_write(out, &local, 2, r#"{"id":"b"}"#)), &mut taken);
    connection.begin_alone(&mut taken);
    assert!(taken.later.is_empty());
    assert!(!connection.woken.lock().waits, "it has something to do now");
    let (numbers, alone) = connection.next_woken().unwrap();
    assert_eq!((numbers, alone), (vec![2], Some(2)));
    connection.help(2);
    // The committer may have been busy; then it does this one too, once that is asked for.
    let polled = connection.under_way.lock().get_mut(&2).map(|call| connection.poll(&mut call.pending, 2).is_ready());
    assert!(polled.is_some(), "it is in its place again");
    let (changes, _) = local.changes(behind).wait_for(WITHIN).expect("somebody does it").unwrap();
    assert_eq!(changes[0].id, "b");
}

/// The client leaves while its write is being committed: what is owed to it must end, or a closing owner waits for it.
#[test]
fn a_call_that_ends_its_connection_while_it_is_helped_is_settled() {
    struct Leaves(Arc<Connection>);
    impl Coming<Vec<u8>> for Leaves {
        fn poll(&mut self, _: &mut Context<'_>) -> Poll<Result<Vec<u8>>> {
            Poll::Pending
        }
        fn help(&mut self) {
            self.0.end();
        }
        fn wait(self: Box<Self>, _: Option<std::time::Instant>) -> Option<Result<Vec<u8>>> {
            None
        }
    }
    let (_local, connection, _client) = connected();
    let pending = Pending::coming(Leaves(Arc::clone(&connection)));
    connection.woken.lock().waits = true;
    let mut taken = Taken { later: vec![(1, UnderWay { pending, kind: Kind::Write })], ..Taken::default() };
    connection.begin_alone(&mut taken);
    assert_eq!(connection.woken.lock().owed, 1);
    connection.help(1);
    assert_eq!(connection.woken.lock().owed, 0);
    assert!(connection.under_way.lock().is_empty());
}
