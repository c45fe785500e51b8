//! The Node package: installed by npm into a project of its own, as its users do, and tested there.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Length;

/// The oldest Node that the package says it runs on.
const OLDEST_NODE: u32 = 20;
const TYPESCRIPT: &str = "typescript@5";
/// Built as other tests are; a release build takes minutes and tests nothing more. `KAPPA_PROFILE` names another.
const PROFILE: &str = "dev";

/// Installs the package into an empty project and runs its tests, or those whose names match `words`.
///
/// # Errors
///
/// A message for people: what is missing, or the step that failed.
pub fn test(root: &Path, words: &[String], length: &Length) -> Result<(), String> {
    let node = needed("node", "--version")?;
    let npm = needed("npm", "--version")?;
    if major(&node).is_none_or(|major| major < OLDEST_NODE) {
        return Err(format!("needs Node {OLDEST_NODE} or newer, found {node}"));
    }
    println!("== node project: Node {node}, npm {npm}");
    let project = fresh_project(root)?;

    println!("== node package: npm install node-bindings");
    let profile = std::env::var("KAPPA_PROFILE").unwrap_or_else(|_| PROFILE.to_owned());
    let mut install = Command::new("npm");
    // Copied, as from a registry: a file that package.json forgets is missing then.
    install.args(["install", "--install-links", "--no-audit", "--no-fund", "--loglevel=error", TYPESCRIPT]);
    install.arg(root.join("node-bindings")).env("KAPPA_PROFILE", profile).current_dir(&project);
    step(&mut install, "npm install")?;

    println!("== node tests");
    let mut tests = Command::new("node");
    tests.args(["--test", "--test-reporter=spec"]).current_dir(&project);
    if !words.is_empty() {
        tests.arg(format!("--test-name-pattern={}", words.join(" ")));
    }
    tests.args(test_files(&project)?).env("KAPPA_CONTRACT", root.join("core/tests/contract"));
    tests.env("KAPPA_SERVER", crate::server(root)?);
    step(length.tell(&mut tests), "the Node tests")?;
    if !words.is_empty() {
        return Ok(());
    }

    println!("== node types");
    let compiler = ["node_modules/typescript/bin/tsc", "--project", "test/types"];
    step(Command::new("node").args(compiler).current_dir(&project), "tsc --strict")?;
    for (number, program) in readme_programs(root)?.iter().enumerate() {
        let name = format!("readme{number}.cjs");
        std::fs::write(project.join(&name), program).map_err(|error| format!("{name}: {error}"))?;
        step(Command::new("node").arg(&name).current_dir(&project), &name)?;
    }
    for program in ["test/types/out/program.mjs", "test/types/out/program.cjs", "first_steps.cjs"] {
        step(Command::new("node").arg(program).current_dir(&project), program)?;
    }
    Ok(())
}

/// The programs for Node in the README, which must run as they stand.
fn readme_programs(root: &Path) -> Result<Vec<String>, String> {
    let readme = std::fs::read_to_string(root.join("README.md")).map_err(|error| format!("README.md: {error}"))?;
    let programs = readme.split("```js\n").skip(1).filter_map(|rest| rest.split("```").next());
    let programs: Vec<String> = programs.map(str::to_owned).collect();
    if programs.is_empty() { Err("README.md shows no program for Node".to_owned()) } else { Ok(programs) }
}

/// The files of tests, from the project: what else lies in a folder `test` is run too when only the folder is named.
fn test_files(project: &Path) -> Result<Vec<String>, String> {
    let folder = project.join("test");
    let entries = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut files: Vec<String> =
        names.filter(|name| name.contains(".test.")).map(|name| format!("test/{name}")).collect();
    files.sort();
    Ok(files)
}

/// An empty project with the tests and the example in it.
fn fresh_project(root: &Path) -> Result<PathBuf, String> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |target| root.join(target));
    let project = target.join("node-project");
    if project.exists() {
        std::fs::remove_dir_all(&project).map_err(|error| format!("{}: {error}", project.display()))?;
    }
    copy(&root.join("node-bindings/test"), &project.join("test"))?;
    copy_file(&root.join("examples/node/first_steps.cjs"), &project.join("first_steps.cjs"))?;
    let manifest = project.join("package.json");
    std::fs::write(&manifest, "{\"private\": true}\n").map_err(|error| format!("{}: {error}", manifest.display()))?;
    Ok(project)
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    std::fs::create_dir_all(to).map_err(|error| format!("{}: {error}", to.display()))?;
    let entries = std::fs::read_dir(from).map_err(|error| format!("{}: {error}", from.display()))?;
    for entry in entries {
        let entry = entry.map_err(|error| format!("{}: {error}", from.display()))?;
        let place = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &place)?;
        } else {
            copy_file(&entry.path(), &place)?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> Result<(), String> {
    std::fs::copy(from, to).map(drop).map_err(|error| format!("{}: {error}", from.display()))
}

/// What `program` says of itself.
fn needed(program: &str, argument: impl AsRef<OsStr>) -> Result<String, String> {
    let missing = || format!("needs Node {OLDEST_NODE} or newer with npm: cannot run {program}");
    let output = Command::new(program).arg(argument).output().map_err(|_| missing())?;
    if !output.status.success() {
        return Err(missing());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn major(version: &str) -> Option<u32> {
    version.trim_start_matches('v').split('.').next()?.parse().ok()
}

fn step(command: &mut Command, what: &str) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("{what}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{what}: {status}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A missing program must be named, and an old Node must not fail somewhere in the middle of the tests.
    #[test]
    fn what_is_missing_is_named() {
        let message = needed("no-such-program-here", "--version").expect_err("it is not there");
        assert!(message.contains("no-such-program-here"), "{message}");
        assert!(needed("false", "--version").is_err());
        assert_eq!([major("v20.20.2"), major("18.1.0"), major("new")], [Some(20), Some(18), None]);
    }
}
