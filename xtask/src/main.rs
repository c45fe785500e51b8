//! `cargo xtask`: the one place for build, test, bench and soak recipes, and for the checks of style.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command for people speaks through its output")]

mod compare;
mod fleet;
mod node;
mod python;
mod recipe;
mod run;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use recipe::{GENERATORS, RECIPES};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(name) = arguments.next() else {
        print_help();
        return ExitCode::from(2);
    };
    let words: Vec<String> = arguments.collect();
    let result = match name.as_str() {
        "help" | "--help" | "-h" => {
            print_help();
            Ok(())
        }
        name => perform(&root(), name, &words),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask {name}: {message}");
            ExitCode::FAILURE
        }
    }
}

fn perform(root: &Path, name: &str, words: &[String]) -> Result<(), String> {
    if let Some(recipe) = RECIPES.iter().find(|recipe| recipe.name == name) {
        run::steps(root, recipe.steps, words)?;
        return match name {
            "test" => bindings(root, words, &Length::Short),
            "soak" => bindings(root, words, &Length::Long),
            _ => Ok(()),
        };
    }
    match (name, words) {
        ("bench-bindings", words) => compare::run(root, words),
        ("bench-tasks", words) => compare::run_tasks(root, words),
        ("tidy", []) => tidy(root),
        ("python", words) => python::test(root, words, &Length::Short),
        ("node", words) => node::test(root, words, &Length::Short),
        ("fleet", words) => fleet::run(root, words),
        ("generated", []) => run::generators(root, GENERATORS),
        ("tidy" | "generated", _) => Err(format!("takes no further words, got \"{}\"", words.join(" "))),
        _ => Err("no such recipe; `cargo xtask help` lists them".to_owned()),
    }
}

/// How often what depends on luck is repeated.
enum Length {
    /// In the test command.
    Short,
    /// In the soak.
    Long,
}

impl Length {
    /// Lets the tests that `command` runs know.
    fn tell<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        match self {
            Self::Short => command,
            Self::Long => command.env("KAPPA_SOAK", "1"),
        }
    }
}

fn bindings(root: &Path, words: &[String], length: &Length) -> Result<(), String> {
    python::test(root, words, length)?;
    node::test(root, words, length)?;
    match length {
        _ if !words.is_empty() => Ok(()),
        Length::Short => fleet::run(root, &[]),
        Length::Long => fleet::run(root, &["60".to_owned()]),
    }
}

/// The server as tests start it, built.
fn server(root: &Path) -> Result<PathBuf, String> {
    let build = Command::new("cargo").args(["build", "--quiet", "-p", "kappa-server"]).current_dir(root).status();
    if !build.is_ok_and(|status| status.success()) {
        return Err("the server does not build".to_owned());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |target| root.join(target));
    Ok(target.join("debug/kappa-server"))
}

fn tidy(root: &Path) -> Result<(), String> {
    let findings = tidy::findings(root)?;
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() { Ok(()) } else { Err(format!("{} findings", findings.len())) }
}

fn print_help() {
    println!("cargo xtask <recipe> [words]\n");
    let checks = [
        ("python", "build the Python package, install it apart and run its tests, or those whose names match"),
        ("node", "install the Node package into an empty project and run its tests, or those whose names match"),
        (
            "fleet",
            "many processes of all kinds on one directory, whose owner ends again and again; for so many seconds",
        ),
        ("bench-bindings", "run release builds beside their peers: all, or node, python, socket (needs redis-server)"),
        (
            "bench-tasks",
            "run the task queue beside its peers: all, or single, finished, load, node (needs redis-server), python",
        ),
        ("tidy", "check the style rules that a program can check"),
        ("generated", "make every generated file again; fails if one changes"),
    ];
    for (name, purpose) in RECIPES.iter().map(|recipe| (recipe.name, recipe.purpose)).chain(checks) {
        println!("  {name:<14} {purpose}");
    }
}

/// The root of the workspace that is being worked on.
///
/// Asked at run time: a shared target directory may hold a binary that another checkout compiled.
fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    package.and_then(|package| package.parent().map(Path::to_owned)).unwrap_or_else(|| PathBuf::from("."))
}
