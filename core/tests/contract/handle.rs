//! The handle as a database of the scenarios: each call by the method of its name.

use std::any::Any;
use std::time::Duration;

use kappa_core::random::{HistogramRequest, Method, histogram};
use kappa_core::{
    Answer, Batch, Collection, Definition, Document, Entry, Error, ErrorKind, FeedStart, Kappa, List, Operation,
    Products, Result, Users, WriteOptions,
};
use serde_json::{Value, json};

#[path = "queue.rs"]
mod queue;

use super::scenario::{Arguments, Database, Failure, text_of, with_pair};

/// A change that does not come fails its test after this time.
const PATIENCE: Duration = Duration::from_secs(60);

/// The handle, and what must outlive it: a directory, a server.
pub struct Handle {
    kappa: Kappa,
    begun: queue::Begun,
    _place: Box<dyn Any>,
}

impl Handle {
    pub fn boxed(kappa: Kappa, place: impl Any) -> Box<dyn Database> {
        Box::new(Self { kappa, begun: queue::Begun::default(), _place: Box::new(place) })
    }
}

impl Database for Handle {
    fn call(&mut self, store: &str, method: &str, with: &Arguments) -> Result<Value, Failure> {
        let with = With(with);
        let answer = match store {
            "db" => on_database(&self.kappa, method, with),
            "tasks" => queue::call(&self.kappa, &mut self.begun, method, with),
            "random" => draw(with),
            "products" if method == "mock" => {
                let made = Products::mock(with.count("count").unwrap(), with.count("seed").unwrap() as u64);
                Ok(made.iter().map(value_of).collect())
            }
            "products" => on_products(&self.kappa.products(), method, with),
            "users" => on_users(&self.kappa.users(), method, with),
            name => self.kappa.collection(name).and_then(|collection| on_collection(&collection, method, with)),
        };
        answer.map_err(|error| Failure { code: error.kind().code().to_owned(), text: error.to_string() })
    }
}

/// The arguments of a call, as Rust wants them.
#[derive(Clone, Copy)]
struct With<'a>(&'a Arguments);

impl<'a> With<'a> {
    fn text(self, name: &str) -> &'a str {
        self.0[name].as_str().unwrap()
    }

    fn maybe(self, name: &str) -> Option<String> {
        self.0.get(name).map(|value| value.as_str().unwrap().to_owned())
    }

    fn count(self, name: &str) -> Option<usize> {
        self.0.get(name).map(|value| value.as_u64().unwrap() as usize)
    }

    fn document(self, name: &str) -> Result<Document> {
        Document::parse(text_of(&self.0[name]))
    }

    /// None where the call says nothing, so that also the methods without options are called.
    fn options(self) -> Result<Option<WriteOptions>> {
        let options = WriteOptions {
            id: None,
            ttl: self.count("ttl_ms").map(|ms| Duration::from_millis(ms as u64)),
            if_version: self.maybe("if_version").map(|text| text.parse()).transpose()?,
            idempotency_key: self.maybe("idempotency_key"),
        };
        Ok((options != WriteOptions::default()).then_some(options))
    }

    fn list(self, mut list: List) -> List {
        if let Some(index) = self.maybe("index") {
            list = list.by(&index);
        }
        for (name, value) in self.0 {
            list = match name.as_str() {
                "equal" => list.equal(value.clone()),
                "from" => list.from(value.clone()),
                "to" => list.to(value.clone()),
                "reverse" if value == true => list.backward(),
                "limit" => list.limit(value.as_u64().unwrap() as usize),
                "page_size" => list.page_size(value.as_u64().unwrap() as usize),
                "after" => list.after(value.as_str().unwrap()),
                _ => list,
            };
        }
        list
    }

    fn definition(self) -> Definition {
        let index = |index: &Value| if index.is_string() { json!({ "field": index }) } else { index.clone() };
        let mut fields = self.0.clone();
        if let Some(indexes) = fields.get_mut("indexes") {
            *indexes = indexes.as_array().unwrap().iter().map(index).collect();
        }
        serde_json::from_value(Value::Object(fields)).unwrap()
    }
}

/// The same calls on each type that has them, so that none of the three forgets one.
macro_rules! calls {
    ($name:ident, $store:ty) => {
        fn $name(store: &$store, method: &str, with: With<'_>) -> Result<Value> {
            let written = |entry: Entry| value_of(&entry.document);
            let document = || with.document("document");
            match method {
                "create" => match with.options()? {
                    None => store.create(document()?).wait().map(written),
                    Some(options) => store.create_with(document()?, options).wait().map(written),
                },
                "replace" => match with.options()? {
                    None => store.replace(with.text("id"), document()?).wait().map(written),
                    Some(options) => store.replace_with(with.text("id"), document()?, options).wait().map(written),
                },
                "update" => match with.options()? {
                    None => store.update(with.text("id"), with.document("patch")?).wait().map(written),
                    Some(options) => {
                        store.update_with(with.text("id"), with.document("patch")?, options).wait().map(written)
                    }
                },
                "delete" => match with.options()? {
                    None => store.delete(with.text("id")).wait().map(Value::from),
                    Some(options) => store.delete_with(with.text("id"), options).wait().map(Value::from),
                },
                "get" => Ok(store.get(with.text("id")).wait()?.map_or(Value::Null, |found| value_of(&found))),
                "entry" => Ok(store.entry(with.text("id")).wait()?.as_ref().map_or(Value::Null, entry)),
                "get_many" => {
                    let ids = with.0["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap());
                    let found = store.get_many(ids).wait()?;
                    Ok(found.into_iter().map(|found| found.map_or(Value::Null, written)).collect())
                }
                "count" => store.count().wait().map(Value::from),
                "list" => with.list(store.list()).iter().map(|found| found.map(written)).collect(),
                "page" => with.list(store.list()).page().wait().map(|page| {
                    json!({"items": page.entries.iter().map(entry).collect::<Value>(), "cursor": page.next})
                }),
                "declare" => store.declare(with.definition()).wait().map(plain),
                "drop_index" => store.drop_index(with.text("name")).wait().map(plain),
                "describe" => store.describe().wait().map(plain),
                _ => panic!("this runner does not know {method}"),
            }
        }
    };
}

calls!(on_products, Products);
calls!(on_users, Users);
calls!(on_collection, Collection);

fn on_database(kappa: &Kappa, method: &str, with: With<'_>) -> Result<Value> {
    match method {
        "collection" => kappa.collection(with.text("name")).map(|_| Value::Null),
        "collections" => kappa.collections().wait().map(plain),
        "batch" => batch(kappa, with),
        "changes" => changes(kappa, with),
        "info" => kappa.info().map(plain),
        "ready" => kappa.ready().map(|()| Value::Null),
        "check" => kappa.check().map(plain),
        "close" => kappa.close().map(|()| Value::Null),
        _ => panic!("this runner does not know db.{method}"),
    }
}

/// Steps without options through the methods named as they are, the others as operations.
fn batch(kappa: &Kappa, with: With<'_>) -> Result<Value> {
    let mut batch = kappa.batch();
    for step in with.0["operations"].as_array().unwrap() {
        let step = With(step.as_object().unwrap());
        if step.text("call") == "enqueue" {
            batch = batch.enqueue(queue::new_task(step.0)?);
            continue;
        }
        batch = match step.options()? {
            Some(options) => batch.operation(operation(step, &options)?),
            None => plain_step(batch, step)?,
        };
    }
    if let Some(key) = with.maybe("idempotency_key") {
        batch = batch.idempotency_key(key);
    }
    let answer = |answer| match answer {
        Answer::Written(entry) => value_of(&entry.document),
        Answer::Deleted(deleted) => json!(deleted),
        Answer::Task(answer) => queue::told(&answer),
        other => panic!("{other:?}"),
    };
    Ok(batch.commit().wait()?.into_iter().map(answer).collect())
}

fn plain_step(batch: Batch, step: With<'_>) -> Result<Batch> {
    let collection = step.text("collection");
    Ok(match step.text("call") {
        "create" => batch.create(collection, step.document("document")?),
        "replace" => batch.replace(collection, step.text("id"), step.document("document")?),
        "update" => batch.update(collection, step.text("id"), step.document("patch")?),
        "delete" => batch.delete(collection, step.text("id")),
        call => panic!("this runner does not know {call}"),
    })
}

fn operation(step: With<'_>, options: &WriteOptions) -> Result<Operation> {
    let collection = kappa_core::CollectionName::new(step.text("collection"))?;
    let (if_version, ttl_ms) = (options.if_version, options.ttl.map(|ttl| ttl.as_millis() as u64));
    let id = || step.text("id").to_owned();
    Ok(match step.text("call") {
        "create" => Operation::Create { collection, document: step.document("document")?, ttl_ms },
        "replace" => {
            Operation::Replace { collection, id: id(), document: step.document("document")?, if_version, ttl_ms }
        }
        "update" => Operation::Update { collection, id: id(), patch: step.document("patch")?, if_version, ttl_ms },
        "delete" => Operation::Delete { collection, id: id(), if_version },
        call => panic!("this runner does not know {call}"),
    })
}

fn changes(kappa: &Kappa, with: With<'_>) -> Result<Value> {
    let start = match (with.maybe("after"), with.maybe("start").as_deref()) {
        (Some(cursor), _) => FeedStart::After(cursor),
        (None, Some("oldest")) => FeedStart::Oldest,
        (None, _) => FeedStart::Now,
    };
    let mut feed = kappa.feed(start).wait()?;
    let next = |_| match feed.next_within(PATIENCE)? {
        Some(change) => Ok(plain(change)),
        None => Err(Error::new(ErrorKind::Internal, "a change does not come")),
    };
    (0..with.count("take").unwrap_or(0)).map(next).collect()
}

fn draw(with: With<'_>) -> Result<Value> {
    let number = |value: &Value| value.as_i64().unwrap();
    let range = number(&with.0["range"][0])..=number(&with.0["range"][1]);
    let (count, seed) = (with.count("count").unwrap() as u64, with.count("seed").unwrap() as u64);
    let method =
        if with.maybe("method").as_deref() == Some("multinomial") { Method::Multinomial } else { Method::Draw };
    histogram(&HistogramRequest::new().count(count).range(range).seed(seed).method(method))
        .map(|drawn| with_pair(plain(drawn)))
}

fn value_of(document: &Document) -> Value {
    Value::Object(document.fields().clone())
}

fn entry(entry: &Entry) -> Value {
    json!({"value": value_of(&entry.document), "version": entry.version})
}

fn plain(value: impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap()
}
