//! Python objects as JSON text: every digit kept, anything without a clear meaning refused by name.

use kappa_core::{Document, Error, IntoDocument, Result};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple, PyType};
use serde_json::Value;

use crate::document::Reader;
use crate::document::reader::decimal;
use crate::error::refused;

/// An object that holds itself must end somewhere; core's own, smaller limit has the last word.
const MAX_DEPTH: usize = 100;
/// Writing stops here: what is longer than a document may be is refused by core, however much more there was.
const ENOUGH_BYTES: usize = 2 << 20;

/// JSON text of an object, checked when it becomes a document.
#[derive(Clone, Debug)]
pub struct Text(Vec<u8>);

impl IntoDocument for Text {
    fn into_document(self) -> Result<Document> {
        Document::parse(self.0)
    }
}

/// The text of what stands for a document: a dict, a dataclass or a model.
pub fn document(object: &Bound<'_, PyAny>, reader: Reader) -> Result<Text> {
    let mut writer = Writer { text: Vec::with_capacity(128), reader };
    if object.is_instance_of::<PyDict>() || stands_for_a_dict(object)? {
        writer.write(object, 0).map_err(Refused::into_error)?;
        return Ok(Text(writer.text));
    }
    Err(Error::invalid("a document is a dict, a dataclass or a model").with("got", type_name(object)))
}

/// Any JSON value, such as a bound of a list.
pub fn value(object: &Bound<'_, PyAny>, reader: Reader) -> Result<Value> {
    let mut writer = Writer { text: Vec::new(), reader };
    writer.write(object, 0).map_err(Refused::into_error)?;
    serde_json::from_slice(&writer.text).map_err(|error| Error::invalid("not a JSON value").caused_by(error))
}

/// The JSON text of any object that has one.
pub fn text_of(object: &Bound<'_, PyAny>, reader: Reader) -> Result<Vec<u8>> {
    let mut writer = Writer { text: Vec::with_capacity(128), reader };
    writer.write(object, 0).map_err(Refused::into_error)?;
    Ok(writer.text)
}

/// Why an object has no JSON text, and where in the document it lies.
struct Refused {
    error: Error,
    /// From the inside out.
    path: Vec<String>,
}

impl Refused {
    fn inside(mut self, step: String) -> Self {
        self.path.push(step);
        self
    }

    fn into_error(self) -> Error {
        if self.path.is_empty() {
            return self.error;
        }
        let path: Vec<String> = self.path.into_iter().rev().collect();
        self.error.with("at", path.join("."))
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, path: Vec::new() }
    }
}

struct Writer {
    text: Vec<u8>,
    reader: Reader,
}

impl Writer {
    fn write(&mut self, object: &Bound<'_, PyAny>, depth: usize) -> Result<(), Refused> {
        if depth > MAX_DEPTH {
            return Err(Error::invalid("the document is nested too deep, or holds itself")
                .with("limit", MAX_DEPTH)
                .into());
        }
        if self.text.len() > ENOUGH_BYTES {
            return Ok(());
        }
        if let Ok(text) = object.cast::<PyString>() {
            return Ok(self.write_text(text)?);
        }
        if let Ok(dict) = object.cast::<PyDict>() {
            return self.write_dict(dict, depth);
        }
        // A bool is an int too, so it comes first.
        if let Ok(flag) = object.cast::<PyBool>() {
            self.text.extend_from_slice(if flag.is_true() { b"true" } else { b"false" });
            return Ok(());
        }
        if let Ok(int) = object.cast::<PyInt>() {
            return Ok(self.write_int(int)?);
        }
        if let Ok(float) = object.cast::<PyFloat>() {
            return Ok(self.write_float(float.value())?);
        }
        if object.is_none() {
            self.text.extend_from_slice(b"null");
            return Ok(());
        }
        if let Ok(list) = object.cast::<PyList>() {
            return self.write_items(list.iter(), depth);
        }
        if let Ok(tuple) = object.cast::<PyTuple>() {
            return self.write_items(tuple.iter(), depth);
        }
        self.write_other(object, depth)
    }

    fn write_text(&mut self, text: &Bound<'_, PyString>) -> Result<()> {
        let text = text.to_str().map_err(|error| refused("a text is not Unicode", &error))?;
        serde_json::to_writer(&mut self.text, text).expect("a text can be written to memory");
        Ok(())
    }

    fn write_dict(&mut self, dict: &Bound<'_, PyDict>, depth: usize) -> Result<(), Refused> {
        self.text.push(b'{');
        let mut comma = false;
        for (name, value) in dict {
            let Ok(name) = name.cast::<PyString>() else {
                return Err(Error::invalid("a field name is a str").with("got", type_name(&name)).into());
            };
            if std::mem::replace(&mut comma, true) {
                self.text.push(b',');
            }
            self.write_text(name)?;
            self.text.push(b':');
            self.write(&value, depth + 1).map_err(|refused| refused.inside(name.to_string()))?;
        }
        self.text.push(b'}');
        Ok(())
    }

    fn write_items<'py>(
        &mut self,
        items: impl Iterator<Item = Bound<'py, PyAny>>,
        depth: usize,
    ) -> Result<(), Refused> {
        self.text.push(b'[');
        for (position, item) in items.enumerate() {
            if position > 0 {
                self.text.push(b',');
            }
            self.write(&item, depth + 1).map_err(|refused| refused.inside(position.to_string()))?;
        }
        self.text.push(b']');
        Ok(())
    }

    fn write_int(&mut self, int: &Bound<'_, PyInt>) -> Result<()> {
        if let Ok(small) = int.extract::<i64>() {
            serde_json::to_writer(&mut self.text, &small).expect("a number can be written to memory");
            return Ok(());
        }
        // A subclass may print itself in another way than the int it is.
        let exact = int.py().get_type::<PyInt>().call1((int,)).and_then(|int| int.str());
        let digits = exact.map_err(|error| refused("a number has too many digits", &error))?;
        self.text.extend_from_slice(digits.to_string_lossy().as_bytes());
        Ok(())
    }

    fn write_float(&mut self, number: f64) -> Result<()> {
        if !number.is_finite() {
            return Err(Error::invalid("a number is finite; JSON has no NaN and no infinity").with("got", number));
        }
        serde_json::to_writer(&mut self.text, &number).expect("a number can be written to memory");
        Ok(())
    }

    /// What is no JSON by itself but says what it means.
    fn write_other(&mut self, object: &Bound<'_, PyAny>, depth: usize) -> Result<(), Refused> {
        let py = object.py();
        if stands_for_a_dict(object)? {
            let fields = fields(object).map_err(|error| refused("the fields of a model cannot be read", &error))?;
            return self.write(&fields, depth + 1);
        }
        if is_a(object, decimal(py))? {
            return Ok(self.write_decimal(object)?);
        }
        if is_a(object, datetime(py))? {
            return Ok(self.write_moment(object)?);
        }
        Err(Error::invalid("the type has no meaning in a document").with("got", type_name(object)).into())
    }

    /// Only where it also comes back as one: what is written with all digits must not be read with fewer.
    fn write_decimal(&mut self, decimal: &Bound<'_, PyAny>) -> Result<()> {
        let unreadable = |error: PyErr| refused("a decimal cannot be read", &error);
        if !self.reader.decimals {
            return Err(Error::invalid("a Decimal would come back as a float; open the database with decimals=True"));
        }
        let finite = decimal.call_method0("is_finite").and_then(|finite| finite.is_truthy()).map_err(unreadable)?;
        let text = decimal.str().map_err(unreadable)?;
        if !finite {
            return Err(Error::invalid("a number is finite; JSON has no NaN and no infinity").with("got", text));
        }
        self.text.extend_from_slice(text.to_string_lossy().as_bytes());
        Ok(())
    }

    fn write_moment(&mut self, moment: &Bound<'_, PyAny>) -> Result<()> {
        let unreadable = |error: PyErr| refused("a datetime cannot be read", &error);
        if moment.call_method0("utcoffset").map_err(unreadable)?.is_none() {
            return Err(Error::invalid("a datetime needs a time zone; without one it is another moment elsewhere"));
        }
        let text = moment.call_method0("isoformat").map_err(unreadable)?;
        self.write_text(text.cast::<PyString>().map_err(|error| unreadable(error.into()))?)
    }
}

/// Whether the object is a dataclass or a model of pydantic's kind; a class of either is not one yet.
fn stands_for_a_dict(object: &Bound<'_, PyAny>) -> Result<bool> {
    let has = |name| object.hasattr(name).map_err(|error| refused("the object cannot be read", &error));
    Ok(!object.is_instance_of::<PyType>() && (has("__dataclass_fields__")? || has("model_dump")?))
}

/// The fields of a model or a dataclass by name; those inside are met when their turn comes.
fn fields<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if object.hasattr("model_dump")? {
        return object.call_method0("model_dump");
    }
    let fields = PyDict::new(object.py());
    let names = object.py().import("dataclasses")?.getattr("fields")?.call1((object,))?;
    for field in names.try_iter()? {
        let name = field?.getattr("name")?;
        let value = object.getattr(name.cast::<PyString>()?)?;
        fields.set_item(name, value)?;
    }
    Ok(fields.into_any())
}

fn datetime(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static DATETIME: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    DATETIME.import(py, "datetime", "datetime")
}

fn is_a(object: &Bound<'_, PyAny>, kind: PyResult<&Bound<'_, PyType>>) -> Result<bool> {
    kind.and_then(|kind| object.is_instance(kind)).map_err(|error| refused("the object cannot be read", &error))
}

/// The name of the object's type, for messages.
pub fn type_name(object: &Bound<'_, PyAny>) -> String {
    object.get_type().name().map_or_else(|_| "an object".to_owned(), |name| name.to_string())
}
