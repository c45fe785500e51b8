//! The handle: one open database and its typed stores.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::Engine;
use crate::engine::memory::MemoryEngine;
#[cfg(unix)]
use crate::env::fork;
use crate::env::{Env, Files};
use crate::error::{Error, ErrorKind, Result};
use crate::executor::local::{About, Local};
#[cfg(feature = "remote")]
use crate::executor::remote::Remote;
#[cfg(unix)]
use crate::executor::share::{Setting, Share};
use crate::executor::{CallOptions, Change, Executor, FeedStart, Info, Pending, draw_instance};
use crate::operation::{Answer, CollectionInfo, CollectionName, Operation};
use crate::options::Options;
use crate::store::handle::{Batch, Collection, Products, Users, unexpected};
use crate::task::handle::Tasks;

/// One open database. Cloning shares it; the last clone that is dropped closes it.
#[derive(Clone, Debug)]
pub struct Kappa(Arc<dyn Executor>);

impl Kappa {
    /// Opens the database in `directory`, made if it is not there, with default options.
    ///
    /// Any number of processes of one user on one host may have it open: the first one owns it, the others ask that
    /// one, and when it ends one of them takes its place. A handle goes on working in a forked child, as a client;
    /// a process that was forked from an owner never becomes one itself.
    ///
    /// # Errors
    /// `Unavailable` with the owner's pid when it does not answer within the deadline; `Damaged` with file and offset; `Unavailable` when the
    /// directory cannot be used; `Unsupported` where it lies on a network file system.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(directory, &Options::default(), &Env::default())
    }

    /// Opens with the caller's options and doors to the outside.
    ///
    /// # Errors
    /// As [`Kappa::open`]; `Locked` with the owner's pid where [`Mode::Owner`](crate::Mode::Owner) was asked for and
    /// another process owns the directory; `Unsupported` for a durability the engine does not give. A network file
    /// system is no error where [`Options::network_disk`] is set.
    pub fn open_with(directory: impl AsRef<Path>, options: &Options, env: &Env) -> Result<Self> {
        let directory = directory.as_ref();
        let unusable = |error: std::io::Error| {
            let what =
                if directory.is_file() { "the data directory is a file" } else { "the data directory cannot be used" };
            let error = Error::new(ErrorKind::Unavailable, what).caused_by(error);
            error.with("directory", directory.display())
        };
        if !options.network_disk
            && let Some(kind) = network(&*env.files, directory).map_err(unusable)?
        {
            let what = "the data directory lies on a network file system, where locks and syncs may not hold; use a disk of this machine, or set network_disk";
            let error = Error::new(ErrorKind::Unsupported, what).with("file_system", kind);
            return Err(error.with("directory", directory.display()));
        }
        create_durably(&*env.files, directory).map_err(unusable)?;
        let executor: Arc<dyn Executor> = {
            #[cfg(unix)]
            {
                let instance = draw_instance(&*env.entropy);
                let (directory, options, env) = (directory.to_owned(), options.clone(), env.clone());
                let setting = Setting { directory, instance, options, env };
                Arc::new(Share::open(setting)?)
            }
            #[cfg(not(unix))]
            {
                let lock = Arc::new(crate::env::lock::DirectoryLock::take(directory)?);
                Arc::new(Local::open(directory, &lock, draw_instance(&*env.entropy), options, env)?)
            }
        };
        Ok(Self(executor))
    }

    /// A database in memory: gone when the last handle is.
    ///
    /// # Errors
    /// `Unavailable` when the system gives no threads; `Unsupported` in a fork of a process that had a database open.
    pub fn in_memory(options: &Options, env: &Env) -> Result<Self> {
        #[cfg(unix)]
        {
            if fork::engine_lost() {
                let message = "this process was forked from one that had a database open and cannot have one in memory; start a fresh process";
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
            fork::engine_started();
        }
        let mut database = [0; 16];
        env.entropy.fill(&mut database);
        let about = About { database, instance: draw_instance(&*env.entropy), view: "memory", recovery: Vec::new() };
        let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::default());
        Ok(Self(Arc::new(Local::start(engine, about, None, options, env)?)))
    }

    /// The database behind the server at `url`, such as `http://127.0.0.1:8080`, with default options.
    ///
    /// Calls and their errors are those of an open directory. One that meets a broken connection is sent again, up to
    /// its deadline; a write carries an idempotency key, drawn where the caller gave none, so that it is done once.
    /// The server keeps each such key for 24 h, a million at most; where writes come faster for long, run this process on the
    /// server's host and open the directory. Feeds go on behind their cursor; one from now on begins when it is answered. Closing ends the connection, not the database.
    ///
    /// `token` is sent as `Authorization: Bearer`. The server does not check it yet: what does is a proxy before it.
    ///
    /// # Errors
    /// `InvalidInput` for a URL that is none, or one where something else answers; `Unsupported` for https, which a
    /// proxy on this host or an ssh tunnel speaks, and where the server refuses this host or token; `Unavailable` when nobody answers.
    #[cfg(feature = "remote")]
    pub fn connect(url: &str, token: Option<&str>) -> Result<Self> {
        Self::connect_with(url, token, &Options::default(), &Env::default())
    }

    /// Connects with the caller's deadline and source of chance; other options are the server's.
    ///
    /// # Errors
    /// As [`Kappa::connect`].
    #[cfg(feature = "remote")]
    pub fn connect_with(url: &str, token: Option<&str>, options: &Options, env: &Env) -> Result<Self> {
        Ok(Self(Arc::new(Remote::connect(url, token, options, env)?)))
    }

    /// Runs any operation; the typed stores are thin layers over this.
    pub fn call(&self, operation: Operation, options: CallOptions) -> Pending<Answer> {
        self.0.submit(operation, options)
    }

    /// Products.
    pub fn products(&self) -> Products {
        Products::new(Arc::clone(&self.0))
    }

    /// Users.
    pub fn users(&self) -> Users {
        Users::new(Arc::clone(&self.0))
    }

    /// The collection `name`; it need not be there yet.
    ///
    /// # Errors
    /// `InvalidInput` for a name that breaks the rule of [`CollectionName`].
    pub fn collection(&self, name: &str) -> Result<Collection> {
        Ok(Collection::new(Arc::clone(&self.0), CollectionName::new(name)?))
    }

    /// Every collection that was declared or written, by name, as it stands.
    ///
    /// # Errors
    /// None of its own.
    pub fn collections(&self) -> Pending<Vec<CollectionInfo>> {
        self.call(Operation::Collections, CallOptions::default()).map(|answer| match answer {
            Answer::Collections(collections) => Ok(collections),
            other => Err(unexpected(&other)),
        })
    }

    /// Writes that happen together or not at all.
    pub fn batch(&self) -> Batch {
        Batch::new(Arc::clone(&self.0))
    }

    /// The task queue.
    pub fn tasks(&self) -> Tasks {
        Tasks::new(Arc::clone(&self.0))
    }

    /// The change feed.
    ///
    /// # Errors
    /// `InvalidInput` for a cursor that is none; `Expired` for one too old.
    pub fn feed(&self, start: FeedStart) -> Pending<Feed> {
        let executor = Arc::clone(&self.0);
        let seen = self.0.seek(start);
        seen.map(|seen| Ok(Feed { executor, behind: seen.clone(), seen, ready: VecDeque::new() }))
    }

    /// Ready once something was committed since this call, or the database was closed: for those who look for
    /// themselves what it was.
    pub fn committed(&self) -> Pending<()> {
        self.0.committed()
    }

    /// How the database stands.
    ///
    /// # Errors
    /// `Closed` after close.
    pub fn info(&self) -> Result<Info> {
        self.0.info()
    }

    /// Answers when reads and writes are being answered: what a load balancer asks before it sends anybody.
    ///
    /// # Errors
    /// `Closed` after close; `Ambiguous` or `Unavailable` once a write or a sync failed; reopen the database then.
    pub fn ready(&self) -> Result<()> {
        self.0.ready()
    }

    /// Reads everything that is stored and says in words what is damaged, with file and offset;
    /// nothing when all is well. Takes as long as reading the data directory does; calls go on meanwhile.
    ///
    /// # Errors
    /// `Unavailable` when a file cannot be read at all; `Closed` after close.
    pub fn check(&self) -> Result<Vec<String>> {
        self.0.check()
    }

    /// Waits for writes in flight and background work, marks a clean end and releases the lock.
    /// Other clones of the handle answer `Closed` from then on; closing again does nothing.
    ///
    /// # Errors
    /// Whatever the last flush answered.
    pub fn close(&self) -> Result<()> {
        self.0.close()
    }
}

/// The network file system that `directory` lies on, or would if it were there.
fn network(files: &dyn Files, directory: &Path) -> std::io::Result<Option<&'static str>> {
    let above = directory.ancestors().filter(|level| !level.as_os_str().is_empty());
    for level in above.chain([Path::new(".")]) {
        if files.exists(level)? {
            return files.network(level);
        }
    }
    Ok(None)
}

/// Makes `directory`, and sees to it that a power cut takes none of the levels that were made.
fn create_durably(files: &dyn Files, directory: &Path) -> std::io::Result<()> {
    let mut made = Vec::new();
    for level in directory.ancestors().take_while(|level| !level.as_os_str().is_empty()) {
        if files.exists(level)? {
            break;
        }
        made.push(level);
    }
    files.create_dir_all(directory)?;
    #[cfg(unix)]
    if !made.is_empty() {
        crate::env::socket::make_private(directory)?;
    }
    for level in made {
        let parent = level.parent().filter(|parent| !parent.as_os_str().is_empty());
        files.sync_dir(parent.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

/// Changes in the order they were committed, at least once each, from a cursor on.
#[derive(Debug)]
pub struct Feed {
    executor: Arc<dyn Executor>,
    /// Behind everything that is in `ready`.
    behind: String,
    /// Behind the newest change given out.
    seen: String,
    ready: VecDeque<Change>,
}

impl Feed {
    /// The next change, as soon as there is one. Dropping the future loses nothing.
    ///
    /// # Errors
    /// `Expired` when the cursor lies before what is kept; `Closed` when the database is.
    pub async fn next(&mut self) -> Result<Change> {
        if self.ready.is_empty() {
            let (changes, behind) = self.executor.changes(self.behind.clone()).await?;
            self.take_in(changes, behind);
        }
        Ok(self.give().expect("changes are answered once there is one"))
    }

    /// The next change, or none when none came within `wait`.
    ///
    /// # Errors
    /// As [`Feed::next`].
    pub fn next_within(&mut self, wait: Duration) -> Result<Option<Change>> {
        if self.ready.is_empty() {
            let Some(answer) = self.executor.changes(self.behind.clone()).wait_for(wait) else { return Ok(None) };
            let (changes, behind) = answer?;
            self.take_in(changes, behind);
        }
        Ok(self.give())
    }

    /// The next change that is there already; none when there is none yet. For callers on an event loop: this reads
    /// files, so call it where a thread may wait, and wait with [`Feed::committed`] elsewhere.
    ///
    /// # Errors
    /// As [`Feed::next`].
    pub fn next_now(&mut self) -> Result<Option<Change>> {
        if self.ready.is_empty() {
            let (changes, behind) = self.executor.changes_now(&self.behind)?;
            self.take_in(changes, behind);
        }
        Ok(self.give())
    }

    /// Ready once something was committed, or the database was closed, since this call. Take it before
    /// [`Feed::next_now`] and await it when that gave nothing, so that a change between the two is not missed.
    pub fn committed(&self) -> Pending<()> {
        self.executor.committed()
    }

    /// The cursor behind the newest change given out.
    pub fn cursor(&self) -> &str {
        &self.seen
    }

    fn take_in(&mut self, changes: Vec<Change>, behind: String) {
        self.ready.extend(changes);
        self.behind = behind;
    }

    fn give(&mut self) -> Option<Change> {
        let change = self.ready.pop_front()?;
        self.seen.clone_from(&change.cursor);
        Some(change)
    }
}
