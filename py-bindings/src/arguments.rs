//! What callers give besides documents, checked with the name of the argument in the message.

use std::time::Duration;

use kappa_core::{Error, IndexDefinition, Result, Version, WriteOptions, parse_duration};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDelta, PyDict, PyInt, PyIterator, PyString};

use crate::document::type_name;
use crate::error::refused;

/// An argument that may be left out.
pub type Maybe<'a, 'py> = Option<&'a Bound<'py, PyAny>>;

/// Texts in one piece: cut outside the interpreter's lock.
#[derive(Debug, Default)]
pub struct Texts {
    joined: String,
    ends: Vec<usize>,
}

impl Texts {
    /// Several texts, such as the ids of documents.
    pub fn of(name: &'static str, objects: &Bound<'_, PyAny>) -> Result<Self> {
        let mut texts = Self::default();
        for object in iterate(name, objects)? {
            let object = object.map_err(|_| not_a_list(name, objects))?;
            texts.joined.push_str(str_of(name, &object)?);
            texts.ends.push(texts.joined.len());
        }
        Ok(texts)
    }

    /// How many they are.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// Each by itself.
    pub fn cut(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.joined[start..*end])
    }
}

/// A text.
pub fn text(name: &'static str, object: &Bound<'_, PyAny>) -> Result<String> {
    str_of(name, object).map(str::to_owned)
}

fn str_of<'a>(name: &'static str, object: &'a Bound<'_, PyAny>) -> Result<&'a str> {
    let wrong = || Error::invalid("this argument is a str").with("argument", name).with("got", type_name(object));
    let text = object.cast::<PyString>().map_err(|_| wrong())?;
    text.to_str().map_err(|error| refused("this argument is not Unicode", &error).with("argument", name))
}

/// A text, where it is given.
pub fn maybe_text(name: &'static str, object: Maybe<'_, '_>) -> Result<Option<String>> {
    object.map(|object| text(name, object)).transpose()
}

/// A whole number that fits.
pub fn number<'py, T: FromPyObject<'py, 'py> + Clone>(name: &'static str, object: &'py Bound<'py, PyAny>) -> Result<T> {
    let whole = object.is_instance_of::<PyInt>() && !object.is_instance_of::<PyBool>();
    let wrong = |message| Error::invalid(message).with("argument", name);
    if !whole {
        return Err(wrong("this argument is an int").with("got", type_name(object)));
    }
    object.extract::<T>().map_err(|_| wrong("this argument is out of range"))
}

/// A flag.
pub fn flag(name: &'static str, object: &Bound<'_, PyAny>) -> Result<bool> {
    let wrong = || Error::invalid("this argument is a bool").with("argument", name).with("got", type_name(object));
    Ok(object.cast::<PyBool>().map_err(|_| wrong())?.is_true())
}

/// A time in seconds, a `timedelta`, or a text such as `5s`.
pub fn duration(name: &'static str, object: &Bound<'_, PyAny>) -> Result<Duration> {
    let wrong = |message| Error::invalid(message).with("argument", name).with("got", type_name(object));
    if object.is_instance_of::<PyDelta>() {
        return object.extract().map_err(|_| wrong("a time is not negative"));
    }
    if object.is_instance_of::<PyString>() {
        return parse_duration(&text(name, object)?).map_err(|error| error.with("argument", name));
    }
    if object.is_instance_of::<PyBool>() {
        return Err(wrong("a time is a number of seconds, a timedelta, or a text such as 5s"));
    }
    let seconds: f64 =
        object.extract().map_err(|_| wrong("a time is a number of seconds, a timedelta, or a text such as 5s"))?;
    Duration::try_from_secs_f64(seconds)
        .map_err(|error| wrong("a time is not negative and not endless").caused_by(error))
}

/// A version, as entries and changes show it.
pub fn version(object: &Bound<'_, PyAny>) -> Result<Version> {
    text("if_version", object)?.parse()
}

/// The options of a write.
pub fn write_options(
    ttl: Maybe<'_, '_>,
    if_version: Maybe<'_, '_>,
    idempotency_key: Maybe<'_, '_>,
) -> Result<WriteOptions> {
    Ok(WriteOptions {
        ttl: ttl.map(|ttl| duration("ttl", ttl)).transpose()?,
        if_version: if_version.map(version).transpose()?,
        idempotency_key: maybe_text("idempotency_key", idempotency_key)?,
        ..WriteOptions::default()
    })
}

/// Several objects, such as the ids of documents; a str is none, though it could be iterated.
pub fn many<'py>(name: &'static str, objects: &Bound<'py, PyAny>) -> Result<Vec<Bound<'py, PyAny>>> {
    iterate(name, objects)?.collect::<PyResult<_>>().map_err(|_| not_a_list(name, objects))
}

fn iterate<'py>(name: &'static str, objects: &Bound<'py, PyAny>) -> Result<Bound<'py, PyIterator>> {
    if objects.is_instance_of::<PyString>() || objects.is_instance_of::<PyDict>() {
        return Err(not_a_list(name, objects));
    }
    objects.try_iter().map_err(|_| not_a_list(name, objects))
}

fn not_a_list(name: &'static str, objects: &Bound<'_, PyAny>) -> Error {
    Error::invalid("this argument is a list").with("argument", name).with("got", type_name(objects))
}

/// Indexes, each the name of a field or a dict with field, name and unique.
pub fn indexes(objects: Maybe<'_, '_>) -> Result<Vec<IndexDefinition>> {
    let Some(objects) = objects else { return Ok(Vec::new()) };
    many("indexes", objects)?.iter().map(index).collect()
}

fn index(object: &Bound<'_, PyAny>) -> Result<IndexDefinition> {
    if object.is_instance_of::<PyString>() {
        return Ok(IndexDefinition::by(text("indexes", object)?));
    }
    let value = crate::document::value(object, crate::document::Reader::default())?;
    serde_json::from_value(value).map_err(|error| {
        Error::invalid("an index is the name of a field, or a dict with field, name and unique").caused_by(error)
    })
}
