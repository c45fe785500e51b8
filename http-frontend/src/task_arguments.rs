//! What the command line says about tasks: which programs they may run, and which files they may read and write.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use kappa_core::runner::TaskPrograms;

use crate::options::ServerOptions;
use crate::workers;

/// The arguments of the server and of workers alike.
#[derive(Debug, Args)]
pub struct TaskArguments {
    /// How many milliseconds a task of `/tasks` takes whose name is no kind.
    #[arg(id = "task_ms", long = "task-ms", global = true, value_name = "MS", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(0..=86_400_000))]
    wait_ms: u64,
    /// A JSON file with the programs, containers and services that tasks may run; none where it is not given.
    #[arg(
        id = "task_programs",
        long = "task-programs",
        global = true,
        value_name = "FILE",
        env = "KAPPA_TASK_PROGRAMS"
    )]
    programs: Option<OsString>,
    /// The directory that tasks import from and export to; where it is not given they do neither.
    #[arg(id = "task_files", long = "task-files", global = true, value_name = "DIR", env = "KAPPA_TASK_FILES")]
    files: Option<OsString>,
}

impl TaskArguments {
    /// Puts what is said into `options`, once it is known that tasks can be run with it.
    ///
    /// # Errors
    /// What is wrong, and in which file and line or field.
    pub fn apply(&self, options: &mut ServerOptions) -> Result<(), String> {
        options.task_length = Duration::from_millis(self.wait_ms);
        options.task_files = given(self.files.as_ref());
        workers::kinds(options).map_err(|error| format!("--task-files: {error}"))?;
        if let Some(file) = given(self.programs.as_ref()) {
            options.task_programs = read(&file)?;
            workers::kinds(options).map_err(|error| format!("{}: {error}", file.display()))?;
        }
        Ok(())
    }
}

/// A variable that is set to nothing says nothing.
fn given(path: Option<&OsString>) -> Option<PathBuf> {
    path.filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn read(file: &Path) -> Result<TaskPrograms, String> {
    let text = std::fs::read(file).map_err(|error| format!("--task-programs: {}: {error}", file.display()))?;
    serde_json::from_slice(&text).map_err(|error| {
        let said = error.to_string();
        let what = said.rsplit_once(" at line ").map_or(said.as_str(), |(what, _)| what);
        format!("{}:{}:{}: {what}", file.display(), error.line(), error.column())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(programs: Option<&Path>, files: Option<&Path>) -> Result<ServerOptions, String> {
        let text = |path: Option<&Path>| path.map(|path| path.as_os_str().to_owned());
        let arguments = TaskArguments { wait_ms: 7, programs: text(programs), files: text(files) };
        let mut options = ServerOptions::default();
        arguments.apply(&mut options).map(|()| options)
    }

    /// A limit that is misread, or a program that is not there, is found by whoever starts the server and not by a task at night.
    #[test]
    fn what_is_wrong_is_said_with_its_file_and_place() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("programs.json");
        let refused = |text: &str| {
            std::fs::write(&file, text).expect("a file");
            let said = applied(Some(&file), None).expect_err(text);
            said.strip_prefix(&file.display().to_string()).unwrap_or_else(|| panic!("no file in {said}")).to_owned()
        };
        for (text, place, word) in [
            ("", ":1:0: ", "EOF"),
            ("{\n \"programs\": {\n  \"sum\": {\"path\": 1}}}", ":3:", "expected path string"),
            ("{\n \"programs\": {\"a\": {\"path\": \"/bin/cat\",\n \"limits\": {\"memory\": 1}}}}", ":3:", "`memory`"),
            ("{\"program\": {}}", ":1:", "`program`"),
            ("{\"programs\": {\"a\": {\"path\": \"cat\"}}}", ": ", "field=path"),
            ("{\"programs\": {\"a\": {\"path\": \"/no/such/file\"}}}", ": ", "kind=a"),
            ("{\"programs\": {\"sum\": {\"path\": \"/bin/cat\"}}}", ": ", "kind=sum"),
            ("{\"programs\": {\"a\": {\"path\": \"/bin/cat\", \"limits\": {\"seconds\": 0}}}}", ": ", "limits.seconds"),
        ] {
            let said = refused(text);
            assert!(said.starts_with(place) && said.contains(word), "{text}: {said}");
        }
        let gone = applied(Some(&directory.path().join("gone.json")), None).expect_err("no file");
        assert!(gone.starts_with("--task-programs: ") && gone.contains("gone.json"), "{gone}");
        let gone = applied(None, Some(&directory.path().join("gone"))).expect_err("no directory");
        assert!(gone.starts_with("--task-files: ") && gone.contains("gone"), "{gone}");
    }

    #[test]
    fn what_is_right_is_taken_and_nothing_is_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("programs.json");
        std::fs::write(&file, r#"{"programs": {"copy": {"path": "/bin/cat"}}}"#).expect("a file");
        let options = applied(Some(&file), Some(directory.path())).expect("both are right");
        assert_eq!(options.task_programs.programs["copy"].path, Path::new("/bin/cat"));
        assert_eq!(options.task_files.as_deref(), Some(directory.path()));
        assert_eq!(options.task_length, Duration::from_millis(7));
        let options = applied(Some(Path::new("")), Some(Path::new(""))).expect("nothing is said");
        assert_eq!((options.task_programs, options.task_files), (TaskPrograms::default(), None));
    }
}
