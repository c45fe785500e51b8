//! The style rules that a program can check, over every tracked file.

mod dependencies;
mod exceptions;
mod length;
mod modules;
mod place;
mod source;
mod testing;
mod text;

use std::fmt;
use std::path::Path;
use std::process::Command;

use exceptions::{EXCEPTIONS, Exception};
use source::Source;

const MAX_FILE_BYTES: u64 = 1_000_000;

/// The tracked files: their texts, and the sizes of all.
pub struct Tree {
    sources: Vec<Source>,
    sizes: Vec<(String, u64)>,
}

/// One place where a rule is broken.
pub struct Finding {
    rule: &'static str,
    path: String,
    line: usize,
    what: String,
}

/// A finding inside a file that the caller knows.
struct Problem {
    line: usize,
    what: String,
}

/// A rule that looks at one file at a time.
struct Rule {
    name: &'static str,
    check: fn(&Source) -> Vec<Problem>,
}

const FILE_RULES: &[Rule] = &[
    Rule { name: "file-length", check: length::file_length },
    Rule { name: "function-length", check: length::function_length },
    Rule { name: "place", check: place::place_of_crates },
    Rule { name: "named-thread", check: place::named_threads },
    Rule { name: "header", check: text::header },
    Rule { name: "to-do", check: text::no_lone_to_do },
    Rule { name: "machine-path", check: text::no_machine_paths },
    Rule { name: "registry-host", check: text::no_registry_hosts },
    Rule { name: "ignored-test", check: testing::no_ignored_tests },
    Rule { name: "dropped-matches", check: testing::no_dropped_matches },
    Rule { name: "sleeping-test", check: testing::no_sleep_in_tests },
];

const TREE_RULES: &[fn(&Tree) -> Vec<Finding>] =
    &[modules::no_orphans, dependencies::dependencies_have_reasons, file_size];

/// Every finding in the tracked files of the workspace at `root`, in the order of the files.
///
/// # Errors
///
/// A message for people, when git or a file cannot be read.
pub fn findings(root: &Path) -> Result<Vec<Finding>, String> {
    Ok(judge(&Tree::read(root)?, EXCEPTIONS))
}

fn judge(tree: &Tree, exceptions: &[Exception]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &tree.sources {
        for rule in FILE_RULES {
            let problems = (rule.check)(source).into_iter();
            findings.extend(problems.map(|problem| Finding::new(rule.name, &source.path, problem.line, &problem.what)));
        }
    }
    findings.extend(TREE_RULES.iter().flat_map(|check| check(tree)));
    let mut unused = Vec::new();
    for exception in exceptions {
        let before = findings.len();
        findings.retain(|finding| finding.rule != exception.rule || finding.path != exception.path);
        if findings.len() == before {
            let what = format!(
                "the exception from `{}` of {} excuses nothing: remove it ({})",
                exception.rule, exception.since, exception.reason
            );
            unused.push(Finding::new("exception", exception.path, 1, &what));
        }
    }
    findings.extend(unused);
    findings.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    findings
}

/// A clone stays small: what is big is made by a program, or belongs elsewhere.
fn file_size(tree: &Tree) -> Vec<Finding> {
    let big = tree.sizes.iter().filter(|(_, size)| *size >= MAX_FILE_BYTES);
    big.map(|(path, size)| {
        Finding::new("file-size", path, 1, &format!("{size} bytes, below {MAX_FILE_BYTES} are allowed"))
    })
    .collect()
}

fn problem(line: usize, what: String) -> Vec<Problem> {
    vec![Problem { line, what }]
}

impl Tree {
    /// The files that git tracks at `root`; those that are removed but not yet committed so are left out.
    fn read(root: &Path) -> Result<Self, String> {
        let output = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output();
        let output = output.map_err(|error| format!("cannot run git: {error}"))?;
        if !output.status.success() {
            return Err(format!("git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        let list =
            String::from_utf8(output.stdout).map_err(|_| "a tracked file has a name that is not UTF-8".to_owned())?;
        let mut tree = Self { sources: Vec::new(), sizes: Vec::new() };
        for path in list.split('\0').filter(|path| !path.is_empty()) {
            let full = root.join(path);
            if !full.is_file() {
                continue;
            }
            let bytes = std::fs::read(&full).map_err(|error| format!("{path}: {error}"))?;
            tree.sizes.push((path.to_owned(), bytes.len() as u64));
            if let Ok(text) = String::from_utf8(bytes) {
                tree.sources.push(Source::new(path, &text));
            }
        }
        Ok(tree)
    }

    fn get(&self, path: &str) -> Option<&Source> {
        self.sources.iter().find(|source| source.path == path)
    }
}

impl Finding {
    fn new(rule: &'static str, path: &str, line: usize, what: &str) -> Self {
        Self { rule, path: path.to_owned(), line, what: what.to_owned() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {} [{}]", self.path, self.line, self.what, self.rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        let sources = vec![Source::new("a/Cargo.toml", ""), Source::new("a/src/lib.rs", "// no header\n")];
        Tree { sources, sizes: Vec::new() }
    }

    fn rules(exceptions: &[Exception]) -> Vec<&'static str> {
        judge(&tree(), exceptions).iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn an_exception_excuses_its_rule_in_its_file() {
        assert_eq!(rules(&[]), ["header"]);
        let excused = Exception { rule: "header", path: "a/src/lib.rs", since: "2026-01-01", reason: "shown here" };
        assert_eq!(rules(&[excused]), Vec::<&str>::new());
    }

    // An exception that outlives its reason would silently excuse the next offence.
    #[test]
    fn an_exception_that_excuses_nothing_is_a_finding() {
        let other = Exception { rule: "to-do", path: "a/src/lib.rs", since: "2026-01-01", reason: "gone" };
        assert_eq!(rules(&[other]), ["header", "exception"]);
    }

    #[test]
    fn a_big_file_is_refused() {
        let sizes = vec![("a.bin".to_owned(), MAX_FILE_BYTES - 1), ("b.bin".to_owned(), MAX_FILE_BYTES)];
        let found = file_size(&Tree { sources: Vec::new(), sizes });
        assert_eq!(found.iter().map(|finding| finding.path.as_str()).collect::<Vec<_>>(), ["b.bin"]);
    }
}
