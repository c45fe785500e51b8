//! Files in and out, wrong lines, and runs after a crash.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::kappa::Kappa;
use crate::task::kinds::testing::Stage;
use crate::task::kinds::{Context, Failure, Kinds, Outcome};

struct Place {
    directory: tempfile::TempDir,
    kinds: Kinds,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut kinds = Kinds::new();
        kinds.allow_files(directory.path()).expect("it is there");
        Self { directory, kinds }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).expect("written");
    }

    fn import(&self, stage: &Stage) -> Outcome {
        self.kinds.check("import", stage.params()).expect("they fit");
        self.kinds.run("import", stage)
    }

    fn failure(&self, text: &str, params: &Value) -> Failure {
        let name = params["file"].as_str().expect("a name");
        self.write(name, text);
        self.import(&Stage::new(params.clone())).expect_err(text)
    }
}

fn texts(kappa: &Kappa, collection: &str) -> Vec<String> {
    let list = kappa.collection(collection).expect("a name").list();
    list.iter().map(|entry| entry.expect("an answer").document.text().to_owned()).collect()
}

#[test]
fn what_was_exported_is_imported_alike() {
    let place = Place::new();
    let stage = Stage::new(json!({"collection": "a", "file": "in.jsonl"}));
    let lines = "{\"id\":\"1\",\"n\":12345678901234567890.10,\"t\":\"x, \\\"y\\\"\\nz\"}\n\n  {\"id\":\"2\",\"t\":\"00712\",\"b\":true,\"j\":[1]}\r\n{\"t\":\"ü\"}";
    place.write("in.jsonl", lines);
    assert_eq!(place.import(&stage), Ok(json!({"imported": 3, "replaced": 0, "skipped": 0})));
    let first = texts(stage.kappa(), "a");
    assert_eq!(first[2], r#"{"id":"import-7-4","t":"ü"}"#);
    let kappa = stage.kappa().clone();
    let run = |kind: &str, params: Value| place.kinds.run(kind, &Stage::over(kappa.clone(), params));
    run("export", json!({"collection": "a", "file": "out.jsonl"})).expect("it runs");
    let exported = fs::read_to_string(place.path().join("out.jsonl")).expect("it is there");
    assert_eq!(exported.lines().collect::<Vec<_>>(), first);
    let fields = json!(["id", "n", "t", "b", "j"]);
    let result = run("export", json!({"collection": "a", "file": "out.csv", "fields": fields})).expect("it runs");
    let table = fs::read_to_string(place.path().join("out.csv")).expect("it is there");
    assert_eq!(result, json!({"exported": 3, "bytes": table.len()}));
    let types = json!({"n": "number", "b": "boolean", "j": "json"});
    let other = Stage::new(json!({"collection": "b", "file": "out.csv", "types": types}));
    place.import(&other).expect("it runs");
    assert_eq!(texts(other.kappa(), "b"), first);
}

/// "Something is wrong somewhere in a million lines" helps nobody, and a line that cannot be right must not be tried
/// again and again.
#[test]
fn a_wrong_line_is_named_and_ends_the_import() {
    let place = Place::new();
    let long = format!("{{\"a\":1}}\n{{\"a\":\"{}\"}}\n", "x".repeat(1 << 20));
    let quoted = format!("a\n1\n\"{}", "x\n".repeat(3 << 20));
    let jsonl = |collection: &str| json!({"collection": collection, "file": "f.jsonl"});
    let csv = json!({"collection": "a", "file": "f.csv", "types": {"a": "number"}});
    for (text, params, line, word) in [
        ("{\"a\":1}\n\n[1]\n", jsonl("a"), 3, "JSON object"),
        ("{\"a\":1}\n{\"a\":1", jsonl("a"), 2, "JSON object"),
        ("{\"a\":1,\"a\":2}", jsonl("a"), 1, "a"),
        (long.as_str(), jsonl("a"), 2, "1 MiB"),
        ("{\"title\":\"x\",\"price\":1}\n{\"title\":\"x\",\"price\":-1}", jsonl("products"), 2, "price"),
        ("{\"id\":\"1\"}\n\n{\"id\":\"1\"}", jsonl("a"), 3, "id"),
        ("{\"id\":7}", jsonl("a"), 1, "id"),
        ("a\n1\nx\n", csv.clone(), 3, "\"a\" is a number"),
        ("a\n1\n1,2\n", csv.clone(), 3, "2 cells"),
        ("a,a\n1,2\n", csv.clone(), 1, "a name of its own"),
        ("b\n1\n", csv.clone(), 1, "no column \"a\""),
        ("", csv.clone(), 1, "begins with the names"),
        (quoted.as_str(), csv, 3, "1 MiB"),
    ] {
        let failure = place.failure(text, &params);
        assert_eq!((failure.code.as_str(), failure.retry), ("invalid_line", false), "{failure}");
        let named = failure.message.starts_with(&format!("line {line}: ")) && failure.message.contains(word);
        assert!(named, "{line} {word}: {failure}");
    }
}

#[test]
fn documents_that_are_there_are_refused_left_or_replaced() {
    let place = Place::new();
    let kappa = Stage::new(json!({})).kappa().clone();
    kappa.collection("a").expect("a name").create(json!({"id": "1", "n": 0})).wait().expect("stored");
    place.write("f.jsonl", "{\"id\":\"1\",\"n\":1}\n{\"id\":\"2\"}\n{\"id\":\"2\",\"n\":2}\n");
    let run = |id: u64, existing: &str| {
        let params = json!({"collection": "a", "file": "f.jsonl", "existing": existing});
        place.import(&Stage::over(kappa.clone(), params).with_id(id))
    };
    let refused = run(1, "refuse").expect_err("it is there");
    assert!(refused.message.starts_with("line 1: ") && !refused.retry, "{refused}");
    assert_eq!(run(2, "skip"), Ok(json!({"imported": 1, "replaced": 0, "skipped": 2})));
    assert_eq!(texts(&kappa, "a"), [r#"{"id":"1","n":0}"#, r#"{"id":"2"}"#]);
    assert_eq!(run(3, "replace"), Ok(json!({"imported": 0, "replaced": 3, "skipped": 0})));
    assert_eq!(texts(&kappa, "a"), [r#"{"id":"1","n":1}"#, r#"{"id":"2","n":2}"#]);
}

/// An import that begins again after a crash would refuse its own documents, or add those without an id twice.
#[test]
fn another_run_goes_on_behind_the_last_batch() {
    let place = Place::new();
    let lines: Vec<String> = (0..950).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    place.write("f.jsonl", &lines.concat());
    let stage = Stage::new(json!({"collection": "a", "file": "f.jsonl"})).cancelled_after(3);
    assert_eq!(place.import(&stage), Err(Failure::cancelled()));
    assert_eq!(texts(stage.kappa(), "a").len(), 600);
    for _ in 0..2 {
        assert_eq!(place.import(&stage.again()), Ok(json!({"imported": 950, "replaced": 0, "skipped": 0})));
        let numbers: Vec<String> = texts(stage.kappa(), "a");
        assert!(numbers.len() == 950 && numbers[949].ends_with("\"n\":949}"), "{:?}", numbers.last());
    }
    place.write("f.jsonl", "{}\n");
    let failure = place.import(&stage.again()).expect_err("it was cut");
    assert!(failure.message.contains("shorter") && !failure.retry, "{failure}");
}

#[test]
fn a_cancelled_export_leaves_the_old_file() {
    let place = Place::new();
    let stage = Stage::new(json!({"collection": "a", "file": "out.jsonl"})).cancelled_after(0);
    for n in 0..150 {
        stage.kappa().collection("a").expect("a name").create(json!({ "n": n })).wait().expect("stored");
    }
    place.write("out.jsonl", "old");
    assert_eq!(place.kinds.run("export", &stage), Err(Failure::cancelled()));
    assert_eq!(fs::read_to_string(place.path().join("out.jsonl")).expect("it is there"), "old");
    assert_eq!(fs::read_dir(place.path()).expect("read").count(), 1, "no draft stays");
}

#[test]
fn parameters_are_checked_before_a_task_is_stored() {
    let place = Place::new();
    for (kind, params) in [
        ("import", json!({"collection": "a", "file": "../f.jsonl"})),
        ("import", json!({"collection": "a", "file": "/etc/passwd", "format": "csv"})),
        ("import", json!({"collection": "a", "file": "f.txt"})),
        ("import", json!({"collection": "A", "file": "f.csv"})),
        ("import", json!({"collection": "a", "file": "f.csv", "types": {"a": "date"}})),
        ("import", json!({"collection": "a", "file": "f.csv", "existing": "merge"})),
        ("export", json!({"collection": "a", "file": "f.csv"})),
        ("export", json!({"collection": "a", "file": "f.jsonl", "fields": ["a"]})),
        ("export", json!({"collection": "a", "file": "f.jsonl", "append": true})),
    ] {
        assert!(place.kinds.check(kind, &params).is_err(), "{kind} {params}");
    }
    let missing = place.kinds.run("import", &Stage::new(json!({"collection": "a", "file": "none.csv"})));
    assert!(missing.is_err_and(|failure| !failure.retry && failure.code == "file"));
    let nowhere = Kinds::new().allow_files(Path::new("/nowhere/to/be/found")).expect_err("it is not there");
    assert_eq!(nowhere.kind(), crate::ErrorKind::Unavailable);
}
