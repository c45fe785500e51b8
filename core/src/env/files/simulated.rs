//! Files in memory that remember what is durable, so that a test can cut the power at any operation.

mod state;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{File, Files, OpenMode, Space};
use state::{Change, Entry, Inode, Naming, Operation, State};

/// What a crash leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The power goes and everything unsynced is lost.
    Lost,
    /// The process dies: what it wrote stays readable, but is no more durable than before.
    Killed,
    /// The power goes and a subset of the unsynced sectors and directory entries, drawn from this seed, survives.
    Torn(u64),
}

/// What the n-th call that it fits answers, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Any call: EIO, nothing done.
    Io,
    /// A call that needs room: ENOSPC, nothing done.
    NoSpace,
    /// A write: half of it is done, then EIO.
    ShortWrite,
    /// A sync: EIO, and some of the unsynced writes will never reach the disk although they stay readable.
    FailedSync,
}

impl Fault {
    /// Every fault once.
    pub const ALL: [Self; 4] = [Self::Io, Self::NoSpace, Self::ShortWrite, Self::FailedSync];
}

/// A disk in memory. Clones share it.
#[derive(Clone)]
pub struct SimulatedFiles(Arc<Mutex<World>>);

impl fmt::Debug for SimulatedFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimulatedFiles")
    }
}

struct World {
    initial: State,
    operations: Vec<Operation>,
    state: State,
    fault: Option<(Fault, u64)>,
    fired: bool,
    capacity: u64,
    chance: StdRng,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Ask,
    Read,
    Write,
    Make,
    Name,
    Sync,
}

impl SimulatedFiles {
    /// An empty disk; `seed` decides what failed syncs lose.
    pub fn new(seed: u64) -> Self {
        Self::of(State::default(), seed)
    }

    fn of(state: State, seed: u64) -> Self {
        Self(Arc::new(Mutex::new(World {
            initial: state.clone(),
            operations: Vec::new(),
            state,
            fault: None,
            fired: false,
            capacity: 1 << 40,
            chance: StdRng::seed_from_u64(seed),
        })))
    }

    /// How many operations have changed the disk since it was made.
    pub fn operations(&self) -> usize {
        self.0.lock().operations.len()
    }

    /// The disk as it is now, after a crash.
    #[must_use]
    pub fn crash(&self, kind: Crash) -> Self {
        Self::of(self.0.lock().state.crash(kind), 1)
    }

    /// Walks through the operations so far, for a crash after each.
    pub fn replay(&self) -> Replay {
        let world = self.0.lock();
        Replay { state: world.initial.clone(), operations: world.operations.clone(), done: 0 }
    }

    /// Lets the n-th call from now that `fault` fits fail, counted from 0.
    pub fn fail(&self, fault: Fault, n: u64) {
        let mut world = self.0.lock();
        world.fault = Some((fault, n));
        world.fired = false;
    }

    /// Whether the fault has happened.
    pub fn fault_fired(&self) -> bool {
        self.0.lock().fired
    }

    /// Bounds the disk.
    pub fn limit(&self, bytes: u64) {
        self.0.lock().capacity = bytes;
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.0.lock().state.used()
    }

    /// The content of a file as a program sees it.
    pub fn content(&self, path: &Path) -> Vec<u8> {
        let world = self.0.lock();
        match world.state.names.get(path) {
            Some(Entry::File(inode)) => world.state.inodes[inode].written.clone(),
            _ => panic!("there is no file of this name: {}", path.display()),
        }
    }

    /// The content of a file after a power cut that keeps nothing unsynced; none when its name would be lost.
    pub fn durable_content(&self, path: &Path) -> Option<Vec<u8>> {
        let world = self.0.lock();
        match world.state.durable_names.get(path) {
            Some(Entry::File(inode)) => Some(world.state.inodes[inode].durable.clone()),
            _ => None,
        }
    }

    /// Changes a file behind everybody's back and durably, as rot or an operator would.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut content = self.content(path);
        change(&mut content);
        let mut world = self.0.lock();
        let Some(Entry::File(inode)) = world.state.names.get(path).copied() else { return };
        world.state.inodes.insert(inode, Inode { durable: content.clone(), written: content, unsynced: Vec::new() });
        world.initial = world.state.clone();
        world.operations.clear();
    }

    fn open_inode(&self, inode: u64) -> Arc<dyn File> {
        Arc::new(SimulatedFile { world: Arc::clone(&self.0), inode })
    }
}

/// A disk that is taken through its recorded operations again.
#[derive(Clone)]
pub struct Replay {
    state: State,
    operations: Vec<Operation>,
    done: usize,
}

impl Replay {
    /// Performs the next operation; false when there is none.
    pub fn advance(&mut self) -> bool {
        let Some(operation) = self.operations.get(self.done) else { return false };
        self.state.apply(operation);
        self.done += 1;
        true
    }

    /// How many operations were performed.
    pub fn done(&self) -> usize {
        self.done
    }

    /// The disk a crash leaves at this point.
    pub fn crash(&self, kind: Crash) -> SimulatedFiles {
        SimulatedFiles::of(self.state.crash(kind), 1)
    }
}

impl World {
    fn meet(&mut self, call: Call) -> io::Result<()> {
        let Some((fault, left)) = self.fault else { return Ok(()) };
        let fits = match fault {
            Fault::Io => true,
            Fault::NoSpace => matches!(call, Call::Write | Call::Make),
            Fault::ShortWrite => call == Call::Write,
            Fault::FailedSync => call == Call::Sync,
        };
        if !fits {
            return Ok(());
        }
        if left > 0 {
            self.fault = Some((fault, left - 1));
            return Ok(());
        }
        self.fault = None;
        self.fired = true;
        Err(match fault {
            Fault::NoSpace => io::ErrorKind::StorageFull.into(),
            _ => io::Error::other("simulated input/output error"),
        })
    }

    fn perform(&mut self, operation: Operation) {
        self.state.apply(&operation);
        self.operations.push(operation);
    }

    fn change(&mut self, inode: u64, change: Change) -> io::Result<()> {
        let before = self.state.inodes[&inode].written.len() as u64;
        let after = match &change {
            Change::Write(position, bytes) => before.max(position + bytes.len() as u64),
            Change::Length(length) => *length,
        };
        if after > before && self.state.used() + (after - before) > self.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.perform(Operation::Change(inode, change));
        Ok(())
    }
}

impl Files for SimulatedFiles {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        world.meet(Call::Make)?;
        let mut missing: Vec<_> = dir.ancestors().filter(|path| !world.state.names.contains_key(*path)).collect();
        missing.reverse();
        for path in missing {
            world.perform(Operation::Name(Naming::Set(path.to_path_buf(), Entry::Dir)));
        }
        Ok(())
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut world = self.0.lock();
        world.meet(if mode == OpenMode::CreateNew { Call::Make } else { Call::Ask })?;
        match (world.state.names.get(path).copied(), mode) {
            (Some(Entry::File(inode)), OpenMode::Existing) => {
                drop(world);
                Ok(self.open_inode(inode))
            }
            (Some(_), OpenMode::CreateNew) => Err(io::ErrorKind::AlreadyExists.into()),
            (_, OpenMode::Existing) => Err(io::ErrorKind::NotFound.into()),
            (None, OpenMode::CreateNew) => {
                let parent = path.parent().ok_or(io::ErrorKind::NotFound)?;
                if world.state.names.get(parent) != Some(&Entry::Dir) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                let inode = world.state.inodes.keys().next_back().map_or(1, |last| last + 1);
                world.perform(Operation::Name(Naming::Set(path.to_path_buf(), Entry::File(inode))));
                drop(world);
                Ok(self.open_inode(inode))
            }
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut world = self.0.lock();
        world.meet(Call::Ask)?;
        if world.state.names.get(dir) != Some(&Entry::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = world.state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let mut world = self.0.lock();
        world.meet(Call::Ask)?;
        Ok(world.state.names.contains_key(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        world.meet(Call::Name)?;
        let entry = *world.state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        if entry == Entry::Dir && world.state.inside(to).next().is_some() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        world.perform(Operation::Name(Naming::Rename(from.to_path_buf(), to.to_path_buf(), entry)));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        world.meet(Call::Name)?;
        if !world.state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        world.perform(Operation::Name(Naming::Remove(path.to_path_buf())));
        Ok(())
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        world.meet(Call::Ask)?;
        if world.state.names.get(dir) != Some(&Entry::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside: Vec<_> = world.state.inside(dir).cloned().collect();
        // What lies deepest comes last in their order.
        for path in inside.into_iter().rev().chain([dir.to_path_buf()]) {
            world.meet(Call::Name)?;
            world.perform(Operation::Name(Naming::Remove(path)));
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        world.meet(Call::Sync)?;
        if dir.parent().is_some() && world.state.names.get(dir) != Some(&Entry::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        world.perform(Operation::SyncDir(dir.to_path_buf()));
        Ok(())
    }

    fn space(&self, _dir: &Path) -> io::Result<Space> {
        let mut world = self.0.lock();
        world.meet(Call::Ask)?;
        Ok(Space { free: world.capacity.saturating_sub(world.state.used()), total: world.capacity })
    }
}

struct SimulatedFile {
    world: Arc<Mutex<World>>,
    inode: u64,
}

impl fmt::Debug for SimulatedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimulatedFile({})", self.inode)
    }
}

impl File for SimulatedFile {
    fn len(&self) -> io::Result<u64> {
        let mut world = self.world.lock();
        world.meet(Call::Ask)?;
        Ok(world.state.inodes[&self.inode].written.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let mut world = self.world.lock();
        world.meet(Call::Read)?;
        let start = usize::try_from(position).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = start.checked_add(buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        let content = &world.state.inodes[&self.inode].written;
        buffer.copy_from_slice(content.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut world = self.world.lock();
        let short = matches!(world.fault, Some((Fault::ShortWrite, 0)));
        if let Err(error) = world.meet(Call::Write) {
            if short {
                world.change(self.inode, Change::Write(position, bytes[..bytes.len() / 2].into()))?;
            }
            return Err(error);
        }
        world.change(self.inode, Change::Write(position, bytes.into()))
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut world = self.world.lock();
        world.meet(Call::Make)?;
        world.change(self.inode, Change::Length(length))
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let mut world = self.world.lock();
        world.meet(Call::Make)?;
        if world.state.inodes[&self.inode].written.len() as u64 >= length {
            return Ok(());
        }
        world.change(self.inode, Change::Length(length))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut world = self.world.lock();
        if let Err(error) = world.meet(Call::Sync) {
            let seed = world.chance.random();
            world.perform(Operation::FailedSync(self.inode, seed));
            return Err(error);
        }
        world.perform(Operation::Sync(self.inode));
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(files: &SimulatedFiles, name: &str, bytes: &[u8]) -> Arc<dyn File> {
        let file = files.open(Path::new(name), OpenMode::CreateNew).expect("a new file");
        file.write_at(bytes, 0).expect("room");
        file
    }

    /// A harness that forgets too little finds no bug: what was not synced must really go, names included.
    #[test]
    fn a_power_cut_takes_what_was_not_synced() {
        let files = SimulatedFiles::new(1);
        files.create_dir_all(Path::new("/d")).expect("a directory");
        files.sync_dir(Path::new("/")).expect("a sync");
        let kept = write(&files, "/d/kept", b"old");
        kept.sync_data().expect("a sync");
        write(&files, "/d/nameless", b"x").sync_data().expect("a sync");
        files.remove_file(Path::new("/d/nameless")).expect("a removal");
        files.sync_dir(Path::new("/d")).expect("a sync");
        kept.write_at(b"new", 0).expect("room");
        write(&files, "/d/lost", b"y").sync_data().expect("content is durable, the name is not");

        let after = files.crash(Crash::Lost);
        assert_eq!(after.list(Path::new("/d")).expect("names"), ["kept"]);
        assert_eq!(after.content(Path::new("/d/kept")), b"old");
        let killed = files.crash(Crash::Killed);
        assert_eq!(killed.content(Path::new("/d/kept")), b"new");
        let cut = killed.crash(Crash::Lost);
        assert_eq!(cut.content(Path::new("/d/kept")), b"old", "a kill makes nothing durable");
    }

    /// After a failed sync the pages look fine and are not: a second sync that answers `Ok` must not save them.
    #[test]
    fn a_failed_sync_loses_pages_that_stay_readable() {
        let lost = (0..20).filter(|&seed| {
            let files = SimulatedFiles::new(seed);
            files.create_dir_all(Path::new("/d")).expect("a directory");
            files.sync_dir(Path::new("/")).expect("a sync");
            let file = write(&files, "/d/f", &[7; 4096]);
            files.sync_dir(Path::new("/d")).expect("a sync");
            files.fail(Fault::FailedSync, 0);
            file.sync_data().expect_err("the planned fault");
            file.sync_data().expect("the second one lies");
            assert_eq!(files.content(Path::new("/d/f")), [7; 4096]);
            files.crash(Crash::Lost).content(Path::new("/d/f")) != [7; 4096]
        });
        assert!(lost.count() > 10);
    }

    /// Tearing has to fall on sectors, and both halves of a write have to be seen alone sometimes.
    #[test]
    fn a_torn_write_keeps_whole_sectors() {
        let files = SimulatedFiles::new(1);
        files.create_dir_all(Path::new("/d")).expect("a directory");
        files.sync_dir(Path::new("/")).expect("a sync");
        let file = files.open(Path::new("/d/f"), OpenMode::CreateNew).expect("a new file");
        file.set_len(1024).and(file.sync_all()).and(files.sync_dir(Path::new("/d"))).expect("a durable file");
        file.write_at(&[7; 800], 100).expect("room");
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..100 {
            let content = files.crash(Crash::Torn(seed)).content(Path::new("/d/f"));
            assert!(content[100..512].iter().all(|&byte| byte == content[100]), "seed={seed}");
            assert!(content[512..900].iter().all(|&byte| byte == content[512]), "seed={seed}");
            seen.insert((content[100], content[512]));
        }
        assert_eq!(seen.len(), 4);
    }
}
