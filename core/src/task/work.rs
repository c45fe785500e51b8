//! What workers tell and ask: runs that ended, tasks to run, leases that go on.

use bytes::Bytes;

use crate::engine::{Direction, EventKind, KeyRange, KeyValue};
use crate::error::Error;
use crate::partition::{Run, Transaction};

use super::budget::Budgets;
use super::front::{self, Front};
use super::model::{
    Claimed, Lease, Outcome, Rate, Readiness, Renewal, Report, TaskId, TaskState, Token, Verdict, Work, Worked,
};
use super::operation::TaskAnswer;
use super::place::{self, Told};
use super::queue::{self, Queue};
use super::record::Record;
use super::step::{self, Era, Grant};
use super::tasks::{self, TaskOf};
use super::{damaged, era, keys, limits, readable};

/// A claim ends once its operation has written this much, well below what one may,
const CLAIM_BYTES: usize = 512 << 10;
/// or once the parameters it answers weigh this much.
const ANSWER_BYTES: usize = 4 << 20;
/// A claim or a step of the tick promotes at most so many tasks that became due,
const PROMOTED: usize = 256;
/// and none more once its operation has written this much: each is written anew with its failures, and what is over the
/// limit of one operation would be over it in every further attempt.
const PROMOTE_BYTES: usize = 256 << 10;
/// A claim that meets only entries which it cannot claim ends behind so many: the front keeps where, and the next goes on there.
const PASSED_OVER: usize = 1_000;
/// What the log calls a task whose turn has come.
const WAITS: &str = "a task that waits";
/// A call names at most so many queues.
const MAX_CLAIM_QUEUES: usize = 100;

/// Takes reports, and claims tasks.
pub fn work(tx: &mut Transaction<'_>, work: &Work, seed: u64) -> Run<TaskAnswer> {
    limits::check_many(work.reports.len().max(work.claim))?;
    if work.worker.len() > limits::MAX_WORKER_BYTES || work.queues.len() > MAX_CLAIM_QUEUES {
        let error = Error::invalid("a worker is named by at most 128 bytes and claims from at most 100 queues");
        return Err(error.with("bytes", work.worker.len()).with("queues", work.queues.len()).into());
    }
    let lease_ms = limits::check_lease(work.lease_ms)?;
    for report in &work.reports {
        if let Outcome::Completed { result } = &report.outcome {
            result.check_size()?;
        }
    }
    let era = era::load(tx)?;
    tasks::fetch_all(tx, work.reports.iter().map(|report| report.lease.task))?;
    let mut budgets = Budgets::default();
    let mut verdicts = Vec::with_capacity(work.reports.len());
    for (n, one) in work.reports.iter().enumerate() {
        verdicts.push(report(tx, &mut budgets, one, &era, mix(seed, n as u64))?);
    }
    let mut claiming = Claiming { work, lease_ms, seed, budgets, claimed: Vec::new(), bytes: 0 };
    if work.claim > 0 && !work.queues.is_empty() {
        // Each claim begins with another queue, so that none of them starves behind a full one.
        let first = (seed % work.queues.len() as u64) as usize;
        let (behind, before) = work.queues.split_at(first);
        for name in before.iter().chain(behind) {
            if claiming.is_done(tx) {
                break;
            }
            claiming.claim_from(tx, name)?;
        }
    }
    claiming.budgets.save(tx)?;
    Ok(TaskAnswer::Worked(Worked { verdicts, claimed: claiming.claimed }))
}

fn report(tx: &mut Transaction<'_>, budgets: &mut Budgets, report: &Report, era: &Era, chance: u64) -> Run<Verdict> {
    let id = report.lease.task;
    // What the others did counts all the same.
    let Some(old) = tasks::load_readable(tx, "a task that ran", id)? else {
        return Ok(Verdict::Stale);
    };
    let (mut new, verdict) = step::report(old.clone(), &report.lease, &report.outcome, (era, tx.now()), chance);
    if matches!(report.outcome, Outcome::Failed { .. }) && verdict != Verdict::Stale && !new.state.is_final() {
        new = within_budget(tx, budgets, new, chance)?;
    }
    if verdict != Verdict::Stale {
        place::replace(tx, id, &old, &new, Told::Yes(EventKind::Updated))?;
    }
    Ok(verdict)
}

/// The task that is to be tried again, when its queue's budget of retries lets it.
fn within_budget(tx: &mut Transaction<'_>, budgets: &mut Budgets, record: Record, chance: u64) -> Run<Record> {
    let queue = queue::load(tx, &record.queue_name)?.ok_or_else(damaged)?;
    // Not the chance that its backoff was drawn from: the two add up.
    let held_back = budgets.retry(tx, &queue, mix(chance, 1))?;
    Ok(if held_back == 0 { record } else { step::hold_back(record, held_back, tx.now()) })
}

/// A claim on its way through the queues it names.
struct Claiming<'a> {
    work: &'a Work,
    lease_ms: u64,
    seed: u64,
    budgets: Budgets,
    claimed: Vec<Claimed>,
    bytes: usize,
}

impl Claiming<'_> {
    fn is_done(&self, tx: &Transaction<'_>) -> bool {
        self.claimed.len() >= self.work.claim || self.bytes >= ANSWER_BYTES || tx.written() >= CLAIM_BYTES
    }

    fn claim_from(&mut self, tx: &mut Transaction<'_>, name: &str) -> Run<()> {
        let Some(queue) = queue::load(tx, name)? else { return Ok(()) };
        if queue.paused {
            return Ok(());
        }
        let wanted = self.work.claim - self.claimed.len();
        let rate = Allowance::load(tx, &queue)?;
        let allowed = wanted.min(room(tx, &queue)?).min(rate.starts(tx.now()));
        if allowed == 0 {
            return Ok(());
        }
        let number = queue.number;
        let due = front::load(tx, number)?.due(number, tx.now());
        let promoted = promote(tx, &due)?;
        // Only now: what was promoted may have moved it back, and would be hidden behind the front of before.
        let old = front::load(tx, number)?;
        let mut front = old.clone();
        if promoted == Promoted::All {
            front.promoted = tx.now();
        }
        // Whatever comes to wait changes this count. Where several processes write, reading it keeps the front from passing
        // an entry that another one is adding before it.
        let started = match queue::count(tx, number, TaskState::Waiting)? {
            0 => 0,
            _ => self.claim_waiting(tx, number, allowed, &mut front)?,
        };
        if front != old {
            front::save(tx, number, &front)?;
        }
        if started == 0 {
            return Ok(());
        }
        self.budgets.started(tx, &queue, started)?;
        rate.use_up(tx, number, started)
    }

    /// Claims at most `allowed` tasks from the front on, and moves it; how many.
    fn claim_waiting(&mut self, tx: &mut Transaction<'_>, queue: u16, allowed: usize, front: &mut Front) -> Run<usize> {
        let before = self.claimed.len();
        let (mut page, mut looked_at) = (allowed, 0);
        // Once, but where nothing that was found could be claimed.
        while self.claimed.len() == before && looked_at < PASSED_OVER && !self.is_done(tx) {
            let found = tx.scan(&front.waiting(queue), Direction::Forward, page)?;
            if found.is_empty() {
                break;
            }
            // Every task that is about to be claimed, so that all of them are fetched in one round.
            tasks::fetch(tx, &found)?;
            for entry in &found {
                if self.is_done(tx) || self.claimed.len() - before >= allowed {
                    break;
                }
                self.claim(tx, entry)?;
                front.first = front::behind(&entry.key);
            }
            looked_at += found.len();
            page = (4 * page).min(PASSED_OVER);
        }
        Ok(self.claimed.len() - before)
    }

    fn claim(&mut self, tx: &mut Transaction<'_>, entry: &KeyValue) -> Run<()> {
        let (id, old) = match tasks::task_of(tx, WAITS, entry)? {
            TaskOf::Task(id, old) => (id, *old),
            TaskOf::Nobody => return tx.delete(entry.key.clone()),
            TaskOf::Unreadable => return Ok(()),
        };
        let new = step::claim(old.clone(), &self.grant(), tx.now());
        let held = new.lease.ok_or_else(damaged)?;
        let lease = Lease { task: id, run: new.runs, token: held.token };
        // Before anything is written: its parameters may lie apart.
        let task = tasks::render(tx, id, new.clone());
        let Some(task) = readable(WAITS, id, task)? else { return Ok(()) };
        place::replace(tx, id, &old, &new, Told::Yes(EventKind::Updated))?;
        self.bytes += task.params.len();
        self.claimed.push(Claimed { task, lease, expires_at: held.expires });
        Ok(())
    }

    fn grant(&self) -> Grant<'_> {
        let n = self.claimed.len() as u64;
        let token = Token(u128::from(mix(self.seed, 2 * n + 1)) << 64 | u128::from(mix(!self.seed, 2 * n)));
        Grant { token, lease_ms: self.lease_ms, worker: &self.work.worker, instance: self.work.instance }
    }
}

/// Whether a claim that comes to `entry`, of a task that waits, would do more than pass it over.
pub fn is_taken_up(tx: &mut Transaction<'_>, entry: &KeyValue) -> Run<bool> {
    Ok(match tasks::task_of(tx, WAITS, entry)? {
        TaskOf::Unreadable => false,
        TaskOf::Nobody => true,
        TaskOf::Task(id, record) => {
            let task = tasks::render(tx, id, *record);
            readable(WAITS, id, task)?.is_some()
        }
    })
}

/// What became of the tasks that are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promoted {
    /// There were none.
    None,
    /// There may be more than one call takes. The tick does the rest.
    Some,
    /// All that can be read wait now.
    All,
}

/// Lets tasks wait whose entries lie in `range` and that are due.
pub fn promote(tx: &mut Transaction<'_>, range: &KeyRange) -> Run<Promoted> {
    let now = tx.now();
    let (mut rest, mut promoted) = (range.clone(), 0);
    loop {
        let due = tx.scan(&rest, Direction::Forward, PROMOTED)?;
        tasks::fetch(tx, &due)?;
        for entry in &due {
            // The next look begins at the same place; what was promoted is gone from there.
            if promoted >= PROMOTED || tx.written() >= PROMOTE_BYTES {
                return Ok(Promoted::Some);
            }
            match tasks::task_of(tx, "a task that is due", entry)? {
                TaskOf::Unreadable => continue,
                TaskOf::Nobody => tx.delete(entry.key.clone())?,
                TaskOf::Task(id, old) => {
                    if let Some(new) = step::promote(Record::clone(&old), now) {
                        place::replace(tx, id, &old, &new, Told::Yes(EventKind::Updated))?;
                    }
                }
            }
            promoted += 1;
        }
        match due.last() {
            None if rest.start == range.start => return Ok(Promoted::None),
            Some(_) if promoted >= PROMOTED => return Ok(Promoted::Some),
            Some(last) if due.len() == PROMOTED => rest.start = front::behind(&last.key),
            _ => return Ok(Promoted::All),
        }
    }
}

/// How many more tasks of the queue may run.
fn room(tx: &mut Transaction<'_>, queue: &Queue) -> Run<usize> {
    let Some(limit) = queue.settings.concurrency else { return Ok(usize::MAX) };
    let active = queue::count(tx, queue.number, TaskState::Active)?;
    Ok(usize::try_from(u64::from(limit).saturating_sub(active)).unwrap_or(usize::MAX))
}

/// How much of a queue's rate is left: starts flow in evenly, up to one period's worth (GCRA).
struct Allowance {
    rate: Option<Rate>,
    /// When everything that was used will have flowed in again, in microseconds.
    full_at: i64,
}

impl Allowance {
    fn load(tx: &mut Transaction<'_>, queue: &Queue) -> Run<Self> {
        let Some(rate) = queue.settings.rate else { return Ok(Self { rate: None, full_at: 0 }) };
        let stored = tx.get(&keys::rate(queue.number))?;
        let full_at = stored.and_then(|stored| stored.value[..].try_into().ok()).map_or(i64::MIN, i64::from_be_bytes);
        Ok(Self { rate: Some(rate), full_at: full_at.max(tx.now().saturating_mul(1_000)) })
    }

    /// How many tasks may start now.
    fn starts(&self, now: i64) -> usize {
        let Some(rate) = self.rate else { return usize::MAX };
        let used = self.full_at.saturating_sub(now.saturating_mul(1_000)).max(0);
        let period = i64::try_from(rate.per_ms).unwrap_or(i64::MAX).saturating_mul(1_000);
        let left = period.saturating_sub(used).max(0);
        let starts = i128::from(left) * i128::from(rate.count) / i128::from(period);
        usize::try_from(starts).unwrap_or(0)
    }

    /// In how many milliseconds one more may start.
    fn next_in_ms(&self, now: i64) -> u64 {
        let Some(rate) = self.rate else { return 0 };
        let used = self.full_at.saturating_sub(now.saturating_mul(1_000)).max(0);
        let period = rate.per_ms.saturating_mul(1_000);
        let one = period.div_ceil(u64::from(rate.count));
        u64::try_from(used).unwrap_or(0).saturating_sub(period.saturating_sub(one)).div_ceil(1_000)
    }

    fn use_up(&self, tx: &mut Transaction<'_>, queue: u16, started: usize) -> Run<()> {
        let Some(rate) = self.rate.filter(|_| started > 0) else { return Ok(()) };
        let period = u128::from(rate.per_ms) * 1_000;
        let used = (period * started as u128).div_ceil(u128::from(rate.count));
        let full_at = self.full_at.saturating_add(i64::try_from(used).unwrap_or(i64::MAX));
        tx.put(keys::rate(queue), Bytes::copy_from_slice(&full_at.to_be_bytes()))
    }
}

/// Whether a claim from `queues` would find something now, and if not, when time alone changes that.
pub fn ready(tx: &mut Transaction<'_>, queues: &[String]) -> Run<TaskAnswer> {
    let now = tx.now();
    let mut next: Option<u64> = None;
    for name in queues {
        let Some(queue) = queue::load(tx, name)?.filter(|queue| !queue.paused) else { continue };
        if room(tx, &queue)? == 0 {
            continue;
        }
        let front = front::load(tx, queue.number)?;
        // As a claim does: without a task that is counted it looks at no entry, and a worker would ask for ever.
        let counted = queue::count(tx, queue.number, TaskState::Waiting)? > 0;
        let waits = counted && !tx.scan(&front.waiting(queue.number), Direction::Forward, 1)?.is_empty();
        let due = keys::entries_from(queue.number, TaskState::Delayed, front.promoted);
        let due = tx.scan(&due, Direction::Forward, 1)?;
        let due = due.first().and_then(|entry| keys::split_entry(&entry.key)).map(|(at, _)| at);
        let rate = Allowance::load(tx, &queue)?;
        let from_rate = if rate.starts(now) == 0 { rate.next_in_ms(now) } else { 0 };
        let in_ms = match due {
            _ if waits => Some(from_rate),
            Some(at) => Some(from_rate.max(u64::try_from(at.saturating_sub(now)).unwrap_or(0))),
            None => None,
        };
        if in_ms == Some(0) {
            return Ok(TaskAnswer::Ready(Readiness { now: true, next_in_ms: None }));
        }
        next = next.into_iter().chain(in_ms).min();
    }
    Ok(TaskAnswer::Ready(Readiness { now: false, next_in_ms: next }))
}

/// Lets leases go on.
pub fn renew(tx: &mut Transaction<'_>, leases: &[Lease], lease_ms: u64) -> Run<TaskAnswer> {
    limits::check_many(leases.len())?;
    let lease_ms = limits::check_lease(lease_ms)?;
    let era = era::load(tx)?;
    tasks::fetch_all(tx, leases.iter().map(|lease| lease.task))?;
    let renewals = leases.iter().map(|lease| {
        change(tx, lease, Told::No, |record, now| {
            step::renew(record, lease, lease_ms, &era, now);
        })
    });
    Ok(TaskAnswer::Renewed(renewals.collect::<Run<_>>()?))
}

/// How leases stand.
pub fn check(tx: &mut Transaction<'_>, leases: &[Lease]) -> Run<TaskAnswer> {
    limits::check_many(leases.len())?;
    tasks::fetch_all(tx, leases.iter().map(|lease| lease.task))?;
    let standing = leases.iter().map(|lease| change(tx, lease, Told::No, |_, _| {}));
    Ok(TaskAnswer::Renewed(standing.collect::<Run<_>>()?))
}

/// Keeps how far a run is, at most once a second.
pub fn progress(tx: &mut Transaction<'_>, lease: &Lease, progress: f64) -> Run<TaskAnswer> {
    if !(0.0..=1.0).contains(&progress) {
        return Err(Error::invalid("progress is from 0 to 1").with("progress", progress).into());
    }
    let told = Told::Yes(EventKind::Updated);
    let renewal = change(tx, lease, told, |record, now| {
        if record.progress.is_none() || now.saturating_sub(record.progress_at) >= step::PROGRESS_EVERY_MS {
            record.progress = Some(progress);
            record.progress_at = now;
        }
    })?;
    Ok(TaskAnswer::Progress(renewal))
}

/// Changes an active task under its lease, and answers how that stands.
fn change(tx: &mut Transaction<'_>, lease: &Lease, told: Told, change: impl FnOnce(&mut Record, i64)) -> Run<Renewal> {
    let (era, now) = (era::load(tx)?, tx.now());
    let Some(old) = tasks::load_readable(tx, "a task with a lease", lease.task)? else { return Ok(Renewal::Stale) };
    let mut new = old.clone();
    change(&mut new, now);
    let Some(held) = step::held(&mut new, lease, &era, now) else { return Ok(Renewal::Stale) };
    let expires_at = step::lease_end(held, &era);
    let cancel = new.cancel;
    if new != old {
        place::replace(tx, lease.task, &old, &new, told)?;
    }
    Ok(Renewal::Held { expires_at, cancel })
}

/// Chance number `n` of an operation's seed (`SplitMix64`).
fn mix(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// The lease that `record` holds, for answers that are given again.
pub fn lease_of(id: TaskId, record: &Record) -> Option<(Lease, i64)> {
    let held = record.lease?;
    Some((Lease { task: id, run: record.runs, token: held.token }, held.expires))
}
