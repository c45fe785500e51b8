//! Checkpoints: a memtable is frozen, drained into the store and dropped.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use super::digest::Digest;
use super::memtable::{LEAST_ENTRY_BYTES, Memtable};
use super::options::{Checkpoint, CheckpointLog, Planted, StoreState};
use super::store::{Abandoned, Change, StoreResult, scan_digest};
use super::tables::{Ended, Tables};
use super::{DRAIN_PARTS, Shared, View, Writer};
use crate::engine::{Sequence, Versioned};
use crate::error::{Error, ErrorKind, Result};

/// Changes handed to the store at a time; between two of them a close is noticed.
const CHANGES_A_CALL: usize = 2_048;
/// So many changes are flushed together: keys far apart write a block each, and no flush may have more to do than its
/// deadline allows on a slow disk.
const CHANGES_A_FLUSH: usize = 8 * CHANGES_A_CALL;
/// What the smallest drain may take of the disk,
const LEAST_ROOM: u64 = 1 << 20;
/// and what any may for each byte of its memtable: what is new, and what sled writes of where it lies;
const ROOM_A_BYTE: u64 = 4;
/// and where all its keys lie far apart, what their blocks take until a flush lets go of those before them.
const ROOM_A_BLOCK: u64 = 5 << 10;
/// While writes come in, a drain rests at most so long between two calls of the store: it takes at most about a
/// third of a core then, and comes to its end all the same.
const REST: Duration = Duration::from_millis(60);
/// Nothing was written for so long: the drain goes on at full speed.
const QUIET: Duration = Duration::from_millis(5);
/// How often waits look whether the view is being closed.
const LOOK_UP: Duration = Duration::from_millis(20);
/// How long a reader takes at most, if all goes well.
const FAREWELL: Duration = Duration::from_millis(100);
/// How long a group may take from apply to publish, which is its sync, before a freeze gives up on it for now.
pub(super) const PUBLISH_WAIT: Duration = Duration::from_secs(10);

/// What a drain of `undrained` bytes may take of the disk at most.
pub(super) fn room_for(undrained: u64) -> u64 {
    let keys = (undrained / LEAST_ENTRY_BYTES).min(CHANGES_A_FLUSH as u64);
    LEAST_ROOM + ROOM_A_BYTE * undrained + ROOM_A_BLOCK * keys
}

/// What is known about the store's content, and the drain that is under way.
#[derive(Debug)]
pub(super) struct Maintenance {
    base: Option<(Sequence, Digest)>,
    /// A drain of the process before this one that has to be repeated.
    repeat: Option<(Sequence, Digest)>,
    frozen: Option<Frozen>,
}

/// A memtable on its way into the store. Kept between attempts, so that what is done stays done.
#[derive(Debug)]
struct Frozen {
    memtable: Arc<Memtable>,
    at: Sequence,
    older: Vec<Ended>,
    digest: Option<Digest>,
    /// What is to be drained; nothing is known when the drain has to be repeated.
    plan: Plan,
    recorded: bool,
    /// The digest came from the manifest: compare before relying on it.
    repeated: bool,
}

/// What a drain has to do, found while its digest was made.
#[derive(Debug, Default)]
struct Plan {
    /// Keys to be written or removed.
    keys: usize,
    /// Whether the key at a place of the memtable is gone and never was in the store, as most keys of a queue are: then
    /// it need not be looked for a second time.
    absent: Vec<bool>,
}

impl Maintenance {
    pub(super) fn new(state: StoreState) -> Self {
        let (base, repeat) = match state {
            StoreState::Empty => (Some((0, Digest::default())), None),
            StoreState::At { at, digest } => (Some((at, digest)), None),
            StoreState::Draining { to, digest, .. } => (None, Some((to, digest))),
        };
        Self { base, repeat, frozen: None }
    }

    /// The last checkpoint, if the store was not changed since.
    pub(super) fn known(&self) -> Option<(Sequence, Digest)> {
        self.base.filter(|_| !self.frozen.as_ref().is_some_and(|frozen| frozen.recorded))
    }
}

impl View {
    /// Brings the store to the newest published sequence, durably, and drops what it drained.
    ///
    /// A view opened in the state `Draining` repeats that drain: the owner applies and publishes the
    /// log exactly up to `to`, calls this, and goes on from there.
    ///
    /// # Errors
    /// What `log` answers (call again later); `Unavailable` when the view was abandoned or the group
    /// being applied was not published in time.
    pub fn checkpoint(&self, log: &dyn CheckpointLog) -> Result<Checkpoint> {
        let shared = &*self.shared;
        let mut maintenance = shared.maintenance.lock();
        shared.check()?;
        if maintenance.frozen.is_none() {
            let Some(frozen) = shared.freeze(maintenance.repeat)? else { return Ok(Checkpoint::Nothing) };
            maintenance.frozen = Some(frozen);
        }
        let before = maintenance.base.map(|(_, digest)| digest);
        let frozen = maintenance.frozen.as_mut().expect("set above");
        let digest = match (frozen.digest, before) {
            (Some(digest), _) => digest,
            (None, Some(before)) => match shared.digest_after(before, &frozen.memtable) {
                Ok(Some((digest, plan))) => {
                    frozen.plan = plan;
                    digest
                }
                Ok(None) => return Ok(Checkpoint::Cancelled),
                Err(abandoned) => return Err(shared.abandon(abandoned)),
            },
            (None, None) => unreachable!("a drain that is repeated brings its digest along"),
        };
        frozen.digest = Some(digest);
        if !shared.options.has(Planted::DrainUnderSnapshot)
            && !shared.wait_for_older(&mut frozen.older, shared.options.snapshot_wait)
        {
            return Ok(if shared.is_ending() { Checkpoint::Cancelled } else { Checkpoint::Postponed });
        }
        if !frozen.recorded {
            log.draining(frozen.at, digest)?;
            frozen.recorded = true;
            *shared.known.lock() = None;
        }
        let drained = shared.drain(frozen, digest);
        shared.tell_drained(None);
        match drained {
            Ok(true) => {}
            Ok(false) => return Ok(Checkpoint::Cancelled),
            Err(abandoned) => return Err(shared.abandon(abandoned)),
        }
        let at = frozen.at;
        log.drained(at, digest)?;
        maintenance.base = Some((at, digest));
        maintenance.repeat = None;
        *shared.known.lock() = maintenance.base;
        shared.thaw();
        let memtable = maintenance.frozen.take().map(|frozen| frozen.memtable);
        shared.let_readers_go();
        drop(memtable);
        Ok(Checkpoint::At(at))
    }

    /// Freezes what was applied up to the end of a drain that has to be repeated; the next checkpoint drains it, and
    /// writes go on meanwhile.
    ///
    /// # Errors
    /// As [`View::checkpoint`].
    pub fn begin_repeat(&self) -> Result<()> {
        let mut maintenance = self.shared.maintenance.lock();
        if maintenance.repeat.is_some() && maintenance.frozen.is_none() {
            maintenance.frozen = self.shared.freeze(maintenance.repeat)?;
        }
        Ok(())
    }

    /// Whether a drain has still to be repeated.
    pub fn repeats(&self) -> bool {
        self.shared.maintenance.lock().repeat.is_some()
    }

    /// Reads the whole store and compares it with the digest of the last checkpoint; gives the view
    /// up where they differ. A checkpoint waits meanwhile. Answers whether it came to the end.
    ///
    /// # Errors
    /// `Unavailable` when the store is not what the log says.
    pub fn verify(&self) -> Result<bool> {
        self.verify_while(&|| true)
    }

    /// As [`View::verify`], given up as soon as `go_on` says so: writers cannot go on without a checkpoint for long.
    ///
    /// # Errors
    /// As [`View::verify`].
    pub fn verify_while(&self, go_on: &dyn Fn() -> bool) -> Result<bool> {
        let shared = &*self.shared;
        let maintenance = shared.maintenance.lock();
        shared.check()?;
        let Some((at, digest)) = maintenance.known() else { return Ok(false) };
        let compared = shared.compare(at, digest, go_on);
        compared.map_err(|abandoned| shared.abandon(abandoned))
    }
}

impl Shared {
    /// Swaps the active memtable for an empty one, between two groups.
    fn freeze(&self, repeat: Option<(Sequence, Digest)>) -> Result<Option<Frozen>> {
        let mut writer = self.writer.lock();
        let memtable = self.active();
        if memtable.is_empty() && repeat.is_none() {
            return Ok(None);
        }
        let published = self.published.load(Ordering::Acquire);
        if let Some((to, _)) = repeat.filter(|(to, _)| *to != published) {
            let error = Error::new(ErrorKind::Internal, "a repeated drain has to end where it was going");
            return Err(error.with("published", published).with("to", to));
        }
        if writer.applied <= published {
            self.freeze_at(&mut writer, published);
        } else {
            // A group is between apply and publish; its writer makes the freeze when it publishes,
            // because a waiter that only tried again might never find a gap between two groups.
            writer.freeze_wanted = true;
            let waits = |writer: &mut Writer| writer.freeze_wanted && !writer.is_withheld && !self.is_ending();
            #[cfg(test)]
            self.publish_waits.fetch_add(usize::from(waits(&mut writer)), Ordering::AcqRel);
            self.moved.wait_while_for(&mut writer, waits, PUBLISH_WAIT);
            writer.freeze_wanted = false;
        }
        let Some(at) = writer.frozen_at.take() else {
            self.check()?;
            return Err(Error::new(ErrorKind::Unavailable, "a group was applied and not published"));
        };
        let current = writer.ended.pop().expect("the list in use has its notice");
        let older = mem::replace(&mut writer.ended, vec![current]);
        let digest = repeat.map(|(_, digest)| digest);
        let repeated = repeat.is_some();
        Ok(Some(Frozen { memtable, at, older, digest, plan: Plan::default(), recorded: repeated, repeated }))
    }

    /// Everything up to `at` is in the active memtable or below, and nothing else is.
    pub(super) fn freeze_at(&self, writer: &mut Writer, at: Sequence) {
        let frozen = self.active();
        self.replace_tables(writer, Arc::new(Memtable::new(self.options.memtable_bytes)), Some(frozen));
        writer.freeze_wanted = false;
        writer.frozen_at = Some(at);
        self.moved.notify_all();
    }

    /// The store answers for the frozen memtable from now on.
    fn thaw(&self) {
        let mut writer = self.writer.lock();
        let active = self.active();
        self.replace_tables(&mut writer, active, None);
        drop(writer);
        self.moved.notify_all();
    }

    /// Waits a moment for the readers of lists before this one, so that none of them is the last to
    /// hold the drained memtable and has to free its hundred thousand entries.
    fn let_readers_go(&self) {
        let mut writer = self.writer.lock();
        let current = writer.ended.pop().expect("the list in use has its notice");
        let mut older = mem::replace(&mut writer.ended, vec![current]);
        drop(writer);
        let _ = self.wait_for_older(&mut older, FAREWELL);
        // Only a checkpoint adds notices, and this is one.
        self.writer.lock().ended.splice(0..0, older);
    }

    fn replace_tables(&self, writer: &mut Writer, active: Arc<Memtable>, frozen: Option<Arc<Memtable>>) {
        // Nobody else replaces it: the writer's lock is held.
        let generation = self.current.load().generation + 1;
        let (tables, ended) = Tables::new(active, frozen, generation);
        // Before the list is in use: see `is_current` and `reading`.
        self.generation.store(generation, Ordering::Release);
        self.current.store(tables);
        writer.ended.push(ended);
    }

    /// The digest that the store will have when `memtable` is in it, and what that takes; none when the view is closing.
    fn digest_after(&self, mut digest: Digest, memtable: &Memtable) -> StoreResult<Option<(Digest, Plan)>> {
        let salt = self.options.salt;
        let keeps = self.options.has(Planted::DigestKeepsDeleted);
        let mut plan = Plan::default();
        let mut newest = memtable.newest();
        loop {
            if self.is_ending() {
                return Ok(None);
            }
            let now = newest.by_ref().take(CHANGES_A_CALL);
            let (keys, states): (Vec<_>, Vec<_>) =
                now.map(|(key, (sequence, value))| (key, (sequence, value.is_some()))).unzip();
            if keys.is_empty() {
                return Ok(Some((digest, plan)));
            }
            for ((key, (sequence, stays)), before) in keys.iter().zip(states).zip(self.store.sequences_of(&keys)?) {
                let absent = !stays && before.is_none();
                plan.absent.push(absent);
                plan.keys += usize::from(!absent);
                if let Some(before) = before.filter(|_| stays || !keeps) {
                    digest.remove(salt, key, before);
                }
                if stays {
                    digest.add(salt, key, sequence);
                }
            }
        }
    }

    /// Whether all snapshots of the lists in `older` have ended.
    fn wait_for_older(&self, older: &mut Vec<Ended>, mut left: Duration) -> bool {
        while let Some(Ended(notice)) = older.last() {
            match notice.recv_timeout(LOOK_UP.min(left)) {
                Ok(()) | Err(RecvTimeoutError::Disconnected) => drop(older.pop()),
                Err(RecvTimeoutError::Timeout) => {
                    left = left.saturating_sub(LOOK_UP);
                    if left.is_zero() || self.is_ending() {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Writes the newest version of each key; whether it came to the end.
    fn drain(&self, frozen: &Frozen, digest: Digest) -> StoreResult<bool> {
        let mut changes = Vec::with_capacity(CHANGES_A_CALL);
        let keys = frozen.plan.keys;
        let mut drained = 0;
        self.tell_drained(Some((drained, keys)));
        for change in self.changes(frozen) {
            changes.push(change);
            if changes.len() == CHANGES_A_CALL {
                if self.is_ending() {
                    return Ok(false);
                }
                self.store.write(mem::replace(&mut changes, Vec::with_capacity(CHANGES_A_CALL)))?;
                drained += CHANGES_A_CALL;
                if drained.is_multiple_of(CHANGES_A_FLUSH) {
                    self.store.flush()?;
                }
                self.tell_drained(Some((drained, keys)));
                self.rest(drained, keys);
            }
        }
        self.store.write(changes)?;
        self.store.flush()?;
        if frozen.repeated {
            self.store.sweep()?;
            self.store.flush()?;
        }
        // The store went through a crash in the middle of a drain: believe it only after a full scan.
        if frozen.repeated && self.options.compare_repeated {
            self.compare(frozen.at, digest, &|| true)
        } else {
            Ok(true)
        }
    }

    /// Lets writers who wait for room know how many of its keys the drain has written; none when it has ended.
    fn tell_drained(&self, drained: Option<(usize, usize)>) {
        // How much a drain that is repeated has to do is not known.
        let parts = drained.and_then(|(drained, keys)| (drained * DRAIN_PARTS).checked_div(keys));
        let parts = parts.map_or(0, |parts| parts.clamp(1, DRAIN_PARTS));
        self.drained.store(parts, Ordering::Release);
        // Under the lock, so that nobody starts to wait between its look and this call.
        drop(self.writer.lock());
        self.moved.notify_all();
    }

    /// Leaves the processor to the callers while the drain is ahead of what the writes need: it has to be done
    /// when the active memtable is due.
    fn rest(&self, drained: usize, keys: usize) {
        // How much a drain that is repeated has to do is not known.
        let is_ahead = || keys > 0 && drained * self.options.due_bytes() > keys * self.active().bytes();
        let mut writer = self.writer.lock();
        let mut left = REST;
        while !left.is_zero() && is_ahead() && !self.is_ending() {
            let before = self.published.load(Ordering::Acquire);
            self.moved.wait_for(&mut writer, QUIET);
            if before == self.published.load(Ordering::Acquire) {
                return;
            }
            left = left.saturating_sub(QUIET);
        }
    }

    fn changes<'a>(&'a self, frozen: &'a Frozen) -> Box<dyn Iterator<Item = Change> + 'a> {
        let change = |(key, (sequence, value)): (_, super::memtable::Version)| Change {
            key,
            state: value.map(|value| Versioned { value, sequence }),
        };
        #[cfg(test)]
        if self.options.has(Planted::DrainOldest) {
            return Box::new(frozen.memtable.oldest().into_iter().map(change));
        }
        let skips = self.options.has(Planted::DrainSkipsDeletes);
        let absent = &frozen.plan.absent;
        let shift = usize::from(self.options.has(Planted::AbsentShifted));
        let numbered = frozen.memtable.newest().enumerate();
        let present = numbered.filter(move |(number, _)| !absent.get(number + shift).is_some_and(|absent| *absent));
        Box::new(present.map(move |(_, newest)| change(newest)).filter(move |change| !skips || change.state.is_some()))
    }

    /// Whether the scan came to its end; what it found is right then.
    fn compare(&self, at: Sequence, expected: Digest, go_on: &dyn Fn() -> bool) -> StoreResult<bool> {
        let go_on = || go_on() && !self.closing.load(Ordering::Acquire);
        let Some(found) = scan_digest(&*self.store, self.options.salt, &go_on)? else { return Ok(false) };
        if found == expected {
            return Ok(true);
        }
        let counts = format!("keys={} expected={} at={at}", found.count, expected.count);
        Err(Abandoned::new(format!("the store does not hold what the log says: {counts}")))
    }
}
