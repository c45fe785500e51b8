//! The scenarios that every language runs, over `/v1`: each call as its route, each problem's `code` as the failure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::changes::Events;
use crate::client::{BOUND, Client, Reply};
use crate::server::Server;

#[path = "../../../core/tests/contract/scenario.rs"]
pub mod scenario;

#[path = "../../../core/tests/contract/handle.rs"]
pub mod handle;

#[path = "contract_tasks.rs"]
mod tasks;

use tasks::Queue;

use scenario::{Arguments, Database, Failure, run_bad_input, run_scenarios, text_of, with_pair};

const JSON: (&str, &str) = ("content-type", "application/json");
/// Pages of a list that names no size.
const PAGE_SIZE: u64 = 100;

/// Stands for status 431, which comes before there is anybody to write a problem.
const HEAD_TOO_LONG: &str = "(status 431)";

/// Cases that HTTP answers with another code.
const DIFFERS: &[(&str, &str)] = &[
    // An entity tag is opaque: one that no document has is one that does not match (RFC 9110, 13.1.1).
    ("version that is empty", "version_mismatch"),
    ("version that is a word", "version_mismatch"),
    ("version that is negative", "version_mismatch"),
    ("version that is a fraction", "version_mismatch"),
    ("version that is with a sign", "version_mismatch"),
    ("version that is with a space", "version_mismatch"),
    ("version that is too large", "version_mismatch"),
    ("version that is hexadecimal", "version_mismatch"),
    // A path without the name is another path.
    ("collection whose name is empty", "route_not_found"),
    // A request's head has a limit of its own, beyond which nothing reads it.
    ("list cursor that is long text", HEAD_TOO_LONG),
    ("feed cursor that is long text", HEAD_TOO_LONG),
];

type Answer = Result<Value, Failure>;

/// A server with a database of its own.
struct Http {
    server: Server,
    /// What workers have claimed, by queue.
    claimed: BTreeMap<String, Value>,
}

impl Http {
    fn start() -> Self {
        Self { server: Server::start(), claimed: BTreeMap::new() }
    }
}

impl Database for Http {
    fn call(&mut self, store: &str, method: &str, with: &Arguments) -> Answer {
        let client = self.server.client;
        match (store, method) {
            ("db", "collection") => Collection { client, name: text(with, "name") }.exists(),
            ("db", "collections") => Ok(answer(client.get("/v1/collections"))?["items"].take()),
            ("db", "batch") => batch(client, with),
            ("db", "changes") => changes(client, with),
            ("db", "info") => Ok(answer(client.get("/v1/info"))?["database"].take()),
            ("db", "ready") => refused(client.get("/readyz")).map(|_| Value::Null),
            ("tasks", _) => Queue { client, claimed: &mut self.claimed }.call(method, with),
            ("random", "histogram") => histogram(client, with),
            ("db" | "random", _) => panic!("this runner does not know {store}.{method}"),
            _ => Collection { client, name: store }.call(method, with),
        }
    }
}

/// The routes of one collection.
#[derive(Clone, Copy)]
struct Collection<'a> {
    client: Client,
    name: &'a str,
}

impl Collection<'_> {
    fn call(self, method: &str, with: &Arguments) -> Answer {
        match method {
            "create" => self.write("POST", &self.path(), with, "document"),
            "replace" => self.write("PUT", &self.one(text(with, "id")), with, "document"),
            "update" => self.write("PATCH", &self.one(text(with, "id")), with, "patch"),
            "delete" => self.delete(with),
            "get" => Ok(self.entry(text(with, "id"))?.map_or(Value::Null, |(document, _)| document)),
            "entry" => {
                let found = self.entry(text(with, "id"))?;
                Ok(found.map_or(Value::Null, |(document, version)| json!({"value": document, "version": version})))
            }
            "get_many" => self.get_many(with),
            "count" => Ok(answer(self.client.get(&format!("{}?count=true", self.path())))?["count"].take()),
            "list" => self.list(with),
            "page" => self.page(with),
            "declare" => self.declare(with),
            "drop_index" => {
                let path = format!("{}/indexes/{}", self.definition(), escaped(text(with, "name")));
                answer(self.client.send("DELETE", &path, &[], b""))
            }
            "describe" => answer(self.client.get(&self.definition())),
            _ => panic!("this runner does not know {method}"),
        }
    }

    /// Where its documents are; products and users have routes of their own.
    fn path(self) -> String {
        match self.name {
            "products" | "users" => format!("/v1/{}", self.name),
            name => format!("/v1/collections/{}", escaped(name)),
        }
    }

    fn one(self, id: &str) -> String {
        format!("{}/{}", self.path(), escaped(id))
    }

    fn definition(self) -> String {
        format!("/v1/definitions/{}", escaped(self.name))
    }

    /// A legal name is one whether or not something has it.
    fn exists(self) -> Answer {
        match answer(self.client.get(&self.definition())) {
            Err(failure) if failure.code == "not_found" => Ok(Value::Null),
            other => other,
        }
    }

    fn write(self, method: &str, path: &str, with: &Arguments, body: &str) -> Answer {
        let mut path = path.to_owned();
        if let Some(ttl_ms) = with.get("ttl_ms") {
            let _ = write!(path, "?ttl_ms={ttl_ms}");
        }
        let conditions = conditions(with);
        let mut headers: Vec<(&str, &str)> = conditions.iter().map(|(name, value)| (*name, value.as_str())).collect();
        headers.push(JSON);
        answer(self.client.send(method, &path, &headers, text_of(&with[body]).as_bytes()))
    }

    /// HTTP says "no such document" where the others say that there was none to delete.
    fn delete(self, with: &Arguments) -> Answer {
        let conditions = conditions(with);
        let headers: Vec<(&str, &str)> = conditions.iter().map(|(name, value)| (*name, value.as_str())).collect();
        match refused(self.client.send("DELETE", &self.one(text(with, "id")), &headers, b"")) {
            Ok(_) => Ok(json!(true)),
            Err(failure) if failure.code == "not_found" => Ok(json!(false)),
            Err(failure) => Err(failure),
        }
    }

    /// The document and its version.
    fn entry(self, id: &str) -> Result<Option<(Value, String)>, Failure> {
        match refused(self.client.get(&self.one(id))) {
            Ok(reply) => {
                let tag = reply.header("etag").expect("a document has an entity tag");
                let version = tag.trim_matches('"').to_owned();
                Ok(Some((reply.json(), version)))
            }
            Err(failure) if failure.code == "not_found" => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// A query cannot tell no id from an empty one, so nobody asks for none.
    fn get_many(self, with: &Arguments) -> Answer {
        let ids: Vec<&str> = with["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
        if ids.is_empty() {
            return Ok(json!([]));
        }
        Ok(answer(self.client.get(&format!("{}?ids={}", self.path(), escaped(&ids.join(",")))))?["items"].take())
    }

    /// One page as it comes: `items` without versions, and `next`.
    fn fetch(self, with: &Arguments, page_size: u64, after: Option<&str>) -> Answer {
        let mut query = format!("limit={page_size}");
        for (name, value) in with {
            let _ = match name.as_str() {
                "index" => write!(query, "&by={}", escaped(value.as_str().unwrap())),
                "equal" | "from" | "to" => write!(query, "&{name}={}", escaped(&value.to_string())),
                "reverse" if value == true => write!(query, "&direction=backward"),
                _ => Ok(()),
            };
        }
        if let Some(cursor) = after {
            let _ = write!(query, "&after={}", escaped(cursor));
        }
        answer(self.client.get(&format!("{}?{query}", self.path())))
    }

    fn page(self, with: &Arguments) -> Answer {
        let size = with.get("page_size").map_or(PAGE_SIZE, |size| size.as_u64().unwrap());
        let size = with.get("limit").map_or(size, |limit| limit.as_u64().unwrap().min(size));
        let mut page = self.fetch(with, size, with.get("after").map(|after| after.as_str().unwrap()))?;
        let items = page["items"].as_array().unwrap().iter().map(|document| {
            let (_, version) = self.entry(document["id"].as_str().unwrap())?.expect("it is on the page");
            Ok(json!({"value": document, "version": version}))
        });
        let items = items.collect::<Answer>()?;
        Ok(json!({"items": items, "cursor": page["next"].take()}))
    }

    fn list(self, with: &Arguments) -> Answer {
        let size = with.get("page_size").map_or(PAGE_SIZE, |size| size.as_u64().unwrap());
        let mut left = with.get("limit").map_or(u64::MAX, |limit| limit.as_u64().unwrap());
        let mut after = with.get("after").map(|after| after.as_str().unwrap().to_owned());
        let mut documents = Vec::new();
        while left > 0 {
            let mut page = self.fetch(with, size.min(left), after.as_deref())?;
            let items = page["items"].as_array_mut().unwrap();
            left -= items.len() as u64;
            documents.append(items);
            match page["next"].as_str() {
                Some(next) => after = Some(next.to_owned()),
                None => break,
            }
        }
        Ok(json!(documents))
    }

    /// The others wait until new indexes are built, and fail where one cannot be; HTTP tells both in what it describes.
    fn declare(self, with: &Arguments) -> Answer {
        let index = |index: &Value| if index.is_string() { json!({ "field": index }) } else { index.clone() };
        let mut promise = with.clone();
        if let Some(indexes) = promise.get_mut("indexes") {
            *indexes = indexes.as_array().unwrap().iter().map(index).collect();
        }
        let name_of = |index: &Value| index.get("name").unwrap_or(&index["field"]).clone();
        let indexes = promise.get("indexes").and_then(Value::as_array);
        let names: Vec<Value> = indexes.into_iter().flatten().map(name_of).collect();
        let mut info = answer(self.client.json("PUT", &self.definition(), &Value::Object(promise).to_string()))?;
        let started = Instant::now();
        while info["building"].as_array().unwrap().iter().any(|index| names.contains(index)) {
            assert!(started.elapsed() < BOUND, "an index is not built: {info}");
            info = answer(self.client.get(&self.definition()))?;
        }
        match info["failed"].as_array().unwrap().iter().find(|failed| names.contains(&failed["index"])) {
            Some(failed) => Err(failure(&failed["code"], &failed["detail"])),
            None => Ok(info),
        }
    }
}

fn batch(client: Client, with: &Arguments) -> Answer {
    let step = |step: &Value| {
        if step["call"] == "enqueue" {
            return json!({"op": "enqueue", "task": tasks::new_task(step.as_object().unwrap())});
        }
        let name = |name: &str| match name {
            "call" => "op".to_owned(),
            "patch" => "document".to_owned(),
            other => other.to_owned(),
        };
        step.as_object().unwrap().iter().map(|(own, value)| (name(own), value.clone())).collect()
    };
    let steps: Vec<_> = with["operations"].as_array().unwrap().iter().map(step).collect();
    let body = text_of(&json!({ "operations": steps }));
    let conditions = conditions(with);
    let mut headers: Vec<(&str, &str)> = conditions.iter().map(|(name, value)| (*name, value.as_str())).collect();
    headers.push(JSON);
    let mut given = answer(client.send("POST", "/v1/batch", &headers, body.as_bytes()))?;
    let result = |result: &mut Value| match (result.get("deleted"), result.get("task")) {
        (Some(deleted), _) => deleted.clone(),
        (None, Some(_)) => tasks::marked(result, "existing"),
        (None, None) => result["document"].take(),
    };
    Ok(given["results"].as_array_mut().unwrap().iter_mut().map(result).collect())
}

fn changes(client: Client, with: &Arguments) -> Answer {
    let query = match (with.get("after"), with.get("start")) {
        (Some(after), _) => format!("after={}", escaped(after.as_str().unwrap())),
        (None, Some(start)) => format!("from={}", start.as_str().unwrap()),
        (None, None) => String::new(),
    };
    let mut events = Events::try_open(client, &format!("/v1/changes?{query}"), &[]).map_err(|reply| problem(&reply))?;
    let take = with.get("take").map_or(0, |take| take.as_u64().unwrap());
    let mut change = || {
        let (event, mut data) = events.change();
        data["cursor"] = json!(event.id);
        data["kind"] = json!(event.kind);
        data
    };
    Ok((0..take).map(|_| change()).collect())
}

fn histogram(client: Client, with: &Arguments) -> Answer {
    let mut query = format!("min={}&max={}", with["range"][0], with["range"][1]);
    for (name, value) in with.iter().filter(|(name, _)| *name != "range") {
        let _ = write!(query, "&{name}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    answer(client.get(&format!("/v1/randoms?{query}"))).map(with_pair)
}

/// The headers of a write.
fn conditions(with: &Arguments) -> Vec<(&'static str, String)> {
    let mut headers = Vec::new();
    if let Some(version) = with.get("if_version") {
        headers.push(("if-match", format!("\"{}\"", version.as_str().unwrap())));
    }
    if let Some(key) = with.get("idempotency_key") {
        headers.push(("idempotency-key", key.as_str().unwrap().to_owned()));
    }
    headers
}

/// What was answered, or the problem that it is.
fn refused(reply: Reply) -> Result<Reply, Failure> {
    if reply.status < 400 { Ok(reply) } else { Err(problem(&reply)) }
}

fn answer(reply: Reply) -> Answer {
    refused(reply).map(|reply| reply.json())
}

fn problem(reply: &Reply) -> Failure {
    assert!(reply.status < 500, "a refusal is the caller's, not a defect: {reply:?}");
    if reply.status == 431 {
        return Failure { code: HEAD_TOO_LONG.to_owned(), text: "the head of the request is too long".to_owned() };
    }
    let problem = reply.json();
    reply.is_problem(reply.status, problem["code"].as_str().unwrap());
    failure(&problem["code"], &problem["detail"])
}

fn failure(code: &Value, text: &Value) -> Failure {
    Failure { code: code.as_str().unwrap().to_owned(), text: text.as_str().unwrap().to_owned() }
}

fn text<'a>(with: &'a Arguments, name: &str) -> &'a str {
    with[name].as_str().unwrap()
}

fn escaped(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// What a client of another language gets over HTTP must be what the library itself answers.
#[test]
fn every_scenario_over_http() {
    run_scenarios("http", &mut || Box::new(Http::start()));
}

#[test]
fn bad_input_is_refused_and_changes_nothing() {
    run_bad_input("http", &mut Http::start(), DIFFERS);
}
