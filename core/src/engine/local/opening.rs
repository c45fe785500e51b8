//! From a directory to a running engine, whatever the last process left there.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::engine::{Durability, KeyValue, Record, Sequence};
use crate::env::{Env, allocator};
use crate::error::{Error, ErrorKind, Result};
use crate::options::ViewKind;

use super::Shared;
use super::log::{self, BaseEntry, Cut, Identity, Log, LogOptions, RecoveryReport, Room, TailIter};
use super::view::directory;
use super::view::rebuild::{self, Progress};
use super::view::{Checkpoint, CheckpointLog, Digest, StoreState, View, ViewOptions};

/// Records that are applied between two looks at the memtable.
const REPLAY_GROUP: usize = 256;
/// and bytes of them, because a record may be large.
const REPLAY_BYTES: usize = 1 << 20;
/// The default of [`LocalOptions::compare_first_keys`]: that takes well under a second.
pub const COMPARE_FIRST_KEYS: u64 = 200_000;
/// A rebuild says how far it is each time this many entries are in.
const PROGRESS_EVERY: u64 = 100_000;
/// What a rebuild begins with, for each byte that the memtable may have.
const REBUILT_A_BYTE: u64 = 2;

/// What the owner of an engine decides.
#[derive(Clone, Debug)]
pub struct LocalOptions {
    /// Sizes and rules of the log.
    pub log: LogOptions,
    /// Sizes and bounds of the view.
    pub view: ViewOptions,
    /// What the view keeps its keys in.
    pub view_kind: ViewKind,
    /// The files are as this machine wrote them: it has not been started again since they were last used.
    /// Then a large view is compared with the log, and a drain that was cut short repeated, beside the first
    /// calls instead of before them.
    pub same_boot: bool,
    /// A view with at most this many keys is compared before the first answer in any case.
    pub compare_first_keys: u64,
    /// How long a group waits for room in the memtables.
    pub room_wait: Duration,
}

/// What an open found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Whether the last process closed the log.
    pub clean: bool,
    /// The view has still to be compared with the log.
    pub compare_later: bool,
    /// In words, for people: a cut tail, a rebuilt view. Empty when there is nothing to say.
    pub findings: Vec<String>,
}

/// Opens log and view, and brings the view to the log's end.
pub fn open(directory: PathBuf, options: LocalOptions, env: Env) -> Result<(Shared, OpenReport)> {
    allocator::keep_freed();
    if options.log.durability > Durability::Synced {
        let error = Error::new(ErrorKind::Unsupported, "one copy cannot be replicated; ask for `synced`");
        return Err(error.with("durability", options.log.durability.name()));
    }
    let (log, end, mut report) = open_log(&directory, &options, &env)?;
    let mut view_options = ViewOptions { files: Arc::clone(&env.files), ..options.view.clone() };
    let database = log.manifest().identity.database;
    view_options.salt = u64::from_be_bytes(database[..8].try_into().expect("an id has sixteen bytes"));
    let shared_view = open_view(&log, end, &directory, &options, &view_options, &mut report)?;
    let shown = AtomicU64::new(log.newest().0);
    let shared = Shared {
        log,
        directory,
        options,
        view_options,
        env,
        view: ArcSwap::from_pointee(shared_view),
        shown,
        writing: Mutex::new(()),
        rebuilding: AtomicBool::new(false),
        closed: AtomicBool::new(false),
    };
    Ok((shared, report))
}

/// The log, its last record, and what recovery did.
fn open_log(directory: &Path, options: &LocalOptions, env: &Env) -> Result<(Log, Sequence, OpenReport)> {
    match Log::open(Arc::clone(&env.files), directory, options.log.clone()) {
        Ok((log, recovery)) => {
            let findings = findings(&recovery);
            Ok((log, recovery.newest, OpenReport { clean: recovery.clean, findings, ..OpenReport::default() }))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut database = [0; 16];
            env.entropy.fill(&mut database);
            let identity = Identity { database, node: 0, partition: 0, partitions: 1 };
            let log = Log::create(Arc::clone(&env.files), directory, options.log.clone(), identity)?;
            Ok((log, 0, OpenReport { clean: true, ..OpenReport::default() }))
        }
        Err(error) => Err(error),
    }
}

/// What a recovery did, in words.
fn findings(recovery: &RecoveryReport) -> Vec<String> {
    let mut findings = Vec::new();
    for Cut { file, offset, bytes, records } in &recovery.cuts {
        // The name is enough: findings are also read by people who have no business with this machine's directories.
        let file = file.file_name().unwrap_or_default().display();
        findings.push(format!("a torn end was cut: file={file} offset={offset} bytes={bytes} records={records}"));
    }
    if recovery.manifest_repaired {
        findings.push("one of the two copies of MANIFEST was damaged and has been written again".into());
    }
    for name in &recovery.leftovers {
        findings.push(format!("an unfinished file was removed: file={name}"));
    }
    findings
}

fn open_view(
    log: &Log,
    end: Sequence,
    directory: &Path,
    options: &LocalOptions,
    view_options: &ViewOptions,
    report: &mut OpenReport,
) -> Result<View> {
    let manifest = log.manifest();
    let known = manifest.view.as_ref().filter(|_| options.view_kind == ViewKind::Sled);
    if let Some(name) = known {
        let state = state_of(manifest.checkpoint);
        let keys = match state {
            StoreState::Empty => 0,
            StoreState::At { digest, .. } | StoreState::Draining { digest, .. } => digest.count,
        };
        let view_options = ViewOptions {
            compare_repeated: !options.same_boot || keys <= options.compare_first_keys,
            ..view_options.clone()
        };
        let place = directory.join(name);
        match reopen(log, end, &place, &view_options, state) {
            Ok(view) => {
                report.compare_later = !view_options.compare_repeated;
                remove_leftovers(&view_options, directory, &place);
                return Ok(view);
            }
            Err(Reopen::Log(error)) => return Err(error),
            Err(Reopen::View(reason)) => report.findings.push(format!("the view was rebuilt from the log: {reason}")),
        }
    }
    rebuild(log, directory, options.view_kind, view_options, &mut |_| ControlFlow::Continue(()))
}

/// Why a view could not be brought to the log's end.
enum Reopen {
    /// The log does not answer: nothing to rebuild from either.
    Log(Error),
    /// The view is no good.
    View(String),
}

fn reopen(
    log: &Log,
    end: Sequence,
    directory: &Path,
    options: &ViewOptions,
    state: StoreState,
) -> Result<View, Reopen> {
    let gone = |error: &dyn std::fmt::Display| Reopen::View(error.to_string());
    let (StoreState::At { at: holds, .. } | StoreState::Draining { to: holds, .. }) = state else {
        return Err(Reopen::View("nothing is known about its content".into()));
    };
    if holds > end {
        return Err(Reopen::View(format!("it is ahead of the log: at={holds} end={end}")));
    }
    let view = View::open(Some(directory), options.clone(), state).map_err(|abandoned| gone(&abandoned))?;
    let after = match state {
        StoreState::Empty => unreachable!("answered above"),
        // Before the first answer: sled may have gone back to an older state without a word, and what is
        // read from it decides what is written next.
        StoreState::At { at, .. } if options.compare_repeated => {
            view.verify().map(|_| at).map_err(|error| gone(&error))?
        }
        StoreState::At { at, .. } => at,
        StoreState::Draining { from, to, .. } => {
            replay(log, &view, tail_behind(log, from)?, from, Some(to))?;
            if options.compare_repeated {
                match checkpoint(log, &view).map_err(|error| gone(&error))? {
                    Checkpoint::At(_) => {}
                    other => return Err(Reopen::View(format!("its drain could not be repeated: {other:?}"))),
                }
            } else {
                // The memtable hides every key that the drain may have touched, as it did the first time.
                view.begin_repeat().map_err(|error| gone(&error))?;
            }
            to
        }
    };
    replay(log, &view, tail_behind(log, after)?, after, None)?;
    Ok(view)
}

/// The tail behind a view's checkpoint. Where it is no longer kept, the base is newer than the view.
fn tail_behind(log: &Log, after: Sequence) -> Result<TailIter, Reopen> {
    log.tail_iter(after).map_err(|error| match error.kind() {
        ErrorKind::Expired => Reopen::View(error.to_string()),
        _ => Reopen::Log(error),
    })
}

/// Views that rebuilds left behind when they were broken off; they cost space and nothing else.
fn remove_leftovers(options: &ViewOptions, directory: &Path, keep: &Path) {
    if let Err(error) = directory::remove_leftovers(&*options.files, directory, keep) {
        tracing::warn!(%error, "old views could not be removed");
    }
}

/// Applies `tail`, the log behind `after`, up to `to` or to its end.
fn replay(log: &Log, view: &View, tail: TailIter, after: Sequence, to: Option<Sequence>) -> Result<(), Reopen> {
    let gone = |error: Error| Reopen::View(error.to_string());
    let (mut newest, mut bytes) = (after, 0);
    let mut group = Vec::new();
    for committed in tail {
        let committed = committed.map_err(Reopen::Log)?;
        if to.is_some_and(|to| committed.sequence > to) {
            break;
        }
        // A new epoch leaves a gap in the numbers, and a group has none.
        if group.len() >= REPLAY_GROUP || bytes >= REPLAY_BYTES || committed.sequence != newest + 1 {
            bytes = 0;
            apply(view, &mut group, newest).map_err(gone)?;
            if to.is_none() && view.is_filling() {
                let _ = checkpoint(log, view).map_err(gone)?;
            }
        }
        newest = committed.sequence;
        bytes += committed.record.len();
        group.push(committed.record);
    }
    apply(view, &mut group, newest).map_err(gone)
}

fn apply(view: &View, group: &mut Vec<Record>, newest: Sequence) -> Result<()> {
    if !group.is_empty() {
        view.apply(newest + 1 - group.len() as Sequence, group)?;
        group.clear();
    }
    view.publish(newest);
    Ok(())
}

/// A new view, filled from the base and the tail behind it.
pub fn rebuild(
    log: &Log,
    directory: &Path,
    kind: ViewKind,
    options: &ViewOptions,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<View> {
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Unavailable, "the view's directory cannot be used").caused_by(error)
    };
    let files = &*options.files;
    // Before anything is moved: a view that cannot be used now may be sound once there is room.
    let _room = log.room_for_view(REBUILT_A_BYTE * options.memtable_bytes as u64)?;
    let old = log.manifest().view;
    let place = match kind {
        ViewKind::Sled => Some(directory::next(files, directory).map_err(failed)?),
        ViewKind::Memory => None,
    };
    // Before the old one is moved: a crash from here on finds a view that nothing is known about, and rebuilds.
    log.update_manifest(|manifest| {
        manifest.view = place.as_ref().and_then(|place| Some(place.file_name()?.to_str()?.to_owned()));
        manifest.checkpoint = log::Checkpoint::None;
    })?;
    if let Some(old) = old.map(|old| directory.join(old))
        && files.exists(&old).map_err(failed)?
    {
        directory::quarantine(files, &old).map_err(failed)?;
    }
    // Base and tail of one moment: a merge that ends in between would leave a gap between the two.
    let (base, at, tail) = log.rebuild_iter()?;
    let base = base.into_iter().flatten().filter_map(|entry| match entry {
        Ok(BaseEntry { key, value: Some(value), sequence }) => Some(Ok(KeyValue { key, value, sequence })),
        // A base holds live keys only; deletes are in the runs of a merge.
        Ok(BaseEntry { value: None, .. }) => None,
        Err(error) => Some(Err(error)),
    });
    let mut told = 0;
    let mut tell = |done: Progress| {
        if done.entries >= told + PROGRESS_EVERY {
            told = done.entries;
            tracing::info!(entries = done.entries, bytes = done.bytes, "the view is being rebuilt from the log");
        }
        progress(done)
    };
    let (view, digest) = rebuild::rebuild(place.as_deref(), options.clone(), at, base, &mut tell)?;
    if view.is_persistent() {
        Facts(log).drained(at, digest)?;
    }
    match replay(log, &view, tail, at, None) {
        Ok(()) => Ok(view),
        Err(Reopen::Log(error)) => Err(error),
        Err(Reopen::View(reason)) => {
            Err(Error::new(ErrorKind::Unavailable, "the view could not be rebuilt").with("reason", reason))
        }
    }
}

/// Drains what is in memory, gives the view's files back, and marks the log's end.
pub fn close(shared: &Shared, within: Duration) -> Result<()> {
    let view = shared.view();
    let drained = room_for_drain(&shared.log, &view).and_then(|_room| checkpoint(&shared.log, &view).map(drop));
    if let Err(error) = &drained {
        tracing::warn!(%error, "the last checkpoint was left out; the next open brings the view up from the log");
    }
    // Also after a failed checkpoint: otherwise sled keeps its lock, and the next open would take the view for broken.
    let closed = view.close(within);
    // The log is whole whatever the view said: the next open brings the view up again.
    shared.log.close_clean().and(closed)
}

/// Room for what a drain writes. sled cannot go on after a write that found no room, so the view would be lost to
/// reads as well.
///
/// # Errors
/// `StorageFull` when the disk has not so much.
pub fn room_for_drain<'a>(log: &'a Log, view: &View) -> Result<Room<'a>> {
    log.room_for_view(view.drain_room())
}

/// Drains the view's memtable; what is worth knowing after a restart goes into MANIFEST.
pub fn checkpoint(log: &Log, view: &View) -> Result<Checkpoint> {
    if view.is_persistent() { view.checkpoint(&Facts(log)) } else { view.checkpoint(&Forgotten) }
}

/// The facts of a view that is gone with the process.
struct Forgotten;

impl CheckpointLog for Forgotten {
    fn draining(&self, _to: Sequence, _digest: Digest) -> Result<()> {
        Ok(())
    }

    fn drained(&self, _at: Sequence, _digest: Digest) -> Result<()> {
        Ok(())
    }
}

/// The view's facts, in the log's MANIFEST.
struct Facts<'a>(&'a Log);

impl CheckpointLog for Facts<'_> {
    fn draining(&self, to: Sequence, digest: Digest) -> Result<()> {
        // Otherwise a log that syncs late could end before its own view after a power cut.
        self.0.sync()?;
        self.0.update_manifest(|manifest| {
            let from = match manifest.checkpoint {
                log::Checkpoint::At { sequence, .. } => sequence,
                log::Checkpoint::Draining { from, .. } => from,
                log::Checkpoint::None => return,
            };
            manifest.checkpoint = log::Checkpoint::Draining { to, from, digest: to_log(digest) };
        })
    }

    fn drained(&self, at: Sequence, digest: Digest) -> Result<()> {
        self.0.update_manifest(|manifest| {
            manifest.checkpoint = log::Checkpoint::At { sequence: at, digest: to_log(digest) };
        })
    }
}

fn to_log(digest: Digest) -> log::Digest {
    log::Digest { count: digest.count, sum: digest.sum }
}

fn state_of(checkpoint: log::Checkpoint) -> StoreState {
    let digest = |digest: log::Digest| Digest { count: digest.count, sum: digest.sum };
    match checkpoint {
        log::Checkpoint::None => StoreState::Empty,
        log::Checkpoint::At { sequence, digest: expected } => StoreState::At { at: sequence, digest: digest(expected) },
        log::Checkpoint::Draining { to, from, digest: expected } => {
            StoreState::Draining { from, to, digest: digest(expected) }
        }
    }
}
