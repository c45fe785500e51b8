//! The whole database: callers on several threads, and the power cut at any moment.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use serde_json::json;

use crate::engine::local::crash_tests::disk::{self, Place};
use crate::env::files::simulated::{Crash, SimulatedFiles};
use crate::kappa::Kappa;
use crate::operation::{Answer, Definition, Entry, IndexDefinition};
use crate::options::{Options, ViewKind};
use crate::task::model::{NewTask, TaskId};
use crate::task::operation::TaskAnswer;

use super::oracle::{Verdict, told};
use super::{processors, soak};

const SEED: u64 = 1_812;
const CALLERS: usize = 3;
const DOCUMENTS_EACH: usize = 60;
const COLOURS: usize = 3;

/// One document, with the numbers of disk operations that were done when something was known of it.
#[derive(Debug)]
struct Life {
    entry: Entry,
    /// The task that was enqueued in one batch with it. Such a document is not removed.
    task: Option<TaskId>,
    /// Its creation was acknowledged.
    created: usize,
    /// Its removal had not begun.
    before_removal: usize,
    /// Its removal was acknowledged.
    removed: usize,
}

fn open(files: &SimulatedFiles, root: &Path) -> crate::error::Result<Kappa> {
    let options = Options { view: ViewKind::Memory, segment_bytes: 4 << 20, ..Options::default() };
    // Two levels that are not there yet: their names have to survive as well.
    Kappa::open_with(root.join("new/data"), &options, &Place::named(files.clone(), root).env())
}

/// Creates a document, every fourth one in a batch with a task.
fn create(kappa: &Kappa, caller: usize, number: usize) -> crate::error::Result<(Entry, Option<TaskId>)> {
    let document = json!({ "colour": number % COLOURS, "caller": caller, "text": "x".repeat(number * 40) });
    if number % 4 != 1 {
        return Ok((kappa.collection("things")?.create(document).wait()?, None));
    }
    let task = NewTask::new("work", json!(number));
    let answers = kappa.batch().create("things", document).enqueue(task).commit().wait()?;
    match &answers[..] {
        [Answer::Written(entry), Answer::Task(TaskAnswer::Enqueued(added))] => Ok((entry.clone(), Some(added.task.id))),
        other => panic!("not what was asked for: {other:?}"),
    }
}

/// Creates and removes documents from several threads, as callers do.
fn live(files: &SimulatedFiles, root: &Path) -> Verdict<(usize, Vec<Life>)> {
    let kappa = open(files, root).map_err(|error| told(&error))?;
    let things = kappa.collection("things").map_err(|error| told(&error))?;
    let definition = Definition { indexes: vec![IndexDefinition::by("colour")], ..Definition::default() };
    let info = things.declare(definition).wait().map_err(|error| told(&error))?;
    assert!(info.building.is_empty(), "an empty collection has nothing to build");
    let declared = files.operations();
    let lives = Mutex::new(Vec::new());
    let call = |caller: usize| -> crate::error::Result<()> {
        for number in 0..DOCUMENTS_EACH {
            let (entry, task) = create(&kappa, caller, number)?;
            let created = files.operations();
            let mut life = Life { entry, task, created, before_removal: usize::MAX, removed: usize::MAX };
            if number % 4 == 0 {
                life.before_removal = files.operations();
                assert!(things.delete(&life.entry.id).wait()?, "it was there");
                life.removed = files.operations();
            }
            lives.lock().push(life);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS).map(|caller| scope.spawn(move || call(caller))).collect();
        callers.into_iter().try_for_each(|caller| caller.join().expect("a caller panicked"))
    })
    .map_err(|error| told(&error))?;
    Ok((declared, lives.into_inner()))
}

/// Opens what the crash after operation `at` left.
fn examine(files: &SimulatedFiles, root: &Path, at: usize, declared: usize, lives: &[Life]) -> Verdict<()> {
    let told = |error: crate::error::Error| told(&error);
    let kappa = open(files, root).map_err(told)?;
    let things = kappa.collection("things").map_err(told)?;
    let listed: Vec<Entry> = things.list().iter().collect::<Result<_, _>>().map_err(told)?;
    for life in lives {
        let found = things.entry(&life.entry.id).wait().map_err(told)?;
        let in_list = listed.iter().find(|entry| entry.id == life.entry.id);
        if found.as_ref() != in_list {
            return Err(format!("read and list differ: {life:?}"));
        }
        match found {
            Some(found) if found != life.entry => return Err(format!("not what was stored: {found:?} {life:?}")),
            Some(_) if at >= life.removed => return Err(format!("back again: {life:?}")),
            None if at >= life.created && at <= life.before_removal => return Err(format!("lost: {life:?}")),
            _ => {}
        }
    }
    let count = things.count().wait().map_err(told)?;
    if count != listed.len() as u64 {
        return Err(format!("half an operation: count={count} listed={}", listed.len()));
    }
    examine_tasks(&kappa, lives)?;
    if at < declared {
        return Ok(());
    }
    let mut indexed = 0;
    for colour in 0..COLOURS {
        let entries: Vec<Entry> =
            things.list().by("colour").equal(colour).iter().collect::<Result<_, _>>().map_err(told)?;
        if entries.iter().any(|entry| !listed.contains(entry)) {
            return Err(format!("an index entry without its document: colour={colour}"));
        }
        indexed += entries.len();
    }
    if indexed == listed.len() { Ok(()) } else { Err(format!("indexed={indexed} listed={}", listed.len())) }
}

/// Each task is there exactly where the document of its batch is, and its queue counts it.
fn examine_tasks(kappa: &Kappa, lives: &[Life]) -> Verdict<()> {
    let told = |error: crate::error::Error| told(&error);
    let (things, tasks) = (kappa.collection("things").map_err(told)?, kappa.tasks());
    let mut there = 0;
    for life in lives {
        let Some(id) = life.task else { continue };
        let task = tasks.get(id).wait().map_err(told)?.is_some();
        let document = things.get(&life.entry.id).wait().map_err(told)?.is_some();
        if task != document {
            return Err(format!("half a batch: task={task} document={document} {life:?}"));
        }
        there += u64::from(task);
    }
    let waiting: u64 = tasks.queues().wait().map_err(told)?.iter().map(|queue| queue.waiting).sum();
    if waiting == there { Ok(()) } else { Err(format!("half an enqueue: waiting={waiting} there={there}")) }
}

/// What the engine keeps must be what callers were told: documents, their index entries and their count, and the tasks
/// of their batches, with all threads at work, from the first name of the data directory on.
#[test]
fn a_crash_of_the_database_keeps_what_callers_were_told() {
    let scratch = disk::scratch();
    let (files, home) = (disk::new_files(SEED), scratch.path().join("first"));
    fs::create_dir_all(home.join("new/data")).unwrap();
    let (declared, lives) = live(&files, &home).unwrap();
    let (next, seen) = (AtomicUsize::new(2), AtomicUsize::new(0));
    let work = |number: usize| {
        let root = scratch.path().join(number.to_string());
        fs::create_dir_all(root.join("new/data")).unwrap();
        let mut replay = files.replay();
        loop {
            let wanted = next.fetch_add(1, Ordering::Relaxed);
            while replay.done() < wanted {
                if !replay.advance() {
                    return;
                }
            }
            let torn = (0..soak()).map(|number| Crash::Torn(SEED * 1_000 + (wanted * 10 + number) as u64));
            for crash in [Crash::Lost].into_iter().chain(torn) {
                let verdict = examine(&replay.crash(crash), &root, wanted, declared, &lives);
                verdict.unwrap_or_else(|broken| panic!("seed={SEED} operation={wanted} {crash:?}: {broken}"));
                seen.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for number in 0..processors() {
            let work = &work;
            scope.spawn(move || work(number));
        }
    });
    let seen = seen.into_inner();
    println!("seed={SEED} disk_operations={} documents={} states={seen}", files.operations(), lives.len());
    assert!(seen >= 100);
}
