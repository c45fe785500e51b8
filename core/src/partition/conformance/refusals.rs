//! Refusals that rest on a write which is still on its way to the disk.

use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Watched, key, start, submit};
use crate::engine::Group;
use crate::engine::memory::MemoryEngine;
use crate::error::{Error, ErrorKind};
use crate::partition::{Halt, Run, Transaction};

/// Adds a key, or refuses because it is there.
fn add(refusal: ErrorKind) -> impl Fn(&mut Transaction<'_>) -> Run<i64> + Send + Sync {
    move |transaction| {
        if transaction.get(b"a")?.is_some() {
            return Err(Halt::Refused(Error::new(refusal, "it is there")));
        }
        transaction.put(key("a"), Bytes::new())?;
        Ok(transaction.version().cast_signed())
    }
}

/// What the second of two who add the same key is answered, where the commit of the first is held back until the second
/// one has been run, and then fails or not.
fn answered_behind_a_held_commit(refusal: ErrorKind, fails: bool) -> ErrorKind {
    let engine = MemoryEngine::default();
    if fails {
        engine.fail_commit(Error::new(ErrorKind::StorageFull, "planted"));
    }
    let (entered, inside) = mpsc::channel();
    let (release, held) = mpsc::channel::<()>();
    let (entered, held) = (Mutex::new(entered), Mutex::new(held));
    let before_commit = Box::new(move |_: &Group| {
        let _ = entered.lock().send(());
        let _ = held.lock().recv_timeout(Duration::from_secs(30));
    });
    let partition = start(Arc::new(Watched { engine, before_commit }));
    let first = submit(&partition, add(refusal)).start();
    inside.recv_timeout(Duration::from_secs(30)).expect("its commit begins");
    let mut second = submit(&partition, add(refusal));
    let mut is_on_its_way = || Pin::new(&mut second).poll(&mut Context::from_waker(Waker::noop())).is_pending();
    while !partition.has_staged() {
        assert!(is_on_its_way(), "{refusal} is answered before it was staged");
        std::thread::yield_now();
    }
    assert!(is_on_its_way(), "{refusal} is answered although the write it rests on is not durable");
    drop(release);
    let failure = first.wait().err().map(|error| error.kind());
    assert_eq!(failure, fails.then_some(ErrorKind::StorageFull));
    let answered = second.wait().expect_err("it is not added twice").kind();
    assert_eq!(submit(&partition, add(refusal)).wait().is_ok(), fails, "the key is there if the first write is");
    answered
}

/// "There is such a document already", said because of a write that is lost a moment later, would keep its caller from
/// ever writing it.
#[test]
fn a_refusal_waits_for_the_write_it_rests_on_and_fails_with_it() {
    for refusal in [ErrorKind::AlreadyExists, ErrorKind::VersionMismatch] {
        assert_eq!(answered_behind_a_held_commit(refusal, false), refusal);
        assert_eq!(answered_behind_a_held_commit(refusal, true), ErrorKind::Unavailable);
    }
}
