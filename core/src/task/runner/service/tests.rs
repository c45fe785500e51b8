//! A server of tasks that answers as it should, badly, or not at all.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use super::*;
use crate::task::kinds::testing::Stage;

/// Answers one request with `answer`, word for word; gives the request.
fn serve(answer: &str) -> (String, JoinHandle<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    let answer = answer.to_owned();
    let served = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("somebody asks");
        let mut reader = BufReader::new(&stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).expect("a line") > 0, "{head}");
        }
        let length = head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.expect("a length")];
        reader.read_exact(&mut body).expect("a body");
        // One that does not listen any more is the point of some tests.
        let _ = (&stream).write_all(answer.as_bytes());
        (head, String::from_utf8(body).expect("text"))
    });
    (address, served)
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn service(address: &str) -> CallService {
    let definition = json!({"address": address, "seconds": 30, "answer_bytes": 100});
    CallService::new("sum", &serde_json::from_value(definition).expect("a definition")).expect("it is fine")
}

#[test]
fn the_contract_of_task_images_is_kept() {
    let (address, served) = serve(&answer("200 OK", r#"{"result":10}"#));
    assert_eq!(service(&address).run(&Stage::new(json!([1, 2, 3, 4]))), Ok(json!(10)));
    let (head, body) = served.join().expect("served");
    assert!(head.starts_with("POST /task/sum HTTP/1.1\r\n") && head.contains("kappa-task-fence: 7-1\r\n"), "{head}");
    assert_eq!(body, r#"{"params":[1,2,3,4]}"#);
}

/// A page of a proxy, half an answer or an endless one taken for a result would be stored as one.
#[test]
fn what_is_no_result_is_a_failure() {
    for (said, code, retry) in [
        (answer("400 Bad Request", "no numbers"), "refused", false),
        (answer("422 Unprocessable Content", "no numbers"), "refused", false),
        (answer("404 Not Found", ""), "service_status", false),
        (answer("401 Unauthorized", ""), "service_status", false),
        (answer("429 Too Many Requests", ""), "service_status", true),
        (answer("500 Internal Server Error", "broken"), "service_status", true),
        (answer("302 Found", ""), "service_status", true),
        (answer("200 OK", "<html>"), "output_format", false),
        (answer("200 OK", r#"{"answer":1}"#), "output_format", false),
        (answer("200 OK", &"x".repeat(101)), "output_limit", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{\"result\"".to_owned(), "service_away", true),
        ("nonsense".to_owned(), "service_away", true),
    ] {
        let (address, served) = serve(&said);
        let failure = service(&address).run(&Stage::new(json!({}))).expect_err(&said);
        assert_eq!((failure.code.as_str(), failure.retry), (code, retry), "{said}: {failure}");
        served.join().expect("served");
    }
    let nobody = service("http://127.0.0.1:1").run(&Stage::new(json!({}))).expect_err("nobody is there");
    assert!(nobody.retry && nobody.code == "service_away", "{nobody}");
}

/// A server that takes a task and says nothing must not hold a worker's slot for ever.
#[test]
fn one_that_says_nothing_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    let seen = Arc::new(AtomicBool::new(false));
    let stage = Stage::new(json!({})).cancelled_after(1);
    let failure = service(&address).run(&stage).expect_err("nobody answers");
    assert!(failure.is_cancelled(), "{failure}");
    seen.store(true, Ordering::SeqCst);
    let mut definition: ServiceDefinition = serde_json::from_value(json!({ "address": address })).expect("one");
    definition.seconds = 1;
    let service = CallService::new("sum", &definition).expect("it is fine");
    let failure = service.run(&Stage::new(json!({}))).expect_err("nobody answers");
    assert_eq!((failure.code.as_str(), failure.retry), ("time_limit", true));
}

#[test]
fn only_plain_addresses_and_names_are_taken() {
    for (address, task, field) in [
        ("https://127.0.0.1", "sum", "address"),
        ("127.0.0.1:5000", "sum", "address"),
        ("http://127.0.0.1:5000", "../admin", "task"),
        ("http://127.0.0.1:5000", "", "task"),
        ("http://127.0.0.1:5000", "a b", "task"),
    ] {
        let definition = serde_json::from_value(json!({"address": address, "task": task})).expect("a definition");
        let error = CallService::new("x", &definition).map(drop).expect_err("refused").to_string();
        assert!(error.contains(&format!("field={field}")), "{error}");
    }
}
