//! Two processes on one partition, as on an engine that several of them write to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::Bench;
use crate::engine::memory::MemoryEngine;
use crate::env::Env;
use crate::executor::local::{About, Local};
use crate::options::Options;
use crate::task::handle::Tasks;
use crate::task::json::Json;
use crate::task::model::{NewTask, Outcome, Report, TaskId, Verdict, Work};
use crate::task::operation::TaskOperation;

/// A claim that moves the front past an entry which another process is adding would hide that task for good: one of the two
/// must read what the other one writes, so that its commit fails and it runs again.
#[test]
fn a_claim_conflicts_with_whatever_comes_to_wait_meanwhile() {
    let mut bench = Bench::fast();
    let urgent =
        |priority| TaskOperation::Enqueue(Box::new(NewTask { priority, ..NewTask::new("mail", Json::null()) }));
    bench.add("1");
    bench.add("2");
    let failed = bench.claim(1)[0].lease;
    bench.add("3");
    let claim = Work { queues: vec!["mail".into()], claim: 1, ..Work::default() };
    let (read, _) = bench.touched(&TaskOperation::Work(Box::new(claim)));
    let release = Work { reports: vec![Report { lease: failed, outcome: Outcome::Released }], ..Work::default() };
    for operation in [urgent(5), urgent(0), TaskOperation::Work(Box::new(release))] {
        let (_, written) = bench.touched(&operation);
        assert!(!read.is_disjoint(&written), "{operation:?} goes unnoticed");
    }
}

/// Q1 where checks alone keep writers apart: two that claim at once must not get one task, and no entry may be added where
/// neither looks any more.
#[test]
fn two_writers_neither_share_a_task_nor_lose_one() {
    const TASKS: usize = 300;
    let engine = Arc::new(MemoryEngine::shared());
    let open = |instance| {
        let about = About { database: [7; 16], instance, view: "memory", recovery: Vec::new() };
        let engine = Arc::<MemoryEngine>::clone(&engine);
        Tasks::new(Arc::new(Local::start(engine, about, None, &Options::default(), &Env::default()).unwrap()))
    };
    let processes = [open(1), open(2)];
    let completed = Mutex::new(BTreeMap::<TaskId, u32>::new());
    std::thread::scope(|scope| {
        for tasks in &processes {
            scope.spawn(|| {
                for n in 0..TASKS {
                    // Now before those that wait, now behind them.
                    let priority = if n % 3 == 0 { 5 } else { 0 };
                    let new = NewTask { priority, ..NewTask::new("q", Json::null()) };
                    tasks.enqueue(new).wait().unwrap();
                }
            });
            scope.spawn(|| {
                let mut reports = Vec::new();
                while completed.lock().len() < 2 * TASKS {
                    let committed = tasks.committed();
                    let sent: Vec<Report> = std::mem::take(&mut reports);
                    let work = Work { queues: vec!["q".into()], claim: 3, reports: sent.clone(), ..Work::default() };
                    let worked = tasks.work(work).wait().unwrap();
                    for (report, verdict) in sent.iter().zip(worked.verdicts) {
                        assert_ne!(verdict, Verdict::Stale);
                        *completed.lock().entry(report.lease.task).or_default() += 1;
                    }
                    let outcome = Outcome::Completed { result: Json::null() };
                    let ended =
                        worked.claimed.iter().map(|claimed| Report { lease: claimed.lease, outcome: outcome.clone() });
                    reports.extend(ended);
                    if reports.is_empty() && sent.is_empty() {
                        // The other process commits by itself; a look now and then finds that too.
                        drop(committed.wait_for(Duration::from_millis(1)));
                    }
                }
            });
        }
    });
    let completed = completed.into_inner();
    assert_eq!(completed.len(), 2 * TASKS);
    assert!(completed.values().all(|&times| times == 1));
}
