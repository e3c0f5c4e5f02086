//! Python objects made of what arrived.

use std::vec::Drain;

use farexec::proto::encoding::{Build, BuildError};
use farexec::{ChannelId, Payload};
use pyo3::exceptions::PyValueError;
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

/// Makes Python objects.
pub(crate) struct PyBuilder<'a, 'py, R> {
    py: Python<'py>,
    channels: &'a R,
}

impl<'a, 'py, R: Resolver> PyBuilder<'a, 'py, R> {
    pub(crate) fn new(py: Python<'py>, channels: &'a R) -> Self {
        Self { py, channels }
    }
}

type Object<'py> = Bound<'py, PyAny>;
type Made<'py> = Result<Object<'py>, BuildError>;

impl<'p, 'py, R: Resolver> Build<'p> for PyBuilder<'_, 'py, R> {
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
    fn str(&mut self, value: &'p str) -> Made<'py> {
        Ok(PyString::new(self.py, value).into_any())
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
        let mut dict = PyDict::new(self.py).into_any();
        self.extend_dict(&mut dict, entries)?;
        Ok(dict)
    }

    fn set(&mut self, items: Drain<'_, Object<'py>>) -> Made<'py> {
        Ok(PySet::new(self.py, items).map_err(BuildError::new)?.into_any())
    }

    fn frozen_set(&mut self, items: Drain<'_, Object<'py>>) -> Made<'py> {
        Ok(PyFrozenSet::new(self.py, items).map_err(BuildError::new)?.into_any())
    }

    fn extend_list(
        &mut self,
        list: &mut Object<'py>,
        mut items: Drain<'_, Object<'py>>,
    ) -> Result<(), BuildError> {
        let list = list.cast_exact::<PyList>().map_err(BuildError::new)?;
        items.try_for_each(|item| list.append(item)).map_err(BuildError::new)
    }

    #[inline]
    fn extend_dict(
        &mut self,
        dict: &mut Object<'py>,
        mut entries: Drain<'_, Object<'py>>,
    ) -> Result<(), BuildError> {
        let dict = dict.cast_exact::<PyDict>().map_err(BuildError::new)?;
        while let (Some(key), Some(value)) = (entries.next(), entries.next()) {
            dict.set_item(key, value).map_err(BuildError::new)?;
        }
        Ok(())
    }

    fn extend_set(
        &mut self,
        set: &mut Object<'py>,
        mut items: Drain<'_, Object<'py>>,
    ) -> Result<(), BuildError> {
        let set = set.cast_exact::<PySet>().map_err(BuildError::new)?;
        items.try_for_each(|item| set.add(item)).map_err(BuildError::new)
    }
}
