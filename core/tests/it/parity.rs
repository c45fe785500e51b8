//! The list of methods against the source: what Rust offers stands in it, and what it says of Rust is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kappa_core::ErrorKind;
use serde_json::Value;

use crate::contract::scenario;

/// Where the types of the handle are. Of a macro that makes stores, each store has the methods.
const SOURCES: &[&str] = &[
    "src/kappa.rs",
    "src/store/handle/mod.rs",
    "src/store/handle/list.rs",
    "src/store/handle/write_batch.rs",
    "src/task/handle.rs",
    "src/random/histogram.rs",
    "src/random/mod.rs",
    "src/cpu/mod.rs",
];
const MACRO: &str = "$store";
const STORES: [&str; 2] = ["Products", "Users"];
/// The owner of functions that belong to no type.
const FUNCTIONS: &str = "functions";

type Methods = BTreeMap<String, BTreeSet<String>>;

/// Every `pub fn` of these sources, by the type in whose `impl` it stands.
fn offered() -> Methods {
    let mut found = Methods::new();
    for source in SOURCES {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(source)).unwrap();
        scan(&text, &mut found);
    }
    for name in found.remove(MACRO).into_iter().flatten() {
        for store in STORES {
            found.entry(store.to_owned()).or_default().insert(name.clone());
        }
    }
    found
}

fn scan(text: &str, found: &mut Methods) {
    // The end of the open `impl`, and whose it is; a trait's methods belong to the trait.
    let mut owner: Option<(String, String)> = None;
    for line in text.lines().take_while(|line| *line != "mod tests {") {
        let indent = &line[..line.len() - line.trim_start().len()];
        let code = line.trim_start();
        if owner.is_none() && code.starts_with("impl") && code.ends_with('{') && !code.contains(" for ") {
            let name = code.strip_prefix("impl").unwrap();
            let name = name.strip_prefix('<').map_or(name, |generic| generic.split_once("> ").unwrap().1);
            let name = name.split(['<', '{']).next().unwrap().trim();
            owner = Some((format!("{indent}}}"), name.to_owned()));
        } else if owner.as_ref().is_some_and(|(end, _)| line == end) {
            owner = None;
        }
        let Some((_, rest)) =
            code.split_once("fn ").filter(|(before, _)| ["pub ", "pub async ", "pub const "].contains(before))
        else {
            continue;
        };
        let name = rest.split(['(', '<']).next().unwrap().to_owned();
        match &owner {
            Some((_, owner)) => found.entry(owner.clone()).or_default().insert(name),
            None if indent.is_empty() => found.entry(FUNCTIONS.to_owned()).or_default().insert(name),
            None => continue,
        };
    }
}

/// The names that the list says Rust has, by owner.
fn listed(list: &Value) -> Methods {
    let mut names = Methods::new();
    let groups = list["groups"].as_object().unwrap();
    for group in groups.values() {
        let own = group["methods"].as_object().unwrap();
        let shared = group.get("also").map(|also| groups[also.as_str().unwrap()]["methods"].as_object().unwrap());
        let shared = shared.into_iter().flatten().filter(|(name, _)| !own.contains_key(*name));
        for (name, cells) in own.iter().chain(shared) {
            assert!(cells.get("http").is_some(), "{name} does not say where it is over HTTP");
            let missing = cells.get("rust").map(|cell| cell["not"].as_str().expect("Rust gives each method its name"));
            assert!(missing.is_none_or(|reason| !reason.is_empty()), "{name} is missing without a reason");
            if missing.is_none() {
                let owner = group["owners"]["rust"].as_str().unwrap().to_owned();
                names.entry(owner).or_default().insert(name.clone());
            }
        }
    }
    names
}

fn list() -> Value {
    scenario::read(&scenario::folder().join("methods.json"))
}

/// A method that only one language has is found by its users, long after.
#[test]
fn every_method_of_rust_is_in_the_list() {
    let (offered, listed) = (offered(), listed(&list()));
    let all: usize = offered.values().map(BTreeSet::len).sum();
    assert!(all > 80, "only {all} methods were found in {SOURCES:?}");
    let none = BTreeSet::new();
    for owner in offered.keys().chain(listed.keys()) {
        let (has, says) = (offered.get(owner).unwrap_or(&none), listed.get(owner).unwrap_or(&none));
        let unlisted: Vec<_> = has.difference(says).collect();
        assert!(unlisted.is_empty(), "{owner}: {unlisted:?} stand in the source and not in methods.json");
        let gone: Vec<_> = says.difference(has).collect();
        assert!(gone.is_empty(), "{owner}: {gone:?} stand in methods.json and not in the source");
    }
}

/// A kind that no scenario causes may come out as another one in some language.
#[test]
fn every_kind_of_error_is_caused_by_a_scenario_or_says_why_not() {
    let mut caused = BTreeSet::new();
    for file in scenario::files().into_iter().chain([scenario::folder().join("bad_input.json")]) {
        for item in scenario::read(&file).as_array().unwrap() {
            let steps = item.get("steps").and_then(Value::as_array).cloned().unwrap_or_else(|| vec![item.clone()]);
            caused.extend(steps.iter().filter_map(|step| step["fails"].as_str()).map(str::to_owned));
        }
    }
    let list = list();
    let errors = list["errors"].as_object().unwrap();
    for kind in ErrorKind::ALL {
        let says = errors.get(kind.code()).unwrap_or_else(|| panic!("methods.json says nothing of {kind}"));
        let excused = says["not"].as_str().is_some_and(|reason| !reason.is_empty());
        assert!(excused || says == "scenarios", "{kind}: {says}");
        assert!(caused.contains(kind.code()) != excused, "{kind}: caused by a scenario, or excused, and not both");
    }
    assert_eq!(errors.len(), ErrorKind::ALL.len(), "methods.json names kinds that there are not");
}

/// A scan that sees nothing agrees with everything.
#[test]
fn the_scan_sees_methods() {
    let text = "impl<T> A<T> {\n    pub fn one(&self) {}\n    pub async fn two(&self) {}\n    fn three() {}\n    pub(crate) fn four() {}\n}\n\
                impl Iterator for B {\n    fn next(&mut self) {}\n}\n/// pub fn no()\npub fn five<T>(t: T) {}\n\
                macro_rules! m {\n        impl $store {\n            pub fn six(&self) {}\n        }\n}\nimpl C {}\n\
                #[cfg(test)]\nmod tests {\n    pub fn seven() {}\n}\n";
    let mut found = Methods::new();
    scan(text, &mut found);
    let found: Vec<String> =
        found.iter().flat_map(|(owner, names)| names.iter().map(move |name| format!("{owner}.{name}"))).collect();
    assert_eq!(found, ["$store.six", "A.one", "A.two", "functions.five"]);
}
