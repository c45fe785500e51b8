//! Writes being gathered to happen together.

use kappa_core::{Batch as Gathered, CollectionName, Document, Error, IntoDocument, Operation, Result, Version};
use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::arguments::{Maybe, duration, maybe_text, text, version};
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

    /// What an operation writes, and for how many milliseconds.
    fn content(&self, given: &Bound<'_, PyAny>, ttl: Maybe<'_, '_>) -> Result<(Document, Option<u64>)> {
        let document = document(given, self.origin.reader)?.into_document()?;
        let ttl = ttl.map(|ttl| duration("ttl", ttl)).transpose()?;
        Ok((document, ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))))
    }
}

fn committed() -> Error {
    Error::invalid("the batch was committed; begin another")
}

/// Which document an operation is about, and the version it must have.
fn place(
    collection: &Bound<'_, PyAny>,
    id: &Bound<'_, PyAny>,
    if_version: Maybe<'_, '_>,
) -> Result<(CollectionName, String, Option<Version>)> {
    let (collection, id) = (CollectionName::new(&text("collection", collection)?)?, text("id", id)?);
    Ok((collection, id, if_version.map(version).transpose()?))
}

#[pymethods]
impl Batch {
    #[pyo3(signature = (collection, given, ttl))]
    fn create(&self, collection: &Bound<'_, PyAny>, given: &Bound<'_, PyAny>, ttl: Maybe<'_, '_>) -> PyResult<()> {
        export("Batch.create", || {
            let collection = CollectionName::new(&text("collection", collection)?)?;
            let (document, ttl_ms) = self.content(given, ttl)?;
            self.add(Operation::Create { collection, document, ttl_ms })
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
            let ((collection, id, if_version), (document, ttl_ms)) =
                (place(collection, id, if_version)?, self.content(given, ttl)?);
            self.add(Operation::Replace { collection, id, document, if_version, ttl_ms })
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
            let ((collection, id, if_version), (patch, ttl_ms)) =
                (place(collection, id, if_version)?, self.content(given, ttl)?);
            self.add(Operation::Update { collection, id, patch, if_version, ttl_ms })
        })
    }

    #[pyo3(signature = (collection, id, if_version))]
    fn delete(&self, collection: &Bound<'_, PyAny>, id: &Bound<'_, PyAny>, if_version: Maybe<'_, '_>) -> PyResult<()> {
        export("Batch.delete", || {
            let (collection, id, if_version) = place(collection, id, if_version)?;
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
