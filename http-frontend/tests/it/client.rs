//! A client that shows every byte: plain sockets, no pool, no redirects.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// No answer takes longer in a sound server; a hang becomes a failed read instead of a test without end.
pub const BOUND: Duration = Duration::from_secs(30);

/// One answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks status and exact body.
    #[track_caller]
    pub fn is(&self, status: u16, body: &str) {
        assert_eq!((self.status, self.text()), (status, body));
    }

    /// Checks that this is a problem with `status` and `code`, with every member RFC 9457 asks for.
    #[track_caller]
    pub fn is_problem(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], "about:blank");
        assert!(problem["title"].is_string() && !problem["detail"].as_str().unwrap().is_empty(), "{problem}");
    }
}

/// Where to send.
#[derive(Clone, Copy, Debug)]
pub struct Client(pub SocketAddr);

impl Client {
    pub fn connect(self) -> TcpStream {
        let stream = TcpStream::connect(self.0).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        stream.set_write_timeout(Some(BOUND)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    pub fn get(self, path: &str) -> Reply {
        self.send("GET", path, &[], b"")
    }

    pub fn json(self, method: &str, path: &str, body: &str) -> Reply {
        self.send(method, path, &[("content-type", "application/json")], body.as_bytes())
    }

    pub fn form(self, method: &str, path: &str, body: &str) -> Reply {
        self.send(method, path, &[("content-type", "application/x-www-form-urlencoded")], body.as_bytes())
    }

    pub fn send(self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut stream = self.connect();
        self.write(&mut stream, method, path, headers, body);
        read_reply(stream, method == "HEAD")
    }

    /// Writes a request without waiting for its answer.
    pub fn write(self, stream: &mut TcpStream, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n").into_bytes();
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            write!(head, "host: {}\r\n", self.0).unwrap();
        }
        if !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
            write!(head, "content-length: {}\r\n", body.len()).unwrap();
        }
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        head.extend_from_slice(b"\r\n");
        stream.write_all(&head).unwrap();
        stream.write_all(body).unwrap();
    }

    /// A kept-alive connection that the server has surely accepted: it answered on it.
    pub fn held(self) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(format!("GET /livez HTTP/1.1\r\nhost: {}\r\n\r\n", self.0).as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"ok\n") {
            let mut byte = [0];
            assert_eq!(stream.read(&mut byte).unwrap(), 1);
            answer.push(byte[0]);
        }
        stream
    }

    /// Sends bytes as they are and reads until the server closes; a server that does neither fails the test.
    pub fn exchange(self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
        // It may close before it has taken everything.
        let _ = stream.write_all(bytes);
        let mut said = Vec::new();
        match stream.read_to_end(&mut said) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "it hangs: {error}"),
        }
        String::from_utf8_lossy(&said).into_owned()
    }

    /// Sends bytes as they are; none when the server closes without an answer.
    pub fn raw(self, bytes: &[u8]) -> Option<Reply> {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        let mut first = [0];
        match stream.peek(&mut first) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(read_reply(stream, false)),
        }
    }
}

/// Reads one whole answer.
pub fn read_reply(stream: TcpStream, head_only: bool) -> Reply {
    let mut reader = BufReader::new(stream);
    let (status, headers) = read_head(&mut reader);
    read_rest(reader, status, headers, head_only)
}

/// Reads the body behind a head.
pub fn read_rest(
    mut reader: BufReader<TcpStream>,
    status: u16,
    headers: Vec<(String, String)>,
    head_only: bool,
) -> Reply {
    let find = |name: &str| headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone());
    let mut body = Vec::new();
    if head_only || status == 204 || status == 304 {
    } else if find("transfer-encoding").is_some() {
        while let Some(chunk) = read_chunk(&mut reader) {
            body.extend_from_slice(&chunk);
        }
    } else {
        let length: u64 = find("content-length").map_or(0, |length| length.parse().unwrap());
        reader.take(length).read_to_end(&mut body).unwrap();
        assert_eq!(body.len() as u64, length, "the body ended early");
    }
    Reply { status, headers, body }
}

/// The status and the headers, names in lower case.
pub fn read_head(reader: &mut impl BufRead) -> (u16, Vec<(String, String)>) {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("no status line: {line:?}")).parse().unwrap();
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(':') else { return (status, headers) };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

/// The next chunk of a chunked body; none at its end.
pub fn read_chunk(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let length = usize::from_str_radix(line.trim(), 16).unwrap_or_else(|_| panic!("no chunk: {line:?}"));
    let mut chunk = vec![0; length + 2];
    reader.read_exact(&mut chunk).unwrap();
    chunk.truncate(length);
    (length > 0).then_some(chunk)
}
