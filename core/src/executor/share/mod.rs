//! One database for all processes of a host: one owns it, the others ask that one, and nobody has to notice.

mod awaiting;
mod calls;
mod client;
mod connection;
mod deadlines;
mod link;
mod owner;
mod protocol;
mod reading;
mod role;
mod serve;
#[cfg(test)]
mod tests;
mod wire;

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::env::lock::{self, DirectoryLock};
use crate::env::{Env, fork};
use crate::error::{Error, ErrorKind, Result};
use crate::operation::{Answer, Operation};
use crate::options::{Mode, Options};

use super::{CallOptions, Change, Executor, FeedStart, Info, Pending, draw_instance};
use client::Client;
use owner::Owner;
use role::{Found, Look};

/// What a member needs to find its place again.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The data directory.
    pub directory: PathBuf,
    /// Tells this handle from every other one.
    pub instance: u64,
    /// As given at open.
    pub options: Options,
    /// As given at open.
    pub env: Env,
}

/// Runs operations in this process while it owns the data, and elsewhere while it does not.
#[derive(Debug)]
pub struct Share {
    setting: Setting,
    /// Which process of a line of forks this member belongs to.
    generation: u64,
    /// Always there, except while it is dropped.
    member: Option<Member>,
    /// What a forked child uses instead: nothing of a member works in another process than its own.
    child: OnceLock<Arc<Self>>,
}

#[derive(Debug)]
enum Member {
    Owner(Owner),
    Client(Arc<Client>),
}

/// Where a call goes.
enum Place<'a> {
    Here(&'a Owner),
    There(&'a Arc<Client>),
}

impl Share {
    /// Becomes the owner of the directory, or a client of who is.
    ///
    /// # Errors
    /// As [`crate::Kappa::open_with`].
    pub fn open(setting: Setting) -> Result<Self> {
        let mode = setting.options.mode;
        let lost = fork::engine_lost();
        let found = if mode == Mode::Owner {
            if lost {
                let message = "this process was forked from one that had a database open and cannot own one; start a fresh process";
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
            Found::Lock(DirectoryLock::take(&setting.directory)?)
        } else {
            find(&setting, mode == Mode::Auto && !lost)?
        };
        let member = match found {
            Found::Lock(lock) => Member::Owner(Owner::open(&setting, lock)?),
            owner @ Found::Owner(_) => {
                Member::Client(Client::start(setting.clone(), mode == Mode::Auto && !lost, Some(owner))?)
            }
        };
        Ok(Self { setting, generation: fork::generation(), member: Some(member), child: OnceLock::new() })
    }

    fn place(&self) -> Result<Place<'_>> {
        if self.generation != fork::generation() {
            return self.in_child()?.place();
        }
        Ok(match self.member.as_ref().expect("it goes with this value") {
            Member::Owner(owner) => Place::Here(owner),
            Member::Client(client) => match client.owner.get() {
                Some(owner) => Place::Here(owner),
                None => Place::There(client),
            },
        })
    }

    /// The member of this forked child, made at its first call.
    fn in_child(&self) -> Result<&Arc<Self>> {
        if let Some(child) = self.child.get() {
            return Ok(child);
        }
        let may_own = self.setting.options.mode == Mode::Auto && !fork::engine_lost();
        // Its workers are not those of the process that it was forked from.
        let setting = Setting { instance: draw_instance(&*self.setting.env.entropy), ..self.setting.clone() };
        let client = Client::start(setting.clone(), may_own, None)?;
        let member = Some(Member::Client(client));
        let child = Self { setting, generation: fork::generation(), member, child: OnceLock::new() };
        // Another thread may have been faster; then this one is dropped.
        let _ = self.child.set(Arc::new(child));
        Ok(self.child.get().expect("just set"))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let Some(member) = self.member.take() else { return };
        if self.generation != fork::generation() {
            // Its threads and locks are another process's: closing would wait for them for ever.
            let _ = ManuallyDrop::new(member);
            return;
        }
        let closed = match &member {
            Member::Owner(owner) => owner.close(),
            Member::Client(client) => client.close(),
        };
        if let Err(error) = closed {
            tracing::warn!(%error, "the database did not close cleanly; the next open recovers it");
        }
    }
}

/// Looks for the owner on the opening thread, up to the deadline of a call.
fn find(setting: &Setting, may_own: bool) -> Result<Found> {
    let deadline = u64::try_from(setting.options.deadline.as_millis()).unwrap_or(u64::MAX);
    let until = setting.env.clock.boot_ms().saturating_add(deadline);
    let opening = Opening { setting, until, problem: RefCell::new(None), pause: Mutex::new(()), rung: Condvar::new() };
    if let Some(found) = role::find(setting, may_own, &opening) {
        return Ok(found);
    }
    let problem = opening.problem.into_inner();
    if let Some(problem) = problem.as_ref().filter(|problem| problem.kind() != ErrorKind::Internal) {
        return Err(problem.clone());
    }
    let message = if may_own || lock::holder(&setting.directory).is_some() {
        "another process has the directory open and does not answer; is it stopped, or still recovering?"
    } else {
        "no process has the directory open, and this one may not"
    };
    let mut error = Error::new(ErrorKind::Unavailable, message);
    if let Some(pid) = lock::holder(&setting.directory) {
        error = error.with("pid", pid);
    }
    error = error.with("directory", setting.directory.display());
    Err(problem.into_iter().fold(error, Error::caused_by))
}

/// The patience of who opens.
struct Opening<'a> {
    setting: &'a Setting,
    until: u64,
    problem: RefCell<Option<Error>>,
    pause: Mutex<()>,
    rung: Condvar,
}

impl Look for Opening<'_> {
    fn go_on(&self, pause: Duration) -> bool {
        let hopeless = self.problem.borrow().as_ref().is_some_and(|problem| {
            matches!(problem.kind(), ErrorKind::Unavailable | ErrorKind::Unsupported | ErrorKind::Damaged)
        });
        if hopeless || self.setting.env.clock.boot_ms() >= self.until {
            return false;
        }
        if !pause.is_zero() {
            // Nobody rings: a wait with an end.
            let held = self.pause.lock().unwrap_or_else(PoisonError::into_inner);
            drop(self.rung.wait_timeout(held, pause));
        }
        true
    }

    fn note(&self, problem: Error) {
        *self.problem.borrow_mut() = Some(problem);
    }
}

impl Executor for Share {
    fn submit(&self, operation: Operation, options: CallOptions) -> Pending<Answer> {
        match self.place() {
            Ok(Place::Here(owner)) => owner.local.submit(operation, options),
            Ok(Place::There(client)) => client.submit(operation, options),
            Err(error) => Pending::ready(Err(error)),
        }
    }

    fn seek(&self, start: FeedStart) -> Pending<String> {
        match self.place() {
            Ok(Place::Here(owner)) => owner.local.seek(start),
            Ok(Place::There(client)) => client.seek(start),
            Err(error) => Pending::ready(Err(error)),
        }
    }

    fn changes(&self, cursor: String) -> Pending<(Vec<Change>, String)> {
        match self.place() {
            Ok(Place::Here(owner)) => owner.local.changes(cursor),
            Ok(Place::There(client)) => client.changes(cursor),
            Err(error) => Pending::ready(Err(error)),
        }
    }

    fn changes_now(&self, cursor: &str) -> Result<(Vec<Change>, String)> {
        match self.place()? {
            Place::Here(owner) => owner.local.changes_now(cursor),
            Place::There(client) => client.changes_now(cursor),
        }
    }

    fn committed(&self) -> Pending<()> {
        match self.place() {
            Ok(Place::Here(owner)) => owner.local.committed(),
            Ok(Place::There(client)) => client.committed(),
            Err(error) => Pending::ready(Err(error)),
        }
    }

    fn ready(&self) -> Result<()> {
        match self.place()? {
            Place::Here(owner) => owner.local.ready(),
            Place::There(client) => client.ready(),
        }
    }

    fn info(&self) -> Result<Info> {
        match self.place()? {
            Place::Here(owner) => owner.local.info(),
            Place::There(client) => client.info(),
        }
    }

    fn instance(&self) -> u64 {
        if self.generation == fork::generation() {
            return self.setting.instance;
        }
        self.in_child().map_or(0, |child| child.instance())
    }

    fn check(&self) -> Result<Vec<String>> {
        match self.place()? {
            Place::Here(owner) => owner.local.check(),
            Place::There(client) => client.check(),
        }
    }

    fn close(&self) -> Result<()> {
        if self.generation != fork::generation() {
            return self.in_child()?.close();
        }
        match self.member.as_ref().expect("it goes with this value") {
            Member::Owner(owner) => owner.close(),
            Member::Client(client) => client.close(),
        }
    }
}
