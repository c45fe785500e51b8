//! Writes being gathered to happen together.

use kappa_core::{Batch as Gathered, CollectionName, Error, IntoDocument, Operation, Result};
use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::arguments::{Maybe, maybe_text, text, write_options};
use crate::call::Call;
use crate::document::document;
use crate::kappa::export;
use crate::origin::Origin;
use crate::owned::Owned;
use crate::tasks;

/// Operations over any collections, all of which happen or none.
#[pyclass(frozen, module = "kappa_core._kappa_core")]
pub struct Batch {
    /// None once it was committed.
    gathered: Owned<Mutex<Option<Gathered>>>,
    origin: Origin,
}

impl Batch {
    pub fn new(batch: Gathered, origin: &Origin) -> Self {
        Self { gathered: origin.own(Mutex::new(Some(batch))), origin: origin.clone() }
    }

    fn add(&self, operation: Operation) -> Result<()> {
        let mut gathered = self.gathered.get()?.lock();
        let batch = gathered.take().ok_or_else(committed)?;
        *gathered = Some(batch.operation(operation));
        Ok(())
    }
}

fn committed() -> Error {
    Error::invalid("the batch was committed; begin another")
}

/// The options of an operation within a batch in core's form: the time to live in milliseconds.
fn ttl_ms(ttl: Maybe<'_, '_>) -> Result<Option<u64>> {
    let ttl = write_options(ttl, None, None)?.ttl;
    Ok(ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)))
}

#[pymethods]
impl Batch {
    #[pyo3(signature = (collection, given, ttl))]
    fn create(&self, collection: &Bound<'_, PyAny>, given: &Bound<'_, PyAny>, ttl: Maybe<'_, '_>) -> PyResult<()> {
        export("Batch.create", || {
            let collection = CollectionName::new(&text("collection", collection)?)?;
            let document = document(given, self.origin.reader)?.into_document()?;
            self.add(Operation::Create { collection, document, ttl_ms: ttl_ms(ttl)? })
        })
    }

    #[pyo3(signature = (collection, id, given, if_version, ttl))]
    fn replace(
        &self,
        collection: &Bound<'_, PyAny>,
        id: &Bound<'_, PyAny>,
        given: &Bound<'_, PyAny>,
        if_version: Maybe<'_, '_>,
        ttl: Maybe<'_, '_>,
    ) -> PyResult<()> {
        export("Batch.replace", || {
            let (collection, id) = (CollectionName::new(&text("collection", collection)?)?, text("id", id)?);
            let document = document(given, self.origin.reader)?.into_document()?;
            let if_version = write_options(None, if_version, None)?.if_version;
            self.add(Operation::Replace { collection, id, document, if_version, ttl_ms: ttl_ms(ttl)? })
        })
    }

    #[pyo3(signature = (collection, id, given, if_version, ttl))]
    fn update(
        &self,
        collection: &Bound<'_, PyAny>,
        id: &Bound<'_, PyAny>,
        given: &Bound<'_, PyAny>,
        if_version: Maybe<'_, '_>,
        ttl: Maybe<'_, '_>,
    ) -> PyResult<()> {
        export("Batch.update", || {
            let (collection, id) = (CollectionName::new(&text("collection", collection)?)?, text("id", id)?);
            let patch = document(given, self.origin.reader)?.into_document()?;
            let if_version = write_options(None, if_version, None)?.if_version;
            self.add(Operation::Update { collection, id, patch, if_version, ttl_ms: ttl_ms(ttl)? })
        })
    }

    #[pyo3(signature = (collection, id, if_version))]
    fn delete(&self, collection: &Bound<'_, PyAny>, id: &Bound<'_, PyAny>, if_version: Maybe<'_, '_>) -> PyResult<()> {
        export("Batch.delete", || {
            let (collection, id) = (CollectionName::new(&text("collection", collection)?)?, text("id", id)?);
            let if_version = write_options(None, if_version, None)?.if_version;
            self.add(Operation::Delete { collection, id, if_version })
        })
    }

    fn enqueue(&self, given: &Bound<'_, PyAny>) -> PyResult<()> {
        export("Batch.enqueue", || self.add(Operation::Task(tasks::operation("enqueue", given, self.origin.reader)?)))
    }

    #[pyo3(signature = (idempotency_key))]
    fn commit(&self, idempotency_key: Maybe<'_, '_>) -> PyResult<Call> {
        export("Batch.commit", || {
            let key = maybe_text("idempotency_key", idempotency_key)?;
            let batch = self.gathered.get()?.lock().take().ok_or_else(committed)?;
            let batch = match key {
                Some(key) => batch.idempotency_key(key),
                None => batch,
            };
            Ok(Call::write(&self.origin, move || batch.commit()))
        })
    }
}
