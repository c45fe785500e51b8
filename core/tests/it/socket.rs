//! Whoever connects to the socket of an owner and does not speak as a client does.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use kappa_core::Kappa;
use serde_json::json;

use crate::database::{self, open, small};
use crate::member::{Member, Order};

fn connect(directory: &Path) -> UnixStream {
    let stream = UnixStream::connect(directory.join("socket")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Everything the owner says until it ends the connection, which it must.
fn heard(mut stream: UnixStream) -> Vec<u8> {
    let mut heard = Vec::new();
    match stream.read_to_end(&mut heard) {
        Ok(_) => {}
        // What it had not read when it ended the connection.
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "the connection stays open"),
    }
    heard
}

fn hello(lowest: u16, highest: u16) -> Vec<u8> {
    let mut frame = vec![0, 0, 0, 22, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    frame.extend_from_slice(b"kappa");
    frame.extend_from_slice(&lowest.to_be_bytes());
    frame.extend_from_slice(&highest.to_be_bytes());
    frame.extend_from_slice(&std::process::id().to_be_bytes());
    frame
}

fn writes(kappa: &Kappa) {
    kappa.collection(database::THINGS).unwrap().create(json!({})).wait().unwrap();
}

/// One broken peer must cost the owner its connection, and nobody else anything.
#[test]
fn what_is_no_client_is_let_go_and_the_owner_lives() {
    let place = tempfile::tempdir().unwrap();
    let kappa = open(place.path(), &small());
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], &[0xff; 64], &hello(1, 1)[..20]] {
        let mut stream = connect(place.path());
        stream.write_all(garbage).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        heard(stream);
        writes(&kappa);
    }
    let mut stream = connect(place.path());
    stream.write_all(&hello(2, 9)).unwrap();
    let said = String::from_utf8_lossy(&heard(stream)).into_owned();
    assert!(said.contains("unsupported") && said.contains("2..9"), "{said}");
    let mut stream = connect(place.path());
    stream.write_all(&hello(1, 9)).unwrap();
    let mut head = [0; 5];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[4], 64, "a newer client is welcome");
    let mut rest = vec![0; usize::from(head[3]) - 1];
    stream.read_exact(&mut rest).unwrap();
    // A call that nobody knows, and one whose operation nobody knows, fail alone.
    stream.write_all(&[0, 0, 0, 9, 50, 0, 0, 0, 0, 0, 0, 0, 1]).unwrap();
    stream.write_all(&[0, 0, 0, 11, 2, 0, 0, 0, 0, 0, 0, 0, 2, b'{', b'}']).unwrap();
    for number in [1, 2] {
        let mut head = [0; 13];
        stream.read_exact(&mut head).unwrap();
        assert_eq!((head[4], head[12]), (66, number));
        let mut body = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]])) - 9];
        stream.read_exact(&mut body).unwrap();
        assert!(String::from_utf8_lossy(&body).contains("unsupported"));
    }
    // A frame that claims more than any may have ends the connection before anybody waits for it.
    stream.write_all(&[0x7f, 0xff, 0xff, 0xff, 2]).unwrap();
    heard(stream);
    writes(&kappa);
    kappa.close().unwrap();
}

/// Calls that were sent and whose client is gone must neither hold the owner nor be half done.
#[test]
fn a_client_that_vanishes_amid_its_calls_is_forgotten() {
    let place = tempfile::tempdir().unwrap();
    let kappa = open(place.path(), &small());
    for _ in 0..20 {
        let mut stream = connect(place.path());
        stream.write_all(&hello(1, 1)).unwrap();
        let operation = br#"{"create":{"collection":"things","document":{},"ttl_ms":null}}"#;
        for number in 0..50_u64 {
            let mut frame = vec![3];
            frame.extend_from_slice(&number.to_be_bytes());
            frame.extend_from_slice(&i64::MAX.to_be_bytes());
            frame.extend_from_slice(&[7; 8]);
            frame.extend_from_slice(&[0; 7]);
            frame.extend_from_slice(operation);
            let mut whole = u32::try_from(frame.len()).unwrap().to_be_bytes().to_vec();
            whole.extend_from_slice(&frame);
            stream.write_all(&whole).unwrap();
        }
        drop(stream);
        writes(&kappa);
    }
    kappa.close().unwrap();
}

/// A data directory is nobody else's business.
#[test]
fn directory_lock_and_socket_are_private() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("a").join("data");
    let kappa = open(&directory, &small());
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&directory.join("LOCK")), 0o600);
    assert_eq!(mode(&directory.join("socket")), 0o600);
    kappa.close().unwrap();
    assert!(!directory.join("socket").exists(), "nobody waits at the socket of nobody");
}

/// Scripts that open, write one thing and end must leave nothing behind that adds up.
#[test]
fn many_short_lived_clients_come_and_go() {
    let place = tempfile::tempdir().unwrap();
    let kappa = open(place.path(), &small());
    let threads = || std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    let files = || std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let mut settled = (0, 0);
    for n in 0..100 {
        let client = open(place.path(), &small());
        assert_eq!(client.info().unwrap().role, "client");
        writes(&client);
        drop(client);
        if n == 10 {
            settled = (threads(), files());
        }
    }
    // Other tests of this process come and go too; a leak here would be two threads and a file each.
    assert!(threads() < settled.0 + 90 && files() < settled.1 + 80, "{settled:?} {} {}", threads(), files());
    let count = kappa.collection(database::THINGS).unwrap().count().wait().unwrap();
    assert_eq!(count, 100);
}

/// The path of a socket is short; that of a data directory need not be. And what a killed owner left must not keep anybody out.
#[test]
fn a_deep_directory_and_a_stale_socket_are_no_obstacle() {
    let place = tempfile::tempdir().unwrap();
    let deep = place.path().join("d".repeat(100)).join("e".repeat(100));
    let mut owner = Member::open(&deep);
    let mut client = Member::open_as(&deep, "client", 10_000);
    client.must(&Order::Create("a".into()));
    owner.kill();
    assert!(deep.join("socket").exists(), "it is stale now");
    let mut next = Member::open(&deep);
    assert_eq!(next.tags(), ["a"]);
    client.must(&Order::Create("b".into()));
    assert_eq!(client.info(), ("client".into(), next.pid()));
}
