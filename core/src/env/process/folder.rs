//! Working directories of programs: each is made fresh and removed, also after the process that made it was killed.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::User;

/// Others may pass to a directory that they were given, and see nothing.
const ROOT_MODE: u32 = 0o711;
const PRIVATE: u32 = 0o700;

/// The place where working directories are made.
#[derive(Clone, Debug)]
pub struct Folders(PathBuf);

impl Folders {
    /// Makes `root` where it is missing, and removes what processes that are gone have left in it.
    ///
    /// # Errors
    /// Of the system; `PermissionDenied` where somebody else could change what lies there.
    pub fn open(root: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(ROOT_MODE).create(root)?;
        let found = fs::symlink_metadata(root)?;
        if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is no directory of this user"));
        }
        fs::set_permissions(root, Permissions::from_mode(ROOT_MODE))?;
        let folders = Self(root.to_owned());
        folders.sweep();
        Ok(folders)
    }

    /// A fresh, empty directory, of which `user` is the owner.
    ///
    /// # Errors
    /// Of the system.
    pub fn make(&self, name: &str, user: Option<User>) -> io::Result<Folder> {
        let path = self.0.join(name);
        fs::DirBuilder::new().mode(PRIVATE).create(&path)?;
        let lock = match File::open(&path).and_then(|lock| hold(&lock).map(|()| lock)) {
            Ok(lock) => lock,
            Err(error) => {
                let _ = fs::remove_dir(&path);
                return Err(error);
            }
        };
        let folder = Folder { path, lock: Some(lock) };
        if let Some(User { uid, gid }) = user {
            std::os::unix::fs::chown(&folder.path, Some(uid), Some(gid))?;
        }
        Ok(folder)
    }

    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.0) else { return };
        for entry in entries.flatten() {
            let Ok(lock) = File::open(entry.path()) else { continue };
            // Whoever is alive holds it.
            if hold(&lock).is_ok() {
                remove(&entry.path());
            }
        }
    }
}

fn hold(directory: &File) -> io::Result<()> {
    Ok(rustix::fs::flock(directory, FlockOperation::NonBlockingLockExclusive)?)
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path) {
        tracing::warn!(directory = %path.display(), %error, "a program's working directory stays");
    }
}

/// One working directory; goes with this value.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    lock: Option<File>,
}

impl Folder {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file with `content`, to be read from its start; it has no name.
    ///
    /// # Errors
    /// Of the system.
    pub fn nameless(&self, content: &[u8]) -> io::Result<File> {
        use std::io::{Seek, Write};
        let path = self.path.join("input");
        let mut file = fs::OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        fs::remove_file(&path)?;
        file.write_all(content)?;
        file.rewind()?;
        Ok(file)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        remove(&self.path);
        self.lock = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A killed server leaves directories; the next one must remove them, and none of those in use beside it.
    #[test]
    fn what_the_dead_left_is_swept_and_what_is_used_stays() {
        let place = tempfile::tempdir().expect("a directory");
        let root = place.path().join("runs");
        let folders = Folders::open(&root).expect("it is made");
        let used = folders.make("7-1", None).expect("a fresh one");
        fs::write(used.path().join("a"), "a").expect("written");
        fs::create_dir(root.join("left")).and_then(|()| fs::write(root.join("left/b"), "b")).expect("left behind");
        Folders::open(&root).expect("it is there");
        assert!(used.path().join("a").exists() && !root.join("left").exists());
        assert!(folders.make("7-1", None).is_err(), "it is in use");
        let path = used.path().to_owned();
        drop(used);
        assert!(!path.exists());
    }

    /// In a directory for all, somebody may have put a link, or a directory of theirs, where ours belongs.
    #[test]
    fn a_place_of_somebody_else_is_refused() {
        let place = tempfile::tempdir().expect("a directory");
        let link = place.path().join("link");
        std::os::unix::fs::symlink(place.path(), &link).expect("a link");
        let error = Folders::open(&link).expect_err("it leads elsewhere");
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }
}
