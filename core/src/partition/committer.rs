//! The committer: runs operations in order, and makes them durable in groups.
//!
//! Where this process alone writes, the work has two stages that run side by side: one thread runs operations
//! over the writes that are still on their way, another commits what has been run. While one group is being
//! synced the next one grows. Two threads take whichever stage is free, and a caller who blocks on an idle
//! partition does both by itself: waking a thread costs as much as a good part of a sync. Callers who come back at
//! once are waited for a moment before the next group ([`gathering`]). Where other processes write too, one thread
//! runs a group, commits it, and runs it again when a check failed.

pub mod gathering;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::engine::{Committed, Group, Record, Sequence, Write};
use crate::error::{Error, ErrorKind, Result};

use super::intake::{Completion, Job};
use super::layer::add;
use super::layers::Layers;
use super::packing::pack;
use super::reply::give_all;
use super::source::{GroupReads, LayeredReads};
use super::transaction::Drawn;
use super::{Domain, Halt, Shared, Transaction, run_caught};

use gathering::{Habit, Patience};

/// Operations that are run over one snapshot before their results are handed on.
const MAX_BATCH: usize = 256;
/// A group that reached this many bytes takes nothing more.
const MAX_GROUP_BYTES: usize = 1 << 20;
/// A group that lost this many races in a row answers `Overloaded`.
const MAX_CONFLICTS: usize = 100;
/// One for each stage.
const THREADS: [&str; 2] = ["kappa-committer-0", "kappa-committer-1"];

/// Starts the threads of a partition.
pub fn start<D: Domain>(shared: &Arc<Shared<D>>) -> Result<Vec<JoinHandle<()>>> {
    let mut threads = vec![spawn("kappa-deadlines", shared, |shared| shared.intake.look_after_deadlines())?];
    if shared.engine.exclusive() {
        for name in THREADS {
            threads.push(spawn(name, shared, |shared| work(&shared))?);
        }
    } else {
        threads.push(spawn(THREADS[0], shared, |shared| run_and_commit(&shared))?);
    }
    Ok(threads)
}

fn spawn<D: Domain>(
    name: &str,
    shared: &Arc<Shared<D>>,
    work: impl FnOnce(Arc<Shared<D>>) + Send + 'static,
) -> Result<JoinHandle<()>> {
    let shared = Arc::clone(shared);
    std::thread::Builder::new()
        .name(name.into())
        .spawn(move || work(shared))
        .map_err(|error| Error::new(ErrorKind::Unavailable, "the system gave no thread").caused_by(error))
}

/// What the two stages share, where this process alone writes.
pub struct Stages<D: Domain> {
    /// Held by whoever runs operations.
    ahead: Mutex<Ahead<D>>,
    staged: Mutex<Staged<D>>,
    /// A group was taken or has gathered, its commit has ended, or nobody comes any more.
    moved: Condvar,
    patience: Patience,
}

/// What has been run and waits to be committed.
struct Staged<D: Domain> {
    first: Sequence,
    records: Vec<Record>,
    completions: Vec<Completion<D>>,
    bytes: usize,
    /// Somebody commits a group, and goes on until none is staged.
    committing: bool,
    /// Who commits waits until there are so many completions; 0 while it does not.
    awaited: usize,
    /// Nobody comes back any more.
    closing: bool,
    habit: Habit,
    /// Moves whenever staged work was thrown away, so that results which rest on it are not staged.
    generation: u64,
    /// The committer panicked.
    fallen: bool,
}

impl<D: Domain> Staged<D> {
    fn is_gathered(&self) -> bool {
        self.completions.len() >= self.awaited || self.bytes >= MAX_GROUP_BYTES
    }
}

impl<D: Domain> Stages<D> {
    /// The stages behind the operation `newest`.
    pub fn new(newest: Sequence, patience: Patience) -> Self {
        let staged = Staged {
            first: 0,
            records: Vec::new(),
            completions: Vec::new(),
            bytes: 0,
            committing: false,
            awaited: 0,
            closing: false,
            habit: Habit::default(),
            generation: 0,
            fallen: false,
        };
        Self { ahead: Mutex::new(Ahead::new(newest)), staged: Mutex::new(staged), moved: Condvar::new(), patience }
    }

    /// No group waits for anybody from here on.
    pub fn close(&self) {
        self.staged.lock().closing = true;
        self.moved.notify_all();
    }

    #[cfg(test)]
    /// Whether something was run and is not being committed yet.
    pub fn has_staged(&self) -> bool {
        !self.staged.lock().completions.is_empty()
    }

    /// Whether a group is forming behind the one that is being committed.
    fn has_records(&self) -> bool {
        !self.staged.lock().records.is_empty()
    }

    fn is_idle(&self) -> bool {
        let staged = self.staged.lock();
        !staged.committing && staged.completions.is_empty() && !staged.fallen
    }
}

/// The results of one batch of operations.
struct Batch<D: Domain> {
    first: Sequence,
    records: Vec<Record>,
    /// One of each operation that was run, from the first on.
    results: Vec<Result<D::Answer>>,
    bytes: usize,
}

/// What whoever runs operations goes on from.
struct Ahead<D: Domain> {
    /// Writes that are run but not durable.
    layers: Layers,
    next: Sequence,
    generation: u64,
    /// Empty between two runs. Room for a whole batch is worth keeping: the allocator tidies up whenever it is asked
    /// for so much.
    jobs: Vec<Job<D>>,
    /// As for `jobs`.
    results: Vec<Result<D::Answer>>,
}

impl<D: Domain> Ahead<D> {
    fn new(newest: Sequence) -> Self {
        Self { layers: Layers::default(), next: newest + 1, generation: 0, jobs: Vec::new(), results: Vec::new() }
    }

    /// Starts again from what is durable, after staged work was thrown away.
    fn restart(&mut self, newest: Sequence, generation: u64) {
        (self.layers, self.next, self.generation) = (Layers::default(), newest + 1, generation);
    }
}

/// One of the two threads: runs what arrives and commits what is staged, each unless the other does.
fn work<D: Domain>(shared: &Shared<D>) {
    let _fallen = Fallen(shared);
    while let Some(answers) = shared.intake.wait_for_work() {
        complete(shared, answers);
        let ahead = shared.stages.ahead.lock();
        run_arrived(shared, ahead);
        commit_staged(shared, usize::MAX);
    }
}

/// Runs and commits what has arrived on the thread of a caller who would only wait, where the partition is idle.
/// Whether it was: otherwise the caller's job may still be in the queue. A busy partition is left to its threads,
/// because a batch that is run while a group is being synced costs less than many small ones.
///
/// A panic is reported as one of the committer's threads is, and does not reach the caller.
pub fn help<D: Domain>(shared: &Shared<D>) -> bool {
    if !shared.engine.exclusive() {
        return false;
    }
    let helped = catch_unwind(AssertUnwindSafe(|| {
        let Some(ahead) = shared.stages.ahead.try_lock() else { return false };
        if !shared.stages.is_idle() {
            return false;
        }
        let _fallen = Fallen(shared);
        let all = run_arrived(shared, ahead);
        // Only the caller's own group: the next one is for the threads.
        commit_staged(shared, 1);
        all
    }));
    helped.unwrap_or(false)
}

/// Commits what is still staged and waits until nobody runs or commits any more, also no caller: one who commits a
/// single group leaves the next to the threads, which have ended when this is called.
pub fn finish<D: Domain>(shared: &Shared<D>) {
    let Stages { ahead, staged: place, moved, .. } = &shared.stages;
    let _nobody_runs = ahead.lock();
    let mut staged = place.lock();
    while !staged.fallen && (staged.committing || !staged.completions.is_empty()) {
        if staged.committing {
            moved.wait(&mut staged);
        } else {
            drop(staged);
            commit_staged(shared, 1);
            staged = place.lock();
        }
    }
}

/// Runs what has arrived and stages the results; whether that was everything.
fn run_arrived<D: Domain>(shared: &Shared<D>, mut ahead: MutexGuard<'_, Ahead<D>>) -> bool {
    // Taken under the lock of the stage, so that operations run in the order in which they came.
    let mut jobs = std::mem::take(&mut ahead.jobs);
    shared.intake.take(&mut jobs, MAX_BATCH);
    let all = jobs.len() < MAX_BATCH;
    while !jobs.is_empty() {
        run_and_stage(shared, &mut ahead, &mut jobs);
    }
    ahead.jobs = jobs;
    all
}

/// Runs `jobs` and hands their results on. Leaves those that did not fit into a group, and all of them when the
/// ground they were run on is gone.
fn run_and_stage<D: Domain>(shared: &Shared<D>, ahead: &mut Ahead<D>, jobs: &mut Vec<Job<D>>) {
    let snapshot = match shared.engine.snapshot() {
        Ok(snapshot) => snapshot,
        Err(error) => {
            complete(shared, jobs.drain(..).map(|job| job.complete(Err(error.clone()))).collect());
            return;
        }
    };
    ahead.layers.forget(snapshot.sequence());
    if !shared.stages.has_records() {
        ahead.layers.begin();
    }
    let mut reads = GroupReads::new(snapshot, true, false);
    let results = std::mem::take(&mut ahead.results);
    let mut batch = run_batch(shared, &mut ahead.layers, &mut reads, ahead.next, jobs, results);
    drop(reads);

    let mut staged = wait_for_group(shared, ahead.generation);
    if staged.fallen {
        jobs.clear();
        return;
    }
    if staged.generation != ahead.generation {
        ahead.restart(shared.engine.newest().0, staged.generation);
        return;
    }
    ahead.next += batch.records.len() as Sequence;
    if staged.records.is_empty() {
        staged.first = batch.first;
        staged.records = batch.records;
    } else {
        staged.records.extend(batch.records);
    }
    staged.bytes += batch.bytes;
    let run = jobs.drain(..batch.results.len()).zip(batch.results.drain(..));
    staged.completions.extend(run.map(|(job, result)| job.complete(result)));
    if staged.awaited > 0 && staged.is_gathered() {
        shared.stages.moved.notify_all();
    }
    drop(staged);
    ahead.results = batch.results;
}

/// Waits while the staged group is full; commits it where nobody else does.
fn wait_for_group<D: Domain>(shared: &Shared<D>, generation: u64) -> MutexGuard<'_, Staged<D>> {
    let Stages { staged: place, moved, .. } = &shared.stages;
    let mut staged = place.lock();
    while staged.bytes >= MAX_GROUP_BYTES && staged.generation == generation && !staged.fallen {
        if staged.committing {
            moved.wait(&mut staged);
        } else {
            drop(staged);
            commit_staged(shared, 1);
            staged = place.lock();
        }
    }
    staged
}

/// Runs operations one after another over `layer`; each sees the ones before it. Ends before the first one
/// that would start behind a full group: a small operation can write as much as a large one.
fn run_batch<D: Domain>(
    shared: &Shared<D>,
    layers: &mut Layers,
    reads: &mut GroupReads,
    first: Sequence,
    jobs: &[Job<D>],
    results: Vec<Result<D::Answer>>,
) -> Batch<D> {
    let mut batch = Batch { first, records: Vec::with_capacity(jobs.len()), results, bytes: 0 };
    let exclusive = shared.engine.exclusive();
    for job in jobs {
        if batch.bytes >= MAX_GROUP_BYTES {
            break;
        }
        let sequence = first + batch.records.len() as Sequence;
        let result = match run_job(shared, layers, reads, sequence, job) {
            Ok((answer, mut record)) => {
                let folded = if exclusive { fold_adds(&mut record, layers, reads) } else { Ok(()) };
                folded.map(|()| {
                    pack(&mut record);
                    layers.lay(&record, sequence);
                    batch.bytes += record.len();
                    batch.records.extend((!record.is_empty()).then_some(record));
                    answer
                })
            }
            Err(error) => Err(error),
        };
        batch.results.push(result);
    }
    batch
}

fn run_job<D: Domain>(
    shared: &Shared<D>,
    layers: &Layers,
    reads: &mut GroupReads,
    sequence: Sequence,
    job: &Job<D>,
) -> Result<(D::Answer, Record)> {
    shared.engine.admit(shared.domain.growth(&job.operation))?;
    let mut source = LayeredReads { before: layers, reads };
    let mut transaction = Transaction::new(&mut source, Drawn { moment: job.moment, seed: job.seed }, sequence);
    match run_caught(&shared.domain, &job.operation, &mut transaction) {
        Ok(answer) => Ok((answer, transaction.into_record())),
        Err(Halt::Refused(error)) => Err(error),
        // The caller runs the whole group again once the reads are there; this answer is thrown away.
        Err(Halt::NeedsRead) => Err(Error::new(ErrorKind::Internal, "a read was not at hand")),
    }
}

/// Turns adds into puts, because the log holds effects and this process knows the counter.
fn fold_adds(record: &mut Record, layers: &Layers, reads: &mut GroupReads) -> Result<()> {
    for write in &mut record.writes {
        if let Write::Add { key, delta } = write {
            let mut source = LayeredReads { before: layers, reads };
            let base = match super::transaction::Source::get(&mut source, key) {
                Ok(base) => base,
                Err(Halt::Refused(error)) => return Err(error),
                Err(Halt::NeedsRead) => unreachable!("an exclusive engine has its reads at hand"),
            };
            let value = add(base.as_ref().map(|versioned| &versioned.value), *delta);
            *write = Write::Put { key: std::mem::take(key), value };
        }
    }
    Ok(())
}

/// Commits what is staged, group after group but at most so many, unless somebody else does.
fn commit_staged<D: Domain>(shared: &Shared<D>, groups: usize) {
    let Stages { staged: place, moved, .. } = &shared.stages;
    let mut staged = place.lock();
    if staged.committing || staged.completions.is_empty() || staged.fallen {
        return;
    }
    staged.committing = true;
    for group in 1.. {
        let first = staged.first;
        let records = std::mem::take(&mut staged.records);
        let completions = std::mem::take(&mut staged.completions);
        staged.bytes = 0;
        drop(staged);
        moved.notify_all();

        let (committed, took) = timed(|| commit(shared, first, records));
        staged = place.lock();
        let is_durable = committed.is_ok();
        let mut finished = match committed {
            Ok(()) => completions,
            Err(error) => throw_away(&mut staged, completions, &error),
        };
        let (waiting, answered) = (staged.completions.len(), finished.len());
        let goes_on = group < groups && !staged.fallen;
        let patience = (shared.stages.patience)(took, waiting + answered);
        if let Some(pause) = patience.filter(|_| goes_on && is_durable && !staged.closing && staged.habit.gathers()) {
            drop(staged);
            complete(shared, shared.intake.take_answers());
            complete(shared, std::mem::take(&mut finished));
            staged = place.lock();
            gather(shared, &mut staged, waiting, answered, pause);
        } else if goes_on && waiting > 0 {
            drop(staged);
            // This thread has the next group: whoever runs operations lets the callers go.
            finished = shared.intake.hand_back(finished);
            complete(shared, std::mem::take(&mut finished));
            staged = place.lock();
        }
        if goes_on && !staged.completions.is_empty() {
            continue;
        }
        let more = !staged.completions.is_empty();
        // Before the answers leave: whoever gets one may find the partition idle.
        staged.committing = false;
        drop(staged);
        moved.notify_all();
        if more {
            shared.intake.summon();
        }
        complete(shared, finished);
        return;
    }
}

/// Waits until as many as were just `answered` have joined those who were `waiting`, but no longer than `patience`.
#[expect(clippy::disallowed_methods, reason = "what is waited for happens on threads of this machine")]
fn gather<D: Domain>(
    shared: &Shared<D>,
    staged: &mut MutexGuard<'_, Staged<D>>,
    waiting: usize,
    answered: usize,
    patience: Duration,
) {
    let until = Instant::now() + patience;
    staged.awaited = waiting + answered;
    let mut is_over = false;
    while !staged.is_gathered() && !staged.fallen && !staged.closing && !is_over {
        is_over = shared.stages.moved.wait_until(staged, until).timed_out();
    }
    let came = staged.completions.len().saturating_sub(waiting);
    // A group that is full says nothing of who would have come.
    if is_over || came >= answered {
        staged.habit.note(came, answered);
    }
    staged.awaited = 0;
}

/// What `work` gives, and how long it took.
#[expect(clippy::disallowed_methods, reason = "how long a disk takes is not a database's time")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let done = work();
    (done, begun.elapsed())
}

fn commit<D: Domain>(shared: &Shared<D>, first: Sequence, records: Vec<Record>) -> Result<()> {
    if records.is_empty() {
        return Ok(());
    }
    match shared.engine.commit(Group { first, checks: Vec::new(), stable: false, records })? {
        Committed::At(at) if at == first => {
            shared.committed.notify(usize::MAX);
            Ok(())
        }
        _ => Err(Error::new(ErrorKind::Internal, "the engine numbered a group differently")),
    }
}

/// Nothing of this group became visible, so what was run on top of it must not either.
fn throw_away<D: Domain>(staged: &mut Staged<D>, failed: Vec<Completion<D>>, error: &Error) -> Vec<Completion<D>> {
    staged.generation += 1;
    staged.records.clear();
    staged.bytes = 0;
    let why =
        Error::new(ErrorKind::Unavailable, "an earlier write failed; nothing was written").caused_by(error.clone());
    let later = std::mem::take(&mut staged.completions).into_iter();
    let failed = failed.into_iter().map(|completion| Completion { result: Err(error.clone()), ..completion });
    failed.chain(later.map(|completion| Completion { result: Err(why.clone()), ..completion })).collect()
}

/// Lets everybody know when the committer panics: callers would wait for ever for answers that nobody gives any
/// more, and a close for the other thread.
struct Fallen<'a, D: Domain>(&'a Shared<D>);

impl<D: Domain> Drop for Fallen<'_, D> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        tracing::error!("the committer panicked; the partition takes nothing more until it is opened again");
        let mut staged = self.0.stages.staged.lock();
        staged.fallen = true;
        staged.records.clear();
        // Dropping a completion tells its caller.
        let completions = std::mem::take(&mut staged.completions);
        drop(staged);
        drop(completions);
        self.0.stages.moved.notify_all();
        self.0.intake.abandon();
    }
}

/// Gives the room back and lets the answers leave.
fn complete<D: Domain>(shared: &Shared<D>, completions: Vec<Completion<D>>) {
    if completions.is_empty() {
        return;
    }
    shared.intake.release(completions.iter().map(|completion| completion.bytes).sum());
    give_all(completions.into_iter().map(|completion| (completion.answer, completion.result)));
}

fn run_and_commit<D: Domain>(shared: &Shared<D>) {
    let _fallen = Fallen(shared);
    let mut jobs = Vec::new();
    loop {
        if jobs.is_empty() {
            if shared.intake.wait_for_work().is_none() {
                return;
            }
            shared.intake.take(&mut jobs, MAX_BATCH);
        }
        let results = match commit_jobs(shared, &jobs) {
            Ok(results) => results,
            Err(error) => jobs.iter().map(|_| Err(error.clone())).collect(),
        };
        shared.committed.notify(usize::MAX);
        let rest = jobs.split_off(results.len());
        let run = std::mem::replace(&mut jobs, rest).into_iter();
        complete(shared, run.zip(results).map(|(job, result)| job.complete(result)).collect());
    }
}

/// Runs and commits a group against other writers, from the start again after each lost race. Answers as
/// many operations as fit into the group, from the first on.
fn commit_jobs<D: Domain>(shared: &Shared<D>, jobs: &[Job<D>]) -> Result<Vec<Result<D::Answer>>> {
    for _ in 0..MAX_CONFLICTS {
        let mut reads = GroupReads::new(shared.engine.snapshot()?, shared.engine.reads_at_hand(), true);
        let first = reads.sequence() + 1;
        let batch = loop {
            let batch = run_batch(shared, &mut Layers::default(), &mut reads, first, jobs, Vec::new());
            if !reads.fetch_wanted()? {
                break batch;
            }
        };
        let (checks, stable) = reads.into_checks();
        match shared.engine.commit(Group { first, checks, stable, records: batch.records })? {
            Committed::Conflict => {}
            Committed::At(at) => {
                let mut results = batch.results;
                for answer in results.iter_mut().flatten() {
                    shared.domain.renumber(answer, first, at - first);
                }
                return Ok(results);
            }
        }
    }
    Err(Error::new(ErrorKind::Overloaded, "other writers kept changing the same keys; retry later"))
}
