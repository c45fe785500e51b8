//! `/tasks` and `/api/execute`, as the clients of those systems call them.

use std::time::Duration;

use kappa_server::ServerOptions;
use serde_json::json;

use crate::server::Server;

#[test]
fn a_task_is_created_and_its_state_read() {
    let server = Server::with(ServerOptions { task_length: Duration::from_millis(1), ..ServerOptions::default() });
    let client = server.client;
    let made =
        client.json("POST", "/tasks", r#"{"name":"Example Task","description":"This is a long-running task example"}"#);
    let id = made.json()["id"].as_u64().unwrap();
    made.is(201, &format!(r#"{{"message":"Task created successfully","id":{id}}}"#));
    let ended = client.get(&format!("/v1/tasks/{id}?wait_ms=30000")).json();
    assert_eq!((&ended["kind"], &ended["params"]["name"]), (&"long_task".into(), &"Example Task".into()), "{ended}");
    assert_eq!(ended["description"], "This is a long-running task example");
    client.get(&format!("/tasks/{id}")).is(200, &format!(r#"{{"id":{id},"status":"completed"}}"#));
    client.get(&format!("/tasks/{id}/")).is(200, &format!(r#"{{"id":{id},"status":"completed"}}"#));
    let upload = client.json("POST", "/tasks/", r#"{"name":"upload","numRecords":3}"#).json();
    let ended = client.get(&format!("/v1/tasks/{}?wait_ms=30000", upload["id"])).json();
    assert_eq!(ended["result"], json!({"users": 3, "products": 3, "order_items": 3}), "{ended}");
    assert_eq!(client.get("/v1/users?count=true").json(), json!({"count": 3}));
}

/// That system's table filled it in, so its clients never met a task without one; what `/v1` is not given stays unsaid.
#[test]
fn a_task_without_a_description_is_a_new_task() {
    let server = Server::with(ServerOptions { workers: 0, ..ServerOptions::default() });
    let client = server.client;
    for (path, body, description) in [
        ("/tasks", r#"{"name":"x"}"#, json!("New Task")),
        ("/tasks", r#"{"name":"upload","description":null,"records":1}"#, json!("New Task")),
        ("/tasks", r#"{"name":"x","description":""}"#, json!("")),
        ("/v1/tasks", r#"{"kind":"sum","params":[1]}"#, json!(null)),
    ] {
        let made = client.json("POST", path, body);
        assert_eq!(made.status, 201, "{body}: {}", made.text());
        let task = client.get(&format!("/v1/tasks/{}", made.json()["id"])).json();
        assert_eq!(task["description"], description, "{body}: {task}");
    }
}

/// The system before answered 500 to all of these, and its clients tried for ever.
#[test]
fn what_is_wrong_has_the_right_code_in_the_old_body() {
    let server = Server::with(ServerOptions { workers: 0, ..ServerOptions::default() });
    let client = server.client;
    for body in [
        "{}",
        r#"{"name":""}"#,
        r#"{"name":7}"#,
        r#"{"name":"x","description":7}"#,
        r#"{"name":"x","priority":"high"}"#,
        r#"{"name":"x","priority":101}"#,
        r#"{"name":"upload","records":0}"#,
        r#"{"name":"sum","params":[1]}x"#,
        "[]",
    ] {
        let reply = client.json("POST", "/tasks", body);
        assert_eq!((reply.status, reply.json()["error"].clone()), (400, "Failed to create task".into()), "{body}");
        assert!(reply.json()["detail"].is_string(), "{body}");
    }
    for id in ["abc", "-1", "1.5", "99999999999999999999999"] {
        let reply = client.get(&format!("/tasks/{id}"));
        assert_eq!((reply.status, reply.json()["error"].clone()), (400, "Failed to get task status".into()), "{id}");
    }
    client.get("/tasks/12345").is(404, r#"{"error":"Task not found"}"#);
    assert_eq!(client.get("/v1/tasks").json()["items"], json!([]));
}

/// 1 goes before 5 there; stored as it is, the least urgent task would run first.
#[test]
fn priority_one_runs_before_five() {
    let server = Server::with(ServerOptions { workers: 0, ..ServerOptions::default() });
    let client = server.client;
    let low = client.json("POST", "/tasks", r#"{"name":"low","priority":5}"#).json();
    let high = client.json("POST", "/tasks", r#"{"name":"high","priority":1}"#).json();
    let claimed = client.json("POST", "/v1/work/claim", r#"{"queues":["tasks"],"limit":2}"#).json();
    let order: Vec<_> = (0..2).map(|n| claimed["claimed"][n]["task"]["id"].clone()).collect();
    assert_eq!(order, [high["id"].clone(), low["id"].clone()]);
    client.get(&format!("/tasks/{}", high["id"])).is(200, &format!(r#"{{"id":{},"status":"active"}}"#, high["id"]));
}

#[test]
fn a_sample_is_run_and_its_result_answered() {
    let server = Server::start();
    let client = server.client;
    let body = r#"{"image":"example/task-sum","port":5000,"task":"sum","tag":"latest","params":[1,2,3,4]}"#;
    client.json("POST", "/api/execute", body).is(200, r#"{"message":"Tarea sum ejecutada exitosamente","result":10}"#);
    let body = r#"{"task":"multiplication","params":[1,2,3,4]}"#;
    client
        .json("POST", "/api/execute/", body)
        .is(200, r#"{"message":"Tarea multiplication ejecutada exitosamente","result":24}"#);
}

/// The caller once chose any image; a name that only looks like a task of its own may reach neither files nor uploads.
#[test]
fn only_what_is_allowed_is_executed() {
    let server = Server::with(ServerOptions { workers: 0, ..ServerOptions::default() });
    let client = server.client;
    for (task, body) in [
        ("evil", r#"{"image":"evil/root","port":1,"task":"evil","params":[]}"#),
        ("upload", r#"{"task":"upload","params":{"records":1}}"#),
        ("long_task", r#"{"task":"long_task","params":[]}"#),
        ("../sum", r#"{"task":"../sum","params":[1]}"#),
        ("sum", r#"{"task":"sum","params":"abc"}"#),
        ("sum", r#"{"task":"sum"}"#),
    ] {
        let reply = client.json("POST", "/api/execute", body);
        assert_eq!(reply.status, 400, "{body}: {}", reply.text());
        assert_eq!(reply.json()["message"], format!("Error al ejecutar la tarea {task}"));
    }
    for body in ["{}", "[]", "{"] {
        assert_eq!(client.json("POST", "/api/execute", body).status, 400, "{body}");
    }
    assert_eq!(client.get("/v1/tasks").json()["items"], json!([]));
}

/// A product that no number can hold shows only in the run; it is the caller's all the same, who must read why.
#[test]
fn an_execution_that_its_parameters_fail_is_a_bad_request() {
    let server = Server::start();
    let body = format!(r#"{{"task":"multiplication","params":[{0},{0},{0}]}}"#, i64::MAX);
    let reply = server.client.json("POST", "/api/execute", &body);
    assert_eq!(reply.status, 400, "{}", reply.text());
    let said = reply.json();
    assert_eq!(said["message"], "Error al ejecutar la tarea multiplication");
    assert!(said["detail"].as_str().unwrap().starts_with("too_large: "), "{said}");
    assert_eq!(server.client.get(reply.header("location").unwrap()).json()["state"], "failed");
}

/// Whoever sent it did nothing wrong, and may send it again.
#[test]
fn an_execution_that_somebody_cancels_is_not_its_callers_fault() {
    let options = ServerOptions { workers: 0, execute_timeout: Duration::from_secs(20), ..ServerOptions::default() };
    let server = Server::with(options);
    let client = server.client;
    let waiting = std::thread::spawn(move || client.json("POST", "/api/execute", r#"{"task":"sum","params":[1]}"#));
    let id = loop {
        match client.get("/v1/tasks").json()["items"][0]["id"].as_u64() {
            Some(id) => break id,
            None => assert!(!waiting.is_finished(), "it waits for its task"),
        }
    };
    assert_eq!(client.json("POST", &format!("/v1/tasks/{id}/cancel"), "").json()["changed"], true);
    waiting.join().unwrap().is(503, r#"{"message":"Error al ejecutar la tarea sum"}"#);
}

/// A client that must wait for ever for a slow task loses its result with its connection.
#[test]
fn a_slow_execution_answers_where_its_task_is() {
    let options = ServerOptions { workers: 0, execute_timeout: Duration::from_millis(50), ..ServerOptions::default() };
    let server = Server::with(options);
    let reply = server.client.json("POST", "/api/execute", r#"{"task":"sum","params":[1]}"#);
    assert_eq!(reply.status, 202, "{}", reply.text());
    let task = server.client.get(reply.header("location").unwrap()).json();
    assert_eq!((&task["queue"], &task["kind"], &task["state"]), (&"execute".into(), &"sum".into(), &"waiting".into()));
    assert_eq!(reply.json()["id"], task["id"]);
}
