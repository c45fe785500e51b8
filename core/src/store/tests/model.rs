//! Thousands of random operations against a plain map that says what must come out.

use std::cmp::Ordering;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const THINGS: &str = "things";

#[derive(Clone, Debug)]
struct Thing {
    fields: Map<String, Value>,
    created: u64,
    expires: Option<i64>,
    version: Version,
}

/// What the documents are, without keys, pages or versions of the engine.
#[derive(Default)]
struct Model {
    things: BTreeMap<String, Thing>,
    clock: u64,
}

impl Model {
    fn living(&self, now: i64) -> Vec<(&String, &Thing)> {
        let mut living: Vec<_> =
            self.things.iter().filter(|(_, thing)| thing.expires.is_none_or(|end| end > now)).collect();
        living.sort_by_key(|(_, thing)| thing.created);
        living
    }

    fn is_living(&self, id: &str, now: i64) -> bool {
        self.things.get(id).is_some_and(|thing| thing.expires.is_none_or(|end| end > now))
    }

    /// Ids of living documents with `field` between two bounds, in the order of an index.
    fn by(&self, field: &str, from: Option<&Value>, to: Option<&Value>, now: i64) -> Vec<String> {
        let mut found: Vec<_> = self
            .living(now)
            .into_iter()
            .filter_map(|(id, thing)| Some((thing.fields.get(field)?, thing.created, id)))
            .filter(|(value, ..)| from.is_none_or(|from| compare(from, value).is_le()))
            .filter(|(value, ..)| to.is_none_or(|to| compare(value, to).is_le()))
            .collect();
        found.sort_by(|left, right| compare(left.0, right.0).then(left.1.cmp(&right.1)));
        found.into_iter().map(|(_, _, id)| id.clone()).collect()
    }

    /// Who else holds this unique value; an expired holder is removed, as the rule says.
    fn take_code(&mut self, id: &str, fields: &Map<String, Value>, now: i64) -> bool {
        let Some(code) = fields.get("code") else { return true };
        let holders =
            self.things.iter().filter(|(other, thing)| *other != id && thing.fields.get("code") == Some(code));
        let holders: Vec<String> = holders.map(|(other, _)| other.clone()).collect();
        if holders.iter().any(|other| self.is_living(other, now)) {
            return false;
        }
        for holder in &holders {
            self.things.remove(holder);
        }
        true
    }
}

fn compare(left: &Value, right: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        _ => 3,
    };
    match (left, right) {
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::Number(left), Value::Number(right)) => left.as_f64().partial_cmp(&right.as_f64()).unwrap(),
        (Value::String(left), Value::String(right)) => left.cmp(right),
        _ => rank(left).cmp(&rank(right)),
    }
}

struct Play {
    partition: Partition,
    model: Model,
    rng: StdRng,
}

impl Play {
    fn new(seed: u64) -> Self {
        println!("seed={seed}");
        let mut partition = Partition::new();
        partition.call(&declare(THINGS, &[("code", true), ("n", false)])).unwrap();
        Self { partition, model: Model::default(), rng: StdRng::seed_from_u64(seed) }
    }

    fn now(&self) -> i64 {
        self.partition.moment.ms
    }

    fn id(&mut self) -> String {
        format!("id{}", self.rng.random_range(0..12))
    }

    fn value(&mut self) -> Value {
        match self.rng.random_range(0..8) {
            0 => Value::Null,
            1 => Value::Bool(self.rng.random()),
            2 => Value::from(["", "a", "b\0", "b"][self.rng.random_range(0..4)]),
            3 => serde_json::from_str(["1.0", "10e-1", "-2.50", "0.1e1"][self.rng.random_range(0..4)]).unwrap(),
            _ => Value::from(self.rng.random_range(-3..4)),
        }
    }

    fn fields(&mut self, patch: bool) -> Map<String, Value> {
        let mut fields = Map::new();
        if self.rng.random_ratio(2, 3) {
            // A patch with null removes the field, so a stored null comes by create and replace only.
            fields.insert("n".to_owned(), self.value());
        }
        if self.rng.random_ratio(1, 2) {
            fields.insert("code".to_owned(), Value::from(self.rng.random_range(0..8)));
        }
        if patch && self.rng.random_ratio(1, 4) {
            fields.insert("code".to_owned(), Value::Null);
        }
        fields.insert("extra".to_owned(), Value::from(self.rng.random_range(0..1_000)));
        fields
    }

    fn ttl(&mut self) -> Option<u64> {
        self.rng.random_ratio(1, 3).then(|| self.rng.random_range(1..200))
    }

    fn end(&self, ttl_ms: Option<u64>) -> Option<i64> {
        ttl_ms.map(|ttl_ms| self.now() + i64::try_from(ttl_ms).unwrap())
    }

    fn step(&mut self) {
        match self.rng.random_range(0..13) {
            0..4 => self.create(),
            4 | 5 => self.replace(),
            6 | 7 => self.update(),
            8 => self.delete(),
            9 => {
                let ms = self.rng.random_range(0..60);
                self.partition.wait(ms);
            }
            10 => self.reindex(),
            11 => {
                self.partition.sweep();
                let now = self.now();
                self.model.things.retain(|_, thing| thing.expires.is_none_or(|end| end > now));
            }
            _ => self.list(),
        }
        self.partition.check();
        let (id, now) = (self.id(), self.now());
        let got = self.partition.got(THINGS, &id);
        let expected = self.model.things.get(&id).filter(|_| self.model.is_living(&id, now));
        assert_eq!(got.as_ref().map(|entry| entry.version), expected.map(|thing| thing.version));
        assert_eq!(got.as_ref().map(|entry| entry.document.fields()), expected.map(|thing| &thing.fields));
        assert_eq!(self.partition.counted(THINGS), self.model.things.len() as u64);
    }

    /// Runs a write that sets `fields`, and keeps model and partition together.
    fn write(&mut self, operation: &Operation, id: String, fields: Map<String, Value>, expires: Option<i64>) {
        let now = self.now();
        let before = self.model.things.clone();
        if !self.model.take_code(&id, &fields, now) {
            assert_eq!(self.partition.refused(operation), ErrorKind::AlreadyExists);
            self.model.things = before;
            return;
        }
        let entry = self.partition.written(operation);
        let created = match before.get(&id) {
            Some(old) if old.expires.is_none_or(|end| end > now) => old.created,
            _ => {
                self.model.clock += 1;
                self.model.clock
            }
        };
        self.model.things.insert(id, Thing { fields, created, expires, version: entry.version });
    }

    fn create(&mut self) {
        let (id, ttl_ms, mut fields) = (self.id(), self.ttl(), self.fields(false));
        fields.shift_insert(0, "id".to_owned(), id.clone().into());
        let document = Document::from_fields(&fields).unwrap();
        let operation = Operation::Create { collection: name(THINGS), document, ttl_ms };
        if self.model.is_living(&id, self.now()) {
            assert_eq!(self.partition.refused(&operation), ErrorKind::AlreadyExists);
            return;
        }
        self.write(&operation, id, fields, self.end(ttl_ms));
    }

    fn replace(&mut self) {
        let (id, ttl_ms, mut fields) = (self.id(), self.ttl(), self.fields(false));
        let document = Document::from_fields(&fields).unwrap();
        let if_version = self.some_version(&id);
        let (collection, wanted) = (name(THINGS), id.clone());
        let operation = Operation::Replace { collection, id: wanted, document, if_version, ttl_ms };
        if !self.may_write(&operation, &id, if_version) {
            return;
        }
        fields.shift_insert(0, "id".to_owned(), id.clone().into());
        self.write(&operation, id, fields, self.end(ttl_ms));
    }

    fn update(&mut self) {
        let (id, ttl_ms, patch) = (self.id(), self.ttl(), self.fields(true));
        let document = Document::from_fields(&patch).unwrap();
        let if_version = self.some_version(&id);
        let (collection, wanted) = (name(THINGS), id.clone());
        let operation = Operation::Update { collection, id: wanted, patch: document, if_version, ttl_ms };
        if !self.may_write(&operation, &id, if_version) {
            return;
        }
        let old = &self.model.things[&id];
        let (mut fields, mut expires) = (old.fields.clone(), old.expires);
        for (name, value) in patch {
            if value.is_null() {
                fields.shift_remove(&name);
            } else {
                fields.insert(name, value);
            }
        }
        if ttl_ms.is_some() {
            expires = self.end(ttl_ms);
        }
        self.write(&operation, id, fields, expires);
    }

    fn delete(&mut self) {
        let id = self.id();
        let if_version = self.some_version(&id);
        let operation = Operation::Delete { collection: name(THINGS), id: id.clone(), if_version };
        if !self.model.is_living(&id, self.now()) {
            assert_eq!(self.partition.call(&operation).unwrap(), Answer::Deleted(false));
        } else if self.may_write(&operation, &id, if_version) {
            assert_eq!(self.partition.call(&operation).unwrap(), Answer::Deleted(true));
            self.model.things.remove(&id);
        }
    }

    /// Now and then a version: the right one, or one that was.
    fn some_version(&mut self, id: &str) -> Option<Version> {
        let now = self.model.things.get(id).map_or(Version(1), |thing| thing.version);
        match self.rng.random_range(0..6) {
            0 => Some(now),
            1 => Some(Version(now.0 - 1)),
            _ => None,
        }
    }

    fn may_write(&mut self, operation: &Operation, id: &str, if_version: Option<Version>) -> bool {
        let kind = if !self.model.is_living(id, self.now()) {
            ErrorKind::NotFound
        } else if if_version.is_some_and(|version| version != self.model.things[id].version) {
            ErrorKind::VersionMismatch
        } else {
            return true;
        };
        assert_eq!(self.partition.refused(operation), kind);
        false
    }

    /// Drops the index by `n`, declares it, or goes on building it.
    fn reindex(&mut self) {
        let catalog = self.partition.catalog(THINGS).unwrap();
        match catalog.index("n").map(|index| index.state) {
            Err(_) => drop(self.partition.call(&declare(THINGS, &[("n", false)])).unwrap()),
            Ok(IndexState::Building) if self.rng.random_ratio(2, 3) => {
                let now = self.now();
                self.partition.more(&build_index(THINGS, "n"));
                // A build removes the expired documents that it meets.
                self.partition.sweep();
                self.model.things.retain(|_, thing| thing.expires.is_none_or(|end| end > now));
            }
            Ok(_) => {
                let drop_index = Operation::DropIndex { collection: name(THINGS), index: "n".to_owned() };
                drop(self.partition.call(&drop_index).unwrap());
            }
        }
    }

    fn list(&mut self) {
        let now = self.now();
        let limit = self.rng.random_range(1..6);
        let (request, mut expected) = match self.rng.random_range(0..3) {
            0 => {
                let living = self.model.living(now).into_iter().map(|(id, _)| id.clone()).collect();
                (list(THINGS, limit), living)
            }
            1 => (by_index(THINGS, "code", limit), self.model.by("code", None, None, now)),
            _ => {
                let from = self.rng.random_bool(0.5).then(|| self.value());
                let to = self.rng.random_bool(0.5).then(|| self.value());
                let expected = self.model.by("n", from.as_ref(), to.as_ref(), now);
                let order = Order::Index { index: "n".to_owned(), from, to };
                (ListRequest { order, ..list(THINGS, limit) }, expected)
            }
        };
        let ready = self.partition.catalog(THINGS).unwrap().index("n").is_ok_and(|n| n.state == IndexState::Ready);
        if matches!(&request.order, Order::Index { index, .. } if index == "n") && !ready {
            self.partition.refused(&Operation::List(request));
            return;
        }
        assert_eq!(self.partition.ids(request.clone()), expected);
        expected.reverse();
        let backward = ListRequest { direction: Direction::Backward, ..request };
        assert_eq!(self.partition.ids(backward), expected);
    }
}

/// An entry that stays behind, a count that drifts or a page that skips shows only after the right
/// sequence of writes, which nobody writes down by hand.
#[test]
fn random_operations_agree_with_a_plain_map() {
    for seed in 0..12 {
        let mut play = Play::new(seed);
        for _ in 0..700 {
            play.step();
        }
        let all: Vec<_> = play.model.things.keys().cloned().collect();
        for id in all {
            play.partition.call(&delete(THINGS, &id)).unwrap();
        }
        play.partition.wait(1_000);
        play.partition.sweep();
        play.partition.check();
        let left = play.partition.keys.keys().filter(|key| (0x10..=0x14).contains(&key[0])).count();
        assert_eq!(left, 0, "seed={seed} keys={left}");
    }
}

/// A unique index that is built while values move between documents must end up with the right holders.
#[test]
fn unique_builds_among_random_writes_end_right() {
    let (mut built, mut failed) = (0, 0);
    for seed in 100..140 {
        println!("seed={seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        let mut partition = Partition::new();
        let spread = if rng.random_bool(0.5) { 4_000 } else { 400_000 };
        let mut text = |id: u32| format!(r#"{{"id":"{id}","code":{}}}"#, rng.random_range(0..spread));
        let creates: Vec<_> = (0..700).map(|id| create(THINGS, &text(id))).collect();
        partition.call(&Operation::Batch(creates)).unwrap();
        partition.call(&declare(THINGS, &[("code", true)])).unwrap();
        let ended = loop {
            for _ in 0..40 {
                let (id, code) = (rng.random_range(0..800), rng.random_range(0..spread));
                let text = format!(r#"{{"id":"{id}","code":{code}}}"#);
                let operation = match rng.random_range(0..3) {
                    0 => create(THINGS, &text),
                    1 => update(THINGS, &id.to_string(), &text),
                    _ => delete(THINGS, &id.to_string()),
                };
                drop(partition.call(&operation));
            }
            match partition.call(&build_index(THINGS, "code")) {
                Ok(Answer::More(true)) => partition.check(),
                ended => break ended,
            }
        };
        match ended {
            Ok(_) => built += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::AlreadyExists);
                failed += 1;
            }
        }
        partition.sweep();
        partition.check();
    }
    assert!(built > 3 && failed > 3, "built={built} failed={failed}");
}
