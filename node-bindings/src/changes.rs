//! The change feed.

use std::pin::Pin;
use std::sync::Arc;

use kappa_core::{Change, Feed, FeedStart, Result};
use napi::bindgen_prelude::External;
use napi_derive::napi;
use parking_lot::Mutex;

use crate::answer::Text;
use crate::database::{Database, Handle};
use crate::guard::export;
use crate::port::{Port, Slot};
use crate::threads;

/// Changes handed over at a time.
const MAX_CHANGES: usize = 64;

type Opening = Pin<Box<dyn Future<Output = Result<Feed>> + Send>>;

/// A feed as JavaScript holds it.
pub struct Changes {
    port: Arc<Port>,
    feed: Arc<Mutex<Feed>>,
    /// Keeps the database from being closed while its feed is in use.
    handle: Arc<Handle>,
}

/// Opens the feed behind the cursor `after`; where there is none, with what happens from now on, or with the oldest.
#[napi]
pub fn changes(
    database: &External<Database>,
    slot: Slot,
    after: Option<String>,
    oldest: bool,
) -> napi::Result<Option<String>> {
    export("changes", || {
        let (handle, port) = (Arc::clone(&database.handle), Arc::clone(&database.port));
        let start = if oldest { FeedStart::Oldest } else { FeedStart::Now };
        let opening: Opening = if let Some(cursor) = after {
            // A cursor is looked up in files.
            let kappa = handle.kappa().clone();
            Box::pin(threads::read("changes", move || kappa.feed(FeedStart::After(cursor)).wait()))
        } else {
            // What is written behind this call belongs to the feed: its place is taken now, which needs no file.
            Box::pin(handle.kappa().feed(start))
        };
        Ok(database.port.start(slot, "changes", async move {
            let feed = opening.await?;
            port.keep(slot, Arc::new(Mutex::new(feed)));
            Ok(Text::new("null".to_owned()))
        }))
    })
}

/// The feed that the call `slot` opened.
#[napi]
pub fn followed(database: &External<Database>, slot: Slot) -> napi::Result<External<Changes>> {
    export("followed", || {
        let (port, handle) = (Arc::clone(&database.port), Arc::clone(&database.handle));
        Ok(External::new(Changes { feed: port.take(slot)?, port, handle }))
    })
}

/// The next changes, as soon as there are any.
#[napi]
pub fn next_changes(changes: &External<Changes>, slot: Slot) -> napi::Result<Option<String>> {
    export("nextChanges", || {
        let (feed, handle) = (Arc::clone(&changes.feed), Arc::clone(&changes.handle));
        Ok(changes.port.start(slot, "nextChanges", async move {
            loop {
                // Before looking, so that a change between the look and the wait is not missed.
                let committed = handle.kappa().committed();
                let looking = Arc::clone(&feed);
                let found = threads::read("nextChanges", move || those_there(&mut looking.lock())).await?;
                if !found.is_empty() {
                    return Text::of(&found);
                }
                committed.await?;
            }
        }))
    })
}

fn those_there(feed: &mut Feed) -> Result<Vec<Change>> {
    let mut found = Vec::new();
    while found.len() < MAX_CHANGES {
        match feed.next_now() {
            Ok(Some(change)) => found.push(change),
            Err(error) if found.is_empty() => return Err(error),
            // What was found comes first; an error is met again by the next call.
            Ok(None) | Err(_) => break,
        }
    }
    Ok(found)
}
