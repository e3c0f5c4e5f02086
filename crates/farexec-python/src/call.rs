//! `RemoteFunction`: a function at a worker, which is called as functions are.

use farexec::{Call, CallError, Function, Payload, RemoteFunction};
use pyo3::exceptions::{PyEOFError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::decode::PyBuilder;
use crate::encode::PyItem;
use crate::errors::{self, Raiser};
use crate::green::Greenlets;
use crate::map::{NoneForAll, remote_error};
use crate::waiting::waiting;

/// A function at the worker of a gateway.
#[pyclass(name = "RemoteFunction", module = "farexec._native", frozen)]
pub(crate) struct PyRemoteFunction {
    pub(crate) function: RemoteFunction,
    pub(crate) greenlets: Option<Greenlets>,
}

#[pymethods]
impl PyRemoteFunction {
    /// Calls it, and waits for the result.
    #[pyo3(signature = (*arguments, **keywords))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        arguments: &Bound<'py, PyTuple>,
        keywords: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut call = self.start(py, arguments, keywords)?;
        let hub = self.greenlets.as_ref().map(|greenlets| &greenlets.hub);
        let answer = waiting(py, hub, None, |wait| call.wait(wait))?;
        finish(py, answer)
    }
}

impl PyRemoteFunction {
    /// Begins a call.
    pub(crate) fn start<'py>(
        &self,
        py: Python<'py>,
        arguments: &Bound<'py, PyTuple>,
        keywords: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Call> {
        let keywords = keywords.map(|keywords| PyItem::new(keywords.as_any(), None));
        let call = self.function.start(&PyItem::new(arguments.as_any(), None), keywords.as_ref());
        call.map_err(|error| call_error(py, error))
    }
}

/// What came of a call.
pub(crate) fn finish(py: Python<'_>, answer: Result<Payload, CallError>) -> PyResult<Bound<'_, PyAny>> {
    result(py, &answer.map_err(|error| call_error(py, error))?)?
}

/// What `mapper.py` answered: a result, or the exception that a function raised.
pub(crate) fn result<'py>(py: Python<'py>, answer: &Payload) -> PyResult<PyResult<Bound<'py, PyAny>>> {
    let answer = answer.build(&mut PyBuilder::new(py, &NoneForAll));
    let answer = answer.map_err(|error| errors::load_error(py, Raiser::Package, &error))?;
    match answer.cast_exact::<PyTuple>() {
        Ok(result) => result.get_item(0).map(Ok),
        Err(_) => remote_error(&answer).map(Err),
    }
}

/// A function as the package describes it: (text, file, line, name), or (module, name).
pub(crate) fn described(function: &Bound<'_, PyTuple>) -> PyResult<Function> {
    if function.len() == 2 {
        let (module, call) = function.extract()?;
        return Ok(Function::Imported { module, call });
    }
    let (source, file, line, call) = function.extract()?;
    Ok(Function::Text { source, file, line, call })
}

fn call_error(py: Python<'_>, error: CallError) -> PyErr {
    match error {
        CallError::Arguments(error) => errors::send(py, Raiser::Package, error),
        CallError::Raised(error) => {
            errors::remote_object(py, Raiser::Package, &error).map_or_else(|error| error, PyErr::from_value)
        }
        error @ CallError::Unanswered => PyEOFError::new_err(error.to_string()),
        CallError::Ended(reason) => PyEOFError::new_err(reason.to_string()),
        CallError::Exec(error) => errors::execute(py, error),
        CallError::Wait(_) => errors::interrupted(py),
        other => PyValueError::new_err(other.to_string()),
    }
}
