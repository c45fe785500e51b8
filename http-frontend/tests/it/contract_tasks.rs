//! The task queue of the scenarios over `/v1`; `begin` and `finish` are a worker that claims and reports by itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::scenario::{Arguments, text_of};
use super::{Answer, JSON, PAGE_SIZE, answer, conditions, escaped, refused, text};
use crate::client::{BOUND, Client};

/// The routes of the queue.
pub struct Queue<'a> {
    pub client: Client,
    pub claimed: &'a mut BTreeMap<String, Value>,
}

impl Queue<'_> {
    pub fn call(&mut self, method: &str, with: &Arguments) -> Answer {
        let id = || with["id"].as_u64().unwrap();
        let of_queue = |what: &str| format!("/v1/queues/{}{what}", escaped(text(with, "queue")));
        match method {
            "enqueue" => self.enqueue(with),
            "enqueue_many" => {
                let several = with["tasks"].as_array().unwrap().iter().map(|task| new_task(task.as_object().unwrap()));
                Ok(self.write("POST", "/v1/tasks/bulk", &json!({"tasks": several.collect::<Value>()}))?["items"].take())
            }
            "get" => match answer(self.client.get(&format!("/v1/tasks/{}", id()))) {
                Err(failure) if failure.code == "not_found" => Ok(Value::Null),
                other => other,
            },
            "wait" => answer(self.client.get(&format!("/v1/tasks/{}?wait_ms={}", id(), BOUND.as_millis()))),
            "page" => self.page(with, with.get("limit").map(|limit| limit.as_u64().unwrap()), None),
            "list" => self.list(with),
            "cancel" | "retry" => {
                let mut told = answer(self.client.send("POST", &format!("/v1/tasks/{}/{method}", id()), &[], b""))?;
                Ok(marked(&mut told, "changed"))
            }
            "remove" => self.delete(&format!("/v1/tasks/{}", id())),
            "redrive" => {
                let limit = with.get("limit").map_or(1_000, |limit| limit.as_u64().unwrap());
                let (mut redriven, mut after) = (0, String::new());
                loop {
                    let step = self.post(&of_queue(&format!("/redrive?limit={}{after}", limit - redriven)))?;
                    redriven += step["redriven"].as_u64().unwrap();
                    match step["next"].as_str() {
                        Some(next) if redriven < limit => after = format!("&after={next}"),
                        _ => return Ok(Value::from(redriven)),
                    }
                }
            }
            "queues" => Ok(answer(self.client.get("/v1/queues"))?["items"].take()),
            "queue" => answer(self.client.get(&of_queue(""))),
            "configure" => self.write("PUT", &of_queue(""), &with["settings"]),
            "pause" | "resume" => self.post(&of_queue(&format!("/{method}"))),
            "drain" => {
                while self.post(&of_queue("/drain"))?["done"] != true {}
                Ok(Value::Null)
            }
            "put_schedule" => {
                let mut schedule = with.clone();
                schedule.remove("name");
                let path = format!("/v1/schedules/{}", escaped(text(with, "name")));
                self.write("PUT", &path, &Value::Object(schedule))
            }
            "remove_schedule" => self.delete(&format!("/v1/schedules/{}", escaped(text(with, "name")))),
            "schedules" => Ok(answer(self.client.get("/v1/schedules"))?["items"].take()),
            "begin" => self.begin(text(with, "queue")),
            "finish" => self.finish(with),
            _ => panic!("this runner does not know tasks.{method}"),
        }
    }

    /// A status says whether the task was there before.
    fn enqueue(&self, with: &Arguments) -> Answer {
        let conditions = conditions(with);
        let mut headers: Vec<(&str, &str)> = conditions.iter().map(|(name, value)| (*name, value.as_str())).collect();
        headers.push(JSON);
        let body = text_of(&new_task(with));
        let reply = refused(self.client.send("POST", "/v1/tasks", &headers, body.as_bytes()))?;
        let mut task = reply.json();
        task["existing"] = json!(reply.status == 200);
        Ok(task)
    }

    fn page(&self, with: &Arguments, limit: Option<u64>, after: Option<&str>) -> Answer {
        let mut query = String::new();
        for name in ["queue", "state"] {
            if let Some(value) = with.get(name) {
                let _ = write!(query, "{name}={}&", escaped(value.as_str().unwrap()));
            }
        }
        if let Some(cursor) = after.or_else(|| with.get("after").map(|cursor| cursor.as_str().unwrap())) {
            let _ = write!(query, "after={}&", escaped(cursor));
        }
        if let Some(limit) = limit {
            let _ = write!(query, "limit={limit}");
        }
        let mut page = answer(self.client.get(&format!("/v1/tasks?{query}")))?;
        Ok(json!({"items": page["items"].take(), "cursor": page["next"].take()}))
    }

    fn list(&self, with: &Arguments) -> Answer {
        let number = |name: &str, otherwise| with.get(name).map_or(otherwise, |value| value.as_u64().unwrap());
        let (mut left, size) = (number("limit", u64::MAX), number("page_size", PAGE_SIZE));
        let (mut found, mut after) = (Vec::new(), None);
        while left > 0 {
            let mut page = self.page(with, Some(size.min(left)), after.as_deref())?;
            let items = page["items"].as_array_mut().unwrap();
            left -= items.len() as u64;
            found.append(items);
            match page["cursor"].as_str() {
                Some(cursor) => after = Some(cursor.to_owned()),
                None => break,
            }
        }
        Ok(Value::Array(found))
    }

    fn begin(&mut self, queue: &str) -> Answer {
        let wanted = json!({"queues": [queue], "wait_ms": BOUND.as_millis() as u64});
        let claimed = self.write("POST", "/v1/work/claim", &wanted)?["claimed"][0].take();
        let task = claimed["task"].clone();
        assert!(task.is_object(), "there is no task to begin");
        self.claimed.insert(queue.to_owned(), claimed);
        Ok(task)
    }

    fn finish(&mut self, with: &Arguments) -> Answer {
        let claimed = self.claimed.remove(text(with, "queue")).expect("a task was begun");
        let failed = |error: &Value, retry| json!({"failed": {"error": error, "retry": retry}});
        let outcome = match (with.get("result"), with.get("discard"), with.get("error")) {
            (Some(result), ..) => json!({"completed": {"result": result}}),
            (_, Some(reason), _) => failed(reason, false),
            (.., Some(error)) => failed(error, true),
            _ => json!("cancelled"),
        };
        let reports = json!({"reports": [{"lease": claimed["lease"], "outcome": outcome}]});
        let verdict = self.write("POST", "/v1/work/complete", &reports)?["verdicts"][0].take();
        assert!(verdict["accepted"].is_string(), "{verdict}");
        answer(self.client.get(&format!("/v1/tasks/{}", claimed["task"]["id"])))
    }

    fn post(&self, path: &str) -> Answer {
        answer(self.client.send("POST", path, &[], b""))
    }

    fn write(&self, method: &str, path: &str, body: &Value) -> Answer {
        answer(self.client.send(method, path, &[JSON], text_of(body).as_bytes()))
    }

    /// HTTP says "no such task" where the others say that there was none.
    fn delete(&self, path: &str) -> Answer {
        match refused(self.client.send("DELETE", path, &[], b"")) {
            Ok(_) => Ok(json!(true)),
            Err(failure) if failure.code == "not_found" => Ok(json!(false)),
            Err(failure) => Err(failure),
        }
    }
}

/// The task of a request.
pub fn new_task(with: &Arguments) -> Value {
    let others = ["call", "idempotency_key"];
    let rest = with.iter().filter(|(name, _)| !others.contains(&name.as_str()));
    Value::Object(rest.map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// A task with what stands beside it among its own fields, as the other languages have it.
pub fn marked(told: &mut Value, mark: &str) -> Value {
    let mut task = told["task"].take();
    task[mark] = told[mark].take();
    task
}
