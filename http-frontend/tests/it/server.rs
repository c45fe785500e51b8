//! A server of its own for each test, on a free port over a directory that goes with it.

use std::net::SocketAddr;
use std::thread::JoinHandle;

use kappa_core::env::Env;
use kappa_core::{Kappa, Options};
use kappa_server::{ServerOptions, serve};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::client::Client;

/// A running server.
pub struct Server {
    pub client: Client,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
    directory: TempDir,
}

impl Server {
    pub fn start() -> Self {
        Self::with(ServerOptions::default())
    }

    pub fn with(options: ServerOptions) -> Self {
        Self::over(tempfile::tempdir().unwrap(), options)
    }

    fn over(directory: TempDir, options: ServerOptions) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), directory, options)
    }

    fn at(address: SocketAddr, directory: TempDir, options: ServerOptions) -> Self {
        let (address_to, address_from) = std::sync::mpsc::channel();
        let (stop, mut stopped) = watch::channel(false);
        let path = directory.path().to_owned();
        let thread = std::thread::spawn(move || {
            let kappa = Kappa::open_with(path, &Options::default(), &Env::default()).unwrap();
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind(address).await.unwrap();
                address_to.send(listener.local_addr().unwrap()).unwrap();
                let stop = async { drop(stopped.wait_for(|stop| *stop).await) };
                serve(kappa.clone(), options, listener, stop).await.unwrap();
            });
            kappa.close().unwrap();
        });
        let address: SocketAddr = address_from.recv().unwrap();
        Self { client: Client(address), stop, thread: Some(thread), directory }
    }

    /// Asks for the stop without waiting for it.
    pub fn ask_to_stop(&self) {
        self.stop.send_replace(true);
    }

    /// Stops and opens the same directory again.
    pub fn restart(mut self) -> Self {
        self.end();
        let directory = std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap());
        Self::over(directory, ServerOptions::default())
    }

    /// Stops, and serves the same directory at the same port again.
    pub fn restart_there(mut self) -> Self {
        self.end();
        let directory = std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap());
        Self::at(self.client.0, directory, ServerOptions::default())
    }

    /// Stops and waits until everything is closed.
    pub fn end(&mut self) {
        self.ask_to_stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ask_to_stop();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            // A second panic while a test already fails would hide the first.
            assert!(ended.is_ok() || std::thread::panicking(), "the server panicked");
        }
    }
}
