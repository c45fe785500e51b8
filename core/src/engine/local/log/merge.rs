//! Merging: sealed segments and the old base become a new base, from log files only, in bounded memory.

use std::cmp::Ordering as Order;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::Log;
use super::base::{Base, BaseEntry, BaseIter, BaseWriter, file_name};
use super::failure::{damaged, file_failed};
use super::manifest::{BaseName, End};
use super::record::decode_record;
use super::scan::{Ending, TailIter};
use super::segment::Segment;
use super::space::Room;
use crate::engine::{Sequence, Write};
use crate::error::{Error, Result};

/// What every entry costs in memory beside its bytes.
const ENTRY_OVERHEAD: usize = 96;

/// How a merge ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum MergeOutcome {
    /// There is a new base.
    Merged {
        /// The newest operation in it.
        sequence: Sequence,
        /// Keys in it.
        keys: u64,
        /// Its size.
        bytes: u64,
    },
    /// No sealed segment holds anything that the base lacks.
    Nothing,
    /// The caller stopped it; nothing has changed.
    Cancelled,
}

/// Why the work stopped early.
enum Stop {
    Cancelled,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

struct Merge<'a> {
    log: &'a Log,
    cancel: &'a AtomicBool,
    made: Vec<PathBuf>,
    runs: VecDeque<Base>,
}

impl Log {
    /// Whether the tail behind the base has outgrown it.
    pub fn merge_due(&self) -> bool {
        let state = self.state.read();
        let base = state.base.as_ref().map_or(0, |base| base.footer.bytes);
        let folded = state.base.as_ref().map_or(0, |base| base.footer.sequence);
        let ends = state.segments.iter().skip(1).map(|next| next.header.previous);
        let sealed = state.segments.iter().zip(ends).filter(|(_, end)| *end > folded);
        let tail: u64 = sealed.map(|(segment, _)| u64::from(segment.header.bytes)).sum();
        tail > self.options.merge_tail_bytes.max(base)
    }

    /// Folds all sealed segments into a new base and removes what is needed no longer. Runs beside appends
    /// and readers, on any thread, one at a time; stops between blocks once `cancel` is set.
    ///
    /// # Errors
    /// `StorageFull`, `Unavailable`: nothing has changed, try again later. `Damaged`: a file that had to be
    /// read is damaged; nothing has changed.
    pub fn merge(&self, cancel: &AtomicBool) -> Result<MergeOutcome> {
        let _one_at_a_time = self.merging.lock();
        self.check_usable()?;
        let (segments, end, old) = self.foldable();
        let Some(end) = end else { return Ok(MergeOutcome::Nothing) };
        let mut merge = Merge { log: self, cancel, made: Vec::new(), runs: VecDeque::new() };
        let made = merge.run(segments, end, old.as_deref());
        // Whatever happened, only a file that took its place under its own name may stay.
        for path in &merge.made {
            self.files.remove_file(path).ok();
        }
        match made {
            Err(Stop::Cancelled) => Ok(MergeOutcome::Cancelled),
            Err(Stop::Failed(error)) => Err(error.during("log.merge")),
            Ok(base) => {
                let footer = base.footer;
                self.switch_base(base, old.as_deref())?;
                Ok(MergeOutcome::Merged { sequence: footer.sequence, keys: footer.count, bytes: footer.bytes })
            }
        }
    }

    /// The sealed segments with records behind the base, their end, and the base.
    fn foldable(&self) -> (Vec<Arc<Segment>>, Option<End>, Option<Arc<Base>>) {
        let state = self.state.read();
        let folded = state.base.as_ref().map_or(0, |base| base.footer.sequence);
        let end = state.segments.last().map(|active| active.before()).filter(|end| end.sequence > folded);
        let ends = state.segments.iter().skip(1).map(|next| next.header.previous);
        let sealed = state.segments.iter().zip(ends).filter(|(_, end)| *end > folded);
        (sealed.map(|(segment, _)| Arc::clone(segment)).collect(), end, state.base.clone())
    }

    /// Names the new base, and only then lets the old one and the segments go.
    fn switch_base(&self, base: Base, old: Option<&Base>) -> Result<()> {
        let number = self.state.read().manifest.base.map_or(1, |base| base.number + 1);
        let target = self.dir.join(file_name(number));
        let failed = |error| file_failed("log.merge", &target, error);
        self.files.rename(&base.path, &target).map_err(failed)?;
        self.sync_dir()?;
        let base = Base { path: target.clone(), ..base };
        let name = BaseName { number, sequence: base.footer.sequence, hash: base.footer.hash };
        #[cfg(test)]
        if super::planted::is(super::Planted::DropBeforeManifest) {
            self.state.write().base = Some(Arc::new(base.clone()));
            self.remove_old_base(old)?;
        }
        if let Err(error) = self.update_manifest(|manifest| manifest.base = Some(name)) {
            // A stopped log cannot know which MANIFEST is in force, so there the file has to stay.
            if !self.poisoned.load(Ordering::SeqCst) {
                self.files.remove_file(&target).ok();
            }
            return Err(error);
        }
        self.state.write().base = Some(Arc::new(base));
        self.remove_old_base(old)?;
        self.drop_segments()?;
        Ok(())
    }

    fn remove_old_base(&self, old: Option<&Base>) -> Result<()> {
        let Some(old) = old else { return Ok(()) };
        match self.files.remove_file(&old.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_failed("log.merge", &old.path, error)),
            _ => self.sync_dir(),
        }
    }
}

impl<'a> Merge<'a> {
    fn run(&mut self, segments: Vec<Arc<Segment>>, end: End, old: Option<&Base>) -> Result<Base, Stop> {
        let _room = self.speak_for_room(&segments, old)?;
        let folded = old.map_or(0, |base| base.footer.sequence);
        let ending = Ending { limit: None, sequence: end.sequence, hash: end.hash };
        let database = self.log.identity.database;
        self.sort(TailIter::new(database, segments, ending, folded))?;
        while self.runs.len() > self.log.options.merge_fan_in.max(2) {
            let oldest: Vec<_> = self.runs.drain(..self.log.options.merge_fan_in.max(2)).collect();
            let sources = oldest.iter().map(Base::iter).collect();
            let run = self.write("run", sources, true, End::default())?.0;
            for part in &oldest {
                self.log.files.remove_file(&part.path).ok();
            }
            self.runs.push_front(run);
        }
        let sources = old.iter().map(|base| base.iter()).chain(self.runs.iter().map(Base::iter)).collect();
        #[cfg(test)]
        let keep_deletes = super::planted::is(super::Planted::KeepDeletedKeys);
        #[cfg(not(test))]
        let keep_deletes = false;
        let (base, file) = self.write("base", sources, keep_deletes, end)?;
        #[cfg(test)]
        let skip = super::planted::is(super::Planted::NameBaseBeforeSync);
        #[cfg(not(test))]
        let skip = false;
        if !skip {
            file.sync_all().map_err(|error| file_failed("log.merge", &base.path, error))?;
        }
        self.verify(&base)?;
        self.made.retain(|path| *path != base.path);
        Ok(base)
    }

    /// Runs and new base together are at most twice what is folded; better to stop now than at the end.
    fn speak_for_room(&self, segments: &[Arc<Segment>], old: Option<&Base>) -> Result<Room<'a>> {
        let tail: u64 = segments.iter().map(|segment| u64::from(segment.header.bytes)).sum();
        self.log.room_for_merge(2 * tail + old.map_or(0, |base| base.footer.bytes))
    }

    /// Turns the tail into sorted runs, each as large as memory allows.
    fn sort(&mut self, mut tail: TailIter) -> Result<(), Stop> {
        let mut newest: BTreeMap<Bytes, BaseEntry> = BTreeMap::new();
        let mut memory = 0;
        while let Some(found) = tail.next_found()? {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(Stop::Cancelled);
            }
            let sequence = found.link.sequence;
            let record = decode_record(&found.content)
                .ok_or_else(|| damaged(&self.log.dir, u64::from(found.offset), "a record cannot be read"))?;
            for write in record.writes {
                // Copied, because a shared slice would keep the whole window it was read with.
                let (key, value) = match &write {
                    Write::Put { key, value } => (key, Some(Bytes::copy_from_slice(value))),
                    Write::Delete { key } | Write::Add { key, .. } => (key, None),
                };
                memory += key.len() + value.as_ref().map_or(0, Bytes::len) + ENTRY_OVERHEAD;
                let key = Bytes::copy_from_slice(key);
                newest.insert(key.clone(), BaseEntry { key, value, sequence });
            }
            if memory > self.log.options.merge_memory_bytes {
                self.end_run(&mut newest)?;
                memory = 0;
            }
        }
        self.end_run(&mut newest)
    }

    fn end_run(&mut self, newest: &mut BTreeMap<Bytes, BaseEntry>) -> Result<(), Stop> {
        if newest.is_empty() {
            return Ok(());
        }
        let path = self.next_path("run");
        let failed = |error| Stop::Failed(file_failed("log.merge", &path, error));
        let mut writer = self.writer(&path).map_err(failed)?;
        for entry in std::mem::take(newest).into_values() {
            writer.push(&entry).map_err(failed)?;
        }
        let (file, footer) = writer.finish(0, 0, 0).map_err(failed)?;
        self.runs.push_back(Base { path, file, footer });
        Ok(())
    }

    fn next_path(&mut self, noun: &str) -> PathBuf {
        let path = self.log.dir.join(format!("{noun}-{:020}.next", self.made.len()));
        self.made.push(path.clone());
        path
    }

    fn writer(&self, path: &Path) -> io::Result<BaseWriter> {
        BaseWriter::create(&*self.log.files, path, self.log.identity.database, self.log.options.block_bytes)
    }

    fn write(
        &mut self,
        noun: &str,
        sources: Vec<BaseIter>,
        keep_deletes: bool,
        end: End,
    ) -> Result<(Base, Arc<dyn crate::env::files::File>), Stop> {
        let (path, is_base) = (self.next_path(noun), noun == "base");
        let failed = |error| Stop::Failed(file_failed("log.merge", &path, error));
        let mut writer = self.writer(&path).map_err(failed)?;
        // A run is removed soon, often before the disk has seen it.
        if is_base {
            writer = writer.write_back();
        }
        for entry in Merged::new(sources)? {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(Stop::Cancelled);
            }
            let mut entry = entry?;
            if entry.value.is_none() {
                if !keep_deletes {
                    continue;
                }
                if is_base {
                    entry.value = Some(Bytes::new());
                }
            }
            writer.push(&entry).map_err(failed)?;
        }
        let (file, footer) = writer.finish(end.sequence, end.hash, end.time).map_err(failed)?;
        Ok((Base { path, file: Arc::clone(&file), footer }, file))
    }

    /// Reads the new base as a later opening would; the old files are still there if it is not right.
    fn verify(&self, base: &Base) -> Result<(), Stop> {
        let read = Base::open(&*self.log.files, &base.path, &self.log.identity.database)?;
        if read.footer != base.footer {
            return Err(damaged(&base.path, base.footer.bytes, "a new base does not read back as written").into());
        }
        for entry in read.iter() {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(Stop::Cancelled);
            }
            entry?;
        }
        Ok(())
    }
}

/// The newest entry of each key of several sorted sources.
struct Merged {
    heads: BinaryHeap<Head>,
    last: Option<Bytes>,
}

struct Head {
    entry: BaseEntry,
    source: BaseIter,
}

impl Merged {
    fn new(sources: Vec<BaseIter>) -> Result<Self> {
        let mut merged = Self { heads: BinaryHeap::new(), last: None };
        for source in sources {
            merged.advance(source)?;
        }
        Ok(merged)
    }

    fn advance(&mut self, mut source: BaseIter) -> Result<()> {
        if let Some(entry) = source.next() {
            self.heads.push(Head { entry: entry?, source });
        }
        Ok(())
    }
}

impl Iterator for Merged {
    type Item = Result<BaseEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(Head { entry, source }) = self.heads.pop() {
            if let Err(error) = self.advance(source) {
                self.heads.clear();
                return Some(Err(error));
            }
            if self.last.as_ref() != Some(&entry.key) {
                self.last = Some(entry.key.clone());
                return Some(Ok(entry));
            }
        }
        None
    }
}

impl Ord for Head {
    /// The heap gives the greatest: the lowest key, and of one key the newest entry.
    fn cmp(&self, other: &Self) -> Order {
        other.entry.key.cmp(&self.entry.key).then(self.entry.sequence.cmp(&other.entry.sequence))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Order::Equal
    }
}

impl Eq for Head {}
