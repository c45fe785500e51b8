//! Wrong requests of every sort: a clear 4xx each, never a 5xx, and the data stays as it was.

use crate::server::Server;

#[test]
fn no_wrong_request_is_a_defect_of_the_server() {
    let server = Server::start();
    let client = server.client;
    let made = client.json("POST", "/v1/products", r#"{"id":"p","title":"T","price":1}"#);
    assert_eq!(made.status, 201, "{}", made.text());
    let deep = format!(r#"{{"title":"T","price":1,"x":{}1{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
    let long = "x".repeat(1_000);
    let long_path = format!("/v1/products/{long}");
    let bodies = [
        ("POST", "/v1/products", ""),
        ("POST", "/v1/products", "{"),
        ("POST", "/v1/products", "null"),
        ("POST", "/v1/products", "[]"),
        ("POST", "/v1/products", "\"p\""),
        ("POST", "/v1/products", "{}"),
        ("POST", "/v1/products", r#"{"title":"T","price":"1"}"#),
        ("POST", "/v1/products", r#"{"title":"T","price":-1}"#),
        ("POST", "/v1/products", r#"{"title":"","price":1}"#),
        ("POST", "/v1/products", r#"{"title":"T","title":"U","price":1}"#),
        ("POST", "/v1/products", r#"{"id":1,"title":"T","price":1}"#),
        ("POST", "/v1/products", r#"{"id":"","title":"T","price":1}"#),
        ("POST", "/v1/products", r#"{"id":"a\u0000b","title":"T","price":1}"#),
        ("POST", "/v1/products?ttl_ms=-1", r#"{"title":"T","price":1}"#),
        ("POST", "/v1/products?x=1", r#"{"title":"T","price":1}"#),
        ("POST", "/v1/products", &deep),
        ("PUT", "/v1/products/p", r#"{"id":"q","title":"T","price":1}"#),
        ("PATCH", "/v1/products/p", r#"{"price":null}"#),
        ("PATCH", "/v1/products/p", r#"{"id":"q"}"#),
        ("PATCH", "/v1/products/p", "[]"),
        ("PUT", "/v1/definitions/products", r#"{"indexes":[{"name":"x"}]}"#),
        ("PUT", "/v1/definitions/products", r#"{"index":[]}"#),
        ("PUT", "/v1/definitions/NO", "{}"),
    ];
    for (method, path, body) in bodies {
        let reply = client.json(method, path, body);
        let shown = body.get(..80).unwrap_or(body);
        assert_eq!(reply.status, 400, "{method} {path} {shown}: {}", reply.text());
        reply.is_problem(400, "invalid_input");
    }
    for path in [
        "/v1/products?limit=0",
        "/v1/products?limit=1001",
        "/v1/products?limit=-1",
        "/v1/products?limit=x",
        "/v1/products?after=nonsense",
        "/v1/products?after=",
        "/v1/products?after=%00%ff",
        "/v1/products?direction=up",
        "/v1/products?from=1",
        "/v1/products?by=price&equal=1&from=1",
        "/v1/products?colour=red",
        "/v1/products/%ff",
    ] {
        client.get(path).is_problem(400, "invalid_input");
    }
    for path in ["/v1/products/a%00b", &long_path] {
        client.get(path).is_problem(404, "not_found");
    }
    let many = format!("/v1/products?ids={}", vec!["a"; 1_001].join(","));
    let refused = client.get(&many);
    assert!(refused.status == 400 || refused.status == 413, "{}", refused.text());
    client.get("/v1/products?count=true").is(200, r#"{"count":1}"#);
    client.get("/v1/products/p").is(200, made.text());
}

#[test]
fn wrong_methods_paths_and_types_are_named() {
    let server = Server::start();
    let client = server.client;
    for path in
        ["/v1", "/v1/", "/v1/nothing", "/v2/products", "/favicon.ico", "/v1/products/", "/v1/products/a/b", "//"]
    {
        client.get(path).is_problem(404, "route_not_found");
    }
    for (method, path, allow) in [
        ("PUT", "/v1/products", "GET,HEAD,POST"),
        ("POST", "/v1/users/x", "GET,HEAD,PUT,PATCH,DELETE"),
        ("TRACE", "/v1/info", "GET,HEAD"),
        ("OPTIONS", "/v1/batch", "POST"),
        ("BREW", "/livez", "GET,HEAD"),
    ] {
        let reply = client.send(method, path, &[], b"");
        reply.is_problem(405, "method_not_allowed");
        let mut allowed: Vec<_> = reply.header("allow").unwrap().split(',').collect();
        let mut expected: Vec<_> = allow.split(',').collect();
        allowed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(allowed, expected, "{method} {path}");
    }
    let body = br#"{"title":"T","price":1}"#;
    for bad in
        ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonp", "application/merge-patch+json"]
    {
        let reply = client.send("POST", "/v1/products", &[("content-type", bad)], body);
        reply.is_problem(415, "unsupported_media_type");
    }
    client.send("POST", "/v1/products", &[], body).is_problem(415, "unsupported_media_type");
    let good = client.send("POST", "/v1/products", &[("content-type", "Application/JSON; charset=utf-8")], body);
    assert_eq!(good.status, 201);
}

/// A page of any site whose name is made to point to 127.0.0.1 may otherwise read and write everything.
#[test]
fn other_hosts_and_sites_are_refused() {
    let server = Server::start();
    let client = server.client;
    let port = client.0.port();
    let local = format!("localhost:{port}");
    let six = format!("[::1]:{port}");
    for good in [local.as_str(), "LOCALHOST", "127.0.0.1", "[::1]", &six] {
        assert_eq!(client.send("GET", "/livez", &[("host", good)], b"").status, 200, "{good}");
    }
    let elsewhere = format!("localhost:{}", port ^ 1);
    for bad in ["evil.test", "localhost.evil.test", "", "a b", "localhost@evil.test", &elsewhere] {
        client.send("GET", "/livez", &[("host", bad)], b"").is_problem(403, "host_not_allowed");
    }
    let nameless = client.raw(b"GET /livez HTTP/1.0\r\n\r\n").unwrap();
    nameless.is_problem(403, "host_not_allowed");
    let form = [("content-type", "application/x-www-form-urlencoded")];
    for bad in ["http://evil.test", "null", "https://localhost.evil.test", "nonsense"] {
        let headers = [form[0], ("origin", bad)];
        client
            .send("POST", "/api/productos", &headers, b"title=T&price=1&thumbnail=http://a")
            .is_problem(403, "host_not_allowed");
    }
    let headers = [form[0], ("origin", "http://localhost:3000")];
    let made = client.send("POST", "/api/productos", &headers, b"title=T&price=1&thumbnail=http://a");
    assert_eq!(made.status, 201, "{}", made.text());
}

/// What two servers read in two ways, an attacker hides a second request in. Behind each of these the connection must be
/// closed, since nobody can say where the next request begins; the request hidden behind must not be answered.
#[test]
fn ambiguous_requests_end_the_connection() {
    let server = Server::start();
    let client = server.client;
    let host = client.0;
    let hidden = format!("GET /livez HTTP/1.1\r\nhost: {host}\r\n\r\n");
    let get = |rest: &str| format!("GET /livez HTTP/1.1\r\nhost: {host}\r\n{rest}");
    let post =
        |rest: &str| format!("POST /v1/products HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n{rest}");
    let json = r#"{"title":"T","price":1}"#;
    let chunked = "transfer-encoding: chunked\r\n";
    for (name, request, status) in [
        ("two lengths", post("content-length: 2\r\ncontent-length: 3\r\n\r\n{}"), 400),
        ("two lengths in one", post("content-length: 2, 3\r\n\r\n{}"), 400),
        ("bad length", post("content-length: x\r\n\r\n"), 400),
        ("signed length", post("content-length: +2\r\n\r\n{}"), 400),
        ("length and chunks", post(&format!("content-length: 4\r\n{chunked}\r\n17\r\n{json}\r\n0\r\n\r\n")), 0),
        ("bad chunk size", post(&format!("{chunked}\r\nxyz\r\n{json}\r\n0\r\n\r\n")), 400),
        ("chunk without end", post(&format!("{chunked}\r\n17\r\n{json}0\r\n\r\n")), 400),
        ("unknown coding", post("transfer-encoding: chunked, rot13\r\n\r\n"), 400),
        ("CR in a value", get("x: a\rb\r\n\r\n"), 400),
        ("NUL in a value", get("x: a\0b\r\n\r\n"), 400),
        ("space before colon", get("x : 1\r\n\r\n"), 400),
        ("folded header", get("x: 1\r\n 2\r\n\r\n"), 400),
        ("two hosts", get("host: evil.test\r\nconnection: close\r\n\r\n"), 400),
        ("no HTTP", "hello\r\n\r\n".to_owned(), 400),
        ("long cookie", get(&format!("cookie: {}\r\n\r\n", "c".repeat(64 << 10))), 431),
        ("many headers", get(&format!("{}\r\n", "x: 1\r\n".repeat(101))), 431),
    ] {
        let said = client.exchange(format!("{request}{hidden}").as_bytes());
        let answers: Vec<_> = said.match_indices("HTTP/1.1 ").map(|(at, _)| &said[at + 9..at + 12]).collect();
        println!("{name}: {answers:?}");
        assert!(answers.len() <= 1, "{name}: the hidden request was answered: {said}");
        assert!(!said.contains("ok\n"), "{name}: {said}");
        if status > 0 {
            // A close with bytes unread may arrive before the answer.
            assert!(answers.is_empty() || answers == [status.to_string()], "{name}: {said}");
        }
    }
    // A bare line feed ends a line as RFC 9112 allows: the same request to everybody, so nothing can hide in it.
    let said = client.exchange(format!("GET /livez HTTP/1.1\nhost: {host}\nconnection: close\n\n").as_bytes());
    assert!(said.starts_with("HTTP/1.1 200 ") && said.ends_with("ok\n"), "{said}");
    client.get(&format!("/{}", "p".repeat(9 << 10))).is_problem(414, "uri_too_long");
}
