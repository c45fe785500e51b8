//! A reference workload that knows what it was promised, and the check of what a crash left of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::basics::{DIR, IDENTITY, put, small};
use crate::engine::local::log::{Checkpoint, Digest, Log, LogOptions, RecoveryReport};
use crate::engine::{Durability, Record, Sequence, Write};
use crate::env::files::Files;
use crate::env::files::simulated::{Crash, SimulatedFiles};
use crate::error::{Error, ErrorKind, Result};

/// What went wrong, for people.
pub type Verdict<T = ()> = std::result::Result<T, String>;

/// Ten times as many states when asked for.
pub fn soak(count: usize) -> usize {
    if std::env::var_os("KAPPA_SOAK").is_some() { count * 10 } else { count }
}

/// One record that was handed to the log, and when it reached which level (counted in operations of the disk).
#[derive(Clone, Debug)]
pub struct Issued {
    pub sequence: Sequence,
    pub record: Record,
    pub started: usize,
    pub written: usize,
    pub synced: usize,
}

/// What is allowed after a crash.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// At least so many records.
    pub least: usize,
    /// At most so many.
    pub most: usize,
    /// The highest number that was handed out before.
    pub highest: Sequence,
}

/// The workload and its memory.
pub struct Workload {
    pub files: SimulatedFiles,
    pub options: LogOptions,
    pub issued: Vec<Issued>,
    /// The highest number that was ever handed out, also to records that are gone.
    pub highest: Sequence,
    log: Option<Log>,
    chance: StdRng,
    steps: i64,
}

impl Workload {
    pub fn new(seed: u64, durability: Durability) -> Self {
        let files = SimulatedFiles::new(seed);
        files.create_dir_all(Path::new("/disk")).unwrap();
        files.sync_dir(Path::new("/")).unwrap();
        let options = LogOptions { durability, ..small() };
        let chance = StdRng::seed_from_u64(seed);
        Self { files, options, issued: Vec::new(), highest: 0, log: None, chance, steps: 0 }
    }

    fn open(&mut self) -> Result<&Log> {
        if self.log.is_none() {
            let files = Arc::new(self.files.clone());
            let log = match Log::open(files.clone(), Path::new(DIR), self.options.clone()) {
                Err(error) if error.kind() == ErrorKind::NotFound && self.issued.is_empty() => {
                    Log::create(files, Path::new(DIR), self.options.clone(), IDENTITY)?
                }
                opened => opened?.0,
            };
            self.log = Some(log);
        }
        Ok(self.log.as_ref().unwrap())
    }

    /// Does one thing.
    pub fn step(&mut self) -> Result<()> {
        self.open()?;
        self.steps += 1;
        match self.chance.random_range(0..100) {
            0..5 => {
                self.close()?;
                self.open().map(drop)
            }
            5..8 => {
                // The process ends without a word; everything written is found again and made durable.
                self.log = None;
                self.open()?;
                self.all_synced();
                Ok(())
            }
            8..14 => {
                let log = self.open()?;
                log.seal()?;
                self.all_synced();
                self.merge()
            }
            14..20 => self.merge(),
            20..30 => self.open()?.maintain(),
            30..35 => self.checkpoint(),
            _ => self.append(),
        }
    }

    pub fn close(&mut self) -> Result<()> {
        if let Some(log) = self.log.take() {
            log.close_clean()?;
            self.all_synced();
        }
        Ok(())
    }

    fn merge(&mut self) -> Result<()> {
        self.open()?.merge(&AtomicBool::new(false)).map(drop)
    }

    fn checkpoint(&mut self) -> Result<()> {
        self.open()?.sync()?;
        self.all_synced();
        let log = self.open()?;
        let (sequence, digest) = (log.newest().0, Digest { count: 1, sum: 2 });
        log.update_manifest(|manifest| {
            manifest.view = Some("view-1".into());
            manifest.checkpoint = Checkpoint::At { sequence, digest };
        })
    }

    pub fn append(&mut self) -> Result<()> {
        let records: Vec<_> = (0..self.chance.random_range(1..5)).map(|_| self.record()).collect();
        let sync = self.options.durability == Durability::Synced || self.chance.random_bool(0.3);
        let started = self.files.operations();
        let next = self.open()?.newest().0 + 1;
        for (sequence, record) in (next..).zip(records.iter().cloned()) {
            self.issued.push(Issued { sequence, record, started, written: usize::MAX, synced: usize::MAX });
            self.highest = self.highest.max(sequence);
        }
        match self.open()?.append(&records) {
            Ok(first) => assert_eq!(first, next, "newest() tells the next number"),
            Err(error) => {
                if error.kind() != ErrorKind::Ambiguous {
                    // The promise of every other kind: nothing was written.
                    self.issued.truncate(self.issued.len() - records.len());
                }
                return Err(error);
            }
        }
        let written = self.files.operations();
        for issued in self.issued.iter_mut().rev().take(records.len()) {
            issued.written = written;
        }
        if sync {
            self.open()?.sync()?;
            self.all_synced();
        }
        Ok(())
    }

    fn record(&mut self) -> Record {
        let key = format!("k{}", self.chance.random_range(0..12));
        if self.chance.random_bool(0.3) {
            return Record { time: self.steps, writes: vec![Write::Delete { key: key.into() }], ..Record::default() };
        }
        let length = if self.chance.random_bool(0.1) { 1_800 } else { self.chance.random_range(0..400) };
        let value: Vec<u8> = (0..length).map(|_| self.chance.random()).collect();
        put(&key, &value, self.steps)
    }

    fn all_synced(&mut self) {
        let now = self.files.operations();
        for issued in self.issued.iter_mut().rev().take_while(|issued| issued.synced == usize::MAX) {
            issued.written = issued.written.min(now);
            issued.synced = now;
        }
    }

    /// The process ends without a word.
    pub fn stop(&mut self) -> Verdict {
        self.log = None;
        if self.issued.is_empty() { Err("the workload wrote nothing".into()) } else { Ok(()) }
    }

    /// After an ambiguous failure every further write has to be refused.
    pub fn stays_stopped(&mut self, kind: ErrorKind) -> Verdict {
        let (Some(log), ErrorKind::Ambiguous) = (&self.log, kind) else { return Ok(()) };
        match (log.append(&[put("no", b"no", 0)]), log.sync(), log.update_manifest(|_| ())) {
            (Err(append), Err(sync), Err(update))
                if [&append, &sync, &update].iter().all(|error| error.kind() == ErrorKind::Unavailable) =>
            {
                Ok(())
            }
            _ => Err("a log whose write failed goes on".into()),
        }
    }

    /// After a failure: opens again as a new process would, and takes what it finds as promised from now on.
    pub fn restart(&mut self) -> Verdict {
        self.log = None;
        for attempt in 0.. {
            match self.open() {
                Ok(_) => break,
                Err(error) if attempt == 0 && error.kind() != ErrorKind::Damaged => {}
                Err(error) => return Err(format!("reopening failed: {error}")),
            }
        }
        let found = check(self.log.as_ref().unwrap(), &self.issued, self.promised(), self.issued.len())?;
        self.issued.truncate(found);
        self.all_synced();
        Ok(())
    }

    /// How many records must survive anything.
    pub fn promised(&self) -> usize {
        self.issued.iter().take_while(|issued| issued.synced != usize::MAX).count()
    }

    /// What a crash after `operations` operations must leave, and what it may.
    pub fn bounds(&self, operations: usize, crash: Crash) -> Bounds {
        let reached = |issued: &&Issued| match crash {
            Crash::Killed => issued.written <= operations,
            _ => issued.synced <= operations,
        };
        let least = self.issued.iter().take_while(reached).count();
        let most = self.issued.iter().take_while(|issued| issued.started < operations).count();
        let highest = self.issued[..most].last().map_or(0, |issued| issued.sequence);
        Bounds { least, most, highest }
    }
}

/// Whether the log holds a prefix of `issued` with at least `least` and at most `most` records; how many.
pub fn check(log: &Log, issued: &[Issued], least: usize, most: usize) -> Verdict<usize> {
    let text = |error: Error| error.to_string();
    let oldest = log.oldest();
    let records = log.tail_iter(oldest).map_err(text)?.collect::<Result<Vec<_>>>().map_err(text)?;
    let (base, at) = match log.base_iter() {
        Some((base, at)) => (base.collect::<Result<Vec<_>>>().map_err(text)?, at),
        None => (Vec::new(), 0),
    };
    let newest = records.last().map_or(oldest.max(at), |record| record.sequence);
    let found = issued.iter().take_while(|issued| issued.sequence <= newest).count();
    if found < least {
        return Err(format!("acknowledged records are lost: found={found} least={least}"));
    }
    if found > most {
        return Err(format!("records that were never written: found={found} most={most}"));
    }
    let kept = issued[..found].iter().filter(|issued| issued.sequence > oldest);
    if !kept.map(|issued| (issued.sequence, &issued.record)).eq(records.iter().map(|r| (r.sequence, &r.record))) {
        return Err(format!("the tail behind {oldest} differs from what was written"));
    }
    if oldest > at {
        return Err(format!("records between base and tail are missing: base={at} oldest={oldest}"));
    }
    if log.manifest().checkpoint.needs_after().is_some_and(|needed| needed < oldest) {
        return Err("records that the view needs are gone".into());
    }
    let mut model: BTreeMap<&Bytes, (&Bytes, Sequence)> = BTreeMap::new();
    for issued in issued.iter().filter(|issued| issued.sequence <= at) {
        for write in &issued.record.writes {
            match write {
                Write::Put { key, value } => model.insert(key, (value, issued.sequence)),
                write => model.remove(write.key()),
            };
        }
    }
    let base: Option<Vec<_>> =
        base.iter().map(|entry| Some((&entry.key, (entry.value.as_ref()?, entry.sequence)))).collect();
    if !base.is_some_and(|base| base.into_iter().eq(model)) {
        return Err(format!("the base at {at} differs from what was written"));
    }
    Ok(found)
}

/// Whether the disk opens and holds what it must.
pub fn opens(work: &Workload, disk: &SimulatedFiles, bounds: Bounds) -> Verdict {
    let opened = Log::open(Arc::new(disk.clone()), Path::new(DIR), work.options.clone());
    let (log, _) = opened.map_err(|error| format!("opening: {error}"))?;
    check(&log, &work.issued, bounds.least, bounds.most).map(drop)
}

/// What every disk must pass after a crash: it opens, holds what it must, opens to the same again, takes new
/// records under new numbers, and keeps them.
pub fn survives(work: &Workload, disk: &SimulatedFiles, bounds: Bounds) -> Verdict<RecoveryReport> {
    let Bounds { least, most, highest } = bounds;
    let open = |disk: &SimulatedFiles| Log::open(Arc::new(disk.clone()), Path::new(DIR), work.options.clone());
    let (log, report) = match open(disk) {
        Err(error) if error.kind() == ErrorKind::NotFound && least == 0 => {
            let created = Log::create(Arc::new(disk.clone()), Path::new(DIR), work.options.clone(), IDENTITY);
            return created.map(|_| RecoveryReport::default()).map_err(|error| format!("creating again: {error}"));
        }
        opened => opened.map_err(|error| format!("opening: {error}"))?,
    };
    let found = check(&log, &work.issued, least, most)?;
    for cut in &report.cuts {
        let content = disk.crash(Crash::Lost).content(&cut.file);
        if content[usize::try_from(cut.offset).unwrap()..].iter().any(|&byte| byte != 0) {
            return Err("torn bytes stay behind the end".into());
        }
    }
    drop(log);
    let again = disk.crash(Crash::Lost);
    let (log, second) = open(&again).map_err(|error| format!("opening twice: {error}"))?;
    if !second.cuts.is_empty() || second.newest != report.newest {
        return Err(format!("a second recovery found something else: {second:?} after {report:?}"));
    }
    check(&log, &work.issued, found, found)?;
    let record = put("after", &[9; 200], 1 << 40);
    let first = log.append(std::slice::from_ref(&record)).map_err(|error| format!("appending: {error}"))?;
    log.sync().map_err(|error| format!("syncing: {error}"))?;
    if first <= highest {
        return Err(format!("a number was handed out twice: {first}, highest={highest}"));
    }
    drop(log);
    let (log, third) =
        open(&again.crash(Crash::Lost)).map_err(|error| format!("opening with a new record: {error}"))?;
    let last = log.tail_iter(third.newest.saturating_sub(1)).ok().and_then(|mut tail| tail.next());
    match last {
        Some(Ok(last)) if last.sequence == first && last.record == record => Ok(report),
        other => Err(format!("a record appended after recovery is lost: {other:?}")),
    }
}
