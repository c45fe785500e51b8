//! What a writer does, step by step: the same for everyone who knows the seed.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value, json};

use crate::database::THINGS;

/// One write; a batch names each document once.
#[derive(Clone, Debug)]
pub enum Step {
    Create(Map<String, Value>),
    Replace(Map<String, Value>),
    Update(String, Map<String, Value>),
    Delete(String),
    Batch(Vec<Step>),
}

/// The endless steps of one writer over a few documents that nobody else writes.
#[derive(Debug)]
pub struct Plan {
    random: StdRng,
    writer: u64,
    /// Bytes of the longest filling; beyond 3 KiB the view splits values.
    filling: usize,
    made: u64,
    /// What the collection's rules ask of each document.
    kind: Kind,
}

/// The collections whose documents differ in what they must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Things,
    Products,
    Users,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Things, Self::Products, Self::Users];

    /// The name of the collection.
    pub fn collection(self) -> &'static str {
        match self {
            Self::Things => THINGS,
            Self::Products => "products",
            Self::Users => "users",
        }
    }
}

/// How many documents a writer has.
const DOCUMENTS: u64 = 16;

impl Plan {
    /// The steps of `writer` in the life number `life`.
    pub fn new(seed: u64, life: u64, writer: u64, filling: usize) -> Self {
        let random = StdRng::seed_from_u64(seed ^ (life << 20) ^ (writer << 56));
        Self { random, writer, filling, made: life << 32, kind: Kind::Things }
    }

    /// The same steps over documents of this kind.
    pub fn of(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    fn id(&mut self) -> String {
        format!("{}-{}", self.writer, self.random.random_range(0..DOCUMENTS))
    }

    fn value(&mut self) -> Value {
        match self.random.random_range(0..12) {
            0 => Value::Null,
            1 => json!(self.random.random_bool(0.5)),
            2 => json!("text"),
            3 => json!(format!("t{}", self.random.random_range(0..4))),
            _ => json!(self.random.random_range(-3..12)),
        }
    }

    /// Fields other than the id.
    fn fields(&mut self, map: &mut Map<String, Value>) {
        self.made += 1;
        map.insert("made".into(), json!(self.made));
        if self.random.random_bool(0.8) {
            let value = self.value();
            map.insert("n".into(), value);
        }
        if self.random.random_bool(0.5) {
            let number = self.random.random_range(0..DOCUMENTS);
            map.insert("u".into(), json!(format!("{}-{number:02}", self.writer)));
        }
        let longest = if self.random.random_bool(0.2) { self.filling } else { self.filling / 16 };
        let length = self.random.random_range(0..=longest);
        map.insert("filling".into(), json!("k".repeat(length)));
    }

    /// What the kind asks for.
    fn known_fields(&mut self, map: &mut Map<String, Value>) {
        let number: u32 = self.random.random_range(0..1_000);
        match self.kind {
            Kind::Things => {}
            Kind::Products => {
                map.insert("title".into(), json!(format!("Producto {number}")));
                map.insert("price".into(), json!(f64::from(number) / 4.0));
                if number.is_multiple_of(2) {
                    map.insert("thumbnail".into(), json!(format!("https://example.com/{number}.png")));
                }
            }
            Kind::Users => {
                map.insert("name".into(), json!(format!("Ana {number}")));
                map.insert("email".into(), json!(format!("ana{number}@example.com")));
                map.insert("group".into(), json!(number % 7));
            }
        }
    }

    fn document(&mut self, id: String) -> Map<String, Value> {
        let mut map = Map::from_iter([("id".to_owned(), Value::String(id))]);
        self.known_fields(&mut map);
        self.fields(&mut map);
        map
    }

    fn patch(&mut self) -> Map<String, Value> {
        let mut map = Map::new();
        if self.random.random_bool(0.7) {
            self.fields(&mut map);
        }
        if self.random.random_bool(0.2) {
            self.known_fields(&mut map);
        }
        for name in ["n", "u", "filling"] {
            if self.random.random_bool(0.1) {
                map.insert(name.into(), Value::Null);
            }
        }
        map
    }

    fn single(&mut self, id: String) -> Step {
        match self.random.random_range(0..10) {
            0..4 => Step::Create(self.document(id)),
            4..6 => Step::Replace(self.document(id)),
            6..8 => Step::Update(id, self.patch()),
            _ => Step::Delete(id),
        }
    }
}

impl Iterator for Plan {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.random.random_bool(0.85) {
            let id = self.id();
            return Some(self.single(id));
        }
        let mut ids: Vec<String> = (0..3).map(|_| self.id()).collect();
        ids.sort();
        ids.dedup();
        Some(Step::Batch(ids.into_iter().map(|id| self.single(id)).collect()))
    }
}
