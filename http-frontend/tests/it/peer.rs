//! Something between a client and a server that misbehaves when it is told to.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::client::{BOUND, Client, read_head};

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// It is passed on, and its answer back.
    Pass,
    /// It is passed on and done; its answer is lost with the connection.
    Lose,
    /// It is never answered.
    Hang,
    /// The connection is closed.
    Close,
    /// What comes back is no HTTP.
    Garbage,
    /// The answer ends in its middle.
    Half,
    /// A page for people comes back.
    Page,
}

#[derive(Debug)]
struct Script {
    next: VecDeque<Act>,
    then: Act,
    seen: usize,
}

/// Listens until the test ends.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: SocketAddr,
    script: Arc<Mutex<Script>>,
}

impl Peer {
    /// Stands before `server`, if there is one, and does `then` with every request.
    pub fn start(server: Option<Client>, then: Act) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let script = Arc::new(Mutex::new(Script { next: VecDeque::new(), then, seen: 0 }));
        let peer = Self { address: listener.local_addr().unwrap(), script };
        let of_thread = peer.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let peer = of_thread.clone();
                std::thread::spawn(move || peer.serve(stream.unwrap(), server));
            }
        });
        peer
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Does these with the next requests.
    pub fn next(&self, acts: &[Act]) {
        self.script.lock().unwrap().next.extend(acts);
    }

    /// Does this with every request from now on.
    pub fn then(&self, act: Act) {
        self.script.lock().unwrap().then = act;
    }

    /// How many requests have come.
    pub fn seen(&self) -> usize {
        self.script.lock().unwrap().seen
    }

    fn serve(&self, mut stream: TcpStream, server: Option<Client>) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(request) = read_request(&mut reader) {
            let act = {
                let mut script = self.script.lock().unwrap();
                script.seen += 1;
                script.next.pop_front().unwrap_or(script.then)
            };
            let answer = match act {
                Act::Pass | Act::Lose | Act::Half => exchange(server.unwrap(), &request),
                Act::Garbage => b"\0\x01 what is this\r\n\r\n".to_vec(),
                Act::Page => b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nhi".to_vec(),
                Act::Hang => {
                    // Until the client has given up.
                    let _ = reader.read(&mut [0]);
                    return;
                }
                Act::Close => return,
            };
            let sent = match act {
                Act::Lose => return,
                Act::Half => &answer[..answer.len() - 1],
                _ => &answer[..],
            };
            if stream.write_all(sent).is_err() || act != Act::Pass {
                return;
            }
        }
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let (mut request, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        request.extend_from_slice(line.as_bytes());
        if line == "\r\n" {
            break;
        }
    }
    let head = request.len();
    request.resize(head + length, 0);
    reader.read_exact(&mut request[head..]).ok()?;
    Some(request)
}

/// The whole answer of the server, as bytes.
fn exchange(server: Client, request: &[u8]) -> Vec<u8> {
    let mut stream = server.connect();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream.write_all(request).unwrap();
    let mut reader = BufReader::new(stream);
    let (status, headers) = read_head(&mut reader);
    let mut answer = format!("HTTP/1.1 {status} X\r\n").into_bytes();
    let mut length = 0;
    for (name, value) in headers {
        if name == "content-length" {
            length = value.parse().unwrap();
        }
        write!(answer, "{name}: {value}\r\n").unwrap();
    }
    answer.extend_from_slice(b"\r\n");
    let head = answer.len();
    answer.resize(head + length, 0);
    reader.read_exact(&mut answer[head..]).unwrap();
    answer
}
