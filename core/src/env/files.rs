//! Files, as the log and the view see them: real ones, and for tests simulated ones that crash.
#![expect(clippy::missing_errors_doc, reason = "every call answers what the operating system said")]

mod network;
#[cfg(test)]
pub mod simulated;
mod write_back;

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// How a file is opened; it can be read and written either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// The file must not exist yet.
    CreateNew,
    /// The file must exist.
    Existing,
}

/// Room on the disk that holds a directory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What an ordinary user may still use.
    pub free: u64,
    /// The size of the disk.
    pub total: u64,
}

/// Directories and their entries.
///
/// An entry that was created, renamed or removed is sure to survive a power cut only after
/// [`Files::sync_dir`] of the directory that holds it.
pub trait Files: Send + Sync + fmt::Debug {
    /// Makes a directory and those above it; one that exists already is fine.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Opens a file for reading and writing.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// The names in a directory, sorted, so that whoever walks them does the same every time.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Whether something of this name exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Gives a file another name in one step; what had that name before is replaced. A directory takes along what is in it,
    /// and replaces an empty one at most.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name; open handles go on reading it.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all that is in it, one name after another.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Makes the entries of a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// How much room is left.
    fn space(&self, dir: &Path) -> io::Result<Space>;
    /// The kind of network file system that holds a directory, `nfs` say; none where it lies on a disk of this machine, or on a
    /// system that is not asked.
    fn network(&self, _dir: &Path) -> io::Result<Option<&'static str>> {
        Ok(None)
    }
}

/// One open file. All calls name their position, so that threads can share a handle.
#[allow(clippy::len_without_is_empty, reason = "nobody asks a file whether it is empty")]
pub trait File: Send + Sync + fmt::Debug {
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Fills `buffer` from `position`; `UnexpectedEof` when the file ends before that.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `position`. After an error any part of it may have been written.
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;
    /// Cuts the file or lengthens it with zeros.
    fn set_len(&self, length: u64) -> io::Result<()>;
    /// Reserves the blocks of the first `length` bytes, so that writing them cannot run out of space;
    /// where the file system cannot reserve, the file is only lengthened.
    fn allocate(&self, length: u64) -> io::Result<()>;
    /// A hint that a sync of these bytes is going to follow: where the system can, it begins to write them to the disk now,
    /// so that less is left for the sync to wait for. Nothing is durable by it.
    fn write_back(&self, _position: u64, _length: u64) {}
    /// Makes content and length durable. After an error the unsynced writes may be lost for good, also
    /// when a later call answers `Ok`: never repeat it on the same pages.
    fn sync_data(&self) -> io::Result<()>;
    /// As [`File::sync_data`], with the other attributes of the file.
    fn sync_all(&self) -> io::Result<()>;
}

/// The files of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemFiles;

impl Files for SystemFiles {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let create = mode == OpenMode::CreateNew;
        let file = fs::OpenOptions::new().read(true).write(true).create_new(create).open(path)?;
        Ok(Arc::new(SystemFile(file)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = fs::read_dir(dir)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let disk = rustix::fs::statvfs(dir)?;
        Ok(Space {
            free: disk.f_bavail.saturating_mul(disk.f_frsize),
            total: disk.f_blocks.saturating_mul(disk.f_frsize),
        })
    }

    fn network(&self, dir: &Path) -> io::Result<Option<&'static str>> {
        network::kind_of(dir)
    }
}

#[derive(Debug)]
struct SystemFile(fs::File);

impl File for SystemFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, position)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, position)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        use rustix::io::Errno;
        match rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::empty(), 0, length) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) if self.len()? < length => self.set_len(length),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
            Err(Errno::INTR) => self.allocate(length),
            result => Ok(result?),
        }
    }

    fn write_back(&self, position: u64, length: u64) {
        write_back::begin(&self.0, position, length);
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The simulated files stand for the real ones in every other test: where the two answer
    /// differently, those tests prove nothing.
    #[test]
    fn real_and_simulated_files_answer_alike() {
        let place = tempfile::tempdir().expect("a temporary directory");
        answers(&SystemFiles, place.path());
        answers(&simulated::SimulatedFiles::new(1), Path::new("/disk"));
    }

    fn answers(files: &dyn Files, root: &Path) {
        let dir = root.join("a/b");
        files.create_dir_all(&dir).expect("directories are made");
        files.create_dir_all(&dir).expect("and may exist already");
        let (one, two) = (dir.join("one"), dir.join("two"));
        let missing = files.open(&one, OpenMode::Existing).expect_err("not there yet");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let file = files.open(&one, OpenMode::CreateNew).expect("a new file");
        let twice = files.open(&one, OpenMode::CreateNew).expect_err("there already");
        assert_eq!(twice.kind(), io::ErrorKind::AlreadyExists);
        file.allocate(16).expect("space");
        file.allocate(8).expect("allocating less cuts nothing");
        file.write_at(b"kappa", 14).expect("a write behind the end");
        assert_eq!(file.len().expect("a length"), 19);
        let mut bytes = [1; 19];
        file.read_at(&mut bytes, 0).expect("a read");
        assert_eq!(&bytes[..], b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0kappa");
        let short = file.read_at(&mut bytes, 1).expect_err("the file ends before");
        assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
        file.write_back(14, 5);
        file.write_back(u64::MAX, u64::MAX);
        file.set_len(15).expect("a cut");
        file.sync_data().and(file.sync_all()).expect("a sync");
        files.open(&two, OpenMode::CreateNew).expect("a second file");
        files.rename(&one, &two).expect("a rename replaces");
        assert_eq!(files.list(&dir).expect("names"), ["two"]);
        assert!(files.exists(&two).expect("an answer") && !files.exists(&one).expect("an answer"));
        files.remove_file(&two).expect("a removal");
        assert_eq!(file.len().expect("an open handle goes on"), 15);
        files.sync_dir(&dir).expect("a directory sync");
        answers_for_directories(files, &root.join("a"));
        let space = files.space(&dir).expect("space");
        assert!(space.free <= space.total && space.total > 0);
    }

    fn answers_for_directories(files: &dyn Files, above: &Path) {
        let (from, to) = (above.join("from"), above.join("to"));
        files.create_dir_all(&from.join("inner")).and(files.create_dir_all(&to)).expect("directories are made");
        let file = files.open(&from.join("inner/file"), OpenMode::CreateNew).expect("a new file");
        file.write_at(b"kappa", 0).expect("a write");
        files.rename(&from, &to).expect("a rename replaces what is empty");
        assert_eq!(files.list(above).expect("names"), ["b", "to"]);
        let moved = files.open(&to.join("inner/file"), OpenMode::Existing).expect("it went along");
        assert_eq!(moved.len().expect("a length"), 5);
        files.create_dir_all(&from).expect("a directory");
        assert!(files.list(&from).expect("names").is_empty(), "what went away is not back");
        let refused = files.rename(&from, &to).expect_err("there is something in it");
        assert_eq!(refused.kind(), io::ErrorKind::DirectoryNotEmpty);
        files.remove_dir_all(&to).expect("a removal");
        let gone = files.remove_dir_all(&to).expect_err("it is gone");
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        assert_eq!(files.sync_dir(&to).expect_err("it is gone").kind(), io::ErrorKind::NotFound);
        assert_eq!(files.list(above).expect("names"), ["b", "from"]);
        assert_eq!(moved.len().expect("an open handle goes on"), 5);
    }
}
