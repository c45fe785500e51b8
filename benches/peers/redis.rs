//! Redis in a process and a directory of its own, and one connection to it that keeps several requests on their way.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

/// A server that syncs its file before it answers a write, and ends with the value.
pub struct Server {
    child: Child,
    socket: PathBuf,
    port: u16,
}

impl Server {
    /// None where `redis-server` is not installed.
    #[expect(clippy::disallowed_methods, reason = "nothing tells when a foreign process listens")]
    pub fn start(place: &Path) -> Option<Self> {
        let place = place.join("redis");
        std::fs::create_dir_all(&place).expect("the directory can be written");
        let (socket, port) = (place.join("socket"), free_port());
        let mut command = Command::new("redis-server");
        command.args(["--save", "", "--appendonly", "yes", "--appendfsync", "always", "--bind", "127.0.0.1"]);
        command.arg("--port").arg(port.to_string()).arg("--dir").arg(&place).arg("--unixsocket").arg(&socket);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().ok()?;
        let server = Self { child, socket, port };
        let mut waited = Duration::ZERO;
        while UnixStream::connect(&server.socket).is_err() {
            assert!(waited < PATIENCE, "redis-server does not answer");
            std::thread::sleep(LOOK);
            waited += LOOK;
        }
        Some(server)
    }

    /// A connection through the server's socket file.
    pub fn through_file(&self) -> Connection<UnixStream> {
        let stream = UnixStream::connect(&self.socket).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
        Connection::new(stream)
    }

    /// A connection over loopback.
    pub fn over_loopback(&self) -> Connection<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the server listens");
        stream.set_nodelay(true).expect("a socket sends at once");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
        Connection::new(stream)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended already needs no end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("a listener has an address").port()
}

/// One connection; what is asked together leaves in one write.
pub struct Connection<S> {
    stream: S,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl<S: Read + Write> Connection<S> {
    fn new(stream: S) -> Self {
        Self { stream, input: Vec::new(), output: Vec::new() }
    }

    /// Puts a command behind those that have not left yet.
    pub fn ask(&mut self, words: &[&str]) {
        write!(self.output, "*{}\r\n", words.len()).expect("a vector takes everything");
        for word in words {
            write!(self.output, "${}\r\n{word}\r\n", word.len()).expect("a vector takes everything");
        }
    }

    /// Sends what was asked, waits for at least one answer, and gives how many came and the bytes of their values.
    pub fn answers(&mut self) -> (usize, usize) {
        if !self.output.is_empty() {
            self.stream.write_all(&self.output).expect("the server reads");
            self.output.clear();
        }
        let mut buffer = [0; 16 << 10];
        loop {
            let length = self.stream.read(&mut buffer).expect("the server answers in time");
            assert!(length > 0, "the server has ended");
            self.input.extend_from_slice(&buffer[..length]);
            let (mut count, mut bytes, mut from) = (0, 0, 0);
            while let Some((end, value)) = answer(&self.input[from..]) {
                // Copied, as everybody must who hands it on.
                bytes += value.to_vec().len();
                from += end;
                count += 1;
            }
            if count > 0 {
                self.input.drain(..from);
                return (count, bytes);
            }
        }
    }
}

/// The first answer in `input`: where it ends, and its value.
fn answer(input: &[u8]) -> Option<(usize, &[u8])> {
    let line = input.windows(2).position(|two| two == b"\r\n")?;
    let body = line + 2;
    match input[0] {
        b'+' => Some((body, &[])),
        b'$' => {
            let text = std::str::from_utf8(&input[1..line]).expect("a length is text");
            let length: usize = text.parse().expect("the key is there");
            (input.len() >= body + length + 2).then(|| (body + length + 2, &input[body..body + length]))
        }
        _ => panic!("redis answers {}", String::from_utf8_lossy(&input[..line])),
    }
}
