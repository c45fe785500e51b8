//! One page of a list: in creation order or by an index, from either end.

use crate::engine::{Direction, KeyRange, KeyValue, MAX_PAGE_BYTES, MAX_PAGE_ENTRIES, after_prefix};
use crate::error::{Error, ErrorKind, Result};
use crate::operation::{Answer, Entry, ListRequest, Order, Page};
use crate::partition::{Run, Transaction};

use super::catalog::{self, Catalog, Index, IndexState};
use super::collection::Found;
use super::{cursor, damaged, get_all, key_behind, keys, order_value};

/// A page looks at this many entries at most, expired ones included, before it ends.
const MAX_LOOKED_AT: usize = 4 * MAX_PAGE_ENTRIES;
/// The first read fetches this many documents; their size says how many the next one may.
const FIRST_READ: usize = 16;

/// Which keys a list walks, and how an id is found in one.
struct Walk {
    prefix_len: usize,
    range: KeyRange,
    kind: Kind,
    /// What makes this list another one than others, for its cursors.
    query: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Kind {
    Creation,
    Index,
    Unique,
}

/// Answers one page.
pub fn page(tx: &mut Transaction<'_>, request: &ListRequest) -> Run<Answer> {
    if request.limit == 0 || request.limit > MAX_PAGE_ENTRIES {
        let error = Error::invalid("a page holds 1 to 1 000 documents").with("limit", request.limit);
        return Err(error.into());
    }
    let Some(catalog) = catalog::load(tx, request.collection.as_str())? else { return no_documents(request) };
    let walk = walk(&catalog, request)?;
    let mut rest = walk.range.clone();
    if let Some(after) = &request.after {
        let position = cursor::decode(&walk.query, after)?;
        let mut key = walk.range.start[..walk.prefix_len].to_vec();
        key.extend_from_slice(&position);
        advance(&mut rest, request.direction, &key);
    }
    let mut gathered = Gathered::default();
    while !rest.is_empty() {
        let wanted = (gathered.wanted(request.limit) + 1).min(MAX_PAGE_ENTRIES);
        let found = tx.scan(&rest, request.direction, wanted)?;
        let all = found.len() < wanted;
        let used = gather(tx, &catalog, &walk, &found, request.limit, &mut gathered)?;
        if let Some(last) = used.checked_sub(1) {
            advance(&mut rest, request.direction, &found[last].key);
            gathered.last = found[last].key[walk.prefix_len..].to_vec();
        }
        if used < found.len() || (!all && gathered.is_full(request.limit)) {
            // A page of the greatest length has not looked behind itself yet.
            let more = used < found.len() || !tx.scan(&rest, request.direction, 1)?.is_empty();
            let next = more.then(|| cursor::encode(&walk.query, &gathered.last));
            return Ok(Answer::Page(Page { entries: gathered.entries, next }));
        }
        if all {
            break;
        }
    }
    Ok(Answer::Page(Page { entries: gathered.entries, next: None }))
}

#[derive(Default)]
struct Gathered {
    entries: Vec<Entry>,
    bytes: usize,
    looked_at: usize,
    last: Vec<u8>,
}

impl Gathered {
    fn is_full(&self, limit: usize) -> bool {
        self.entries.len() >= limit || self.bytes >= MAX_PAGE_BYTES || self.looked_at >= MAX_LOOKED_AT
    }

    /// How many more entries to look at; where many have ended, more at a time with each try.
    fn wanted(&self, limit: usize) -> usize {
        let expired = self.looked_at - self.entries.len();
        (limit - self.entries.len()).max(expired)
    }

    /// How many documents may be read at once without holding much more than a page.
    fn read(&self) -> usize {
        if self.looked_at == 0 {
            return FIRST_READ;
        }
        let average = (self.bytes / self.looked_at).max(1);
        (MAX_PAGE_BYTES.saturating_sub(self.bytes) / average).clamp(1, 256)
    }
}

/// Adds the documents behind `found` until the page is full; answers how many entries it used.
fn gather(
    tx: &mut Transaction<'_>,
    catalog: &Catalog,
    walk: &Walk,
    found: &[KeyValue],
    limit: usize,
    gathered: &mut Gathered,
) -> Run<usize> {
    let mut used = 0;
    while used < found.len() && !gathered.is_full(limit) {
        let end = (used + gathered.read().min(gathered.wanted(limit))).min(found.len());
        let ids = found[used..end].iter().map(|entry| walk.id(entry)).collect::<Result<Vec<_>>>()?;
        let stored = get_all(tx, ids.iter().map(|id| keys::document(catalog.number, id)))?;
        for (id, stored) in ids.into_iter().zip(stored) {
            if gathered.is_full(limit) {
                break;
            }
            let living = stored.map(Found::decode).transpose()?;
            if let Some(living) = living.filter(|found| !found.envelope.is_expired(tx.now())) {
                let bytes = living.envelope.document.len();
                if !gathered.entries.is_empty() && gathered.bytes + bytes > MAX_PAGE_BYTES {
                    gathered.bytes = MAX_PAGE_BYTES;
                    return Ok(used);
                }
                gathered.bytes += bytes;
                gathered.entries.push(living.into_entry(id));
            }
            gathered.looked_at += 1;
            used += 1;
        }
    }
    Ok(used)
}

impl Walk {
    fn id<'a>(&self, entry: &'a KeyValue) -> Result<&'a str> {
        let rest = &entry.key[self.prefix_len..];
        let id = match self.kind {
            Kind::Creation => keys::id_in_order(rest),
            Kind::Index => keys::id_in_index(rest),
            Kind::Unique => std::str::from_utf8(&entry.value).ok(),
        };
        id.ok_or_else(damaged)
    }
}

fn walk(catalog: &Catalog, request: &ListRequest) -> Result<Walk> {
    let mut query = vec![u8::from(request.direction == Direction::Backward)];
    query.extend_from_slice(&catalog.number.to_be_bytes());
    let Order::Index { index, from, to } = &request.order else {
        let prefix = keys::orders(catalog.number);
        return Ok(Walk { prefix_len: prefix.len(), range: KeyRange::prefix(&prefix), kind: Kind::Creation, query });
    };
    let index = catalog.index(index)?;
    if index.state == IndexState::Building {
        let error = Error::new(ErrorKind::IndexBuilding, "the index is being built; retry later");
        return Err(error.with("index", &index.name));
    }
    let encode = |value| order_value::encode(value, &index.field);
    let (from, to) = (from.as_ref().map(encode).transpose()?, to.as_ref().map(encode).transpose()?);
    query.extend_from_slice(&index.number.to_be_bytes());
    for bound in [&from, &to] {
        query.push(u8::from(bound.is_some()));
        query.extend_from_slice(bound.as_deref().unwrap_or_default());
    }
    let (prefix, kind) = index_prefix(catalog, index);
    let bound = |value: &[u8]| [&prefix[..], value].concat();
    let mut range = KeyRange::prefix(&prefix);
    if let Some(from) = from {
        range.start = bound(&from).into();
    }
    if let Some(to) = to {
        range.end = after_prefix(&bound(&to));
    }
    Ok(Walk { prefix_len: prefix.len(), range, kind, query })
}

fn index_prefix(catalog: &Catalog, index: &Index) -> (bytes::Bytes, Kind) {
    if index.unique {
        (keys::uniques(catalog.number, index.number), Kind::Unique)
    } else {
        (keys::indexes(catalog.number, index.number), Kind::Index)
    }
}

/// Leaves what lies behind `key`; a key before the range leaves all of it, one behind it nothing.
fn advance(rest: &mut KeyRange, direction: Direction, key: &[u8]) {
    match direction {
        Direction::Forward => rest.start = rest.start.clone().max(key_behind(key)),
        Direction::Backward => {
            let end = bytes::Bytes::copy_from_slice(key);
            rest.end = Some(rest.end.clone().map_or(end.clone(), |before| before.min(end)));
        }
    }
}

fn no_documents(request: &ListRequest) -> Run<Answer> {
    match &request.order {
        Order::Creation if request.after.is_none() => Ok(Answer::Page(Page::default())),
        Order::Creation => Err(Error::invalid("the cursor belongs to another list").into()),
        Order::Index { index, .. } => Err(Error::new(ErrorKind::NotFound, "no such index").with("index", index).into()),
    }
}
