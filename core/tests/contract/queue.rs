//! The task queue of the scenarios, through the handle; `begin` and `finish` are a worker with its handler.

use std::collections::BTreeMap;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};

use kappa_core::{
    CallOptions, Error, ErrorKind, Failure, Job, Json, Kappa, NewTask, QueueSettings, Result, Schedule, TaskAnswer,
    TaskId, TaskList, Worker, WorkerOptions,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::super::scenario::{Arguments, text_of};
use super::{PATIENCE, With, plain};

/// Redriven where a call does not say how many.
const REDRIVEN: usize = 1_000;

/// Tasks that handlers are in the middle of, by queue.
#[derive(Default)]
pub struct Begun(BTreeMap<String, (Worker, Sender<Arguments>, TaskId)>);

pub fn call(kappa: &Kappa, begun: &mut Begun, method: &str, with: With<'_>) -> Result<Value> {
    let tasks = kappa.tasks();
    let id = || with.0["id"].as_u64().unwrap();
    let changed = |(task, changed)| told(&TaskAnswer::Changed { task: Box::new(task), changed });
    match method {
        "enqueue" => {
            let new = new_task(with.0)?;
            let added = match with.maybe("idempotency_key") {
                None => tasks.enqueue(new).wait()?,
                key => {
                    tasks.enqueue_with(new, CallOptions { idempotency_key: key, ..CallOptions::default() }).wait()?
                }
            };
            Ok(told(&TaskAnswer::Enqueued(Box::new(added))))
        }
        "enqueue_many" => {
            let several = with.0["tasks"].as_array().unwrap().iter().map(|task| new_task(task.as_object().unwrap()));
            tasks.enqueue_many(several.collect::<Result<_>>()?).wait().map(plain)
        }
        "get" => tasks.get(id()).wait().map(plain),
        "wait" => match tasks.ended(id()).wait_for(PATIENCE) {
            Some(ended) => ended.map(plain),
            None => Err(Error::new(ErrorKind::Internal, "a task does not end")),
        },
        "page" => page(kappa, with, with.count("limit")),
        "list" => list(kappa, with),
        "cancel" => tasks.cancel(id()).wait().map(changed),
        "retry" => tasks.retry(id()).wait().map(changed),
        "remove" => tasks.remove(id()).wait().map(Value::from),
        "redrive" => tasks.redrive(with.text("queue"), with.count("limit").unwrap_or(REDRIVEN)).wait().map(Value::from),
        "queues" => tasks.queues().wait().map(plain),
        "queue" => tasks.queue(with.text("queue")).wait().map(plain),
        "configure" => {
            tasks.configure(with.text("queue"), read::<QueueSettings>(&with.0["settings"])).wait().map(plain)
        }
        "pause" => tasks.pause(with.text("queue")).wait().map(plain),
        "resume" => tasks.resume(with.text("queue")).wait().map(plain),
        "drain" => tasks.drain(with.text("queue")).wait().map(|()| Value::Null),
        "put_schedule" => tasks.put_schedule(schedule(with.0)?).wait().map(plain),
        "remove_schedule" => tasks.remove_schedule(with.text("name")).wait().map(Value::from),
        "schedules" => tasks.schedules().wait().map(plain),
        "begin" => begin(kappa, begun, with.text("queue")),
        "finish" => finish(kappa, begun, with),
        _ => panic!("this runner does not know tasks.{method}"),
    }
}

/// What bindings hand on of an answer.
pub fn told(answer: &TaskAnswer) -> Value {
    serde_json::from_str(&answer.to_json().unwrap()).unwrap()
}

/// The task that some arguments describe.
pub fn new_task(with: &Arguments) -> Result<NewTask> {
    let mut rest = with.clone();
    for other in ["call", "idempotency_key", "params"] {
        rest.remove(other);
    }
    let params = with.get("params").map_or(Ok(Json::null()), |params| Json::parse(text_of(params)))?;
    Ok(NewTask { params, ..read(&Value::Object(rest)) })
}

fn schedule(with: &Arguments) -> Result<Schedule> {
    let task = new_task(with["task"].as_object().unwrap())?;
    let rest: Map<_, _> =
        with.iter().filter(|(name, _)| *name != "task").map(|(n, v)| (n.clone(), v.clone())).collect();
    Ok(Schedule { task, ..read(&Value::Object(rest)) })
}

/// A value of the files as a type of the library; one that does not fit is for the tests of languages without types.
fn read<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_str(&text_of(value)).unwrap()
}

fn page(kappa: &Kappa, with: With<'_>, limit: Option<usize>) -> Result<Value> {
    let state = with.maybe("state").map(|state| state.parse()).transpose()?;
    let wanted = TaskList { queue: with.maybe("queue"), state, limit, after: with.maybe("after") };
    let page = kappa.tasks().list(wanted).wait()?;
    Ok(json!({"items": plain(page.tasks), "cursor": page.next}))
}

fn list(kappa: &Kappa, with: With<'_>) -> Result<Value> {
    let mut left = with.count("limit").unwrap_or(usize::MAX);
    let (mut found, mut rest) = (Vec::new(), with.0.clone());
    while left > 0 {
        let mut page = page(kappa, With(&rest), Some(left.min(with.count("page_size").unwrap_or(100))))?;
        let items = page["items"].as_array_mut().unwrap();
        left -= items.len();
        found.append(items);
        if page["cursor"].is_null() {
            break;
        }
        rest.insert("after".to_owned(), page["cursor"].take());
    }
    Ok(Value::Array(found))
}

/// Starts a worker whose handler waits for [`finish`].
fn begin(kappa: &Kappa, begun: &mut Begun, queue: &str) -> Result<Value> {
    let (tell, told) = channel();
    let (end, ending) = channel();
    let ending = Mutex::new(ending);
    let worker = Worker::start(kappa, WorkerOptions::new([queue]), move |job| {
        let _ = tell.send(job.task().id);
        let ending = ending.lock().unwrap_or_else(PoisonError::into_inner);
        perform(job, &ending.recv_timeout(PATIENCE)?)
    })?;
    let none = |_| Error::new(ErrorKind::Internal, "there is no task to begin");
    let id = told.recv_timeout(PATIENCE).map_err(none)?;
    begun.0.insert(queue.to_owned(), (worker, end, id));
    kappa.tasks().get(id).wait().map(plain)
}

fn perform(job: &Job, how: &Arguments) -> Result<Json, Failure> {
    if let Some(result) = how.get("result") {
        return Ok(Json::parse(text_of(result))?);
    }
    if let Some(reason) = how.get("discard") {
        return Err(Failure::final_because(reason.as_str().unwrap()));
    }
    if how.contains_key("cancelled") {
        let why = job.interrupted().wait_for(PATIENCE);
        return Err(Failure::from(format!("{why:?}")));
    }
    Err(Failure::from(how["error"].as_str().unwrap()))
}

fn finish(kappa: &Kappa, begun: &mut Begun, with: With<'_>) -> Result<Value> {
    let (worker, end, id) = begun.0.remove(with.text("queue")).expect("a task was begun");
    end.send(with.0.clone()).expect("the handler waits");
    assert_eq!(worker.stop(), 0, "the handler does not end");
    kappa.tasks().get(id).wait().map(plain)
}
