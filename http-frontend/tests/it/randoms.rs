//! Random numbers: exact sums, refused counts, and bounded work.

use std::time::{Duration, Instant};

use kappa_server::ServerOptions;

use crate::client::{BOUND, Client};
use crate::server::Server;

/// A draw that no test waits for.
const ENDLESS: &str = "/v1/randoms?count=10000000000";

fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.sum()
}

#[test]
fn the_seed_route_counts_what_came_up() {
    let server = Server::start();
    let client = server.client;
    for path in ["/api/randoms?cant=20000", "/api/randoms/?cant=20000"] {
        let counts = client.get(path).json();
        let counts = counts.as_object().unwrap();
        assert!(counts.keys().all(|key| (1..=1_000).contains(&key.parse::<u32>().unwrap())));
        assert_eq!(sum(counts.values().map(|count| count.as_u64().unwrap())), 20_000);
    }
    assert_eq!(client.get("/api/randoms?cant=1").json().as_object().unwrap().len(), 1);
    for bad in ["-1", "0", "abc", "", "1e3", "10000000001", "1000000000000000000000000000000", "NaN", "%00"] {
        client.get(&format!("/api/randoms?cant={bad}")).is(400, r#"{"error":"valor de parámetro inválido"}"#);
    }
}

#[test]
fn the_uniform_route_repeats_a_seed_and_draws_pictures() {
    let server = Server::start();
    let client = server.client;
    let first = client.get("/v1/randoms?count=10000&min=-5&max=5&seed=7").json();
    let second = client.get("/v1/randoms?count=10000&min=-5&max=5&seed=7").json();
    assert_eq!(first["counts"], second["counts"]);
    assert_eq!((&first["count"], &first["method"]), (&10_000.into(), &"draw".into()));
    assert_eq!(first["counts"].as_array().unwrap().len(), 11);
    let huge = client.get("/v1/randoms?count=1000000000000&method=multinomial").json();
    assert_eq!(sum(huge["counts"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap())), 1_000_000_000_000);
    let picture = client.send("GET", "/v1/randoms?count=1000", &[("accept", "image/svg+xml")], b"");
    assert_eq!(picture.header("content-type"), Some("image/svg+xml"));
    assert!(picture.text().starts_with("<svg"), "{}", picture.text());
    let refused = client.get("/v1/randoms?count=10000000001");
    refused.is_problem(400, "invalid_input");
    assert!(refused.text().contains("multinomial"), "{}", refused.text());
    for bad in ["count=x", "count=-1", "min=5&max=1", "method=guess", "colour=red", "seed=1.5"] {
        client.get(&format!("/v1/randoms?{bad}")).is_problem(400, "invalid_input");
    }
    for wide in ["min=0&max=1048576", "min=-9223372036854775808&max=9223372036854775807"] {
        let refused = client.get(&format!("/v1/randoms?count=10&{wide}"));
        refused.is_problem(413, "too_large");
        assert!(refused.text().contains("most=1048576"), "{}", refused.text());
    }
    let widest = client.get("/v1/randoms?count=10&min=1&max=1048576&method=multinomial").json();
    assert_eq!(widest["counts"].as_array().unwrap().len(), 1 << 20);
}

/// How many draws run, as the server says.
fn running(client: Client) -> u64 {
    client.get("/v1/info").json()["process"]["draws_running"].as_u64().unwrap()
}

fn wait_until_running(client: Client, wanted: u64) {
    let started = Instant::now();
    while running(client) != wanted {
        assert!(started.elapsed() < BOUND, "draws never became {wanted}");
    }
}

/// One process per call, for ever: that was the old server's way to be taken down by anybody with a browser.
#[test]
fn draws_are_bounded_and_stop_when_their_client_leaves() {
    let server = Server::with(ServerOptions { max_draws: 1, ..ServerOptions::default() });
    let client = server.client;
    let mut leaving = client.connect();
    client.write(&mut leaving, "GET", ENDLESS, &[], b"");
    wait_until_running(client, 1);

    let busy = client.get("/v1/randoms?count=10");
    busy.is_problem(429, "overloaded");
    assert_eq!(busy.header("retry-after"), Some("1"));
    let busy = client.get("/api/randoms?cant=10");
    busy.is(429, r#"{"error":"demasiados cálculos simultáneos, intente más tarde"}"#);
    assert_eq!(busy.header("retry-after"), Some("1"));
    assert_eq!(client.get("/livez").status, 200, "the threads that answer stay free");

    drop(leaving);
    let left = Instant::now();
    wait_until_running(client, 0);
    assert!(left.elapsed() < Duration::from_secs(2), "the draw went on for {:?}", left.elapsed());
    assert_eq!(client.get("/api/randoms?cant=10").status, 200);
}

#[test]
fn a_draw_that_takes_too_long_is_stopped() {
    let options = ServerOptions { max_draws: 1, draw_timeout: Duration::from_millis(50), ..ServerOptions::default() };
    let server = Server::with(options);
    server.client.get(ENDLESS).is_problem(503, "cancelled");
    wait_until_running(server.client, 0);
}
