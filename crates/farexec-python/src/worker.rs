//! `Worker`: the connection of a worker that this process is, for `worker.py` to execute behind. Such a worker is called *native*.
//!
//! What is executed, and how its errors are described, is `worker.py`'s, which comes from the coordinator; what is here may be older or
//! newer than that, so both name the [`INTERFACE`] between them, and the worker is native only if they agree.

use std::os::fd::{FromRawFd, OwnedFd};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use farexec::proto::control::{ErrorReport, Hello};
use farexec::proto::encoding::StringCoercion;
use farexec::proto::handshake::PROTOCOL_VERSION;
use farexec::proto::{Encoding, serde::from_payload};
use farexec::worker::{Execution, Worker, WorkerSettings};
use farexec::{Cause, ExecModel, WaitError};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

use crate::channel::{Home, PyChannel, Registry, SharedCodec};
use crate::decode;
use crate::encode::PyItem;
use crate::errors::{self, Raiser};
use crate::waiting::{this_is_the_main_thread, waiting};

/// Changes with every change to what `worker.py` and this file say to each other.
pub(crate) const INTERFACE: (u32, u32) = (PROTOCOL_VERSION, 2);

/// Bytes of the stack of a thread that executes: what a main thread has as a rule.
const STACK: usize = 8 << 20;

#[pyclass(name = "Worker", module = "farexec._native", frozen)]
pub(crate) struct PyWorker(Arc<Served>);

/// The worker, and what its channels need.
struct Served {
    worker: Worker,
    home: Home,
}

#[pymethods]
impl PyWorker {
    /// The connection over two descriptors, which are its own from now on. Called in the main thread.
    ///
    /// `face` is what `channel.gateway` gives, and executes; `channel` the class of channels, a subclass of `Channel`; `namespace` has the
    /// errors that they raise as attributes.
    #[new]
    #[allow(clippy::too_many_arguments, reason = "called in one place, by name")]
    fn new(
        py: Python<'_>,
        incoming: i32,
        outgoing: i32,
        face: Py<PyAny>,
        channel: Py<PyType>,
        namespace: Py<PyAny>,
        id: String,
        execmodel: &str,
        group: bool,
    ) -> PyResult<Self> {
        let execmodel = ExecModel::from_str(execmodel).map_err(PyValueError::new_err)?;
        this_is_the_main_thread();
        errors::set_worker(py, namespace);
        // It is set before anything is read.
        let later: Arc<OnceLock<Arc<Served>>> = Arc::default();
        let served = Arc::clone(&later);
        let run_beside = Box::new(move |execution| match served.get() {
            Some(served) => run_beside(Arc::clone(served), execution),
            None => Err(std::io::Error::other("the worker has not answered yet")),
        });
        let settings = WorkerSettings { id, execmodel, group, run_beside };
        // SAFETY: the caller gives them away, as the doc says.
        #[allow(unsafe_code, reason = "Python knows descriptors as numbers")]
        let (input, output) = unsafe { (OwnedFd::from_raw_fd(incoming), OwnedFd::from_raw_fd(outgoing)) };
        let worker = Worker::new(input, output, settings)?;
        let home = Home {
            face,
            registry: Arc::new(Registry::default()),
            gateway: worker.gateway().clone(),
            greenlets: None,
            codec: SharedCodec::default(),
            raiser: Raiser::Worker,
            class: Some(channel),
            is_awaited: false,
        };
        let served = Arc::new(Served { worker, home });
        let _ = later.set(Arc::clone(&served));
        Ok(Self(served))
    }

    /// Answers the coordinator with the payload of a HELLO; behind `greeting`, unless that was sent with another one.
    fn say_hello(&self, greeting: &[u8], payload: &[u8]) -> PyResult<()> {
        let coercion = StringCoercion::default();
        let hello: Hello = from_payload(Encoding::Dump, payload, coercion)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        self.0
            .worker
            .say_hello(&hello, !greeting.is_empty())
            .map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// Waits for something that the main thread is to execute: (channel, request). None: there will be nothing more.
    fn next_task<'py>(&self, py: Python<'py>) -> PyResult<Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
        loop {
            let next = waiting(py, None, None, |wait| self.0.worker.next(wait))?;
            let Some(execution) = next.map_err(|_| errors::interrupted(py))? else { return Ok(None) };
            if let Some(task) = self.0.task(py, &execution, true) {
                return Ok(Some(task));
            }
        }
    }

    /// An execution has ended; said before its channel is closed.
    fn has_executed(&self, py: Python<'_>, in_main: bool) {
        py.detach(|| self.0.worker.has_executed(in_main));
    }

    /// Closes a channel, with what went wrong, if anything did: a dict as CLOSE_ERROR has it.
    fn close(&self, py: Python<'_>, channel: &PyChannel, error: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        let report = error.map(report).transpose()?;
        py.detach(|| self.0.worker.close(&channel.channel, report.as_ref()));
        Ok(())
    }

    /// Waits until all that was executed beside the main thread has ended.
    fn wait_idle(&self, py: Python<'_>) -> PyResult<()> {
        waiting(py, None, None, |wait| self.0.worker.wait_idle(wait))?.map_err(|_| errors::interrupted(py))
    }

    /// Waits until the system has taken all that was sent, or the coordinator is gone.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        let flushed = waiting(py, None, None, |wait| self.0.worker.flush(wait))?;
        flushed.map_err(|_: WaitError| errors::interrupted(py))
    }

    /// Sends an item even if the channel was closed by the end of this worker. Returns whether it could be sent.
    fn send_last_words(
        &self,
        py: Python<'_>,
        channel: &PyChannel,
        item: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let item = PyItem::new(item, Some(&channel.home));
        let sent = self.0.worker.send_last_words(&channel.channel, &item);
        sent.map_err(|error| errors::send(py, Raiser::Worker, error))
    }

    /// Opens a channel of this end's own.
    fn newchannel<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let channel = self.0.worker.gateway().new_channel();
        self.0.home.channel(py, channel.map_err(|error| PyOSError::new_err(error.to_string()))?)
    }

    /// Has the items of all channels that begin from now on, or of the one with this number, go through a codec.
    fn set_codec(&self, py: Python<'_>, codec: Py<PyAny>, number: Option<u32>) -> PyResult<()> {
        let home = &self.0.home;
        match number {
            None => home.codec.set(codec),
            Some(number) => drop(home.registry.set_codec(py, farexec::ChannelId::new(number), codec)),
        }
        Ok(())
    }

    /// Whether the coordinator is gone.
    #[getter]
    fn was_cut_off(&self) -> bool {
        self.0.worker.was_cut_off()
    }

    /// What the coordinator sent that no coordinator may send, if that ended this worker.
    #[getter]
    fn protocol_error(&self) -> Option<&str> {
        match self.0.worker.gateway().end_reason()?.cause() {
            Cause::Protocol(why) => Some(why),
            _ => None,
        }
    }

    /// In the child of a fork: it has no part in the connection.
    fn forget(&self) {
        self.0.worker.forget();
    }
}

impl Served {
    /// The objects of an execution; `None` if it cannot be read, which its channel is told.
    fn task<'py>(
        &self,
        py: Python<'py>,
        execution: &Execution,
        in_main: bool,
    ) -> Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let made = || {
            let channel = match execution.is_part {
                true => self.home.channel_without_codec(py, execution.channel.clone())?,
                false => self.home.channel(py, execution.channel.clone())?,
            };
            Ok((channel, decode::payload(py, &execution.request, &self.home)?))
        };
        let unreadable = match made() {
            Ok(task) => return Some(task),
            Err::<_, PyErr>(error) => error.value(py).to_string(),
        };
        let text = format!("cannot read what to execute: {unreadable}");
        self.worker.has_executed(in_main);
        self.worker.close(&execution.channel, Some(&ErrorReport { text, ..ErrorReport::default() }));
        None
    }
}

/// Executes in a thread of its own.
fn run_beside(served: Arc<Served>, execution: Execution) -> std::io::Result<()> {
    let thread = std::thread::Builder::new().name("farexec-execution".into()).stack_size(STACK);
    let run = move || {
        // At the end of the interpreter there is nothing to execute any more.
        Python::try_attach(|py| {
            let task = served.task(py, &execution, false);
            drop(execution);
            let Some(task) = task else { return };
            if let Err(error) = served.home.face.bind(py).call_method1("_execute", (task, false)) {
                error.write_unraisable(py, None);
            }
        });
    };
    thread.spawn(run).map(drop)
}

/// What a dict of worker.py says of an error, or one of Python's by the same keys.
pub(crate) fn report(dict: &Bound<'_, PyDict>) -> PyResult<ErrorReport> {
    let text = |key: &str| -> PyResult<String> {
        dict.get_item(key)?.map_or_else(|| Ok(String::new()), |value| value.extract())
    };
    let frames: Vec<(String, u32, String, String)> =
        dict.get_item("frames")?.map_or_else(|| Ok(Vec::new()), |frames| frames.extract())?;
    let frames = frames.into_iter().map(Into::into).collect();
    let notes = dict.get_item("notes")?.map_or_else(|| Ok(Vec::new()), |notes| notes.extract::<Vec<_>>())?;
    let notes = notes.into();
    let cause = match dict.get_item("cause")? {
        Some(cause) => Some(Box::new(report(&cause.cast_into::<PyDict>()?)?)),
        None => None,
    };
    let (text, r#type, message) = (text("text")?, text("type")?, text("message")?);
    Ok(ErrorReport { text, r#type, message, frames, notes, cause })
}
