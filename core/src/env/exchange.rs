//! Files that people hand over: below one directory, by names that cannot lead out of it.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};

const MAX_PARTS: usize = 16;
const MAX_PART_BYTES: usize = 200;

/// The directory.
#[derive(Debug)]
pub struct Exchange(OwnedFd);

impl Exchange {
    /// Opens `directory`.
    ///
    /// # Errors
    /// Of the system.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(directory, flags, Mode::empty())?))
    }

    /// Opens the file `name` for reading.
    ///
    /// # Errors
    /// Of the system; `InvalidInput` for a name that [`parts`] refuses, or of what is no plain file.
    pub fn read(&self, name: &str) -> io::Result<File> {
        let (directory, last) = self.place(name)?;
        // A pipe would be waited for; a link could lead anywhere.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&directory, last, flags, Mode::empty())?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file"));
        }
        Ok(file)
    }

    /// Makes a file that gets the name `name` once it is whole; `run` tells it from those of others.
    ///
    /// # Errors
    /// Of the system; `InvalidInput` for a name that [`parts`] refuses.
    pub fn write(&self, name: &str, run: &str) -> io::Result<Draft> {
        let (directory, last) = self.place(name)?;
        let hidden = OsString::from(format!(".{last}.{run}"));
        // Of an earlier try of the same run.
        let _ = rustix::fs::unlinkat(&directory, &hidden, AtFlags::empty());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&directory, &hidden, flags, Mode::from_raw_mode(0o640))?);
        Ok(Draft { directory, hidden, name: last.into(), file: Some(file) })
    }

    fn place<'a>(&self, name: &'a str) -> io::Result<(OwnedFd, &'a str)> {
        let parts = parts(name).ok_or_else(|| {
            let message = "a file's name is parts without a leading dot, joined by /, below the directory of files";
            io::Error::new(io::ErrorKind::InvalidInput, message)
        })?;
        let (last, above) = parts.split_last().expect("a name has a part");
        let mut directory = self.0.as_fd().try_clone_to_owned()?;
        for part in above {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            directory = rustix::fs::openat(&directory, *part, flags, Mode::empty())?;
        }
        Ok((directory, last))
    }
}

/// The parts of a name, each of which stays below the one before it.
pub fn parts(name: &str) -> Option<Vec<&str>> {
    let plain = |part: &&str| {
        !part.is_empty()
            && part.len() <= MAX_PART_BYTES
            && !part.starts_with('.')
            && !part.chars().any(char::is_control)
    };
    let parts: Vec<&str> = name.split('/').collect();
    (parts.len() <= MAX_PARTS && parts.iter().all(plain)).then_some(parts)
}

/// A file that is not whole yet; without [`Draft::finish`] nothing is left of it.
#[derive(Debug)]
pub struct Draft {
    directory: OwnedFd,
    /// What it is called until then.
    hidden: OsString,
    name: OsString,
    file: Option<File>,
}

impl Draft {
    /// What is written.
    pub fn file(&self) -> &File {
        self.file.as_ref().expect("it is not finished")
    }

    /// Gives the file its name, in the place of an older one, once its content is sure to stay.
    ///
    /// # Errors
    /// Of the system.
    pub fn finish(mut self) -> io::Result<()> {
        self.file().sync_all()?;
        rustix::fs::renameat(&self.directory, &self.hidden, &self.directory, &self.name)?;
        self.file = None;
        Ok(rustix::fs::fsync(&self.directory)?)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = rustix::fs::unlinkat(&self.directory, &self.hidden, AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Write};
    use std::os::unix::fs::symlink;

    use super::*;

    /// A task names its file; a name that leads out of the directory reads the password file, or writes over it.
    #[test]
    fn no_name_leads_out_of_the_directory() {
        let place = tempfile::tempdir().expect("a directory");
        let inside = place.path().join("inside");
        fs::create_dir_all(inside.join("below")).expect("made");
        fs::write(place.path().join("secret"), "secret").expect("written");
        fs::write(inside.join("below/file"), "text").expect("written");
        symlink(place.path().join("secret"), inside.join("link")).expect("a link");
        symlink(place.path(), inside.join("up")).expect("a link");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            inside.join("pipe"),
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .expect("a pipe");
        let exchange = Exchange::open(&inside).expect("it is there");
        let mut text = String::new();
        exchange.read("below/file").expect("inside").read_to_string(&mut text).expect("read");
        assert_eq!(text, "text");
        let absolute = place.path().join("secret");
        for name in [
            "../secret",
            "below/../../secret",
            absolute.to_str().expect("text"),
            "link",
            "up/secret",
            "pipe",
            "below",
            "",
            ".",
            "a\0b",
            "below//file",
            ".hidden",
            "/",
            "missing/file",
        ] {
            exchange.read(name).map(drop).expect_err(name);
        }
        for name in ["../new", "up/new", "/new", ".new", "below/../new"] {
            exchange.write(name, "1").map(drop).expect_err(name);
        }
        exchange.write("link", "1").expect("beside it").finish().expect("in its place");
        assert_eq!(fs::read_to_string(place.path().join("secret")).expect("read"), "secret");
    }

    /// Half an export that looks whole is worse than none.
    #[test]
    fn a_file_has_its_name_once_it_is_whole() {
        let place = tempfile::tempdir().expect("a directory");
        let exchange = Exchange::open(place.path()).expect("it is there");
        let names = || fs::read_dir(place.path()).expect("read").count();
        let draft = exchange.write("out", "7-1").expect("a draft");
        draft.file().write_all(b"half").expect("written");
        assert!(!place.path().join("out").exists());
        drop(draft);
        assert_eq!(names(), 0);
        fs::write(place.path().join("out"), "old").expect("written");
        let draft = exchange.write("out", "7-1").expect("a draft");
        draft.file().write_all(b"new").expect("written");
        draft.finish().expect("whole");
        assert_eq!((fs::read_to_string(place.path().join("out")).expect("read").as_str(), names()), ("new", 1));
    }
}
