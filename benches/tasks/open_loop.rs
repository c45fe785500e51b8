//! An open loop: requests begin when their time has come, whether earlier ones were answered or not.
//!
//! A request that finds every connection busy waits here, and its time counts from when it should have begun: a server
//! that stops for a second is charged with each request of that second (no coordinated omission).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use kappa_benches::Stopwatch;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// A rate at which the server is behind for good ends once so many seconds were not enough for what is left.
const PATIENCE: Duration = Duration::from_secs(20);

/// What was sent, and what came of it.
pub struct Found {
    /// How many answers carried each status.
    pub codes: BTreeMap<u16, usize>,
    /// Requests that were not answered in time.
    pub unanswered: usize,
    /// Answers a second, from the first request to the last answer.
    pub rate: f64,
    /// From when a request should have begun to its answer, in milliseconds, ascending.
    pub times: Vec<f64>,
}

impl Found {
    /// The mean time.
    pub fn mean(&self) -> f64 {
        self.times.iter().sum::<f64>() / self.times.len() as f64
    }

    /// The time that so many of a hundred answers stayed below.
    pub fn part(&self, share: usize) -> f64 {
        self.times[(self.times.len() * share / 100).min(self.times.len() - 1)]
    }
}

/// An answer: its status, and its time.
type Answered = (u16, f64);

/// Sends `request` so many times a second for so many seconds over so many connections.
pub fn run(address: SocketAddr, request: &'static [u8], rate: u32, seconds: u32, connections: usize) -> Found {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("no thread is needed");
    let count = rate as usize * seconds as usize;
    runtime.block_on(async {
        let (idle, mut idling) = mpsc::unbounded_channel();
        for _ in 0..connections {
            let stream = TcpStream::connect(address).await.expect("the server listens");
            stream.set_nodelay(true).expect("the stream is open");
            assert!(idle.send(stream).is_ok(), "the receiver is below");
        }
        let (answered, mut answers) = mpsc::unbounded_channel::<Answered>();
        let (due, mut times) = mpsc::unbounded_channel();
        let watch = Stopwatch::start();
        let clock = std::thread::spawn(move || {
            for number in 0..count {
                let at = number as f64 / f64::from(rate);
                pause_until(&watch, at);
                if due.send(at).is_err() {
                    return;
                }
            }
        });
        let send = async move {
            while let Some(at) = times.recv().await {
                let Some(mut stream) = idling.recv().await else { return };
                let (idle, answered) = (idle.clone(), answered.clone());
                tokio::spawn(async move {
                    let status = ask(&mut stream, request).await;
                    // Both receivers are gone when patience is over.
                    let _ = answered.send((status, (watch.seconds() - at) * 1e3));
                    let _ = idle.send(stream);
                });
            }
        };
        let mut found =
            Found { codes: BTreeMap::new(), unanswered: count, rate: 0.0, times: Vec::with_capacity(count) };
        let receive = async {
            while let Some((status, ms)) = answers.recv().await {
                *found.codes.entry(status).or_default() += 1;
                found.times.push(ms);
            }
        };
        let both = async { tokio::join!(send, receive) };
        // What is not answered by then counts as unanswered.
        let _ = tokio::time::timeout(Duration::from_secs(seconds.into()) + PATIENCE, both).await;
        found.unanswered = count - found.times.len();
        found.rate = found.times.len() as f64 / watch.seconds();
        found.times.sort_by(f64::total_cmp);
        clock.join().expect("the clock does not panic");
        found
    })
}

/// Sleeps as exactly as the system does: a timer of the runtime has whole milliseconds.
#[expect(clippy::disallowed_methods, reason = "an open loop is led by the clock alone")]
fn pause_until(watch: &Stopwatch, at: f64) {
    let left = at - watch.seconds();
    if left > 0.0 {
        std::thread::sleep(Duration::from_secs_f64(left));
    }
}

/// One request, and the status of its answer.
async fn ask(stream: &mut TcpStream, request: &[u8]) -> u16 {
    stream.write_all(request).await.expect("the server reads");
    let mut received = Vec::new();
    let mut part = [0; 2048];
    loop {
        let bytes = stream.read(&mut part).await.expect("the server answers");
        assert!(bytes > 0, "the server closed the connection");
        received.extend_from_slice(&part[..bytes]);
        let text = std::str::from_utf8(&received).expect("an answer is text");
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("it has a length");
        if body.len() >= length.parse().expect("a length is a number") {
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
            return status.expect("an answer has a status");
        }
    }
}
