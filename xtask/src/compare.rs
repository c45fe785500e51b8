//! Release builds of the bindings, and a client process, beside their peers; all of it lives below the target directory.

use std::path::{Path, PathBuf};
use std::process::Command;

const NODE_PEERS: &[&str] = &["lmdb", "better-sqlite3"];
const PYTHON_PEERS: &[&str] = &["lmdb"];
const ALL: &[&str] = &["node", "python", "socket"];

/// Runs the benches that `words` name, or all.
///
/// # Errors
///
/// A message for people: an unknown word, or the step that failed.
pub fn run(root: &Path, words: &[String]) -> Result<(), String> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |target| root.join(target));
    let words: Vec<&str> = if words.is_empty() { ALL.to_vec() } else { words.iter().map(String::as_str).collect() };
    if let Some(unknown) = words.iter().find(|word| !ALL.contains(word)) {
        return Err(format!("no such bench: {unknown}; there are {}", ALL.join(", ")));
    }
    for word in words {
        match word {
            "node" => node(root, &target.join("bench-node"))?,
            "python" => python(root, &target)?,
            _ => {
                let arguments = ["bench", "-p", "kappa-benches", "--locked", "--bench", "socket"];
                step(Command::new("cargo").args(arguments).current_dir(root), "the bench of the socket")?;
            }
        }
    }
    Ok(())
}

/// The peers are kept in `place`, because one of them takes minutes to build; the package is installed anew into a
/// project below it, which finds the peers as Node looks for modules.
fn node(root: &Path, place: &Path) -> Result<(), String> {
    let project = place.join("project");
    let _ = std::fs::remove_dir_all(&project);
    std::fs::create_dir_all(&project).map_err(|error| format!("{}: {error}", project.display()))?;
    for folder in [place, &project] {
        write(&folder.join("package.json"), "{\"private\": true}\n")?;
    }
    if !NODE_PEERS.iter().all(|peer| place.join("node_modules").join(peer).exists()) {
        println!("== node peers: {}", NODE_PEERS.join(" "));
        let mut install = npm(place);
        // Built from source where no prebuilt file can be had: with the headers of the installed Node.
        if let Some(headers) = headers() {
            install.env("npm_config_nodedir", headers);
        }
        step(install.args(NODE_PEERS), "installing the Node peers")?;
    }
    println!("== node package: npm install node-bindings, release");
    let mut install = npm(&project);
    install.arg("--install-links").arg(root.join("node-bindings")).env("KAPPA_PROFILE", "release");
    step(&mut install, "npm install")?;
    let sources = root.join("benches/node");
    for name in ["support.cjs", "reads.cjs", "writes.cjs", "delay.cjs"] {
        std::fs::copy(sources.join(name), project.join(name)).map_err(|error| format!("{name}: {error}"))?;
    }
    for name in ["reads.cjs", "writes.cjs", "delay.cjs"] {
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

fn python(root: &Path, target: &Path) -> Result<(), String> {
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
    println!("== python peers: {}", PYTHON_PEERS.join(" "));
    step(pip().args(PYTHON_PEERS), "installing the Python peers")?;
    println!("== python package: pip install ./py-bindings, release");
    step(pip().args(["--force-reinstall", "--no-deps", "./py-bindings"]), "the package")?;
    for name in ["reads.py", "delay.py"] {
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
    }
}
