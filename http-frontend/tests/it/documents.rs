//! `/v1/products`: create, read, replace, patch, delete, list, and their conditions.

use std::sync::Barrier;

use crate::client::Client;
use crate::server::Server;

fn create(client: Client, body: &str) -> (String, String) {
    let reply = client.json("POST", "/v1/products", body);
    assert_eq!(reply.status, 201, "{}", reply.text());
    let id = reply.json()["id"].as_str().unwrap().to_owned();
    (id, reply.header("etag").unwrap().to_owned())
}

/// A client that follows the headers must find what it wrote, with every digit it sent.
#[test]
fn a_document_lives_from_create_to_delete() {
    let server = Server::start();
    let client = server.client;
    let made = client.json("POST", "/v1/products", r#"{"title":"Teclado","price":345.50,"color":"ñ"}"#);
    assert_eq!(made.status, 201, "{}", made.text());
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let (location, etag) = (made.header("location").unwrap(), made.header("etag").unwrap());
    assert_eq!(location, format!("/v1/products/{id}"));
    assert_eq!(made.text(), format!(r#"{{"id":"{id}","title":"Teclado","price":345.50,"color":"ñ"}}"#));
    assert_eq!(made.header("content-type"), Some("application/json"));

    let read = client.get(location);
    read.is(200, made.text());
    assert_eq!(read.header("etag"), Some(etag));
    assert_eq!(read.header("cache-control"), Some("no-cache"));

    let same = client.send("GET", location, &[("if-none-match", etag)], b"");
    same.is(304, "");
    assert_eq!(same.header("etag"), Some(etag));

    let head = client.send("HEAD", location, &[], b"");
    head.is(200, "");
    assert_eq!(head.header("content-length"), Some(made.body.len().to_string().as_str()));

    let patched = client.send(
        "PATCH",
        location,
        &[("content-type", "application/merge-patch+json"), ("if-match", etag)],
        br#"{"color":null,"price":1e2}"#,
    );
    assert_eq!(patched.status, 200, "{}", patched.text());
    assert!(patched.json().get("color").is_none());
    assert_ne!(patched.header("etag"), Some(etag));

    let late = client.send(
        "PUT",
        location,
        &[("content-type", "application/json"), ("if-match", etag)],
        br#"{"title":"x","price":1}"#,
    );
    late.is_problem(412, "version_mismatch");

    let replaced = client.json("PUT", location, r#"{"title":"Ratón","price":0}"#);
    assert_eq!(replaced.status, 200, "{}", replaced.text());
    assert_eq!(replaced.json()["title"], "Ratón");

    client.send("DELETE", location, &[("if-match", etag)], b"").is_problem(412, "version_mismatch");
    client.send("DELETE", location, &[], b"").is(204, "");
    client.send("DELETE", location, &[], b"").is_problem(404, "not_found");
    client.get(location).is_problem(404, "not_found");
    client.json("PATCH", location, r#"{"price":1}"#).is_problem(404, "not_found");
    client.json("PUT", location, r#"{"title":"x","price":1}"#).is_problem(404, "not_found");
}

#[test]
fn an_id_of_the_callers_is_kept_and_is_taken_once() {
    let server = Server::start();
    let client = server.client;
    let id = "a b/ñ?#%";
    let made = client.json("POST", "/v1/products", &format!(r#"{{"id":"{id}","title":"T","price":1}}"#));
    assert_eq!(made.status, 201, "{}", made.text());
    let location = made.header("location").unwrap();
    assert_eq!(location, "/v1/products/a%20b%2F%C3%B1%3F%23%25");
    assert_eq!(client.get(location).json()["id"], id);
    let again = client.json("POST", "/v1/products", &format!(r#"{{"id":"{id}","title":"T","price":1}}"#));
    again.is_problem(409, "already_exists");

    let new = [("content-type", "application/json"), ("if-none-match", "*")];
    let put = client.send("PUT", "/v1/products/p1", &new, br#"{"title":"P","price":1}"#);
    put.is(201, r#"{"id":"p1","title":"P","price":1}"#);
    assert_eq!(put.header("location"), Some("/v1/products/p1"));
    client.send("PUT", "/v1/products/p1", &new, br#"{"title":"P","price":1}"#).is_problem(412, "version_mismatch");
    client
        .send("PUT", "/v1/products/p2", &new, br#"{"id":"p3","title":"P","price":1}"#)
        .is_problem(400, "invalid_input");
    client.get("/v1/products/p2").is_problem(404, "not_found");
}

/// Two writers that both believe they saw the newest version: one of them must be told.
#[test]
fn of_many_writers_with_one_version_exactly_one_wins() {
    const WRITERS: usize = 8;
    let server = Server::start();
    let client = server.client;
    let (id, etag) = create(client, r#"{"title":"T","price":0}"#);
    let start = Barrier::new(WRITERS);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let writers: Vec<_> = (1..=WRITERS)
            .map(|price| {
                let (start, id, etag) = (&start, &id, &etag);
                scope.spawn(move || {
                    start.wait();
                    let body = format!(r#"{{"price":{price}}}"#);
                    let headers = [("content-type", "application/json"), ("if-match", etag.as_str())];
                    client.send("PATCH", &format!("/v1/products/{id}"), &headers, body.as_bytes()).status
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 412).count(), WRITERS - 1, "{statuses:?}");
}

/// A client whose answer was lost repeats its request; the shop must not sell twice.
#[test]
fn a_repeated_write_with_its_key_happens_once() {
    let server = Server::start();
    let client = server.client;
    let keyed = |body: &str| {
        let headers = [("content-type", "application/json"), ("idempotency-key", "\"order-1\"")];
        client.send("POST", "/v1/products", &headers, body.as_bytes())
    };
    let first = keyed(r#"{"title":"T","price":1}"#);
    assert_eq!(first.status, 201, "{}", first.text());
    let second = keyed(r#"{"title":"T","price":1}"#);
    second.is(201, first.text());
    assert_eq!(second.header("etag"), first.header("etag"));
    keyed(r#"{"title":"T","price":2}"#).is_problem(409, "conflict");
    client.get("/v1/products?count=true").is(200, r#"{"count":1}"#);
}

#[test]
fn pages_lead_through_the_whole_list_both_ways() {
    let server = Server::start();
    let client = server.client;
    client.get("/v1/products").is(200, r#"{"items":[],"next":null}"#);
    let ids: Vec<String> =
        (0..7).map(|price| create(client, &format!(r#"{{"title":"T","price":{price}}}"#)).0).collect();
    for (direction, expected) in [("forward", ids.clone()), ("backward", ids.iter().rev().cloned().collect())] {
        let mut path = format!("/v1/products?limit=3&direction={direction}");
        let (mut seen, mut pages) = (Vec::new(), 0);
        loop {
            let reply = client.get(&path);
            assert_eq!(reply.status, 200, "{}", reply.text());
            let page = reply.json();
            seen.extend(page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()));
            pages += 1;
            let Some(link) = reply.header("link") else {
                assert!(page["next"].is_null());
                break;
            };
            let next = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap();
            assert!(next.contains("limit=3") && next.contains(direction), "{next}");
            path = next.to_owned();
        }
        assert_eq!(seen, expected, "{direction}");
        assert_eq!(pages, 3, "{direction}");
    }
    let ids = format!("{},nobody,{}", ids[4], ids[0]);
    let some = client.get(&format!("/v1/products?ids={ids}")).json();
    let prices: Vec<_> = some["items"].as_array().unwrap().iter().map(|item| item["price"].to_string()).collect();
    assert_eq!(prices, ["4", "null", "0"]);
}

#[test]
fn what_was_answered_is_there_after_a_restart() {
    let server = Server::start();
    let (id, etag) = create(server.client, r#"{"title":"T","price":1}"#);
    let server = server.restart();
    let read = server.client.get(&format!("/v1/products/{id}"));
    assert_eq!(read.status, 200);
    assert_eq!(read.header("etag"), Some(etag.as_str()));
}

/// A condition that is dropped turns a guarded write into a lost update, and the client never learns of it.
#[test]
fn a_condition_is_kept_or_refused() {
    let server = Server::start();
    let client = server.client;
    let (id, etag) = create(client, r#"{"title":"T","price":0}"#);
    let one = format!("/v1/products/{id}");
    let json = ("content-type", "application/json");
    let whole = r#"{"title":"T","price":1}"#;
    let batch = format!(r#"{{"operations":[{{"op":"delete","collection":"products","id":"{id}"}}]}}"#);
    for (method, path, condition, body) in [
        ("POST", "/v1/products", "if-match", whole),
        ("POST", "/v1/products", "if-none-match", whole),
        ("GET", "/v1/products", "if-match", ""),
        ("GET", &one, "if-match", ""),
        ("PUT", &one, "if-none-match", whole),
        ("PATCH", &one, "if-none-match", whole),
        ("DELETE", &one, "if-none-match", ""),
        ("POST", "/v1/batch", "if-match", &batch),
        ("POST", "/v1/batch", "if-none-match", &batch),
        ("PUT", "/v1/definitions/products", "if-match", "{}"),
        ("DELETE", "/v1/definitions/products/indexes/x", "if-match", ""),
    ] {
        let reply = client.send(method, path, &[json, (condition, &etag)], body.as_bytes());
        assert_eq!(reply.status, 400, "{method} {path} {condition}: {}", reply.text());
        reply.is_problem(400, "invalid_input");
    }
    let both = [json, ("if-match", "*"), ("if-none-match", "*")];
    for (method, path) in [("PUT", one.as_str()), ("PATCH", &one), ("DELETE", &one), ("GET", &one)] {
        client.send(method, path, &both, whole.as_bytes()).is_problem(400, "invalid_input");
    }
    for tag in ["*", &etag] {
        for method in ["PUT", "PATCH", "DELETE"] {
            let reply = client.send(method, "/v1/products/none", &[json, ("if-match", tag)], whole.as_bytes());
            reply.is_problem(412, "version_mismatch");
        }
    }
    let unchanged = client.get(&one);
    assert_eq!((unchanged.status, unchanged.header("etag")), (200, Some(etag.as_str())));
    assert_eq!(client.send("PUT", &one, &[json, ("if-match", "*")], whole.as_bytes()).status, 200);
}
