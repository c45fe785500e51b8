//! Where an engine under test lives: simulated files for the log, the view's blocks and all names, a real directory for what
//! sled alone makes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use parking_lot::Mutex;

use crate::engine::Durability;
use crate::engine::local::background::{self, Background, End};
use crate::engine::local::log::LogOptions;
use crate::engine::local::view::ViewOptions;
use crate::engine::local::{LocalEngine, LocalOptions, OpenReport, opening};
use crate::env::files::simulated::{Crash, SimulatedFiles};
use crate::env::files::{File, Files, OpenMode, Space};
use crate::env::{Env, ManualClock, SeededEntropy};
use crate::error::Result;
use crate::options::ViewKind;

use super::planted;

/// The name of the log's directory, simulated and real.
pub const PARTITION: &str = "partition";
const SIMULATED_ROOT: &str = "/disk";

/// The content of a real directory: files with their bytes, directories with none.
pub type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// What sled had on disk at some moment.
#[derive(Clone, Debug)]
pub struct SledCopy {
    /// So many operations of the simulated disk were done.
    pub at: usize,
    /// What was going to be the next one.
    pub before: Next,
    /// sled's directories.
    pub tree: Arc<Tree>,
}

/// What comes next where sled's directory is looked at. It writes between two such moments only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// sled's file is synced.
    Sync,
    /// Some name is given, taken away or synced: that of a view, or MANIFEST says something else about it.
    Naming,
    /// Something is done to the blocks, or sled's file was to be synced and was not.
    Blocks,
    /// The file of the blocks becomes shorter.
    Cut,
}

/// What sled had on disk, one moment after the other.
pub type Copies = Arc<Mutex<Vec<SledCopy>>>;

/// A place that can be opened, and opened again after a crash.
#[derive(Clone, Debug)]
pub struct Place {
    /// The log's files, the view's blocks, and all names.
    pub files: SimulatedFiles,
    /// What the view keeps its keys in.
    pub kind: ViewKind,
    memtable_bytes: usize,
    segment_bytes: u32,
    same_boot: bool,
    root: PathBuf,
    copies: Option<Copies>,
}

impl Place {
    /// A place whose view is in memory: nothing real is touched.
    pub fn memory(files: SimulatedFiles) -> Self {
        Self::over(files, ViewKind::Memory, Path::new(SIMULATED_ROOT))
    }

    /// A place whose view is sled's in the real directory `root`.
    pub fn sled(files: SimulatedFiles, root: &Path) -> Self {
        fs::create_dir_all(root.join(PARTITION)).unwrap();
        Self::over(files, ViewKind::Sled, root)
    }

    /// A place whose view is in memory, under the name of the real directory `root`.
    pub fn named(files: SimulatedFiles, root: &Path) -> Self {
        Self::over(files, ViewKind::Memory, root)
    }

    fn over(files: SimulatedFiles, kind: ViewKind, root: &Path) -> Self {
        Self {
            files,
            kind,
            memtable_bytes: 4 << 20,
            segment_bytes: 64 << 10,
            same_boot: false,
            root: root.into(),
            copies: None,
        }
    }

    /// Segments of this size.
    pub fn segments_of(self, segment_bytes: u32) -> Self {
        Self { segment_bytes, ..self }
    }

    /// The machine went on: what was cut short is finished behind the first calls.
    pub fn of_the_same_boot(self, same_boot: bool) -> Self {
        Self { same_boot, ..self }
    }

    /// Small memtables make openings drain.
    pub fn draining_at(self, memtable_bytes: usize) -> Self {
        Self { memtable_bytes, ..self }
    }

    /// Copies sled's directory whenever something of the view is about to change.
    pub fn watched(self) -> (Self, Copies) {
        let copies = Copies::default();
        (Self { copies: Some(Arc::clone(&copies)), ..self }, copies)
    }

    /// The same place with other simulated files.
    pub fn with_files(&self, files: SimulatedFiles) -> Self {
        Self { files, copies: None, ..self.clone() }
    }

    /// The same place after the power was cut, or the process ended.
    pub fn after(&self, crash: Crash) -> Self {
        let same_boot = self.same_boot && crash == Crash::Killed;
        self.with_files(self.files.crash(crash)).of_the_same_boot(same_boot)
    }

    /// What sled had when its file was last synced; only of a place that is watched.
    pub fn synced_view_files(&self) -> Option<Tree> {
        let copies = self.copies.as_ref()?.lock();
        let synced = copies.iter().rfind(|copy| copy.before == Next::Sync);
        Some(synced.map_or_else(Tree::new, |copy| (*copy.tree).clone()))
    }

    /// What the view has in its real directory by now, as the end of the process would leave it; none of one in memory.
    pub fn view_files(&self) -> Option<Tree> {
        (self.kind == ViewKind::Sled).then(|| copy(&self.root.join(PARTITION)))
    }

    /// Gives the view's real directory what it had, as far as its names are still there.
    pub fn put_back(&self, tree: &Tree) {
        let directory = self.root.join(PARTITION);
        fs::remove_dir_all(&directory).unwrap();
        fs::create_dir_all(&directory).unwrap();
        let mut named = BTreeMap::new();
        for (name, content) in tree {
            let view = name.iter().next().expect("a name in the directory").to_str().unwrap();
            let exists = |name: &Path| self.files.exists(&simulated("").join(name)).unwrap();
            let is_named = *named.entry(view).or_insert_with(|| exists(Path::new(view)));
            match content {
                _ if !is_named || name.ends_with("db") && !exists(name) => {}
                None => fs::create_dir_all(directory.join(name)).unwrap(),
                Some(content) => fs::write(directory.join(name), content).unwrap(),
            }
        }
    }

    /// Opens the engine; nothing runs in its background.
    pub fn open(&self) -> Result<(LocalEngine, OpenReport)> {
        let (shared, report) = opening::open(self.root.join(PARTITION), self.options(), self.env())?;
        let background = Mutex::new(Some(Background::idle()));
        Ok((LocalEngine { shared: Arc::new(shared), background }, report))
    }

    /// The outside world as a database in this place sees it.
    pub fn env(&self) -> Env {
        let disk = Disk {
            files: self.files.clone(),
            root: self.root.clone(),
            is_sled: self.kind == ViewKind::Sled,
            copies: self.copies.clone(),
        };
        let entropy = Arc::new(SeededEntropy::new(1));
        Env { clock: Arc::new(ManualClock::new(0)), entropy, files: Arc::new(disk) }
    }

    fn options(&self) -> LocalOptions {
        let early = planted::is(planted::Engine::AnswerBeforeSync);
        let log = LogOptions {
            durability: if early { Durability::Written } else { Durability::Synced },
            segment_bytes: self.segment_bytes,
            reserve_segments: 1,
            low_space_bytes: 64 << 10,
            low_space_percent: 0,
            merge_memory_bytes: 128 << 10,
            merge_fan_in: 2,
            block_bytes: 8 << 10,
            retention_bytes: 256 << 10,
            ..LogOptions::default()
        };
        let view = ViewOptions {
            memtable_bytes: self.memtable_bytes,
            cache_bytes: 64 << 10,
            sled_cache_bytes: 1 << 20,
            cut_from_bytes: 16 << 10,
            snapshot_wait: Duration::from_millis(1),
            defect: planted::of_view().into(),
            ..ViewOptions::default()
        };
        let (view_kind, room_wait) = (self.kind, Duration::from_secs(10));
        LocalOptions { log, view, view_kind, same_boot: self.same_boot, compare_first_keys: 0, room_wait }
    }
}

/// A new disk with a directory that no crash takes away.
pub fn new_files(seed: u64) -> SimulatedFiles {
    let files = SimulatedFiles::new(seed);
    files.create_dir_all(Path::new(SIMULATED_ROOT)).unwrap();
    files.sync_dir(Path::new("/")).unwrap();
    files
}

/// The path of one of the log's files on the simulated disk.
pub fn simulated(name: &str) -> PathBuf {
    Path::new(SIMULATED_ROOT).join(PARTITION).join(name)
}

/// A scratch directory, in memory where the system has one: what is durable of sled's files is decided by
/// the tests themselves.
pub fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// What the background threads do about the log, now.
pub fn merge(engine: &LocalEngine) -> Result<()> {
    let log = &engine.shared.log;
    log.seal()?;
    let _ = log.merge(&AtomicBool::new(false))?;
    log.maintain()
}

/// What the background threads do about a view that failed, now.
pub fn rebuild(engine: &LocalEngine) -> Result<()> {
    background::replace_view(&engine.shared, &End::default())
}

/// Reads a real directory; what is not there is empty.
pub fn copy(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(dir) = open.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries {
            let entry = entry.unwrap();
            let name = entry.path().strip_prefix(root).unwrap().to_path_buf();
            if entry.file_type().unwrap().is_dir() {
                tree.insert(name, None);
                open.push(entry.path());
            } else {
                tree.insert(name, Some(fs::read(entry.path()).unwrap()));
            }
        }
    }
    tree
}

/// Simulated files under the name of a real directory. Where sled lies beside them, it finds the directories it needs, and what
/// is done to a view's directory is done to what sled has there as well.
#[derive(Clone, Debug)]
struct Disk {
    files: SimulatedFiles,
    root: PathBuf,
    is_sled: bool,
    copies: Option<Copies>,
}

impl Disk {
    fn place(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(&self.root) {
            Ok(inside) if inside.as_os_str().is_empty() => SIMULATED_ROOT.into(),
            Ok(inside) => Path::new(SIMULATED_ROOT).join(inside),
            Err(_) if self.root.starts_with(path) => "/".into(),
            Err(error) => panic!("a path outside of the data directory: {}: {error}", path.display()),
        }
    }

    fn note(&self, before: Next) {
        let Some(copies) = &self.copies else { return };
        let (at, tree) = (self.files.operations(), copy(&self.root.join(PARTITION)));
        let mut copies = copies.lock();
        let same = copies.last().filter(|last| *last.tree == tree).map(|last| Arc::clone(&last.tree));
        copies.push(SledCopy { at, before, tree: same.unwrap_or_else(|| Arc::new(tree)) });
    }

    /// A file that is looked at before it is changed, and for sled's what is in it.
    fn of_view(&self, path: &Path, file: Arc<dyn File>) -> io::Result<Arc<dyn File>> {
        let name = path.file_name().and_then(|name| name.to_str());
        let real = match name {
            Some("db") => Some(fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?),
            Some("blocks") => None,
            _ => return Ok(file),
        };
        Ok(Arc::new(ViewFile { file, real, disk: self.clone() }))
    }

    /// What was going to be synced was not.
    fn not_synced(&self) {
        if let Some(copies) = &self.copies
            && let Some(last) = copies.lock().last_mut()
        {
            last.before = Next::Blocks;
        }
    }
}

impl Files for Disk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.note(Next::Naming);
        self.files.create_dir_all(&self.place(dir))?;
        if self.is_sled { fs::create_dir_all(dir) } else { Ok(()) }
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        if mode == OpenMode::CreateNew {
            self.note(Next::Naming);
        }
        let file = self.files.open(&self.place(path), mode)?;
        if self.is_sled { self.of_view(path, file) } else { Ok(file) }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.files.list(&self.place(dir))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let above = path != self.root && self.root.starts_with(path);
        if above { Ok(true) } else { self.files.exists(&self.place(path)) }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note(Next::Naming);
        self.files.rename(&self.place(from), &self.place(to))?;
        if self.is_sled && from.is_dir() { fs::rename(from, to) } else { Ok(()) }
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.files.remove_file(&self.place(path))
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.note(Next::Naming);
        self.files.remove_dir_all(&self.place(dir))?;
        if self.is_sled && dir.is_dir() { fs::remove_dir_all(dir) } else { Ok(()) }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.note(Next::Naming);
        self.files.sync_dir(&self.place(dir))
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.files.space(&self.place(dir))
    }
}

/// The file of blocks, or one that stands for sled's: what is read is what sled wrote, and a sync is one of the simulated disk.
#[derive(Debug)]
struct ViewFile {
    file: Arc<dyn File>,
    real: Option<fs::File>,
    disk: Disk,
}

impl ViewFile {
    fn note(&self) {
        self.disk.note(Next::Blocks);
    }
}

impl File for ViewFile {
    fn len(&self) -> io::Result<u64> {
        match &self.real {
            // The simulated call may be one that fails.
            Some(real) => self.file.len().and_then(|_| Ok(real.metadata()?.len())),
            None => self.file.len(),
        }
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        match &self.real {
            Some(real) => self.file.len().and_then(|_| real.read_exact_at(buffer, position)),
            None => self.file.read_at(buffer, position),
        }
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.note();
        self.file.write_at(bytes, position)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.disk.note(if length < self.file.len()? { Next::Cut } else { Next::Blocks });
        self.file.set_len(length)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.note();
        self.file.allocate(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.real.is_none() {
            self.note();
            return self.file.sync_data();
        }
        self.disk.note(Next::Sync);
        self.file.sync_data().inspect_err(|_| self.disk.not_synced())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }
}
