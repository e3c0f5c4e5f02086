//! `Group` as the package builds on it: starts and ends workers.

use std::str::FromStr;

use farexec::{ExecModel, Group, Spec, Transport, WaitError};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::errors;
use crate::gateway::PyGateway;
use crate::waiting::waiting;

#[pyclass(name = "Group", module = "farexec._native", frozen)]
pub(crate) struct PyGroup {
    group: Group,
}

#[pymethods]
impl PyGroup {
    #[new]
    fn new() -> Self {
        Self { group: Group::new() }
    }

    #[getter]
    fn execmodel(&self) -> &'static str {
        self.group.execmodel().name()
    }

    fn set_execmodel(&self, name: &str) -> PyResult<()> {
        let model = ExecModel::from_str(name);
        let model = model.map_err(|reason| PyValueError::new_err(format!("{name:?} {reason}")))?;
        self.group.set_execmodel(model);
        Ok(())
    }

    fn allocate_id(&self) -> String {
        self.group.allocate_id()
    }

    /// Starts a worker for each spec, all at once. `python` is the interpreter of those that name none.
    fn start(&self, py: Python<'_>, specs: Vec<String>, python: &str) -> PyResult<Vec<PyGateway>> {
        let specs = specs.iter().map(|text| {
            let mut spec = Spec::from_str(text).map_err(|error| PyValueError::new_err(error.to_string()))?;
            if spec.transport == Transport::Popen && spec.python.is_none() {
                spec.set_python([python]);
            }
            Ok(spec)
        });
        let specs = specs.collect::<PyResult<Vec<_>>>()?;
        let started = waiting(py, None, |wait| self.group.start(specs, wait))?;
        Ok(started.map_err(|error| errors::start(py, error))?.into_iter().map(PyGateway::new).collect())
    }

    /// Ends all workers, and returns the ids of the gateways that are gone.
    #[pyo3(signature = (timeout=None))]
    fn terminate(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Vec<String>> {
        let result = waiting(py, timeout, |wait| self.group.terminate_with(wait, timeout.is_some()))?;
        match result {
            Ok(ended) => Ok(ended.into_iter().map(|(gateway, _)| gateway.id().to_owned()).collect()),
            Err(WaitError::Interrupted) => Err(errors::interrupted(py)),
            Err(error) => Err(errors::wait(py, error, || "the workers go on".into())),
        }
    }
}

/// The keys and values of a spec, in order.
#[pyfunction]
pub(crate) fn parse_spec(text: &str) -> PyResult<Vec<(String, Option<String>)>> {
    match Spec::from_str(text) {
        Ok(spec) => Ok(spec.items),
        Err(error) => Err(PyValueError::new_err(error.to_string())),
    }
}
