//! Which programs, containers and services tasks may use, as the configuration says it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::env::process::{self, MAX_PROCESSES};
use crate::error::{Error, Result};

const MIB: u64 = 1 << 20;
/// A result is at most this long.
const MAX_OUTPUT_BYTES: u64 = MIB;
const MAX_SECONDS: u64 = 30 * 24 * 3_600;
const MAX_GRACE_SECONDS: u64 = 600;

/// The allow-list of tasks that run somebody else's code, by the name of their kind. Empty unless it is written down.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaskPrograms {
    /// Where working directories are made; a directory of this user below the system's temporary one if not given.
    pub directory: Option<PathBuf>,
    /// Files that are run.
    pub programs: BTreeMap<String, ProgramDefinition>,
    /// `docker` or `podman`, by its absolute path; needed where there are containers.
    pub container_engine: Option<PathBuf>,
    /// Images that are run.
    pub containers: BTreeMap<String, ContainerDefinition>,
    /// Servers that are asked.
    pub services: BTreeMap<String, ServiceDefinition>,
}

/// A program: it reads the parameters as JSON from its standard input and writes the result as JSON, and nothing else, to its standard
/// output. Status 0 is success; 64 and 65 say that the parameters are wrong and no other attempt helps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramDefinition {
    /// The file, by its absolute path.
    pub path: PathBuf,
    /// Its arguments. `{name}` stands for the parameter of that name, a text or a number; `{{` and `}}` for braces. A parameter
    /// never makes two arguments, and never an option.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// Variables of its environment, which holds nothing else but `KAPPA_TASK_ID` and `KAPPA_TASK_FENCE`.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Variables that it gets as the server has them.
    #[serde(default)]
    pub inherit: Vec<String>,
    /// Whose rights it has; the server's own if not given. Only root can give others.
    #[serde(default)]
    pub user: Option<UserIds>,
    /// What it may use.
    #[serde(default)]
    pub limits: Limits,
}

/// A user by numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserIds {
    /// The user.
    pub uid: u32,
    /// Its only group.
    pub gid: u32,
}

/// A container: its image's entry point works as a program does. It has no network, and writes nowhere but to a `/tmp` in memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerDefinition {
    /// The image, by its digest: `name@sha256:...`. A tag alone could be another image tomorrow.
    pub image: String,
    /// As those of a program.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// Variables of its environment, beside those of the image and the two of every task.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// How many processors it may use, parts of one included.
    #[serde(default = "one_processor")]
    pub processors: f64,
    /// What it may use; computing time and open files are the container engine's matter.
    #[serde(default)]
    pub limits: Limits,
}

fn one_processor() -> f64 {
    1.0
}

/// A server that runs tasks: it is sent `POST /task/<task>` with `{"params": ...}` and answers `{"result": ...}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceDefinition {
    /// Where it is, such as `http://127.0.0.1:5000`.
    pub address: String,
    /// What it calls the task; the kind's name if not given.
    #[serde(default)]
    pub task: Option<String>,
    /// How long it may take.
    #[serde(default = "default_seconds")]
    pub seconds: u64,
    /// Bytes of its answer.
    #[serde(default = "default_output_bytes")]
    pub answer_bytes: u64,
}

impl ServiceDefinition {
    /// Refuses bounds that bound nothing.
    ///
    /// # Errors
    /// `InvalidInput` naming the field.
    pub(super) fn check(&self) -> Result<()> {
        within("seconds", self.seconds, 1, MAX_SECONDS)?;
        within("answer_bytes", self.answer_bytes, 1, MAX_OUTPUT_BYTES)
    }
}

fn default_seconds() -> u64 {
    60
}

fn default_output_bytes() -> u64 {
    MAX_OUTPUT_BYTES / 2
}

/// What a program or container may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// How long it may run.
    pub seconds: u64,
    /// How long it has to end by itself once it was asked to.
    pub grace_seconds: u64,
    /// Seconds of computing, for each process.
    pub cpu_seconds: u64,
    /// Bytes of memory: address space for each process of a program, all memory of a container.
    pub memory_bytes: u64,
    /// Bytes of its result.
    pub output_bytes: u64,
    /// Bytes of each file that a program writes, or of all files in a container's `/tmp`.
    pub file_bytes: u64,
    /// Descriptors that each process may have open.
    pub open_files: u64,
    /// Processes at a time. Those of a program are counted every 50 ms.
    pub processes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            seconds: default_seconds(),
            grace_seconds: 5,
            cpu_seconds: 60,
            memory_bytes: 512 * MIB,
            output_bytes: default_output_bytes(),
            file_bytes: 64 * MIB,
            open_files: 64,
            processes: 16,
        }
    }
}

impl Limits {
    /// Refuses bounds that bound nothing, or let nothing run.
    ///
    /// # Errors
    /// `InvalidInput` naming the field.
    pub(super) fn check(&self) -> Result<()> {
        within("limits.seconds", self.seconds, 1, MAX_SECONDS)?;
        within("limits.grace_seconds", self.grace_seconds, 0, MAX_GRACE_SECONDS)?;
        within("limits.cpu_seconds", self.cpu_seconds, 1, MAX_SECONDS)?;
        within("limits.memory_bytes", self.memory_bytes, 4 * MIB, 1 << 50)?;
        within("limits.output_bytes", self.output_bytes, 1, MAX_OUTPUT_BYTES)?;
        within("limits.file_bytes", self.file_bytes, 0, 1 << 50)?;
        within("limits.open_files", self.open_files, 8, 1 << 20)?;
        within("limits.processes", u64::from(self.processes), 1, u64::from(MAX_PROCESSES))
    }

    /// The same for a process.
    pub(super) fn of_process(&self) -> process::Limits {
        process::Limits {
            cpu_seconds: Some(self.cpu_seconds),
            memory_bytes: Some(self.memory_bytes),
            open_files: Some(self.open_files),
            file_bytes: Some(self.file_bytes),
            processes: Some(self.processes),
            ..self.of_client()
        }
    }

    /// For a program that only asks somebody else to do the work.
    pub(super) fn of_client(&self) -> process::Limits {
        process::Limits {
            time: Duration::from_secs(self.seconds),
            grace: Duration::from_secs(self.grace_seconds),
            cpu_seconds: None,
            memory_bytes: None,
            open_files: None,
            file_bytes: None,
            processes: None,
            output_bytes: usize::try_from(self.output_bytes).expect("checked to be at most 1 MiB"),
        }
    }
}

fn within(field: &'static str, value: u64, least: u64, most: u64) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let error = Error::invalid("a limit is out of its range").with("field", field).with("value", value);
    Err(error.with("least", least).with("most", most))
}

/// Refuses names that no environment can hold.
///
/// # Errors
/// `InvalidInput` naming the field and the variable.
pub(super) fn check_variables<'a>(field: &'static str, names: impl Iterator<Item = &'a String>) -> Result<()> {
    for name in names {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(Error::invalid("a variable's name is letters, digits and _")
                .with("field", field)
                .with("name", name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A limit that is mistyped and quietly ignored is no limit.
    #[test]
    fn what_is_not_known_is_refused_by_name() {
        let read = |value| serde_json::from_value::<TaskPrograms>(value);
        assert_eq!(read(json!({})).expect("nothing is allowed"), TaskPrograms::default());
        for (value, word) in [
            (json!({"program": {}}), "`program`"),
            (json!({"programs": {"a": {"path": "/a", "limits": {"memory": 1}}}}), "`memory`"),
            (json!({"programs": {"a": {"arguments": []}}}), "`path`"),
            (json!({"programs": {"a": {"path": "/a", "shell": true}}}), "`shell`"),
            (json!({"containers": {"a": {"tag": "latest"}}}), "`tag`"),
            (json!({"services": {"a": {"port": 1}}}), "`port`"),
        ] {
            let error = read(value).expect_err("refused").to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn bounds_have_bounds() {
        Limits::default().check().expect("the defaults hold");
        for (limits, field) in [
            (Limits { seconds: 0, ..Limits::default() }, "limits.seconds"),
            (Limits { memory_bytes: 1, ..Limits::default() }, "limits.memory_bytes"),
            (Limits { output_bytes: MIB + 1, ..Limits::default() }, "limits.output_bytes"),
            (Limits { processes: MAX_PROCESSES + 1, ..Limits::default() }, "limits.processes"),
        ] {
            let error = limits.check().expect_err(field).to_string();
            assert!(error.contains(&format!("field={field} ")), "{error}");
        }
    }
}
