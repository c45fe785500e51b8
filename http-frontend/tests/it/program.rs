//! The program itself: what it says, how it ends, and with which code.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::changes::Events;
use crate::client::Client;

/// The program, without what the environment says about its port.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kappa-server"));
    command.env_remove("KAPPA_PORT").env_remove("PORT").stdin(Stdio::null());
    command
}

/// A program that listens; it is ended with the test.
pub struct Running {
    child: Child,
    said: BufReader<ChildStdout>,
    pub client: Client,
}

impl Running {
    /// Starts it and waits until it listens.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let url = line.split("http://").nth(1).unwrap_or_else(|| panic!("no address: {line:?}"));
        let client = Client(url.split(' ').next().unwrap().parse().unwrap());
        Self { child, said, client }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The code it ends with, and what it said since.
    fn end(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.said.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already in a test that succeeds.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
pub fn one_line(output: &Output, code: i32, parts: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in {said:?}");
    }
}

/// A supervisor that restarts on failure must not restart what can never start; a person must see why at once.
#[test]
fn what_cannot_start_says_why_in_one_line() {
    for arguments in [&["--port", "x"][..], &["--port", "65536"], &["--colour"], &["--host", "nowhere"], &["burn"]] {
        one_line(&program().args(arguments).output().unwrap(), 2, &["kappa-server: "]);
    }
    one_line(&program().env("KAPPA_PORT", "x").output().unwrap(), 2, &["KAPPA_PORT=x"]);
    one_line(&program().args(["--host", "0.0.0.0"]).output().unwrap(), 2, &["--allow-remote"]);
    let version = program().arg("--version").output().unwrap();
    assert_eq!((version.status.code(), version.stderr.len()), (Some(0), 0));
}

#[test]
fn a_taken_port_is_named_and_a_taken_directory_is_shared() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(program().args(["--port", "0", "--data"]).arg(directory.path()));
    let port = running.client.0.port().to_string();
    let other = tempfile::tempdir().unwrap();
    let taken = program().args(["-p", &port, "--data"]).arg(other.path()).output().unwrap();
    one_line(&taken, 1, &["port", &port, "taken"]);
    let second = Running::start(program().args(["--port", "0", "--data"]).arg(directory.path()));
    let made = second.client.json("POST", "/v1/products", r#"{"id":"p","title":"T","price":1}"#);
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(running.client.get("/v1/products/p").status, 200);
    let info = second.client.get("/v1/info").json();
    assert_eq!(info["database"]["role"], "client", "{info}");
    assert_eq!(info["database"]["owner_pid"], running.child.id(), "{info}");
    // The server that owns the directory is updated: the other one goes on.
    running.signal(Signal::TERM);
    assert_eq!(running.end().0, Some(0));
    assert_eq!(second.client.get("/v1/products/p").status, 200);
    assert_eq!(second.client.get("/v1/info").json()["database"]["role"], "owner");
}

#[test]
fn a_signal_ends_it_cleanly_also_with_an_open_feed() {
    for signal in [Signal::TERM, Signal::INT] {
        let directory = tempfile::tempdir().unwrap();
        let start = || Running::start(program().env("PORT", "0").arg("--data").arg(directory.path()));
        let running = start();
        let client = running.client;
        let made = client.json("POST", "/v1/products", r#"{"id":"p","title":"T","price":1}"#);
        assert_eq!(made.status, 201, "{}", made.text());
        let mut events = Events::open(client, "/v1/changes", &[]);
        assert!(events.next().is_some());
        running.signal(signal);
        assert!(events.next().is_none());
        let (code, said) = running.end();
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("stopped"), "{said}");

        let running = start();
        running.client.get("/v1/products/p").is(200, made.text());
        let info = running.client.get("/v1/info").json();
        assert_eq!(info["database"]["recovery"].as_array().unwrap().len(), 0, "a clean end needs no recovery: {info}");
    }
}

/// A burst of connections takes the last file descriptor; a server that gives up accepting then is down for good.
#[test]
fn it_outlives_a_lack_of_file_descriptors() {
    let directory = tempfile::tempdir().unwrap();
    let mut shell = Command::new("sh");
    shell.env("KAPPA_PORT", "0").args(["-c", "ulimit -n 64; exec \"$0\" --data \"$1\""]);
    let running = Running::start(shell.arg(env!("CARGO_BIN_EXE_kappa-server")).arg(directory.path()));
    let client = running.client;
    let burst: Vec<_> = (0..100).map(|_| client.connect()).collect();
    drop(burst);
    assert_eq!(client.get("/readyz").status, 200);
    let made = client.json("POST", "/v1/products", r#"{"title":"T","price":1}"#);
    assert_eq!(made.status, 201, "{}", made.text());
}

#[test]
fn the_description_is_printed_as_it_is_committed() {
    let printed = program().arg("openapi").output().unwrap();
    assert!(printed.status.success());
    let committed = include_str!("../../openapi.json");
    assert!(printed.stdout == committed.as_bytes(), "write openapi.json again with `kappa-server openapi`");
}
