//! Programs of a configuration, from parameters to results and failures.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;

use super::*;
use crate::kappa::Kappa;
use crate::options::Options;
use crate::task::json::Json;
use crate::task::kinds::testing::Stage;
use crate::task::kinds::{Kinds, Setup};
use crate::task::model::{Backoff, NewTask, TaskState};
use crate::task::runner::TaskPrograms;
use crate::task::worker::WorkerOptions;

/// A configuration with one program, `script`, which is a shell script.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn kinds(&self, script: &str, more: &Value) -> Kinds {
        let path = self.path().join("script");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        let mut definition = json!({"path": path, "environment": {"PATH": "/usr/bin:/bin"}});
        let fields = definition.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        let programs = json!({"directory": self.path().join("runs"), "programs": {"script": definition}});
        let programs: TaskPrograms = serde_json::from_value(programs).expect("a configuration");
        let mut kinds = Kinds::built_in(&Setup::default());
        programs.install(&mut kinds, &Env::default()).expect("it fits");
        kinds
    }

    /// What no run may leave.
    fn left(&self) -> usize {
        fs::read_dir(self.path().join("runs")).expect("it is there").count()
    }
}

#[test]
fn parameters_go_in_and_a_result_comes_out() {
    let place = Place::new();
    let script =
        r#"printf '{"in": %s, "first": "%s", "second": "%s", "fence": "%s"}' "$(cat)" "$1" "$2" "$KAPPA_TASK_FENCE""#;
    let kinds = place.kinds(script, &json!({"arguments": ["--size={size}", "{name}"]}));
    let params = json!({"size": 4, "name": "a $(b) c"});
    kinds.check("script", &params).expect("they fit");
    let result = kinds.run("script", &Stage::new(params.clone()));
    let expected = json!({"in": params, "first": "--size=4", "second": "a $(b) c", "fence": "7-1"});
    assert_eq!(result, Ok(expected));
    assert_eq!(place.left(), 0);
    assert!(kinds.check("script", &json!({"size": 4})).is_err(), "a parameter is missing, and nothing is stored");
}

/// What is wrong with a program's end must be told apart: some ends pass, others come again with each attempt.
#[test]
fn each_end_has_its_failure() {
    for (script, code, retry) in [
        ("echo broken >&2; exit 1", "status", true),
        ("exit 64", "refused", false),
        ("exit 65", "refused", false),
        ("kill -ABRT $$", "signal", true),
        ("kill -XCPU $$", "cpu_limit", false),
        ("echo not json", "output_format", false),
        ("echo 1; echo 2", "output_format", false),
        ("head -c 2000 /dev/zero | tr '\\0' 1", "output_limit", false),
        ("for i in 1 2 3 4 5 6 7 8; do sleep 100 & done; wait", "process_limit", false),
        ("trap '' TERM; while :; do sleep 1; done", "time_limit", true),
    ] {
        let place = Place::new();
        let limits = json!({"output_bytes": 1_000, "processes": 5, "seconds": 1, "grace_seconds": 0});
        let kinds = place.kinds(script, &json!({ "limits": limits }));
        let failure = kinds.run("script", &Stage::new(json!({}))).expect_err(script);
        assert_eq!((failure.code.as_str(), failure.retry), (code, retry), "{script}: {failure}");
        assert_eq!(place.left(), 0, "{script}");
        if code == "status" {
            assert!(failure.message.ends_with("status 1; its last errors: broken"), "{failure}");
        }
    }
}

#[test]
fn nothing_written_is_no_result_and_a_cancelled_one_ends() {
    let place = Place::new();
    assert!(place.kinds("cat > file; ls", &json!({})).run("script", &Stage::new(json!({}))).is_err());
    assert_eq!(place.kinds("cat > file", &json!({})).run("script", &Stage::new(json!({}))), Ok(Value::Null));
    let kinds = place.kinds("exec sleep 1000", &json!({}));
    let failure = kinds.run("script", &Stage::new(json!({})).cancelled_after(0)).expect_err("cancelled");
    assert!(failure.is_cancelled(), "{failure}");
    assert_eq!(place.left(), 0);
}

/// A program that is changed to one that is not there must fail when the server starts, not at three in the morning.
#[test]
fn a_wrong_definition_is_refused_at_once() {
    let place = Place::new();
    let file = place.path().join("file");
    fs::write(&file, "").expect("written");
    for (definition, field) in [
        (json!({"path": "sh"}), "path"),
        (json!({"path": "/nowhere/to/be/found"}), "path"),
        (json!({"path": "/"}), "path"),
        (json!({"path": file, "arguments": ["{"]}), "arguments"),
        (json!({"path": file, "environment": {"A=B": "c"}}), "environment"),
        (json!({"path": file, "inherit": [""]}), "inherit"),
        (json!({"path": file, "limits": {"seconds": 0}}), "limits.seconds"),
    ] {
        let programs = json!({"directory": place.path().join("runs"), "programs": {"x": definition}});
        let programs: TaskPrograms = serde_json::from_value(programs).expect("a configuration");
        let error = programs.install(&mut Kinds::new(), &Env::default()).expect_err(field).to_string();
        assert!(error.contains(&format!("field={field}")) && error.contains("kind=x"), "{error}");
    }
    let taken = json!({"directory": place.path().join("runs"), "programs": {"sum": {"path": file}}});
    let taken: TaskPrograms = serde_json::from_value(taken).expect("a configuration");
    taken.install(&mut Kinds::built_in(&Setup::default()), &Env::default()).expect_err("there is a sum already");
}

/// A program that crashes each time must neither be run for ever nor be forgotten.
#[test]
fn a_program_that_aborts_ends_as_a_dead_letter() {
    let place = Place::new();
    let kinds = place.kinds("echo once >> ../../runs-made; kill -ABRT $$", &json!({}));
    let kappa = Kappa::in_memory(&Options::default(), &Env::default()).expect("a database");
    let worker = kinds.work(&kappa, WorkerOptions::new(["q"])).expect("it starts");
    let task = NewTask {
        kind: Some("script".to_owned()),
        attempts: Some(3),
        backoff: Some(Backoff::Fixed { ms: 1 }),
        ..NewTask::new("q", Json::null())
    };
    let id = kappa.tasks().enqueue(task).wait().expect("added").task.id;
    let ended = kappa.tasks().ended(id).wait().expect("it ends");
    assert_eq!((ended.state, ended.attempt), (TaskState::Failed, 3));
    assert_eq!(ended.error.expect("a reason"), "signal: the program was ended by signal 6");
    assert_eq!(fs::read_to_string(place.path().join("runs-made")).expect("made").lines().count(), 3);
    assert_eq!((worker.stop(), place.left()), (0, 0));
}
