//! A kind that is a program: parameters in through its standard input, result out through its standard output.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use crate::env::process::{self, Ending, Folders, Program, Reason, Report, User};
use crate::env::{Entropy, Env};
use crate::error::{Error, Result};
use crate::task::kinds::{Context, Failure, Kind, Outcome};

use super::check_program;
use super::definitions::{ProgramDefinition, UserIds, check_variables};
use super::template::Template;

/// Statuses by which a program says that what it was given is wrong (sysexits.h).
const WRONG_INPUT: [i32; 2] = [64, 65];
/// What a failure keeps of the standard error.
const SHOWN_ERROR_BYTES: usize = 2_048;

/// Runs a program of the configuration.
pub struct RunProgram {
    path: PathBuf,
    template: Template,
    environment: Vec<(OsString, OsString)>,
    limits: process::Limits,
    seconds: u64,
    user: Option<User>,
    folders: Folders,
    entropy: Arc<dyn Entropy>,
}

impl RunProgram {
    /// The kind that `definition` describes.
    ///
    /// # Errors
    /// `InvalidInput` naming the field that is wrong.
    pub fn new(definition: &ProgramDefinition, folders: Folders, env: &Env) -> Result<Self> {
        let ProgramDefinition { path, arguments, environment, inherit, user, limits } = definition;
        check_program(path, "path")?;
        limits.check()?;
        check_variables("environment", environment.keys())?;
        check_variables("inherit", inherit.iter())?;
        if user.is_some() && !(cfg!(target_os = "linux") && rustix::process::geteuid().is_root()) {
            return Err(Error::invalid("only root can give a program another user").with("field", "user"));
        }
        Ok(Self {
            path: path.clone(),
            template: Template::new(arguments)?,
            environment: variables(environment, inherit),
            limits: limits.of_process(),
            seconds: limits.seconds,
            user: user.map(|UserIds { uid, gid }| User { uid, gid }),
            folders,
            entropy: Arc::clone(&env.entropy),
        })
    }
}

impl Kind for RunProgram {
    fn check(&self, params: &Value) -> Result<()> {
        self.template.fill(params).map(drop)
    }

    fn run(&self, context: &dyn Context) -> Outcome {
        let arguments = self.template.fill(context.params())?;
        let folder =
            self.folders.make(&run_name(context, &*self.entropy), self.user).map_err(|error| not_started(&error))?;
        let program = Program {
            path: self.path.clone(),
            arguments,
            environment: with_task(&self.environment, context),
            directory: folder.path().to_owned(),
            input: folder.nameless(context.params().to_string().as_bytes()).map_err(|error| not_started(&error))?,
            limits: self.limits.clone(),
            user: self.user,
        };
        let report = program.run(&mut || context.cancelled()).map_err(|error| not_started(&error))?;
        outcome(&report, self.seconds)
    }
}

/// The environment of the configuration, and what it takes of the server's.
fn variables(given: &BTreeMap<String, String>, inherit: &[String]) -> Vec<(OsString, OsString)> {
    let inherited = inherit.iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?)));
    let given = given.iter().map(|(name, value)| (name.into(), value.into()));
    inherited.chain(given).collect()
}

/// What every program is told of its task.
pub fn with_task(environment: &[(OsString, OsString)], context: &dyn Context) -> Vec<(OsString, OsString)> {
    let mut environment = environment.to_vec();
    environment.extend(task_variables(context).map(|(name, value)| (name.into(), value.into())));
    environment
}

/// The variables of a task.
pub fn task_variables(context: &dyn Context) -> [(&'static str, String); 2] {
    [("KAPPA_TASK_ID", context.id().to_string()), ("KAPPA_TASK_FENCE", context.fence())]
}

/// A name that no other run has, also not one of another database.
pub fn run_name(context: &dyn Context, entropy: &dyn Entropy) -> String {
    let mut chance = [0; 8];
    entropy.fill(&mut chance);
    format!("kappa-{}-{}", context.fence(), data_encoding::HEXLOWER.encode(&chance))
}

/// The machine has no room at present, or the file has changed since the configuration was read.
pub fn not_started(error: &io::Error) -> Failure {
    Failure::passing("not_started", format!("the program could not be started: {error}"))
}

/// What a report means for the task.
pub fn outcome(report: &Report, seconds: u64) -> Outcome {
    let failure = match (report.reason, report.ending) {
        (Reason::Terminated, _) => return Err(Failure::cancelled()),
        (Reason::OutputLimit, _) => Failure::lasting("output_limit", "the program wrote more than its limit of output"),
        (Reason::TimeLimit, _) => Failure::passing("time_limit", format!("the program ran longer than {seconds} s")),
        (Reason::ProcessLimit, _) => Failure::lasting("process_limit", "the program had more processes than its limit"),
        (Reason::Lost, _) => Failure::passing("supervisor_lost", "the supervisor of the program was killed"),
        (Reason::Itself, Ending::Exited(0)) => return result(&report.output),
        (Reason::Itself, Ending::Exited(status)) => {
            let message = format!("the program ended with status {status}");
            if WRONG_INPUT.contains(&status) {
                Failure::lasting("refused", message)
            } else {
                Failure::passing("status", message)
            }
        }
        (Reason::Itself, Ending::Signalled(libc::SIGXCPU)) => {
            Failure::lasting("cpu_limit", "the program used more than its limit of computing time")
        }
        (Reason::Itself, Ending::Signalled(libc::SIGXFSZ)) => {
            Failure::lasting("file_limit", "the program wrote a file over its limit")
        }
        (Reason::Itself, Ending::Signalled(signal)) => {
            Failure::passing("signal", format!("the program was ended by signal {signal}"))
        }
        (Reason::Itself, Ending::Unknown) => Failure::passing("unknown", "nobody knows how the program ended"),
    };
    Err(with_errors(failure, report))
}

fn result(output: &[u8]) -> Outcome {
    if output.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Null);
    }
    serde_json::from_slice(output).map_err(|error| {
        Failure::lasting("output_format", format!("the program's output is not one JSON value: {error}"))
    })
}

fn with_errors(mut failure: Failure, report: &Report) -> Failure {
    let errors = report.errors.trim();
    let cut = errors.len().saturating_sub(SHOWN_ERROR_BYTES);
    let start = (cut..errors.len()).find(|at| errors.is_char_boundary(*at)).unwrap_or(errors.len());
    if !errors.is_empty() {
        failure.message = format!("{}; its last errors: {}", failure.message, &errors[start..]);
    }
    if report.left {
        failure.message += "; some of its processes cannot be killed at present";
    }
    failure
}

#[cfg(test)]
mod tests;
