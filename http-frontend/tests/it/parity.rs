//! The list of methods against the description of the routes: what HTTP offers stands in it, and what it says is there.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::contract::scenario;

const COLLECTION: &str = "/v1/collections/{name}";

/// Every operation, and behind a question mark every parameter of one that is not part of its path. Products and users have
/// the routes of collections under names of their own.
fn offered() -> BTreeSet<String> {
    let description = kappa_server::openapi_document();
    let mut found = BTreeSet::new();
    for (path, operations) in description["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let name = format!("{} {path}", method.to_uppercase());
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let named = parameters.filter(|parameter| parameter["in"] != "path");
            found.extend(named.map(|parameter| format!("{name}?{}", parameter["name"].as_str().unwrap())));
            found.insert(name);
        }
    }
    found
}

/// What the list says HTTP has: the names of routes and parameters.
fn listed(list: &Value) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = BTreeSet::new();
    let groups = list["groups"].as_object().unwrap();
    for (group, own) in groups {
        let methods = own["methods"].as_object().unwrap();
        for (name, languages) in methods {
            let cell = &languages["http"];
            let cells = cell.as_array().map_or(std::slice::from_ref(cell), Vec::as_slice);
            for cell in cells {
                match cell.as_str() {
                    Some(route) => drop(names.insert(route.to_owned())),
                    None => assert!(cell["not"].as_str().is_some_and(|why| !why.is_empty()), "{group}.{name}: {cell}"),
                }
            }
        }
    }
    for store in ["products", "users"] {
        let here = |name: &String| {
            let (method, path) = name.split_once(' ').unwrap();
            path.strip_prefix(COLLECTION).map(|rest| format!("{method} /v1/{store}{rest}"))
        };
        let routes: Vec<String> = names.iter().filter_map(here).collect();
        names.extend(routes);
    }
    let only = list["http_only"].as_object().unwrap();
    assert!(only.values().all(|why| why.as_str().is_some_and(|why| !why.is_empty())), "{only:?}");
    names.extend(only.keys().cloned());
    let bare: Vec<String> = names.iter().map(|name| name.split('?').next().unwrap().to_owned()).collect();
    names.extend(bare);
    names
}

/// A route that only HTTP has, or one that it lacks, is found by its users, long after.
#[test]
fn every_route_is_in_the_list_of_methods() {
    let offered = offered();
    assert!(offered.len() > 60, "only {offered:?} were found");
    let listed = listed(&scenario::read(&scenario::folder().join("methods.json")));
    let unlisted: Vec<_> = offered.difference(&listed).collect();
    assert!(unlisted.is_empty(), "{unlisted:?} are described and not in methods.json");
    let gone: Vec<_> = listed.difference(&offered).collect();
    assert!(gone.is_empty(), "{gone:?} are in methods.json and not described");
}
