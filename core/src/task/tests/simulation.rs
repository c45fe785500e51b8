//! A queue and its workers over years of trouble: workers that die, come back as zombies and repeat themselves, wall clocks that
//! jump, operations that are lost on their way. What must hold holds at each step; what must happen has happened at the end.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::planted::found_by;
use crate::task::model::{Backoff, QueueSettings, Renewal};
use crate::task::planted::{self, Planted};

const QUEUES: [&str; 2] = ["a", "b"];
const LEASE_MS: i64 = 30_000;

/// One run in the hands of a worker.
#[derive(Clone, Debug)]
struct Running {
    lease: Lease,
    /// When the worker will be done.
    done_at: i64,
    /// When the lease ends unless it is renewed.
    expires: i64,
    /// It neither renews nor reports in time any more.
    silent: bool,
}

/// What the simulation knows about a task, from what it was answered.
#[derive(Clone, Debug, Default)]
struct Known {
    completions: u32,
    claims: u32,
    released: u32,
    /// Runs that ended with their lease or failed.
    spent: u32,
    attempts: u32,
    cancelled: bool,
    due: i64,
    /// The lease given out last, and when it ends by what was answered.
    newest: Option<(Lease, i64)>,
}

struct World {
    bench: Bench,
    rng: StdRng,
    known: BTreeMap<TaskId, Known>,
    /// Who was the last to get a unique key of a queue.
    holders: BTreeMap<(String, String), TaskId>,
    running: Vec<Running>,
    /// Leases of workers that have gone, to be tried again.
    old: Vec<Lease>,
    left: usize,
    wall: i64,
}

type Checked = std::result::Result<(), String>;

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(what()) }
}

impl World {
    fn new(seed: u64, tasks: usize) -> Self {
        let mut bench = Bench::fast();
        let settings =
            QueueSettings { keep_count: 1_000_000, keep_ms: 366 * 24 * 3_600_000, ..QueueSettings::default() };
        for queue in QUEUES.into_iter().chain(["storm"]) {
            let configure = TaskOperation::Configure { queue: queue.into(), settings: settings.clone() };
            bench.call(&configure).unwrap();
        }
        let rng = StdRng::seed_from_u64(seed);
        Self {
            bench,
            rng,
            known: BTreeMap::new(),
            holders: BTreeMap::new(),
            running: Vec::new(),
            old: Vec::new(),
            left: tasks,
            wall: 0,
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn run(&mut self) -> Checked {
        let mut n = 0;
        while self.left > 0 || self.running.iter().any(|run| !run.silent) {
            self.step()?;
            n += 1;
            if n % 64 == 0 {
                self.bench.check()?;
            }
        }
        self.storm()?;
        self.settle()
    }

    fn step(&mut self) -> Checked {
        match self.rng.random_range(0..12) {
            0..3 => self.enqueue()?,
            3..6 if self.running.len() < 300 => self.claim(8)?,
            3..8 => self.report()?,
            8 => self.renew()?,
            9 => self.zombie()?,
            10 => self.meddle()?,
            _ => self.pass_time()?,
        }
        Ok(())
    }

    fn enqueue(&mut self) -> Checked {
        for _ in 0..self.rng.random_range(1..6_usize).min(self.left) {
            self.left -= 1;
            let queue = QUEUES[self.rng.random_range(0..2)].to_owned();
            let unique = self.chance(20).then(|| format!("k{}", self.rng.random_range(0..5)));
            let attempts = self.rng.random_range(1..6);
            let new = NewTask {
                priority: self.rng.random_range(-3..4),
                delay_ms: self.chance(30).then(|| self.rng.random_range(1..100_000)),
                attempts: Some(attempts),
                backoff: Some(Backoff::Exponential { base_ms: 100, cap_ms: 5_000 }),
                unique: unique.clone(),
                ..NewTask::new(queue.clone(), Json::null())
            };
            let held = unique.map(|unique| (queue, unique));
            let holder = match &held {
                Some(held) => self.living_holder(held),
                None => None,
            };
            let Enqueued { task, existing } = self.bench.enqueue(new);
            if let Some(holder) = holder {
                ensure(existing && task.id == holder, || format!("a second task has the key of {holder}"))?;
                continue;
            }
            ensure(!existing, || format!("task {} holds a key although it ended", task.id))?;
            if let Some(held) = held {
                self.holders.insert(held, task.id);
            }
            self.known.insert(task.id, Known { attempts, due: task.due_at, ..Known::default() });
        }
        Ok(())
    }

    /// The task that has the key and has not ended, as far as the simulation knows.
    fn living_holder(&mut self, held: &(String, String)) -> Option<TaskId> {
        let id = *self.holders.get(held)?;
        let living = self.bench.get(id).is_some_and(|task| !task.state.is_final());
        living.then_some(id)
    }

    fn claim(&mut self, most: usize) -> Checked {
        let queues = QUEUES.into_iter().chain(["storm"]).map(String::from).collect();
        let work = Work { worker: "w".into(), queues, claim: most, ..Work::default() };
        let claimed = self.bench.work(work).claimed;
        // An answer that is lost leaves a lease that nobody knows of.
        let lost = self.chance(5);
        let now = self.bench.now();
        for Claimed { task, lease, expires_at } in claimed {
            let known = self.known.get_mut(&task.id).ok_or_else(|| format!("task {} was never enqueued", task.id))?;
            known.claims += 1;
            ensure(known.completions == 0 && !known.cancelled, || format!("task {} ran after its end", task.id))?;
            ensure(known.due <= now, || format!("task {} ran before it was due", task.id))?;
            ensure(known.newest.is_none_or(|(_, end)| end <= now), || format!("task {} runs twice", task.id))?;
            ensure(expires_at == now + LEASE_MS, || "a lease holds 30 s".to_owned())?;
            let counted = known.claims - known.released;
            ensure(task.attempt == counted, || format!("task {}: attempt {} of {counted}", task.id, task.attempt))?;
            ensure(task.attempt <= known.attempts, || format!("task {} ran too often", task.id))?;
            known.newest = Some((lease, expires_at));
            let done_at = now + self.rng.random_range(1..60_000);
            let silent = lost || self.chance(8);
            self.running.push(Running { lease, done_at, expires: expires_at, silent });
        }
        Ok(())
    }

    /// Whether the newest lease of its task is this one and holds.
    fn is_held(&self, lease: &Lease) -> bool {
        let newest = self.known.get(&lease.task).and_then(|known| known.newest);
        newest.is_some_and(|(newest, end)| newest == *lease && end > self.bench.now())
    }

    fn report(&mut self) -> Checked {
        let now = self.bench.now();
        let Some(at) = self.running.iter().position(|run| !run.silent && run.done_at <= now) else { return Ok(()) };
        let run = self.running.swap_remove(at);
        let outcome = match self.rng.random_range(0..10) {
            0..6 => Outcome::Completed { result: Json::null() },
            6..8 => Outcome::Failed { error: "no".into(), retry: true },
            8 => Outcome::Released,
            _ => Outcome::Failed { error: "never".into(), retry: false },
        };
        self.tell(run.lease, outcome)
    }

    /// Reports, perhaps twice, and checks what is answered against what is known.
    fn tell(&mut self, lease: Lease, outcome: Outcome) -> Checked {
        let held = self.is_held(&lease);
        let cancelled = self.bench.get(lease.task).is_some_and(|task| task.cancel_requested);
        let verdict = self.bench.report(lease, outcome.clone());
        let accepted = verdict != Verdict::Stale;
        ensure(accepted == held, || format!("held={held} but {verdict:?}: {outcome:?} of task {}", lease.task))?;
        if accepted {
            let known = self.known.get_mut(&lease.task).expect("it was claimed");
            known.newest = None;
            match &outcome {
                Outcome::Completed { .. } => known.completions += 1,
                Outcome::Released if !cancelled => known.released += 1,
                Outcome::Failed { retry, .. } => {
                    known.spent += 1;
                    let again = *retry && known.claims - known.released < known.attempts && !cancelled;
                    ensure(again != matches!(verdict, Verdict::Accepted(state) if state.is_final()), || {
                        format!("task {} failed and is {verdict:?}", lease.task)
                    })?;
                }
                _ => {}
            }
            known.cancelled |= cancelled && !matches!(outcome, Outcome::Completed { .. });
            let task = self.bench.get(lease.task).ok_or_else(|| format!("task {} is gone", lease.task))?;
            self.known.get_mut(&lease.task).expect("it was claimed").due = task.due_at;
        }
        let again = self.bench.report(lease, outcome);
        ensure(again == Verdict::Stale, || format!("a repeated report of task {} was accepted", lease.task))
    }

    fn renew(&mut self) -> Checked {
        let runs: Vec<_> = self.running.iter().filter(|run| !run.silent).take(1_000).cloned().collect();
        let leases: Vec<_> = runs.iter().map(|run| run.lease).collect();
        let held: Vec<_> = leases.iter().map(|lease| self.is_held(lease)).collect();
        let TaskAnswer::Renewed(renewals) = self.bench.call(&TaskOperation::Renew { leases, lease_ms: 0 }).unwrap()
        else {
            panic!("not what was asked for")
        };
        let mut gone = BTreeSet::new();
        for ((run, renewal), held) in runs.iter().zip(renewals).zip(held) {
            let id = run.lease.task;
            match renewal {
                Renewal::Held { expires_at, cancel } => {
                    ensure(held, || format!("a lease of task {id} that had ended was renewed"))?;
                    self.known.get_mut(&id).expect("it was claimed").newest = Some((run.lease, expires_at));
                    if let Some(run) = self.running.iter_mut().find(|other| other.lease == run.lease) {
                        run.expires = expires_at;
                    }
                    if cancel {
                        gone.insert(id);
                        self.tell(run.lease, Outcome::Cancelled)?;
                        ensure(self.bench.state(id) == TaskState::Cancelled, || {
                            format!("task {id} was not cancelled")
                        })?;
                    }
                }
                Renewal::Stale => {
                    ensure(!held, || format!("the lease of task {id} was lost before its end"))?;
                    gone.insert(id);
                }
            }
        }
        self.running.retain(|run| run.silent || !gone.contains(&run.lease.task));
        Ok(())
    }

    /// A worker that was thought dead does what it still means to do.
    fn zombie(&mut self) -> Checked {
        let now = self.bench.now();
        let dead: Vec<_> = self.running.iter().filter(|run| run.silent && run.expires <= now).cloned().collect();
        self.running.retain(|run| !(run.silent && run.expires <= now));
        self.old.extend(dead.iter().map(|run| run.lease));
        for _ in 0..4 {
            if self.old.is_empty() {
                return Ok(());
            }
            let lease = self.old[self.rng.random_range(0..self.old.len())];
            // It may also have mixed up what it knows.
            let newest = self.known.get(&lease.task).and_then(|known| known.newest);
            let forged = match (self.rng.random_range(0..3), newest) {
                (0, Some((newest, _))) => Lease { token: lease.token, ..newest },
                (1, Some((newest, _))) => Lease { run: newest.run, ..lease },
                _ => lease,
            };
            if self.is_held(&forged) {
                continue;
            }
            self.tell(forged, Outcome::Completed { result: Json::null() })?;
            let renew = TaskOperation::Renew { leases: vec![forged], lease_ms: 0 };
            let renewed = self.bench.call(&renew).unwrap();
            ensure(renewed == TaskAnswer::Renewed(vec![Renewal::Stale]), || {
                format!("a lease of task {} that is not held was renewed", forged.task)
            })?;
        }
        Ok(())
    }

    fn meddle(&mut self) -> Checked {
        let Some(&id) = self.known.keys().nth(self.rng.random_range(0..self.known.len().max(1))) else { return Ok(()) };
        let before = self.bench.state(id);
        if before.is_final() || self.chance(70) {
            return Ok(());
        }
        let TaskAnswer::Changed { task, .. } = self.bench.call(&TaskOperation::Cancel(id)).unwrap() else {
            panic!("not what was asked for")
        };
        let known = self.known.get_mut(&id).expect("it is known");
        known.cancelled |= task.state == TaskState::Cancelled;
        ensure(task.cancel_requested || task.state == TaskState::Cancelled, || format!("task {id} was not cancelled"))
    }

    fn pass_time(&mut self) -> Checked {
        let ms = if self.chance(5) { self.rng.random_range(0..100_000) } else { self.rng.random_range(0..3_000) };
        self.bench.wait(ms);
        if self.chance(10) {
            // The wall clock jumps by up to a day, either way; engine time does not.
            self.wall = self.rng.random_range(-86_400_000..86_400_000);
            planted::set_wall_ahead(self.wall);
        }
        if self.chance(50) {
            // The tick is late, or its thread is held up.
            return Ok(());
        }
        self.bench.tick();
        self.after_tick()
    }

    /// Nothing is left behind by a tick that time alone has decided.
    fn after_tick(&mut self) -> Checked {
        let now = self.bench.now();
        for (id, record) in self.bench.records() {
            let known = self.known.get_mut(&id).ok_or_else(|| format!("task {id} was never enqueued"))?;
            ensure(record.state != TaskState::Delayed || record.due > now, || format!("task {id} is due and delayed"))?;
            let held = known.newest.filter(|_| record.state == TaskState::Active);
            match held {
                Some((_, end)) => ensure(end > now, || format!("task {id} is stuck"))?,
                None => ensure(record.state != TaskState::Active, || format!("task {id} is active for nobody"))?,
            }
            if record.state != TaskState::Active {
                ensure(known.newest.is_none_or(|(_, end)| end <= now), || {
                    format!("task {id} was taken from its worker")
                })?;
                known.cancelled |= record.state == TaskState::Cancelled;
            }
            ensure(record.deaths <= 3, || format!("task {id} killed {} workers", record.deaths))?;
        }
        Ok(())
    }

    /// Many tasks fail at once; whatever their backoff, not more of them come back a second than the budget lets.
    fn storm(&mut self) -> Checked {
        const TASKS: usize = 120;
        let queue = "storm".to_owned();
        for _ in 0..TASKS {
            let backoff = Some(Backoff::Exponential { base_ms: 100, cap_ms: 100 });
            let id = self.bench.enqueue(NewTask { backoff, ..NewTask::new(queue.clone(), Json::null()) }).task.id;
            self.known.insert(id, Known { attempts: 5, ..Known::default() });
        }
        let claimed = self.bench.work(Work { queues: vec![queue], claim: TASKS, ..Work::default() }).claimed;
        ensure(claimed.len() == TASKS, || "a new queue gives out all that it has".to_owned())?;
        let mut comes_back = BTreeMap::<i64, usize>::new();
        for Claimed { task, lease, expires_at } in claimed {
            let known = self.known.get_mut(&task.id).expect("it was enqueued");
            (known.claims, known.newest) = (1, Some((lease, expires_at)));
            self.tell(lease, Outcome::Failed { error: "no".into(), retry: true })?;
            *comes_back.entry((self.known[&task.id].due - self.bench.now()) / 1_000).or_default() += 1;
        }
        let most = comes_back.values().max().copied().unwrap_or(0);
        // Ten a second, ten more that were saved up, and what the backoff shifts over the end of a second.
        ensure(most <= 25, || format!("{most} retries come back within a second"))
    }

    /// Without further trouble everything that was enqueued ends.
    fn settle(&mut self) -> Checked {
        for _ in 0..10_000 {
            self.bench.wait(5_000);
            self.bench.tick();
            self.after_tick()?;
            for run in std::mem::take(&mut self.running) {
                if !run.silent {
                    self.tell(run.lease, Outcome::Completed { result: Json::null() })?;
                }
            }
            self.claim(1_000)?;
            for run in &mut self.running {
                run.silent = false;
            }
            let records = self.bench.records();
            if self.running.is_empty() && records.values().all(|record| record.state.is_final()) {
                return self.account(&records);
            }
        }
        Err("tasks are left that never end".to_owned())
    }

    fn account(&self, records: &BTreeMap<TaskId, record::Record>) -> Checked {
        for (id, known) in &self.known {
            let record = records.get(id).ok_or_else(|| format!("task {id} was lost"))?;
            let completed = u32::from(record.state == TaskState::Completed);
            ensure(known.completions == completed, || format!("task {id} completed {} times", known.completions))?;
            let dead = record.attempt >= record.max_attempts || record.deaths >= 3;
            let never = record.failures.last().is_some_and(|failed| failed.error == "never");
            ensure(record.state != TaskState::Failed || dead || never, || format!("task {id} was given up too early"))?;
        }
        self.bench.check()
    }
}

/// How many tasks one run takes: the full number where a soak asks for it.
fn tasks() -> usize {
    if std::env::var_os("KAPPA_SOAK").is_some() { 20_000 } else { 600 }
}

fn simulate(seed: u64, tasks: usize, bug: Option<Planted>) -> Checked {
    planted::set_wall_ahead(0);
    planted::with(bug, || World::new(seed, tasks).run())
}

/// Q1-Q4, Q7, Q8, Q11, Q12: no task is lost, none completes twice, nothing stale is accepted.
#[test]
fn nothing_is_lost_and_nothing_stale_is_accepted() {
    let seeds = if tasks() > 600 { 1..=3 } else { 1..=8 };
    for seed in seeds {
        println!("seed={seed} tasks={}", tasks());
        simulate(seed, tasks(), None).unwrap_or_else(|broken| panic!("seed={seed}: {broken}"));
    }
}

/// A simulation that cannot fail proves nothing.
#[test]
fn every_planted_bug_is_noticed() {
    let mut unnoticed = Vec::new();
    for bug in Planted::ALL {
        let noticed = (1..=6).find_map(|seed| found_by(|| simulate(seed, 300, Some(bug))).map(|broken| (seed, broken)));
        println!("bug={bug:?} noticed={noticed:?}");
        if noticed.is_none() {
            unnoticed.push(bug);
        }
    }
    assert!(unnoticed.is_empty(), "{unnoticed:?}");
}
