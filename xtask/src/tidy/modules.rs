//! The rule that every Rust file is part of a crate.

use std::collections::BTreeSet;

use super::source::{Source, behind_closing, words};
use super::{Finding, Tree};

/// Folders in which every file, and every folder with a `main.rs`, is a program of its own.
const PROGRAMS: &[&str] = &["tests", "benches", "examples", "src/bin"];

/// A file that no `mod` leads to is not compiled: it looks like code and rots.
pub fn no_orphans(tree: &Tree) -> Vec<Finding> {
    let mut reached = BTreeSet::new();
    let mut waiting: Vec<(String, bool)> =
        tree.sources.iter().flat_map(|source| roots(tree, source)).map(|r| (r, true)).collect();
    while let Some((path, is_root)) = waiting.pop() {
        let Some(source) = tree.get(&path) else { continue };
        if reached.insert(path) {
            waiting.extend(children(tree, source, is_root).into_iter().map(|child| (child, false)));
        }
    }
    let orphans = tree.sources.iter().filter(|source| source.is_rust() && !reached.contains(&source.path));
    orphans
        .map(|source| Finding::new("orphan", &source.path, 1, "no `mod` leads to this file: declare it or remove it"))
        .collect()
}

/// The files with which the targets of the package in `manifest` begin.
fn roots(tree: &Tree, manifest: &Source) -> Vec<String> {
    let Some(folder) = manifest.path.strip_suffix("Cargo.toml") else { return Vec::new() };
    let mut roots: Vec<String> = ["src/lib.rs", "src/main.rs", "build.rs"].map(|file| format!("{folder}{file}")).into();
    for source in &tree.sources {
        let Some(file) = source.path.strip_prefix(folder) else { continue };
        for programs in PROGRAMS {
            let Some(program) = file.strip_prefix(programs).and_then(|rest| rest.strip_prefix('/')) else { continue };
            let own_folder = program.strip_suffix("/main.rs").is_some_and(|name| !name.contains('/'));
            if own_folder || !program.contains('/') {
                roots.push(source.path.clone());
            }
        }
    }
    let paths =
        manifest.text.lines().filter_map(|line| line.trim().strip_prefix("path")?.trim_start().strip_prefix('='));
    roots.extend(paths.filter_map(first_string).map(|path| join(folder, path)));
    roots
}

/// The files that the `mod name;` lines of `source` lead to, of the two places each may have.
fn children(tree: &Tree, source: &Source, is_root: bool) -> Vec<String> {
    let (folder, file) =
        source.path.rsplit_once('/').map_or(("", source.path.as_str()), |(folder, file)| (folder, file));
    let beside = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let own = match file.strip_suffix(".rs") {
        Some(stem) if !is_root && stem != "mod" => format!("{beside}{stem}/"),
        _ => beside.clone(),
    };
    let code = &source.code;
    let mut found = Vec::new();
    for position in words(code, "mod") {
        let rest = code[position + 3..].trim_start();
        let Some(end) = rest.find(|c: char| !c.is_alphanumeric() && c != '_') else { continue };
        if !rest[end..].trim_start().starts_with(';') {
            continue;
        }
        let name = &rest[..end];
        let inside = enclosing(code, position).iter().fold(own.clone(), |path, module| format!("{path}{module}/"));
        match path_attribute(source, position) {
            Some(path) => found.push(join(&beside, path)),
            None => found.extend([format!("{inside}{name}.rs"), format!("{inside}{name}/mod.rs")]),
        }
    }
    found.retain(|path| tree.get(path).is_some());
    found
}

/// The names of the inline modules around `position`, outermost first.
fn enclosing(code: &str, position: usize) -> Vec<&str> {
    let mut names = Vec::new();
    for start in words(code, "mod").take_while(|start| *start < position) {
        let rest = &code[start + 3..position];
        let Some(open) = rest.find(['{', ';']).filter(|open| rest[*open..].starts_with('{')) else { continue };
        if behind_closing(code, start + 3 + open).is_none_or(|end| end > position) {
            names.push(rest[..open].trim());
        }
    }
    names
}

/// The value of a `#[path = ".."]` among the attributes of the item at `position`.
fn path_attribute(source: &Source, position: usize) -> Option<&str> {
    let start = source.code[..position].rfind([';', '{', '}']).map_or(0, |end| end + 1);
    let attribute = source.code[start..position].find("#[path")?;
    first_string(&source.text[start + attribute..position])
}

fn first_string(text: &str) -> Option<&str> {
    text.split('"').nth(1)
}

/// `path` seen from `folder`, which is empty or ends with a slash.
fn join(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orphans(files: &[(&str, &str)]) -> Vec<String> {
        let sources = files.iter().map(|(path, text)| Source::new(path, text)).collect();
        no_orphans(&Tree { sources, sizes: Vec::new() }).into_iter().map(|finding| finding.path).collect()
    }

    #[test]
    fn every_way_to_declare_a_file_counts() {
        let files = [
            ("Cargo.toml", "[workspace]"),
            ("core/Cargo.toml", "[[bench]]\nname = \"x\"\npath = \"./odd/x.rs\"\n"),
            ("core/src/lib.rs", "mod a;\npub(crate) mod b;\nmod inline { mod c; }\n"),
            ("core/src/a.rs", "mod deep;\n#[cfg(unix)]\n#[path = \"named.rs\"]\nmod other;"),
            ("core/src/a/deep.rs", ""),
            ("core/src/named.rs", ""),
            ("core/src/b/mod.rs", "#[cfg(test)]\nmod tests;"),
            ("core/src/b/tests.rs", ""),
            ("core/src/inline/c.rs", ""),
            ("core/src/bin/tool.rs", ""),
            ("core/tests/it/main.rs", "mod crash;"),
            ("core/tests/it/crash.rs", ""),
            ("core/odd/x.rs", ""),
            ("core/build.rs", ""),
        ];
        assert_eq!(orphans(&files), Vec::<String>::new());
    }

    // The file compiles nowhere: somebody removed its `mod` line, or put it one folder too deep.
    #[test]
    fn a_file_without_a_declaration_is_an_orphan() {
        let files = [
            ("core/Cargo.toml", ""),
            ("core/src/lib.rs", "// mod a;\nmod b;"),
            ("core/src/a.rs", "mod c;"),
            ("core/src/a/c.rs", ""),
            ("core/src/b/b.rs", ""),
            ("core/src/b.rs", ""),
            ("loose.rs", ""),
        ];
        assert_eq!(orphans(&files), ["core/src/a.rs", "core/src/a/c.rs", "core/src/b/b.rs", "loose.rs"]);
    }
}
