//! The accept loop: bounded connections, errors that pass, and an end within its deadline.

use std::io::{Error, ErrorKind, Result};
use std::pin::pin;
use std::time::Duration;

use kappa_core::Kappa;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::app::App;
use crate::options::ServerOptions;
use crate::{connection, router, workers};

/// How long the loop waits when the system has no room for a connection, such as no file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a connection over the limit hears.
const REFUSAL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Serves `kappa` on `listener` until `stop` is ready and the requests in flight have ended, or their time has.
///
/// The database stays open; close it when this returns.
///
/// # Errors
/// When the listener has no address, or the options allow tasks that cannot be set up.
pub async fn serve(
    kappa: Kappa,
    options: ServerOptions,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let address = listener.local_addr()?;
    let (stopping, stopped) = watch::channel(false);
    let (most, patience) = (options.max_connections, options.stop_timeout);
    let (kinds, running) = workers::begin(&kappa, &workers::own_queues(), &options).map_err(Error::other)?;
    let app = App::new(kappa, options, kinds, address, stopped);
    let router = router::router(app.clone());
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if connections.len() < most => {
                    connections.spawn(connection::serve(stream, router.clone(), app.clone()));
                }
                Ok((stream, _)) => refuse(&stream),
                Err(error) if is_the_clients(error.kind()) => {}
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted at the moment");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    stopping.send_replace(true);
    let working = tokio::spawn(workers::stop(running));
    let ending = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(patience, ending).await.is_err() {
        tracing::warn!(connections = connections.len(), "requests in flight did not end in time");
        connections.shutdown().await;
    }
    match working.await {
        Ok(0) | Err(_) => {}
        Ok(tasks) => tracing::warn!(tasks, "tasks that did not end in time were handed back"),
    }
    Ok(())
}

/// Whether the client left before it was accepted.
fn is_the_clients(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused)
}

fn refuse(stream: &TcpStream) {
    // A new connection has room for so few bytes; where it has not, closing says enough.
    let _ = stream.try_write(REFUSAL);
}
