//! The command line of `docker` or `podman`: what is run for a container, and for one that has to go.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::env::process::{Ending, Folder, Folders, Limits, Program, Reason, Report};
use crate::env::{Entropy, Env};
use crate::error::{Error, ErrorKind, Result};

use super::check_program;

/// How long a short command of the engine may take.
const COMMAND_TIME: Duration = Duration::from_secs(20);
/// How long it may take to fetch an image.
const FETCH_TIME: Duration = Duration::from_mins(5);
const COMMAND_OUTPUT_BYTES: usize = 1 << 20;
/// What the two engines need to find their daemon, their storage and themselves.
const VARIABLES: [&str; 10] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "DOCKER_HOST",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "CONTAINER_HOST",
    "CONTAINERS_CONF",
    "CONTAINERS_STORAGE_CONF",
];

/// The label of a container that runs a task; its value is the task and its run.
pub const TASK_LABEL: &str = "kappa.task";
/// The label that tells the containers of one database from those of others, which one engine may run beside each other.
pub const DATABASE_LABEL: &str = "kappa.database";

/// A filter for no database would find the containers of others.
///
/// # Errors
/// `Unsupported`, see [`Engine::names`].
pub fn check_database(id: &str) -> Result<()> {
    let message = "containers need the id of their database, and its server is too old to say it";
    if id.is_empty() { Err(Error::new(ErrorKind::Unsupported, message)) } else { Ok(()) }
}

/// One container engine.
#[derive(Clone, Debug)]
pub struct Engine {
    path: PathBuf,
    environment: Vec<(OsString, OsString)>,
    /// Where its client runs.
    pub folders: Folders,
    /// Where the names of containers come from.
    pub entropy: Arc<dyn Entropy>,
}

impl Engine {
    /// The engine at `path`.
    ///
    /// # Errors
    /// `InvalidInput` where it is not named, or not there.
    pub fn new(path: Option<&Path>, folders: Folders, env: &Env) -> Result<Self> {
        let Some(path) = path else {
            let error = Error::invalid("containers need the absolute path of docker or podman");
            return Err(error.with("field", "container_engine"));
        };
        check_program(path, "container_engine")?;
        let environment = VARIABLES.iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?))).collect();
        Ok(Self { path: path.to_owned(), environment, folders, entropy: Arc::clone(&env.entropy) })
    }

    /// Runs its client in `folder`.
    ///
    /// # Errors
    /// Of the system.
    pub fn run(
        &self,
        arguments: Vec<OsString>,
        input: &[u8],
        folder: &Folder,
        limits: Limits,
        cancelled: &mut dyn FnMut() -> bool,
    ) -> io::Result<Report> {
        let program = Program {
            path: self.path.clone(),
            arguments,
            environment: self.environment.clone(),
            directory: folder.path().to_owned(),
            input: folder.nameless(input)?,
            limits,
            user: None,
        };
        program.run(cancelled)
    }

    /// Runs a short command and gives what it wrote.
    ///
    /// # Errors
    /// `Unavailable` where the engine does not do it.
    pub fn command(&self, arguments: &[&str]) -> Result<String> {
        self.command_within(COMMAND_TIME, arguments, &mut || false)
    }

    /// Has the engine fetch `image` unless it has it.
    ///
    /// # Errors
    /// `Unavailable` where it cannot, `Cancelled`.
    pub fn fetch(&self, image: &str, cancelled: &mut dyn FnMut() -> bool) -> Result<()> {
        if self.command(&["image", "inspect", "--format", "{{.Id}}", image]).is_err() {
            self.command_within(FETCH_TIME, &["pull", "--quiet", image], cancelled)?;
        }
        Ok(())
    }

    /// The names of all containers that run tasks of the database with this id, or did.
    ///
    /// # Errors
    /// `Unavailable` where the engine does not answer; `Unsupported` for a database whose server is too old to say its id.
    pub fn names(&self, database: &str) -> Result<Vec<String>> {
        check_database(database)?;
        let filter = format!("label={DATABASE_LABEL}={database}");
        let names = self.command(&["ps", "--all", "--filter", &filter, "--format", "{{.Names}}"])?;
        Ok(names.lines().map(|name| name.trim().to_owned()).collect())
    }

    fn command_within(
        &self,
        time: Duration,
        arguments: &[&str],
        cancelled: &mut dyn FnMut() -> bool,
    ) -> Result<String> {
        let failed = |why: &dyn std::fmt::Display| {
            let error = Error::new(ErrorKind::Unavailable, "the container engine did not do as it was told");
            error.with("command", arguments.join(" ")).with("why", why)
        };
        let mut chance = [0; 8];
        self.entropy.fill(&mut chance);
        let name = format!("engine-{}", data_encoding::HEXLOWER.encode(&chance));
        let folder = self.folders.make(&name, None).map_err(|error| failed(&error))?;
        let limits = Limits {
            time,
            grace: Duration::ZERO,
            cpu_seconds: None,
            memory_bytes: None,
            open_files: None,
            file_bytes: None,
            processes: None,
            output_bytes: COMMAND_OUTPUT_BYTES,
        };
        let words = arguments.iter().map(OsString::from).collect();
        let report = self.run(words, b"", &folder, limits, cancelled).map_err(|error| failed(&error))?;
        match (report.reason, report.ending) {
            (Reason::Itself, Ending::Exited(0)) => Ok(String::from_utf8_lossy(&report.output).into_owned()),
            (Reason::Terminated, _) => Err(Error::new(ErrorKind::Cancelled, "the command was cancelled")),
            (Reason::TimeLimit, _) => Err(failed(&format_args!("it took longer than {} s", time.as_secs()))),
            _ => Err(failed(&report.errors.trim())),
        }
    }

    /// Kills the container `name` and removes it; one that is not there needs neither.
    pub fn remove(&self, name: &str) {
        if let Err(error) = self.command(&["kill", name]) {
            tracing::debug!(%error, name, "a container that should be killed is not running");
        }
        if let Err(error) = self.command(&["rm", "--force", name]) {
            tracing::warn!(%error, name, "a container may be left behind");
        }
    }
}
