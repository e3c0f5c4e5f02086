//! `Gateway` as the package builds on it: `farexec.Gateway` is its face, and what `channel.gateway` gives.

use std::sync::{Arc, OnceLock};

use farexec::{Gateway, Request, Status, WaitError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

use crate::call::{PyRemoteFunction, described};
use crate::channel::{Home, Registry, SharedCodec};
use crate::encode::PyKwargs;
use crate::errors::{self, Raiser};
use crate::green::{Greenlets, Hub};
use crate::waiting::{waiting, working};

#[pyclass(name = "Gateway", module = "farexec._native", frozen)]
pub(crate) struct PyGateway {
    pub(crate) gateway: Gateway,
    registry: Arc<Registry>,
    greenlets: Option<Greenlets>,
    /// What the items of channels go through that are made from now on.
    codec: SharedCodec,
    /// The class of its channels, if they belong to event loops.
    channel_class: OnceLock<Py<PyType>>,
}

impl PyGateway {
    pub(crate) fn new(gateway: Gateway, greenlets: Option<Greenlets>) -> Self {
        let (registry, codec) = (Arc::default(), SharedCodec::default());
        Self { gateway, registry, greenlets, codec, channel_class: OnceLock::new() }
    }

    pub(crate) fn hub(&self) -> Option<&Hub> {
        self.greenlets.as_ref().map(|greenlets| &greenlets.hub)
    }

    /// What a channel needs of its gateway. Only channels hold on to the face, which holds on to this: not the other way round.
    pub(crate) fn home(&self, py: Python<'_>, face: Py<PyAny>) -> Home {
        let greenlets = self.greenlets.as_ref().map(|greenlets| greenlets.clone_ref(py));
        let (registry, codec) = (Arc::clone(&self.registry), self.codec.clone());
        let (gateway, raiser) = (self.gateway.clone(), Raiser::Package);
        let class = self.channel_class.get().map(|class| class.clone_ref(py));
        let is_awaited = class.is_some();
        Home { face, registry, gateway, greenlets, codec, raiser, class, is_awaited }
    }
}

#[pymethods]
impl PyGateway {
    #[getter]
    fn id(&self) -> &str {
        self.gateway.id()
    }

    #[getter]
    fn pid(&self) -> Option<u32> {
        self.gateway.pid()
    }

    /// The address of the socket that the worker is behind.
    #[getter]
    fn address(&self) -> Option<&str> {
        self.gateway.address()
    }

    #[getter]
    fn returncode(&self) -> Option<i32> {
        self.gateway.return_code()
    }

    #[getter]
    fn end_reason(&self) -> Option<String> {
        self.gateway.end_reason().map(ToString::to_string)
    }

    #[getter]
    fn execmodel(&self) -> &'static str {
        self.gateway.execmodel().name()
    }

    #[getter]
    fn channel_count(&self) -> usize {
        self.gateway.channel_count()
    }

    /// Executes source text; see `farexec.Gateway.remote_exec`. `face`: what `channel.gateway` gives.
    #[pyo3(signature = (face, source, file, line, call, kwargs, beside=false, max_pending=None))]
    #[allow(clippy::too_many_arguments, reason = "called in one place, by position")]
    fn execute<'py>(
        &self,
        py: Python<'py>,
        face: Py<PyAny>,
        source: String,
        file: Option<String>,
        line: u32,
        call: Option<String>,
        kwargs: &Bound<'py, PyDict>,
        beside: bool,
        max_pending: Option<u32>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let home = self.home(py, face);
        let kwargs = PyKwargs::new(kwargs, &home);
        let request = Request {
            source,
            file,
            line,
            call: call.as_deref(),
            kwargs: &kwargs,
            beside,
            max_pending,
            part: None,
        };
        let channel = self.gateway.execute(&request).map_err(|error| errors::execute(py, error))?;
        if beside { home.channel_without_codec(py, channel) } else { home.channel(py, channel) }
    }

    /// A function to call at the worker, described as for a map.
    fn function(&self, py: Python<'_>, function: &Bound<'_, PyTuple>) -> PyResult<PyRemoteFunction> {
        let function = self.gateway.function(described(function)?);
        let greenlets = self.greenlets.as_ref().map(|greenlets| greenlets.clone_ref(py));
        Ok(PyRemoteFunction { function, greenlets })
    }

    /// Has its channels be of a subclass of `Channel` for event loops; said before there are any.
    fn set_channel_class(&self, class_: Py<PyType>) {
        let _ = self.channel_class.set(class_);
    }

    /// Has the items of channels that are made from now on go through a codec.
    fn set_codec(&self, codec: Py<PyAny>) {
        self.codec.set(codec);
    }

    #[pyo3(signature = (face, max_pending=None))]
    fn newchannel<'py>(
        &self,
        py: Python<'py>,
        face: Py<PyAny>,
        max_pending: Option<u32>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let channel =
            self.gateway.new_limited_channel(max_pending).map_err(|error| errors::gateway(py, error))?;
        self.home(py, face).channel(py, channel)
    }

    fn hello<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let hello = self.gateway.hello();
        let dict = PyDict::new(py);
        dict.set_item("executable", hello.executable)?;
        dict.set_item("version", hello.version)?;
        dict.set_item("platform", hello.platform)?;
        dict.set_item("cwd", hello.cwd)?;
        dict.set_item("pid", self.gateway.pid())?;
        dict.set_item("implementation", hello.implementation)?;
        dict.set_item("worker", hello.worker)?;
        Ok(dict)
    }

    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let gateway = self.gateway.clone();
        let status = working(py, self.hub(), None, move |wait| gateway.remote_status(wait))?;
        status_dict(py, status.map_err(|error| errors::gateway(py, error))?)
    }

    fn reconfigure(&self, py: Python<'_>, py2str_as_py3str: bool, py3str_as_py2str: bool) -> PyResult<()> {
        self.gateway
            .reconfigure(py2str_as_py3str, py3str_as_py2str)
            .map_err(|error| errors::gateway(py, error))
    }

    fn exit(&self) {
        self.gateway.exit();
    }

    /// Waits until the gateway has ended. Returns whether it has.
    #[pyo3(signature = (timeout=None))]
    fn join(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        match waiting(py, self.hub(), timeout, |wait| self.gateway.wait(wait))? {
            Ok(_) => Ok(true),
            Err(WaitError::Timeout) => Ok(false),
            Err(WaitError::Interrupted | WaitError::Pending) => Err(errors::interrupted(py)),
        }
    }
}

/// How a worker is doing, as keyword arguments of `RemoteStatus`.
pub(crate) fn status_dict(py: Python<'_>, status: Status) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("channels", status.channels)?;
    dict.set_item("executing", status.executing)?;
    dict.set_item("queued", status.queued)?;
    dict.set_item("execmodel", status.execmodel)?;
    dict.set_item("cwd", status.cwd)?;
    Ok(dict)
}
