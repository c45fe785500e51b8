//! First steps: documents, an index, the change feed and a histogram, in one process.
#![expect(clippy::print_stdout, reason = "an example shows what it did")]

use std::time::Duration;

use kappa_core::random::{HistogramRequest, histogram};
use kappa_core::{Definition, FeedStart, IndexDefinition, Kappa, Result};
use serde_json::json;

fn main() -> Result<()> {
    let directory = std::env::args().nth(1).unwrap_or_else(|| "first-steps-data".to_owned());
    let db = Kappa::open(directory)?;

    let mate = db.products().create(json!({ "title": "Mate", "price": 12.5 })).wait()?;
    println!("created {}", mate.document);
    let dearer = db.products().update(&mate.id, json!({ "price": 13 })).wait()?;
    println!("now {}, version {} after {}", dearer.document, dearer.version, mate.version);
    println!("{} product(s)", db.products().count().wait()?);

    let orders = db.collection("orders")?;
    let by_user = IndexDefinition { name: "user".into(), field: "user".into(), unique: false };
    orders.declare(Definition { indexes: vec![by_user], ..Definition::default() }).wait()?;
    let mut feed = db.feed(FeedStart::Now).wait()?;
    for (user, total) in [("ana", 30), ("luis", 20), ("ana", 10)] {
        orders.create(json!({ "user": user, "total": total })).wait()?;
    }
    for entry in orders.list().by("user").equal("ana") {
        println!("order of ana: {}", entry?.document);
    }
    while let Some(change) = feed.next_within(Duration::from_millis(50))? {
        println!("{} {} in {}", change.kind.name(), change.id, change.collection);
    }

    let throws = histogram(&HistogramRequest::new().count(20_000).range(1..=6).seed(42))?;
    println!("a die thrown 20 000 times: {:?}", throws.counts());
    db.close()
}
