//! A list being described, and its documents one after another.

use std::sync::Arc;

use serde_json::Value;

use crate::engine::{Direction, MAX_PAGE_ENTRIES};
use crate::error::{Error, Result};
use crate::executor::{CallOptions, Executor, Pending};
use crate::operation::{Answer, CollectionName, Entry, ListRequest, Operation, Order, Page};

use super::unexpected;

const DEFAULT_PAGE_SIZE: usize = 100;

/// Which documents of a collection, in which order.
#[derive(Clone, Debug)]
#[must_use = "a list is read by `page` or `iter`"]
pub struct List {
    executor: Arc<dyn Executor>,
    collection: CollectionName,
    index: Option<String>,
    equal: Option<Value>,
    from: Option<Value>,
    to: Option<Value>,
    direction: Direction,
    page_size: usize,
    limit: Option<usize>,
    after: Option<String>,
}

impl List {
    pub(super) fn new(executor: Arc<dyn Executor>, collection: CollectionName) -> Self {
        Self {
            executor,
            collection,
            index: None,
            equal: None,
            from: None,
            to: None,
            direction: Direction::Forward,
            page_size: DEFAULT_PAGE_SIZE,
            limit: None,
            after: None,
        }
    }

    /// In the order of this index, which leaves documents without its field out.
    pub fn by(mut self, index: &str) -> Self {
        self.index = Some(index.to_owned());
        self
    }

    /// Only documents with this value; needs an index, and goes without the other bounds.
    pub fn equal(mut self, value: impl Into<Value>) -> Self {
        self.equal = Some(value.into());
        self
    }

    /// From this value on, itself included; needs an index.
    pub fn from(mut self, value: impl Into<Value>) -> Self {
        self.from = Some(value.into());
        self
    }

    /// Up to this value, itself included; needs an index.
    pub fn to(mut self, value: impl Into<Value>) -> Self {
        self.to = Some(value.into());
        self
    }

    /// Last documents first.
    pub fn backward(mut self) -> Self {
        self.direction = Direction::Backward;
        self
    }

    /// How many documents one page holds at most, 1 to 1 000; 100 unless it is said.
    pub fn page_size(mut self, documents: usize) -> Self {
        self.page_size = documents;
        self
    }

    /// At most this many documents in all.
    pub fn limit(mut self, documents: usize) -> Self {
        self.limit = Some(documents);
        self
    }

    /// Behind the page that gave this cursor.
    pub fn after(mut self, cursor: impl Into<String>) -> Self {
        self.after = Some(cursor.into());
        self
    }

    /// One page.
    ///
    /// # Errors
    /// `InvalidInput` for a page size out of range, bounds without an index or that contradict each other, or a
    /// cursor of another list; `NotFound` for an index that does not exist; `IndexBuilding`.
    pub fn page(&self) -> Pending<Page> {
        let request = match self.request() {
            Ok(Some(request)) => request,
            Ok(None) => return Pending::ready(Ok(Page::default())),
            Err(error) => return Pending::ready(Err(error)),
        };
        self.executor.submit(Operation::List(request), CallOptions::default()).map(|answer| match answer {
            Answer::Page(page) => Ok(page),
            other => Err(unexpected(&other)),
        })
    }

    /// Every document, page by page; this thread waits for each page. A document that is there from the
    /// first page to the last comes exactly once.
    pub fn iter(&self) -> Entries {
        Entries { rest: Some(self.clone()), page: Vec::new().into_iter() }
    }

    /// What is left of this list behind `page`, which it gave; none when that was the last.
    pub fn behind(mut self, page: &Page) -> Option<Self> {
        if let Some(limit) = &mut self.limit {
            *limit -= page.entries.len().min(*limit);
        }
        self.after = Some(page.next.clone()?);
        Some(self)
    }

    fn request(&self) -> Result<Option<ListRequest>> {
        if self.page_size == 0 || self.page_size > MAX_PAGE_ENTRIES {
            return Err(Error::invalid("a page holds 1 to 1 000 documents").with("page_size", self.page_size));
        }
        if self.equal.is_some() && (self.from.is_some() || self.to.is_some()) {
            return Err(Error::invalid("one value or bounds, not both"));
        }
        let (from, to) = (self.equal.as_ref().or(self.from.as_ref()), self.equal.as_ref().or(self.to.as_ref()));
        let order = match &self.index {
            Some(index) => Order::Index { index: index.clone(), from: from.cloned(), to: to.cloned() },
            None if from.is_some() || to.is_some() => {
                return Err(Error::invalid("bounds need an index; name it with `by`"));
            }
            None => Order::Creation,
        };
        let limit = self.limit.map_or(self.page_size, |limit| limit.min(self.page_size));
        let (collection, direction, after) = (self.collection.clone(), self.direction, self.after.clone());
        Ok((limit > 0).then_some(ListRequest { collection, order, direction, limit, after }))
    }
}

impl IntoIterator for &List {
    type Item = Result<Entry>;
    type IntoIter = Entries;

    fn into_iter(self) -> Entries {
        self.iter()
    }
}

impl IntoIterator for List {
    type Item = Result<Entry>;
    type IntoIter = Entries;

    fn into_iter(self) -> Entries {
        self.iter()
    }
}

/// The documents of a list, one after another; ends behind the first error.
#[derive(Debug)]
pub struct Entries {
    /// None behind the last page.
    rest: Option<List>,
    page: std::vec::IntoIter<Entry>,
}

impl Iterator for Entries {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        loop {
            if let Some(entry) = self.page.next() {
                return Some(Ok(entry));
            }
            let list = self.rest.take()?;
            match list.page().wait() {
                Ok(page) => {
                    self.rest = list.behind(&page);
                    self.page = page.entries.into_iter();
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
