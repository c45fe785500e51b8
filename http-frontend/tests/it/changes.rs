//! `/v1/changes`: nothing missed, nothing twice, also over a broken connection.

use std::collections::VecDeque;
use std::io::BufReader;
use std::net::TcpStream;
use std::time::Instant;

use serde_json::Value;

use crate::client::{BOUND, Client, Reply, read_chunk, read_head, read_rest};
use crate::server::Server;

/// One server-sent event.
#[derive(Clone, Debug, Default)]
pub struct Event {
    pub id: Option<String>,
    pub kind: Option<String>,
    pub data: String,
}

/// An open stream of events.
pub struct Events {
    reader: BufReader<TcpStream>,
    text: String,
    ready: VecDeque<Event>,
}

impl Events {
    pub fn open(client: Client, path: &str, headers: &[(&str, &str)]) -> Self {
        Self::try_open(client, path, headers).unwrap_or_else(|reply| panic!("{reply:?}"))
    }

    /// The same, or the answer that came instead of a stream.
    pub fn try_open(client: Client, path: &str, headers: &[(&str, &str)]) -> Result<Self, Reply> {
        let mut stream = client.connect();
        client.write(&mut stream, "GET", path, headers, b"");
        let mut reader = BufReader::new(stream);
        let (status, headers) = read_head(&mut reader);
        if status != 200 {
            return Err(read_rest(reader, status, headers, false));
        }
        assert!(headers.iter().any(|(name, value)| name == "content-type" && value == "text/event-stream"));
        Ok(Self { reader, text: String::new(), ready: VecDeque::new() })
    }

    /// The next event, also one without data; none at the end of the stream. A server that says nothing but that it is
    /// alive fails the test.
    pub fn next(&mut self) -> Option<Event> {
        let started = Instant::now();
        loop {
            assert!(started.elapsed() < BOUND, "the event does not come");
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let chunk = read_chunk(&mut self.reader)?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
            while let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                self.ready.extend(parse(&block));
            }
        }
    }

    /// The next event with data.
    pub fn change(&mut self) -> (Event, Value) {
        loop {
            let event = self.next().expect("the stream goes on");
            if !event.data.is_empty() {
                let data = serde_json::from_str(&event.data).unwrap();
                return (event, data);
            }
        }
    }
}

fn parse(block: &str) -> Option<Event> {
    let mut event = Event::default();
    for line in block.lines() {
        match line.split_once(": ") {
            Some(("id", id)) => event.id = Some(id.to_owned()),
            Some(("event", kind)) => event.kind = Some(kind.to_owned()),
            Some(("data", data)) => event.data.push_str(data),
            _ => {}
        }
    }
    (event.id.is_some() || !event.data.is_empty()).then_some(event)
}

fn create(client: Client, collection: &str, id: &str) {
    let made = client.json("POST", &format!("/v1/collections/{collection}"), &format!(r#"{{"id":"{id}","n":1.50}}"#));
    assert_eq!(made.status, 201, "{}", made.text());
}

#[test]
fn changes_say_what_happened_in_order() {
    let server = Server::start();
    let client = server.client;
    let mut events = Events::open(client, "/v1/changes", &[]);
    assert!(events.next().unwrap().id.is_some(), "the greeting carries the position");
    create(client, "things", "a");
    let patched = client.json("PATCH", "/v1/collections/things/a", r#"{"n":2}"#);
    client.send("DELETE", "/v1/collections/things/a", &[], b"").is(204, "");

    let (created, data) = events.change();
    assert_eq!(
        (created.kind.as_deref(), &data["id"], &data["collection"]),
        (Some("created"), &"a".into(), &"things".into())
    );
    assert!(created.data.contains(r#""document":{"id":"a","n":1.50}"#), "{}", created.data);
    let (updated, data) = events.change();
    assert_eq!(updated.kind.as_deref(), Some("updated"));
    assert_eq!(Some(format!("\"{}\"", data["version"].as_str().unwrap()).as_str()), patched.header("etag"));
    let (deleted, data) = events.change();
    assert_eq!((deleted.kind.as_deref(), &data["document"]), (Some("deleted"), &Value::Null));
}

/// A browser that comes back with `Last-Event-ID` must see each change between exactly once.
#[test]
fn a_client_that_comes_back_misses_nothing_and_sees_nothing_twice() {
    const CHANGES: usize = 40;
    let server = Server::start();
    let client = server.client;
    let mut events = Events::open(client, "/v1/changes", &[]);
    let mut last = events.next().unwrap().id.unwrap();
    let mut seen = Vec::new();
    for n in 0..CHANGES {
        create(client, "things", &format!("t{n}"));
        if n % 7 == 3 {
            drop(events);
            create(client, "others", &format!("o{n}"));
            events = Events::open(client, "/v1/changes", &[("last-event-id", &last)]);
        } else if n % 3 == 0 {
            let (event, data) = events.change();
            last = event.id.unwrap();
            seen.push(data["id"].as_str().unwrap().to_owned());
        }
    }
    create(client, "things", "end");
    while seen.last().map(String::as_str) != Some("end") {
        let (event, data) = events.change();
        assert!(event.id.is_some());
        seen.push(data["id"].as_str().unwrap().to_owned());
    }
    let things: Vec<_> = seen.iter().filter(|id| id.starts_with('t')).cloned().collect();
    assert_eq!(things, (0..CHANGES).map(|n| format!("t{n}")).collect::<Vec<_>>());
    let others = seen.iter().filter(|id| id.starts_with('o')).count();
    assert_eq!(others, (0..CHANGES).filter(|n| n % 7 == 3).count());
}

/// It has seen no change whose id it could send, so the greeting must give it one.
#[test]
fn a_client_that_leaves_before_its_first_change_misses_nothing() {
    let server = Server::start();
    let client = server.client;
    create(client, "things", "before");
    let greeting = Events::open(client, "/v1/changes", &[]).next().unwrap();
    create(client, "things", "between");
    let mut events = Events::open(client, "/v1/changes", &[("last-event-id", &greeting.id.unwrap())]);
    assert_eq!(events.change().1["id"], "between");
}

#[test]
fn a_feed_can_start_at_the_oldest_change_and_follow_one_collection() {
    let server = Server::start();
    let client = server.client;
    for (collection, id) in [("a", "1"), ("b", "2"), ("a", "3")] {
        create(client, collection, id);
    }
    let mut events = Events::open(client, "/v1/changes?from=oldest&collection=a", &[]);
    let (first, data) = events.change();
    assert_eq!(data["id"], "1");
    assert_eq!(events.change().1["id"], "3");
    let after = first.id.unwrap();
    let mut events = Events::open(client, &format!("/v1/changes?after={after}"), &[]);
    assert_eq!(events.change().1["id"], "2");
}

#[test]
fn a_position_that_is_none_is_refused_with_a_status() {
    let server = Server::start();
    let client = server.client;
    for query in ["after=nonsense", "from=yesterday", "collection=NO", "x=1"] {
        client.get(&format!("/v1/changes?{query}")).is_problem(400, "invalid_input");
    }
    client.send("GET", "/v1/changes", &[("last-event-id", "nonsense")], b"").is_problem(400, "invalid_input");
}

/// A restored or replaced database has other numbers: a cursor of the one before would silently skip or repeat changes.
#[test]
fn a_cursor_of_another_database_is_gone() {
    let (one, other) = (Server::start(), Server::start());
    let cursor = Events::open(one.client, "/v1/changes", &[]).next().unwrap().id.unwrap();
    other.client.get(&format!("/v1/changes?after={cursor}")).is_problem(410, "expired");
    other.client.send("GET", "/v1/changes", &[("last-event-id", &cursor)], b"").is_problem(410, "expired");
    let mut events = Events::open(one.client, &format!("/v1/changes?after={cursor}"), &[]);
    create(one.client, "things", "a");
    assert_eq!(events.change().1["id"], "a");
}
