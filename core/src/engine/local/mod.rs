//! The local engine: a log that is the truth, and a view that answers reads.

mod background;
#[cfg(test)]
mod crash_tests;
pub mod log;
mod opening;
pub mod view;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::engine::{
    Committed, CommittedRecord, Durability, Engine, Group, Growth, MAX_PAGE_BYTES, Sequence, Snapshot,
};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};

use background::Background;
use log::{Damage, Log};
use view::{View, ViewOptions};

pub use opening::{COMPARE_FIRST_KEYS, LocalOptions, OpenReport};

/// One partition in a directory of this host.
pub struct LocalEngine {
    shared: Arc<Shared>,
    background: Mutex<Option<Background>>,
}

/// What the engine and its background threads share.
struct Shared {
    log: Log,
    directory: PathBuf,
    options: LocalOptions,
    view_options: ViewOptions,
    env: Env,
    /// Replaced as a whole when the view had to be abandoned.
    view: ArcSwap<View>,
    /// The newest operation that reads show. The log knows a group a moment earlier: whoever learns of a
    /// change must find it when it reads.
    shown: AtomicU64,
    /// Held through a commit and while a view is replaced, so that no group goes into a view that is being left.
    writing: Mutex<()>,
    /// Writes and reads wait for a new view; they are refused until it is there.
    rebuilding: AtomicBool,
    closed: AtomicBool,
}

impl fmt::Debug for LocalEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalEngine").field("directory", &self.shared.directory).finish_non_exhaustive()
    }
}

impl LocalEngine {
    /// Opens the partition in `directory`, made if it is not there, and recovers what a crash left.
    ///
    /// # Errors
    /// `Damaged` with file and offset; `Unavailable` when the directory cannot be used; `Unsupported`
    /// for a durability that one copy cannot give.
    pub fn open(directory: PathBuf, options: LocalOptions, env: Env) -> Result<(Self, OpenReport)> {
        let (shared, report) = opening::open(directory, options, env)?;
        let shared = Arc::new(shared);
        let background = Background::start(&shared, report.compare_later)?;
        Ok((Self { shared, background: Mutex::new(Some(background)) }, report))
    }

    /// The id that was drawn when the database was made.
    pub fn database(&self) -> [u8; 16] {
        self.shared.log.manifest().identity.database
    }
}

impl Shared {
    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the database is closed"));
        }
        if self.rebuilding.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Unavailable, "the view is being rebuilt from the log; retry later"));
        }
        Ok(())
    }

    fn view(&self) -> Arc<View> {
        self.view.load_full()
    }
}

/// What a scrub found, in words.
fn damages(found: &[Damage]) -> Vec<String> {
    found.iter().map(|Damage { file, error }| format!("{error} file={}", file.display())).collect()
}

impl Engine for LocalEngine {
    fn exclusive(&self) -> bool {
        true
    }

    fn reads_at_hand(&self) -> bool {
        true
    }

    fn durability(&self) -> Durability {
        self.shared.options.log.durability
    }

    fn snapshot(&self) -> Result<Arc<dyn Snapshot>> {
        self.shared.check_open()?;
        Ok(View::snapshot_of(self.shared.view.load()))
    }

    fn newest(&self) -> (Sequence, i64) {
        (self.shared.shown.load(Ordering::Acquire), self.shared.log.newest().1)
    }

    fn admit(&self, growth: Growth) -> Result<()> {
        self.shared.check_open()?;
        self.shared.log.admit(growth)
    }

    fn commit(&self, group: Group) -> Result<Committed> {
        let shared = &*self.shared;
        shared.check_open()?;
        // Before the log: a group that finds no room must have written nothing.
        shared.view().wait_for_room(shared.options.room_wait)?;
        let _writing = shared.writing.lock();
        shared.check_open()?;
        let view = shared.view();
        let first = shared.log.append(&group.records)?;
        #[cfg(test)]
        if crash_tests::planted::is(crash_tests::planted::Engine::PublishBeforeDurable) {
            view.apply(first, &group.records)?;
            let last = first + group.records.len() as Sequence - 1;
            view.publish(last);
            shared.shown.store(last, Ordering::Release);
            return shared.log.sync().map(|()| Committed::At(first));
        }
        // While the disk writes: readers see none of it before it is published, and that is behind the sync.
        let synced = view.apply(first, &group.records).and_then(|()| match shared.options.log.durability {
            Durability::Written => Ok(()),
            _ => shared.log.sync(),
        });
        if let Err(error) = synced {
            view.withhold();
            return Err(error);
        }
        let last = first + group.records.len() as Sequence - 1;
        view.publish(last);
        shared.shown.store(last, Ordering::Release);
        Ok(Committed::At(first))
    }

    fn history(&self, after: Sequence, limit: usize) -> Result<Vec<CommittedRecord>> {
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the database is closed"));
        }
        let shown = self.shared.shown.load(Ordering::Acquire);
        let mut records = self.shared.log.read_from(after, limit, MAX_PAGE_BYTES)?;
        records.truncate(records.partition_point(|record| record.sequence <= shown));
        Ok(records)
    }

    fn oldest(&self) -> Sequence {
        self.shared.log.oldest()
    }

    fn check(&self) -> Result<Vec<String>> {
        self.shared.check_open()?;
        let mut damages = damages(&self.shared.log.scrub(|_| !self.shared.closed.load(Ordering::Acquire))?);
        if let Err(error) = self.shared.view().verify_while(&|| !self.shared.closed.load(Ordering::Acquire)) {
            damages.push(format!("the view is being rebuilt from the log: {error}"));
        }
        Ok(damages)
    }

    fn close(&self, within: Duration) -> Result<()> {
        let Some(background) = self.background.lock().take() else { return Ok(()) };
        self.shared.closed.store(true, Ordering::Release);
        background.end(&self.shared.view());
        opening::close(&self.shared, within)
    }
}

impl Drop for LocalEngine {
    fn drop(&mut self) {
        // A handle that was never closed leaves what a crash leaves: the next open recovers it.
        if let Some(background) = self.background.lock().take() {
            self.shared.closed.store(true, Ordering::Release);
            background.end(&self.shared.view());
        }
    }
}
