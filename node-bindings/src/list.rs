//! Pages of a list.

use std::pin::Pin;
use std::sync::Arc;

use kappa_core::{List, MAX_PAGE_ENTRIES, Result};
use napi::bindgen_prelude::External;
use napi_derive::napi;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;

use crate::answer::Text;
use crate::database::Handle;
use crate::error::malformed;
use crate::guard::export;
use crate::port::{Port, Slot};
use crate::store::Store;
use crate::threads;

/// Documents of the first page of a walk. Each further one has a quarter more, up to what was asked for: so JavaScript has
/// something to do while the rest is read, also where one page would hold all of it, and a page is read in about the time
/// that the one before it is used.
const FIRST_PAGE: usize = 128;

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
    fn parse(json: &str) -> Result<Self> {
        serde_json::from_str(json).map_err(malformed("an option is unknown or has a wrong value"))
    }

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
        let list = Wanted::parse(&wanted)?.of(store.collection.list());
        let reading = threads::read("page", move || Ok(list.page().map(|page| Ok(Text::page(&page)))));
        Ok(store.port.start(slot, "page", async move { reading.await?.await }))
    })
}

/// A page that is being read: its documents, and what is left of the list behind it.
type Reading = Pin<Box<dyn Future<Output = Result<(Text, Option<Rest>)>> + Send>>;

/// A list as it is walked through.
pub struct Walk {
    port: Arc<Port>,
    /// The next page, which is read while JavaScript uses the one before; none behind the last.
    next: Arc<Mutex<Option<Reading>>>,
    /// Keeps the database from being closed while its lists are in use.
    _handle: Arc<Handle>,
}

/// What is left of a list, and how many documents its next page holds at most.
struct Rest {
    list: List,
    size: usize,
    asked: usize,
}

impl Rest {
    fn of(list: List, asked: usize) -> Self {
        // A size that no page can have is for the first one to refuse.
        let size = if asked > MAX_PAGE_ENTRIES { asked } else { asked.min(FIRST_PAGE) };
        Self { list, size, asked }
    }

    fn read(self) -> Reading {
        let Self { list, size, asked } = self;
        let reading = threads::read("nextPage", move || {
            let list = list.page_size(size);
            let page = list.page();
            // Begun here: where another process is asked, nobody polls before the page is wanted.
            let taken = page.map(move |page| {
                let size = (size + size / 4).min(asked);
                Ok((Text::items(&page), list.behind(&page).map(|list| Self { list, size, asked })))
            });
            Ok(taken.start())
        });
        Box::pin(async move { reading.await?.await })
    }
}

/// Begins to read the documents that `wanted` describes.
#[napi]
pub fn walk(store: &External<Store>, wanted: String) -> napi::Result<External<Walk>> {
    export("walk", || {
        let wanted = Wanted::parse(&wanted)?;
        let asked = wanted.page_size.unwrap_or(FIRST_PAGE);
        let rest = Rest::of(wanted.of(store.collection.list()), asked);
        let next = Arc::new(Mutex::new(Some(rest.read())));
        Ok(External::new(Walk { port: Arc::clone(&store.port), next, _handle: store.handle() }))
    })
}

/// The documents of the next page, or null behind the last; the one behind it is begun.
#[napi]
pub fn next_page(walk: &External<Walk>, slot: Slot) -> napi::Result<Option<String>> {
    export("nextPage", || {
        let (reading, next) = (walk.next.lock().take(), Arc::clone(&walk.next));
        Ok(walk.port.start(slot, "nextPage", async move {
            let Some(reading) = reading else { return Ok(Text::new("null".to_owned())) };
            let (items, rest) = reading.await?;
            *next.lock() = rest.map(Rest::read);
            Ok(items)
        }))
    })
}
