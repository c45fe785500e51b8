//! The objects of a tape.

use kappa_core::{Error, ErrorKind};
use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyFloat, PyInt, PyList, PyString, PyType};

use super::tape::{Name, Node, Tape};
use crate::error::exception;

/// Names of fields that are kept, a power of two.
const NAMES: usize = 512;
/// So many dicts of one shape are worth a template.
const ENOUGH: u32 = 8;

/// How the documents of a database are read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reader {
    /// Whether numbers with a fraction become `Decimal` with all digits instead of `float`.
    pub decimals: bool,
}

impl Reader {
    /// The object that `text` stands for: whole numbers of any length are exact, and floats are those that Python reads.
    pub fn read<'py>(self, py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
        object(py, Tape::of(|tape| tape.json(text, self)))
    }

    /// Imports what documents are made of before it is needed.
    pub fn import(py: Python<'_>) -> PyResult<()> {
        decimal(py).map(|_| ())
    }
}

/// The object that `tape` holds.
pub fn object(py: Python<'_>, tape: Tape) -> PyResult<Bound<'_, PyAny>> {
    let templates = vec![None; tape.shapes().len()];
    let made = Maker { py, tape: &tape, rest: tape.nodes().iter(), names: names(py, &tape), templates }.value();
    tape.recycle();
    made.map_err(|reason| {
        let message = "the document cannot be read here; sys.set_int_max_str_digits may allow longer numbers";
        exception(&Error::new(ErrorKind::Unsupported, message).with("reason", reason))
    })
}

struct Maker<'py, 'a> {
    py: Python<'py>,
    tape: &'a Tape,
    rest: std::slice::Iter<'a, Node>,
    names: Vec<Bound<'py, PyString>>,
    /// A dict of each shape that pays, without its values.
    templates: Vec<Option<Bound<'py, PyDict>>>,
}

impl<'py> Maker<'py, '_> {
    fn value(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        match *self.next() {
            Node::Null => Ok(py.None().into_bound(py)),
            Node::Flag(flag) => Ok(flag.into_pyobject(py)?.to_owned().into_any()),
            Node::Int(number) => Ok(number.into_pyobject(py)?.into_any()),
            Node::Float(number) => Ok(PyFloat::new(py, number).into_any()),
            // Python's own rules say how long a number may be.
            Node::Digits(digits) => py.get_type::<PyInt>().call1((self.tape.text_at(digits),)),
            Node::Decimal(digits) => decimal(py)?.call1((self.tape.text_at(digits),)),
            Node::Text(text) => Ok(PyString::new(py, self.tape.text_at(text)).into_any()),
            Node::Name(name) => Ok(self.names[name as usize].clone().into_any()),
            Node::List(length) => {
                let mut items = Vec::with_capacity(length as usize);
                for _ in 0..length {
                    items.push(self.value()?);
                }
                Ok(PyList::new(py, items)?.into_any())
            }
            Node::Dict(length, shape) => self.dict(length, shape),
            Node::Malformed(at) => Err(PyValueError::new_err(format!("no JSON value at byte {at}"))),
        }
    }

    fn dict(&mut self, length: u32, shape: u32) -> PyResult<Bound<'py, PyAny>> {
        let dict = self.empty(shape)?;
        for _ in 0..length {
            match *self.next() {
                Node::Name(name) => {
                    let value = self.value()?;
                    dict.set_item(&self.names[name as usize], value)?;
                }
                Node::Text(name) => {
                    let name = PyString::new(self.py, self.tape.text_at(name));
                    dict.set_item(name, self.value()?)?;
                }
                _ => unreachable!("a pair begins with a name"),
            }
        }
        Ok(dict.into_any())
    }

    /// A dict for pairs of this shape, each of which is set: of one that many share it is a copy, whose table of names
    /// is made at once instead of growing with them.
    fn empty(&mut self, shape: u32) -> PyResult<Bound<'py, PyDict>> {
        let known = self.tape.shapes().get(shape as usize).filter(|shape| shape.dicts >= ENOUGH);
        if known.is_none() {
            return Ok(PyDict::new(self.py));
        }
        if self.templates[shape as usize].is_none() {
            let template = self.template(shape)?;
            self.templates[shape as usize] = Some(template);
        }
        self.templates[shape as usize].as_ref().expect("it was made if it was not there").copy()
    }

    fn template(&self, mut shape: u32) -> PyResult<Bound<'py, PyDict>> {
        let mut names = Vec::new();
        while shape > 0 {
            let last = self.tape.shapes()[shape as usize];
            names.push(&self.names[last.name as usize]);
            shape = last.before;
        }
        let template = PyDict::new(self.py);
        for name in names.into_iter().rev() {
            template.set_item(name, self.py.None())?;
        }
        Ok(template)
    }

    fn next(&mut self) -> &Node {
        self.rest.next().expect("a tape says how many values follow")
    }
}

/// Names of fields, each in one place; whoever comes to it later takes it.
static KEPT: Mutex<Option<Vec<Option<Kept>>>> = Mutex::new(None);
type Kept = (Box<str>, Py<PyString>);

/// The names of a tape as strings; the same come again and again, and one that is kept knows its place in a dict.
fn names<'py>(py: Python<'py>, tape: &Tape) -> Vec<Bound<'py, PyString>> {
    // Only ever locked by a thread that is attached to Python, so that a forked child finds it free.
    let mut kept = KEPT.lock();
    let kept = kept.get_or_insert_with(|| (0..NAMES).map(|_| None).collect());
    let name = |name: &Name| {
        let text = tape.text_at(name.text);
        let place = &mut kept[name.hash as usize % NAMES];
        match place {
            Some((known, name)) if **known == *text => name.bind(py).clone(),
            _ => {
                let made = PyString::new(py, text);
                // What was there is given back: at most so many names are kept.
                *place = Some((text.into(), made.clone().unbind()));
                made
            }
        }
    };
    tape.names().iter().map(name).collect()
}

/// The class of numbers with all their digits.
pub fn decimal(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static DECIMAL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    DECIMAL.import(py, "decimal", "Decimal")
}
