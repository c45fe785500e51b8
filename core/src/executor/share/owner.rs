//! The process that owns the directory: the database itself, and the socket at which others ask it.

use std::collections::HashMap;
use std::fmt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::env::lock::DirectoryLock;
use crate::env::{Clock, fork, socket};
use crate::error::{Error, ErrorKind, Result};
use crate::executor::Executor;
use crate::executor::local::Local;

use super::Setting;
use super::connection::Connection;

/// Each takes two threads.
const MAX_CLIENTS: usize = 1_024;
/// How long a closing owner waits for calls that were taken in; then their callers repeat them elsewhere. One client
/// that is stopped must not keep the directory from all others.
const DRAIN_MS: u64 = 1_000;
/// Between two attempts to take a client while the system refuses.
const PAUSE: Duration = Duration::from_millis(100);
/// Enough for any read: values lie on the heap. Who sends answers has the system's usual stack, because it also does the
/// work of the committer.
const STACK_BYTES: usize = 1 << 20;

/// An open database that answers other processes too, until it is closed.
pub struct Owner {
    pub local: Arc<Local>,
    server: Mutex<Option<Server>>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner").field("local", &self.local).finish_non_exhaustive()
    }
}

impl Owner {
    /// Opens the database in `directory`, whose lock is held, and answers at its socket.
    ///
    /// # Errors
    /// As opening the database alone. Without a socket it opens all the same: nobody else can share it then.
    pub fn open(setting: &Setting, lock: DirectoryLock) -> Result<Self> {
        let Setting { directory, instance, options, env } = setting;
        // Before the engine: clients that come while it recovers wait at the socket instead of asking again and again.
        let bound = socket::bind(directory)
            .inspect_err(|error| tracing::warn!(%error, "other processes cannot share the data directory"))
            .ok();
        fork::engine_started();
        let lock = Arc::new(lock);
        let local = match Local::open(directory, &lock, *instance, options, env) {
            Ok(local) => Arc::new(local),
            Err(error) => {
                // While the lock is held: behind it the next owner's socket may lie there.
                drop(bound);
                return Err(error);
            }
        };
        let server = bound.map(|bound| Server::start(bound, Arc::clone(&local)));
        Ok(Self { local, server: Mutex::new(server.transpose()?), clock: Arc::clone(&env.clock) })
    }

    /// Answers what was taken in, lets the clients go, then closes the database and gives up the directory.
    ///
    /// # Errors
    /// As closing the database alone.
    pub fn close(&self) -> Result<()> {
        // Locked to the end, so that a second caller comes back when the directory is free, not before.
        let mut server = self.server.lock();
        if let Some(server) = server.take() {
            server.close(&*self.clock);
        }
        self.local.close()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(%error, "the database did not close cleanly; the next open recovers it");
        }
    }
}

/// The thread that takes connections.
struct Server {
    clients: Arc<Clients>,
    /// Closed to wake the thread.
    stop: UnixStream,
    thread: std::thread::JoinHandle<()>,
}

#[derive(Default)]
struct Clients {
    connected: Mutex<HashMap<u64, Arc<Connection>>>,
    left: Condvar,
}

impl Server {
    fn start(bound: socket::Bound, local: Arc<Local>) -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::Unavailable, "the system gave no thread or no socket").caused_by(error)
        };
        let (stop, stopped) = UnixStream::pair().map_err(failed)?;
        let clients = Arc::<Clients>::default();
        let taken = Arc::clone(&clients);
        let thread = std::thread::Builder::new().name("kappa-share".into()).spawn(move || {
            // A child that keeps it would keep clients waiting at a socket that nobody answers.
            let guard = fork::Guard::new(&bound.listener);
            accept_all(&bound.listener, &stopped, &local, &taken);
            drop(guard);
            drop(bound);
        });
        Ok(Self { clients, stop, thread: thread.map_err(failed)? })
    }

    fn close(self, clock: &dyn Clock) {
        let Self { clients, stop, thread } = self;
        let _ = stop.shutdown(std::net::Shutdown::Both);
        if thread.join().is_err() {
            tracing::error!("the thread that takes clients panicked");
        }
        let mut connected = clients.connected.lock();
        for connection in connected.values() {
            connection.stop_reading();
        }
        // Each leaves by itself once it has answered.
        let until = clock.boot_ms() + DRAIN_MS;
        while !connected.is_empty() && clock.boot_ms() < until {
            clients.left.wait_for(&mut connected, PAUSE);
        }
        for connection in connected.values() {
            connection.end();
        }
    }
}

fn accept_all(listener: &UnixListener, stopped: &UnixStream, local: &Arc<Local>, clients: &Arc<Clients>) {
    for number in 0.. {
        let stream = loop {
            match socket::accept(listener) {
                Ok(Some(stream)) => break stream,
                Ok(None) if socket::wait_readable(listener, stopped, None).is_ok() => {}
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, "a client could not be taken");
                    // As long as descriptors are short the client stays at the door.
                    let _ = socket::wait_readable(stopped, stopped, Some(PAUSE));
                }
            }
            if stopping(stopped) {
                return;
            }
        };
        if clients.connected.lock().len() >= MAX_CLIENTS {
            tracing::warn!(limit = MAX_CLIENTS, "a client was turned away: there are too many");
            continue;
        }
        if let Err(error) = welcome(stream, number, local, clients) {
            tracing::warn!(%error, "a client could not be taken");
        }
    }
}

fn stopping(stopped: &UnixStream) -> bool {
    // Nothing is ever sent; it becomes readable by its end alone.
    stopped.set_nonblocking(true).is_ok() && matches!(std::io::Read::read(&mut &*stopped, &mut [0]), Ok(0))
}

fn welcome(stream: UnixStream, number: u64, local: &Arc<Local>, clients: &Arc<Clients>) -> std::io::Result<()> {
    let connection = Arc::new(Connection::new(stream, Arc::clone(local))?);
    clients.connected.lock().insert(number, Arc::clone(&connection));
    let thread = |name: &str| std::thread::Builder::new().name(name.into());
    let reader = Arc::clone(&connection);
    let registered = Arc::clone(clients);
    let leave = move || {
        registered.connected.lock().remove(&number);
        registered.left.notify_all();
    };
    let writer = Arc::clone(&connection);
    let spawned = thread("kappa-answers").spawn(move || {
        writer.write();
        leave();
    });
    let spawned = spawned.and_then(|_| thread("kappa-calls").stack_size(STACK_BYTES).spawn(move || reader.read()));
    if spawned.is_err() {
        // The writer takes it off the list where it was started.
        connection.end();
        clients.connected.lock().remove(&number);
    }
    spawned.map(drop)
}
