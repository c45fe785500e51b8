//! One product over HTTP, against a bare axum route and bare hyper that answer the same bytes and headers.
//!
//! Each server is a process of its own on one core; the loader has another core. All run this program.

#[path = "http/load.rs"]
mod load;
#[path = "http/servers.rs"]
mod servers;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use kappa_benches::{Rounds, cpu_seconds_of, describe, directory, is_wanted, pin_to, say};

use load::{Load, fetch};

const ROLE: &str = "KAPPA_BENCH_ROLE";
const PLACE: &str = "KAPPA_BENCH_PLACE";
const ROUNDS: usize = 15;
const ROUND_SECONDS: f64 = 0.5;

/// Processors by their place among the allowed ones.
const SERVER: usize = 0;
const LOADER: usize = 1;

fn main() {
    match std::env::var(ROLE).as_deref() {
        Ok(role) => {
            pin_to(SERVER);
            servers::run(role);
        }
        Err(_) if is_wanted("http") => measure(),
        Err(_) => {}
    }
}

fn measure() {
    describe("http");
    pin_to(LOADER);
    let place = directory(env!("CARGO_TARGET_TMPDIR"));
    let kappa = Server::start("kappa", place.path());
    // What the bare servers answer is what Kappa answered to this.
    let answer = fetch(kappa.address, &servers::path(0));
    std::fs::write(place.path().join(servers::ANSWER), answer.to_text()).expect("the directory can be written");
    let axum = Server::start("axum", place.path());
    let hyper = Server::start("hyper", place.path());
    let subjects = [("kappa", &kappa), ("bare axum", &axum), ("bare hyper", &hyper)];
    for (name, server) in subjects {
        assert!(fetch(server.address, &servers::path(1)).is_like(&answer), "{name} answers otherwise");
    }
    let mut rates = Rounds::new("http: GET /v1/products/{id}, 32 connections", "requests/s");
    let mut costs = Rounds::new("http: what a request costs the server", "us of CPU");
    let mut loads = subjects.map(|(_, server)| Load::new(server.address, &answer));
    for round in 0..=ROUNDS {
        for ((name, server), load) in subjects.iter().zip(&mut loads) {
            let before = cpu_seconds_of(server.child.id());
            let (count, seconds) = load.run(ROUND_SECONDS);
            let cpu = cpu_seconds_of(server.child.id()) - before;
            if round > 0 {
                rates.add(name, count as f64 / seconds);
                costs.add(name, cpu * 1e6 / count as f64);
            }
        }
    }
    rates.print();
    rates.at_least("kappa", "bare axum", 0.8);
    rates.at_least("kappa", "bare hyper", 0.55);
    costs.print();
    costs.report("bare axum", "kappa");
    costs.report("bare hyper", "kappa");
    say("  (where the loader is the slower side, the rates come closer to each other than the costs are)");
}

/// A server that runs until the value goes.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(role: &str, place: &Path) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut command = Command::new(program);
        // Its input is a pipe of ours, whose end it notices should this process die.
        command.env(ROLE, role).env(PLACE, place).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("this program runs again");
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.as_mut().expect("its output is piped"));
        output.read_line(&mut line).expect("its output is text");
        let address = line.trim().parse().expect("a server prints its address");
        Self { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // A server that has ended already has nothing left to wait for.
        let _ = self.child.wait();
    }
}
