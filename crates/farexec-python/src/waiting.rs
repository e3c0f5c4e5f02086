//! Waiting from Python: without the interpreter's lock, and so that Ctrl-C gets through.

use std::cell::{Cell, RefCell};
use std::sync::OnceLock;
use std::thread::ThreadId;
use std::time::Duration;

use farexec::Wait;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::ending;
use crate::green::{self, Hub, Poll};

thread_local! {
    /// What a signal handler raised while this thread waited.
    static INTERRUPTION: RefCell<Option<PyErr>> = const { RefCell::new(None) };
    /// Whether this is the thread in which Python runs signal handlers, once that is known.
    static IS_MAIN: Cell<Option<bool>> = const { Cell::new(None) };
}

/// The main thread, if it said so.
static MAIN: OnceLock<ThreadId> = OnceLock::new();

/// The exception that ended an interrupted wait.
pub(crate) fn take_interruption() -> Option<PyErr> {
    INTERRUPTION.take()
}

/// Calls `operation` without the interpreter's lock, with a wait of that many seconds (`None`: for ever) that ends when a signal
/// handler raises. With a hub, other greenlets run while it is not ready.
pub(crate) fn waiting<T: Poll + Send>(
    py: Python<'_>,
    hub: Option<&Hub>,
    seconds: Option<f64>,
    operation: impl FnMut(&Wait<'_>) -> T + Send,
) -> PyResult<T> {
    match hub {
        None => blocking(py, seconds, operation),
        Some(hub) => green::polling(py, hub, seconds, operation),
    }
}

/// As [`waiting`], for what cannot be asked whether it is ready: with a hub, it runs in a thread of its own.
pub(crate) fn working<T: Send + 'static>(
    py: Python<'_>,
    hub: Option<&Hub>,
    seconds: Option<f64>,
    operation: impl FnOnce(&Wait<'_>) -> T + Send + 'static,
) -> PyResult<T> {
    match hub {
        None => blocking(py, seconds, operation),
        Some(hub) => green::apart(py, hub, seconds, operation),
    }
}

/// As [`waiting`], in a thread that may be blocked.
pub(crate) fn blocking<T: Send>(
    py: Python<'_>,
    seconds: Option<f64>,
    operation: impl FnOnce(&Wait<'_>) -> T + Send,
) -> PyResult<T> {
    let wait = wait(seconds)?;
    if is_main_thread(py)? {
        return Ok(py.detach(|| operation(&wait.unless_signal(&interrupted))));
    }
    Ok(ending::detached(py, || operation(&wait)))
}

/// A wait of so many seconds, as Python gives them.
pub(crate) fn wait(seconds: Option<f64>) -> PyResult<Wait<'static>> {
    match seconds {
        None => Ok(Wait::forever()),
        Some(seconds) if seconds.is_nan() => {
            Err(PyValueError::new_err("a timeout is a number of seconds, not nan"))
        }
        // Longer than anything lasts is for ever.
        Some(seconds) => {
            Ok(Duration::try_from_secs_f64(seconds.max(0.0)).map_or(Wait::forever(), Wait::at_most))
        }
    }
}

fn interrupted() -> bool {
    Python::attach(|py| match py.check_signals() {
        Ok(()) => false,
        Err(error) => {
            INTERRUPTION.replace(Some(error));
            true
        }
    })
}

/// Says that the calling thread is the main one, which Python then need not be asked: a worker knows.
pub(crate) fn this_is_the_main_thread() {
    let _ = MAIN.set(std::thread::current().id());
    IS_MAIN.set(Some(true));
}

fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    if let Some(known) = IS_MAIN.get() {
        return Ok(known);
    }
    if let Some(main) = MAIN.get() {
        IS_MAIN.set(Some(false));
        return Ok(*main == std::thread::current().id());
    }
    let threading = py.import("threading")?;
    let is_main = threading.call_method0("current_thread")?.is(&threading.call_method0("main_thread")?);
    IS_MAIN.set(Some(is_main));
    Ok(is_main)
}
