//! The pause before a group, for callers who come back.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;

use super::{Closures, LIMITS, Watched, hold, put, submit};
use crate::engine::Group;
use crate::engine::memory::MemoryEngine;
use crate::env::Env;
use crate::error::ErrorKind;
use crate::partition::Partition;
use crate::partition::committer::gathering::Patience;

const CALLERS: usize = 4;
const LONG: Duration = Duration::from_secs(30);

/// A partition that waits for callers whatever a commit takes.
fn patient(patience: Patience, before_commit: impl Fn(&Group) + Send + Sync + 'static) -> Partition<Closures> {
    let engine = Watched { engine: MemoryEngine::default(), before_commit: Box::new(before_commit) };
    Partition::start_with(Arc::new(engine), Closures, &Env::default(), LIMITS, patience).expect("threads are given")
}

/// Callers who call again at once would be split into two halves, each of which waits for the syncs of both.
#[test]
fn callers_who_come_back_share_each_group() {
    let (begun, groups) = mpsc::channel();
    let begun = Mutex::new(begun);
    let patience = |_, callers| (callers > 1).then_some(2 * LONG);
    let partition = patient(patience, move |group: &Group| {
        let _ = begun.lock().send(group.records.len());
    });
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                let failure = std::iter::repeat_with(|| submit(&partition, put("a", "b")).wait()).find_map(Result::err);
                assert_eq!(failure.expect("it ends").kind(), ErrorKind::Closed);
            });
        }
        let (mut whole, mut seen) = (0, 0);
        while whole < 20 && seen < 10_000 {
            // Without one the callers are waited for although they cannot come.
            let Ok(records) = groups.recv_timeout(LONG) else { break };
            whole = if records == CALLERS { whole + 1 } else { 0 };
            seen += 1;
        }
        partition.close(LONG).expect("it closes");
        assert!(whole == 20, "groups={seen}, and never 20 of all callers in a row");
    });
}

/// The answers leave before the pause, and a close ends it: neither may wait for callers who do not come.
#[test]
fn nobody_waits_for_callers_who_stay_away() {
    // Longer than the close may take. The answers may take longer: who is held back may be waited for before they are committed.
    let partition = patient(|_, callers| (callers > 1).then_some(LONG / 2), |_| {});
    let (release, held) = hold(&partition);
    let pending: Vec<_> = (0..CALLERS).map(|_| submit(&partition, put("a", "b")).start()).collect();
    release.send(()).expect("it is held");
    for pending in pending.into_iter().chain([held]) {
        pending.wait_for(LONG).expect("answered in time").expect("written");
    }
    let (closed, is_closed) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            partition.close(LONG).expect("it closes");
            let _ = closed.send(());
        });
        is_closed.recv_timeout(LONG / 4).expect("the close waits for nobody");
    });
}
