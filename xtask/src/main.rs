//! Recipes for test, tidy, bench and soak.
fn main() {}
