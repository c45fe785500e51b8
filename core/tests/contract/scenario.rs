//! What every runner in Rust shares: the scenarios read, their placeholders filled in, answers compared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

/// Named arguments of a call.
pub type Arguments = Map<String, Value>;

/// serde's own mark for a number: a map that holds it would be read as a number, and the case that offers it as a field
/// name would offer nothing of the kind.
const NUMBER_MARK: &str = "$serde_json::private::Number";
const STAND_IN: &str = "(the mark of a number)";

/// A failed call: its code, and the text for people.
#[derive(Debug)]
pub struct Failure {
    pub code: String,
    pub text: String,
}

/// One open database, reached in one way.
pub trait Database {
    /// The call `store.method`.
    fn call(&mut self, store: &str, method: &str, with: &Arguments) -> Result<Value, Failure>;
}

/// Opens an empty database.
pub type Open<'a> = dyn FnMut() -> Box<dyn Database> + 'a;

/// Runs the scenarios of every file, each on a database of its own; tells all differences at once.
#[track_caller]
pub fn run_scenarios(way: &str, open: &mut Open<'_>) {
    let (mut ran, mut failures) = (0, Vec::new());
    for file in files() {
        for scenario in read(&file).as_array().unwrap() {
            let fields = scenario.as_object().unwrap();
            let known = fields.keys().all(|name| ["name", "not_over", "steps"].contains(&name.as_str()));
            assert!(known, "{}: a word that nobody reads in {}", file.display(), fields["name"]);
            if fields.get("not_over").is_some_and(|ways| ways.get(way).is_some()) {
                continue;
            }
            ran += 1;
            if let Err(failure) = run_scenario(&mut *open(), &fields["steps"]) {
                failures.push(format!("{}: {}: {failure}", file.file_name().unwrap().display(), fields["name"]));
            }
        }
    }
    assert!(ran >= 30, "only {ran} scenarios");
    assert!(failures.is_empty(), "{} of {ran} scenarios over {way}:\n{}", failures.len(), failures.join("\n"));
}

fn run_scenario(database: &mut dyn Database, steps: &Value) -> Result<(), String> {
    let mut kept = BTreeMap::new();
    let steps = steps.as_array().filter(|steps| !steps.is_empty()).ok_or("no steps")?;
    for (number, step) in steps.iter().enumerate() {
        run_step(database, step, &mut kept).map_err(|what| format!("step {number}, {}: {what}", short(step)))?;
    }
    Ok(())
}

fn run_step(database: &mut dyn Database, step: &Value, kept: &mut BTreeMap<String, Value>) -> Result<(), String> {
    const WORDS: [&str; 7] = ["name", "call", "with", "as", "gives", "equals", "fails"];
    let fields = step.as_object().ok_or("not an object")?;
    if let Some(unread) = fields.keys().find(|name| !WORDS.contains(&name.as_str())) {
        return Err(format!("nobody reads {unread}"));
    }
    let with = fill(fields.get("with").unwrap_or(&json!({})), kept)?;
    let (store, method) = fields["call"].as_str().and_then(|call| call.split_once('.')).ok_or("no call")?;
    let answer = database.call(store, method, with.as_object().ok_or("arguments have names")?);
    let answer = match (answer, fields.get("fails").map(|code| code.as_str().unwrap_or_default())) {
        (Ok(answer), None) => answer,
        (Ok(answer), Some(_)) => return Err(format!("gave {}", short(&answer))),
        (Err(failure), Some(code)) if failure.code == code && !failure.text.is_empty() => return Ok(()),
        (Err(failure), _) => return Err(format!("failed with {}: {}", failure.code, failure.text)),
    };
    if let Some(expected) = fields.get("equals")
        && !same(&fill(expected, kept)?, &answer)
    {
        return Err(format!("gave {}", short(&answer)));
    }
    if let Some(expected) = fields.get("gives")
        && !part_of(&fill(expected, kept)?, &answer)
    {
        return Err(format!("gave {}", short(&answer)));
    }
    if let Some(name) = fields.get("as") {
        kept.insert(name.as_str().ok_or("a name is text")?.to_owned(), answer);
    }
    Ok(())
}

/// Runs every case of `bad_input.json` on a small shop, which no case may change. `differs` names cases that this way
/// answers with another code, and that code.
#[track_caller]
pub fn run_bad_input(way: &str, database: &mut dyn Database, differs: &[(&str, &str)]) {
    let mut must = |call: &str, with: Value| {
        let step = json!({"call": call, "with": with});
        run_step(&mut *database, &step, &mut BTreeMap::new()).unwrap_or_else(|what| panic!("{call}: {what}"));
    };
    must("orders.declare", json!({"indexes": ["user", {"field": "number", "unique": true}]}));
    must("products.create", json!({"document": {"id": "p1", "title": "Mate", "price": 12.5}}));
    let user = json!({"id": "u1", "name": "Ana", "email": "ana@example.com", "group": 1});
    must("users.create", json!({ "document": user }));
    must("orders.create", json!({"document": {"id": "o1", "user": "ana", "number": 1}}));
    must("tasks.enqueue", json!({"queue": "mail", "delay_ms": 3_600_000, "unique": "k"}));
    let before = everything(database);
    let cases = read(&folder().join("bad_input.json"));
    let cases = cases.as_array().unwrap();
    assert!(cases.len() >= 150, "only {} cases", cases.len());
    let mut failures = Vec::new();
    for (name, _) in differs {
        assert!(cases.iter().any(|case| case["name"] == *name), "no case is named {name}");
    }
    for case in cases {
        let mut case = case.clone();
        let name = case["name"].as_str().unwrap().to_owned();
        if let Some((_, code)) = differs.iter().find(|(differing, _)| *differing == name) {
            assert!(case["fails"] != *code, "{name} does not differ");
            case["fails"] = json!(code);
        }
        assert!(case["fails"].is_string(), "{name} does not say how it fails");
        if let Err(what) = run_step(database, &case, &mut BTreeMap::new()) {
            failures.push(format!("{name}: {what}"));
        }
        let after = everything(database);
        assert!(same(&before, &after), "{name} changed {before} to {after}");
    }
    let all = cases.len();
    assert!(failures.is_empty(), "{} of {all} cases over {way}:\n{}", failures.len(), failures.join("\n"));
}

/// All collections and their documents, and what the queue holds.
fn everything(database: &mut dyn Database) -> Value {
    let collections = database.call("db", "collections", &Map::new()).unwrap();
    let mut documents = Vec::new();
    for collection in collections.as_array().unwrap() {
        documents.push(database.call(collection["name"].as_str().unwrap(), "list", &Map::new()).unwrap());
    }
    let queue = ["queues", "list", "schedules"].map(|method| database.call("tasks", method, &Map::new()).unwrap());
    json!([collections, documents, queue])
}

/// Where the files are, for every crate of the workspace.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/tests/contract")
}

/// The files of scenarios, by name.
pub fn files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    let others = ["bad_input.json", "methods.json"];
    files.retain(|file| file.extension().is_some_and(|end| end == "json") && !others.iter().any(|o| file.ends_with(o)));
    files.sort();
    files
}

/// One file, see [`STAND_IN`].
pub fn read(file: &Path) -> Value {
    let text = std::fs::read_to_string(file).unwrap().replace(NUMBER_MARK, STAND_IN);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The JSON text of an argument, as the file has it.
pub fn text_of(value: &Value) -> String {
    value.to_string().replace(STAND_IN, NUMBER_MARK)
}

/// `value` with what stands for other values put in.
fn fill(value: &Value, kept: &BTreeMap<String, Value>) -> Result<Value, String> {
    match value {
        Value::String(text) if text.starts_with('$') => {
            let mut names = text[1..].split('.');
            let unknown = || format!("nothing is known as {text}");
            let kept = kept.get(names.next().unwrap_or_default()).ok_or_else(unknown)?;
            let part = |part: &Value, name: &str| match part {
                Value::Array(items) => items.get(name.parse::<usize>().ok()?).cloned(),
                other => other.get(name).cloned(),
            };
            names.try_fold(kept.clone(), |found, name| part(&found, name)).ok_or_else(unknown)
        }
        Value::Array(items) => items.iter().map(|item| fill(item, kept)).collect(),
        Value::Object(fields) => {
            let times = || fields["times"].as_u64().ok_or("a repetition says how often");
            if let Some(text) = fields.get("$repeat") {
                return Ok(json!(text.as_str().ok_or("only text is repeated")?.repeat(times()? as usize)));
            }
            if let Some(item) = fields.get("$list") {
                return Ok(json!(vec![fill(item, kept)?; times()? as usize]));
            }
            if let Some(levels) = fields.get("$nest") {
                return Ok(
                    (1..levels.as_u64().ok_or("levels are a number")?).fold(json!([]), |inner, _| json!([inner]))
                );
            }
            fields.iter().map(|(name, value)| Ok((name.clone(), fill(value, kept)?))).collect()
        }
        other => Ok(other.clone()),
    }
}

/// Whether two values are the same JSON: 1 is 1.0, and true is not 1.
pub fn same(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            expected.len() == found.len()
                && expected.iter().all(|(name, value)| found.get(name).is_some_and(|found| same(value, found)))
        }
        (Value::Array(expected), Value::Array(found)) => {
            expected.len() == found.len() && expected.iter().zip(found).all(|(expected, found)| same(expected, found))
        }
        (Value::Number(expected), Value::Number(found)) => {
            decimal(&expected.to_string()) == decimal(&found.to_string())
        }
        _ => expected == found,
    }
}

/// Whether everything that is expected was found.
fn part_of(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            expected.iter().all(|(name, value)| found.get(name).is_some_and(|found| part_of(value, found)))
        }
        (Value::Array(expected), Value::Array(found)) => {
            let mut pairs = expected.iter().zip(found);
            expected.len() == found.len() && pairs.all(|(expected, found)| part_of(expected, found))
        }
        _ => same(expected, found),
    }
}

/// Sign, digits without zeros at either end, and the power of ten behind them: equal for equal numbers, however many digits
/// they have and however they are written.
fn decimal(text: &str) -> (bool, String, i64) {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i64 = exponent.parse().unwrap();
    let (negative, mantissa) = mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let kept = digits.trim_end_matches('0');
    if kept.is_empty() {
        return (false, String::new(), 0);
    }
    let length = |text: &str| i64::try_from(text.len()).unwrap();
    (negative, kept.to_owned(), exponent - length(fraction) + length(digits) - length(kept))
}

/// A histogram as the scenarios have it: its range as the first and the last value.
pub fn with_pair(mut histogram: Value) -> Value {
    let range = json!([histogram["range"]["start"], histogram["range"]["end"]]);
    histogram["range"] = range;
    histogram
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    let end = text.char_indices().nth(600).map_or(text.len(), |(at, _)| at);
    text[..end].to_owned()
}

/// A runner that finds everything alike would let every scenario pass.
#[test]
fn differences_are_found() {
    let number = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    for (one, other) in [("1", "1.0"), ("0", "-0.00"), ("1200", "1.2e3"), ("0.5", "5E-1"), ("-10", "-1e1")] {
        assert!(same(&number(one), &number(other)), "{one} is {other}");
    }
    for (one, other) in [("1", "-1"), ("1", "10"), ("9007199254740993", "9007199254740992"), ("0.1", "0.01")] {
        assert!(!same(&number(one), &number(other)), "{one} is not {other}");
    }
    assert!(!same(&json!({"a": 1}), &json!({"a": 1, "b": 2})) && part_of(&json!({"a": 1}), &json!({"a": 1, "b": 2})));
    assert!(!same(&json!(true), &json!(1)) && !same(&json!(1), &json!("1")) && !same(&json!(null), &json!(false)));
    assert!(!part_of(&json!([{"a": 1}]), &json!([{"a": 1}, {"a": 1}])) && !part_of(&json!({"a": null}), &json!({})));
    let kept = BTreeMap::from([("p".to_owned(), json!({"items": [{"id": "x"}]}))]);
    assert_eq!(fill(&json!(["$p.items.0.id", {"$nest": 2}]), &kept), Ok(json!(["x", [[]]])));
    assert!(fill(&json!("$p.items.1"), &kept).is_err() && fill(&json!("$q"), &kept).is_err());
}
