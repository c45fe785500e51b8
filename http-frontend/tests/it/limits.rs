//! What a slow, greedy or hostile client meets.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use kappa_server::ServerOptions;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::client::{read_head, read_reply};
use crate::server::Server;

/// Short enough for a test, long enough for a busy machine.
const SHORT: Duration = Duration::from_millis(300);

/// Reads until the server closes; what it said, and how long that took.
fn read_to_close(mut stream: TcpStream) -> (Vec<u8>, Duration) {
    let started = Instant::now();
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Ok(_) => {}
        // A close with bytes unread arrives as a reset.
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
    }
    (said, started.elapsed())
}

/// Whatever a connection stops at before its request is whole, it may not hold the server: neither hyper's limits nor
/// the ones of requests begin before the first byte.
#[test]
fn silent_and_slow_connections_are_closed() {
    let server = Server::with(ServerOptions { header_timeout: SHORT, ..ServerOptions::default() });
    let client = server.client;
    let host = format!("host: {}\r\n", client.0);
    for (name, bytes) in [
        ("silent", String::new()),
        ("one byte", "G".to_owned()),
        ("half a line", "GET /livez HT".to_owned()),
        ("headers without end", format!("GET /livez HTTP/1.1\r\n{host}x: 1\r\n")),
        ("half an HTTP/2 preface", "PRI * HTTP/2.0\r\n".to_owned()),
        ("HTTP/2 preface and silence", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_owned()),
        ("idle after an answer", format!("GET /livez HTTP/1.1\r\n{host}\r\n")),
    ] {
        let mut stream = client.connect();
        stream.write_all(bytes.as_bytes()).unwrap();
        let (_, took) = read_to_close(stream);
        assert!(took < Duration::from_secs(10), "{name}: closed only after {took:?}");
        assert!(took >= SHORT / 2, "{name}: closed at once, after {took:?}");
    }
}

/// One byte now and then keeps a naive timer from firing.
#[test]
fn headers_that_drip_are_cut_off() {
    let server = Server::with(ServerOptions { header_timeout: SHORT, ..ServerOptions::default() });
    let mut stream = server.client.connect();
    stream.write_all(b"GET /livez HTTP/1.1\r\n").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < Duration::from_secs(10), "the connection is still open");
        if stream.write_all(b"x: 1\r\n").is_err() {
            break;
        }
        match stream.read(&mut [0; 256]) {
            Ok(0) => break,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            _ => {}
        }
    }
}

#[test]
fn a_body_that_stands_still_is_refused() {
    let server = Server::with(ServerOptions { body_timeout: SHORT, ..ServerOptions::default() });
    let client = server.client;
    for (path, json) in [("/v1/products", true), ("/api/productos", false), ("/api/user", false)] {
        let mut stream = client.connect();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{{",
            client.0
        );
        stream.write_all(head.as_bytes()).unwrap();
        let reply = read_reply(stream, false);
        assert_eq!(reply.status, 408, "{path}");
        if json {
            reply.is_problem(408, "request_timeout");
        }
    }
}

/// A byte now and then is progress, but no reason to hold a request for ever.
#[test]
fn a_body_that_drips_is_refused() {
    let server = Server::with(ServerOptions { request_timeout: 2 * SHORT, ..ServerOptions::default() });
    let mut stream = server.client.connect();
    let head = format!(
        "POST /v1/products HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n",
        server.client.0
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let started = Instant::now();
    while stream.peek(&mut [0]).is_err() {
        assert!(started.elapsed() < Duration::from_secs(10), "the request is still open");
        stream.write_all(b" ").unwrap();
    }
    read_reply(stream, false).is_problem(408, "request_timeout");
}

#[test]
fn a_body_over_the_limit_is_refused_however_it_comes() {
    let server = Server::start();
    let client = server.client;
    let big = vec![b' '; 10 << 20];
    client.send("POST", "/v1/products", &[("content-type", "application/json")], &big).is_problem(413, "too_large");
    let reply = client.send("POST", "/api/productos", &[("content-type", "application/json")], &big);
    reply.is(413, r#"{"error":"Los valores enviados no son válidos"}"#);
    let reply = client.send("POST", "/api/user", &[("content-type", "application/json")], &big);
    assert_eq!((reply.status, reply.json()["statusCode"].as_str()), (413, Some("10001")));

    let mut stream = client.connect();
    let head = format!(
        "POST /v1/products HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
        client.0
    );
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = [b"10000\r\n".as_slice(), &vec![b' '; 0x1_0000], b"\r\n"].concat();
    for _ in 0..32 {
        stream.write_all(&chunk).unwrap();
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    read_reply(stream, false).is_problem(413, "too_large");
    client.get("/v1/products?count=true").is(200, r#"{"count":0}"#);
}

/// The largest document that core takes must also fit through the door.
#[test]
fn a_document_of_nearly_one_mebibyte_passes() {
    let server = Server::start();
    let text = "x".repeat((1 << 20) - 4_096);
    let made = server.client.json("POST", "/v1/collections/big", &format!(r#"{{"id":"a","text":"{text}"}}"#));
    assert_eq!(made.status, 201, "{}", made.text().get(..200).unwrap_or_default());
    assert_eq!(server.client.get("/v1/collections/big/a").json()["text"].as_str().unwrap().len(), text.len());
}

#[test]
fn connections_over_the_limit_are_closed_and_room_is_given_back() {
    let options = ServerOptions { max_connections: 4, ..ServerOptions::default() };
    let server = Server::with(options);
    let client = server.client;
    let held: Vec<TcpStream> = (0..4).map(|_| client.held()).collect();
    let (said, _) = read_to_close(client.connect());
    assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 503 "), "{}", String::from_utf8_lossy(&said));
    drop(held);
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < Duration::from_secs(10), "room was not given back");
        let host = client.0;
        let reply = client.raw(format!("GET /livez HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").as_bytes());
        if reply.is_some_and(|reply| reply.status == 200) {
            break;
        }
    }
}

#[test]
fn a_thousand_idle_connections_do_not_keep_others_out() {
    let server = Server::start();
    let client = server.client;
    let wanted = idle_connections();
    println!("{wanted} idle connections");
    let idle: Vec<TcpStream> = (0..wanted).map(|_| TcpStream::connect(client.0).unwrap()).collect();
    let started = Instant::now();
    for _ in 0..20 {
        assert_eq!(client.get("/readyz").status, 200);
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(idle.len(), wanted);
}

/// 1 000, or what this process has room for beside the other tests: both ends are its own.
fn idle_connections() -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // A limit that cannot be raised to its maximum is seen when connections fail.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let carried = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |all| all as usize);
    (carried.saturating_sub(512) / 2).clamp(64, 1_000)
}

/// A client that asks for a long list and reads nothing must lose its connection, not hold memory.
#[test]
fn a_client_that_takes_no_answer_is_let_go() {
    // The timer for idle connections is put out of reach, since it would end this one too.
    let options =
        ServerOptions { write_timeout: SHORT, header_timeout: Duration::from_mins(10), ..ServerOptions::default() };
    let server = Server::with(options);
    let client = server.client;
    let started = Instant::now();
    let mut greedy = TcpStream::connect(client.0).unwrap();
    let ask = format!("GET /openapi.json HTTP/1.1\r\nhost: {}\r\n\r\n", client.0);
    greedy.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
    loop {
        assert!(started.elapsed() < Duration::from_secs(20), "the connection is still open");
        match greedy.write(ask.as_bytes()) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
}

/// An answer is out of hyper's hands long before the client has it. Were the connection idle from then on, every download
/// over a slow line would be cut off, although it goes on.
#[test]
fn a_long_answer_may_be_taken_slowly() {
    let server = Server::with(ServerOptions { header_timeout: SHORT, ..ServerOptions::default() });
    let client = server.client;
    let mut slow = client.connect();
    let path = "/v1/randoms?count=1000000000000000000&min=1&max=1000000&method=multinomial";
    slow.write_all(format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", client.0).as_bytes()).unwrap();
    let mut reader = BufReader::new(slow);
    let (status, headers) = read_head(&mut reader);
    let length = headers.iter().find(|(name, _)| name == "content-length").map(|(_, value)| value.parse::<usize>());
    assert_eq!(status, 200, "{headers:?}");
    let mut left = length.unwrap().unwrap();
    assert!(left > 12 << 20, "it must be more than the buffers between hold: {left}");
    let mut part = vec![0; 64 << 10];
    for _ in 0..3 {
        // By the time an idle connection is closed, this one has stood still for as long.
        read_to_close(client.connect());
        reader.read_exact(&mut part).unwrap();
        left -= part.len();
    }
    let copied = std::io::copy(&mut reader.take(left as u64), &mut std::io::sink()).unwrap();
    assert_eq!(copied, left as u64, "the answer was cut off");
}
