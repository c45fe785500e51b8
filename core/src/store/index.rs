//! Index entries: kept equal to the documents by every write.

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::operation::CollectionName;
use crate::partition::{Run, Transaction};

use super::catalog::{Catalog, Index, IndexState};
use super::document::Document;
use super::fields::{Field, Fields};
use super::keys::Place;
use super::{collection, get_all, keys, order_value};

/// A collection's name with what is declared about it.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// Its name.
    pub name: &'a CollectionName,
    /// What is declared.
    pub catalog: &'a Catalog,
}

/// A document as indexes see it.
#[derive(Clone, Copy)]
pub struct Member<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its place in creation order.
    pub place: &'a Place,
}

/// The encoded value that `index` has for a document; none when the field is missing.
pub fn value(index: &Index, id: &str, fields: Fields<'_>) -> Result<Option<Vec<u8>>> {
    // The stored text has the id even where the fields at hand were given without one.
    if index.field == "id" {
        return order_value::encode_field(&Field::String(id.into()), &index.field).map(Some);
    }
    fields.get(&index.field).map(|field| order_value::encode_field(&field, &index.field)).transpose()
}

/// Moves the entries of one document from what `old` says to what `new` says.
pub fn maintain(
    tx: &mut Transaction<'_>,
    scope: Scope<'_>,
    member: Member<'_>,
    old: Option<&Document>,
    new: Option<&Document>,
) -> Run<()> {
    let mut changes = Vec::new();
    for index in &scope.catalog.indexes {
        let new = match new {
            Some(new) => value(index, member.id, new.given_fields()?)?,
            None => None,
        };
        // What is stored may have come before the index; where it has no place in it, it has no entry.
        let old = match old {
            Some(old) => value(index, member.id, old.read_fields()?).ok().flatten(),
            None => None,
        };
        if old != new {
            changes.push((index, old, new));
        }
    }
    let claims = || changes.iter().filter(|(index, _, new)| index.unique && new.is_some());
    if claims().count() > 1 {
        let holders = claims().map(|(index, _, new)| {
            let value = new.as_deref().expect("claims have a value");
            keys::unique(scope.catalog.number, index.number, value)
        });
        get_all(tx, holders)?;
    }
    for (index, old, new) in changes {
        if let Some(old) = old {
            remove(tx, scope, index, &old, member)?;
        }
        if let Some(new) = new {
            add(tx, scope, index, &new, member)?;
        }
    }
    Ok(())
}

/// Adds one entry.
///
/// # Errors
/// `AlreadyExists` when a living document holds a unique value.
pub fn add(tx: &mut Transaction<'_>, scope: Scope<'_>, index: &Index, value: &[u8], member: Member<'_>) -> Run<()> {
    let collection = scope.catalog.number;
    if !index.unique {
        return tx.put(keys::index(collection, index.number, value, member.place, member.id), Bytes::new());
    }
    match holder(tx, scope, index, value, member.id)? {
        Holder::Itself => Ok(()),
        Holder::Nobody => {
            let key = keys::unique(collection, index.number, value);
            tx.put(key, Bytes::copy_from_slice(member.id.as_bytes()))
        }
        Holder::Other(holder) => Err(Error::new(ErrorKind::AlreadyExists, "another document has this value")
            .with("field", &index.field)
            .with("id", holder)
            .into()),
    }
}

/// Who has a value of a unique index.
pub enum Holder {
    /// It is free; an expired holder was removed.
    Nobody,
    /// The document that asks.
    Itself,
    /// Another one, by id.
    Other(String),
}

/// Who has `value`, asked for the document `id`.
pub fn holder(tx: &mut Transaction<'_>, scope: Scope<'_>, index: &Index, value: &[u8], id: &str) -> Run<Holder> {
    let Some(held) = tx.get(&keys::unique(scope.catalog.number, index.number, value))? else {
        return Ok(Holder::Nobody);
    };
    let held_by = std::str::from_utf8(&held.value).map_err(|_| super::damaged())?;
    if held_by == id {
        return Ok(Holder::Itself);
    }
    let other = collection::find(tx, scope.catalog.number, held_by)?;
    match other {
        Some(other) if !other.envelope.is_expired(tx.now()) => Ok(Holder::Other(held_by.to_owned())),
        Some(expired) => {
            collection::expire(tx, scope, held_by, &expired.envelope)?;
            Ok(Holder::Nobody)
        }
        None => Ok(Holder::Nobody),
    }
}

fn remove(tx: &mut Transaction<'_>, scope: Scope<'_>, index: &Index, value: &[u8], member: Member<'_>) -> Run<()> {
    let collection = scope.catalog.number;
    if !index.unique {
        return tx.delete(keys::index(collection, index.number, value, member.place, member.id));
    }
    let key = keys::unique(collection, index.number, value);
    if index.state == IndexState::Building {
        // The document may not have been added yet, and another one may hold the value.
        let held = tx.get(&key)?;
        if held.is_none_or(|held| held.value != member.id.as_bytes()) {
            return Ok(());
        }
    }
    tx.delete(key)
}
