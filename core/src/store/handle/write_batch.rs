//! Writes being gathered to happen together.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::executor::{CallOptions, Executor, Pending};
use crate::operation::{Answer, CollectionName, Operation};
use crate::store::document::IntoDocument;
use crate::task::model::NewTask;
use crate::task::operation::TaskOperation;

use super::unexpected;

/// At most 1 000 operations over any collections, all of which happen or none.
#[derive(Debug)]
#[must_use = "nothing happens before `commit`"]
pub struct Batch {
    executor: Arc<dyn Executor>,
    operations: Vec<Operation>,
    idempotency_key: Option<String>,
    failed: Option<Error>,
}

impl Batch {
    pub(crate) fn new(executor: Arc<dyn Executor>) -> Self {
        Self { executor, operations: Vec::new(), idempotency_key: None, failed: None }
    }

    /// Adds a document.
    pub fn create(self, collection: &str, document: impl IntoDocument) -> Self {
        self.push(collection, |collection| {
            Ok(Operation::Create { collection, document: document.into_document()?, ttl_ms: None })
        })
    }

    /// Sets all fields of a document.
    pub fn replace(self, collection: &str, id: &str, document: impl IntoDocument) -> Self {
        self.push(collection, |collection| {
            let (id, document) = (id.to_owned(), document.into_document()?);
            Ok(Operation::Replace { collection, id, document, if_version: None, ttl_ms: None })
        })
    }

    /// Sets the fields that `patch` names.
    pub fn update(self, collection: &str, id: &str, patch: impl IntoDocument) -> Self {
        self.push(collection, |collection| {
            let (id, patch) = (id.to_owned(), patch.into_document()?);
            Ok(Operation::Update { collection, id, patch, if_version: None, ttl_ms: None })
        })
    }

    /// Removes a document.
    pub fn delete(self, collection: &str, id: &str) -> Self {
        self.push(collection, |collection| Ok(Operation::Delete { collection, id: id.to_owned(), if_version: None }))
    }

    /// Adds a task, which is there if the documents beside it are, and not otherwise.
    pub fn enqueue(self, task: NewTask) -> Self {
        self.operation(Operation::Task(TaskOperation::Enqueue(Box::new(task))))
    }

    /// Any other operation, or one with options.
    pub fn operation(mut self, operation: Operation) -> Self {
        self.operations.push(operation);
        self
    }

    /// Makes the batch safe to repeat for 24 h, see [`CallOptions::idempotency_key`].
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Runs all of it; one answer an operation.
    ///
    /// # Errors
    /// That of the first operation that failed, with its position from 0 as `operation`.
    pub fn commit(self) -> Pending<Vec<Answer>> {
        if let Some(error) = self.failed {
            return Pending::ready(Err(error));
        }
        let options = CallOptions { idempotency_key: self.idempotency_key, ..CallOptions::default() };
        self.executor.submit(Operation::Batch(self.operations), options).map(|answer| match answer {
            Answer::Batch(answers) => Ok(answers),
            other => Err(unexpected(&other)),
        })
    }

    fn push(mut self, collection: &str, operation: impl FnOnce(CollectionName) -> Result<Operation>) -> Self {
        match CollectionName::new(collection).and_then(operation) {
            Ok(operation) => self.operations.push(operation),
            Err(error) => {
                let error = error.with("operation", self.operations.len());
                self.failed.get_or_insert(error);
            }
        }
        self
    }
}
