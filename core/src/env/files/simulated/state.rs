//! What a simulated disk holds, durably and as written, and what a crash makes of it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::Crash;

/// Disks write this much at once or not at all.
const SECTOR: usize = 512;

/// All files and names of a disk.
#[derive(Clone, Default)]
pub struct State {
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) names: BTreeMap<PathBuf, Entry>,
    pub(super) durable_names: BTreeMap<PathBuf, Entry>,
    pub(super) unsynced_names: Vec<Naming>,
}

/// One file: content on disk, content as programs see it, and what lies between.
#[derive(Clone, Default)]
pub struct Inode {
    pub(super) durable: Vec<u8>,
    pub(super) written: Vec<u8>,
    pub(super) unsynced: Vec<Change>,
}

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    Dir,
    File(u64),
}

/// One change of a file.
#[derive(Clone)]
pub enum Change {
    Write(u64, Arc<[u8]>),
    Length(u64),
}

/// One change of a directory.
#[derive(Clone)]
pub enum Naming {
    Set(PathBuf, Entry),
    Rename(PathBuf, PathBuf, Entry),
    Remove(PathBuf),
}

/// One call that changed the disk, or what is durable of it.
#[derive(Clone)]
pub enum Operation {
    Change(u64, Change),
    Sync(u64),
    FailedSync(u64, u64),
    Name(Naming),
    SyncDir(PathBuf),
}

impl State {
    /// Bytes of all files that have a name.
    pub fn used(&self) -> u64 {
        let named = self.names.values().filter_map(|entry| match entry {
            Entry::File(inode) => self.inodes.get(inode),
            Entry::Dir => None,
        });
        named.map(|inode| inode.written.len() as u64).sum()
    }

    /// All names in a directory and in those below it, each directory before what is in it.
    pub fn inside<'a>(&'a self, dir: &'a Path) -> impl Iterator<Item = &'a PathBuf> {
        inside(&self.names, dir)
    }

    /// Performs an operation.
    pub fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Change(inode, change) => {
                let inode = self.inodes.get_mut(inode).expect("changes name a file that was made");
                apply_change(&mut inode.written, change);
                inode.unsynced.push(change.clone());
            }
            Operation::Sync(inode) => {
                let inode = self.inodes.get_mut(inode).expect("syncs name a file that was made");
                for change in std::mem::take(&mut inode.unsynced) {
                    apply_change(&mut inode.durable, &change);
                }
            }
            Operation::FailedSync(inode, seed) => {
                let inode = self.inodes.get_mut(inode).expect("syncs name a file that was made");
                let unsynced = std::mem::take(&mut inode.unsynced);
                apply_some(&mut inode.durable, &unsynced, &mut StdRng::seed_from_u64(*seed));
            }
            Operation::Name(naming) => {
                if let Naming::Set(_, Entry::File(inode)) = naming {
                    self.inodes.entry(*inode).or_default();
                }
                apply_naming(&mut self.names, naming);
                self.unsynced_names.push(naming.clone());
            }
            Operation::SyncDir(dir) => {
                for naming in std::mem::take(&mut self.unsynced_names) {
                    if naming.path().parent() == Some(dir) {
                        apply_naming(&mut self.durable_names, &naming);
                    } else {
                        self.unsynced_names.push(naming);
                    }
                }
            }
        }
    }

    /// Files that no crash can bring back take memory and time only.
    fn forget_unnamed(&mut self) {
        let names = self.names.values().chain(self.durable_names.values()).copied();
        let names: Vec<_> = names.chain(self.unsynced_names.iter().filter_map(Naming::entry)).collect();
        self.inodes.retain(|number, _| names.contains(&Entry::File(*number)));
    }

    /// The disk after a crash.
    pub fn crash(&self, kind: Crash) -> Self {
        if kind == Crash::Killed {
            let mut after = self.clone();
            after.forget_unnamed();
            return after;
        }
        let mut after = Self { names: self.durable_names.clone(), ..Self::default() };
        let mut chance = StdRng::seed_from_u64(if let Crash::Torn(seed) = kind { seed } else { 0 });
        if kind != Crash::Lost {
            let share = [0.1, 0.5, 0.9][chance.random_range(0..3)];
            for naming in &self.unsynced_names {
                if chance.random_bool(share) {
                    apply_naming(&mut after.names, naming);
                }
            }
        }
        for (number, inode) in &self.inodes {
            if !after.names.values().any(|entry| *entry == Entry::File(*number)) {
                continue;
            }
            let mut content = inode.durable.clone();
            if kind != Crash::Lost {
                apply_some(&mut content, &inode.unsynced, &mut chance);
            }
            after.inodes.insert(*number, Inode { durable: content.clone(), written: content, unsynced: Vec::new() });
        }
        let all = after.names.clone();
        let reachable = |path: &Path| {
            path.ancestors().skip(1).filter(|dir| dir.parent().is_some()).all(|dir| all.contains_key(dir))
        };
        after.names.retain(|path, _| reachable(path));
        after.durable_names = after.names.clone();
        after
    }
}

impl Naming {
    fn entry(&self) -> Option<Entry> {
        match self {
            Self::Set(_, entry) | Self::Rename(_, _, entry) => Some(*entry),
            Self::Remove(_) => None,
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Set(path, _) | Self::Rename(_, path, _) | Self::Remove(path) => path,
        }
    }
}

fn apply_naming(names: &mut BTreeMap<PathBuf, Entry>, naming: &Naming) {
    match naming {
        Naming::Set(path, entry) => {
            names.insert(path.clone(), *entry);
        }
        Naming::Rename(from, to, entry) => {
            let moved: Vec<_> = inside(names, from).cloned().collect();
            names.remove(from);
            names.insert(to.clone(), *entry);
            for path in moved {
                let entry = names.remove(&path).expect("it was just there");
                names.insert(to.join(path.strip_prefix(from).expect("it lay inside")), entry);
            }
        }
        Naming::Remove(path) => {
            // A directory is empty by then; what of it was never synced would be back under a new one of this name.
            let gone: Vec<_> = inside(names, path).cloned().collect();
            for path in gone.iter().chain([path]) {
                names.remove(path);
            }
        }
    }
}

fn inside<'a>(names: &'a BTreeMap<PathBuf, Entry>, dir: &'a Path) -> impl Iterator<Item = &'a PathBuf> {
    let behind = (Bound::Excluded(dir), Bound::Unbounded);
    names.range::<Path, _>(behind).map(|(path, _)| path).take_while(move |path| path.starts_with(dir))
}

fn apply_change(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(position, bytes) => {
            let start = usize::try_from(*position).expect("simulated files are small");
            if content.len() < start + bytes.len() {
                content.resize(start + bytes.len(), 0);
            }
            content[start..start + bytes.len()].copy_from_slice(bytes);
        }
        Change::Length(length) => content.resize(usize::try_from(*length).expect("simulated files are small"), 0),
    }
}

/// Applies some sectors of some changes.
fn apply_some(content: &mut Vec<u8>, changes: &[Change], chance: &mut StdRng) {
    let share = [0.1, 0.5, 0.9][chance.random_range(0..3)];
    for change in changes {
        match change {
            Change::Length(_) if chance.random_bool(share) => apply_change(content, change),
            Change::Length(_) => {}
            Change::Write(position, bytes) => {
                let mut done = 0;
                while done < bytes.len() {
                    let at = position + done as u64;
                    let room = SECTOR - usize::try_from(at % SECTOR as u64).expect("a rest fits");
                    let next = bytes.len().min(done + room);
                    if chance.random_bool(share) {
                        apply_change(content, &Change::Write(at, bytes[done..next].into()));
                    }
                    done = next;
                }
            }
        }
    }
}
