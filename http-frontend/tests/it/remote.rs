//! `Kappa::connect`: the handle of the library over a real server, and over peers that misbehave.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kappa_core::env::Env;
use kappa_core::{
    Answer, CallOptions, Definition, Document, ErrorKind, EventKind, FeedStart, IndexDefinition, Kappa, Operation,
    Options, WriteOptions,
};
use kappa_server::ServerOptions;
use serde_json::json;

use crate::client::BOUND;
use crate::contract::handle::Handle;
use crate::contract::scenario::{Database, run_bad_input, run_scenarios};
use crate::peer::{Act, Peer};
use crate::program::{Running, program};
use crate::server::Server;

/// Long enough for a call on a busy machine, short enough to wait for.
const SHORT: Duration = Duration::from_millis(400);

fn connect(server: &Server) -> Kappa {
    Kappa::connect(&format!("http://{}", server.client.0), Some("token")).unwrap()
}

/// A server that is reached through a peer, and a handle whose calls give up soon.
fn behind_peer(deadline: Duration) -> (Server, Peer, Kappa) {
    let server = Server::with(ServerOptions { allowed_hosts: vec!["127.0.0.1".into()], ..ServerOptions::default() });
    let peer = Peer::start(Some(server.client), Act::Pass);
    let options = Options { deadline, ..Options::default() };
    let kappa = Kappa::connect_with(&peer.url(), None, &options, &Env::default()).unwrap();
    (server, peer, kappa)
}

/// A handle on a server with a database of its own.
fn over_a_server() -> Box<dyn Database> {
    let server = Server::start();
    Handle::boxed(connect(&server), server)
}

/// What crosses the network could come out otherwise than it went in.
#[test]
fn every_scenario_over_a_server() {
    run_scenarios("rust", &mut over_a_server);
}

#[test]
fn bad_input_is_refused_over_a_server() {
    run_bad_input("a server", &mut *over_a_server(), &[]);
}

/// A method that behaves otherwise over a server than over a directory breaks whoever moves from one to the other.
#[test]
fn documents_are_written_and_read_as_in_a_directory() {
    let server = Server::start();
    let kappa = connect(&server);
    let products = kappa.products();
    let made = products.create(json!({"id": "p", "title": "T", "price": 1})).wait().unwrap();
    assert_eq!(products.entry("p").wait().unwrap().unwrap(), made);
    let replaced = products.replace("p", json!({"title": "U", "price": 2})).wait().unwrap();
    assert!(replaced.version > made.version);
    let condition = WriteOptions { if_version: Some(made.version), ..WriteOptions::default() };
    let late = products.update_with("p", json!({"price": 3}), condition).wait().unwrap_err();
    assert_eq!(late.kind(), ErrorKind::VersionMismatch, "{late}");
    let updated = products.update("p", json!({"price": 3})).wait().unwrap();
    assert_eq!(updated.document.text(), r#"{"id":"p","title":"U","price":3}"#);
    assert_eq!(products.get("missing").wait().unwrap().map(|document| document.text().to_owned()), None);
    assert_eq!(products.get_many(["p", "missing"]).wait().unwrap(), [Some(updated), None]);
    let digits = kappa.collection("digits").unwrap();
    let text = r#"{"id":"d","n":1.50,"big":123456789012345678901234567890}"#;
    digits.create(Document::parse(text).unwrap()).wait().unwrap();
    assert_eq!(digits.get("d").wait().unwrap().unwrap().text(), text, "digits are kept");
    assert!(products.delete("p").wait().unwrap());
    assert!(!products.delete("p").wait().unwrap());
    let users = kappa.users();
    users.create(json!({"name": "Ann", "email": "ann@example.org", "group": 1})).wait().unwrap();
    assert_eq!(users.count().wait().unwrap(), 1);
    for (refused, kind) in [
        (products.create(json!({"title": "T"})), ErrorKind::InvalidInput),
        (products.update("p", json!({"price": 3})), ErrorKind::NotFound),
        (digits.create(json!({"id": "d"})), ErrorKind::AlreadyExists),
    ] {
        let error = refused.wait().unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
}

#[test]
fn lists_batches_and_collections_are_as_in_a_directory() {
    let server = Server::start();
    let kappa = connect(&server);
    let notes = kappa.collection("notes").unwrap();
    let index = IndexDefinition { name: "n".into(), field: "n".into(), unique: true };
    let definition = Definition { indexes: vec![index.clone()], ..Definition::default() };
    notes.declare(definition).wait().unwrap();
    let mut batch = kappa.batch();
    for n in 0..50 {
        batch = batch.create("notes", json!({"id": format!("{n:02}"), "n": 49 - n}));
    }
    assert_eq!(batch.idempotency_key("all at once, \"ü\"").commit().wait().unwrap().len(), 50);
    let taken = kappa.batch().create("notes", json!({"n": 100})).create("notes", json!({"n": 7})).commit().wait();
    assert_eq!(taken.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(notes.count().wait().unwrap(), 50, "nothing of a refused batch is kept");
    let ids: Vec<String> = notes.list().by("n").backward().page_size(7).iter().map(|entry| entry.unwrap().id).collect();
    assert_eq!(ids, (0..50).map(|n| format!("{n:02}")).collect::<Vec<_>>());
    let page = notes.list().by("n").from(3).to(9).page_size(4).page().wait().unwrap();
    assert_eq!((page.entries.len(), page.next.is_some()), (4, true));
    assert_eq!(notes.describe().wait().unwrap().definition.indexes, [index]);
    assert_eq!(kappa.collections().wait().unwrap().len(), 1);
    assert_eq!(notes.drop_index("n").wait().unwrap().definition.indexes, []);
    let unknown = notes.list().by("n").page().wait().unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound, "{unknown}");
    let create = || Operation::Create {
        collection: notes.name().clone(),
        document: Document::new(&json!({"a": 1})).unwrap(),
        ttl_ms: None,
    };
    let keyed = || CallOptions { idempotency_key: Some(" key \"of\" ü ".into()), ..CallOptions::default() };
    let first = kappa.call(create(), keyed()).wait().unwrap();
    assert_eq!(kappa.call(create(), keyed()).wait().unwrap(), first);
    assert!(matches!(first, Answer::Written(_)));
    let large = kappa
        .batch()
        .create("notes", json!({"a": "x".repeat(900_000)}))
        .create("notes", json!({"a": "x".repeat(900_000)}));
    assert_eq!(large.commit().wait().unwrap_err().kind(), ErrorKind::TooLarge);
}

#[test]
fn an_operator_asks_and_ends_as_in_a_directory() {
    let server = Server::start();
    let kappa = connect(&server);
    kappa.ready().unwrap();
    let info = kappa.info().unwrap();
    assert_eq!((info.role, info.owner_pid, info.durability), ("client", std::process::id(), "synced"));
    assert_eq!(info.id.len(), 32, "{}", info.id);
    assert_eq!(kappa.check().unwrap(), Vec::<String>::new());
    let other = kappa.clone();
    let mut feed = kappa.feed(FeedStart::Now).wait().unwrap();
    let waiting = std::thread::spawn(move || feed.next_within(BOUND));
    let products = kappa.products();
    let calls: Vec<_> = (0..200).map(|n| products.create(json!({"title": "T", "price": n})).start()).collect();
    assert!(waiting.join().unwrap().unwrap().is_some());
    let mut feed = kappa.feed(FeedStart::Now).wait().unwrap();
    let committed = feed.committed();
    kappa.close().unwrap();
    for call in calls {
        call.wait().expect("what was taken in is finished");
    }
    assert_eq!(feed.next_within(BOUND).unwrap_err().kind(), ErrorKind::Closed);
    drop(committed.wait());
    assert_eq!(other.ready().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(products.count().wait().unwrap_err().kind(), ErrorKind::Closed);
    kappa.close().unwrap();
    assert_eq!(connect(&server).products().count().wait().unwrap(), 200, "closing a handle closes no database");
}

/// A wrong address that is answered by silence, or by an error that blames the database, sends people searching.
#[test]
fn a_url_that_leads_nowhere_says_so_at_once() {
    let started = Instant::now();
    let options = Options { deadline: SHORT, ..Options::default() };
    let connect = |url: &str| Kappa::connect_with(url, None, &options, &Env::default()).unwrap_err();
    for (act, kind) in [
        (Act::Page, ErrorKind::Unavailable),
        (Act::Garbage, ErrorKind::Unavailable),
        (Act::Close, ErrorKind::Unavailable),
        (Act::Hang, ErrorKind::Unavailable),
    ] {
        let error = connect(&Peer::start(None, act).url());
        assert_eq!(error.kind(), kind, "{act:?}: {error}");
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = connect(&format!("http://{nobody}"));
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains(&nobody.to_string()), "{error}");
    assert_eq!(connect("https://127.0.0.1").kind(), ErrorKind::Unsupported);
    let server = Server::start();
    let foreign = Peer::start(Some(server.client), Act::Pass);
    let error = connect(&foreign.url());
    assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("--allow-host"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(6), "it took {:?}", started.elapsed());
}

/// The answer of a write is lost with its connection: sent again without a key it is done twice.
#[test]
fn a_write_whose_answer_was_lost_is_done_once() {
    let (_server, peer, kappa) = behind_peer(Duration::from_secs(10));
    let products = kappa.products();
    for acts in [&[Act::Lose][..], &[Act::Lose, Act::Half, Act::Garbage, Act::Page, Act::Close, Act::Lose]] {
        let (before, seen) = (products.count().wait().unwrap(), peer.seen());
        peer.next(acts);
        let made = products.create(json!({"title": "T", "price": 1})).wait().unwrap();
        assert_eq!(peer.seen() - seen, acts.len() + 1);
        assert_eq!(products.count().wait().unwrap(), before + 1);
        assert_eq!(products.entry(&made.id).wait().unwrap().unwrap(), made);
        peer.next(acts);
        assert!(products.delete(&made.id).wait().unwrap(), "the answer is that of the first try");
        products.create(json!({"title": "kept", "price": 1})).wait().unwrap();
    }
}

/// A peer that answers nothing must not hold a caller, and what may have happened must not be called a failure.
#[test]
fn calls_end_at_their_deadline_and_say_what_may_have_happened() {
    let (_server, peer, kappa) = behind_peer(SHORT);
    let products = kappa.products();
    for act in [Act::Hang, Act::Lose, Act::Close, Act::Garbage, Act::Half, Act::Page] {
        peer.then(act);
        let started = Instant::now();
        let write = products.create(json!({"title": "T", "price": 1})).wait().unwrap_err();
        assert_eq!(write.kind(), ErrorKind::Ambiguous, "{act:?}: {write}");
        let read = products.count().wait().unwrap_err();
        assert_eq!(read.kind(), ErrorKind::Unavailable, "{act:?}: {read}");
        assert!(started.elapsed() < SHORT * 8, "{act:?} took {:?}", started.elapsed());
    }
    peer.then(Act::Pass);
    assert_eq!(products.count().wait().unwrap(), 2, "of Lose and of Half, once each");

    let mut server = Server::start();
    let options = Options { deadline: SHORT, ..Options::default() };
    let kappa = Kappa::connect_with(&format!("http://{}", server.client.0), None, &options, &Env::default()).unwrap();
    server.end();
    let unsent = kappa.products().create(json!({"title": "T", "price": 1})).wait().unwrap_err();
    assert_eq!(unsent.kind(), ErrorKind::Unavailable, "nobody listens, so nothing was written: {unsent}");
}

/// A server is killed under load and started again: each write is there once, whichever side of the kill it was on.
#[test]
fn a_killed_server_loses_and_doubles_no_write() {
    const WRITERS: u32 = 4;
    const WRITES: u32 = 60;
    let directory = tempfile::tempdir().unwrap();
    let start = |port: &str| Running::start(program().args(["--port", port, "--data"]).arg(directory.path()));
    let mut running = start("0");
    let port = running.client.0.port().to_string();
    let kappa = Kappa::connect(&format!("http://127.0.0.1:{port}"), None).unwrap();
    let mut feed = kappa.feed(FeedStart::Now).wait().unwrap();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let notes = kappa.collection("notes").unwrap();
            std::thread::spawn(move || {
                for n in 0..WRITES {
                    notes.create(json!({"n": writer * WRITES + n})).wait().unwrap();
                }
            })
        })
        .collect();
    let mut told = BTreeSet::new();
    let mut next = |feed: &mut kappa_core::Feed| {
        let change = feed.next_within(BOUND).unwrap().expect("a change comes");
        assert_eq!(change.kind, EventKind::Created);
        assert!(told.insert(change.id), "a change was told twice although its cursor was given back");
    };
    for at in 0..WRITERS * WRITES {
        next(&mut feed);
        if at == 20 || at == 120 {
            // Dropping kills.
            drop(running);
            running = start(&port);
        }
    }
    for writer in writers {
        writer.join().unwrap();
    }
    assert_eq!(feed.next_now().unwrap().map(|change| change.id), None);
    let notes = kappa.collection("notes").unwrap();
    let numbers: Vec<u64> =
        notes.list().iter().map(|entry| entry.unwrap().document.fields()["n"].as_u64().unwrap()).collect();
    let distinct: BTreeSet<u64> = numbers.iter().copied().collect();
    assert_eq!((numbers.len(), distinct.len()), (240, 240));
    drop(running);
}

/// A feed goes on behind its cursor at the server that takes the place of its own; a stopping server does not wait for it.
#[test]
fn a_feed_goes_on_over_a_restart_and_broken_connections() {
    let server = Server::start();
    let kappa = connect(&server);
    let products = kappa.products();
    let create = |id: &str| products.create(json!({"id": id, "title": "T", "price": 1})).wait().unwrap();
    create("before");
    let mut feed = kappa.feed(FeedStart::Oldest).wait().unwrap();
    assert_eq!(feed.next_within(BOUND).unwrap().unwrap().id, "before");
    assert_eq!(feed.next_now().unwrap().map(|change| change.id), None);
    let waiting = std::thread::spawn(move || (feed.next_within(BOUND).unwrap().unwrap().id, feed));
    let asked = Instant::now();
    let server = server.restart_there();
    assert!(asked.elapsed() < Duration::from_secs(5), "it took {:?}", asked.elapsed());
    create("after");
    let (id, mut feed) = waiting.join().unwrap();
    assert_eq!(id, "after");
    let cursor = feed.cursor().to_owned();
    let committed = feed.committed();
    assert_eq!(feed.next_now().unwrap().map(|change| change.id), None);
    create("rung");
    committed.wait().unwrap();
    assert_eq!(feed.next_now().unwrap().unwrap().id, "rung");
    let mut resumed = kappa.feed(FeedStart::After(cursor)).wait().unwrap();
    assert_eq!(resumed.next_now().unwrap().unwrap().id, "rung");
    let error = kappa.feed(FeedStart::After("no cursor".into())).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    drop(server);
}

/// Changes that come while connections break are told in order, none missed.
#[test]
fn a_feed_outlives_a_peer_that_misbehaves() {
    let (_server, peer, kappa) = behind_peer(Duration::from_secs(10));
    let products = kappa.products();
    let mut feed = kappa.feed(FeedStart::Now).wait().unwrap();
    for n in 0..6 {
        products.create(json!({"id": format!("{n}"), "title": "T", "price": 1})).wait().unwrap();
        peer.next(&[Act::Lose, Act::Half, Act::Garbage, Act::Close]);
        assert_eq!(feed.next_within(BOUND).unwrap().unwrap().id, format!("{n}"));
    }
}

/// The form of operations is for this library alone, but strangers reach the route: nothing they send may do harm.
#[test]
fn the_routes_refuse_what_they_cannot_read() {
    let server = Server::start();
    let client = server.client;
    let post = |body: &str| client.json("POST", "/v1/operations", body);
    let nested = format!(r#"{{"operation":{}{}}}"#, r#"{"batch":["#.repeat(60), "]}".repeat(60));
    for body in
        ["", "{}", "[]", r#"{"operation":"burn"}"#, r#"{"operation":{"get":{"collection":"No","id":"a"}}}"#, &nested]
    {
        let reply = post(body);
        assert!((400..500).contains(&reply.status), "{body}: {}", reply.text());
    }
    post(r#"{"operation":"collections"}"#).is(200, r#"{"collections":[]}"#);
    client
        .send("POST", "/v1/operations", &[("content-type", "text/plain")], b"{}")
        .is_problem(415, "unsupported_media_type");
    for (query, status, code) in
        [("limit=1001", 400, "invalid_input"), ("wait_ms=x", 400, "invalid_input"), ("after=x", 400, "invalid_input")]
    {
        client.get(&format!("/v1/changes/page?{query}")).is_problem(status, code);
    }
    let page = client.get("/v1/changes/page?limit=0").json();
    assert_eq!((&page["changes"], page["behind"].is_string()), (&json!([]), true), "{page}");
    assert_eq!(client.send("POST", "/v1/check", &[], b"").json(), json!({"findings": []}));
}

/// A proxy that checks tokens is of no use when none arrives; one that is printed in an error is known to everybody.
#[test]
fn the_token_is_sent() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asking = std::thread::spawn(move || {
        let options = Options { deadline: SHORT, ..Options::default() };
        Kappa::connect_with(&format!("http://{address}/base"), Some("secret"), &options, &Env::default()).unwrap_err()
    });
    let mut reader = std::io::BufReader::new(listener.accept().unwrap().0);
    let mut line = String::new();
    std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
    assert_eq!(line, "GET /base/v1/info HTTP/1.1\r\n");
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        std::io::BufRead::read_line(&mut reader, &mut head).unwrap();
    }
    assert!(head.contains("authorization: Bearer secret\r\n"), "{head}");
    drop(reader);
    assert!(!asking.join().unwrap().to_string().contains("secret"));
}
