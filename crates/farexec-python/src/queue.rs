//! `ReceiveQueue`: one queue fed by many channels.

use farexec::{Item, QueueEvent, ReceiveQueue};
use pyo3::exceptions::PyOSError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::callback::Endmarker;
use crate::channel::PyChannel;
use crate::errors;
use crate::waiting::waiting;

/// A queue of everything that several channels receive, as (channel, item); made by `MultiChannel.make_receive_queue`.
///
/// With an endmarker, (channel, endmarker) comes once for each channel when it ends, for whatever reason.
///
///     >>> import farexec
///     >>> with farexec.Group(["popen"] * 2) as group:
///     ...     queue = group.remote_exec("channel.send(6 * 7)").make_receive_queue(endmarker=None)
///     ...     sorted([item for _, item in [queue.get() for _ in range(4)] if item is not None])
///     ...     queue.empty()
///     [42, 42]
///     True
#[pyclass(name = "ReceiveQueue", module = "farexec", weakref, frozen)]
pub(crate) struct PyReceiveQueue {
    pub(crate) queue: ReceiveQueue,
    channels: Vec<Py<PyChannel>>,
    endmarker: Option<Py<PyAny>>,
}

#[pymethods]
impl PyReceiveQueue {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.channels.iter().try_for_each(|channel| visit.call(channel))?;
        visit.call(&self.endmarker)
    }

    #[new]
    #[pyo3(signature = (channels, endmarker=Endmarker::missing()))]
    fn new(py: Python<'_>, channels: Vec<Py<PyChannel>>, endmarker: Endmarker) -> PyResult<Self> {
        let endmarker = endmarker.given(py)?;
        let native = channels.iter().map(|channel| channel.get().channel.clone()).collect();
        let queue = match endmarker {
            Some(_) => ReceiveQueue::new(native),
            None => ReceiveQueue::without_ends(native),
        };
        let queue = queue.map_err(|error| PyOSError::new_err(error.to_string()))?;
        Ok(Self { queue, channels, endmarker })
    }

    /// Returns the next (channel, item).
    ///
    /// With `block`, waits for it, at most `timeout` seconds. Raises queue.Empty if none came.
    #[pyo3(signature = (block=true, timeout=None))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<(Py<PyChannel>, Bound<'py, PyAny>)> {
        if let Some(event) = self.queue.try_get() {
            return self.pair(py, event);
        }
        if !block {
            return Err(empty(py));
        }
        if timeout.is_some_and(|timeout| timeout < 0.0) {
            return Err(pyo3::exceptions::PyValueError::new_err("'timeout' must be a non-negative number"));
        }
        let hub = self.channels.first().and_then(|channel| channel.get().home.hub());
        match waiting(py, hub, timeout, |wait| self.queue.get(wait))? {
            Ok(event) => self.pair(py, event),
            Err(farexec::WaitError::Timeout) => Err(empty(py)),
            Err(_) => Err(errors::interrupted(py)),
        }
    }

    /// Returns the next (channel, item) if it is there, else raises queue.Empty.
    fn get_nowait<'py>(&self, py: Python<'py>) -> PyResult<(Py<PyChannel>, Bound<'py, PyAny>)> {
        self.get(py, false, None)
    }

    /// The number of items that are there.
    fn qsize(&self) -> usize {
        self.queue.len()
    }

    /// Whether no item is there just now.
    fn empty(&self) -> bool {
        self.queue.is_empty()
    }

    fn __len__(&self) -> usize {
        self.queue.len()
    }

    fn __repr__(&self) -> String {
        format!("<ReceiveQueue of {} channels, {} items>", self.channels.len(), self.queue.len())
    }
}

impl PyReceiveQueue {
    pub(crate) fn pair<'py>(
        &self,
        py: Python<'py>,
        event: QueueEvent,
    ) -> PyResult<(Py<PyChannel>, Bound<'py, PyAny>)> {
        let channel = &self.channels[event.index];
        let item = match event.item {
            Item::Data(payload) => channel.get().decode(py, &payload)?,
            Item::End(_) => match &self.endmarker {
                Some(endmarker) => endmarker.bind(py).clone(),
                None => py.None().into_bound(py),
            },
        };
        Ok((channel.clone_ref(py), item))
    }
}

fn empty(py: Python<'_>) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    match CLASS.import(py, "queue", "Empty").and_then(|class| class.call0()) {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}
