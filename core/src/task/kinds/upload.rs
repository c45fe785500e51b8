//! `upload`: fills the database with users, products and order items that are made up.

use fake::Fake;
use fake::faker::name::en::Name;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::operation::{CollectionName, Operation};
use crate::store::document::Document;
use crate::store::products;

use super::checkpoint::Checkpoint;
use super::{Context, Failure, Kind, Outcome, parameters};

const DEFAULT_RECORDS: u64 = 100;
const MAX_RECORDS: u64 = 1_000_000;
/// Three documents each; an operation holds 1 000.
const BATCH: u64 = 200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(alias = "numRecords", default = "default_records")]
    records: u64,
}

fn default_records() -> u64 {
    DEFAULT_RECORDS
}

#[derive(Default, Serialize, Deserialize)]
struct State {
    done: u64,
}

/// Adds `records` users, products and order items (1 to 1 000 000; 100 unless it is said; `numRecords` is the same), each order item of
/// the user and the product of its number. Result: how many of each. Their ids come from the task's, and a
/// checkpoint is written with each batch, so a run after a crash goes on where the one before it was.
pub struct Upload;

fn records(params: &Value) -> Result<u64> {
    let Parameters { records } = parameters::read(params)?;
    if records == 0 || records > MAX_RECORDS {
        return Err(Error::invalid("an upload has 1 to 1 000 000 records").with("records", records));
    }
    Ok(records)
}

impl Kind for Upload {
    fn check(&self, params: &Value) -> Result<()> {
        records(params).map(drop)
    }

    fn run(&self, context: &dyn Context) -> Outcome {
        let records = records(context.params())?;
        let (mut checkpoint, mut state) = Checkpoint::find::<State>(context)?;
        while state.done < records {
            if context.cancelled() {
                return Err(Failure::cancelled());
            }
            let end = records.min(state.done + BATCH);
            let operations = batch(context.id(), state.done, end)?;
            state.done = end;
            checkpoint.write(context, operations, &state)?;
            context.progress(end as f64 / records as f64);
        }
        Ok(json!({"users": records, "products": records, "order_items": records}))
    }
}

/// The documents of the records behind `start`, up to `end`: the same in every run.
fn batch(task: u64, start: u64, end: u64) -> Result<Vec<Operation>> {
    let [users, products, order_items] = ["users", "products", "order_items"].map(CollectionName::new);
    let (users, products, order_items) = (users?, products?, order_items?);
    let seed = task.wrapping_mul(MAX_RECORDS).wrapping_add(start);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let count = usize::try_from(end - start).expect("a batch is small");
    let mut operations = Vec::with_capacity(3 * count);
    for (number, product) in (start + 1..=end).zip(products::mock(count, seed)) {
        let id = format!("upload-{task}-{number}");
        let name: String = Name().fake_with_rng(&mut rng);
        let quantity: u64 = (1..11).fake_with_rng(&mut rng);
        let user = json!({"id": id, "name": name, "email": format!("user.{task}.{number}@example.com")});
        let mut product = product.fields().clone();
        product.insert("id".to_owned(), json!(id));
        let item = json!({"id": id, "user_id": id, "product_id": id, "quantity": quantity});
        let documents = [(&users, user), (&products, Value::Object(product)), (&order_items, item)];
        for (collection, document) in documents {
            let (collection, document) = (collection.clone(), Document::new(&document)?);
            operations.push(Operation::Create { collection, document, ttl_ms: None });
        }
    }
    Ok(operations)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Stage;
    use super::*;
    use crate::kappa::Kappa;

    fn counts(kappa: &Kappa) -> [u64; 3] {
        ["users", "products", "order_items"]
            .map(|name| kappa.collection(name).expect("a name").count().wait().expect("a count"))
    }

    #[test]
    fn it_fills_three_collections_and_answers_the_counts() {
        let stage = Stage::new(json!({"records": 450}));
        let result = Upload.run(&stage);
        assert_eq!(result, Ok(json!({"users": 450, "products": 450, "order_items": 450})));
        assert_eq!(counts(stage.kappa()), [450; 3]);
        let item = stage.kappa().collection("order_items").expect("a name").get("upload-7-450").wait();
        let item = item.expect("an answer").expect("it is there");
        let user = stage.kappa().users().get(item.fields()["user_id"].as_str().expect("text")).wait();
        let email = user.expect("an answer").expect("its user is there").fields()["email"].clone();
        assert_eq!(email, "user.7.450@example.com");
        assert!(stage.told() > 0.999);
    }

    /// A load job that starts over after a crash ends in "already there", or with everything twice.
    #[test]
    fn another_run_goes_on_where_the_last_one_was() {
        let stage = Stage::new(json!({"numRecords": 500})).cancelled_after(2);
        assert_eq!(Upload.run(&stage), Err(Failure::cancelled()));
        assert_eq!(counts(stage.kappa()), [400; 3]);
        for _ in 0..2 {
            assert!(Upload.run(&stage.again()).is_ok(), "after a crash, also one behind the last batch");
            assert_eq!(counts(stage.kappa()), [500; 3]);
        }
    }

    /// A worker that was thought dead goes on beside its successor; it must not write, and not burn attempts either.
    #[test]
    fn a_run_that_was_overtaken_stops() {
        let stage = Stage::new(json!({"records": 300}));
        let (mut late, before) = Checkpoint::find::<State>(&stage).expect("none yet");
        assert!(Upload.run(&stage.again()).is_ok());
        let operations = batch(stage.id(), before.done, 100).expect("documents");
        let refused = late.write(&stage, operations, &State { done: 100 }).expect_err("the other run was later");
        let failure = Failure::from(refused);
        assert_eq!((failure.code.as_str(), failure.retry), ("overtaken", false));
        assert_eq!(counts(stage.kappa()), [300; 3]);
    }

    #[test]
    fn the_number_of_records_has_bounds() {
        for params in
            [json!({"records": 0}), json!({"records": MAX_RECORDS + 1}), json!({"records": "9"}), json!({"rows": 1})]
        {
            assert!(Upload.check(&params).is_err(), "{params}");
        }
        Upload.check(&Value::Null).expect("a hundred");
    }
}
