//! Files of a process that can end: from then on nothing reaches the disk any more, as after a crash. And files that another
//! machine has.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kappa_core::env::files::{File, Files, OpenMode, Space, SystemFiles};

/// The system's files until [`EndingFiles::end`].
#[derive(Clone, Debug, Default)]
pub struct EndingFiles {
    ended: Arc<AtomicBool>,
    network: Option<&'static str>,
}

impl EndingFiles {
    /// Files on a network file system of this kind, as far as anybody asks.
    pub fn on_network(kind: &'static str) -> Self {
        Self { network: Some(kind), ..Self::default() }
    }

    /// Every write, rename, removal and sync fails from now on.
    pub fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    fn check(&self) -> io::Result<()> {
        if self.ended.load(Ordering::SeqCst) { Err(io::Error::other("the process has ended")) } else { Ok(()) }
    }
}

impl Files for EndingFiles {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.check().and_then(|()| SystemFiles.create_dir_all(dir))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        if mode == OpenMode::CreateNew {
            self.check()?;
        }
        Ok(Arc::new(EndingFile { file: SystemFiles.open(path, mode)?, files: self.clone() }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        SystemFiles.list(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        SystemFiles.exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check().and_then(|()| SystemFiles.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.check().and_then(|()| SystemFiles.remove_file(path))
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.check().and_then(|()| SystemFiles.remove_dir_all(dir))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.check().and_then(|()| SystemFiles.sync_dir(dir))
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        SystemFiles.space(dir)
    }

    fn network(&self, _dir: &Path) -> io::Result<Option<&'static str>> {
        Ok(self.network)
    }
}

#[derive(Debug)]
struct EndingFile {
    file: Arc<dyn File>,
    files: EndingFiles,
}

impl File for EndingFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        self.file.read_at(buffer, position)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.files.check().and_then(|()| self.file.write_at(bytes, position))
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.files.check().and_then(|()| self.file.set_len(length))
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.files.check().and_then(|()| self.file.allocate(length))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.files.check().and_then(|()| self.file.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.files.check().and_then(|()| self.file.sync_all())
    }
}
