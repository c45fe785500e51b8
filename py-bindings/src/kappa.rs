//! One open database.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use kappa_core::env::Env;
use kappa_core::{Claims, Error, FeedStart, Kappa, Options, Pending, Result};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arguments::{Maybe, maybe_text, text};
use crate::batch::Batch;
use crate::call::Call;
use crate::document::Reader;
use crate::error::{exception, refused};
use crate::feed::Feed;
use crate::guard::guard;
use crate::options::options;
use crate::origin::Origin;
use crate::owned::Owned;
use crate::reply::IntoReply;
use crate::store::Store;
use crate::tasks;
use crate::threads::long;
use crate::worker::Worker;

/// Opens the database in a directory.
#[pyfunction]
pub fn open(path: &Bound<'_, PyAny>, given: &Bound<'_, PyDict>) -> PyResult<Call> {
    guard("open", || {
        let path: PathBuf = path.extract().map_err(|error| exception(&refused("the path cannot be used", &error)))?;
        starting(given, false, move |options| Kappa::open_with(path, options, &Env::default()))
    })
}

/// Makes a database in memory.
#[pyfunction]
pub fn in_memory(given: &Bound<'_, PyDict>) -> PyResult<Call> {
    guard("in_memory", || starting(given, true, |options| Kappa::in_memory(options, &Env::default())))
}

/// Connects to a server.
#[pyfunction]
pub fn connect(url: &Bound<'_, PyAny>, token: Maybe<'_, '_>, given: &Bound<'_, PyDict>) -> PyResult<Call> {
    guard("connect", || {
        let url = text("url", url).map_err(|error| exception(&error))?;
        let token = maybe_text("token", token).map_err(|error| exception(&error))?;
        let env = Env::default();
        starting(given, false, move |options| Kappa::connect_with(&url, token.as_deref(), options, &env))
    })
}

/// Opening runs on a thread of its own: a recovery may take a while, in which Ctrl-C must be heard.
fn starting(
    given: &Bound<'_, PyDict>,
    in_memory: bool,
    open: impl FnOnce(&Options) -> Result<Kappa> + Send + 'static,
) -> PyResult<Call> {
    let (options, reader) = options(given).map_err(|error| exception(&error))?;
    let origin = Origin { reader, in_memory, ..Origin::default() };
    Ok(Call::new(&origin, move |_| long("open", move || Ok((open(&options)?, in_memory)))))
}

/// An open database.
#[pyclass(frozen, weakref, module = "kappa_core._kappa_core")]
pub struct Database {
    kappa: Owned<Kappa>,
    /// What a close has to stop first, so that running tasks are handed back.
    workers: Owned<Arc<Mutex<Vec<Weak<Claims>>>>>,
    origin: Origin,
    process: u32,
}

impl Database {
    pub fn new(kappa: Kappa, reader: Reader, in_memory: bool) -> Self {
        let origin = Origin { reader, in_memory, ..Origin::default() };
        Self { kappa: origin.own(kappa), workers: Owned::new(Arc::default()), origin, process: std::process::id() }
    }

    /// A call on the database that may wait for the disk.
    fn read<T: IntoReply + Send + 'static>(
        &self,
        read: impl FnOnce(&Kappa) -> Result<T> + Send + 'static,
    ) -> Result<Call> {
        let kappa = self.kappa.get()?.clone();
        Ok(Call::read(&self.origin, move || Pending::ready(read(&kappa))))
    }

    /// A call on the database that may take long.
    fn long<T: IntoReply + Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce(&Kappa) -> Result<T> + Send + 'static,
    ) -> Result<Call> {
        let kappa = self.kappa.get()?.clone();
        Ok(Call::new(&self.origin, move |_| long(name, move || work(&kappa))))
    }
}

/// Runs the inside of an exported function whose errors are core's.
pub fn export<T>(name: &'static str, body: impl FnOnce() -> Result<T>) -> PyResult<T> {
    guard(name, || body().map_err(|error| exception(&error)))
}

#[pymethods]
impl Database {
    fn products(&self) -> PyResult<Store> {
        export("Database.products", || {
            let collection = self.kappa.get()?.products().as_collection().clone();
            Ok(Store::new(collection, &self.origin))
        })
    }

    fn users(&self) -> PyResult<Store> {
        export("Database.users", || {
            let collection = self.kappa.get()?.users().as_collection().clone();
            Ok(Store::new(collection, &self.origin))
        })
    }

    fn collection(&self, name: &Bound<'_, PyAny>) -> PyResult<Store> {
        export("Database.collection", || {
            let collection = self.kappa.get()?.collection(&text("name", name)?)?;
            Ok(Store::new(collection, &self.origin))
        })
    }

    fn collections(&self) -> PyResult<Call> {
        export("Database.collections", || {
            let kappa = self.kappa.get()?.clone();
            Ok(Call::read(&self.origin, move || kappa.collections()))
        })
    }

    fn batch(&self) -> PyResult<Batch> {
        export("Database.batch", || Ok(Batch::new(self.kappa.get()?.batch(), &self.origin)))
    }

    /// The operation `name` of the queue.
    #[pyo3(signature = (name, given, idempotency_key))]
    fn task(&self, name: &str, given: &Bound<'_, PyAny>, idempotency_key: Maybe<'_, '_>) -> PyResult<Call> {
        export("Database.task", || {
            let operation = tasks::operation(name, given, self.origin.reader)?;
            Ok(tasks::call(self.kappa.get()?.clone(), &self.origin, operation, tasks::key(idempotency_key)?))
        })
    }

    /// The task once it has ended.
    fn task_ended(&self, id: &Bound<'_, PyAny>) -> PyResult<Call> {
        export("Database.task_ended", || tasks::ended(self.kappa.get()?, &self.origin, id))
    }

    /// A worker by the options of core's.
    fn worker(&self, given: &Bound<'_, PyDict>) -> PyResult<Worker> {
        export("Database.worker", || {
            let (worker, claims) = Worker::start(self.kappa.get()?, given, &self.origin)?;
            let mut workers = self.workers.get()?.lock();
            workers.retain(|worker| worker.strong_count() > 0);
            workers.push(Arc::downgrade(&claims));
            Ok(worker)
        })
    }

    #[pyo3(signature = (after, start))]
    fn changes(&self, py: Python<'_>, after: Maybe<'_, '_>, start: &Bound<'_, PyAny>) -> PyResult<Feed> {
        export("Database.changes", || {
            let start = feed_start(maybe_text("after", after)?, &text("start", start)?)?;
            let kappa = self.kappa.get()?.clone();
            // In a client this asks the owner, who may be slow: other threads go on meanwhile.
            let changes = py.detach(|| kappa.feed(start).wait())?;
            Ok(Feed::new(kappa, changes, &self.origin))
        })
    }

    fn info(&self) -> PyResult<Call> {
        export("Database.info", || self.read(Kappa::info))
    }

    fn ready(&self) -> PyResult<Call> {
        export("Database.ready", || self.read(Kappa::ready))
    }

    fn check(&self) -> PyResult<Call> {
        export("Database.check", || self.long("check", Kappa::check))
    }

    fn close(&self) -> PyResult<Call> {
        export("Database.close", || {
            // A forked child has none of the parent's workers.
            let workers = self.workers.get().map(Arc::clone).unwrap_or_default();
            self.long("close", move |kappa| {
                let stopping: Vec<_> = workers.lock().drain(..).filter_map(|worker| worker.upgrade()).collect();
                for claims in stopping {
                    claims.stop(Duration::ZERO);
                }
                kappa.close()
            })
        })
    }

    /// Whether this is a forked child of the process that opened the database.
    fn is_foreign(&self) -> PyResult<bool> {
        export("Database.is_foreign", || Ok(self.process != std::process::id()))
    }
}

fn feed_start(after: Option<String>, start: &str) -> Result<FeedStart> {
    match (after, start) {
        (Some(cursor), "now") => Ok(FeedStart::After(cursor)),
        (Some(_), _) => Err(Error::invalid("a feed starts behind a cursor or where `start` says, not both")),
        (None, "now") => Ok(FeedStart::Now),
        (None, "oldest") => Ok(FeedStart::Oldest),
        (None, other) => Err(Error::invalid("a feed starts now or with the oldest change").with("start", other)),
    }
}
