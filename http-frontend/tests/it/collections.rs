//! `/v1/collections`, `/v1/definitions`, `/v1/users`, `/v1/batch`, and what stands beside the data.

use std::time::Instant;

use crate::client::BOUND;
use crate::server::Server;

#[test]
fn any_collection_works_as_the_named_ones_do() {
    let server = Server::start();
    let client = server.client;
    let made = client.json("POST", "/v1/collections/places", r#"{"id":"p1","city":"Vigo","n":12345678901234567890}"#);
    made.is(201, r#"{"id":"p1","city":"Vigo","n":12345678901234567890}"#);
    assert_eq!(made.header("location"), Some("/v1/collections/places/p1"));
    client.get("/v1/collections/places/p1").is(200, made.text());
    client.get("/v1/collections/places").is(200, &format!(r#"{{"items":[{}],"next":null}}"#, made.text()));
    client.get("/v1/collections/places?count=true").is(200, r#"{"count":1}"#);
    let all = client.get("/v1/collections").json();
    let places = all["items"].as_array().unwrap().iter().find(|item| item["name"] == "places").unwrap();
    assert_eq!(places["count"], 1);
    client.send("DELETE", "/v1/collections/places/p1", &[], b"").is(204, "");
    client.get("/v1/collections/places").is(200, r#"{"items":[],"next":null}"#);
    for bad in ["Places", "a.b", "%2e%2e", "a%00", &"x".repeat(65)] {
        client.get(&format!("/v1/collections/{bad}")).is_problem(400, "invalid_input");
    }
    client.get("/v1/collections/a%ff").is_problem(400, "invalid_input");
}

/// A client that declares and polls must not take an index that was removed for one that is ready.
#[test]
fn a_failed_unique_index_is_named_with_both_documents() {
    let server = Server::start();
    let client = server.client;
    for id in ["a", "b"] {
        let made = client.json("POST", "/v1/collections/codes", &format!(r#"{{"id":"{id}","code":"x"}}"#));
        assert_eq!(made.status, 201, "{}", made.text());
    }
    client.json("PUT", "/v1/definitions/codes", r#"{"indexes":[{"field":"code","unique":true}]}"#);
    let started = Instant::now();
    let described = loop {
        let described = client.get("/v1/definitions/codes").json();
        if described["building"].as_array().unwrap().is_empty() {
            break described;
        }
        assert!(started.elapsed() < BOUND, "the build never ends");
    };
    let failed = &described["failed"][0];
    assert_eq!((&failed["index"], &failed["code"]), (&"code".into(), &"already_exists".into()), "{described}");
    let detail = failed["detail"].as_str().unwrap();
    assert!(detail.contains("id=a") && detail.contains("other=b"), "{detail}");
}

#[test]
fn an_index_orders_and_narrows_a_list() {
    let server = Server::start();
    let client = server.client;
    for (id, size) in [("a", "3"), ("b", "1.5"), ("c", "20"), ("d", "\"x\"")] {
        let made = client.json("POST", "/v1/collections/boxes", &format!(r#"{{"id":"{id}","size":{size}}}"#));
        assert_eq!(made.status, 201, "{}", made.text());
    }
    let declared = client.json("PUT", "/v1/definitions/boxes", r#"{"indexes":[{"field":"size"}]}"#);
    assert_eq!(declared.status, 200, "{}", declared.text());
    assert_eq!(declared.json()["definition"]["indexes"][0]["name"], "size");
    let started = Instant::now();
    while !client.get("/v1/definitions/boxes").json()["building"].as_array().unwrap().is_empty() {
        assert!(started.elapsed() < BOUND, "the index is never ready");
    }
    let ids = |query: &str| {
        let reply = client.get(&format!("/v1/collections/boxes?by=size&{query}"));
        assert_eq!(reply.status, 200, "{}", reply.text());
        let page = reply.json();
        page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect::<String>()
    };
    assert_eq!(ids(""), "bacd");
    assert_eq!(ids("direction=backward"), "dcab");
    assert_eq!(ids("from=1.5&to=3"), "ba");
    assert_eq!(ids("equal=20"), "c");
    assert_eq!(ids("equal=x"), "d");
    client.get("/v1/collections/boxes?by=colour").is_problem(404, "not_found");
    let dropped = client.send("DELETE", "/v1/definitions/boxes/indexes/size", &[], b"");
    assert_eq!(dropped.status, 200, "{}", dropped.text());
    assert_eq!(client.get("/v1/definitions/boxes").json()["definition"]["indexes"].as_array().unwrap().len(), 0);
}

#[test]
fn users_have_their_rules() {
    let server = Server::start();
    let client = server.client;
    let made = client.json(
        "POST",
        "/v1/users",
        r#"{"id":"13AE742","name":"John Doe","email":"john.doe@gmail.com","group":3}"#,
    );
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(client.get("/v1/users/13AE742").json()["group"], 3);
    client.json("POST", "/v1/users", r#"{"email":"nobody"}"#).is_problem(400, "invalid_input");
    client.json("POST", "/v1/users", r#"{"group":1.5}"#).is_problem(400, "invalid_input");
}

/// Half a batch is worse than none: stock taken from one product and never put on the order.
#[test]
fn a_batch_happens_whole_or_not_at_all() {
    let server = Server::start();
    let client = server.client;
    let good = client.json(
        "POST",
        "/v1/batch",
        r#"{"operations":[
            {"op":"create","collection":"products","document":{"id":"p","title":"T","price":1}},
            {"op":"update","collection":"products","id":"p","document":{"price":2.50}},
            {"op":"create","collection":"orders","document":{"id":"o","of":"p"}},
            {"op":"get","collection":"orders","id":"nobody"},
            {"op":"delete","collection":"orders","id":"nobody"}]}"#,
    );
    assert_eq!(good.status, 200, "{}", good.text());
    assert!(good.text().contains("\"price\":2.50"), "{}", good.text());
    let results = good.json();
    assert_eq!(results["results"][2]["document"]["of"], "p");
    assert!(results["results"][3].is_null());
    assert_eq!(results["results"][4]["deleted"], false);
    assert!(results["results"][0]["version"].is_string());

    let bad = client.json(
        "POST",
        "/v1/batch",
        r#"{"operations":[{"op":"delete","collection":"orders","id":"o"},
            {"op":"create","collection":"products","document":{"id":"p","title":"T","price":1}}]}"#,
    );
    bad.is_problem(409, "already_exists");
    assert!(bad.json()["detail"].as_str().unwrap().contains('1'), "{}", bad.text());
    assert_eq!(client.get("/v1/collections/orders/o").status, 200);

    for wrong in [
        r#"{"operations":[{"op":"create","collection":"products"}]}"#,
        r#"{"operations":[{"op":"create","collection":"products","id":"x","document":{}}]}"#,
        r#"{"operations":[{"op":"replace","collection":"products","document":{}}]}"#,
        r#"{"operations":[{"op":"delete","collection":"products"}]}"#,
        r#"{"operations":[{"op":"burn","collection":"products","id":"p"}]}"#,
        r#"{"operations":[{"op":"get","collection":"NO","id":"p"}]}"#,
        r#"{"operations":[{"op":"delete","collection":"products","id":"p","if_version":12}]}"#,
        r#"{"operations":{}}"#,
        r#"{"operations":[],"more":1}"#,
        "[]",
    ] {
        client.json("POST", "/v1/batch", wrong).is_problem(400, "invalid_input");
    }
}

#[test]
fn the_server_says_what_it_is() {
    let server = Server::start();
    let client = server.client;
    client.get("/livez").is(200, "ok\n");
    client.get("/readyz").is(200, "ok\n");
    let info = client.get("/v1/info").json();
    assert!(info["database"]["durability"].is_string(), "{info}");
    assert!(info["machine"].is_object(), "{info}");
    assert!(info["process"]["draws_most"].as_u64().unwrap() >= 1, "{info}");
    assert_eq!(client.get("/openapi.json").json()["openapi"], "3.1.0");
    let home = client.get("/");
    assert_eq!((home.status, home.header("content-type")), (200, Some("text/html; charset=utf-8")));
    // The page may run the script beside it and ask this server: without the first it is empty, with more it is anybody's.
    let policy = home.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"), "{policy}");
    assert!(home.text().contains("<script src=\"/console.js\"></script>") && home.text().contains("id=\"queues\""));
    let script = client.get("/console.js");
    assert_eq!((script.status, script.header("content-type")), (200, Some("text/javascript; charset=utf-8")));
    for (path, status) in
        [("/", 200), ("/v1/products", 200), ("/v1/nothing", 404), ("/api/status", 200), ("/api/x", 404)]
    {
        let reply = client.get(path);
        assert_eq!(reply.status, status, "{path}");
        for name in ["x-content-type-options", "content-security-policy", "referrer-policy", "cache-control"] {
            assert!(reply.header(name).is_some(), "{path} has no {name}");
        }
        assert_eq!(reply.header("access-control-allow-origin"), None);
    }
}
