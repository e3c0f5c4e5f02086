//! Python objects made of what arrived.

use std::cell::Cell;
use std::vec::Drain;

use farexec::proto::encoding::{Build, BuildError, Text};
use farexec::{ChannelId, Payload};
use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyBytes, PyComplex, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple,
};

use crate::channel::Home;
use crate::errors;

/// Who knows the objects of channels.
pub(crate) trait Resolver {
    fn resolve<'py>(&self, py: Python<'py>, id: ChannelId) -> PyResult<Bound<'py, PyAny>>;
}

/// For stored data, in which channels mean nothing.
pub(crate) struct NoChannels;

impl Resolver for NoChannels {
    fn resolve<'py>(&self, _: Python<'py>, _: ChannelId) -> PyResult<Bound<'py, PyAny>> {
        Err(PyValueError::new_err("there is a channel in it, which means nothing in stored data"))
    }
}

/// A received item as a Python object.
pub(crate) fn payload<'py>(py: Python<'py>, payload: &Payload, home: &Home) -> PyResult<Bound<'py, PyAny>> {
    let built = payload.build(&mut PyBuilder::new(py, home));
    built.map_err(|error| errors::load_error(py, home.raiser, &error))
}

/// Makes Python objects of a payload that lives for `'p`.
pub(crate) struct PyBuilder<'a, 'p, 'py, R> {
    py: Python<'py>,
    channels: &'a R,
    /// Keys of dicts, each at its `place`: what records have in common is made once. Empty before the first.
    keys: Vec<Option<(&'p [u8], Object<'py>)>>,
    /// Keys that were made before any is remembered.
    first_keys: usize,
    _collector: PausedCollector<'py>,
}

/// A stack with room for more objects than this is given back to the system.
const KEPT_STACK: usize = 1 << 19;

thread_local! {
    /// The room for objects that are not yet in a container, kept: fresh memory from the system costs more than what is written to it.
    static STACK: Cell<Vec<Py<PyAny>>> = const { Cell::new(Vec::new()) };
}

/// Keys that are remembered at once, a power of two.
const KEYS: usize = 64;

/// Keys that are made before any is remembered: for an item of few, the room to remember them costs more than it saves.
const FIRST_KEYS: usize = 8;

/// The place of a key among those that are remembered. Keys that share one displace each other.
#[inline]
fn place(key: &[u8]) -> usize {
    let mixed = match key {
        [] => 0,
        [only] => u64::from(*only),
        [first, .., last] => {
            let middle = key.get(key.len() / 2).copied().unwrap_or_default();
            u64::from(u32::from_ne_bytes([*first, middle, *last, 0])) ^ (key.len() as u64) << 24
        }
    };
    // Fibonacci hashing: the upper bits of the product depend on all of the bits below.
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - KEYS.ilog2())) as usize
}

impl<'a, 'py, R: Resolver> PyBuilder<'a, '_, 'py, R> {
    pub(crate) fn new(py: Python<'py>, channels: &'a R) -> Self {
        Self { py, channels, keys: Vec::new(), first_keys: 0, _collector: PausedCollector::new(py) }
    }
}

impl<'p, 'py, R: Resolver> PyBuilder<'_, 'p, 'py, R> {
    #[inline]
    fn ascii(&self, ascii: &[u8]) -> Made<'py> {
        // SAFETY: pointer and length are those of a slice, and with these arguments nothing is called back. ASCII is Latin-1, of which a str
        // is made with less ado than of UTF-8.
        unsafe {
            let object = ffi::PyUnicode_DecodeLatin1(
                ascii.as_ptr().cast(),
                ascii.len().cast_signed(),
                std::ptr::null(),
            );
            Bound::from_owned_ptr_or_err(self.py, object).map_err(BuildError::new)
        }
    }

    fn new_key(&mut self, text: Text<'p>, place: usize) -> Made<'py> {
        let key = self.str(text)?;
        if self.first_keys < FIRST_KEYS {
            self.first_keys += 1;
            return Ok(key);
        }
        if self.keys.is_empty() {
            self.keys.resize(KEYS, None);
        }
        if let Some(remembered) = self.keys.get_mut(place) {
            *remembered = Some((text.as_bytes(), key.clone()));
        }
        Ok(key)
    }
}

/// While it lives, no garbage is collected, so that no finalizer runs and no half-made object is seen. CPython from 3.12 on collects
/// only between instructions of Python code; before, whatever makes a container may collect, and a load of many would look through
/// all that it made again and again.
pub(crate) struct PausedCollector<'py> {
    was_enabled: bool,
    _py: Python<'py>,
}

impl<'py> PausedCollector<'py> {
    pub(crate) fn new(py: Python<'py>) -> Self {
        // SAFETY: the interpreter is attached, as `py` says.
        Self { was_enabled: unsafe { ffi::PyGC_Disable() } != 0, _py: py }
    }
}

impl Drop for PausedCollector<'_> {
    fn drop(&mut self) {
        if self.was_enabled {
            // SAFETY: as above.
            unsafe { ffi::PyGC_Enable() };
        }
    }
}

type Object<'py> = Bound<'py, PyAny>;
type Made<'py> = Result<Object<'py>, BuildError>;

impl<'p, 'py, R: Resolver> Build<'p> for PyBuilder<'_, 'p, 'py, R> {
    type Object = Object<'py>;

    #[inline]
    fn none(&mut self) -> Made<'py> {
        Ok(self.py.None().into_bound(self.py))
    }

    #[inline]
    fn bool(&mut self, value: bool) -> Made<'py> {
        Ok(PyBool::new(self.py, value).to_owned().into_any())
    }

    #[inline]
    fn int(&mut self, value: i64) -> Made<'py> {
        Ok(PyInt::new(self.py, value).into_any())
    }

    fn big_int(&mut self, little_endian: &[u8]) -> Made<'py> {
        let make = || {
            let signed = pyo3::types::IntoPyDict::into_py_dict([("signed", true)], self.py)?;
            let bytes = PyBytes::new(self.py, little_endian);
            self.py.get_type::<PyInt>().call_method("from_bytes", (bytes, "little"), Some(&signed))
        };
        make().map_err(BuildError::new)
    }

    #[inline]
    fn float(&mut self, value: f64) -> Made<'py> {
        Ok(PyFloat::new(self.py, value).into_any())
    }

    fn complex(&mut self, real: f64, imaginary: f64) -> Made<'py> {
        Ok(PyComplex::from_doubles(self.py, real, imaginary).into_any())
    }

    #[inline]
    fn str(&mut self, text: Text<'p>) -> Made<'py> {
        let bytes = text.as_bytes();
        if bytes.is_ascii() {
            return self.ascii(bytes);
        }
        Ok(PyString::new(self.py, text.to_str()?).into_any())
    }

    #[inline]
    fn key(&mut self, text: Text<'p>) -> Made<'py> {
        let place = place(text.as_bytes());
        match self.keys.get(place) {
            Some(Some((known, key))) if *known == text.as_bytes() => Ok(key.clone()),
            _ => self.new_key(text, place),
        }
    }

    fn converted_str(&mut self, value: String) -> Made<'py> {
        Ok(PyString::new(self.py, &value).into_any())
    }

    #[inline]
    fn bytes(&mut self, value: &'p [u8]) -> Made<'py> {
        Ok(PyBytes::new(self.py, value).into_any())
    }

    fn channel(&mut self, id: ChannelId) -> Made<'py> {
        self.channels.resolve(self.py, id).map_err(BuildError::new)
    }

    #[inline]
    fn tuple(&mut self, items: Drain<'_, Object<'py>>) -> Made<'py> {
        Ok(PyTuple::new(self.py, items).map_err(BuildError::new)?.into_any())
    }

    #[inline]
    fn list(&mut self, items: Drain<'_, Object<'py>>) -> Made<'py> {
        Ok(PyList::new(self.py, items).map_err(BuildError::new)?.into_any())
    }

    #[inline]
    fn dict(&mut self, entries: Drain<'_, Object<'py>>) -> Made<'py> {
        let dict = PyDict::new(self.py);
        let mut entries = entries;
        while let (Some(key), Some(value)) = (entries.next(), entries.next()) {
            dict.set_item(key, value).map_err(BuildError::new)?;
        }
        Ok(dict.into_any())
    }

    fn set(&mut self, items: Drain<'_, Object<'py>>) -> Made<'py> {
        Ok(PySet::new(self.py, items).map_err(BuildError::new)?.into_any())
    }

    fn frozen_set(&mut self, items: Drain<'_, Object<'py>>) -> Made<'py> {
        Ok(PyFrozenSet::new(self.py, items).map_err(BuildError::new)?.into_any())
    }

    // Empty vectors of the same layout: these conversions keep the allocation.
    #[inline]
    fn take_stack(&mut self) -> Vec<Object<'py>> {
        STACK.take().into_iter().map(|object| object.into_bound(self.py)).collect()
    }

    #[inline]
    fn keep_stack(&mut self, stack: Vec<Object<'py>>) {
        if stack.capacity() <= KEPT_STACK {
            STACK.set(stack.into_iter().map(Bound::unbind).collect());
        }
    }

    fn append(&mut self, list: &mut Object<'py>, item: Object<'py>) -> Result<(), BuildError> {
        let list = list.cast_exact::<PyList>().map_err(BuildError::new)?;
        list.append(item).map_err(BuildError::new)
    }

    #[inline]
    fn insert(
        &mut self,
        dict: &mut Object<'py>,
        key: Object<'py>,
        value: Object<'py>,
    ) -> Result<(), BuildError> {
        let dict = dict.cast_exact::<PyDict>().map_err(BuildError::new)?;
        dict.set_item(&key, &value).map_err(BuildError::new)
    }

    fn add(&mut self, set: &mut Object<'py>, item: Object<'py>) -> Result<(), BuildError> {
        let set = set.cast_exact::<PySet>().map_err(BuildError::new)?;
        set.add(item).map_err(BuildError::new)
    }
}
