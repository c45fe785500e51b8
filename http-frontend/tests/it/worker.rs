//! Tasks of the program itself: what its configuration allows, and workers in processes of their own.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Client;
use crate::program::{Running, one_line, program};

/// Longer than any task here takes, in milliseconds.
const PATIENCE: u64 = 30_000;

/// A program that works on tasks; it is ended with the test.
struct Worker {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts it and waits until it works.
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.contains("works on tasks of"), "{line:?}");
        Self { child, said }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The code it ends with, and what it said since on standard output and standard error.
    fn end(mut self) -> (Option<i32>, String, String) {
        let (mut said, mut complained) = (String::new(), String::new());
        self.said.read_to_string(&mut said).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut complained).unwrap();
        (self.child.wait().unwrap().code(), said, complained)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It has ended already in a test that succeeds.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A place for a database, and a file that allows one program, which answers its parameters.
fn place() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    let allowed = json!({"programs": {"copy": {"path": "/bin/cat", "limits": {"seconds": 20}}}});
    std::fs::write(place.path().join("programs.json"), allowed.to_string()).unwrap();
    std::fs::create_dir(place.path().join("files")).unwrap();
    place
}

fn server(place: &Path, workers: &str) -> Command {
    let mut command = program();
    command.args(["--port", "0", "--workers", workers, "--data"]).arg(place.join("data"));
    command.arg("--task-programs").arg(place.join("programs.json")).env("KAPPA_TASK_FILES", place.join("files"));
    command
}

fn worker(place: &Path) -> Command {
    let mut command = program();
    command.arg("worker").env("KAPPA_TASK_PROGRAMS", place.join("programs.json"));
    command
}

fn enqueue(client: Client, task: &Value) -> u64 {
    let made = client.json("POST", "/v1/tasks", &task.to_string());
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()["id"].as_u64().unwrap()
}

fn ended(client: Client, id: u64) -> Value {
    client.get(&format!("/v1/tasks/{id}?wait_ms={PATIENCE}")).json()
}

/// Waits until a worker has the task: there is nothing to wait for but its state.
fn begun(client: Client, id: u64) {
    loop {
        let task = client.get(&format!("/v1/tasks/{id}")).json();
        match task["state"].as_str() {
            Some("waiting") => std::thread::yield_now(),
            state => return assert_eq!(state, Some("active"), "{task}"),
        }
    }
}

/// An allow-list that nobody can set allows nothing, and one that is not asked allows everything.
#[test]
fn what_the_configuration_allows_is_run_and_nothing_else() {
    let place = place();
    let running = Running::start(&mut server(place.path(), "2"));
    let client = running.client;
    let task = ended(client, enqueue(client, &json!({"kind": "copy", "params": {"a": 1.50}})));
    assert_eq!((&task["state"], &task["result"]), (&"completed".into(), &json!({"a": 1.50})), "{task}");
    let executed = client.json("POST", "/api/execute", r#"{"task":"copy","params":[1,"x"]}"#);
    executed.is(200, r#"{"message":"Tarea copy ejecutada exitosamente","result":[1,"x"]}"#);
    for body in [r#"{"kind":"cat","params":1}"#, r#"{"kind":"/bin/cat"}"#] {
        client.json("POST", "/v1/tasks", body).is_problem(400, "invalid_input");
    }
    for body in [
        r#"{"task":"cat","params":1}"#,
        r#"{"task":"evil","image":"evil/root:latest","port":1,"params":[]}"#,
        r#"{"task":"/bin/cat","image":"/bin/cat","params":[]}"#,
    ] {
        assert_eq!(client.json("POST", "/api/execute", body).status, 400, "{body}");
    }
    assert_eq!(client.json("POST", "/v1/products", r#"{"id":"p","title":"Mate","price":1}"#).status, 201);
    let export = json!({"kind": "export", "params": {"collection": "products", "file": "out.jsonl"}});
    let task = ended(client, enqueue(client, &export));
    assert_eq!(task["result"]["exported"], 1, "{task}");
    let written = std::fs::read_to_string(place.path().join("files/out.jsonl")).unwrap();
    assert_eq!(written.trim(), r#"{"id":"p","title":"Mate","price":1}"#);
}

/// A program that refuses its input and one that crashes once gave the same answer, so callers tried the wrong one again.
#[test]
fn a_failed_program_says_whether_the_caller_can_mend_it() {
    let place = place();
    let shell = |script: &str| json!({"path": "/bin/sh", "arguments": ["-c", script]});
    let allowed = json!({"programs": {
        "refuses": shell("echo no number >&2; exit 65"),
        "fails": shell("echo secret >&2; exit 1"),
        "crashes": shell("kill -ABRT $$"),
        "talks": shell("echo no json"),
    }});
    std::fs::write(place.path().join("programs.json"), allowed.to_string()).unwrap();
    let running = Running::start(&mut server(place.path(), "2"));
    let execute = |task: &str| {
        let body = json!({"task": task, "params": ["x"]});
        running.client.json("POST", "/api/execute", &body.to_string())
    };
    let refused = execute("refuses");
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(refused.json()["detail"].as_str().unwrap().contains("no number"), "{}", refused.text());
    for task in ["fails", "crashes", "talks"] {
        let reply = execute(task);
        reply.is(502, &format!(r#"{{"message":"Error al ejecutar la tarea {task}"}}"#));
        let failed = running.client.get(reply.header("location").unwrap()).json();
        assert_eq!((&failed["state"], failed["error"].is_string()), (&"failed".into(), true), "{failed}");
    }
}

/// Whoever begins with the example must get what it promises.
#[test]
fn the_example_of_a_configuration_works() {
    let place = place();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/tasks/programs.json");
    let mut command = program();
    command.args(["--port", "0", "--data"]).arg(place.path().join("data")).env("KAPPA_TASK_PROGRAMS", example);
    let running = Running::start(&mut command);
    let client = running.client;
    let words = ended(client, enqueue(client, &json!({"kind": "word_count", "params": "one two three"})));
    assert_eq!(words["result"], 3, "{words}");
    let line = ended(client, enqueue(client, &json!({"kind": "line", "params": {"number": 7}})));
    assert_eq!(line["result"], json!({"line": 7}), "{line}");
}

/// Without the options a server runs its own kinds, and neither a program nor a file of anybody.
#[test]
fn nothing_is_allowed_unless_it_is_written_down() {
    let place = place();
    let running = Running::start(program().args(["--port", "0", "--data"]).arg(place.path().join("data")));
    let export = r#"{"kind":"export","params":{"collection":"products","file":"out.jsonl"}}"#;
    for body in [r#"{"kind":"copy","params":1}"#, export] {
        running.client.json("POST", "/v1/tasks", body).is_problem(400, "invalid_input");
    }
}

/// A server that starts without what its tasks need fails them one by one.
#[test]
fn a_configuration_that_cannot_hold_ends_the_program_at_once() {
    let place = place();
    let file = place.path().join("bad.json");
    std::fs::write(&file, "{\n  \"programs\": {\n    \"a\": {\"path\": \"/bin/cat\", \"shell\": true}\n  }\n}")
        .unwrap();
    let line = format!("{}:3:", file.display());
    let data = place.path().join("data");
    for command in [&mut program(), program().arg("worker")] {
        let said = command.arg("--data").arg(&data).arg("--task-programs").arg(&file).output().unwrap();
        one_line(&said, 2, &[&line, "`shell`"]);
    }
    let gone = program().args(["worker", "--task-files", "/no/such/place", "--data"]).arg(&data).output().unwrap();
    one_line(&gone, 2, &["--task-files", "/no/such/place"]);
    one_line(&program().args(["worker", "--url", "nowhere"]).output().unwrap(), 2, &["nowhere"]);
    let both = program().args(["worker", "--url", "http://127.0.0.1:1", "--data"]).arg(&data).output().unwrap();
    one_line(&both, 2, &["--data", "--url"]);
    one_line(&program().args(["worker", "--concurrency", "0"]).output().unwrap(), 2, &["--concurrency"]);
    assert!(!data.exists(), "nothing was opened");
}

/// The same tasks must be run by a worker beside the server on its directory, and by one far away that has only its address.
#[test]
fn a_worker_runs_what_a_server_takes_in() {
    let place = place();
    let running = Running::start(&mut server(place.path(), "0"));
    let client = running.client;
    let url = format!("http://{}", client.0);
    let near = |command: &mut Command| Worker::start(command.arg("--data").arg(place.path().join("data")));
    let far = |command: &mut Command| Worker::start(command.args(["--url", &url]));
    let starts: [&dyn Fn(&mut Command) -> Worker; 2] = [&near, &far];
    for start in starts {
        let working = start(worker(place.path()).args(["--concurrency", "2"]));
        let sum = ended(client, enqueue(client, &json!({"kind": "sum", "params": [1, 2, 3]})));
        assert_eq!((&sum["state"], &sum["result"]), (&"completed".into(), &json!(6)), "{sum}");
        let copy = ended(client, enqueue(client, &json!({"kind": "copy", "params": "x"})));
        assert_eq!(copy["result"], "x", "{copy}");
        let executed = client.json("POST", "/api/execute", r#"{"task":"sum","params":[1,2]}"#);
        executed.is(200, r#"{"message":"Tarea sum ejecutada exitosamente","result":3}"#);
        working.signal(Signal::TERM);
        let (code, said, _) = working.end();
        assert_eq!((code, said.contains("stopped")), (Some(0), true), "{said}");
    }
}

/// A task that its worker was told to leave must wait again with all of its attempts, not run out its lease.
#[test]
fn a_stop_hands_the_task_under_way_back() {
    let place = place();
    let running = Running::start(&mut server(place.path(), "0"));
    let client = running.client;
    for signal in [Signal::TERM, Signal::INT] {
        let mut command = worker(place.path());
        command.args(["--queue", "long", "--grace", "0", "--data"]).arg(place.path().join("data"));
        let working = Worker::start(&mut command);
        let id = enqueue(client, &json!({"queue": "long", "kind": "wait", "params": {"ms": 60_000}}));
        begun(client, id);
        working.signal(signal);
        let (code, said, _) = working.end();
        assert_eq!(code, Some(0), "{said}");
        let task = client.get(&format!("/v1/tasks/{id}")).json();
        assert_eq!((&task["state"], &task["attempt"]), (&"waiting".into(), &0.into()), "{task}");
        assert_eq!(client.send("DELETE", &format!("/v1/tasks/{id}"), &[], b"").status, 204);
    }
}

/// A nightly job that never ends is started again beside itself; a journal has no use for bars.
#[test]
fn a_burst_ends_with_its_tasks_and_draws_no_bar_into_a_file() {
    let place = place();
    let running = Running::start(&mut server(place.path(), "0"));
    let client = running.client;
    let ids: Vec<_> =
        (0..20).map(|n| enqueue(client, &json!({"queue": "night", "kind": "sum", "params": [n]}))).collect();
    enqueue(client, &json!({"queue": "night", "kind": "sum", "delay_ms": 3_600_000, "params": [1]}));
    let mut command = worker(place.path());
    command.args(["--burst", "--queue", "night", "--queue", "nobody", "--data"]).arg(place.path().join("data"));
    let (code, said, complained) = Worker::start(&mut command).end();
    assert_eq!((code, complained.as_str()), (Some(0), ""), "{said}");
    assert!(said.contains("stopped"), "{said}");
    for (n, id) in ids.into_iter().enumerate() {
        assert_eq!(client.get(&format!("/v1/tasks/{id}")).json()["result"], n);
    }
    let queue = client.get("/v1/queues/night").json();
    assert_eq!((&queue["completed"], &queue["delayed"]), (&20.into(), &1.into()), "{queue}");
}
