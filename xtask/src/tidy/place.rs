//! Rules on where a name may stand.

use super::Problem;
use super::source::{Source, words};

struct Place {
    name: &'static str,
    folders: &'static [&'static str],
}

/// Each engine and each front has one place, so that it can be replaced by changing that place. The benches name them as peers.
const PLACES: &[Place] = &[
    Place { name: "sled", folders: &["core/src/engine/local/view/", "benches/"] },
    Place { name: "tokio_postgres", folders: &["core/src/engine/postgres/"] },
    Place { name: "axum", folders: &["http-frontend/", "benches/"] },
];

/// An outside crate is named only in its place.
pub fn place_of_crates(source: &Source) -> Vec<Problem> {
    let mut problems = Vec::new();
    for place in PLACES {
        if place.folders.iter().any(|folder| source.path.starts_with(folder)) {
            continue;
        }
        for position in
            words(&source.code, place.name).filter(|position| names_crate(&source.code, *position, place.name))
        {
            let what = format!("`{}` is named outside {}", place.name, place.folders.join(" and "));
            problems.push(Problem { line: source.line(position), what });
        }
    }
    problems
}

/// Whether the word at `position` is the outside crate, not a module or a variable of ours with the same name.
fn names_crate(code: &str, position: usize, name: &str) -> bool {
    let before = code[..position].trim_end();
    let after = code[position + name.len()..].trim_start();
    let is_path_start = match before.strip_suffix("::") {
        Some(parent) => !parent.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '>'),
        None => true,
    };
    let imported = before.ends_with("use") || before.ends_with("extern crate");
    is_path_start && (after.starts_with("::") || imported)
}

/// In what runs at users, a thread has a name and its start can fail.
pub fn named_threads(source: &Source) -> Vec<Problem> {
    if source.is_test() || ["benches/", "examples/"].iter().any(|folder| source.path.starts_with(folder)) {
        return Vec::new();
    }
    words(&source.code[..source.tests_start()], "thread::spawn")
        .map(|position| Problem {
            line: source.line(position),
            what: "use `std::thread::Builder` with a name: a nameless thread cannot be found in a stack dump, and when the machine is out \
                   of threads `spawn` panics"
                .to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_named_only_in_its_place() {
        let text = "use sled::Db;\nfn f(t: &sled::Tree, s: ::sled::IVec) {}\nuse sled as peer;\n";
        assert!(place_of_crates(&Source::new("core/src/engine/local/view/sled.rs", text)).is_empty());
        assert!(place_of_crates(&Source::new("benches/peers.rs", text)).is_empty());
        assert_eq!(place_of_crates(&Source::new("core/src/engine/local/log/mod.rs", text)).len(), 4);
        assert_eq!(place_of_crates(&Source::new("core/src/store/mod.rs", "use axum::Router;")).len(), 1);
        assert_eq!(place_of_crates(&Source::new("core/src/store/mod.rs", "use tokio_postgres::Client;")).len(), 1);
    }

    // Our own module `view::sled`, the word in a comment or a path in a text are no use of the crate.
    #[test]
    fn a_name_alone_is_not_the_crate() {
        let text = "// sled::Db\nuse super::view::sled::SledView;\nlet a = \"sled::Db\";\nmod sled;\n";
        assert!(place_of_crates(&Source::new("core/src/engine/local/mod.rs", text)).is_empty());
    }

    #[test]
    fn a_thread_has_a_name() {
        let named = "std::thread::Builder::new().name(n).spawn(f)\n#[cfg(test)]\nmod tests { std::thread::spawn(f); }";
        assert!(named_threads(&Source::new("core/src/a.rs", named)).is_empty());
        assert_eq!(named_threads(&Source::new("core/src/a.rs", "std::thread::spawn(f)")).len(), 1);
        assert!(named_threads(&Source::new("benches/queue.rs", "std::thread::spawn(f)")).is_empty());
    }
}
