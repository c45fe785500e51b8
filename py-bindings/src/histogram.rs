//! Histograms of random numbers, and what the machine is.

use std::ffi::{CStr, c_int, c_void};
use std::ops::RangeInclusive;

use kappa_core::random::{Control, DEFAULT_COUNT, Histogram, HistogramRequest, histogram as run, parallelism};
use kappa_core::{Error, Pending, Result};
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::arguments::{Maybe, number, text};
use crate::call::Call;
use crate::document::{Reader, type_name};
use crate::guard::guard;
use crate::kappa::export;
use crate::origin::Origin;
use crate::threads::long;

/// How the buffer's items are described: native unsigned 64-bit integers.
const FORMAT: &CStr = c"Q";

/// Counts how often each value of a range comes up among uniform random draws.
#[pyfunction]
#[pyo3(signature = (count, range, seed, method, threads))]
pub fn histogram(
    count: Maybe<'_, '_>,
    range: Maybe<'_, '_>,
    seed: Maybe<'_, '_>,
    method: &Bound<'_, PyAny>,
    threads: Maybe<'_, '_>,
) -> PyResult<Call> {
    export("histogram", || {
        let mut request = HistogramRequest::new().method(text("method", method)?.parse()?);
        request = request.count(count.map_or(Ok(DEFAULT_COUNT), |count| number("count", count))?);
        if let Some(range) = range {
            request = request.range(values(range)?);
        }
        if let Some(seed) = seed {
            request = request.seed(number("seed", seed)?);
        }
        // One processor is left to whoever answers requests meanwhile.
        let most = || parallelism().saturating_sub(1).max(1);
        request = request.threads(threads.map_or_else(|| Ok(most()), |threads| number("threads", threads))?);
        Ok(Call::new(&Origin::default(), move |_| running(request)))
    })
}

/// The run on a thread of its own; whoever stops waiting stops it.
fn running(request: HistogramRequest) -> Pending<Histogram> {
    let control = Control::new();
    let request = request.control(&control);
    let answer = long("histogram", move || run(&request));
    Pending::new(async move {
        let cancelling = control.cancel_on_drop();
        let answer = answer.await;
        cancelling.disarm();
        answer
    })
}

fn values(range: &Bound<'_, PyAny>) -> Result<RangeInclusive<i64>> {
    let wrong = || Error::invalid("a range is a tuple of its first and its last value").with("got", type_name(range));
    let range = range.cast::<PyTuple>().map_err(|_| wrong())?;
    let (Ok(first), Ok(last), 2) = (range.get_item(0), range.get_item(1), range.len()) else { return Err(wrong()) };
    Ok(number("range", &first)?..=number("range", &last)?)
}

/// How often each value of a range came up.
#[pyclass(frozen, name = "Histogram", module = "kappa_core._kappa_core")]
pub struct PyHistogram(Histogram);

impl PyHistogram {
    pub fn new(histogram: Histogram) -> Self {
        Self(histogram)
    }
}

#[pymethods]
impl PyHistogram {
    /// The number of draws, which is the sum of the counts.
    #[getter]
    fn count(&self) -> PyResult<u64> {
        guard("Histogram.count", || Ok(self.0.count()))
    }

    /// The first and the last value that could come up.
    #[getter]
    fn range(&self) -> PyResult<(i64, i64)> {
        guard("Histogram.range", || Ok(self.0.range().into_inner()))
    }

    /// The seed that gives this answer again.
    #[getter]
    fn seed(&self) -> PyResult<u64> {
        guard("Histogram.seed", || Ok(self.0.seed()))
    }

    /// How the counts came about: `draw` or `multinomial`.
    #[getter]
    fn method(&self) -> PyResult<&'static str> {
        guard("Histogram.method", || Ok(self.0.method().name()))
    }

    /// How long the run took, in milliseconds.
    #[getter]
    fn elapsed_ms(&self) -> PyResult<u64> {
        guard("Histogram.elapsed_ms", || Ok(self.0.elapsed_ms()))
    }

    /// The counts in the order of the values, as a new list; a memoryview of the histogram copies nothing.
    #[getter]
    fn counts(&self) -> PyResult<Vec<u64>> {
        guard("Histogram.counts", || Ok(self.0.counts().to_vec()))
    }

    /// The count of a value, or None when it lies outside the range.
    fn get(&self, value: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
        export("Histogram.get", || Ok(self.0.get(number("value", value)?)))
    }

    /// A picture of the counts as one SVG document.
    #[pyo3(signature = (*, width = 1000, height = 400))]
    fn to_svg(&self, py: Python<'_>, width: u32, height: u32) -> PyResult<String> {
        guard("Histogram.to_svg", || Ok(py.detach(|| self.0.to_svg(width, height))))
    }

    /// What notebooks show.
    fn _repr_svg_(&self, py: Python<'_>) -> PyResult<String> {
        guard("Histogram._repr_svg_", || Ok(py.detach(|| self.0.to_svg(1000, 400))))
    }

    /// How many values the range holds.
    fn __len__(&self) -> PyResult<usize> {
        guard("Histogram.__len__", || Ok(self.0.counts().len()))
    }

    fn __repr__(&self) -> PyResult<String> {
        guard("Histogram.__repr__", || {
            let (range, method) = (self.0.range(), self.0.method());
            let (first, last) = (range.start(), range.end());
            Ok(format!(
                "<Histogram of {} draws from {first} to {last}, {method}, seed {}>",
                self.0.count(),
                self.0.seed()
            ))
        })
    }

    /// The counts themselves, for memoryview and numpy; they never change.
    #[expect(unsafe_code, reason = "the buffer protocol hands out a pointer")]
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        guard("Histogram.__getbuffer__", || {
            if view.is_null() || flags & ffi::PyBUF_WRITABLE == ffi::PyBUF_WRITABLE {
                return Err(PyBufferError::new_err("the counts of a histogram are read-only"));
            }
            let counts = slf.get().0.counts();
            let (bytes, items) = (size_of_val(counts), counts.len());
            let has = |flag: c_int| flags & flag == flag;
            let format = if has(ffi::PyBUF_FORMAT) { FORMAT.as_ptr().cast_mut() } else { std::ptr::null_mut() };
            let shape = Box::into_raw(Box::new([items.cast_signed(), size_of::<u64>().cast_signed()])).cast::<isize>();
            // SAFETY: Python gives a view that may be written, and keeps the histogram, whose counts never move, alive
            // through `obj`. Shape and stride are one allocation, which `__releasebuffer__` frees.
            unsafe {
                (*view).buf = counts.as_ptr().cast_mut().cast::<c_void>();
                (*view).len = bytes.cast_signed();
                (*view).readonly = 1;
                (*view).itemsize = size_of::<u64>().cast_signed();
                (*view).format = format;
                (*view).ndim = 1;
                (*view).shape = if has(ffi::PyBUF_ND) { shape } else { std::ptr::null_mut() };
                (*view).strides = if has(ffi::PyBUF_STRIDES) { shape.add(1) } else { std::ptr::null_mut() };
                (*view).suboffsets = std::ptr::null_mut();
                (*view).internal = shape.cast::<c_void>();
                (*view).obj = slf.into_ptr();
            }
            Ok(())
        })
    }

    #[expect(unsafe_code, reason = "the buffer protocol hands its pointer back")]
    #[expect(clippy::unused_self, reason = "the signature that the protocol asks for")]
    unsafe fn __releasebuffer__(&self, view: *mut ffi::Py_buffer) {
        // SAFETY: Python gives back, once, a view that `__getbuffer__` filled.
        drop(unsafe { Box::from_raw((*view).internal.cast::<[isize; 2]>()) });
    }
}

/// The processor, memory and system under this process.
#[pyfunction]
pub fn cpu_info(py: Python<'_>) -> PyResult<Py<PyAny>> {
    guard("cpu_info", || {
        let info = py.detach(kappa_core::cpu::cpu_info);
        let text = serde_json::to_string(&info).expect("plain data has a JSON text");
        Ok(Reader::default().read(py, &text)?.unbind())
    })
}
