//! What every handler shares: the database, the limits, the draws, and the sign to stop.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use kappa_core::kinds::Kinds;
use kappa_core::{Answer, CallOptions, CollectionInfo, CollectionName, Entry, Error, ErrorKind};
use kappa_core::{Enqueued, Kappa, ListRequest, NewTask, Operation, Page, Result};
use kappa_core::{Task, TaskAnswer, TaskId, TaskOperation};
use serde_json::Value;
use tokio::sync::watch;

use crate::draws::Draws;
use crate::options::ServerOptions;
use crate::workers::{EXECUTE, QUEUE};

/// Shared by all requests; cloning is cheap.
#[derive(Clone, Debug)]
pub struct App(Arc<Parts>);

/// What [`App`] gives access to.
#[derive(Debug)]
pub struct Parts {
    /// The database.
    pub kappa: Kappa,
    /// The limits.
    pub options: ServerOptions,
    /// What the server's own tasks can be.
    pub kinds: Kinds,
    /// Who may draw random numbers now.
    pub draws: Draws,
    /// Where the server listens.
    pub address: SocketAddr,
    /// Turns true when the server stops.
    pub stop: watch::Receiver<bool>,
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl App {
    /// Joins the parts.
    pub fn new(
        kappa: Kappa,
        options: ServerOptions,
        kinds: Kinds,
        address: SocketAddr,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let draws = Draws::new(options.max_draws);
        Self(Arc::new(Parts { kappa, options, kinds, draws, address, stop }))
    }

    /// Runs one operation. Pages and other long reads go to a thread that may wait, because a read runs on the thread
    /// that asks for it.
    pub async fn call(&self, operation: Operation, options: CallOptions) -> Result<Answer> {
        let short = matches!(
            operation,
            Operation::Get { .. } | Operation::Task(TaskOperation::Get(_) | TaskOperation::Ready { .. })
        );
        let long = operation.is_read() && !short;
        if !long {
            return self.kappa.call(operation, options).await;
        }
        let kappa = self.kappa.clone();
        self.blocking(move || kappa.call(operation, options).wait()).await
    }

    /// Runs `work` on a thread that may wait.
    pub async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        blocking(work).await
    }

    /// The answer of an operation that writes a document.
    pub async fn write(&self, operation: Operation, options: CallOptions) -> Result<Entry> {
        match self.call(operation, options).await? {
            Answer::Written(entry) => Ok(entry),
            _ => Err(unexpected()),
        }
    }

    /// Whether there was a document to delete.
    pub async fn delete(&self, operation: Operation, options: CallOptions) -> Result<bool> {
        match self.call(operation, options).await? {
            Answer::Deleted(existed) => Ok(existed),
            _ => Err(unexpected()),
        }
    }

    /// One document.
    pub async fn get(&self, collection: CollectionName, id: String) -> Result<Option<Entry>> {
        match self.call(Operation::Get { collection, id }, CallOptions::default()).await? {
            Answer::Entry(entry) => Ok(entry),
            _ => Err(unexpected()),
        }
    }

    /// Some documents, in the order asked.
    pub async fn get_many(&self, collection: CollectionName, ids: Vec<String>) -> Result<Vec<Option<Entry>>> {
        match self.call(Operation::GetMany { collection, ids }, CallOptions::default()).await? {
            Answer::Entries(entries) => Ok(entries),
            _ => Err(unexpected()),
        }
    }

    /// How many documents there are.
    pub async fn count(&self, collection: CollectionName) -> Result<u64> {
        match self.call(Operation::Count { collection }, CallOptions::default()).await? {
            Answer::Count(count) => Ok(count),
            _ => Err(unexpected()),
        }
    }

    /// One page of a list.
    pub async fn list(&self, request: ListRequest) -> Result<Page> {
        match self.call(Operation::List(request), CallOptions::default()).await? {
            Answer::Page(page) => Ok(page),
            _ => Err(unexpected()),
        }
    }

    /// The answer of an operation about a collection itself.
    pub async fn collection(&self, operation: Operation) -> Result<CollectionInfo> {
        match self.call(operation, CallOptions::default()).await? {
            Answer::Collection(info) => Ok(info),
            _ => Err(unexpected()),
        }
    }

    /// Every collection.
    pub async fn collections(&self) -> Result<Vec<CollectionInfo>> {
        match self.call(Operation::Collections, CallOptions::default()).await? {
            Answer::Collections(collections) => Ok(collections),
            _ => Err(unexpected()),
        }
    }

    /// The answers of operations that happen together.
    pub async fn batch(&self, operations: Vec<Operation>, options: CallOptions) -> Result<Vec<Answer>> {
        match self.call(Operation::Batch(operations), options).await? {
            Answer::Batch(answers) => Ok(answers),
            _ => Err(unexpected()),
        }
    }

    /// The answer of a call of the queue.
    pub async fn task_call(&self, operation: TaskOperation, options: CallOptions) -> Result<TaskAnswer> {
        match self.call(Operation::Task(operation), options).await? {
            Answer::Task(answer) => Ok(answer),
            _ => Err(unexpected()),
        }
    }

    /// Adds a task.
    pub async fn enqueue(&self, new: NewTask, options: CallOptions) -> Result<Enqueued> {
        match self.task_call(TaskOperation::Enqueue(Box::new(new)), options).await? {
            TaskAnswer::Enqueued(added) => Ok(*added),
            _ => Err(unexpected()),
        }
    }

    /// One task.
    pub async fn task(&self, id: TaskId) -> Result<Option<Task>> {
        match self.task_call(TaskOperation::Get(id), CallOptions::default()).await? {
            TaskAnswer::Task(task) => Ok(task.map(|task| *task)),
            _ => Err(unexpected()),
        }
    }

    /// Refuses a task of the server's own queues that its workers could only fail.
    ///
    /// # Errors
    /// `InvalidInput` for a kind that is not known and for parameters that it does not take.
    pub fn check_task(&self, new: &NewTask) -> Result<()> {
        if new.queue != QUEUE && new.queue != EXECUTE {
            return Ok(());
        }
        let params: Value = new.params.to()?;
        self.kinds.check(new.kind.as_deref().unwrap_or(&new.queue), &params)
    }

    /// Whether only this machine reaches the server.
    pub fn is_local(&self) -> bool {
        self.address.ip().is_loopback()
    }

    /// Whether the stop was asked for.
    pub fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }
}

/// Runs `work` on a thread that may wait.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(error) => Err(Error::new(ErrorKind::Internal, "a call did not end well").caused_by(error)),
    }
}

/// An answer of another operation than the one asked: a defect.
fn unexpected() -> Error {
    Error::new(ErrorKind::Internal, "the answer belongs to another operation")
}
