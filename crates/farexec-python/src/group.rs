//! `Group` as the package builds on it: starts and ends workers.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use farexec::{Compiled, ExecModel, Gateway, Group, OutputLine, Spec, Termination, Transport, WaitError};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::ending;
use crate::errors::{self, Raiser};
use crate::gateway::PyGateway;
use crate::green::Greenlets;
use crate::logging;
use crate::waiting::working;

#[pyclass(name = "Group", module = "farexec._native", frozen)]
pub(crate) struct PyGroup {
    pub(crate) group: Group,
    /// What is needed to wait in greenlets, if that is how this side executes.
    greenlets: Mutex<Option<Greenlets>>,
}

impl PyGroup {
    pub(crate) fn greenlets(&self, py: Python<'_>) -> Option<Greenlets> {
        let greenlets = self.greenlets.lock().unwrap_or_else(PoisonError::into_inner);
        greenlets.as_ref().map(|greenlets| greenlets.clone_ref(py))
    }
}

#[pymethods]
impl PyGroup {
    #[new]
    fn new() -> Self {
        Self { group: Group::new(), greenlets: Mutex::default() }
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

    /// How this side waits: a thread does (`None`), or a greenlet of this hub.
    fn set_hub(&self, py: Python<'_>, hub: Option<Py<PyAny>>) -> PyResult<()> {
        let greenlets = hub.map(|hub| Greenlets::new(py, hub)).transpose()?;
        let before =
            std::mem::replace(&mut *self.greenlets.lock().unwrap_or_else(PoisonError::into_inner), greenlets);
        drop(before);
        Ok(())
    }

    /// Has `function(id, "stdout" or "stderr", line)` called with each line that a worker prints to an output that is forwarded.
    fn set_output(&self, function: Py<PyAny>) {
        let kept = OutputFunction(function);
        self.group.set_output(move |line| kept.call(&line));
    }

    /// Has what the workers do that are started from now on written to a file.
    fn set_trace(&self, path: PathBuf) -> PyResult<()> {
        self.group.set_trace(path).map_err(|error| errors::trace(&error))
    }

    fn allocate_id(&self) -> String {
        self.group.allocate_id()
    }

    /// Starts a worker for each spec, all at once. `python` is the interpreter of those that name none.
    fn start(&self, py: Python<'_>, specs: Vec<String>, python: &str) -> PyResult<Vec<PyGateway>> {
        let specs = parse(&specs, python)?;
        let (group, greenlets) = (self.group.clone(), self.greenlets(py));
        logging::listen(py, greenlets.as_ref())?;
        let hub = greenlets.as_ref().map(|greenlets| &greenlets.hub);
        let started = working(py, hub, None, move |wait| group.start(specs, wait))?;
        let started = started.map_err(|error| errors::start(py, error))?.into_iter();
        let greenlets = || greenlets.as_ref().map(|greenlets| greenlets.clone_ref(py));
        Ok(started.map(|gateway| PyGateway::new(gateway, greenlets())).collect())
    }

    /// Seconds that workers have to end when nobody says how many.
    #[getter]
    fn exit_timeout(&self) -> f64 {
        self.group.exit_timeout().as_secs_f64()
    }

    /// Ends all workers. Returns the ids of the gateways that are gone, with why if they did not end by themselves.
    #[pyo3(signature = (timeout=None))]
    fn terminate(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Vec<(String, Option<String>)>> {
        let (group, greenlets) = (self.group.clone(), self.greenlets(py));
        let hub = greenlets.as_ref().map(|greenlets| &greenlets.hub);
        let sweep = timeout.is_some();
        ended(py, working(py, hub, timeout, move |wait| group.terminate_with(wait, sweep))?)
    }
}

/// Specs from their text; `python` is the interpreter of those on this machine that name none.
pub(crate) fn parse(specs: &[String], python: &str) -> PyResult<Vec<Spec>> {
    let specs = specs.iter().map(|text| {
        let mut spec = Spec::from_str(text).map_err(|error| PyValueError::new_err(error.to_string()))?;
        if spec.transport == Transport::Popen && spec.python.is_none() {
            spec.set_python([python]);
        }
        Ok(spec)
    });
    specs.collect()
}

/// What came of ending workers: the ids of the gateways that are gone, with why if they did not end by themselves.
pub(crate) fn ended(
    py: Python<'_>,
    result: Result<Vec<(Gateway, Termination)>, WaitError>,
) -> PyResult<Vec<(String, Option<String>)>> {
    match result {
        Ok(ended) => {
            Ok(ended.iter().map(|(gateway, how)| (gateway.id().into(), why(gateway, *how))).collect())
        }
        Err(WaitError::Interrupted) => Err(errors::interrupted(py)),
        Err(error) => Err(errors::wait(py, Raiser::Package, error, || "the workers go on".into())),
    }
}

struct OutputFunction(Py<PyAny>);

impl OutputFunction {
    fn call(&self, line: &OutputLine) {
        ending::attached(|py| {
            let arguments = (&line.gateway, line.stream.name(), &line.text);
            if let Err(error) = self.0.call1(py, arguments) {
                error.write_unraisable(py, Some(self.0.bind(py)));
            }
        });
    }
}

/// Why a gateway did not end by itself, unless it did.
fn why(gateway: &Gateway, how: Termination) -> Option<String> {
    match how {
        Termination::Ended => None,
        Termination::Killed => gateway.end_reason().map(ToString::to_string),
        Termination::Stuck => Some(format!("worker {} could not be killed", gateway.id())),
    }
}

/// Has the extension module in a file sent to workers whose specs say `native=push`, and that have none of their own.
#[pyfunction]
pub(crate) fn offer_extension(path: PathBuf) {
    farexec::offer_extension(path);
}

/// The keys and values of a spec, in order.
#[pyfunction]
pub(crate) fn parse_spec(text: &str) -> PyResult<Vec<(String, Option<String>)>> {
    match Spec::from_str(text) {
        Ok(spec) => Ok(spec.items),
        Err(error) => Err(PyValueError::new_err(error.to_string())),
    }
}

/// How an interpreter on this machine compiles the worker.
#[pyfunction]
pub(crate) fn know_interpreter(
    executable: PathBuf,
    magic: Vec<u8>,
    implementation: String,
    worker: Vec<u8>,
    template: Vec<u8>,
) {
    farexec::know_interpreter(&executable, &Compiled { magic, implementation, code: worker }, &template);
}
