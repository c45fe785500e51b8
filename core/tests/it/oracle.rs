//! What must be in a database after the steps that were answered: a map, in the plainest code there is.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::plan::Step;

/// How a step must be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Written,
    Deleted,
    NothingToDelete,
    Batch,
    NotFound,
    AlreadyExists,
}

/// One change, as the feed must tell it: what happened, to which document, and its new text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub kind: &'static str,
    pub id: String,
    pub text: Option<String>,
}

/// The documents of one writer.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    pub documents: BTreeMap<String, Map<String, Value>>,
    /// In order of creation.
    pub order: Vec<String>,
    /// Since somebody last took them.
    pub told: Vec<Told>,
}

impl Oracle {
    /// Does what the database must do.
    pub fn apply(&mut self, step: &Step) -> Outcome {
        match step {
            Step::Create(map) => {
                let id = id_of(map);
                if self.documents.contains_key(&id) || self.is_taken(&id, map) {
                    return Outcome::AlreadyExists;
                }
                self.order.push(id.clone());
                self.put("created", id, map.clone())
            }
            Step::Replace(map) => {
                let id = id_of(map);
                if !self.documents.contains_key(&id) {
                    return Outcome::NotFound;
                }
                if self.is_taken(&id, map) {
                    return Outcome::AlreadyExists;
                }
                self.put("updated", id, map.clone())
            }
            Step::Update(id, patch) => {
                let Some(mut map) = self.documents.get(id).cloned() else { return Outcome::NotFound };
                for (name, value) in patch {
                    if value.is_null() {
                        map.shift_remove(name);
                    } else {
                        map.insert(name.clone(), value.clone());
                    }
                }
                if self.is_taken(id, &map) {
                    return Outcome::AlreadyExists;
                }
                self.put("updated", id.clone(), map)
            }
            Step::Delete(id) => {
                if self.documents.remove(id).is_none() {
                    return Outcome::NothingToDelete;
                }
                self.order.retain(|other| other != id);
                self.told.push(Told { kind: "deleted", id: id.clone(), text: None });
                Outcome::Deleted
            }
            Step::Batch(steps) => self.apply_all(steps),
        }
    }

    /// All of it or nothing.
    fn apply_all(&mut self, steps: &[Step]) -> Outcome {
        let mut after = self.clone();
        for step in steps {
            let outcome = after.apply(step);
            if matches!(outcome, Outcome::NotFound | Outcome::AlreadyExists) {
                return outcome;
            }
        }
        *self = after;
        Outcome::Batch
    }

    fn put(&mut self, kind: &'static str, id: String, map: Map<String, Value>) -> Outcome {
        self.told.push(Told { kind, id: id.clone(), text: Some(text(&map)) });
        self.documents.insert(id, map);
        Outcome::Written
    }

    fn is_taken(&self, id: &str, map: &Map<String, Value>) -> bool {
        let Some(value) = map.get("u") else { return false };
        self.documents.iter().any(|(other, fields)| other != id && fields.get("u") == Some(value))
    }

    /// Identifiers and texts in order of creation.
    pub fn created(&self) -> Vec<(String, String)> {
        self.order.iter().map(|id| (id.clone(), text(&self.documents[id]))).collect()
    }
}

fn id_of(map: &Map<String, Value>) -> String {
    map["id"].as_str().unwrap().to_owned()
}

/// The JSON text of a document.
pub fn text(map: &Map<String, Value>) -> String {
    serde_json::to_string(map).unwrap()
}

/// The identifiers that an index by `field` must list, given all documents in order of creation.
pub fn indexed<'a>(documents: impl IntoIterator<Item = &'a Map<String, Value>>, field: &str) -> Vec<String> {
    let mut found: Vec<(&Value, String)> =
        documents.into_iter().filter_map(|map| Some((map.get(field)?, id_of(map)))).collect();
    found.sort_by(|(a, _), (b, _)| compare(a, b));
    found.into_iter().map(|(_, id)| id).collect()
}

/// null < false < true < numbers < text.
pub fn compare(a: &Value, b: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Null => 0,
        Value::Bool(false) => 1,
        Value::Bool(true) => 2,
        Value::Number(_) => 3,
        _ => 4,
    };
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()).unwrap(),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        _ => rank(a).cmp(&rank(b)),
    }
}
