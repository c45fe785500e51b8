//! Products, users and collections of the caller's own: one class for all three.

use kappa_core::{Collection, Definition, Document, Entry, List, Pending, Products, Result, WriteOptions};
use pyo3::prelude::*;

use crate::arguments::{Maybe, Texts, duration, flag, indexes, maybe_text, number, text, write_options};
use crate::call::Call;
use crate::document::{Reader, Text, document, value};
use crate::error::exception;
use crate::guard::guard;
use crate::kappa::export;
use crate::list::Pages;
use crate::origin::Origin;
use crate::owned::Owned;
use crate::reply::Documents;

/// The documents of one collection.
#[pyclass(frozen, module = "kappa_core._kappa_core")]
pub struct Store {
    collection: Owned<Collection>,
    origin: Origin,
}

impl Store {
    pub fn new(collection: Collection, origin: &Origin) -> Self {
        Self { collection: origin.own(collection), origin: origin.clone() }
    }

    fn collection(&self) -> Result<Collection> {
        self.collection.get().cloned()
    }

    /// A call that writes the document `id` as `write` does.
    fn write(
        &self,
        id: &Bound<'_, PyAny>,
        given: &Bound<'_, PyAny>,
        options: Result<WriteOptions>,
        write: impl FnOnce(&Collection, &str, Text, WriteOptions) -> Pending<Entry> + Send + 'static,
    ) -> Result<Call> {
        let (collection, id, text) = (self.collection()?, text("id", id)?, document(given, self.origin.reader)?);
        let options = options?;
        Ok(Call::write(&self.origin, move || document_of(write(&collection, &id, text, options))))
    }
}

#[pymethods]
impl Store {
    fn name(&self) -> PyResult<String> {
        export("Store.name", || Ok(self.collection()?.name().to_string()))
    }

    #[pyo3(signature = (given, ttl, idempotency_key))]
    fn create(&self, given: &Bound<'_, PyAny>, ttl: Maybe<'_, '_>, idempotency_key: Maybe<'_, '_>) -> PyResult<Call> {
        export("Store.create", || {
            let (collection, document) = (self.collection()?, document(given, self.origin.reader)?);
            let options = write_options(ttl, None, idempotency_key)?;
            Ok(Call::write(&self.origin, move || document_of(collection.create_with(document, options))))
        })
    }

    fn get(&self, id: &Bound<'_, PyAny>) -> PyResult<Call> {
        export("Store.get", || {
            let (collection, id) = (self.collection()?, text("id", id)?);
            Ok(Call::brief(&self.origin, move || collection.get(&id)))
        })
    }

    fn entry(&self, id: &Bound<'_, PyAny>) -> PyResult<Call> {
        export("Store.entry", || {
            let (collection, id) = (self.collection()?, text("id", id)?);
            Ok(Call::brief(&self.origin, move || collection.entry(&id)))
        })
    }

    fn get_many(&self, ids: &Bound<'_, PyAny>) -> PyResult<Call> {
        export("Store.get_many", || {
            let (collection, ids) = (self.collection()?, Texts::of("ids", ids)?);
            let count = ids.count();
            let read = move || collection.get_many(ids.cut()).map(|entries| Ok(Documents(entries)));
            Ok(Call::of_many(&self.origin, count, read))
        })
    }

    #[pyo3(signature = (id, given, if_version, ttl, idempotency_key))]
    fn replace(
        &self,
        id: &Bound<'_, PyAny>,
        given: &Bound<'_, PyAny>,
        if_version: Maybe<'_, '_>,
        ttl: Maybe<'_, '_>,
        idempotency_key: Maybe<'_, '_>,
    ) -> PyResult<Call> {
        export("Store.replace", || {
            let options = write_options(ttl, if_version, idempotency_key);
            self.write(id, given, options, Collection::replace_with)
        })
    }

    #[pyo3(signature = (id, given, if_version, ttl, idempotency_key))]
    fn update(
        &self,
        id: &Bound<'_, PyAny>,
        given: &Bound<'_, PyAny>,
        if_version: Maybe<'_, '_>,
        ttl: Maybe<'_, '_>,
        idempotency_key: Maybe<'_, '_>,
    ) -> PyResult<Call> {
        export("Store.update", || {
            let options = write_options(ttl, if_version, idempotency_key);
            self.write(id, given, options, Collection::update_with)
        })
    }

    #[pyo3(signature = (id, if_version, idempotency_key))]
    fn delete(
        &self,
        id: &Bound<'_, PyAny>,
        if_version: Maybe<'_, '_>,
        idempotency_key: Maybe<'_, '_>,
    ) -> PyResult<Call> {
        export("Store.delete", || {
            let (collection, id) = (self.collection()?, text("id", id)?);
            let options = write_options(None, if_version, idempotency_key)?;
            Ok(Call::write(&self.origin, move || collection.delete_with(&id, options)))
        })
    }

    fn count(&self) -> PyResult<Call> {
        export("Store.count", || {
            let collection = self.collection()?;
            Ok(Call::read(&self.origin, move || collection.count()))
        })
    }

    /// A list by the options in their fixed order; bounds come in a tuple, because None is a value to look for.
    #[expect(clippy::too_many_arguments, reason = "one for each option; the class above names them")]
    #[pyo3(signature = (index, equal, from_, to, reverse, limit, page_size, after))]
    fn list(
        &self,
        index: Maybe<'_, '_>,
        equal: Option<(Bound<'_, PyAny>,)>,
        from_: Option<(Bound<'_, PyAny>,)>,
        to: Option<(Bound<'_, PyAny>,)>,
        reverse: &Bound<'_, PyAny>,
        limit: Maybe<'_, '_>,
        page_size: Maybe<'_, '_>,
        after: Maybe<'_, '_>,
    ) -> PyResult<Pages> {
        export("Store.list", || {
            let bound = |given: Option<(Bound<'_, PyAny>,)>| {
                given.map(|(given,)| value(&given, self.origin.reader)).transpose()
            };
            let mut list = self.collection()?.list();
            list = optional(list, maybe_text("index", index)?, |list, index| list.by(&index));
            list = optional(list, bound(equal)?, List::equal);
            list = optional(list, bound(from_)?, List::from);
            list = optional(list, bound(to)?, List::to);
            list = optional(list, flag("reverse", reverse)?.then_some(()), |list, ()| list.backward());
            list = optional(list, limit.map(|limit| number("limit", limit)).transpose()?, List::limit);
            list = optional(list, page_size.map(|size| number("page_size", size)).transpose()?, List::page_size);
            list = optional(list, maybe_text("after", after)?, List::after);
            Ok(Pages::new(list, &self.origin))
        })
    }

    #[pyo3(signature = (wanted, ttl, partition_field))]
    fn declare(&self, wanted: Maybe<'_, '_>, ttl: Maybe<'_, '_>, partition_field: Maybe<'_, '_>) -> PyResult<Call> {
        export("Store.declare", || {
            let collection = self.collection()?;
            let ttl = ttl.map(|ttl| duration("ttl", ttl)).transpose()?;
            let definition = Definition {
                indexes: indexes(wanted)?,
                partition_field: maybe_text("partition_field", partition_field)?,
                ttl_ms: ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
            };
            Ok(Call::write(&self.origin, move || collection.declare(definition)))
        })
    }

    fn drop_index(&self, name: &Bound<'_, PyAny>) -> PyResult<Call> {
        export("Store.drop_index", || {
            let (collection, name) = (self.collection()?, text("name", name)?);
            Ok(Call::write(&self.origin, move || collection.drop_index(&name)))
        })
    }

    fn describe(&self) -> PyResult<Call> {
        export("Store.describe", || {
            let collection = self.collection()?;
            Ok(Call::read(&self.origin, move || collection.describe()))
        })
    }
}

/// The document as a write left it.
fn document_of(written: Pending<Entry>) -> Pending<Document> {
    written.map(|entry| Ok(entry.document))
}

fn optional<T>(list: List, given: Option<T>, with: impl FnOnce(List, T) -> List) -> List {
    match given {
        Some(given) => with(list, given),
        None => list,
    }
}

/// Products that are made up: the same for the same seed, and not stored.
#[pyfunction]
pub fn mock_products<'py>(
    py: Python<'py>,
    count: &Bound<'py, PyAny>,
    seed: &Bound<'py, PyAny>,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    guard("mock_products", || {
        let asked = number("count", count).and_then(|count| Ok((count, number("seed", seed)?)));
        let (count, seed) = asked.map_err(|error| exception(&error))?;
        let made = py.detach(|| Products::mock(count, seed));
        made.iter().map(|product| Reader::default().read(py, product.text())).collect()
    })
}
