//! What core writes must be what the description says: a field that only one of the two has misleads every client made from it.

use std::collections::BTreeSet;

use kappa_core::{
    Backoff, Claimed, EnqueuedId, FailedAttempt, Json, Lease, Misfire, NewTask, Outcome, QueueInfo, QueueSettings,
    Rate, Renewal, Report, Schedule, ScheduleInfo, Task, TaskState, Token, Verdict,
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::openapi_document;

/// The parts of the description that a value has shown to be true.
type Shown = BTreeSet<String>;

fn fits(schemas: &Value, name: &str, schema: &Value, value: &Value, shown: &mut Shown) -> Result<(), String> {
    if let Some(other) = schema["$ref"].as_str() {
        let other = other.rsplit('/').next().unwrap_or_default();
        return fits(schemas, other, &schemas[other], value, shown);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let mut fitting = 0;
        for (n, choice) in choices.iter().enumerate() {
            let (choice_name, mut shown_there) = (format!("{name}|{n}"), Shown::new());
            if fits(schemas, &choice_name, choice, value, &mut shown_there).is_ok() {
                fitting += 1;
                shown.append(&mut shown_there);
                shown.insert(choice_name);
            }
        }
        return if fitting == 1 { Ok(()) } else { Err(format!("{name}: {fitting} choices fit {value}")) };
    }
    let types = schema["type"].as_array().cloned().unwrap_or_else(|| vec![schema["type"].clone()]);
    if !schema["type"].is_null() && !types.contains(&json!(type_of(value))) {
        return Err(format!("{name}: {value} is not of {}", schema["type"]));
    }
    if let Some(words) = schema["enum"].as_array() {
        if !words.contains(value) {
            return Err(format!("{name}: {value} is none of {}", schema["enum"]));
        }
        shown.insert(format!("{name}={value}"));
    }
    for item in value.as_array().into_iter().flatten() {
        fits(schemas, &format!("{name}[]"), &schema["items"], item, shown)?;
    }
    match (value.as_object(), schema["properties"].as_object()) {
        (Some(fields), Some(described)) => fields_fit(schemas, name, (described, &schema["required"]), fields, shown),
        _ => Ok(()),
    }
}

fn fields_fit(
    schemas: &Value,
    name: &str,
    (described, required): (&Map<String, Value>, &Value),
    fields: &Map<String, Value>,
    shown: &mut Shown,
) -> Result<(), String> {
    for field in required.as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(field) {
            return Err(format!("{name}: {field} is missing"));
        }
    }
    for (field, value) in fields {
        let Some(schema) = described.get(field) else { return Err(format!("{name}: {field} is not described")) };
        let inner = format!("{name}.{field}");
        fits(schemas, &inner, schema, value, shown)?;
        if !value.is_null() {
            shown.insert(inner);
        }
    }
    Ok(())
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_i64() || number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Everything that a description says and a value can show.
fn parts(name: &str, schema: &Value, all: &mut Shown) {
    for (n, choice) in schema["oneOf"].as_array().into_iter().flatten().enumerate() {
        if choice["type"] != "null" {
            let name = format!("{name}|{n}");
            parts(&name, choice, all);
            all.insert(name);
        }
    }
    for word in schema["enum"].as_array().into_iter().flatten() {
        all.insert(format!("{name}={word}"));
    }
    for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
        let name = format!("{name}.{field}");
        parts(&name, schema, all);
        all.insert(name);
    }
}

fn task(state: TaskState) -> Task {
    let text = || Some("text".to_owned());
    let failure = FailedAttempt { attempt: 1, at: 1, error: "no".to_owned() };
    Task {
        id: 1_024,
        queue: "mail".to_owned(),
        kind: "mail".to_owned(),
        description: text(),
        params: Json::from(json!({"a": 1})),
        priority: -1,
        state,
        attempt: 1,
        max_attempts: 5,
        progress: Some(0.5),
        result: Some(Json::from(json!([1]))),
        error: text(),
        created_at: 1,
        due_at: 1,
        started_at: Some(1),
        finished_at: Some(1),
        unique: text(),
        parent: Some(1),
        worker: text(),
        cancel_requested: true,
        timeout_ms: 1,
        failures: vec![failure],
        redrives: 1,
        schedule: text(),
    }
}

fn new_task(backoff: Backoff) -> NewTask {
    NewTask {
        queue: "mail".to_owned(),
        kind: Some("mail".to_owned()),
        description: Some("text".to_owned()),
        params: Json::from(json!(1)),
        priority: 1,
        delay_ms: Some(1),
        due_at: Some(1),
        attempts: Some(1),
        backoff: Some(backoff),
        timeout_ms: Some(1),
        unique: Some("k".to_owned()),
        parent: Some(1),
    }
}

/// Values of core's that have everything, by the names of their descriptions.
fn samples() -> Vec<(&'static str, Value)> {
    fn sample(name: &'static str, value: impl Serialize) -> (&'static str, Value) {
        (name, serde_json::to_value(value).expect("core's types have a JSON form"))
    }
    let lease = Lease { task: 1_024, run: 1, token: Token(7) };
    let settings = QueueSettings {
        concurrency: Some(1),
        rate: Some(Rate { count: 1, per_ms: 1 }),
        max_length: Some(1),
        ..QueueSettings::default()
    };
    let (custom, fixed) = (Backoff::Custom { ms: vec![1] }, Backoff::Fixed { ms: 1 });
    let schedule = |misfire| Schedule {
        name: "nightly".to_owned(),
        cron: "0 3 * * *".to_owned(),
        time_zone: Some("UTC".to_owned()),
        task: new_task(fixed.clone()),
        misfire,
        paused: true,
    };
    let info = ScheduleInfo {
        schedule: schedule(Misfire::Skip),
        next_at: Some(1),
        last_at: Some(1),
        last_task: Some(1),
        fired: 1,
        error: Some("full".to_owned()),
    };
    let queue = QueueInfo {
        name: "mail".to_owned(),
        settings,
        paused: true,
        waiting: 1,
        delayed: 1,
        active: 1,
        completed: 1,
        failed: 1,
        cancelled: 1,
        head_waits_ms: 1,
        overdue_ms: 1,
    };
    let outcomes = [
        Outcome::Completed { result: Json::from(json!(1)) },
        Outcome::Failed { error: "no".to_owned(), retry: true },
        Outcome::Released,
        Outcome::Cancelled,
    ];
    let mut all = vec![
        sample("NewTask", new_task(Backoff::default())),
        sample("NewTask", new_task(custom)),
        sample("NewTask", NewTask::default()),
        sample("EnqueuedId", EnqueuedId { id: 1, existing: true }),
        sample("Claimed", Claimed { task: task(TaskState::Active), lease, expires_at: 1 }),
        sample("Verdict", Verdict::Accepted(TaskState::Completed)),
        sample("Verdict", Verdict::Stale),
        sample("Renewal", Renewal::Held { expires_at: 1, cancel: true }),
        sample("Renewal", Renewal::Stale),
        sample("QueueInfo", queue),
        sample("QueueSettings", QueueSettings::default()),
        sample("ScheduleInfo", info),
    ];
    all.extend(TaskState::ALL.map(|state| sample("Task", task(state))));
    all.extend([Misfire::Once, Misfire::All].map(|misfire| sample("Schedule", schedule(misfire))));
    all.extend(outcomes.map(|outcome| sample("Report", Report { lease, outcome })));
    all
}

const DESCRIBED: [&str; 19] = [
    "Backoff",
    "Claimed",
    "EnqueuedId",
    "FailedAttempt",
    "Lease",
    "Misfire",
    "NewTask",
    "Outcome",
    "QueueInfo",
    "QueueSettings",
    "Rate",
    "Renewal",
    "Report",
    "RetryBudget",
    "Schedule",
    "ScheduleInfo",
    "Task",
    "TaskState",
    "Verdict",
];

#[test]
fn what_core_writes_is_what_is_described() {
    let document = serde_json::to_value(openapi_document()).expect("a description has a JSON form");
    let schemas = &document["components"]["schemas"];
    let mut shown = Shown::new();
    for (name, value) in samples() {
        fits(schemas, name, &schemas[name], &value, &mut shown).unwrap_or_else(|what| panic!("{what} in {value}"));
    }
    let mut all = Shown::new();
    for name in DESCRIBED {
        assert!(schemas[name].is_object(), "{name} is not described");
        parts(name, &schemas[name], &mut all);
    }
    let invented: Vec<_> = all.difference(&shown).collect();
    assert!(invented.is_empty(), "described, and never written by core: {invented:?}");
}

/// A check that everything passes would check nothing.
#[test]
fn a_difference_is_found() {
    let schemas = json!({"Part": {"type": "string", "enum": ["a"]}});
    let schema = json!({"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#/x/Part"}, "b": {"type": ["integer", "null"]}}});
    let refused = |value| fits(&schemas, "Whole", &schema, &value, &mut Shown::new()).expect_err("refused");
    assert!(refused(json!({"b": 1})).contains("a is missing"));
    assert!(refused(json!({"a": "a", "c": 1})).contains("c is not described"));
    assert!(refused(json!({"a": "b"})).contains("is none of"));
    assert!(refused(json!({"a": "a", "b": "1"})).contains("is not of"));
    let mut shown = Shown::new();
    fits(&schemas, "Whole", &schema, &json!({"a": "a", "b": null}), &mut shown).expect("it fits");
    assert_eq!(shown, Shown::from(["Part=\"a\"".to_owned(), "Whole.a".to_owned()]));
}
