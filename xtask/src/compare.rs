//! Release builds of the bindings, and a client process, beside their peers; all of it lives below the target directory.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Benches of one language: what they compare with, and what runs.
struct Suite {
    peers: &'static [&'static str],
    /// Beside the benches.
    support: &'static [&'static str],
    benches: &'static [&'static str],
}

const NODE: Suite = Suite {
    peers: &["lmdb", "better-sqlite3"],
    support: &["support.cjs"],
    benches: &["reads.cjs", "writes.cjs", "delay.cjs"],
};
const NODE_TASKS: Suite =
    Suite { peers: &["bullmq", "ioredis"], support: &["support.cjs", "redis.cjs"], benches: &["tasks.cjs"] };
const PYTHON: Suite = Suite { peers: &["lmdb"], support: &[], benches: &["reads.py", "delay.py"] };
const PYTHON_TASKS: Suite = Suite { peers: &["honker"], support: &[], benches: &["tasks.py"] };
const ALL: &[&str] = &["node", "python", "socket"];
const ALL_TASKS: &[&str] = &["single", "finished", "load", "node", "python"];

/// Runs the benches that `words` name, or all.
///
/// # Errors
///
/// A message for people: an unknown word, or the step that failed.
pub fn run(root: &Path, words: &[String]) -> Result<(), String> {
    for word in known(words, ALL)? {
        match word {
            "node" => node(root, &NODE)?,
            "python" => python(root, &PYTHON)?,
            bench => rust(root, bench, &[])?,
        }
    }
    Ok(())
}

/// Runs the benches of the task queue that `words` name, or all.
///
/// # Errors
///
/// A message for people: an unknown word, or the step that failed.
pub fn run_tasks(root: &Path, words: &[String]) -> Result<(), String> {
    for word in known(words, ALL_TASKS)? {
        match word {
            "node" => {
                redis();
                node(root, &NODE_TASKS)?;
            }
            "python" => python(root, &PYTHON_TASKS)?,
            part => rust(root, "tasks", &["--", part])?,
        }
    }
    Ok(())
}

/// The words, or all that there are.
fn known<'a>(words: &'a [String], all: &[&'static str]) -> Result<Vec<&'a str>, String> {
    if let Some(unknown) = words.iter().find(|word| !all.contains(&word.as_str())) {
        return Err(format!("no such bench: {unknown}; there are {}", all.join(", ")));
    }
    Ok(if words.is_empty() { all.to_vec() } else { words.iter().map(String::as_str).collect() })
}

fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |target| root.join(target))
}

fn rust(root: &Path, bench: &str, words: &[&str]) -> Result<(), String> {
    let arguments = ["bench", "-p", "kappa-benches", "--locked", "--bench", bench];
    step(Command::new("cargo").args(arguments).args(words).current_dir(root), bench)
}

/// Installs Debian's package where there is none. Where that fails, the bench says what it leaves out.
fn redis() {
    let there = Command::new("redis-server").arg("--version").output().is_ok();
    if !there {
        println!("== redis-server: apt-get install");
        // Started by the bench alone, so the service that comes with it is not wanted.
        let arguments = ["install", "-y", "--no-install-recommends", "redis-server"];
        let _ = Command::new("apt-get").args(arguments).env("RUNLEVEL", "1").status();
    }
}

/// The peers are kept in one place, because one of them takes minutes to build; the package is installed anew into a
/// project below it, which finds the peers as Node looks for modules.
fn node(root: &Path, suite: &Suite) -> Result<(), String> {
    let place = &target(root).join("bench-node");
    let project = place.join("project");
    let _ = std::fs::remove_dir_all(&project);
    std::fs::create_dir_all(&project).map_err(|error| format!("{}: {error}", project.display()))?;
    write(&project.join("package.json"), "{\"private\": true}\n")?;
    if !place.join("package.json").exists() {
        // Kept, because it names the peers of the other suites: npm removes what it does not name.
        write(&place.join("package.json"), "{\"private\": true}\n")?;
    }
    if !suite.peers.iter().all(|peer| place.join("node_modules").join(peer).exists()) {
        println!("== node peers: {}", suite.peers.join(" "));
        let mut install = npm(place);
        // Built from source where no prebuilt file can be had: with the headers of the installed Node.
        if let Some(headers) = headers() {
            install.env("npm_config_nodedir", headers);
        }
        step(install.args(suite.peers), "installing the Node peers")?;
    }
    println!("== node package: npm install node-bindings, release");
    let mut install = npm(&project);
    install.arg("--install-links").arg(root.join("node-bindings")).env("KAPPA_PROFILE", "release");
    step(&mut install, "npm install")?;
    let sources = root.join("benches/node");
    for name in suite.support.iter().chain(suite.benches) {
        std::fs::copy(sources.join(name), project.join(name)).map_err(|error| format!("{name}: {error}"))?;
    }
    for name in suite.benches {
        step(Command::new("node").arg(name).current_dir(&project).env("KAPPA_BENCH_PLACE", place), name)?;
    }
    Ok(())
}

fn npm(folder: &Path) -> Command {
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(folder);
    npm
}

/// Where the headers of the installed Node lie, in a folder `include/node`.
fn headers() -> Option<PathBuf> {
    let output = Command::new("node").args(["-p", "process.execPath"]).output().ok()?;
    let program = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    let prefix = program.parent()?.parent()?;
    prefix.join("include/node/node.h").exists().then(|| prefix.to_owned())
}

fn python(root: &Path, suite: &Suite) -> Result<(), String> {
    let target = &target(root);
    let environment = target.join("bench-python");
    let python = environment.join("bin/python");
    if !python.exists() {
        let interpreter = std::env::var_os("KAPPA_PYTHON").unwrap_or_else(|| "python3".into());
        step(Command::new(interpreter).args(["-m", "venv"]).arg(&environment), "the environment")?;
    }
    let pip = || {
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).current_dir(root);
        pip
    };
    println!("== python peers: {}", suite.peers.join(" "));
    step(pip().args(suite.peers), "installing the Python peers")?;
    println!("== python package: pip install ./py-bindings, release");
    step(pip().args(["--force-reinstall", "--no-deps", "./py-bindings"]), "the package")?;
    for name in suite.benches {
        let mut bench = Command::new(&python);
        // Without compiled files beside the sources.
        bench.arg("-B").arg(root.join("benches/python").join(name)).arg(target);
        step(&mut bench, name)?;
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}

fn step(command: &mut Command, what: &str) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("{what}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{what}: {status}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A misspelled bench must be named before minutes go into building the others.
    #[test]
    fn an_unknown_bench_is_named() {
        let words = ["node".to_owned(), "ruby".to_owned()];
        let message = run(Path::new("/nothing"), &words).expect_err("there is no such bench");
        assert!(message.contains("ruby"), "{message}");
        let message = run_tasks(Path::new("/nothing"), &words).expect_err("there is no such bench");
        assert!(message.contains("ruby"), "{message}");
    }
}
