//! The executor of the process that owns the data.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::engine::local::LocalEngine;
use crate::engine::{Engine, Growth};
use crate::env::Env;
use crate::env::lock::DirectoryLock;
use crate::error::{Error, ErrorKind, Result};
use crate::operation::{Answer, Operation, Version};
use crate::options::Options;
use crate::partition::feed::{self, Position};
use crate::partition::{Limits, Partition};
use crate::{store, task};

use super::maintenance::{self, Maintenance};
use super::rules::{Call, Rules};
use super::{CallOptions, Change, Executor, FeedStart, Info, Pending, cursor, id_text};

/// How long a close waits for background work.
const CLOSE_WITHIN: Duration = Duration::from_secs(60);
/// The only partition there is, until databases with more are made.
const PARTITION: u16 = 0;
/// Where it lies within the data directory.
const PARTITION_NAME: &str = "partition-0000";

/// What is told about a database besides its operations.
#[derive(Clone, Debug)]
pub struct About {
    /// Tells this database's cursors from those of others.
    pub database: [u8; 16],
    /// Tells the handle that owns it from every other one, so that its workers are known dead with it.
    pub instance: u64,
    /// What answers reads.
    pub view: &'static str,
    /// What recovery found.
    pub recovery: Vec<String>,
}

/// Runs operations on partitions of this process.
#[derive(Debug)]
pub struct Local {
    partition: Arc<Partition<Rules>>,
    about: About,
    held: Mutex<Option<Held>>,
    /// Beside what is held: asking must not wait for a close that is under way.
    closed: AtomicBool,
}

/// What is given back at close, in this order.
#[derive(Debug)]
struct Held {
    _maintenance: Maintenance,
    _lock: Option<Arc<DirectoryLock>>,
}

impl Local {
    /// Starts the partition of `engine`; `lock` is given up last.
    pub fn start(
        engine: Arc<dyn Engine>,
        about: About,
        lock: Option<Arc<DirectoryLock>>,
        options: &Options,
        env: &Env,
    ) -> Result<Self> {
        let limits = Limits { intake_bytes: options.intake_bytes, deadline: options.deadline };
        let partition = Arc::new(Partition::start(engine, Rules, env, limits)?);
        if let Err(error) = maintenance::open_queues(&partition, about.instance) {
            // Maintenance tries again before it ends any lease; documents can be read all the same.
            tracing::warn!(%error, "the queues could not be told who owns them now");
        }
        let maintenance = Maintenance::start(Arc::clone(&partition), about.instance)?;
        let held = Mutex::new(Some(Held { _maintenance: maintenance, _lock: lock }));
        Ok(Self { partition, about, held, closed: AtomicBool::new(false) })
    }

    /// Opens the database in `directory`, whose lock is held.
    pub fn open(
        directory: &Path,
        lock: &Arc<DirectoryLock>,
        instance: u64,
        options: &Options,
        env: &Env,
    ) -> Result<Self> {
        let (engine, report) =
            LocalEngine::open(directory.join(PARTITION_NAME), options.local(lock.same_boot())?, env.clone())?;
        lock.settle();
        for finding in &report.findings {
            tracing::warn!(finding, "recovered");
        }
        let (database, view) = (engine.database(), options.view.name());
        let about = About { database, instance, view, recovery: report.findings };
        Self::start(Arc::new(engine), about, Some(Arc::clone(lock)), options, env)
    }

    /// Runs a read on this thread.
    pub fn read(&self, operation: Operation) -> Result<Answer> {
        self.partition.read(&Call::once(operation))
    }

    /// Takes a write in.
    pub fn write(&self, call: Call, deadline: Option<Duration>) -> Pending<Answer> {
        self.partition.submit(call, deadline)
    }

    /// Tells this database from others.
    pub fn database(&self) -> [u8; 16] {
        self.about.database
    }

    /// Engine time in milliseconds.
    pub fn now(&self) -> i64 {
        self.partition.now()
    }

    fn cursor(&self, position: Position) -> String {
        cursor::encode(self.about.database, PARTITION, position)
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the database is closed"));
        }
        Ok(())
    }

    fn position(&self, text: &str) -> Result<Position> {
        let (partition, position) = cursor::decode(self.about.database, text)?;
        if partition != PARTITION {
            return Err(Error::invalid("the cursor names a partition that this database does not have"));
        }
        Ok(position)
    }

    /// The cursor that `start` stands for.
    ///
    /// # Errors
    /// `InvalidInput` for a cursor that is none; `Expired` for one too old; `Closed`.
    pub fn place_of(&self, start: FeedStart) -> Result<String> {
        self.check_open()?;
        let engine = self.partition.engine();
        match start {
            // The state that a reader sees now, not the end of the log, which may be ahead of it: otherwise a
            // list made behind this cursor could lack a change that the feed leaves out too.
            FeedStart::Now => Ok(self.cursor(Position::behind(engine.snapshot()?.sequence()))),
            FeedStart::Oldest => Ok(self.cursor(Position::behind(engine.oldest()))),
            FeedStart::After(text) => {
                let position = self.position(&text)?;
                feed::read(engine.as_ref(), position)?;
                Ok(text)
            }
        }
    }
}

impl Executor for Local {
    fn submit(&self, operation: Operation, options: CallOptions) -> Pending<Answer> {
        if operation.is_read() {
            return Pending::ready(self.read(operation));
        }
        let call = Call { operation, idempotency_key: options.idempotency_key, session: None };
        self.write(call, options.deadline)
    }

    fn seek(&self, start: FeedStart) -> Pending<String> {
        Pending::ready(self.place_of(start))
    }

    fn changes(&self, after: String) -> Pending<(Vec<Change>, String)> {
        let mut position = match self.position(&after) {
            Ok(position) => position,
            Err(error) => return Pending::ready(Err(error)),
        };
        let partition = Arc::clone(&self.partition);
        let database = self.about.database;
        Pending::new(async move {
            loop {
                let committed = partition.listen();
                let (changes, behind) = read(database, partition.engine().as_ref(), position)?;
                if !changes.is_empty() {
                    return Ok((changes, cursor::encode(database, PARTITION, behind)));
                }
                if behind == position {
                    committed.await;
                }
                position = behind;
            }
        })
    }

    fn changes_now(&self, after: &str) -> Result<(Vec<Change>, String)> {
        let mut position = self.position(after)?;
        loop {
            let (changes, behind) = read(self.about.database, self.partition.engine().as_ref(), position)?;
            if !changes.is_empty() || behind == position {
                return Ok((changes, self.cursor(behind)));
            }
            position = behind;
        }
    }

    fn committed(&self) -> Pending<()> {
        let committed = self.partition.listen();
        Pending::new(async move {
            committed.await;
            Ok(())
        })
    }

    fn ready(&self) -> Result<()> {
        self.check_open()?;
        let engine = self.partition.engine();
        engine.snapshot()?;
        // What shrinks is taken also on a full disk, where reads and deletes go on: that is no reason to send nobody here.
        engine.admit(Growth::Shrinks)
    }

    fn info(&self) -> Result<Info> {
        self.check_open()?;
        let engine = self.partition.engine();
        Ok(Info {
            id: id_text(self.about.database),
            version: env!("CARGO_PKG_VERSION"),
            durability: engine.durability().name(),
            view: self.about.view,
            newest: Version(engine.newest().0),
            oldest: Version(engine.oldest()),
            partitions: 1,
            recovery: self.about.recovery.clone(),
            role: "owner",
            owner_pid: std::process::id(),
        })
    }

    fn instance(&self) -> u64 {
        self.about.instance
    }

    fn check(&self) -> Result<Vec<String>> {
        self.check_open()?;
        self.partition.engine().check()
    }

    fn close(&self) -> Result<()> {
        // Locked to the end, so that a second caller comes back when the directory is free, not before.
        let mut held = self.held.lock();
        self.closed.store(true, Ordering::Release);
        let Some(Held { _maintenance: maintenance, _lock: lock }) = held.take() else { return Ok(()) };
        drop(maintenance);
        let closed = self.partition.close(CLOSE_WITHIN);
        drop(lock);
        closed
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(%error, "the database did not close cleanly; the next open recovers it");
        }
    }
}

/// The changes behind `position` in one look, and the position behind everything that was looked through.
fn read(database: [u8; 16], engine: &dyn Engine, position: Position) -> Result<(Vec<Change>, Position)> {
    let (events, behind) = feed::read(engine, position)?;
    let changes = events.into_iter().map(|event| change(database, event)).collect::<Result<_>>()?;
    Ok((changes, behind))
}

fn change(database: [u8; 16], committed: feed::Committed) -> Result<Change> {
    let feed::Committed { position, time, event, value } = committed;
    let document = |value: &Bytes| match task::id_of_task(&event.key) {
        Some(id) => task::record::stored_task(id, value),
        None => store::stored_document(value),
    };
    Ok(Change {
        cursor: cursor::encode(database, PARTITION, position),
        collection: event.collection.to_string(),
        id: event.id.to_string(),
        kind: event.kind,
        version: Version(position.sequence),
        time,
        document: value.as_ref().map(document).transpose()?,
    })
}
