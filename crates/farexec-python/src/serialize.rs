//! `dumps` and `loads`: objects as bytes, in the dump format.

use std::cell::Cell;

use farexec::proto::encoding::{StringCoercion, dump};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::decode::{NoChannels, PyBuilder};
use crate::encode::PyItem;
use crate::errors::{self, Raiser};

/// A buffer larger than this is given back after use.
const KEPT_CAPACITY: usize = 4 << 20;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Returns `obj` as bytes, in the format that execnet stores data in (version 2).
///
/// Raises DumpError if a part of it is of a type that cannot be stored; channels cannot.
///
///     >>> import farexec
///     >>> farexec.loads(farexec.dumps([1, "two", {3: None}]))
///     [1, 'two', {3: None}]
#[pyfunction]
pub(crate) fn dumps<'py>(py: Python<'py>, obj: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    // The buffer is kept: fresh memory from the system costs as much as writing to it.
    let mut bytes = BUFFER.take();
    bytes.clear();
    let written = dump::dumps_into(&PyItem::new(obj, None), &mut bytes);
    let result = match written {
        Ok(()) => Ok(PyBytes::new(py, &bytes)),
        Err(error) => Err(errors::dump_error(py, Raiser::Package, &error)),
    };
    if bytes.capacity() <= KEPT_CAPACITY {
        BUFFER.set(bytes);
    }
    result
}

/// Returns the object that `dumps`, here or of execnet, has made bytes of.
///
/// `py2str_as_py3str`: whether `str` of Python 2 becomes `str` (decoded as latin-1) and not `bytes`. `py3str_as_py2str`: whether `str`
/// of Python 3 becomes `bytes`. Raises LoadError if the bytes are something else.
#[pyfunction]
#[pyo3(signature = (bytestring, py2str_as_py3str=false, py3str_as_py2str=false))]
pub(crate) fn loads<'py>(
    py: Python<'py>,
    bytestring: PyBackedBytes,
    py2str_as_py3str: bool,
    py3str_as_py2str: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let mut builder = PyBuilder::new(py, &NoChannels);
    dump::loads(&bytestring, StringCoercion { py2str_as_py3str, py3str_as_py2str }, &mut builder)
        .map_err(|error| errors::load_error(py, Raiser::Package, &error))
}
