//! What every handler shares: the database, the limits, the draws, and the sign to stop.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use kappa_core::{Answer, CallOptions, CollectionInfo, CollectionName, Entry, Error, ErrorKind};
use kappa_core::{Kappa, ListRequest, Operation, Page, Result};
use tokio::sync::watch;

use crate::draws::Draws;
use crate::options::ServerOptions;

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
    pub fn new(kappa: Kappa, options: ServerOptions, address: SocketAddr, stop: watch::Receiver<bool>) -> Self {
        let draws = Draws::new(options.max_draws);
        Self(Arc::new(Parts { kappa, options, draws, address, stop }))
    }

    /// Runs one operation. Pages and other long reads go to a thread that may wait, because a read runs on the thread
    /// that asks for it.
    pub async fn call(&self, operation: Operation, options: CallOptions) -> Result<Answer> {
        let long = operation.is_read() && !matches!(operation, Operation::Get { .. });
        if !long {
            return self.kappa.call(operation, options).await;
        }
        let kappa = self.kappa.clone();
        self.blocking(move || kappa.call(operation, options).wait()).await
    }

    /// Runs `work` on a thread that may wait.
    pub async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        match tokio::task::spawn_blocking(work).await {
            Ok(answer) => answer,
            Err(error) => Err(Error::new(ErrorKind::Internal, "a call did not end well").caused_by(error)),
        }
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

    /// Whether only this machine reaches the server.
    pub fn is_local(&self) -> bool {
        self.address.ip().is_loopback()
    }

    /// Whether the stop was asked for.
    pub fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }
}

/// An answer of another operation than the one asked: a defect.
fn unexpected() -> Error {
    Error::new(ErrorKind::Internal, "the answer belongs to another operation")
}
