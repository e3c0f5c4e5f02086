//! Waiting in greenlets: what would block a thread asks whether it is ready, and lets other greenlets run until it may be.
//!
//! A wait has a [`Bell`], a pipe that the driver rings; the library's event loop watches that (`hubs.py`). Nothing of a wait stays on
//! the stack while others run, since greenlets take turns on one stack. What cannot be asked in this way runs in a thread of its own. And callbacks, which
//! come in farexec's callback thread, are called by a greenlet that takes them from [`PyCalls`].

use std::collections::VecDeque;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use farexec::{CallError, MapError, ReceiveError, SendError, Wait, WaitError};
use pyo3::prelude::*;

use crate::waiting;

/// What stands for the library whose greenlets wait; an object with the methods of `hubs.py`.
pub(crate) type Hub = Py<PyAny>;

/// What a group in one of these models has.
pub(crate) struct Greenlets {
    pub(crate) hub: Hub,
    /// What its callbacks go through.
    pub(crate) calls: Py<PyCalls>,
}

impl Greenlets {
    pub(crate) fn new(py: Python<'_>, hub: Hub) -> PyResult<Self> {
        Ok(Self { hub, calls: Py::new(py, PyCalls::new()?)? })
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        Self { hub: self.hub.clone_ref(py), calls: self.calls.clone_ref(py) }
    }
}

/// A descriptor that becomes readable when it is rung.
struct Bell {
    reader: PipeReader,
    writer: PipeWriter,
    rung: AtomicBool,
}

/// Bells that nobody uses. Their descriptors stay, so that a hub that remembers a number never means another file.
static IDLE: Mutex<Vec<Arc<Bell>>> = Mutex::new(Vec::new());

impl Bell {
    fn new() -> PyResult<Arc<Self>> {
        if let Some(bell) = lock(&IDLE).pop() {
            return Ok(bell);
        }
        let (reader, writer) = std::io::pipe()?;
        Ok(Arc::new(Self { reader, writer, rung: AtomicBool::new(false) }))
    }

    fn ring(&self) {
        // A single byte is in the pipe at any time, so this never waits.
        if !self.rung.swap(true, Ordering::SeqCst) {
            let _ = (&self.writer).write(&[1]);
        }
    }

    fn quiet(&self) {
        if self.rung.load(Ordering::SeqCst) {
            let _ = (&self.reader).read(&mut [0]);
            self.rung.store(false, Ordering::SeqCst);
        }
    }

    fn fileno(&self) -> i32 {
        self.reader.as_raw_fd()
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
}

/// A bell in use.
pub(crate) struct BorrowedBell(Arc<Bell>);

impl BorrowedBell {
    pub(crate) fn new() -> PyResult<Self> {
        Bell::new().map(Self)
    }

    pub(crate) fn ring(&self) {
        self.0.ring();
    }

    pub(crate) fn quiet(&self) {
        self.0.quiet();
    }

    pub(crate) fn fileno(&self) -> i32 {
        self.0.fileno()
    }
}

impl Drop for BorrowedBell {
    fn drop(&mut self) {
        lock(&IDLE).push(Arc::clone(&self.0));
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Results that say whether it is worth another try.
pub(crate) trait Poll {
    fn is_pending(&self) -> bool;
}

impl<T> Poll for Result<T, WaitError> {
    fn is_pending(&self) -> bool {
        matches!(self, Err(WaitError::Pending))
    }
}

impl<T> Poll for Result<T, ReceiveError> {
    fn is_pending(&self) -> bool {
        matches!(self, Err(ReceiveError::Wait(WaitError::Pending)))
    }
}

impl<T> Poll for Result<T, SendError> {
    fn is_pending(&self) -> bool {
        matches!(self, Err(SendError::Wait(WaitError::Pending)))
    }
}

impl<T> Poll for Result<T, MapError> {
    fn is_pending(&self) -> bool {
        matches!(self, Err(MapError::Wait(WaitError::Pending)))
    }
}

impl<T> Poll for Result<T, CallError> {
    fn is_pending(&self) -> bool {
        matches!(self, Err(CallError::Wait(WaitError::Pending)))
    }
}

/// Asks `operation` until it is ready, or `seconds` are over; other greenlets run meanwhile.
pub(crate) fn polling<T: Poll + Send>(
    py: Python<'_>,
    hub: &Hub,
    seconds: Option<f64>,
    mut operation: impl FnMut(&Wait<'_>) -> T + Send,
) -> PyResult<T> {
    let deadline = deadline(seconds)?;
    let bell = BorrowedBell::new()?;
    loop {
        bell.0.quiet();
        let waker = Waker::from(Arc::clone(&bell.0));
        let result = py.detach(|| operation(&Wait::polling(&waker)));
        if !result.is_pending() {
            return Ok(result);
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) || !wait_readable(py, hub, &bell.0, left)? {
            return Ok(py.detach(|| operation(&Wait::at_most(Duration::ZERO))));
        }
    }
}

/// Runs `operation` in a thread of its own; other greenlets run meanwhile.
pub(crate) fn apart<T: Send + 'static>(
    py: Python<'_>,
    hub: &Hub,
    seconds: Option<f64>,
    operation: impl FnOnce(&Wait<'_>) -> T + Send + 'static,
) -> PyResult<T> {
    let wait = waiting::wait(seconds)?;
    let bell = BorrowedBell::new()?;
    bell.0.quiet();
    let (done, result) = mpsc::channel();
    let ringer = Arc::clone(&bell.0);
    std::thread::Builder::new().name("farexec-apart".into()).spawn(move || {
        let _ = done.send(operation(&wait));
        ringer.ring();
    })?;
    loop {
        if let Ok(result) = result.try_recv() {
            return Ok(result);
        }
        bell.0.quiet();
        wait_readable(py, hub, &bell.0, None)?;
    }
}

fn wait_readable(py: Python<'_>, hub: &Hub, bell: &Bell, left: Option<Duration>) -> PyResult<bool> {
    let left = left.map(|left| left.as_secs_f64());
    hub.bind(py).call_method1("wait_readable", (bell.fileno(), left))?.is_truthy()
}

fn deadline(seconds: Option<f64>) -> PyResult<Option<Instant>> {
    // Says what is wrong with it, if anything is.
    waiting::wait(seconds)?;
    let length = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
    Ok(length.and_then(|length| Instant::now().checked_add(length)))
}

/// Calls that a greenlet is to make for farexec's callback thread, which waits for each.
#[pyclass(name = "Calls", module = "farexec._native", frozen)]
pub(crate) struct PyCalls {
    bell: Arc<Bell>,
    calls: Mutex<VecDeque<Call>>,
}

struct Call {
    function: Py<PyAny>,
    argument: Py<PyAny>,
    done: mpsc::Sender<Option<String>>,
}

#[pyclass(name = "Done", module = "farexec._native", frozen)]
struct PyDone(mpsc::Sender<Option<String>>);

#[pymethods]
impl PyDone {
    /// Tells that a call was made, and with what error.
    fn __call__(&self, error: Option<String>) {
        let _ = self.0.send(error);
    }
}

#[pymethods]
impl PyCalls {
    #[new]
    fn new() -> PyResult<Self> {
        Ok(Self { bell: Bell::new()?, calls: Mutex::default() })
    }

    /// What becomes readable when there is something to call.
    fn fileno(&self) -> i32 {
        self.bell.fileno()
    }

    /// Returns the next call: function, argument and what to call with the text of the error, or None, afterwards. None: there is none.
    fn take(&self) -> Option<(Py<PyAny>, Py<PyAny>, PyDone)> {
        self.bell.quiet();
        let Call { function, argument, done } = lock(&self.calls).pop_front()?;
        if !lock(&self.calls).is_empty() {
            self.bell.ring();
        }
        Some((function, argument, PyDone(done)))
    }
}

impl PyCalls {
    /// Has the greenlet make a call some time, and does not wait for it.
    pub(crate) fn post(&self, function: Py<PyAny>, argument: Py<PyAny>) {
        let (done, _) = mpsc::channel();
        lock(&self.calls).push_back(Call { function, argument, done });
        self.bell.ring();
    }

    /// Has the greenlet make a call, and waits until it has. A greenlet that is gone makes none.
    pub(crate) fn call(
        &self,
        py: Python<'_>,
        function: Py<PyAny>,
        argument: Py<PyAny>,
    ) -> Result<(), String> {
        let (done, is_done) = mpsc::channel();
        lock(&self.calls).push_back(Call { function, argument, done });
        self.bell.ring();
        match py.detach(move || is_done.recv()) {
            Ok(Some(error)) => Err(error),
            Ok(None) | Err(_) => Ok(()),
        }
    }
}
