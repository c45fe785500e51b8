//! Rules on the text of any tracked file.

use super::source::{Source, words};
use super::{Problem, problem};

/// The folders at the root of a machine that are somebody's own; `/tmp` and `/etc` are everybody's.
const OWN_FOLDERS: &[&str] = &["work", "root", "farm", "home"];

/// The first labels of package hosts; the domains follow below, so that this file does not name one itself.
const REGISTRIES: &[(&str, &str)] = &[
    ("index", "crates.io"),
    ("static", "crates.io"),
    ("registry", "npmjs.org"),
    ("registry", "yarnpkg.com"),
    ("files", "pythonhosted.org"),
    ("pypi", "org/simple"),
    ("proxy", "golang.org"),
    ("deb", "debian.org"),
];

/// What the paths of a company's own mirror have in common.
const MIRROR: &str = "artifactory";

/// A reader who opens a file learns from its first line what lives there.
pub fn header(source: &Source) -> Vec<Problem> {
    if !source.is_rust() || source.text.starts_with("//!") {
        return Vec::new();
    }
    problem(1, "begin with one `//!` line that says what lives here".to_owned())
}

/// What is left to do stands in an issue, which somebody reads; a mark in the code names that issue.
pub fn no_lone_to_do(source: &Source) -> Vec<Problem> {
    let text = if source.is_rust() { &source.comments } else { &source.text };
    ["TODO", "FIXME"]
        .into_iter()
        .flat_map(|mark| words(text, mark).map(move |position| (position, &text[position + mark.len()..])))
        .filter(|(_, rest)| !names_issue(rest))
        .map(|(position, _)| Problem {
            line: source.line(position),
            what: "name the issue, as in `(#12)` behind the mark, or do it".to_owned(),
        })
        .collect()
}

fn names_issue(rest: &str) -> bool {
    let Some(number) = rest.strip_prefix("(#").and_then(|rest| rest.split_once(')')) else { return false };
    !number.0.is_empty() && number.0.bytes().all(|byte| byte.is_ascii_digit())
}

/// A path of the machine it was written on is wrong on every other.
pub fn no_machine_paths(source: &Source) -> Vec<Problem> {
    let mut problems = Vec::new();
    for folder in OWN_FOLDERS {
        for (position, _) in source.text.match_indices(&format!("/{folder}/")) {
            // Behind a name, a dot or a variable the slash is inside a path or a URL, not at the root.
            let before = source.text[..position].chars().next_back();
            if !before
                .is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '*' | '}' | ')' | '~' | '>'))
            {
                let what = format!("a path under /{folder} exists on one machine only");
                problems.push(Problem { line: source.line(position), what });
            }
        }
    }
    problems
}

/// Packages come from where the machine's own settings say; a host in a tracked file would overrule them.
pub fn no_registry_hosts(source: &Source) -> Vec<Problem> {
    if source.path.rsplit('/').next() == Some("Cargo.lock") {
        return Vec::new();
    }
    let named = REGISTRIES.iter().map(|(label, domain)| format!("{label}.{domain}"));
    let mut problems = Vec::new();
    for host in named.chain([format!("/{MIRROR}/")]) {
        for (position, _) in source.text.match_indices(&host) {
            let what = format!("names the package host {host}; lock files: npm's `omit-lockfile-registry-resolved`");
            problems.push(Problem { line: source.line(position), what });
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rust_file_begins_with_its_header() {
        assert!(header(&Source::new("a.rs", "//! The log.\nfn a() {}")).is_empty());
        assert!(header(&Source::new("a.py", "import os")).is_empty());
        assert_eq!(header(&Source::new("a.rs", "// The log.\n")).len(), 1);
    }

    #[test]
    fn a_to_do_names_its_issue() {
        assert!(no_lone_to_do(&Source::new("a.rs", "// TODO(#12): later\nlet a = \"TODO\";")).is_empty());
        assert_eq!(no_lone_to_do(&Source::new("a.rs", "// TODO: later\n// FIXME(soon)")).len(), 2);
        assert_eq!(no_lone_to_do(&Source::new("a.py", "# TODO\n")).len(), 1);
    }

    #[test]
    fn a_path_of_one_machine_is_refused() {
        let urls = OWN_FOLDERS.iter().map(|folder| format!("https://a.b/{folder}/c ./{folder}/d ${{E}}/{folder}/f\n"));
        assert!(no_machine_paths(&Source::new("a.md", &urls.collect::<String>())).is_empty());
        for folder in OWN_FOLDERS {
            let text = format!("open(\"/{folder}/a\")");
            assert_eq!(no_machine_paths(&Source::new("a.py", &text)).len(), 1, "{text}");
        }
    }

    #[test]
    fn a_package_host_is_refused() {
        assert!(no_registry_hosts(&Source::new("README.md", "see https://crates.io/crates/sled")).is_empty());
        for (label, domain) in REGISTRIES {
            let text = format!("url = https://{label}.{domain}/a");
            assert_eq!(no_registry_hosts(&Source::new(".npmrc", &text)).len(), 1, "{text}");
            assert!(no_registry_hosts(&Source::new("core/fuzz/Cargo.lock", &text)).is_empty());
        }
    }
}
