//! What the owner does with one call of a client.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, ErrorKind, Result};
use crate::executor::local::Local;
use crate::executor::rules::Call;
use crate::executor::{Executor, Pending};

use super::protocol::Request;
use super::wire::{put_answer, put_bytes, put_changes, put_info, put_texts};

/// Each reads the whole directory.
const MAX_CHECKS: usize = 2;

/// The body of an answer, now or later.
pub enum Served {
    Now(Result<Vec<u8>>),
    Later(Pending<Vec<u8>>),
}

/// Runs `request`. Reads are answered on this thread.
pub fn serve(local: &Arc<Local>, request: Request) -> Served {
    match request {
        Request::Read(operation) => {
            Served::Now(local.read(operation).map(|answer| body(|out| put_answer(out, &answer))))
        }
        Request::Write { session, wait, idempotency_key, operation } => {
            let call = Call { operation, idempotency_key, session: Some(session) };
            Served::Later(local.write(call, Some(wait)).map(|answer| Ok(body(|out| put_answer(out, &answer)))))
        }
        Request::Seek(start) => {
            Served::Later(local.seek(start).map(|cursor| Ok(body(|out| put_bytes(out, cursor.as_bytes())))))
        }
        Request::Changes(cursor) => {
            let changes = local.changes(cursor);
            Served::Later(changes.map(|(changes, behind)| Ok(body(|out| put_changes(out, &changes, &behind)))))
        }
        Request::ChangesNow(cursor) => {
            let changes = local.changes_now(&cursor);
            Served::Now(changes.map(|(changes, behind)| body(|out| put_changes(out, &changes, &behind))))
        }
        Request::Committed => Served::Later(local.committed().map(|()| Ok(Vec::new()))),
        Request::Ready => Served::Now(local.ready().map(|()| Vec::new())),
        Request::Info => Served::Now(local.info().map(|info| body(|out| put_info(out, &info)))),
        Request::Check => check(local),
        Request::Cancel => Served::Now(Ok(Vec::new())),
    }
}

fn body(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out);
    out
}

/// On a thread of its own, because it takes as long as reading the directory does.
fn check(local: &Arc<Local>) -> Served {
    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    struct Running;
    impl Drop for Running {
        fn drop(&mut self) {
            RUNNING.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let running = Running;
    if RUNNING.fetch_add(1, Ordering::SeqCst) >= MAX_CHECKS {
        return Served::Now(Err(Error::new(ErrorKind::Overloaded, "the directory is being checked already")));
    }
    let (answer, receiver) = oneshot::channel();
    let local = Arc::clone(local);
    let thread = std::thread::Builder::new().name("kappa-check".into()).spawn(move || {
        let _running = running;
        // The client may have left.
        let _ = answer.send(local.check().map(|texts| body(|out| put_texts(out, &texts))));
    });
    match thread {
        Ok(_) => Served::Later(Pending::new(async move {
            receiver.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "the check ended without an answer")))
        })),
        Err(error) => {
            let failed = Error::new(ErrorKind::Unavailable, "the system gave no thread");
            Served::Now(Err(failed.caused_by(error)))
        }
    }
}
