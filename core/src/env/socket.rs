//! The socket over which processes of one host and user share a data directory.

use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt};

const NAME: &str = "socket";
/// Bound here first, so that nobody finds a socket that does not listen yet.
const NEXT: &str = "socket.next";
/// What every system takes as the path of a socket; some take a little more.
const MAX_PATH_BYTES: usize = 100;

/// Owner alone.
const PRIVATE_FILE: u32 = 0o600;
const PRIVATE_DIRECTORY: u32 = 0o700;

/// A path to a name in a directory that is short enough for a socket, while this value lives.
struct Short {
    path: PathBuf,
    _directory: Option<OwnedFd>,
}

impl Short {
    fn new(directory: &Path, name: &str) -> io::Result<Self> {
        let path = directory.join(name);
        if path.as_os_str().as_bytes().len() <= MAX_PATH_BYTES {
            return Ok(Self { path, _directory: None });
        }
        if !cfg!(target_os = "linux") {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path of the data directory is too long"));
        }
        let opened = rustix::fs::open(directory, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{name}", opened.as_raw_fd()));
        Ok(Self { path, _directory: Some(opened) })
    }
}

/// Takes the place of any socket that an earlier owner of `directory` left.
///
/// # Errors
/// Of the system.
pub fn bind(directory: &Path) -> io::Result<Bound> {
    let next = directory.join(NEXT);
    match std::fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let short = Short::new(directory, NEXT)?;
    let listener = UnixListener::bind(&short.path)?;
    std::fs::set_permissions(&next, Permissions::from_mode(PRIVATE_FILE))?;
    listener.set_nonblocking(true)?;
    let file = file_of(&next)?;
    let path = directory.join(NAME);
    std::fs::rename(&next, &path)?;
    Ok(Bound { listener, path, file })
}

/// A socket that others find in a directory.
#[derive(Debug)]
pub struct Bound {
    /// Where they come in.
    pub listener: UnixListener,
    path: PathBuf,
    /// Device and inode.
    file: (u64, u64),
}

fn file_of(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

impl Drop for Bound {
    /// Takes the socket away, so that nobody waits at one that is not answered. Only this one: where the directory was
    /// removed and made again, another owner's lies there.
    fn drop(&mut self) {
        if file_of(&self.path).is_ok_and(|file| file == self.file)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::debug!(%error, "the socket stays; the next owner replaces it");
        }
    }
}

/// A connection to the owner of `directory`. Never waits: an owner that takes no connections is an error.
///
/// # Errors
/// Of the system; without a living owner `NotFound` or `ConnectionRefused`.
pub fn connect(directory: &Path) -> io::Result<UnixStream> {
    let short = Short::new(directory, NAME)?;
    let address = SocketAddrUnix::new(&short.path)?;
    #[cfg(target_os = "linux")]
    let socket = {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?
    };
    #[cfg(not(target_os = "linux"))]
    let socket = {
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::empty(), None)?;
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        socket
    };
    rustix::net::connect(&socket, &address)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// The next connection of a process of this user; none when nobody waits. Others are turned away.
///
/// # Errors
/// Of the system.
pub fn accept(listener: &UnixListener) -> io::Result<Option<UnixStream>> {
    let stream = match listener.accept() {
        Ok((stream, _)) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    stream.set_nonblocking(false)?;
    if !is_same_user(&stream)? {
        tracing::warn!("a process of another user was turned away");
        return Ok(None);
    }
    Ok(Some(stream))
}

fn is_same_user(stream: &UnixStream) -> io::Result<bool> {
    #[cfg(target_os = "linux")]
    return Ok(sockopt::socket_peercred(stream)?.uid == rustix::process::geteuid());
    // Elsewhere the modes of directory and socket keep others out.
    #[cfg(not(target_os = "linux"))]
    return Ok(true);
}

/// Sends what goes without waiting; how many bytes that was.
///
/// # Errors
/// Of the system, when the connection is over.
pub fn send_now(stream: &UnixStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match rustix::net::send(stream, bytes, SendFlags::DONTWAIT | quiet()) {
            Ok(sent) => return Ok(sent),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(0),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends everything, unless the other side takes nothing for as long as the stream's timeout says.
///
/// # Errors
/// Of the system, when the connection is over or was given up.
pub fn send_all(stream: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::net::send(stream, bytes, quiet()) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A connection that ended is an error here, not a signal that ends the host process.
fn quiet() -> SendFlags {
    #[cfg(not(target_vendor = "apple"))]
    return SendFlags::NOSIGNAL;
    #[cfg(target_vendor = "apple")]
    return SendFlags::empty();
}

/// Waits until `stream` takes more bytes, or for `wait`.
///
/// # Errors
/// Of the system.
pub fn wait_writable(stream: &UnixStream, wait: Duration) -> io::Result<()> {
    let mut watched = [PollFd::new(stream, PollFlags::OUT)];
    poll(&mut watched, Some(wait)).map(drop)
}

/// Waits until one of two can be read; without an end where no `wait` is given.
///
/// # Errors
/// Of the system.
pub fn wait_readable(first: impl AsFd, second: impl AsFd, wait: Option<Duration>) -> io::Result<()> {
    let mut watched = [PollFd::new(&first, PollFlags::IN), PollFd::new(&second, PollFlags::IN)];
    poll(&mut watched, wait).map(drop)
}

fn poll(watched: &mut [PollFd<'_>], wait: Option<Duration>) -> io::Result<usize> {
    let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
    match rustix::event::poll(watched, wait.as_ref()) {
        Ok(ready) => Ok(ready),
        Err(Errno::INTR) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Lets nobody but this user into `directory`.
///
/// # Errors
/// Of the system.
pub fn make_private(directory: &Path) -> io::Result<()> {
    std::fs::set_permissions(directory, Permissions::from_mode(PRIVATE_DIRECTORY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    /// Whoever keeps data deep in a tree must not find out through a path that is cut off.
    #[test]
    fn a_directory_may_lie_deeper_than_a_socket_path_reaches() {
        let place = tempfile::tempdir().expect("a directory");
        let deep = place.path().join("a".repeat(120)).join("b".repeat(120));
        std::fs::create_dir_all(&deep).expect("made");
        assert_eq!(connect(&deep).expect_err("nobody is there").kind(), io::ErrorKind::NotFound);
        let first = bind(&deep).expect("bound");
        assert!(accept(&first.listener).expect("listening").is_none());
        let mut client = connect(&deep).expect("connected");
        let mut server = accept(&first.listener).expect("listening").expect("it is this user");
        client.write_all(b"hello").expect("sent");
        let mut heard = [0; 5];
        server.read_exact(&mut heard).expect("heard");
        assert_eq!(&heard, b"hello");
        let mode = std::fs::metadata(deep.join(NAME)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, PRIVATE_FILE);
        let second = bind(&deep).expect("a socket that is there is replaced");
        drop(first);
        connect(&deep).expect("the first one took away its own only");
        let stale = UnixListener::bind(deep.join("s")).map(drop);
        assert!(stale.is_err(), "the path is too long for others");
        drop(second);
        assert_eq!(connect(&deep).expect_err("gone").kind(), io::ErrorKind::NotFound);
    }
}
