//! Programs beside this process: each has a supervisor of its own, which outlives this process and leaves nothing behind.
//!
//! The supervisor is a forked child that never executes anything: it waits for the program, for orders, and for the end of this
//! process, and then kills what is left of the program's session and whatever else descends from it. It shares this
//! process' memory until either writes to it, so a program costs some milliseconds a gigabyte to start.

mod descriptors;
mod folder;
mod pump;
mod supervisor;
#[cfg(target_os = "linux")]
mod tree;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::fork::Guard;

pub use folder::{Folder, Folders};
use supervisor::Plan;

/// The most processes that can be counted.
pub const MAX_PROCESSES: u32 = 1_024;

/// What a program may use. What is not said has the bounds of this process.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long it may run.
    pub time: Duration,
    /// How long it has for its end once it was asked for it.
    pub grace: Duration,
    /// Seconds of computing, for each of its processes.
    pub cpu_seconds: Option<u64>,
    /// Bytes of address space, for each of its processes.
    pub memory_bytes: Option<u64>,
    /// Descriptors that each of its processes may have open.
    pub open_files: Option<u64>,
    /// Bytes of the largest file that it may write.
    pub file_bytes: Option<u64>,
    /// Its processes together, itself included, at most [`MAX_PROCESSES`].
    pub processes: Option<u32>,
    /// Bytes that it may write to its standard output.
    pub output_bytes: usize,
}

/// Whose rights a program has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// Its user.
    pub uid: u32,
    /// Its only group.
    pub gid: u32,
}

/// What is run.
#[derive(Debug)]
pub struct Program {
    /// The file, by an absolute path: nothing is searched for.
    pub path: PathBuf,
    /// What follows the program's name; no shell sees it.
    pub arguments: Vec<OsString>,
    /// All of its environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it starts.
    pub directory: PathBuf,
    /// Its standard input.
    pub input: File,
    /// What it may use.
    pub limits: Limits,
    /// Whose rights it has; those of this process where nobody is named.
    pub user: Option<User>,
}

/// Why a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// By itself, or by a signal that came from elsewhere: one of its limits, the system, another program.
    Itself,
    /// It was asked to end, and killed where it did not.
    Terminated,
    /// It wrote too much.
    OutputLimit,
    /// It ran too long.
    TimeLimit,
    /// It had too many processes.
    ProcessLimit,
    /// Its supervisor was killed.
    Lost,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With this status.
    Exited(i32),
    /// Through this signal.
    Signalled(i32),
    /// Nobody knows.
    Unknown,
}

/// What became of a program.
#[derive(Debug)]
pub struct Report {
    /// Why it ended.
    pub reason: Reason,
    /// How.
    pub ending: Ending,
    /// What it wrote to its standard output, up to the limit.
    pub output: Vec<u8>,
    /// The last of what it wrote to its standard error.
    pub errors: String,
    /// Some of its processes cannot be killed at present; the supervisor goes on trying for a minute.
    pub left: bool,
}

/// A program that runs.
struct Running {
    /// The supervisor.
    child: Child,
    /// Orders to the supervisor, and what it tells. Its end tells the supervisor of ours.
    control: UnixStream,
    /// Goes before `control` does.
    guard: Option<Guard>,
}

impl Program {
    /// Runs it to its end, and asks `cancelled` some twenty times a second whether it should end sooner. When this
    /// returns, no process of the program is left, or the report says so. Returns within the limits' time, the grace and
    /// some seconds, whatever the program does.
    ///
    /// # Errors
    /// Of the system, where the program cannot be started.
    pub fn run(self, cancelled: &mut dyn FnMut() -> bool) -> io::Result<Report> {
        let limits = self.limits.clone();
        pump::run(self.start()?, &limits, cancelled)
    }

    #[expect(unsafe_code, reason = "what happens between a fork and a program can be said in no other way")]
    fn start(self) -> io::Result<Running> {
        let (control, theirs) = UnixStream::pair()?;
        // A child that this process forks must not keep the supervisor from seeing our end.
        let guard = Guard::new(&control);
        let plan = Plan::new(theirs.as_raw_fd(), &self.limits, self.user);
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).env_clear().envs(self.environment).current_dir(&self.directory);
        command.stdin(Stdio::from(self.input)).stdout(Stdio::piped()).stderr(Stdio::piped());
        // SAFETY: `divide` makes system calls and nothing else: it neither allocates nor takes a lock, as is asked of
        // a child of a process with threads.
        unsafe { command.pre_exec(move || supervisor::divide(&plan)) };
        let child = command.spawn()?;
        control.set_nonblocking(true)?;
        Ok(Running { child, control, guard })
    }
}
