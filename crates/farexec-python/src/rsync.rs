//! `rsync`: what `farexec.RSync` builds on.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use farexec::{Channel, Failure, Observer, Rsync, RsyncError, RsyncEvent, Stop, WaitError};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::channel::Home;
use crate::errors;
use crate::gateway::PyGateway;
use crate::waiting::working;

/// A target: gateway, its face, destination, whether to delete.
type Target = (Py<PyGateway>, Py<PyAny>, PathBuf, bool);

/// Sends a tree. `wants` is asked for each path, `told(target, channel, what, path, bytes)` is called for each event; both may be None.
#[pyfunction]
pub(crate) fn rsync(
    py: Python<'_>,
    source: PathBuf,
    targets: Vec<Target>,
    wants: Option<Py<PyAny>>,
    told: Option<Py<PyAny>>,
) -> PyResult<()> {
    let mut rsync = Rsync::new(&source);
    let mut homes = Vec::new();
    let hub = targets.first().and_then(|(gateway, ..)| gateway.get().hub()).map(|hub| hub.clone_ref(py));
    for (gateway, face, destination, delete) in targets {
        let gateway = gateway.get();
        let (there, home) = (&gateway.gateway, gateway.home(py, face));
        rsync = if delete { rsync.mirror_to(there, destination) } else { rsync.to(there, destination) };
        homes.push(home);
    }
    let mut observer = PyObserver { wants, told, homes, raised: None };
    let (result, raised) = working(py, hub.as_ref(), None, move |wait| {
        let result = rsync.send_with(&mut observer, wait);
        (result, observer.raised)
    })?;
    match (result, raised) {
        (_, Some(error)) => Err(error),
        (Ok(_), None) => Ok(()),
        (Err(error), None) => Err(exception(py, error)),
    }
}

struct PyObserver {
    wants: Option<Py<PyAny>>,
    told: Option<Py<PyAny>>,
    homes: Vec<Home>,
    /// What one of the two raised.
    raised: Option<PyErr>,
}

impl PyObserver {
    fn keep<T>(&mut self, result: PyResult<T>) -> Result<T, Stop> {
        result.map_err(|error| {
            self.raised = Some(error);
            Stop
        })
    }
}

impl Observer for PyObserver {
    fn wants(&mut self, path: &Path) -> Result<bool, Stop> {
        let Some(wants) = &self.wants else { return Ok(true) };
        let answer = Python::attach(|py| wants.bind(py).call1((path.as_os_str(),))?.is_truthy());
        self.keep(answer)
    }

    fn event(&mut self, target: usize, channel: &Channel, event: RsyncEvent<'_>) -> Result<(), Stop> {
        let Some(told) = &self.told else { return Ok(()) };
        let nowhere = OsStr::new("");
        let (what, path, bytes) = match event {
            RsyncEvent::Listed { bytes } => ("list", nowhere, bytes),
            RsyncEvent::Sending { path } => ("send", path.as_os_str(), 0),
            RsyncEvent::Done { path, bytes } => ("ack", path.as_os_str(), bytes),
            RsyncEvent::Finished => ("finish", nowhere, 0),
            _ => return Ok(()),
        };
        let result = Python::attach(|py| {
            let channel = self.homes[target].channel(py, channel.clone())?;
            told.bind(py).call1((target, channel, what, path, bytes)).map(drop)
        });
        self.keep(result)
    }
}

fn exception(py: Python<'_>, error: RsyncError) -> PyErr {
    let text = error.to_string();
    match error {
        RsyncError::Source { path, source } => match source.raw_os_error() {
            // Of these three, OSError makes the exception that belongs to the number.
            Some(number) => PyOSError::new_err((number, reason(&source), path.into_os_string())),
            None => PyOSError::new_err(format!("{text}: {source}")),
        },
        RsyncError::Special(_) => PyValueError::new_err(text),
        RsyncError::Incomplete { failures, .. } => {
            incomplete(py, text, failures).unwrap_or_else(|error| error)
        }
        RsyncError::Wait(WaitError::Interrupted) => errors::interrupted(py),
        RsyncError::NoTargets | RsyncError::System(_) => PyOSError::new_err(text),
        _ => PyRuntimeError::new_err(text),
    }
}

/// What the system says of an error, without the number.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

fn incomplete(py: Python<'_>, text: String, failures: Vec<Failure>) -> PyResult<PyErr> {
    let failures: Vec<_> = failures
        .into_iter()
        .map(|failure| (failure.gateway, failure.path.into_os_string(), failure.reason))
        .collect();
    let class = errors::rsync_error_class(py)?;
    Ok(PyErr::from_value(class.call1((text, failures))?))
}
