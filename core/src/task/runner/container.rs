//! A kind that is a container: an image by its digest, without network, rights or anything to write to.

use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::env::process::{Ending, Reason, Report};
use crate::error::{Error, ErrorKind, Result};
use crate::task::kinds::{Context, Failure, Kind, Outcome};
use crate::task::model::TaskId;

use super::definitions::{ContainerDefinition, check_variables};
use super::engine::{DATABASE_LABEL, Engine, TASK_LABEL, check_database};
use super::program::{not_started, outcome, run_name, task_variables};
use super::template::Template;

const DIGEST: &str = "@sha256:";
const DIGEST_DIGITS: usize = 64;
/// The engine itself failed (`docker run`, exit status).
const ENGINE_FAILED: i32 = 125;
/// The image's entry point cannot be run.
const NOT_RUNNABLE: [i32; 2] = [126, 127];
/// The container's first process was killed, most often for want of memory.
const KILLED: i32 = 137;
/// What an engine may take to start a container, which is not the container's time.
const START: Duration = Duration::from_secs(10);

/// Runs an image of the configuration.
pub struct RunContainer {
    definition: ContainerDefinition,
    template: Template,
    engine: Engine,
    /// The engine was seen to have the image, and has run it since.
    is_fetched: AtomicBool,
}

impl RunContainer {
    /// The kind that `definition` describes.
    ///
    /// # Errors
    /// `InvalidInput` naming the field that is wrong.
    pub fn new(definition: &ContainerDefinition, engine: Engine) -> Result<Self> {
        check_image(&definition.image)?;
        definition.limits.check()?;
        check_variables("environment", definition.environment.keys())?;
        if !(0.01..=1_024.0).contains(&definition.processors) {
            let error = Error::invalid("a container has 0.01 to 1 024 processors").with("field", "processors");
            return Err(error.with("value", definition.processors));
        }
        Ok(Self {
            template: Template::new(&definition.arguments)?,
            definition: definition.clone(),
            engine,
            is_fetched: AtomicBool::new(false),
        })
    }

    /// The whole command line behind the engine's name.
    fn command_line(&self, name: &str, database: &str, context: &dyn Context) -> Result<Vec<OsString>> {
        let ContainerDefinition { image, environment, processors, limits, .. } = &self.definition;
        let mut line: Vec<OsString> =
            ["run", "--rm", "--interactive", "--init", "--pull", "never"].map(OsString::from).to_vec();
        let mut option = |name: &str, value: String| line.extend([OsString::from(name), OsString::from(value)]);
        option("--name", name.to_owned());
        option("--label", format!("{DATABASE_LABEL}={database}"));
        option("--label", format!("{TASK_LABEL}={}", context.fence()));
        option("--network", "none".to_owned());
        option("--cap-drop", "ALL".to_owned());
        option("--security-opt", "no-new-privileges".to_owned());
        option("--user", "65534:65534".to_owned());
        option("--pids-limit", limits.processes.to_string());
        option("--memory", limits.memory_bytes.to_string());
        // The same number: none of it may be swapped out.
        option("--memory-swap", limits.memory_bytes.to_string());
        option("--cpus", processors.to_string());
        option("--ulimit", "core=0".to_owned());
        option("--tmpfs", format!("/tmp:rw,noexec,nosuid,nodev,mode=1777,size={}", limits.file_bytes));
        // What it writes comes to us; the engine would keep a copy of any length.
        option("--log-driver", "none".to_owned());
        let own = task_variables(context).map(|(name, value)| (name.to_owned(), value));
        for (name, value) in environment.clone().into_iter().chain(own) {
            option("--env", format!("{name}={value}"));
        }
        line.push("--read-only".into());
        line.push(image.into());
        line.extend(self.template.fill(context.params())?);
        Ok(line)
    }
}

impl Kind for RunContainer {
    fn check(&self, params: &Value) -> Result<()> {
        self.template.fill(params).map(drop)
    }

    fn run(&self, context: &dyn Context) -> Outcome {
        self.fetch(context)?;
        let database = context.kappa().info().map_err(|error| Failure::passing("database", error.to_string()))?.id;
        check_database(&database).map_err(|error| Failure::passing("database", error.to_string()))?;
        self.remove_earlier_runs(&database, context)?;
        let name = run_name(context, &*self.engine.entropy);
        let line = self.command_line(&name, &database, context)?;
        let folder = self.engine.folders.make(&name, None).map_err(|error| not_started(&error))?;
        let mut limits = self.definition.limits.of_client();
        limits.time += START;
        let input = context.params().to_string();
        let report = self.engine.run(line, input.as_bytes(), &folder, limits, &mut || context.cancelled());
        let report = report.map_err(|error| not_started(&error))?;
        // A client that ended by itself has seen the container's end; one that did not may have left it running.
        if report.reason != Reason::Itself || !matches!(report.ending, Ending::Exited(_)) {
            self.engine.remove(&name);
        }
        self.outcome(&report)
    }
}

impl RunContainer {
    /// Has the engine fetch the image where it lacks it. Not as a part of the run: that has the container's time only.
    fn fetch(&self, context: &dyn Context) -> Result<(), Failure> {
        if !self.is_fetched.load(Ordering::Relaxed) {
            let fetched = self.engine.fetch(&self.definition.image, &mut || context.cancelled());
            fetched.map_err(|error| match error.kind() {
                ErrorKind::Cancelled => Failure::cancelled(),
                _ => Failure::passing("engine", error.to_string()),
            })?;
            self.is_fetched.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Removes what a worker that was killed has left of earlier runs: this one must not work beside them.
    fn remove_earlier_runs(&self, database: &str, context: &dyn Context) -> Result<(), Failure> {
        let (id, number) = (context.id(), context.run_number());
        if number > 1 {
            let names = self.engine.names(database).map_err(|error| Failure::passing("engine", error.to_string()))?;
            let earlier = |name: &&String| fence_of(name).is_some_and(|(of, run)| of == id && run < number);
            names.iter().filter(earlier).for_each(|name| self.engine.remove(name));
        }
        Ok(())
    }

    fn outcome(&self, report: &Report) -> Outcome {
        let ended = outcome(report, self.definition.limits.seconds);
        let failure = match (report.reason, report.ending) {
            (Reason::Itself, Ending::Exited(ENGINE_FAILED)) => {
                // Perhaps somebody removed the image: the next attempt looks.
                self.is_fetched.store(false, Ordering::Relaxed);
                Failure::passing("engine", "the container engine did not run the container")
            }
            (Reason::Itself, Ending::Exited(status)) if NOT_RUNNABLE.contains(&status) => {
                Failure::lasting("engine", "the image has no program that can be run")
            }
            (Reason::Itself, Ending::Exited(KILLED)) => {
                Failure::passing("killed", "the container was killed, perhaps for want of memory")
            }
            _ => return ended,
        };
        let message = format!("{}: {}", failure.message, report.errors.trim());
        Err(Failure { message, ..failure })
    }
}

fn check_image(image: &str) -> Result<()> {
    let wrong = || {
        let error = Error::invalid("an image is named by its digest: name@sha256: and 64 hexadecimal digits");
        error.with("field", "image").with("image", image)
    };
    let (name, digest) = image.split_once(DIGEST).ok_or_else(wrong)?;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-/:".contains(&byte);
    let first = name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    let digits = digest.len() == DIGEST_DIGITS
        && digest.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if first && name.bytes().all(plain) && digits { Ok(()) } else { Err(wrong()) }
}

/// Looks after containers that a server left when it was killed.
#[derive(Clone, Debug)]
pub struct Containers {
    engine: Engine,
}

impl Containers {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine }
    }

    /// Kills and removes the containers of tasks of the database with the id `database` (see [`crate::Info`]) for which
    /// `runs` answers false; it is given the task's id. Answers how many. To be called by a worker from time to time.
    ///
    /// # Errors
    /// As the engine's: `Unavailable` where it does not answer; `Unsupported` without an id.
    pub fn reap(&self, database: &str, runs: &dyn Fn(TaskId) -> bool) -> Result<usize> {
        let names = self.engine.names(database)?;
        let left = names.iter().filter(|name| fence_of(name).is_some_and(|(id, _)| !runs(id)));
        Ok(left.inspect(|name| self.engine.remove(name)).count())
    }
}

/// Task and run in the name of a container that we made.
fn fence_of(name: &str) -> Option<(TaskId, u32)> {
    let fence = name.strip_prefix("kappa-")?.rsplit_once('-')?.0;
    let (id, run) = fence.split_once('-')?;
    let is_number = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
    Some((Some(id).filter(is_number)?.parse().ok()?, Some(run).filter(is_number)?.parse().ok()?))
}

#[cfg(test)]
mod tests;
