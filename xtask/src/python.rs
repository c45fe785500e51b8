//! The Python package: built from this checkout, installed into an environment of its own, and tested there.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Length;

/// Interpreters that are tried, in this order; `KAPPA_PYTHON` names another.
const INTERPRETERS: &[&str] = &["python3", "python3.11", "python3.12", "python3.13", "python3.14", "python"];
const IS_NEW_ENOUGH: &str = "import sys, venv; sys.exit(sys.version_info < (3, 11))";
/// What the tests need besides the package.
const TEST_PACKAGES: &[&str] = &["pytest", "mypy", "pydantic", "numpy", "gunicorn", "tqdm"];
/// Built as other tests are; a release build takes minutes and tests nothing more.
const BUILD: &str = "build-args=--profile=dev";
/// What pytest answers when no test has the name it was given.
const NO_TESTS: i32 = 5;

/// Builds and installs the package and runs its tests, or those whose names match `words`.
///
/// # Errors
///
/// A message for people: no Python that is new enough, or the step that failed.
pub fn test(root: &Path, words: &[String], length: &Length) -> Result<(), String> {
    let package = root.join("py-bindings");
    let environment = target(root).join("python-environment");
    let python = environment.join("bin").join("python");
    if !answers(python.as_os_str(), IS_NEW_ENOUGH) {
        let interpreter = interpreter()?;
        println!("== python environment: {}", interpreter.display());
        step(Command::new(interpreter).args(["-m", "venv", "--clear"]).arg(&environment), "the environment")?;
    }
    let pip = || {
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).current_dir(root);
        pip
    };
    println!("== python packages: {}", TEST_PACKAGES.join(" "));
    step(pip().args(TEST_PACKAGES), "installing what the tests need")?;
    println!("== python package: pip install ./py-bindings");
    step(pip().args(["--force-reinstall", "--no-deps", "--config-settings", BUILD]).arg(&package), "the package")?;
    println!("== python tests");
    let mut pytest = Command::new(&python);
    pytest.args(["-m", "pytest", "--quiet", "-p", "no:cacheprovider"]).current_dir(&package);
    if !words.is_empty() {
        pytest.arg("-k").arg(words.join(" and "));
    }
    pytest.env("KAPPA_SERVER", crate::server(root)?);
    let status = length.tell(&mut pytest).status().map_err(|error| format!("the Python tests: {error}"))?;
    let nothing_matched = !words.is_empty() && status.code() == Some(NO_TESTS);
    if status.success() || nothing_matched { Ok(()) } else { Err(format!("the Python tests: {status}")) }
}

fn interpreter() -> Result<PathBuf, String> {
    let named = std::env::var_os("KAPPA_PYTHON");
    let candidates = named.into_iter().chain(INTERPRETERS.iter().map(OsString::from));
    let found = candidates.into_iter().find(|candidate| answers(candidate, IS_NEW_ENOUGH));
    found.map(PathBuf::from).ok_or_else(|| {
        format!(
            "needs Python 3.11 or newer with its venv module, as one of: {}; KAPPA_PYTHON may name another",
            INTERPRETERS.join(", ")
        )
    })
}

fn answers(interpreter: &OsStr, program: &str) -> bool {
    let mut command = Command::new(interpreter);
    command.args(["-c", program]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn step(command: &mut Command, what: &str) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("{what}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{what}: {status}")) }
}

fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    // An interpreter that is too old, or a stub that only says how to install one, fails much later and says nothing useful.
    #[test]
    fn an_interpreter_that_does_not_answer_is_none() {
        assert!(!answers(OsStr::new("/nothing/here/python"), IS_NEW_ENOUGH));
        assert!(!answers(OsStr::new("false"), IS_NEW_ENOUGH));
        assert!(answers(OsStr::new("true"), IS_NEW_ENOUGH));
    }
}
