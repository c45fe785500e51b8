//! The files of this machine, with an account of what each sync of the log made durable.

use std::io;
use std::mem::take;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kappa_core::env::files::{File, OpenMode, Space};
use kappa_core::env::{Files, SystemFiles};

/// System files that note how many bytes lay behind each `fdatasync` of a log segment: a bare loop can then
/// repeat the same groups.
#[derive(Clone, Debug, Default)]
pub struct CountingFiles {
    groups: Arc<Mutex<Vec<usize>>>,
    /// Each sync of a log segment takes so much longer, as on a slower disk.
    delay: Duration,
}

impl CountingFiles {
    /// As the disk is, but for a sync of the log, which takes `delay` longer.
    pub fn slowed(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }

    /// The bytes of each group since the last call, in order.
    pub fn take_groups(&self) -> Vec<usize> {
        take(&mut *self.groups.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Files for CountingFiles {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        SystemFiles.create_dir_all(dir)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = SystemFiles.open(path, mode)?;
        let is_segment = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("segment-"));
        if !is_segment {
            return Ok(file);
        }
        let groups = Arc::clone(&self.groups);
        Ok(Arc::new(CountedFile { file, unsynced: AtomicUsize::new(0), groups, delay: self.delay }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        SystemFiles.list(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        SystemFiles.exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemFiles.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        SystemFiles.remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        SystemFiles.remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        SystemFiles.sync_dir(dir)
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        SystemFiles.space(dir)
    }
}

#[derive(Debug)]
struct CountedFile {
    file: Arc<dyn File>,
    unsynced: AtomicUsize,
    groups: Arc<Mutex<Vec<usize>>>,
    delay: Duration,
}

impl File for CountedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        self.file.read_at(buffer, position)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.unsynced.fetch_add(bytes.len(), Ordering::Relaxed);
        self.file.write_at(bytes, position)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.file.allocate(length)
    }

    fn write_back(&self, position: u64, length: u64) {
        self.file.write_back(position, length);
    }

    #[expect(clippy::disallowed_methods, reason = "it stands for a slower disk")]
    fn sync_data(&self) -> io::Result<()> {
        let bytes = self.unsynced.swap(0, Ordering::Relaxed);
        self.file.sync_data()?;
        if !self.delay.is_zero() {
            std::thread::sleep(self.delay);
        }
        self.groups.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
        Ok(())
    }

    // Segments that are made ahead of need are filled with zeros and synced in full: no group of anybody's.
    fn sync_all(&self) -> io::Result<()> {
        self.unsynced.store(0, Ordering::Relaxed);
        self.file.sync_all()
    }
}
