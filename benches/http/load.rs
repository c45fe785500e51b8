//! The loader: connections that are kept, one request at a time on each, as little work as possible for an answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use kappa_benches::Stopwatch;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

use crate::servers::{PRODUCTS, path};

const CONNECTIONS: u64 = 32;

/// One answer of a server.
pub struct Answer {
    /// Names and values in their order.
    pub headers: Vec<(String, String)>,
    /// What follows the head.
    pub body: String,
    /// Bytes of all of it.
    length: usize,
}

impl Answer {
    /// Headers and body as text.
    pub fn to_text(&self) -> String {
        let lines: Vec<String> = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let lines = lines.concat();
        format!("{lines}\r\n{}", self.body)
    }

    /// The reverse, also of a whole answer behind its status line.
    pub fn from_text(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").expect("a header has a name");
            (name.to_owned(), value.to_owned())
        };
        Self { headers: head.split("\r\n").map(header).collect(), body: body.to_owned(), length: text.len() }
    }

    /// Whether `other` has the same headers, and as many bytes.
    pub fn is_like(&self, other: &Self) -> bool {
        let names = |answer: &Self| {
            let mut names: Vec<_> = answer.headers.iter().map(|(name, _)| name.clone()).collect();
            names.sort();
            names
        };
        names(self) == names(other) && self.length == other.length
    }
}

fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\naccept: application/json\r\n\r\n").into_bytes()
}

/// One request on a connection of its own.
pub fn fetch(address: SocketAddr, path: &str) -> Answer {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.write_all(&request(path)).expect("the server reads");
    let mut received = Vec::new();
    let mut part = [0; 4096];
    loop {
        let bytes = stream.read(&mut part).expect("the server answers");
        assert!(bytes > 0, "the server closed the connection");
        received.extend_from_slice(&part[..bytes]);
        let text = std::str::from_utf8(&received).expect("an answer is text");
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("it has a length");
        if body.len() == length.parse::<usize>().expect("a length is a number") {
            let (status, rest) = text.split_once("\r\n").expect("an answer has a status");
            assert_eq!(status, "HTTP/1.1 200 OK");
            return Answer { length: text.len(), ..Answer::from_text(rest) };
        }
    }
}

/// Open connections to one server.
pub struct Load {
    runtime: Runtime,
    streams: Vec<tokio::net::TcpStream>,
    requests: Vec<Vec<u8>>,
    length: usize,
}

impl Load {
    /// Connects; every answer must be as long as `answer`.
    pub fn new(address: SocketAddr, answer: &Answer) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("no thread is needed");
        let connect = async {
            let mut streams = Vec::new();
            for _ in 0..CONNECTIONS {
                let stream = tokio::net::TcpStream::connect(address).await.expect("the server listens");
                stream.set_nodelay(true).expect("the stream is open");
                streams.push(stream);
            }
            streams
        };
        let streams = runtime.block_on(connect);
        let requests = (0..PRODUCTS).map(|number| request(&path(number))).collect();
        Self { runtime, streams, requests, length: answer.length }
    }

    /// Asks on all connections for `seconds`; how many answers came, and in how many seconds.
    pub fn run(&mut self, seconds: f64) -> (u64, f64) {
        let watch = Stopwatch::start();
        let (requests, length) = (&self.requests, self.length);
        let streams = std::mem::take(&mut self.streams);
        let local = tokio::task::LocalSet::new();
        let requests = std::rc::Rc::new(requests.clone());
        let tasks: Vec<_> = (0_usize..)
            .zip(streams)
            .map(|(place, stream)| {
                let requests = std::rc::Rc::clone(&requests);
                local.spawn_local(ask(stream, requests, place, length, watch, seconds))
            })
            .collect();
        let mut count = 0;
        self.streams = self.runtime.block_on(local.run_until(async {
            let mut streams = Vec::new();
            for task in tasks {
                let (stream, answers) = task.await.expect("a connection does not fail");
                streams.push(stream);
                count += answers;
            }
            streams
        }));
        (count, watch.seconds())
    }
}

async fn ask(
    mut stream: tokio::net::TcpStream,
    requests: std::rc::Rc<Vec<Vec<u8>>>,
    first: usize,
    length: usize,
    watch: Stopwatch,
    seconds: f64,
) -> (tokio::net::TcpStream, u64) {
    let mut buffer = vec![0; length];
    let mut count = 0;
    for request in requests.iter().cycle().skip(first) {
        if watch.seconds() >= seconds {
            break;
        }
        stream.write_all(request).await.expect("the server reads");
        stream.read_exact(&mut buffer).await.expect("the server answers");
        assert!(buffer.starts_with(b"HTTP/1.1 200 "), "an answer is not as the first was");
        count += 1;
    }
    (stream, count)
}
