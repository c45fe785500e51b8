//! The committer: runs operations in order, and makes them durable in groups.
//!
//! Where this process alone writes, two threads work side by side: the runner runs operations over
//! the writes that are still on their way, and the writer commits what has been run. While one group
//! is being synced the next one grows. Where other processes write too, one thread runs a group,
//! commits it, and runs it again when a check failed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use crate::engine::{Committed, Group, Record, Sequence, Write};
use crate::error::{Error, ErrorKind, Result};

use super::intake::Job;
use super::layer::{Change, Layer, add};
use super::source::{GroupReads, LayeredReads};
use super::transaction::Drawn;
use super::{Domain, Halt, Shared, Transaction, run_caught};

/// Operations that are run over one snapshot before their results are handed on.
const MAX_BATCH: usize = 256;
/// A group that reached this many bytes takes nothing more.
const MAX_GROUP_BYTES: usize = 1 << 20;
/// A group that lost this many races in a row answers `Overloaded`.
const MAX_CONFLICTS: usize = 100;

/// Starts the threads of a partition.
pub fn start<D: Domain>(shared: &Arc<Shared<D>>) -> Result<Vec<JoinHandle<()>>> {
    let mut threads = vec![spawn("kappa-deadlines", shared, |shared| shared.intake.look_after_deadlines())?];
    if shared.engine.exclusive() {
        let staged = Arc::new(Staged::default());
        let taken = Arc::clone(&staged);
        threads.push(spawn("kappa-writer", shared, move |shared| write_groups(&shared, &taken))?);
        threads.push(spawn("kappa-runner", shared, move |shared| run_ahead(&shared, &staged))?);
    } else {
        threads.push(spawn("kappa-committer", shared, |shared| run_and_commit(&shared))?);
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

/// One caller's answer, kept back until the group it rests on is durable.
struct Completion<D: Domain> {
    answer: oneshot::Sender<Result<D::Answer>>,
    result: Result<D::Answer>,
    bytes: usize,
}

/// What has been run and waits for the writer.
struct Staged<D: Domain> {
    state: Mutex<StagedState<D>>,
    filled: Condvar,
    taken: Condvar,
}

struct StagedState<D: Domain> {
    first: Sequence,
    records: Vec<Record>,
    completions: Vec<Completion<D>>,
    bytes: usize,
    /// Moves whenever staged work was thrown away, so that results which rest on it are not staged.
    generation: u64,
    ended: bool,
}

impl<D: Domain> Default for Staged<D> {
    fn default() -> Self {
        let state = StagedState {
            first: 0,
            records: Vec::new(),
            completions: Vec::new(),
            bytes: 0,
            generation: 0,
            ended: false,
        };
        Self { state: Mutex::new(state), filled: Condvar::new(), taken: Condvar::new() }
    }
}

/// The results of one batch of operations.
struct Batch<D: Domain> {
    first: Sequence,
    records: Vec<Record>,
    /// One of each operation that was run, from the first on.
    results: Vec<Result<D::Answer>>,
    keys: Vec<Bytes>,
    bytes: usize,
}

/// Writes that are run but not durable, and which keys may be forgotten when.
struct Ahead {
    layer: Layer,
    groups: VecDeque<(Sequence, Vec<Bytes>)>,
    next: Sequence,
    generation: u64,
}

impl Ahead {
    /// Drops what `durable` covers: the snapshot shows it.
    fn forget(&mut self, durable: Sequence) {
        while self.groups.front().is_some_and(|(last, _)| *last <= durable) {
            let (_, keys) = self.groups.pop_front().expect("just looked at");
            for key in keys {
                self.layer.forget(&key, durable);
            }
        }
    }

    /// Starts again from what is durable, after staged work was thrown away.
    fn restart(newest: Sequence, generation: u64) -> Self {
        Self { layer: Layer::default(), groups: VecDeque::new(), next: newest + 1, generation }
    }
}

fn run_ahead<D: Domain>(shared: &Shared<D>, staged: &Staged<D>) {
    let _fallen = Fallen { shared, staged: Some(staged) };
    let mut ahead = Ahead::restart(shared.engine.newest().0, 0);
    while let Some(jobs) = shared.intake.take(MAX_BATCH) {
        let mut jobs = jobs;
        while let Some(refused) = run_and_stage(shared, staged, &mut ahead, jobs) {
            jobs = refused;
        }
    }
    staged.state.lock().ended = true;
    staged.filled.notify_all();
}

/// Runs `jobs` and hands their results on. Gives back those that did not fit into a group, and all of them
/// when the ground they were run on is gone.
fn run_and_stage<D: Domain>(
    shared: &Shared<D>,
    staged: &Staged<D>,
    ahead: &mut Ahead,
    mut jobs: Vec<Job<D>>,
) -> Option<Vec<Job<D>>> {
    let snapshot = match shared.engine.snapshot() {
        Ok(snapshot) => snapshot,
        Err(error) => {
            let refused = |job: Job<D>| Completion { answer: job.answer, result: Err(error.clone()), bytes: job.bytes };
            complete(shared, jobs.into_iter().map(refused).collect());
            return None;
        }
    };
    ahead.forget(snapshot.sequence());
    let mut reads = GroupReads::new(snapshot, true, false);
    let batch = run_batch(shared, &mut ahead.layer, &mut reads, ahead.next, &jobs);
    drop(reads);

    let mut state = staged.state.lock();
    while state.bytes >= MAX_GROUP_BYTES && state.generation == ahead.generation && !state.ended {
        staged.taken.wait(&mut state);
    }
    if state.ended {
        return None;
    }
    if state.generation != ahead.generation {
        *ahead = Ahead::restart(shared.engine.newest().0, state.generation);
        return Some(jobs);
    }
    ahead.next += batch.records.len() as Sequence;
    if !batch.keys.is_empty() {
        ahead.groups.push_back((ahead.next - 1, batch.keys));
    }
    if state.records.is_empty() {
        state.first = batch.first;
    }
    state.bytes += batch.bytes;
    state.records.extend(batch.records);
    let rest = jobs.split_off(batch.results.len());
    let completions = jobs.into_iter().zip(batch.results).map(|(job, result)| Completion {
        answer: job.answer,
        result,
        bytes: job.bytes,
    });
    state.completions.extend(completions);
    drop(state);
    staged.filled.notify_one();
    Some(rest).filter(|rest| !rest.is_empty())
}

/// Runs operations one after another over `layer`; each sees the ones before it. Ends before the first one
/// that would start behind a full group: a small operation can write as much as a large one.
fn run_batch<D: Domain>(
    shared: &Shared<D>,
    layer: &mut Layer,
    reads: &mut GroupReads,
    first: Sequence,
    jobs: &[Job<D>],
) -> Batch<D> {
    let results = Vec::with_capacity(jobs.len());
    let mut batch = Batch { first, records: Vec::new(), results, keys: Vec::new(), bytes: 0 };
    let exclusive = shared.engine.exclusive();
    for job in jobs {
        if batch.bytes >= MAX_GROUP_BYTES {
            break;
        }
        let sequence = first + batch.records.len() as Sequence;
        let result = match run_job(shared, layer, reads, sequence, job) {
            Ok((answer, mut record)) => {
                let folded = if exclusive { fold_adds(&mut record, layer, reads) } else { Ok(()) };
                folded.map(|()| {
                    lay(layer, &record, sequence, &mut batch.keys);
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
    layer: &Layer,
    reads: &mut GroupReads,
    sequence: Sequence,
    job: &Job<D>,
) -> Result<(D::Answer, Record)> {
    shared.engine.admit(shared.domain.growth(&job.operation))?;
    let mut source = LayeredReads { before: layer, reads };
    let mut transaction = Transaction::new(&mut source, Drawn { moment: job.moment, seed: job.seed }, sequence);
    match run_caught(&shared.domain, &job.operation, &mut transaction) {
        Ok(answer) => Ok((answer, transaction.into_record())),
        Err(Halt::Refused(error)) => Err(error),
        // The caller runs the whole group again once the reads are there; this answer is thrown away.
        Err(Halt::NeedsRead) => Err(Error::new(ErrorKind::Internal, "a read was not at hand")),
    }
}

/// Turns adds into puts, because the log holds effects and this process knows the counter.
fn fold_adds(record: &mut Record, layer: &Layer, reads: &mut GroupReads) -> Result<()> {
    for write in &mut record.writes {
        if let Write::Add { key, delta } = write {
            let mut source = LayeredReads { before: layer, reads };
            let base = match super::transaction::Source::get(&mut source, key) {
                Ok(base) => base,
                Err(Halt::Refused(error)) => return Err(error),
                Err(Halt::NeedsRead) => unreachable!("an exclusive engine has its reads at hand"),
            };
            let value = add(base.as_ref().map(|versioned| &versioned.value), *delta);
            *write = Write::Put { key: key.clone(), value };
        }
    }
    Ok(())
}

fn lay(layer: &mut Layer, record: &Record, sequence: Sequence, keys: &mut Vec<Bytes>) {
    for write in &record.writes {
        let change = match write {
            Write::Put { value, .. } => Change::Put(value.clone()),
            Write::Delete { .. } => Change::Delete,
            Write::Add { delta, .. } => Change::Add(*delta),
        };
        layer.lay(write.key().clone(), change, sequence);
        keys.push(write.key().clone());
    }
}

fn write_groups<D: Domain>(shared: &Shared<D>, staged: &Staged<D>) {
    let _fallen = Fallen { shared, staged: Some(staged) };
    loop {
        let mut state = staged.state.lock();
        while state.completions.is_empty() {
            if state.ended {
                return;
            }
            staged.filled.wait(&mut state);
        }
        let first = state.first;
        let records = std::mem::take(&mut state.records);
        let completions = std::mem::take(&mut state.completions);
        state.bytes = 0;
        drop(state);
        staged.taken.notify_one();

        let committed = if records.is_empty() {
            Ok(())
        } else {
            shared.engine.commit(Group { first, checks: Vec::new(), stable: false, records }).and_then(|committed| {
                match committed {
                    Committed::At(at) if at == first => Ok(()),
                    _ => Err(Error::new(ErrorKind::Internal, "the engine numbered a group differently")),
                }
            })
        };
        match committed {
            Ok(()) => {
                shared.committed.notify(usize::MAX);
                complete(shared, completions);
            }
            Err(error) => throw_away(shared, staged, completions, &error),
        }
    }
}

/// Nothing of this group became visible, so what was run on top of it must not either.
fn throw_away<D: Domain>(shared: &Shared<D>, staged: &Staged<D>, failed: Vec<Completion<D>>, error: &Error) {
    let mut state = staged.state.lock();
    state.generation += 1;
    state.records.clear();
    state.bytes = 0;
    let later = std::mem::take(&mut state.completions);
    drop(state);
    staged.taken.notify_one();
    let why =
        Error::new(ErrorKind::Unavailable, "an earlier write failed; nothing was written").caused_by(error.clone());
    let fail = |completions: Vec<Completion<D>>, error: &Error| {
        completions.into_iter().map(|completion| Completion { result: Err(error.clone()), ..completion }).collect()
    };
    complete(shared, fail(failed, error));
    complete(shared, fail(later, &why));
}

/// Lets everybody know when a thread of the committer panics: callers would wait for ever for answers that
/// nobody gives any more, and a close for the other thread.
struct Fallen<'a, D: Domain> {
    shared: &'a Shared<D>,
    staged: Option<&'a Staged<D>>,
}

impl<D: Domain> Drop for Fallen<'_, D> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        tracing::error!("the committer panicked; the partition takes nothing more until it is opened again");
        if let Some(staged) = self.staged {
            let mut state = staged.state.lock();
            state.ended = true;
            state.records.clear();
            // Dropping a completion tells its caller.
            let completions = std::mem::take(&mut state.completions);
            drop(state);
            drop(completions);
            staged.filled.notify_all();
            staged.taken.notify_all();
        }
        self.shared.intake.abandon();
    }
}

/// Gives the room back and lets the answers leave.
fn complete<D: Domain>(shared: &Shared<D>, completions: Vec<Completion<D>>) {
    shared.intake.release(completions.iter().map(|completion| completion.bytes).sum());
    for completion in completions {
        // The caller may have left; its write stands all the same.
        let _ = completion.answer.send(completion.result);
    }
}

fn run_and_commit<D: Domain>(shared: &Shared<D>) {
    let _fallen = Fallen { shared, staged: None };
    let mut jobs = Vec::new();
    loop {
        if jobs.is_empty() {
            match shared.intake.take(MAX_BATCH) {
                Some(taken) => jobs = taken,
                None => return,
            }
        }
        let results = match commit_jobs(shared, &jobs) {
            Ok(results) => results,
            Err(error) => jobs.iter().map(|_| Err(error.clone())).collect(),
        };
        shared.committed.notify(usize::MAX);
        let rest = jobs.split_off(results.len());
        let completions = std::mem::replace(&mut jobs, rest).into_iter().zip(results).map(|(job, result)| Completion {
            answer: job.answer,
            result,
            bytes: job.bytes,
        });
        complete(shared, completions.collect());
    }
}

/// Runs and commits a group against other writers, from the start again after each lost race. Answers as
/// many operations as fit into the group, from the first on.
fn commit_jobs<D: Domain>(shared: &Shared<D>, jobs: &[Job<D>]) -> Result<Vec<Result<D::Answer>>> {
    for _ in 0..MAX_CONFLICTS {
        let mut reads = GroupReads::new(shared.engine.snapshot()?, shared.engine.reads_at_hand(), true);
        let first = reads.sequence() + 1;
        let batch = loop {
            let batch = run_batch(shared, &mut Layer::default(), &mut reads, first, jobs);
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
