//! What a task does: the kinds that a worker knows, by name.
//!
//! A kind runs at least once: it may be started again after a crash, so each built-in one either has no effect outside its
//! result or finds out what an earlier attempt has done.

mod checkpoint;
mod failure;
mod histogram;
mod parameters;
mod running;
mod samples;
mod transfer;
mod upload;
mod wait;

#[cfg(test)]
pub mod testing;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::kappa::Kappa;

pub use failure::{Failure, Outcome};

/// The longest name of a kind.
const MAX_NAME_BYTES: usize = 64;

/// What a running task sees of its surroundings.
pub trait Context: Sync {
    /// The task's id.
    fn id(&self) -> u64;
    /// Which run this is: counted from 1, and never twice.
    fn run_number(&self) -> u32;
    /// What the task was given.
    fn params(&self) -> &Value;
    /// Tells how much is done, from 0 to 1. Cheap: it is written at most once a second.
    fn progress(&self, done: f64);
    /// Whether the task should stop: it was cancelled, its time is up, or its worker stops.
    fn cancelled(&self) -> bool;
    /// Waits until the task should stop, at most `limit`; answers whether it should.
    fn wait_cancelled(&self, limit: Duration) -> bool;
    /// The database that the task belongs to.
    fn kappa(&self) -> &Kappa;

    /// What to hand to other systems, so that they can refuse a run that was replaced: a later run has the
    /// higher number behind the dash.
    fn fence(&self) -> String {
        format!("{}-{}", self.id(), self.run_number())
    }
}

/// One kind of task.
pub trait Kind: Send + Sync {
    /// Checks parameters before the task is stored, as far as that is possible without running it.
    ///
    /// # Errors
    /// `InvalidInput` or `TooLarge` naming what is wrong.
    fn check(&self, params: &Value) -> Result<()>;

    /// Runs one attempt on this thread, which may wait.
    ///
    /// # Errors
    /// A [`Failure`], which says whether another attempt makes sense.
    fn run(&self, context: &dyn Context) -> Outcome;
}

/// What the built-in kinds need.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where chance comes from.
    pub env: Env,
    /// How long `wait` waits where the task does not say.
    pub default_wait: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        Self { env: Env::default(), default_wait: Duration::from_secs(5) }
    }
}

/// The kinds of one worker. Cloning shares them.
#[derive(Clone, Default)]
pub struct Kinds(BTreeMap<String, Arc<dyn Kind>>);

impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Kinds {
    /// No kinds at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything that is always allowed: the samples, `wait`, `histogram` and `upload`.
    pub fn built_in(setup: &Setup) -> Self {
        let mut kinds = Self::new();
        kinds.put("wait", wait::Wait { default: setup.default_wait });
        kinds.put("histogram", histogram::DrawHistogram);
        kinds.put("upload", upload::Upload);
        samples::put_all(&mut kinds, &setup.env);
        kinds
    }

    /// Adds `import` and `export`, which read and write files below `directory` and nowhere else.
    ///
    /// # Errors
    /// `Unavailable` where the directory cannot be used; `AlreadyExists` where they are there already.
    pub fn allow_files(&mut self, directory: &Path) -> Result<()> {
        transfer::put_all(self, directory)
    }

    /// Adds a kind.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is not 1 to 64 of `a-z`, `0-9`, `_` and `-`; `AlreadyExists` for one that is taken.
    pub fn insert(&mut self, name: &str, kind: impl Kind + 'static) -> Result<()> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(allowed) {
            return Err(Error::invalid("the name of a kind is 1 to 64 of a-z, 0-9, _ and -").with("kind", name));
        }
        if self.0.contains_key(name) {
            return Err(Error::new(ErrorKind::AlreadyExists, "there is a kind of this name").with("kind", name));
        }
        self.put(name, kind);
        Ok(())
    }

    /// Whether there is a kind of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Checks the parameters of a task before it is stored.
    ///
    /// # Errors
    /// `InvalidInput` for a kind that is not known; what [`Kind::check`] answers.
    pub fn check(&self, name: &str, params: &Value) -> Result<()> {
        self.get(name)?.check(params).map_err(|error| error.with("kind", name))
    }

    /// Runs one attempt of a task.
    ///
    /// # Errors
    /// A [`Failure`] that is final for a kind that is not known; what [`Kind::run`] answers.
    pub fn run(&self, name: &str, context: &dyn Context) -> Outcome {
        // Not `InvalidInput`: another worker may well know it.
        let kind = self.get(name).map_err(|error| Failure::lasting("no_such_kind", error.to_string()))?;
        kind.run(context)
    }

    fn get(&self, name: &str) -> Result<&dyn Kind> {
        let found = self.0.get(name);
        found.map(|kind| &**kind).ok_or_else(|| Error::invalid("there is no such kind of task").with("kind", name))
    }

    fn put(&mut self, name: &str, kind: impl Kind + 'static) {
        self.0.insert(name.to_owned(), Arc::new(kind));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::testing::Stage;
    use super::*;

    /// A program of the configuration named as a built-in kind would quietly take its place, and a name with a slash
    /// would reach paths and addresses.
    #[test]
    fn names_are_plain_and_taken_once() {
        let mut kinds = Kinds::built_in(&Setup::default());
        let taken = kinds.insert("sum", wait::Wait { default: Duration::ZERO }).expect_err("there is one");
        assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
        for name in ["", "Sum", "a/b", "..", "a b", "\u{fc}", &"a".repeat(65)] {
            let error = kinds.insert(name, wait::Wait { default: Duration::ZERO }).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}");
        }
        kinds.insert("sum-2_b", wait::Wait { default: Duration::ZERO }).expect("it is free");
        assert!(kinds.contains("sum-2_b") && !kinds.contains("nothing"));
    }

    #[test]
    fn an_unknown_kind_is_refused_and_never_tried_again() {
        let kinds = Kinds::built_in(&Setup::default());
        let error = kinds.check("format_disk", &json!({})).expect_err("there is none");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let failure = kinds.run("format_disk", &Stage::new(json!({}))).expect_err("there is none");
        assert!(!failure.retry && failure.message.contains("format_disk"), "{failure:?}");
    }
}
