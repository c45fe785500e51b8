//! Pages of a list.

use kappa_core::{List, Result};
use napi::bindgen_prelude::External;
use napi_derive::napi;
use serde::Deserialize;
use serde_json::Value;

use crate::answer::Text;
use crate::error::malformed;
use crate::guard::export;
use crate::port::Slot;
use crate::store::Store;
use crate::threads;

/// Which documents, as JavaScript says it.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Wanted {
    index: Option<String>,
    #[serde(deserialize_with = "given")]
    equal: Option<Value>,
    #[serde(deserialize_with = "given")]
    from: Option<Value>,
    #[serde(deserialize_with = "given")]
    to: Option<Value>,
    reverse: bool,
    limit: Option<usize>,
    page_size: Option<usize>,
    after: Option<String>,
}

/// A bound that is null is a bound: documents have null in their fields.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl Wanted {
    fn of(self, list: List) -> List {
        let say = |list: List, value: Option<Value>, how: fn(List, Value) -> List| match value {
            Some(value) => how(list, value),
            None => list,
        };
        let list = say(list, self.from, List::from);
        let list = say(list, self.to, List::to);
        let list = say(list, self.equal, List::equal);
        let list = self.index.iter().fold(list, |list, index| list.by(index));
        let list = self.limit.into_iter().fold(list, List::limit);
        let list = self.page_size.into_iter().fold(list, List::page_size);
        let list = self.after.into_iter().fold(list, List::after);
        if self.reverse { list.backward() } else { list }
    }
}

/// One page of the documents that `wanted` describes.
#[napi]
pub fn page(store: &External<Store>, slot: Slot, wanted: String) -> napi::Result<Option<String>> {
    export("page", || {
        let wanted: Wanted =
            serde_json::from_str(&wanted).map_err(malformed("an option is unknown or has a wrong value"))?;
        let list = wanted.of(store.collection.list());
        let reading = threads::read("page", move || Ok(list.page()));
        Ok(store.port.start(slot, "page", async move { Ok(Text::page(&reading.await?.await?)) }))
    })
}
