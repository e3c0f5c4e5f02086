//! asyncio: the futures of `farexec`, as coroutines await them.
//!
//! A [`PyLoop`] is the side of one event loop: it has one descriptor, which the loop watches, and through which all wakers of that loop are
//! collected. A [`PyOperation`] is what is awaited: it polls a future, and as long as that is not ready gives asyncio a future of its own to
//! wait for. So many waits cost one descriptor and no thread.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use farexec::{MultiChannel, SendError, Wait};
use pyo3::exceptions::{PyRuntimeError, PyStopAsyncIteration, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};

use crate::call::{self, PyRemoteFunction};
use crate::channel::PyChannel;
use crate::errors::{self, Raiser};
use crate::gateway::{PyGateway, status_dict};
use crate::green::{BorrowedBell, lock};
use crate::group::{PyGroup, ended, parse};
use crate::logging;
use crate::map::PyMap;
use crate::queue::PyReceiveQueue;

/// What becomes of the result of a future, once there is Python to do it in.
type Finish = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// A future whose result Python gets.
type Polled = Pin<Box<dyn Future<Output = Finish> + Send>>;

/// One event loop's side: where its wakers are collected.
#[pyclass(name = "Loop", module = "farexec._native", frozen)]
pub(crate) struct PyLoop {
    woken: Arc<Woken>,
    /// The asyncio futures that are waited for, by the number of their operation.
    waiters: Mutex<HashMap<u64, Py<PyAny>>>,
}

/// The operations that are worth another try.
struct Woken {
    bell: BorrowedBell,
    numbers: Mutex<Vec<u64>>,
}

struct OperationWaker {
    number: u64,
    woken: Arc<Woken>,
}

impl Wake for OperationWaker {
    fn wake(self: Arc<Self>) {
        lock(&self.woken.numbers).push(self.number);
        self.woken.bell.ring();
    }
}

#[pymethods]
impl PyLoop {
    #[new]
    fn new() -> PyResult<Self> {
        let woken = Woken { bell: BorrowedBell::new()?, numbers: Mutex::default() };
        Ok(Self { woken: Arc::new(woken), waiters: Mutex::default() })
    }

    /// What becomes readable when there is something to collect.
    fn fileno(&self) -> i32 {
        self.woken.bell.fileno()
    }

    /// Has the coroutines go on whose operations are worth another try.
    fn collect(&self, py: Python<'_>) -> PyResult<()> {
        self.woken.bell.quiet();
        let numbers = std::mem::take(&mut *lock(&self.woken.numbers));
        for number in numbers {
            let Some(waiter) = lock(&self.waiters).remove(&number) else { continue };
            let waiter = waiter.bind(py);
            if !waiter.call_method0(intern!(py, "done"))?.is_truthy()? {
                waiter.call_method1(intern!(py, "set_result"), (py.None(),))?;
            }
        }
        Ok(())
    }

    /// The next item of a channel.
    fn receive(this: Py<Self>, channel: Py<PyChannel>) -> PyOperation {
        let native = channel.get().channel.clone();
        PyOperation::new(this, async move { native.receive_payload_async().await }, move |py, result| {
            let channel = channel.get();
            let payload = result.map_err(|error| errors::receive(py, channel.home.raiser, error, None))?;
            Ok(channel.decode(py, &payload)?.unbind())
        })
    }

    /// One item of each channel, or none of any.
    fn receive_each(this: Py<Self>, channels: Vec<Py<PyChannel>>) -> PyOperation {
        let native =
            MultiChannel::new(channels.iter().map(|channel| channel.get().channel.clone()).collect());
        PyOperation::new(this, async move { native.receive_payloads_async().await }, move |py, result| {
            let payloads = result.map_err(|error| errors::receive(py, Raiser::Package, error, None))?;
            let items =
                channels.iter().zip(&payloads).map(|(channel, payload)| channel.get().decode(py, payload));
            Ok(items.collect::<PyResult<Vec<_>>>()?.into_pyobject(py)?.unbind())
        })
    }

    /// Room for what is to be sent on a channel; None if there is room now.
    fn room(this: Py<Self>, py: Python<'_>, channel: &PyChannel) -> PyResult<Option<PyOperation>> {
        let raiser = channel.home.raiser;
        let finish = move |py: Python<'_>, result: Result<(), SendError>| {
            result.map_err(|error| errors::send(py, raiser, error))?;
            Ok(py.None())
        };
        let native = channel.channel.clone();
        let mut future = Box::pin(async move { native.room_async().await });
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => finish(py, result).map(|_| None),
            Poll::Pending => Ok(Some(PyOperation::new(this, future, finish))),
        }
    }

    /// The end of a channel.
    fn waitclose(this: Py<Self>, channel: &PyChannel) -> PyOperation {
        let (native, raiser) = (channel.channel.clone(), channel.home.raiser);
        PyOperation::new(this, async move { native.wait_close_async().await }, move |py, result| {
            result.map_err(|error| errors::receive(py, raiser, error, None))?;
            Ok(py.None())
        })
    }

    /// The next (channel, item) of a queue; with `endless`, even if every channel has ended.
    fn get(this: Py<Self>, queue: Py<PyReceiveQueue>, endless: bool) -> PyOperation {
        let native = queue.get().queue.clone();
        let next = async move {
            if endless { native.get_async().await.ok() } else { native.next_event_async().await }
        };
        PyOperation::new(this, next, move |py, event| match event {
            Some(event) => Ok(queue.get().pair(py, event)?.into_pyobject(py)?.into_any().unbind()),
            None => Err(PyStopAsyncIteration::new_err(())),
        })
    }

    /// The next result of a map.
    fn next(this: Py<Self>, map: Py<PyMap>) -> PyOperation {
        let next = poll_fn(move |context: &mut Context<'_>| {
            Python::attach(|py| map.get().poll(py, &Wait::polling(context.waker())))
        });
        PyOperation::new(this, next, |_, result| result?.ok_or_else(|| PyStopAsyncIteration::new_err(())))
    }

    /// The result of a function at a worker.
    fn call(
        this: Py<Self>,
        py: Python<'_>,
        function: &PyRemoteFunction,
        arguments: &Bound<'_, PyTuple>,
        keywords: &Bound<'_, PyDict>,
    ) -> PyResult<PyOperation> {
        let mut call = function.start(py, arguments, Some(keywords))?;
        Ok(PyOperation::new(this, async move { call.wait_async().await }, |py, answer| {
            Ok(call::finish(py, answer)?.unbind())
        }))
    }

    /// How a worker is doing.
    fn status(this: Py<Self>, gateway: &PyGateway) -> PyOperation {
        let native = gateway.gateway.clone();
        PyOperation::new(this, async move { native.remote_status_async().await }, |py, result| {
            let status = result.map_err(|error| errors::gateway(py, error))?;
            Ok(status_dict(py, status)?.into_any().unbind())
        })
    }

    /// The end of a gateway.
    fn join(this: Py<Self>, gateway: &PyGateway) -> PyOperation {
        let native = gateway.gateway.clone();
        // Nothing but dropping it ends this wait.
        PyOperation::new(this, async move { native.wait_async().await }, |py, _| Ok(py.None()))
    }

    /// Workers for specs; see `Group.start`.
    fn start(
        this: Py<Self>,
        py: Python<'_>,
        group: &PyGroup,
        specs: Vec<String>,
        python: &str,
    ) -> PyResult<PyOperation> {
        logging::listen(py, None)?;
        let (native, specs) = (group.group.clone(), parse(&specs, python)?);
        let greenlets = group.greenlets(py);
        Ok(PyOperation::new(this, async move { native.start_async(specs).await }, move |py, result| {
            let started = result.map_err(|error| errors::start(py, error))?.into_iter();
            let greenlets = || greenlets.as_ref().map(|greenlets| greenlets.clone_ref(py));
            let gateways = started.map(|gateway| Py::new(py, PyGateway::new(gateway, greenlets())));
            Ok(gateways.collect::<PyResult<Vec<_>>>()?.into_pyobject(py)?.unbind())
        }))
    }

    /// The end of all workers; see `Group.terminate`.
    #[pyo3(signature = (group, timeout=None))]
    fn terminate(this: Py<Self>, group: &PyGroup, timeout: Option<f64>) -> PyOperation {
        let native = group.group.clone();
        // What is too long for a duration is for ever.
        let limit = timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
        let end = async move { native.terminate_with_async(limit, timeout.is_some()).await };
        PyOperation::new(this, end, |py, result| Ok(ended(py, result)?.into_pyobject(py)?.unbind()))
    }
}

/// What is awaited.
#[pyclass(name = "Operation", module = "farexec._native", frozen)]
pub(crate) struct PyOperation {
    home: Py<PyLoop>,
    number: u64,
    waker: Waker,
    future: Mutex<Option<Polled>>,
}

impl PyOperation {
    fn new<T: Send + 'static>(
        home: Py<PyLoop>,
        future: impl Future<Output = T> + Send + 'static,
        finish: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let woken = Arc::clone(&home.get().woken);
        let waker = Waker::from(Arc::new(OperationWaker { number, woken }));
        let future = async move {
            let result = future.await;
            let finish: Finish = Box::new(move |py| finish(py, result));
            finish
        };
        Self { home, number, waker, future: Mutex::new(Some(Box::pin(future))) }
    }
}

#[pymethods]
impl PyOperation {
    fn __await__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __iter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    /// Asks once more: the result, as StopIteration; or an asyncio future to wait for before it is asked again.
    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let Some(mut future) = lock(&self.future).take() else {
            return Err(PyRuntimeError::new_err("this was awaited already"));
        };
        // Not held while code of others runs.
        match future.as_mut().poll(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(finish) => Err(PyStopIteration::new_err((finish(py)?,))),
            Poll::Pending => {
                *lock(&self.future) = Some(future);
                let waiter = running_loop(py)?.call_method0(intern!(py, "create_future"))?;
                waiter.setattr(intern!(py, "_asyncio_future_blocking"), true)?;
                lock(&self.home.get().waiters).insert(self.number, waiter.clone().unbind());
                Ok(waiter)
            }
        }
    }
}

impl Drop for PyOperation {
    fn drop(&mut self) {
        let waiter = lock(&self.home.get().waiters).remove(&self.number);
        drop(waiter);
    }
}

fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    FUNCTION.import(py, "asyncio", "get_running_loop")?.call0()
}
