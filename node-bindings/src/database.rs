//! Opening, describing and closing a database.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use kappa_core::env::Env;
use kappa_core::{Claims, Kappa, Options, Result};
use napi::bindgen_prelude::External;
use napi_derive::napi;
use parking_lot::Mutex;
use serde::Deserialize;

use crate::answer::Text;
use crate::error::malformed;
use crate::guard::export;
use crate::port::{Port, Slot};
use crate::threads;

/// How long the end of an environment waits for its databases; what is left then is recovered at the next open.
const END_WITHIN: Duration = Duration::from_secs(10);

/// One open database.
pub struct Handle {
    kappa: Kappa,
    closed: AtomicBool,
    /// What a close has to stop first, so that running tasks are handed back.
    workers: Mutex<Vec<Weak<Claims>>>,
}

/// A database as JavaScript holds it, with the door its answers leave by.
pub struct Database {
    /// The door.
    pub port: Arc<Port>,
    /// The database, closed in the background when nobody holds it any more.
    pub handle: Arc<Handle>,
}

impl Handle {
    /// The database.
    pub fn kappa(&self) -> &Kappa {
        &self.kappa
    }

    /// Notes a worker that must be stopped before the database is closed.
    pub fn note_worker(&self, worker: &Arc<Claims>) {
        let mut workers = self.workers.lock();
        workers.retain(|worker| worker.strong_count() > 0);
        workers.push(Arc::downgrade(worker));
    }

    fn close(&self) -> Result<()> {
        let workers: Vec<_> = self.workers.lock().drain(..).filter_map(|worker| worker.upgrade()).collect();
        for worker in workers {
            worker.stop(Duration::ZERO);
        }
        let closed = self.kappa.close();
        self.closed.store(true, Ordering::Release);
        closed
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.closed.load(Ordering::Acquire) {
            // The garbage collector runs on the event loop, which must not wait for a flush. Where there is no thread,
            // the last clone closes here.
            let kappa = self.kappa.clone();
            let _ = threads::spawn(move || drop(kappa.close()));
        }
    }
}

/// Closes `handles` side by side, and waits for them so long as an environment may take to end.
pub fn close_all(handles: Vec<Arc<Handle>>) {
    let (sender, receiver) = mpsc::channel::<()>();
    for handle in handles {
        let done = sender.clone();
        let _ = threads::spawn(move || {
            let _ = handle.close();
            drop(handle);
            drop(done);
        });
    }
    drop(sender);
    // Nobody sends: the answer is that every sender is gone.
    let _ = receiver.recv_timeout(END_WITHIN);
}

/// Settings as JavaScript gives them: durations in milliseconds.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct OpenOptions {
    mode: String,
    durability: String,
    view: String,
    intake_bytes: usize,
    deadline: u64,
    memtable_bytes: usize,
    cache_bytes: usize,
    log_retention_bytes: u64,
    log_retention: u64,
    segment_bytes: u64,
    merge_bytes: u64,
    network_disk: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        let options = Options::default();
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            mode: options.mode.name().to_owned(),
            durability: options.durability.name().to_owned(),
            view: options.view.name().to_owned(),
            intake_bytes: options.intake_bytes,
            deadline: millis(options.deadline),
            memtable_bytes: options.memtable_bytes,
            cache_bytes: options.cache_bytes,
            log_retention_bytes: options.log_retention_bytes,
            log_retention: millis(options.log_retention),
            segment_bytes: options.segment_bytes,
            merge_bytes: options.merge_bytes,
            network_disk: options.network_disk,
        }
    }
}

impl OpenOptions {
    fn parse(json: &str) -> Result<Options> {
        let given: Self = serde_json::from_str(json).map_err(malformed("an option is unknown or has a wrong value"))?;
        Ok(Options {
            mode: given.mode.parse()?,
            durability: given.durability.parse()?,
            view: given.view.parse()?,
            intake_bytes: given.intake_bytes,
            deadline: Duration::from_millis(given.deadline),
            memtable_bytes: given.memtable_bytes,
            cache_bytes: given.cache_bytes,
            log_retention_bytes: given.log_retention_bytes,
            log_retention: Duration::from_millis(given.log_retention),
            segment_bytes: given.segment_bytes,
            merge_bytes: given.merge_bytes,
            network_disk: given.network_disk,
        })
    }
}

/// Opens the database in the directory `path`, or one in memory where none is given.
#[napi]
pub fn open(
    port: &External<Arc<Port>>,
    slot: Slot,
    path: Option<String>,
    options: String,
) -> napi::Result<Option<String>> {
    starting(port, slot, "open", &options, move |options, env| match path {
        Some(path) => Kappa::open_with(path, options, env),
        None => Kappa::in_memory(options, env),
    })
}

/// Connects to the server at `url`.
#[napi]
pub fn connect(
    port: &External<Arc<Port>>,
    slot: Slot,
    url: String,
    token: Option<String>,
    options: String,
) -> napi::Result<Option<String>> {
    let connect = move |options: &Options, env: &Env| Kappa::connect_with(&url, token.as_deref(), options, env);
    starting(port, slot, "connect", &options, connect)
}

fn starting(
    port: &Arc<Port>,
    slot: Slot,
    name: &'static str,
    options: &str,
    open: impl FnOnce(&Options, &Env) -> Result<Kappa> + Send + 'static,
) -> napi::Result<Option<String>> {
    export(name, || {
        let options = OpenOptions::parse(options)?;
        let owner = Arc::clone(port);
        let opening = threads::long(name, move || open(&options, &Env::default()));
        Ok(port.start(slot, name, async move {
            let handle =
                Arc::new(Handle { kappa: opening.await?, closed: AtomicBool::new(false), workers: Mutex::default() });
            owner.note(&handle);
            owner.keep(slot, handle);
            Ok(Text::new("null".to_owned()))
        }))
    })
}

/// The database that the call `slot` opened.
#[napi]
pub fn opened(port: &External<Arc<Port>>, slot: Slot) -> napi::Result<External<Database>> {
    export("opened", || Ok(External::new(Database { port: Arc::clone(port), handle: port.take(slot)? })))
}

/// How the database stands.
#[napi]
pub fn info(database: &External<Database>, slot: Slot) -> napi::Result<Option<String>> {
    // Asked of another process where that one owns the data.
    background(database, slot, "info", |kappa| Text::of(&kappa.info()?))
}

/// Answers when reads and writes are being answered.
#[napi]
pub fn ready(database: &External<Database>, slot: Slot) -> napi::Result<Option<String>> {
    background(database, slot, "ready", |kappa| kappa.ready().map(|()| Text::new("null".to_owned())))
}

/// Reads everything that is stored and says in words what is damaged.
#[napi]
pub fn check(database: &External<Database>, slot: Slot) -> napi::Result<Option<String>> {
    background(database, slot, "check", |kappa| Text::of(&kappa.check()?))
}

/// Finishes what was taken in and gives the directory back.
#[napi]
pub fn close(database: &External<Database>, slot: Slot) -> napi::Result<Option<String>> {
    export("close", || {
        let handle = Arc::clone(&database.handle);
        let closing = threads::long("close", move || handle.close());
        Ok(database.port.start(slot, "close", async move {
            closing.await?;
            Ok(Text::new("null".to_owned()))
        }))
    })
}

/// Every collection that was declared or written.
#[napi]
pub fn collections(database: &External<Database>, slot: Slot) -> napi::Result<Option<String>> {
    export("collections", || {
        let handle = Arc::clone(&database.handle);
        let reading = threads::read("collections", move || Ok(handle.kappa.collections()));
        Ok(database.port.start(slot, "collections", async move { Text::of(&reading.await?.await?) }))
    })
}

fn background(
    database: &Database,
    slot: Slot,
    name: &'static str,
    call: impl FnOnce(&Kappa) -> Result<Text> + Send + 'static,
) -> napi::Result<Option<String>> {
    export(name, || {
        let handle = Arc::clone(&database.handle);
        let answering = threads::long(name, move || call(&handle.kappa));
        Ok(database.port.start(slot, name, answering))
    })
}
