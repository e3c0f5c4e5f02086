//! From errors of `farexec` to exceptions of the package `farexec`, which are Python classes in `farexec._errors`.

use farexec::{
    Cause, ChannelEnd, ExecError, Frame, GatewayError, HostFailure, ReceiveError, RemoteError, SendError,
    StartError, TraceError, WaitError,
};
use pyo3::exceptions::{PyEOFError, PyKeyboardInterrupt, PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

/// Whose classes are raised: those of the package, or those of the worker that this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Raiser {
    Package,
    Worker,
}

/// The namespace of worker.py, if this process is a worker.
static WORKER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Has [`Raiser::Worker`] raise the classes that are attributes of `namespace`.
pub(crate) fn set_worker(py: Python<'_>, namespace: Py<PyAny>) {
    let _ = WORKER.set(py, namespace);
}

/// The class of this name in the package.
macro_rules! class {
    ($function:ident, $name:literal) => {
        pub(crate) fn $function(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
            static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
            CLASS.import(py, "farexec._errors", $name).cloned()
        }
    };
}

/// The class of this name in the package, or at the worker.
macro_rules! class_of {
    ($function:ident, $name:literal) => {
        pub(crate) fn $function(py: Python<'_>, raiser: Raiser) -> PyResult<Bound<'_, PyType>> {
            static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
            match (raiser, WORKER.get(py)) {
                (Raiser::Worker, Some(worker)) => Ok(worker.bind(py).getattr($name)?.cast_into()?),
                _ => CLASS.import(py, "farexec._errors", $name).cloned(),
            }
        }
    };
}

class_of!(dump_error_class, "DumpError");
class_of!(load_error_class, "LoadError");
class_of!(remote_error_class, "RemoteError");
class_of!(timeout_error_class, "TimeoutError");
class!(start_error_class, "StartError");
class!(interpreter_not_found_class, "InterpreterNotFound");
class!(host_not_found_class, "HostNotFound");
class!(host_unreachable_class, "HostUnreachable");
class!(authentication_failed_class, "AuthenticationFailed");
class!(rsync_error_class, "RSyncError");
class!(workers_died_class, "WorkersDied");
class!(journal_error_class, "JournalError");

/// An exception of a class with one text.
pub(crate) fn exception(class: PyResult<Bound<'_, PyType>>, text: String) -> PyErr {
    match class.and_then(|class| class.call1((text,))) {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

pub(crate) fn dump_error(py: Python<'_>, raiser: Raiser, error: &dyn std::error::Error) -> PyErr {
    exception(dump_error_class(py, raiser), error.to_string())
}

pub(crate) fn load_error(py: Python<'_>, raiser: Raiser, error: &dyn std::error::Error) -> PyErr {
    exception(load_error_class(py, raiser), error.to_string())
}

/// A remote error as an object, for `_getremoteerror`.
pub(crate) fn remote_object<'py>(
    py: Python<'py>,
    raiser: Raiser,
    error: &RemoteError,
) -> PyResult<Bound<'py, PyAny>> {
    let frames: Vec<_> = error
        .frames()
        .iter()
        .map(|Frame { file, line, function, text }| (file, line, function, text))
        .collect();
    let cause = error.cause().map(|cause| remote_object(py, raiser, cause)).transpose()?;
    let arguments = (error.text(), error.type_name(), error.message(), frames, error.notes(), cause);
    remote_error_class(py, raiser)?.call1(arguments)
}

/// A wait that was called away: the signal handler has raised something, or will.
pub(crate) fn interrupted(py: Python<'_>) -> PyErr {
    crate::waiting::take_interruption()
        .or_else(|| py.check_signals().err())
        .unwrap_or_else(|| PyKeyboardInterrupt::new_err(()))
}

pub(crate) fn wait(py: Python<'_>, raiser: Raiser, error: WaitError, text: impl FnOnce() -> String) -> PyErr {
    match error {
        WaitError::Timeout => exception(timeout_error_class(py, raiser), text()),
        // What polls asks again instead of telling.
        WaitError::Interrupted | WaitError::Pending => interrupted(py),
    }
}

/// No more items: EOFError, which says why if the gateway ended.
pub(crate) fn end(raiser: Raiser, end: &ChannelEnd) -> PyErr {
    match end {
        // A worker is not told of itself why it ends, unless it is none any more.
        ChannelEnd::Gateway(reason) if raiser == Raiser::Package || *reason.cause() == Cause::Inherited => {
            PyEOFError::new_err(reason.to_string())
        }
        ChannelEnd::Error(_) => {
            PyEOFError::new_err("closed by the far end with an error that was reported before")
        }
        _ => PyEOFError::new_err(()),
    }
}

pub(crate) fn receive(
    py: Python<'_>,
    raiser: Raiser,
    error: ReceiveError,
    timeout_seconds: Option<f64>,
) -> PyErr {
    match error {
        ReceiveError::End(reason) => end(raiser, &reason),
        ReceiveError::Remote(error) => {
            remote_object(py, raiser, &error).map_or_else(|error| error, PyErr::from_value)
        }
        ReceiveError::Wait(error) => wait(py, raiser, error, || {
            format!("no item after {} seconds", timeout_seconds.unwrap_or_default())
        }),
        ReceiveError::AlreadyTaken(_) => PyOSError::new_err(
            "cannot receive(): the items of this channel go to a callback or a receive queue",
        ),
        ReceiveError::Decode(error) => load_error(py, raiser, &error),
        other => PyOSError::new_err(other.to_string()),
    }
}

pub(crate) fn send(py: Python<'_>, raiser: Raiser, error: SendError) -> PyErr {
    match error {
        SendError::Encode(error) => dump_error(py, raiser, &error),
        SendError::TooLong(error) => dump_error(py, raiser, &error),
        SendError::Wait(error) => wait(py, raiser, error, || "the worker did not take what was sent".into()),
        other => PyOSError::new_err(other.to_string()),
    }
}

pub(crate) fn execute(py: Python<'_>, error: ExecError) -> PyErr {
    match error {
        ExecError::Arguments(_) | ExecError::TooLong(_) => dump_error(py, Raiser::Package, &error),
        ExecError::Wait(error) => {
            wait(py, Raiser::Package, error, || "the worker did not take what was sent".into())
        }
        other => PyOSError::new_err(other.to_string()),
    }
}

pub(crate) fn gateway(py: Python<'_>, error: GatewayError) -> PyErr {
    match error {
        GatewayError::Wait(error) => wait(py, Raiser::Package, error, || "the worker did not answer".into()),
        other => PyOSError::new_err(other.to_string()),
    }
}

/// A trace that cannot be written: the OSError that Python has for what the system said.
pub(crate) fn trace(error: &TraceError) -> PyErr {
    std::io::Error::new(error.source.kind(), error.to_string()).into()
}

pub(crate) fn start(py: Python<'_>, error: StartError) -> PyErr {
    // The source chain, since Python shows one text.
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    match error {
        StartError::Interrupted => interrupted(py),
        StartError::Host { kind, .. } => {
            let class = match kind {
                HostFailure::Denied | HostFailure::NotTrusted => authentication_failed_class(py),
                HostFailure::Unreachable => host_unreachable_class(py),
                _ => host_not_found_class(py),
            };
            exception(class, text)
        }
        StartError::Spec(_) | StartError::DuplicateId(_) | StartError::NoRelay { .. } => {
            PyValueError::new_err(text)
        }
        StartError::NoInterpreter { .. } => exception(interpreter_not_found_class(py), text),
        _ => exception(start_error_class(py), text),
    }
}
