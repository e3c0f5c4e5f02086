//! The end of the interpreter, for threads that are in here then.
//!
//! CPython before 3.14 ends a thread that comes back for the interpreter's lock too late by unwinding its stack (`pthread_exit`), and a process with Rust
//! on that stack aborts. So an exit handler, which runs while the lock can still be had, closes the door: who is on the way back is waited for, and who comes
//! later stays outside for ever, as all threads do from 3.14 on (<https://docs.python.org/3.14/c-api/init.html#cautions-regarding-runtime-finalization>).
//! The main thread is not meant: it is the one that ends the interpreter.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use crate::logging;

/// How long the end waits: for those on the way back, who have the lock soon, and for a callback that is under way. In the child of a fork some may be
/// counted that it does not have.
const PATIENCE: Duration = Duration::from_secs(1);

const LOOK: Duration = Duration::from_micros(100);

static IS_CLOSED: AtomicBool = AtomicBool::new(false);
/// Threads that ask for the lock.
static RETURNING: AtomicUsize = AtomicUsize::new(0);
/// Threads of ours that run Python code.
static CALLING: AtomicUsize = AtomicUsize::new(0);

/// One of those who are counted, as long as it exists.
struct Counted(&'static AtomicUsize);

impl Counted {
    /// `None` once the door is closed.
    fn begin(among: &'static AtomicUsize) -> Option<Self> {
        // Who closes the door looks at the count afterwards. One of the two sees the other.
        among.fetch_add(1, Ordering::SeqCst);
        let counted = Self(among);
        (!IS_CLOSED.load(Ordering::SeqCst)).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Calls `work` without the interpreter's lock, in a thread that is not the main one.
pub(crate) fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    let (result, _returning) = py.detach(|| {
        let result = work();
        let Some(returning) = Counted::begin(&RETURNING) else {
            loop {
                std::thread::park();
            }
        };
        (result, returning)
    });
    result
}

/// Calls `call` with the interpreter's lock, in a thread of ours. `None` at the end of the interpreter, when there is nothing to call any more.
pub(crate) fn attached<T>(call: impl FnOnce(Python<'_>) -> T) -> Option<T> {
    let _calling = Counted::begin(&CALLING)?;
    let returning = Counted::begin(&RETURNING)?;
    Python::try_attach(|py| {
        drop(returning);
        call(py)
    })
}

/// Has the door closed at the end of the interpreter: the later the better, and what is registered first is called last.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let close = wrap_pyfunction!(close, module)?;
    module.py().import("atexit")?.call_method1("register", (close,))?;
    Ok(())
}

#[pyfunction]
fn close(py: Python<'_>) {
    logging::hand_on_all(py);
    IS_CLOSED.store(true, Ordering::SeqCst);
    py.detach(|| {
        let deadline = Instant::now() + PATIENCE;
        let is_idle = || RETURNING.load(Ordering::SeqCst) == 0 && CALLING.load(Ordering::SeqCst) == 0;
        while !is_idle() && Instant::now() < deadline {
            std::thread::sleep(LOOK);
        }
    });
}
