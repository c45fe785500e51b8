//! `/api/user`: the replicated users, with the exact envelopes their clients know.

use std::sync::Barrier;

use crate::server::Server;

const SUCCESS: &str = r#"{"statusCode":"10000","message":"success"}"#;

fn failure(message: &str) -> String {
    format!(r#"{{"statusCode":"10001","message":"{message}"}}"#)
}

#[test]
fn a_user_lives_from_post_to_delete() {
    let server = Server::start();
    let client = server.client;
    for slash in ["", "/"] {
        let list = format!("/api/user{slash}");
        let path = format!("/api/user/13AE742{slash}");
        let missing =
            format!(r#"{{"statusCode":"10001","message":"Key not found in database [13AE742]","url":"{path}"}}"#);
        client.get(&path).is(404, &missing);
        let user = r#"{"id":"13AE742","name":"John Doe","email":"john.doe@gmail.com","group":3}"#;
        client.json("POST", &list, user).is(201, SUCCESS);
        client.json("POST", &list, user).is(409, &failure("User already exists"));
        client.get(&path).is(200, &format!(r#"{{"statusCode":"10000","message":"success","data":{user}}}"#));
        client.json("PUT", &list, r#"{"id":"13AE742","group":0}"#).is(200, SUCCESS);
        client.form("PUT", &list, "id=13AE742&name=Jane").is(200, SUCCESS);
        let user = r#"{"id":"13AE742","name":"Jane","email":"john.doe@gmail.com","group":0}"#;
        client.get(&path).is(200, &format!(r#"{{"statusCode":"10000","message":"success","data":{user}}}"#));
        client.send("DELETE", &path, &[], b"").is(200, SUCCESS);
        client.send("DELETE", &path, &[], b"").is(404, &missing);
        client.json("PUT", &list, r#"{"id":"13AE742","group":1}"#).is(404, &failure("User does not exist"));
    }
}

/// Without a group, or with a negative one, the old gateway never answered.
#[test]
fn every_group_and_none_gets_an_answer() {
    let server = Server::start();
    let client = server.client;
    for (index, group) in ["", r#","group":-7"#, r#","group":9007199254740991"#].into_iter().enumerate() {
        client.json("POST", "/api/user", &format!(r#"{{"id":"u{index}"{group}}}"#)).is(201, SUCCESS);
        assert_eq!(client.get(&format!("/api/user/u{index}")).status, 200);
    }
}

#[test]
fn what_is_no_user_is_refused_with_every_message() {
    let server = Server::start();
    let client = server.client;
    for (body, message) in [
        ("{}", "id is required"),
        ("{", "the body is not valid JSON"),
        ("[1]", "value must be of type object"),
        (r#"{"id":"","x":1}"#, "id is not allowed to be empty,x is not allowed"),
        (r#"{"id":"a","email":"x","group":1.5}"#, "email must be a valid email,group must be an integer"),
    ] {
        client.json("POST", "/api/user", body).is(400, &failure(message));
        client.json("PUT", "/api/user", body).is(400, &failure(message));
    }
    client.send("POST", "/api/user", &[("content-type", "text/plain")], b"id=a").is(400, &failure("id is required"));
    assert_eq!(client.get("/v1/users").json()["items"].as_array().unwrap().len(), 0);
}

/// Both once succeeded, each on another process.
#[test]
fn of_two_creates_at_the_same_time_one_fails() {
    const CALLERS: usize = 6;
    let server = Server::start();
    let client = server.client;
    let start = Barrier::new(CALLERS);
    let mut statuses: Vec<u16> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|group| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    client.json("POST", "/api/user", &format!(r#"{{"id":"one","group":{group}}}"#)).status
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409]);
}

#[test]
fn unknown_paths_and_methods_answer_in_the_envelope() {
    let server = Server::start();
    let client = server.client;
    for (method, path) in
        [("GET", "/api/user"), ("PATCH", "/api/user/x"), ("GET", "/api/user/x/y"), ("POST", "/api/user/x?q=1")]
    {
        let body = format!(r#"{{"statusCode":"10001","message":"Not Found","url":"{path}"}}"#);
        client.send(method, path, &[], b"").is(404, &body);
    }
    let shop = client.get("/api/users");
    assert_eq!((shop.status, &shop.json()["error"]), (404, &(-2).into()));
}
