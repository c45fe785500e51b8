//! Names that another process sent, as text that lives as long as the program.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Names of errors' values come from code, so there are few; a peer that sends others gets no memory for them.
const MAX_NAMES: usize = 512;

/// `name` as text that lives as long as the program, while there are not too many.
pub fn known(name: &str) -> Option<&'static str> {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(name) = names.get(name) {
        return Some(name);
    }
    if names.len() >= MAX_NAMES || name.len() > 64 {
        return None;
    }
    let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
    names.insert(name);
    Some(name)
}
