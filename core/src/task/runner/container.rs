//! A kind that is a container: an image by its digest, without network, rights or anything to write to.

use std::ffi::OsString;
use std::time::Duration;

use serde_json::Value;

use crate::env::process::{Ending, Reason, Report};
use crate::error::{Error, Result};
use crate::task::kinds::{Context, Failure, Kind, Outcome};

use super::definitions::{ContainerDefinition, check_variables};
use super::engine::{Engine, LABEL};
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
/// An image may have to be fetched first, which is not the container's time.
const START: Duration = Duration::from_secs(60);

/// Runs an image of the configuration.
pub struct RunContainer {
    definition: ContainerDefinition,
    template: Template,
    engine: Engine,
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
        Ok(Self { template: Template::new(&definition.arguments)?, definition: definition.clone(), engine })
    }

    /// The whole command line behind the engine's name.
    fn command_line(&self, name: &str, context: &dyn Context) -> Result<Vec<OsString>> {
        let ContainerDefinition { image, environment, processors, limits, .. } = &self.definition;
        let mut line: Vec<OsString> = ["run", "--rm", "--interactive", "--init"].map(OsString::from).to_vec();
        let mut option = |name: &str, value: String| line.extend([OsString::from(name), OsString::from(value)]);
        option("--name", name.to_owned());
        option("--label", format!("{LABEL}={}", context.fence()));
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
        option("--tmpfs", format!("/tmp:rw,noexec,nosuid,nodev,size={}", limits.file_bytes));
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
        let name = run_name(context, &*self.engine.entropy);
        let line = self.command_line(&name, context)?;
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
    fn outcome(&self, report: &Report) -> Outcome {
        let ended = outcome(report, self.definition.limits.seconds + START.as_secs());
        let failure = match (report.reason, report.ending) {
            (Reason::Itself, Ending::Exited(ENGINE_FAILED)) => {
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

    /// Kills and removes the containers of tasks for which `runs` answers false; it is given the task's fence, which is
    /// its id and the number of its run with a dash between. Answers how many. To be called at the start of a worker, of
    /// which one container engine serves one database.
    ///
    /// # Errors
    /// `Unavailable` where the engine does not answer.
    pub fn reap(&self, runs: &dyn Fn(&str) -> bool) -> Result<usize> {
        let filter = format!("label={LABEL}");
        let names = self.engine.command(&["ps", "--all", "--filter", &filter, "--format", "{{.Names}}"])?;
        let left = names.lines().map(str::trim).filter(|name| fence_of(name).is_some_and(|fence| !runs(fence)));
        Ok(left.inspect(|name| self.engine.remove(name)).count())
    }
}

/// The fence in the name of a container that we made.
fn fence_of(name: &str) -> Option<&str> {
    let fence = name.strip_prefix("kappa-")?.rsplit_once('-')?.0;
    let (id, run) = fence.split_once('-')?;
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (number(id) && number(run)).then_some(fence)
}

#[cfg(test)]
mod tests;
