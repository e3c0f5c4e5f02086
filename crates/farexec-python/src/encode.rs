//! Python objects as something to encode: they tell the writer of either encoding what they are, straight from the interpreter's own
//! structures.
//!
//! Exact types only: an object of a subclass would arrive as something else than it was.

use std::cell::Cell;

use farexec::Kwargs;
use farexec::proto::encoding::{Emit, Encode, EncodeError, EncodeErrorKind, Segment};
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyBytes, PyComplex, PyDict, PyFloat, PyFrozenSet, PyInt, PyIterator, PyList, PySet, PyString,
    PyTuple, PyType,
};
use pyo3::{Borrowed, PyTypeInfo, ffi};

use crate::channel::{Home, PyChannel};
use crate::cycle;
use crate::decode::PausedCollector;

/// A Python object that is to be sent on a channel of `home`, or stored if there is none.
pub(crate) struct PyItem<'a, 'py> {
    object: &'a Bound<'py, PyAny>,
    home: Option<&'a Home>,
}

impl<'a, 'py> PyItem<'a, 'py> {
    pub(crate) fn new(object: &'a Bound<'py, PyAny>, home: Option<&'a Home>) -> Self {
        Self { object, home }
    }
}

impl Encode for PyItem<'_, '_> {
    #[inline]
    fn encode<E: Emit>(&self, emit: &mut E) -> Result<(), EncodeError> {
        let walk = Walk::new(self.object.py(), self.home);
        walk.walk(|walk| walk.object(self.object.as_borrowed(), emit))
            .map_err(|error| cycle::explain(self.object, error))
    }
}

/// The keyword arguments of an execution.
pub(crate) struct PyKwargs<'a, 'py> {
    kwargs: &'a Bound<'py, PyDict>,
    home: &'a Home,
}

impl<'a, 'py> PyKwargs<'a, 'py> {
    pub(crate) fn new(kwargs: &'a Bound<'py, PyDict>, home: &'a Home) -> Self {
        Self { kwargs, home }
    }
}

impl Kwargs for PyKwargs<'_, '_> {
    fn encode_kwargs<E: Emit>(&self, emit: &mut E) -> Result<(), EncodeError> {
        Walk::new(self.kwargs.py(), Some(self.home)).walk(|walk| walk.dict(self.kwargs.as_borrowed(), emit))
    }
}

/// A way through an object and all that is in it, by borrowed references.
///
/// What is borrowed stays alive and in its place because nobody's code runs on the way: the interpreter is held, encoding exact builtin
/// types calls none, no garbage is collected, and the type of an object that is refused, whose name is for its metaclass to tell, is only
/// asked for its name at the end.
struct Walk<'a, 'py> {
    home: Option<&'a Home>,
    refused: Cell<Option<Bound<'py, PyType>>>,
    collector: PausedCollector<'py>,
}

type Object<'a, 'py> = Borrowed<'a, 'py, PyAny>;

impl<'a, 'py> Walk<'a, 'py> {
    #[inline]
    fn new(py: Python<'py>, home: Option<&'a Home>) -> Self {
        Self { home, refused: Cell::new(None), collector: PausedCollector::new(py) }
    }

    #[inline]
    fn walk(self, way: impl FnOnce(&Self) -> Result<(), EncodeError>) -> Result<(), EncodeError> {
        let result = way(&self);
        drop(self.collector);
        result.map_err(|error| match self.refused.take() {
            Some(kind) => error.of_type(type_name(&kind)),
            None => error,
        })
    }

    #[inline(always)]
    fn object<E: Emit>(&self, object: Object<'_, 'py>, emit: &mut E) -> Result<(), EncodeError> {
        if let Some(int) = exactly::<PyInt>(object) {
            match word(int) {
                Some(value) => emit.int(value),
                None => big_int(int, emit),
            }
        } else if let Some(text) = exactly::<PyString>(object) {
            match text.to_str() {
                Ok(text) => emit.str(text),
                Err(error) => surrogates(error),
            }
        } else if let Some(float) = exactly::<PyFloat>(object) {
            emit.float(float.value())
        } else if let Some(value) = exactly::<PyBool>(object) {
            emit.bool(value.is_true())
        } else if object.is_none() {
            emit.none()
        } else {
            self.large(object, emit)
        }
    }

    /// What has contents. It is kept apart so that scalars, which are most objects, go without the space on the stack that this takes.
    #[inline(never)]
    fn large<E: Emit>(&self, object: Object<'_, 'py>, emit: &mut E) -> Result<(), EncodeError> {
        if let Some(list) = exactly::<PyList>(object) {
            self.list(list, emit)
        } else if let Some(dict) = exactly::<PyDict>(object) {
            self.dict(dict, emit)
        } else if let Some(tuple) = exactly::<PyTuple>(object) {
            self.tuple(tuple, emit)
        } else if let Some(bytes) = exactly::<PyBytes>(object) {
            emit.bytes(bytes.as_bytes())
        } else {
            self.rare(object, emit)
        }
    }

    #[cold]
    fn rare<E: Emit>(&self, object: Object<'_, 'py>, emit: &mut E) -> Result<(), EncodeError> {
        if let Some(set) = exactly::<PySet>(object) {
            let len = set.len();
            emit.begin_set(len)?;
            self.elements(object, emit)?;
            emit.end_set(len)
        } else if let Some(set) = exactly::<PyFrozenSet>(object) {
            let len = set.len();
            emit.begin_frozen_set(len)?;
            self.elements(object, emit)?;
            emit.end_frozen_set(len)
        } else if let Some(complex) = exactly::<PyComplex>(object) {
            emit.complex(complex.real(), complex.imag())
        } else if let Ok(channel) = object.cast::<PyChannel>() {
            match self.home {
                Some(home) if channel.get().home.gateway == home.gateway => {
                    emit.channel(channel.get().channel.id())
                }
                Some(_) => {
                    Err(EncodeError::custom("a channel of another gateway, which the far end cannot reach"))
                }
                None => Err(EncodeError::unsupported("farexec.Channel")),
            }
        } else {
            self.refused.set(Some(object.get_type()));
            Err(EncodeError::unsupported("?"))
        }
    }

    #[inline]
    fn list<E: Emit>(&self, list: Borrowed<'_, 'py, PyList>, emit: &mut E) -> Result<(), EncodeError> {
        let len = list.len();
        emit.begin_list(len)?;
        for index in 0..len {
            let item = list_item(list, index)?;
            if let Some(value) = exactly::<PyInt>(item).and_then(word) {
                emit.list_int(index, value)?;
                continue;
            }
            emit.list_index(index)?;
            self.object(item, emit).map_err(|error| error.at_index(index))?;
            emit.list_item()?;
        }
        emit.end_list(len)
    }

    #[inline]
    fn tuple<E: Emit>(&self, tuple: Borrowed<'_, 'py, PyTuple>, emit: &mut E) -> Result<(), EncodeError> {
        let len = tuple.len();
        emit.begin_tuple(len)?;
        for index in 0..len {
            let item = tuple.get_borrowed_item(index).map_err(EncodeError::custom)?;
            self.object(item, emit).map_err(|error| error.at_index(index))?;
        }
        emit.end_tuple(len)
    }

    #[inline]
    fn dict<E: Emit>(&self, dict: Borrowed<'_, 'py, PyDict>, emit: &mut E) -> Result<(), EncodeError> {
        let len = dict.len();
        emit.begin_dict(len)?;
        each_entry(dict, |key, value| {
            self.object(key, emit).map_err(|error| error.within(Segment::Key))?;
            self.object(value, emit).map_err(|error| error.at_key(shown(key)))?;
            emit.dict_entry()
        })?;
        emit.end_dict(len)
    }

    fn elements<E: Emit>(&self, set: Object<'_, 'py>, emit: &mut E) -> Result<(), EncodeError> {
        for item in PyIterator::from_object(&set).map_err(EncodeError::custom)? {
            let item = item.map_err(EncodeError::custom)?;
            self.object(item.as_borrowed(), emit).map_err(|error| error.within(Segment::Element))?;
        }
        Ok(())
    }
}

#[cold]
fn surrogates(_: PyErr) -> Result<(), EncodeError> {
    Err(EncodeErrorKind::Surrogates.into())
}

/// The object as one of exactly this type. Unlike with `cast_exact`, a miss costs nothing: no error is made of it.
#[inline]
fn exactly<'a, 'py, T: PyTypeInfo>(object: Object<'a, 'py>) -> Option<Borrowed<'a, 'py, T>> {
    // SAFETY: it is of that type.
    object.is_exact_instance_of::<T>().then(|| unsafe { object.cast_unchecked() })
}

/// The value of an int that fits into 64 bits.
#[inline]
fn word(int: Borrowed<'_, '_, PyInt>) -> Option<i64> {
    let mut overflow = 0;
    // SAFETY: `int` is an exact int, for which this neither fails nor runs any code.
    let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(int.as_ptr(), &raw mut overflow) };
    (overflow == 0).then_some(value)
}

#[cold]
fn big_int<E: Emit>(object: Borrowed<'_, '_, PyInt>, emit: &mut E) -> Result<(), EncodeError> {
    let bytes = || -> PyResult<Bound<'_, PyAny>> {
        let bits: usize = object.call_method0("bit_length")?.extract()?;
        let signed = [("signed", true)];
        let signed = pyo3::types::IntoPyDict::into_py_dict(signed, object.py())?;
        object.call_method("to_bytes", (bits / 8 + 1, "little"), Some(&signed))
    };
    let bytes = bytes().map_err(EncodeError::custom)?;
    let bytes = bytes.cast_exact::<PyBytes>().map_err(EncodeError::custom)?;
    emit.big_int(bytes.as_bytes())
}

/// The item of a list, borrowed: a reference less to count for each of many.
#[inline]
fn list_item<'a, 'py>(list: Borrowed<'a, 'py, PyList>, index: usize) -> Result<Object<'a, 'py>, EncodeError> {
    let wanted = isize::try_from(index).map_err(EncodeError::custom)?;
    // SAFETY: `list` is a list. The item stays alive as long as the list is not changed, and nothing changes it: see `Walk`.
    unsafe {
        let item = ffi::PyList_GetItem(list.as_ptr(), wanted);
        Object::from_ptr_or_opt(list.py(), item)
    }
    .ok_or_else(|| EncodeError::custom("the list was changed while it was encoded"))
}

/// Calls `entry` with each key and value, borrowed.
#[inline]
fn each_entry<'a, 'py>(
    dict: Borrowed<'a, 'py, PyDict>,
    mut entry: impl FnMut(Object<'a, 'py>, Object<'a, 'py>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let (mut position, mut key, mut value) = (0, std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: `dict` is a dict, and nothing changes it meanwhile: see `Walk`. So what is borrowed stays alive until the next round.
    unsafe {
        while ffi::PyDict_Next(dict.as_ptr(), &raw mut position, &raw mut key, &raw mut value) != 0 {
            entry(Object::from_ptr(dict.py(), key), Object::from_ptr(dict.py(), value))?;
        }
    }
    Ok(())
}

/// A key as Python prints it, for an error's path.
#[cold]
fn shown(key: Object<'_, '_>) -> String {
    const LONGEST: usize = 80;
    let text = key.repr().map_or_else(|_| "?".to_owned(), |text| text.to_string_lossy().into_owned());
    if text.chars().count() <= LONGEST {
        text
    } else {
        text.chars().take(LONGEST).chain("...".chars()).collect()
    }
}

#[cold]
fn type_name(kind: &Bound<'_, PyType>) -> String {
    match kind.fully_qualified_name() {
        Ok(name) => name.to_string_lossy().into_owned(),
        Err(_) => "?".to_owned(),
    }
}
