//! Operations that happen together or not at all.

use kappa_core::{CollectionName, Document, Error, Operation, Result};
use napi::bindgen_prelude::External;
use napi_derive::napi;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::answer::Text;
use crate::database::Database;
use crate::error::malformed;
use crate::guard::export;
use crate::port::Slot;
use crate::store::write_options;
use crate::tasks;

/// One operation as JavaScript gathers it.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Step<'a> {
    Create {
        collection: String,
        #[serde(borrow)]
        document: &'a RawValue,
        ttl: Option<i64>,
    },
    Replace {
        collection: String,
        id: String,
        #[serde(borrow)]
        document: &'a RawValue,
        if_version: Option<String>,
        ttl: Option<i64>,
    },
    Update {
        collection: String,
        id: String,
        #[serde(borrow)]
        document: &'a RawValue,
        if_version: Option<String>,
        ttl: Option<i64>,
    },
    Delete {
        collection: String,
        id: String,
        if_version: Option<String>,
    },
    Enqueue {
        #[serde(borrow)]
        document: &'a RawValue,
    },
}

impl Step<'_> {
    fn operation(self) -> Result<Operation> {
        let parse = |document: &RawValue| Document::parse(document.get().to_owned());
        let ttl_ms = |ttl| Ok::<_, Error>(write_options(ttl, None, None)?.ttl.map(|ttl| ttl.as_millis() as u64));
        let version =
            |version: Option<String>| Ok::<_, Error>(write_options(None, version.as_deref(), None)?.if_version);
        Ok(match self {
            Self::Create { collection, document, ttl } => Operation::Create {
                collection: CollectionName::new(&collection)?,
                document: parse(document)?,
                ttl_ms: ttl_ms(ttl)?,
            },
            Self::Replace { collection, id, document, if_version, ttl } => Operation::Replace {
                collection: CollectionName::new(&collection)?,
                id,
                document: parse(document)?,
                if_version: version(if_version)?,
                ttl_ms: ttl_ms(ttl)?,
            },
            Self::Update { collection, id, document, if_version, ttl } => Operation::Update {
                collection: CollectionName::new(&collection)?,
                id,
                patch: parse(document)?,
                if_version: version(if_version)?,
                ttl_ms: ttl_ms(ttl)?,
            },
            Self::Enqueue { document } => {
                Operation::Task(tasks::operation(&format!("{{\"enqueue\":{}}}", document.get()))?)
            }
            Self::Delete { collection, id, if_version } => Operation::Delete {
                collection: CollectionName::new(&collection)?,
                id,
                if_version: version(if_version)?,
            },
        })
    }
}

/// Runs all of `steps` or none; answers what each gave.
#[napi]
pub fn commit(
    database: &External<Database>,
    slot: Slot,
    steps: String,
    key: Option<String>,
) -> napi::Result<Option<String>> {
    export("commit", || {
        let steps: Vec<Step<'_>> = serde_json::from_str(&steps).map_err(malformed("an operation has a wrong shape"))?;
        let mut batch = database.handle.kappa().batch();
        for (position, step) in steps.into_iter().enumerate() {
            batch = batch.operation(step.operation().map_err(|error| error.with("operation", position))?);
        }
        let batch = key.into_iter().fold(batch, kappa_core::Batch::idempotency_key);
        let committed = batch.commit();
        Ok(database.port.start(slot, "commit", async move { Text::batch(&committed.await?) }))
    })
}
