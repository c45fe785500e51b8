//! The documents of one collection.

use std::sync::Arc;
use std::time::Duration;

use kappa_core::{Collection, Definition, Document, Error, ErrorKind, IndexDefinition, Pending, Products, Result};
use kappa_core::{Entry, Version, WriteOptions};
use napi::bindgen_prelude::External;
use napi_derive::napi;
use serde::Deserialize;

use crate::answer::Text;
use crate::database::{Database, Handle};
use crate::error::malformed;
use crate::guard::export;
use crate::port::{JsText, Port, Slot, closed};
use crate::threads;

/// Made-up products at a time; more would not fit one answer.
const MAX_MOCK: u32 = 100_000;

/// A collection as JavaScript holds it.
pub struct Store {
    /// The door its answers leave by.
    pub port: Arc<Port>,
    /// The collection.
    pub collection: Collection,
    /// Keeps the database from being closed while its collections are in use.
    handle: Arc<Handle>,
}

impl Store {
    /// What keeps the database from being closed.
    pub fn handle(&self) -> Arc<Handle> {
        Arc::clone(&self.handle)
    }

    /// Starts a call whose read runs on a reader's thread; its text is made there too.
    fn read<T: Send + 'static>(
        &self,
        slot: Slot,
        name: &'static str,
        read: impl FnOnce(&Collection) -> Pending<T> + Send + 'static,
        text: impl FnOnce(T) -> Result<Text> + Send + 'static,
    ) -> Option<String> {
        let collection = self.collection.clone();
        let reading = threads::read(name, move || Ok(read(&collection).map(text)));
        self.port.start(slot, name, async move { reading.await?.await })
    }

    fn written(&self, slot: Slot, name: &'static str, written: Pending<Entry>) -> Option<String> {
        self.port.start(slot, name, written_text(written))
    }
}

async fn written_text(written: Pending<Entry>) -> Result<Text> {
    Ok(Text::document(Some(written.await?.document)))
}

/// What JavaScript says about one write; whole numbers of milliseconds.
pub fn write_options(ttl: Option<i64>, if_version: Option<&str>, key: Option<String>) -> Result<WriteOptions> {
    let millis = |ttl: i64| {
        let millis = u64::try_from(ttl).map_err(|_| Error::invalid("a time to live is at least 1 ms").with("ttl", ttl));
        millis.map(Duration::from_millis)
    };
    Ok(WriteOptions {
        id: None,
        ttl: ttl.map(millis).transpose()?,
        if_version: if_version.map(str::parse::<Version>).transpose()?,
        idempotency_key: key,
    })
}

/// The collection `name`; it need not be there yet.
#[napi]
pub fn collection(database: &External<Database>, name: String) -> napi::Result<External<Store>> {
    export("collection", || {
        let handle = Arc::clone(&database.handle);
        let collection = handle.kappa().collection(&name)?;
        Ok(External::new(Store { port: Arc::clone(&database.port), collection, handle }))
    })
}

/// Adds a document; answers it.
#[napi]
pub fn create(
    store: &External<Store>,
    slot: Slot,
    document: String,
    ttl: Option<i64>,
    key: Option<String>,
) -> napi::Result<Option<String>> {
    export("create", || {
        let options = write_options(ttl, None, key)?;
        let written = store.collection.create_with(Document::parse(document)?, options);
        Ok(store.written(slot, "create", written))
    })
}

/// Adds the documents that stand in the lines of `documents`, each by a call of its own; the first has the number `first`.
#[napi]
pub fn create_many(store: &External<Store>, first: Slot, documents: String) -> napi::Result<Option<String>> {
    export("createMany", || {
        let create = |document: &str| match Document::parse(document.to_owned()) {
            Ok(document) => store.collection.create(document),
            Err(error) => Pending::ready(Err(error)),
        };
        // All are on their way before the first is asked for its answer: they may become durable together.
        let written: Vec<_> = documents.lines().map(create).collect();
        let mut text = String::new();
        for (slot, written) in (first..).zip(written) {
            store.port.begin(&mut text, slot, "create", written_text(written));
        }
        Ok(closed(text))
    })
}

/// Sets all fields of a document; answers it.
#[napi]
pub fn replace(
    store: &External<Store>,
    slot: Slot,
    id: String,
    document: String,
    if_version: Option<String>,
    ttl: Option<i64>,
    key: Option<String>,
) -> napi::Result<Option<String>> {
    export("replace", || {
        let options = write_options(ttl, if_version.as_deref(), key)?;
        let written = store.collection.replace_with(&id, Document::parse(document)?, options);
        Ok(store.written(slot, "replace", written))
    })
}

/// Sets the fields that the patch names; answers the document.
#[napi]
pub fn update(
    store: &External<Store>,
    slot: Slot,
    id: String,
    patch: String,
    if_version: Option<String>,
    ttl: Option<i64>,
    key: Option<String>,
) -> napi::Result<Option<String>> {
    export("update", || {
        let options = write_options(ttl, if_version.as_deref(), key)?;
        let written = store.collection.update_with(&id, Document::parse(patch)?, options);
        Ok(store.written(slot, "update", written))
    })
}

/// Removes a document; answers whether there was one.
#[napi]
pub fn delete(
    store: &External<Store>,
    slot: Slot,
    id: String,
    if_version: Option<String>,
    key: Option<String>,
) -> napi::Result<Option<String>> {
    export("delete", || {
        let deleted = store.collection.delete_with(&id, write_options(None, if_version.as_deref(), key)?);
        Ok(store.port.start(slot, "delete", async move { Text::of(&deleted.await?) }))
    })
}

/// One document, or null.
#[napi]
pub fn get(store: &External<Store>, slot: Slot, id: String) -> napi::Result<Option<String>> {
    export("get", || {
        let read = move |collection: &Collection| collection.get(&id);
        Ok(store.read(slot, "get", read, |document| Ok(Text::document(document))))
    })
}

/// One document with its version, or null.
#[napi]
pub fn entry(store: &External<Store>, slot: Slot, id: String) -> napi::Result<Option<String>> {
    export("entry", || {
        let read = move |collection: &Collection| collection.entry(&id);
        Ok(store.read(slot, "entry", read, |entry| Ok(Text::entry(entry.as_ref()))))
    })
}

/// Documents in the order asked, null where there is none.
#[napi]
pub fn get_many(store: &External<Store>, slot: Slot, ids: Vec<String>) -> napi::Result<Option<String>> {
    export("getMany", || {
        let read = move |collection: &Collection| collection.get_many(ids);
        Ok(store.read(slot, "getMany", read, |entries| Ok(Text::documents(&entries))))
    })
}

/// How many documents there are.
#[napi]
pub fn count(store: &External<Store>, slot: Slot) -> napi::Result<Option<String>> {
    export("count", || Ok(store.read(slot, "count", Collection::count, |count| Text::of(&count))))
}

/// As `get`, on this thread.
#[napi]
pub fn get_sync(store: &External<Store>, id: String) -> napi::Result<JsText> {
    export("getSync", || Ok(Text::document(store.collection.get(&id).wait()?).marked().into()))
}

/// As `entry`, on this thread.
#[napi]
pub fn entry_sync(store: &External<Store>, id: String) -> napi::Result<JsText> {
    export("entrySync", || Ok(Text::entry(store.collection.entry(&id).wait()?.as_ref()).marked().into()))
}

/// As `get_many`, on this thread.
#[napi]
pub fn get_many_sync(store: &External<Store>, ids: Vec<String>) -> napi::Result<JsText> {
    export("getManySync", || Ok(Text::documents(&store.collection.get_many(ids).wait()?).marked().into()))
}

/// As `count`, on this thread.
#[napi]
pub fn count_sync(store: &External<Store>) -> napi::Result<JsText> {
    export("countSync", || Ok(Text::of(&store.collection.count().wait()?)?.marked().into()))
}

/// An index by the name of its field, or described.
#[derive(Deserialize)]
#[serde(untagged)]
enum Index {
    Field(String),
    Described(IndexDefinition),
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[derive(Default)]
struct Declaration {
    indexes: Vec<Index>,
    ttl: Option<u64>,
    partition_field: Option<String>,
}

/// Makes sure that indexes and rules hold; answers the collection when they do.
#[napi]
pub fn declare(store: &External<Store>, slot: Slot, declaration: String) -> napi::Result<Option<String>> {
    export("declare", || {
        let said: Declaration = serde_json::from_str(&declaration)
            .map_err(malformed("a declaration has indexes (field, name, unique), ttl and partitionField"))?;
        let index = |index| match index {
            Index::Field(field) => IndexDefinition::by(field),
            Index::Described(index) => index,
        };
        let indexes = said.indexes.into_iter().map(index).collect();
        let definition = Definition { indexes, partition_field: said.partition_field, ttl_ms: said.ttl };
        let declared = store.collection.declare(definition);
        Ok(store.port.start(slot, "declare", async move { Text::of(&declared.await?) }))
    })
}

/// Removes an index; answers the collection.
#[napi]
pub fn drop_index(store: &External<Store>, slot: Slot, index: String) -> napi::Result<Option<String>> {
    export("dropIndex", || {
        let dropped = store.collection.drop_index(&index);
        Ok(store.port.start(slot, "dropIndex", async move { Text::of(&dropped.await?) }))
    })
}

/// The collection as it stands.
#[napi]
pub fn describe(store: &External<Store>, slot: Slot) -> napi::Result<Option<String>> {
    export("describe", || Ok(store.read(slot, "describe", Collection::describe, |info| Text::of(&info))))
}

/// Products that are made up; none is stored.
#[napi]
pub fn mock(port: &External<Arc<Port>>, slot: Slot, count: u32, seed: i64) -> napi::Result<Option<String>> {
    export("mock", || {
        if count > MAX_MOCK {
            let error = Error::new(ErrorKind::TooLarge, "too many products to make up at a time");
            return Err(error.with("count", count).with("limit", MAX_MOCK));
        }
        let seed = u64::try_from(seed).map_err(|_| Error::invalid("a seed is from 0 up").with("seed", seed))?;
        let made = threads::long("mock", move || Text::of(&Products::mock(count as usize, seed)));
        Ok(port.start(slot, "mock", made))
    })
}
