//! JSON text as Python objects, made directly while the text is read.

use std::borrow::Cow;

use kappa_core::{Error, ErrorKind};
use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyFloat, PyInt, PyList, PyString, PyType};

use crate::error::exception;

/// Deeper than any document that core takes; damaged text must not fill the stack.
const MAX_DEPTH: usize = 128;
/// Names of fields that are kept, a power of two.
const NAMES: usize = 512;
/// Longer names are made anew each time.
const LONGEST_NAME: usize = 64;

/// How the documents of a database are read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reader {
    /// Whether numbers with a fraction become `Decimal` with all digits instead of `float`.
    pub decimals: bool,
}

impl Reader {
    /// The object that `text` stands for: whole numbers of any length are exact, and floats are those that Python reads.
    pub fn read<'py>(self, py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
        let mut parser = Parser { py, text, at: 0, reader: self };
        let read = parser.value(0).and_then(|value| if parser.is_over() { Ok(value) } else { Err(parser.malformed()) });
        read.map_err(|reason| {
            let message = "the document cannot be read here; sys.set_int_max_str_digits may allow longer numbers";
            exception(&Error::new(ErrorKind::Unsupported, message).with("reason", reason))
        })
    }

    /// Imports what documents are made of before it is needed.
    pub fn import(py: Python<'_>) -> PyResult<()> {
        decimal(py).map(|_| ())
    }
}

struct Parser<'py, 'a> {
    py: Python<'py>,
    text: &'a str,
    at: usize,
    reader: Reader,
}

impl<'py, 'a> Parser<'py, 'a> {
    fn value(&mut self, depth: usize) -> PyResult<Bound<'py, PyAny>> {
        if depth > MAX_DEPTH {
            return Err(self.malformed());
        }
        match self.next_token() {
            Some(b'"') => Ok(self.string()?.into_any()),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", true.into_pyobject(self.py)?.to_owned().into_any()),
            Some(b'f') => self.word("false", false.into_pyobject(self.py)?.to_owned().into_any()),
            Some(b'n') => self.word("null", self.py.None().into_bound(self.py)),
            _ => Err(self.malformed()),
        }
    }

    fn object(&mut self, depth: usize) -> PyResult<Bound<'py, PyAny>> {
        let dict = PyDict::new(self.py);
        self.at += 1;
        if self.take(b'}') {
            return Ok(dict.into_any());
        }
        loop {
            if self.next_token() != Some(b'"') {
                return Err(self.malformed());
            }
            let name = self.name()?;
            if !self.take(b':') {
                return Err(self.malformed());
            }
            let value = self.value(depth + 1)?;
            dict.set_item(name, value)?;
            if self.take(b',') {
                continue;
            }
            return if self.take(b'}') { Ok(dict.into_any()) } else { Err(self.malformed()) };
        }
    }

    fn array(&mut self, depth: usize) -> PyResult<Bound<'py, PyAny>> {
        let list = PyList::empty(self.py);
        self.at += 1;
        if self.take(b']') {
            return Ok(list.into_any());
        }
        loop {
            let value = self.value(depth + 1)?;
            list.append(value)?;
            if self.take(b',') {
                continue;
            }
            return if self.take(b']') { Ok(list.into_any()) } else { Err(self.malformed()) };
        }
    }

    fn number(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let rest = &self.text[self.at..];
        let length = rest.bytes().take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
        let number = &rest[..length.count()];
        self.at += number.len();
        if number.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'-')) {
            return match number.parse::<i64>() {
                Ok(small) => Ok(small.into_pyobject(self.py)?.into_any()),
                // Python's own rules say how long a number may be.
                Err(_) => self.py.get_type::<PyInt>().call1((number,)),
            };
        }
        if self.reader.decimals {
            return decimal(self.py)?.call1((number,));
        }
        let float = number.parse::<f64>().map_err(|_| self.malformed())?;
        Ok(PyFloat::new(self.py, float).into_any())
    }

    fn string(&mut self) -> PyResult<Bound<'py, PyString>> {
        let text = self.unquoted()?;
        Ok(PyString::new(self.py, &text))
    }

    /// As a string; the same names come again and again, and one that is kept knows its place in a dict.
    fn name(&mut self) -> PyResult<Bound<'py, PyString>> {
        let py = self.py;
        let text = self.unquoted()?;
        if text.len() > LONGEST_NAME {
            return Ok(PyString::new(py, &text));
        }
        // Only ever locked by a thread that is attached to Python, so that a forked child finds it free.
        let mut kept = KEPT.lock();
        let kept = kept.get_or_insert_with(|| (0..NAMES).map(|_| None).collect());
        let place = &mut kept[place_of(text.as_bytes())];
        match place {
            Some((known, name)) if **known == *text => Ok(name.bind(py).clone()),
            _ => {
                let name = PyString::new(py, &text);
                // What was there is given back: at most so many names are kept.
                *place = Some((text.into(), name.clone().unbind()));
                Ok(name)
            }
        }
    }

    /// The content of the string whose quote is next.
    fn unquoted(&mut self) -> PyResult<Cow<'a, str>> {
        let start = self.at + 1;
        let mut end = start;
        loop {
            let found = memchr::memchr2(b'"', b'\\', &self.text.as_bytes()[end..]);
            end += found.ok_or_else(|| self.malformed())?;
            if self.text.as_bytes()[end] == b'"' {
                break;
            }
            // The escaped character may be a quote.
            end += 2;
            if end > self.text.len() {
                return Err(self.malformed());
            }
        }
        self.at = end + 1;
        let text = self.text;
        let inside = &text[start..end];
        if !inside.contains('\\') {
            return Ok(Cow::Borrowed(inside));
        }
        serde_json::from_str(&text[start - 1..=end]).map(Cow::Owned).map_err(|_| self.malformed())
    }

    fn word(&mut self, word: &str, meaning: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.malformed());
        }
        self.at += word.len();
        Ok(meaning)
    }

    /// The byte that begins what follows.
    fn next_token(&mut self) -> Option<u8> {
        while let Some(byte) = self.text.as_bytes().get(self.at) {
            if !byte.is_ascii_whitespace() {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    /// Whether `byte` was next; then it is behind.
    fn take(&mut self, byte: u8) -> bool {
        let found = self.next_token() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn is_over(&mut self) -> bool {
        self.next_token().is_none()
    }

    fn malformed(&self) -> PyErr {
        PyValueError::new_err(format!("no JSON value at byte {}", self.at))
    }
}

/// Names of fields, each in one place; whoever comes to it later takes it.
static KEPT: Mutex<Option<Vec<Option<Kept>>>> = Mutex::new(None);
type Kept = (Box<str>, Py<PyString>);

/// FNV-1a over a name.
fn place_of(name: &[u8]) -> usize {
    let hash = name.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    (hash ^ (hash >> 16)) as usize % NAMES
}

/// The class of numbers with all their digits.
pub fn decimal(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static DECIMAL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    DECIMAL.import(py, "decimal", "Decimal")
}
