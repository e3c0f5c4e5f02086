//! `Tasks`: calls on their way through the workers of a group, for `farexec.Executor`. One thread drives it; others get that out of waiting.

use std::sync::Mutex;

use farexec::proto::Encoding;
use farexec::proto::encoding::{StringCoercion, dump};
use farexec::{Map, MapOptions, Value};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::call;
use crate::encode::PyItem;
use crate::errors::{self, Raiser};
use crate::group::PyGroup;
use crate::map::{adopt, lock, map_error, outcome, seconds};
use crate::waiting::waiting;

/// Calls on their way through the workers of a group.
#[pyclass(name = "Tasks", module = "farexec._native", frozen)]
pub(crate) struct PyTasks {
    map: Mutex<Map>,
    nudge: Box<dyn Fn() + Send + Sync>,
    /// The `farexec.Group`, which is told of workers that took the place of others.
    face: Py<PyAny>,
}

/// Number, result, exception.
type Outcome<'py> = (u64, Bound<'py, PyAny>, Bound<'py, PyAny>);

#[pymethods]
impl PyTasks {
    /// Has the workers of a group do what is put in. `initializer`: a function as `Map` takes it, and a tuple of its arguments.
    #[new]
    fn new(
        py: Python<'_>,
        group: &PyGroup,
        face: Py<PyAny>,
        initializer: Option<(Bound<'_, PyTuple>, Bound<'_, PyAny>)>,
        retries: u32,
        timeout: Option<f64>,
        prefetch: Option<usize>,
    ) -> PyResult<Self> {
        let mut options = MapOptions::default();
        options.ordered = false;
        options.retries = retries;
        options.prefetch = prefetch;
        options.timeout = timeout.map(seconds).transpose()?;
        if let Some((function, arguments)) = initializer {
            options.initializer = Some((call::described(&function)?, value(&arguments)?));
        }
        let native = group.group.clone();
        let map = py.detach(move || Map::of_calls(&native, options));
        let map = map.map_err(|error| map_error(py, error))?;
        let nudge = Box::new(map.nudge());
        Ok(Self { map: Mutex::new(map), nudge, face })
    }

    /// How many calls could be put in now without any of them having to wait for long.
    fn room(&self) -> usize {
        lock(&self.map).room()
    }

    /// Puts in a call: a function as a dict, a tuple of arguments, and a dict of those with names.
    fn put(&self, py: Python<'_>, call: &Bound<'_, PyAny>) -> PyResult<()> {
        lock(&self.map).put(&PyItem::new(call, None)).map_err(|error| map_error(py, error))
    }

    /// Waits until something has happened, and returns what came of calls: for each its number, from 0 in the order in which they
    /// were put in, the result, and None; or the number, None, and the exception.
    fn wait<'py>(&self, py: Python<'py>) -> PyResult<Vec<Outcome<'py>>> {
        let waited = waiting(py, None, None, |wait| {
            let mut map = lock(&self.map);
            map.dispatch();
            map.wait(wait)
        })?;
        let mut map = lock(&self.map);
        let replacements = map.replacements();
        let results: Vec<_> = std::iter::from_fn(|| map.pop()).collect();
        drop(map);
        adopt(py, &self.face, None, replacements)?;
        waited.map_err(|error| map_error(py, error))?;
        let none = || py.None().into_bound(py);
        let outcomes = results.into_iter().map(|result| {
            let index = result.index;
            match outcome(py, result) {
                Ok(result) => (index, result, none()),
                Err(error) => (index, none(), error.into_value(py).into_bound(py).into_any()),
            }
        });
        Ok(outcomes.collect())
    }

    /// Gets whoever waits out of it.
    fn nudge(&self) {
        (self.nudge)();
    }
}

/// An object as the crate has it.
fn value(object: &Bound<'_, PyAny>) -> PyResult<Value> {
    let mut bytes = Vec::new();
    let item = PyItem::new(object, None);
    dump::encode(&item, &mut bytes)
        .map_err(|error| errors::dump_error(object.py(), Raiser::Package, &error))?;
    Value::from_payload(Encoding::Dump, &bytes, StringCoercion::default())
        .map_err(|error| errors::load_error(object.py(), Raiser::Package, &error))
}
