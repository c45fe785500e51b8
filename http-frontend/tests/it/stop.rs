//! The graceful end.

use std::time::{Duration, Instant};

use kappa_server::ServerOptions;

use crate::changes::Events;
use crate::client::BOUND;
use crate::server::Server;

/// An open change feed has no end of its own; a server that waits for it never stops.
#[test]
fn an_open_feed_ends_cleanly_and_does_not_hold_the_stop_up() {
    let mut server = Server::with(ServerOptions { stop_timeout: BOUND, ..ServerOptions::default() });
    let client = server.client;
    let mut events = Events::open(client, "/v1/changes", &[]);
    assert!(events.next().is_some());
    let mut idle = client.held();
    let asked = Instant::now();
    server.end();
    assert!(asked.elapsed() < BOUND / 2, "it took {:?}", asked.elapsed());
    assert!(events.next().is_none(), "the stream ends with its last chunk, not with a broken connection");
    assert_eq!(std::io::Read::read(&mut idle, &mut [0]).unwrap(), 0, "idle connections are closed");
    assert!(std::net::TcpStream::connect(client.0).is_err(), "nobody listens any more");
}

/// A request that does not end must not keep the process alive beyond the deadline, nor its draw the processors busy.
#[test]
fn a_request_in_flight_is_cut_off_at_the_deadline() {
    let options = ServerOptions { stop_timeout: Duration::from_millis(100), max_draws: 1, ..ServerOptions::default() };
    let mut server = Server::with(options);
    let client = server.client;
    let mut drawing = client.connect();
    client.write(&mut drawing, "GET", "/v1/randoms?count=10000000000", &[], b"");
    let started = Instant::now();
    while client.get("/v1/info").json()["process"]["draws_running"] != 1 {
        assert!(started.elapsed() < BOUND);
    }
    let asked = Instant::now();
    server.end();
    assert!(asked.elapsed() < Duration::from_secs(5), "it took {:?}", asked.elapsed());
}
