//! The first program of README.md; a test keeps the two the same.
#![expect(clippy::print_stdout, reason = "an example shows what it did")]

use kappa_core::{Kappa, Result};
use serde_json::json;

fn main() -> Result<()> {
    let db = Kappa::open("data")?;
    let mate = db.products().create(json!({ "title": "Mate", "price": 12.5 })).wait()?;
    db.products().update(&mate.id, json!({ "price": 13 })).wait()?;
    for product in db.products().list() {
        println!("{}", product?.document);
    }
    db.close()
}
