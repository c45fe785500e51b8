//! The same calls over a server: HTTP/1.1, one thread, few connections.

pub(crate) mod address;
mod caller;
mod said;
mod transport;

use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use url::form_urlencoded;

use crate::env::Env;
#[cfg(unix)]
use crate::env::fork;
use crate::error::{Error, ErrorKind, Result};
use crate::operation::{Answer, Operation};
use crate::options::Options;

use super::{CallOptions, Change, Executor, FeedStart, Info, Pending};
use address::Address;
use caller::{Caller, Kind};
use said::{Call, ChangesPage, Checked};
use transport::{Ask, Transport};

/// A server refuses more in one body; one that takes more still refuses what writes more.
const MAX_REQUEST_BYTES: usize = 16 << 20;
/// How long the server holds a question for changes.
const WAIT: Duration = Duration::from_secs(20);
/// A check reads the whole directory.
const CHECK_PATIENCE: Duration = Duration::from_secs(15 * 60);

/// Runs operations at a server.
#[derive(Debug)]
pub struct Remote {
    address: Address,
    deadline: Duration,
    env: Env,
    /// Which process of a line of forks this handle's thread lives in.
    generation: u64,
    /// Always there, except while it is dropped.
    running: Option<Running>,
    /// What a forked child uses instead, where that thread is not.
    child: OnceLock<Running>,
}

/// A thread with a runtime, and the calls on it.
#[derive(Debug)]
struct Running {
    caller: Arc<Caller>,
    thread: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

impl Running {
    fn start(address: &Address) -> Result<Self> {
        let failed = |error| Error::new(ErrorKind::Unavailable, "the system gave no thread").caused_by(error);
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let caller = Caller::new(Transport::new(address.clone()), runtime.handle().clone());
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("kappa-remote".into()).spawn(move || {
            // A sender that is gone means the same as its sign.
            let _ = runtime.block_on(ended);
            // A name that is being looked up may take long, and is asked by nobody any more.
            runtime.shutdown_background();
        });
        Ok(Self { caller, thread: Mutex::new(Some((end, thread.map_err(failed)?))) })
    }

    fn close(&self) {
        // Locked to the end, so that a second caller comes back when everything is over.
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((end, thread)) = thread.take() else { return };
        self.caller.close();
        // It may have ended already; it runs nothing that panics.
        let _ = end.send(());
        let _ = thread.join();
    }
}

/// Which process of a line of forks this is.
fn generation() -> u64 {
    #[cfg(unix)]
    return fork::generation();
    #[cfg(not(unix))]
    0
}

impl Remote {
    /// Asks the server at `url` how it stands, once.
    ///
    /// # Errors
    /// As [`crate::Kappa::connect_with`].
    pub fn connect(url: &str, token: Option<&str>, options: &Options, env: &Env) -> Result<Self> {
        let address = Address::new(url, token)?;
        let running = Running::start(&address)?;
        let (deadline, env) = (options.deadline, env.clone());
        let remote =
            Self { address, deadline, env, generation: generation(), running: Some(running), child: OnceLock::new() };
        let first = remote.caller()?.call(Ask::get("/v1/info"), Kind::First, deadline).wait()?;
        said::read_info(&first).map_err(|error| {
            Error::invalid("what answers at this URL is no Kappa server").with("url", url).caused_by(error)
        })?;
        Ok(remote)
    }

    fn running(&self) -> Result<&Running> {
        if self.generation == generation() {
            return Ok(self.running.as_ref().expect("it goes with this value"));
        }
        if let Some(child) = self.child.get() {
            return Ok(child);
        }
        let child = Running::start(&self.address)?;
        if let Err(late) = self.child.set(child) {
            // Another thread was faster.
            late.close();
        }
        Ok(self.child.get().expect("just set"))
    }

    fn caller(&self) -> Result<&Arc<Caller>> {
        self.running().map(|running| &running.caller)
    }

    fn ask(&self, ask: Ask, patience: Duration) -> Result<Bytes> {
        self.caller()?.call(ask, Kind::Read, patience).wait()
    }

    /// A key for a write whose caller gave none, so that it can be repeated over a broken connection.
    fn draw_key(&self) -> String {
        let mut chance = [0; 16];
        self.env.entropy.fill(&mut chance);
        HEXLOWER.encode(&chance)
    }

    fn page(&self, ask: Ask) -> Result<ChangesPage> {
        let caller = self.caller()?;
        let page: ChangesPage = said::read(&self.ask(ask, self.deadline)?)?;
        caller.note(page.newest.clone());
        Ok(page)
    }
}

/// The question for changes, held for `wait`.
fn page_ask(pairs: &[(&str, &str)], wait: Duration) -> Ask {
    let mut query = form_urlencoded::Serializer::new(String::from("/v1/changes/page?"));
    query.extend_pairs(pairs).append_pair("wait_ms", &wait.as_millis().to_string());
    Ask::get(query.finish())
}

impl Executor for Remote {
    fn submit(&self, operation: Operation, options: CallOptions) -> Pending<Answer> {
        let caller = match self.caller() {
            Ok(caller) => caller,
            Err(error) => return Pending::ready(Err(error)),
        };
        let patience = options.deadline.unwrap_or(self.deadline);
        let kind = if operation.is_read() { Kind::Read } else { Kind::Write };
        let key = options.idempotency_key.or_else(|| (kind == Kind::Write).then(|| self.draw_key()));
        // What the server is told to wait for room ends before this side gives up, so that its refusal arrives.
        let deadline_ms = u64::try_from(patience.mul_f32(0.75).as_millis()).unwrap_or(u64::MAX);
        let call = Call { operation: &operation, idempotency_key: key.as_deref(), deadline_ms };
        let body = serde_json::to_vec(&call).expect("an operation has a JSON text");
        if body.len() > MAX_REQUEST_BYTES {
            let error = Error::new(ErrorKind::TooLarge, "one operation says more than its limit; split it");
            return Pending::ready(Err(error.with("limit", MAX_REQUEST_BYTES)));
        }
        caller.call(Ask::post("/v1/operations", body), kind, patience).map(|body| said::read(&body))
    }

    fn seek(&self, start: FeedStart) -> Pending<String> {
        let caller = match self.caller() {
            Ok(caller) => caller,
            Err(error) => return Pending::ready(Err(error)),
        };
        let pairs = match &start {
            FeedStart::Now => [("limit", "0"), ("from", "now")],
            FeedStart::Oldest => [("limit", "0"), ("from", "oldest")],
            FeedStart::After(cursor) => [("limit", "0"), ("after", cursor.as_str())],
        };
        let noting = Arc::clone(caller);
        caller.call(page_ask(&pairs, Duration::ZERO), Kind::Read, self.deadline).map(move |body| {
            let page: ChangesPage = said::read(&body)?;
            noting.note(page.newest);
            Ok(page.behind)
        })
    }

    fn changes(&self, cursor: String) -> Pending<(Vec<Change>, String)> {
        let caller = match self.caller() {
            Ok(caller) => caller,
            Err(error) => return Pending::ready(Err(error)),
        };
        caller.wait(page_ask(&[("after", &cursor)], WAIT), WAIT, |caller, body| {
            let page: ChangesPage = said::read(&body)?;
            caller.note(page.newest);
            if page.changes.is_empty() {
                return Ok(Err(page_ask(&[("after", &page.behind)], WAIT)));
            }
            Ok(Ok((page.changes, page.behind)))
        })
    }

    fn changes_now(&self, cursor: &str) -> Result<(Vec<Change>, String)> {
        let page = self.page(page_ask(&[("after", cursor)], Duration::ZERO))?;
        Ok((page.changes, page.behind))
    }

    fn committed(&self) -> Pending<()> {
        let caller = match self.caller() {
            Ok(caller) => caller,
            Err(error) => return Pending::ready(Err(error)),
        };
        // The server has been there already, so what happens from now on lies behind it. Before it was asked anything
        // the caller looks first.
        let Some(mark) = caller.mark() else { return Pending::ready(Ok(())) };
        let committed = caller.wait(page_ask(&[("after", &mark), ("limit", "1")], WAIT), WAIT, |_, body| {
            let page: ChangesPage = said::read(&body)?;
            let next = || page_ask(&[("after", &page.behind), ("limit", "1")], WAIT);
            Ok(if page.changes.is_empty() { Err(next()) } else { Ok(()) })
        });
        Pending::new(async move {
            match committed.await {
                // Whoever looks hears why: the mark may have expired.
                Err(error) if error.kind() == ErrorKind::Expired => Ok(()),
                other => other,
            }
        })
    }

    fn ready(&self) -> Result<()> {
        self.ask(Ask::get("/readyz"), self.deadline).map(drop)
    }

    fn info(&self) -> Result<Info> {
        said::read_info(&self.ask(Ask::get("/v1/info"), self.deadline)?)
    }

    fn check(&self) -> Result<Vec<String>> {
        let body = self.ask(Ask::post("/v1/check", Bytes::new()), CHECK_PATIENCE)?;
        said::read::<Checked>(&body).map(|checked| checked.findings)
    }

    fn instance(&self) -> u64 {
        0
    }

    fn close(&self) -> Result<()> {
        self.running()?.close();
        Ok(())
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        let Some(running) = self.running.take() else { return };
        if self.generation == generation() {
            running.close();
            return;
        }
        // Its thread is another process's: ending it here would take that one's connections away.
        let _ = ManuallyDrop::new(running);
        if let Some(child) = self.child.get() {
            child.close();
        }
    }
}
