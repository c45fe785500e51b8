//! The rule that every dependency of the core earns its place.

use super::{Finding, Tree};

const MANIFEST: &str = "core/Cargo.toml";
const MAP: &str = "core/ARCHITECTURE.md";

/// Every dependency in core/Cargo.toml stands in the first column of a table in core/ARCHITECTURE.md, with its reason.
pub fn dependencies_have_reasons(tree: &Tree) -> Vec<Finding> {
    let Some(manifest) = tree.get(MANIFEST) else { return Vec::new() };
    let Some(map) = tree.get(MAP) else {
        return vec![Finding::new(
            "dependency",
            MAP,
            1,
            "is missing; it holds the table of dependencies and the reason for each",
        )];
    };
    let explained: Vec<&str> = map.text.lines().flat_map(first_column).collect();
    dependencies(&manifest.text)
        .filter(|(_, name)| !explained.contains(name))
        .map(|(line, name)| {
            let what = format!("`{name}` has no row in a table of {MAP}: what is it for, why this one?");
            Finding::new("dependency", MANIFEST, line, &what)
        })
        .collect()
}

/// The line and the name of each dependency of a manifest.
fn dependencies(manifest: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut inside = false;
    manifest.lines().enumerate().filter_map(move |(index, line)| {
        let line = line.trim();
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            inside = section.ends_with("dependencies");
            return section.rsplit_once("dependencies.").map(|(_, name)| (index + 1, name));
        }
        if !inside || line.starts_with('#') {
            return None;
        }
        let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
        (!name.is_empty()).then_some((index + 1, name.trim_matches('"')))
    })
}

/// The names in the first column of a table row; one row may explain several.
fn first_column(line: &str) -> impl Iterator<Item = &str> {
    let column = line.trim().strip_prefix('|').and_then(|row| row.split('|').next()).unwrap_or_default();
    column.split([',', ' ', '`']).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::source::Source;
    use super::*;

    fn unexplained(map: &str) -> Vec<usize> {
        let manifest = "[package]\nname = \"a\"\n\n[dependencies]\nbytes.workspace = true\nserde_json = \"1\"\n# no\n\n\
                        [target.'cfg(unix)'.dependencies]\nrustix.workspace = true\n\n[dependencies.sled]\nversion = \"0\"\n[lints]\nworkspace = true\n";
        let tree = Tree { sources: vec![Source::new(MANIFEST, manifest), Source::new(MAP, map)], sizes: Vec::new() };
        dependencies_have_reasons(&tree).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_row_explains_a_dependency() {
        let map = "| crate | why |\n|---|---|\n| `bytes`, serde_json | a |\n| [`rustix`] | no link |\n| `rustix` | b |\n| sled | c |\n";
        assert_eq!(unexplained(map), Vec::<usize>::new());
    }

    // A dependency that is only spoken of, or stands in another column, has no reason of its own.
    #[test]
    fn a_mention_is_no_row() {
        assert_eq!(unexplained("We use bytes and sled.\n| serde_json | instead of rustix |\n"), [5, 10, 12]);
    }

    #[test]
    fn a_missing_table_is_refused() {
        let tree = Tree { sources: vec![Source::new(MANIFEST, "[dependencies]\nbytes = \"1\"\n")], sizes: Vec::new() };
        assert_eq!(dependencies_have_reasons(&tree).len(), 1);
    }
}
