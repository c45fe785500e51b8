//! The server in a process of its own, with its workers, as `kappa-server` starts it.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use kappa_benches::say;
use kappa_core::Kappa;
use kappa_server::ServerOptions;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Set in the server's process.
const PLACE: &str = "KAPPA_BENCH_TASK_SERVER";

/// Whether this process is to be the server.
pub fn is_asked_for() -> bool {
    std::env::var_os(PLACE).is_some()
}

/// Serves until the standard input ends.
pub fn run() {
    let place = PathBuf::from(std::env::var_os(PLACE).expect("the parent gives it"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("there are threads");
    let (stop, stopped) = oneshot::channel();
    std::thread::spawn(move || {
        // Any end of the input is the end.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        stop.send(()).ok();
    });
    let kappa = Kappa::open(place).expect("a new directory");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        say(listener.local_addr().expect("a listener has an address"));
        let stop = async { drop(stopped.await) };
        kappa_server::serve(kappa.clone(), ServerOptions::default(), listener, stop).await.expect("it serves");
    });
    kappa.close().expect("the database closes");
}

/// The server's process; it ends with the value.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Starts it over the directory `place`.
    pub fn start(place: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.env(PLACE, place).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("this program runs again");
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.as_mut().expect("its output is piped"));
        output.read_line(&mut line).expect("its output is text");
        Self { address: line.trim().parse().expect("a server prints its address"), child }
    }

    /// The number of its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // One that has ended already has nothing left to wait for.
        let _ = self.child.wait();
    }
}
