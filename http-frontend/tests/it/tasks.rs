//! Tasks over HTTP: from their creation to their end, by the server's workers and by workers of any language.

use std::time::{Duration, Instant};

use kappa_server::ServerOptions;
use serde_json::{Value, json};

use crate::changes::Events;
use crate::client::Client;
use crate::server::Server;

fn idle() -> Server {
    Server::with(ServerOptions { workers: 0, ..ServerOptions::default() })
}

fn create(client: Client, body: &Value) -> Value {
    let reply = client.json("POST", "/v1/tasks", &body.to_string());
    assert_eq!(reply.status, 201, "{}", reply.text());
    reply.json()
}

fn post(client: Client, path: &str, body: &Value) -> Value {
    let reply = client.json("POST", path, &body.to_string());
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

/// A result that nobody can read, or a task that is created and never run, is lost work.
#[test]
fn a_task_of_a_built_in_kind_is_run_and_its_result_is_read() {
    let server = Server::start();
    let made = server.client.json("POST", "/v1/tasks", r#"{"kind":"sum","params":[1,2,3.50]}"#);
    assert_eq!((made.status, made.json()["queue"].clone()), (201, "tasks".into()), "{}", made.text());
    let place = made.header("location").unwrap();
    let ended = server.client.get(&format!("{place}?wait_ms=30000"));
    let task = ended.json();
    assert_eq!((&task["state"], &task["result"]), (&"completed".into(), &json!(6.5)), "{task}");
    let tag = ended.header("etag").unwrap();
    assert_eq!(server.client.send("GET", place, &[("if-none-match", tag)], b"").status, 304);
    assert_eq!(server.client.send("GET", place, &[("if-none-match", "\"other\"")], b"").status, 200);
}

/// A mistyped field that is quietly dropped makes another task than was asked for.
#[test]
fn what_is_wrong_with_a_task_is_said_before_it_is_stored() {
    let server = idle();
    let client = server.client;
    for body in [
        r#"{"kind":"format_disk"}"#,
        r#"{"kind":"sum","params":"x"}"#,
        r#"{"kind":"sum","params":[1],"prio":1}"#,
        r#"{"queue":"mail","priority":101}"#,
        r#"{"queue":"a b"}"#,
        r#"{"queue":"mail","delay_ms":1,"due_at":1}"#,
        "[]",
        "{",
    ] {
        client.json("POST", "/v1/tasks", body).is_problem(400, "invalid_input");
        let many = format!("{{\"tasks\":[{{\"queue\":\"mail\"}},{body}]}}");
        client.json("POST", "/v1/tasks/bulk", &many).is_problem(400, "invalid_input");
    }
    assert_eq!(client.get("/v1/tasks").json(), json!({"items": [], "next": null}));
    for path in ["/v1/tasks/abc", "/v1/tasks/-1", "/v1/tasks/99999999999999999999", "/v1/tasks?state=lost"] {
        client.get(path).is_problem(400, "invalid_input");
    }
    for path in ["/v1/tasks?limit=0", "/v1/tasks?after=x", "/v1/tasks?quue=mail"] {
        client.get(path).is_problem(400, "invalid_input");
    }
    client.get("/v1/tasks/1024").is_problem(404, "not_found");
    client.send("DELETE", "/v1/tasks/1024", &[], b"").is_problem(404, "not_found");
    client.json("POST", "/v1/tasks/1024/cancel", "").is_problem(404, "not_found");
    client.get("/v1/tasks/1024/events").is_problem(404, "not_found");
}

/// A repeated request may not make a second task, and a second task with the same unique key says whose it is.
#[test]
fn repetitions_make_no_second_task() {
    let server = idle();
    let client = server.client;
    let headers = [("content-type", "application/json"), ("idempotency-key", "k1")];
    let one = client.send("POST", "/v1/tasks", &headers, br#"{"queue":"mail","params":{"to":"a"}}"#);
    let two = client.send("POST", "/v1/tasks", &headers, br#"{"queue":"mail","params":{"to":"a"}}"#);
    assert_eq!((one.status, two.status, &one.json()["id"]), (201, 201, &two.json()["id"]));
    let other = client.send("POST", "/v1/tasks", &headers, br#"{"queue":"mail","params":{"to":"b"}}"#);
    other.is_problem(409, "conflict");
    let first = create(client, &json!({"queue": "mail", "unique": "u"}));
    let second = client.json("POST", "/v1/tasks", r#"{"queue":"mail","unique":"u"}"#);
    assert_eq!((second.status, &second.json()["id"]), (200, &first["id"]));
    let many = client.json("POST", "/v1/tasks/bulk", r#"{"tasks":[{"queue":"mail","unique":"u"},{"queue":"mail"}]}"#);
    let items = many.json()["items"].clone();
    assert_eq!(
        (many.status, &items[0], &items[1]["existing"]),
        (201, &json!({"id": first["id"], "existing": true}), &json!(false))
    );
}

#[test]
fn lists_go_by_queue_and_state_and_lead_on() {
    let server = idle();
    let client = server.client;
    for n in 0..5 {
        create(client, &json!({"queue": "mail", "params": n}));
    }
    create(client, &json!({"queue": "mail", "delay_ms": 3_600_000}));
    create(client, &json!({"queue": "other"}));
    let (mut next, mut seen) = (Some("/v1/tasks?queue=mail&state=waiting&limit=2".to_owned()), Vec::new());
    while let Some(path) = next {
        let page = client.get(&path);
        let items = page.json()["items"].clone();
        seen.extend(items.as_array().unwrap().iter().map(|task| task["params"].as_i64().unwrap()));
        next = page.header("link").map(|link| link[1..link.find('>').unwrap()].to_owned());
        assert_eq!(next.is_some(), page.json()["next"].is_string());
    }
    assert_eq!(seen, [0, 1, 2, 3, 4]);
    let states = |query: &str| client.get(query).json()["items"].as_array().unwrap().len();
    assert_eq!((states("/v1/tasks?state=delayed"), states("/v1/tasks"), states("/v1/tasks?queue=none")), (1, 7, 0));
}

/// A producer that hears 503 or a success for a task that was not taken loses it.
#[test]
fn a_full_queue_is_told_with_429_and_when_to_come_back() {
    let server = idle();
    let client = server.client;
    assert_eq!(client.json("PUT", "/v1/queues/mail", r#"{"max_length":1}"#).json()["settings"]["max_length"], 1);
    create(client, &json!({"queue": "mail"}));
    let full = client.json("POST", "/v1/tasks", r#"{"queue":"mail"}"#);
    full.is_problem(429, "overloaded");
    assert!(full.header("retry-after").is_some());
    client.json("PUT", "/v1/queues/tasks", r#"{"max_length":0}"#);
    let full = client.json("POST", "/tasks", r#"{"name":"x"}"#);
    assert_eq!((full.status, full.json()["error"].clone()), (429, "Failed to create task".into()), "{}", full.text());
    assert!(full.header("retry-after").is_some());
}

#[test]
fn a_worker_of_any_language_claims_keeps_and_completes() {
    let server = idle();
    let client = server.client;
    let task = create(client, &json!({"queue": "mail", "params": {"to": "a"}}));
    let claimed = post(client, "/v1/work/claim", &json!({"queues": ["mail"], "worker": "curl", "lease_ms": 5_000}));
    let one = &claimed["claimed"][0];
    assert_eq!(
        (&one["task"]["id"], &one["task"]["worker"], &one["lease"]["run"]),
        (&task["id"], &"curl".into(), &1.into())
    );
    let lease = &one["lease"];
    let told = post(client, "/v1/work/progress", &json!({"lease": lease, "progress": 0.5}));
    assert_eq!(told["renewal"]["held"]["cancel"], false, "{told}");
    let path = format!("/v1/tasks/{}", task["id"]);
    assert_eq!(client.json("POST", &format!("{path}/cancel"), "").json()["changed"], true);
    client.send("DELETE", &path, &[], b"").is_problem(409, "conflict");
    let renewed = post(client, "/v1/work/renew", &json!({"leases": [lease]}));
    assert_eq!(renewed["renewals"][0]["held"]["cancel"], true, "the worker hears of it: {renewed}");
    let report = json!({"reports": [{"lease": lease, "outcome": {"completed": {"result": {"sent": 1}}}}]});
    assert_eq!(post(client, "/v1/work/complete", &report)["verdicts"], json!([{"accepted": "completed"}]));
    assert_eq!(post(client, "/v1/work/complete", &report)["verdicts"], json!(["stale"]), "nothing is finished twice");
    assert_eq!(client.get(&path).json()["result"], json!({"sent": 1}));
    client.send("DELETE", &path, &[], b"").is(204, "");
    for (path, body) in [
        ("claim", json!({"queues": []})),
        ("claim", json!({"queues": ["mail"], "limit": 0})),
        ("claim", json!({"queues": ["mail"], "lease_ms": 1})),
        ("complete", json!({"reports": []})),
        ("complete", json!({"reports": [{"lease": lease, "outcome": {"done": 1}}]})),
        ("progress", json!({"lease": lease, "progress": 2})),
    ] {
        client.json("POST", &format!("/v1/work/{path}"), &body.to_string()).is_problem(400, "invalid_input");
    }
}

/// A wait without an end holds a connection for ever; one that overlooks a task makes it wait for the next.
#[test]
fn a_claim_waits_within_its_bound_and_is_woken_by_a_task() {
    let server = idle();
    let client = server.client;
    let started = Instant::now();
    let none = post(client, "/v1/work/claim", &json!({"queues": ["mail"], "wait_ms": 200}));
    assert_eq!(none["claimed"], json!([]));
    assert!(started.elapsed() >= Duration::from_millis(200) && started.elapsed() < Duration::from_secs(10));
    let waiting =
        std::thread::spawn(move || post(client, "/v1/work/claim", &json!({"queues": ["mail"], "wait_ms": 25_000})));
    let task = create(client, &json!({"queue": "mail", "delay_ms": 300}));
    let claimed = waiting.join().unwrap();
    assert_eq!(claimed["claimed"][0]["task"]["id"], task["id"]);
}

/// The server must end although workers wait at it.
#[test]
fn a_claim_that_waits_does_not_hold_up_the_end() {
    let mut server = idle();
    let client = server.client;
    let mut events = Events::open(client, "/v1/changes", &[]);
    events.next().unwrap();
    let waiting = std::thread::spawn(move || {
        client.json("POST", "/v1/work/claim", r#"{"queues":["mail"],"wait_ms":30000}"#).status
    });
    let started = Instant::now();
    // Whether the claim has arrived by now or not, it is answered or refused, and soon.
    server.end();
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
    drop(waiting.join());
}

#[test]
fn queues_are_paused_drained_and_dead_letters_come_back() {
    let server = idle();
    let client = server.client;
    client.get("/v1/queues/mail").is_problem(404, "not_found");
    let task = create(client, &json!({"queue": "mail", "attempts": 1}));
    assert_eq!(post(client, "/v1/queues/mail/pause", &json!({}))["paused"], true);
    assert_eq!(post(client, "/v1/work/claim", &json!({"queues": ["mail"]}))["claimed"], json!([]));
    assert_eq!(post(client, "/v1/queues/mail/resume", &json!({}))["paused"], false);
    let claimed = post(client, "/v1/work/claim", &json!({"queues": ["mail"]}));
    let lease = &claimed["claimed"][0]["lease"];
    let report = json!({"reports": [{"lease": lease, "outcome": {"failed": {"error": "no"}}}]});
    assert_eq!(post(client, "/v1/work/complete", &report)["verdicts"], json!([{"accepted": "failed"}]));
    assert_eq!(client.get("/v1/queues/mail").json()["failed"], 1);
    assert_eq!(post(client, "/v1/queues/mail/redrive?limit=5", &json!({})), json!({"redriven": 1, "next": null}));
    let path = format!("/v1/tasks/{}", task["id"]);
    assert_eq!(client.get(&path).json()["state"], "waiting");
    assert_eq!(post(client, "/v1/queues/mail/drain", &json!({})), json!({"done": true}));
    assert_eq!(client.get(&path).json()["state"], "cancelled");
    let again = post(client, &format!("{path}/retry"), &json!({}));
    assert_eq!((&again["changed"], &again["task"]["state"]), (&true.into(), &"waiting".into()));
    assert_eq!(client.get("/v1/queues").json()["items"][0]["waiting"], 1);
    client.json("PUT", "/v1/queues/mail", r#"{"concurency":1}"#).is_problem(400, "invalid_input");
}

#[test]
fn schedules_are_set_listed_and_ended() {
    let server = idle();
    let client = server.client;
    let body = r#"{"cron":"0 4 * * *","time_zone":"Europe/Berlin","task":{"kind":"sum","params":[1]}}"#;
    let made = client.json("PUT", "/v1/schedules/nightly", body);
    assert_eq!(
        (made.status, made.json()["schedule"]["task"]["queue"].clone()),
        (200, "tasks".into()),
        "{}",
        made.text()
    );
    assert!(made.json()["next_at"].is_i64());
    assert_eq!(client.get("/v1/schedules").json()["items"][0]["schedule"]["name"], "nightly");
    for bad in [
        r#"{"cron":"never"}"#,
        r#"{"cron":"0 4 * * *","task":{"kind":"nothing"}}"#,
        r#"{"name":"x","cron":"0 4 * * *"}"#,
    ] {
        client.json("PUT", "/v1/schedules/nightly", bad).is_problem(400, "invalid_input");
    }
    client.send("DELETE", "/v1/schedules/nightly", &[], b"").is(204, "");
    client.send("DELETE", "/v1/schedules/nightly", &[], b"").is_problem(404, "not_found");
}

/// A page that shows a task must learn its end also when its connection broke in between, and then stop asking.
#[test]
fn events_tell_of_a_task_to_its_end_also_after_a_break() {
    let server = idle();
    let client = server.client;
    let task = create(client, &json!({"queue": "mail"}));
    let path = format!("/v1/tasks/{}/events", task["id"]);
    let mut events = Events::open(client, &path, &[]);
    let (first, data) = events.change();
    assert_eq!((first.kind.as_deref(), &data["id"]), (Some("waiting"), &task["id"]));
    drop(events);
    let claimed = post(client, "/v1/work/claim", &json!({"queues": ["mail"]}));
    create(client, &json!({"queue": "mail"}));
    let lease = &claimed["claimed"][0]["lease"];
    let mut events = Events::open(client, &path, &[("last-event-id", &first.id.unwrap())]);
    assert_eq!(events.change().0.kind.as_deref(), Some("active"), "what happened in the break");
    post(client, "/v1/work/progress", &json!({"lease": lease, "progress": 0.25}));
    let (told, data) = events.change();
    assert_eq!((told.kind.as_deref(), &data["progress"]), (Some("progress"), &json!(0.25)));
    let report = json!({"reports": [{"lease": lease, "outcome": {"completed": {"result": 7}}}]});
    post(client, "/v1/work/complete", &report);
    let (last, data) = events.change();
    assert_eq!((last.kind.as_deref(), &data["result"]), (Some("completed"), &json!(7)));
    assert!(events.next().is_none(), "the stream ends with the task");
    let last = last.id.unwrap();
    assert_eq!(client.send("GET", &path, &[("last-event-id", &last)], b"").status, 204);
    let mut late = Events::open(client, &path, &[("last-event-id", &told.id.unwrap())]);
    assert_eq!(late.change().0.kind.as_deref(), Some("completed"));
    let mut fresh = Events::open(client, &path, &[]);
    assert_eq!(fresh.change().0.id, Some(last));
    client.send("GET", &path, &[("last-event-id", "nonsense")], b"").is_problem(400, "invalid_input");
}
