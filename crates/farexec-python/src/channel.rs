//! `Channel`: a two-way stream of items.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use farexec::{Channel, ChannelId, Payload};
use pyo3::exceptions::{PyOSError, PyStopIteration, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyType, PyWeakrefReference};

use crate::callback::{self, Endmarker};
use crate::decode::{self, Resolver};
use crate::encode::PyItem;
use crate::errors::{self, Raiser};
use crate::green::{Greenlets, Hub};
use crate::waiting::{blocking, waiting, working};

thread_local! {
    /// What the next object of a subclass becomes: Python makes those by calling their class.
    static MADE: RefCell<Option<PyChannel>> = const { RefCell::new(None) };
}

/// Which Python object stands for which channel of a gateway, so that there is only ever one at a time.
#[derive(Default)]
pub(crate) struct Registry {
    objects: Mutex<HashMap<ChannelId, Py<PyWeakrefReference>>>,
    /// The codecs of channels that there is no object for yet.
    codecs: Mutex<HashMap<ChannelId, Py<PyAny>>>,
}

impl Registry {
    /// Has the items of one channel go through a codec; false if they go through one already.
    pub(crate) fn set_codec(&self, py: Python<'_>, id: ChannelId, codec: Py<PyAny>) -> bool {
        let object = self.get(py, id);
        match object.as_ref().and_then(|object| object.cast::<PyChannel>().ok()) {
            Some(channel) => channel.get().codec.0.set(codec).is_ok(),
            None => self.codecs.lock().unwrap_or_else(PoisonError::into_inner).insert(id, codec).is_none(),
        }
    }

    fn take_codec(&self, id: ChannelId) -> Option<Codec> {
        let codec = self.codecs.lock().unwrap_or_else(PoisonError::into_inner).remove(&id)?;
        Some(Codec(OnceLock::from(codec)))
    }

    fn get<'py>(&self, py: Python<'py>, id: ChannelId) -> Option<Bound<'py, PyAny>> {
        let known = self
            .objects
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
            .map(|known| known.clone_ref(py));
        known.and_then(|known| known.bind(py).upgrade())
    }

    fn insert(&self, id: ChannelId, reference: Py<PyWeakrefReference>) {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner).insert(id, reference);
    }

    fn forget(&self, id: ChannelId) {
        let forgotten = self.objects.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        drop(forgotten);
    }
}

/// What a channel knows of its gateway.
pub(crate) struct Home {
    /// The `farexec.Gateway`, for `channel.gateway`. Each home has a reference of its own, which Python's garbage collector counts.
    pub(crate) face: Py<PyAny>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) gateway: farexec::Gateway,
    pub(crate) greenlets: Option<Greenlets>,
    /// The codec of channels that are made now.
    pub(crate) codec: SharedCodec,
    /// Whose exceptions its channels raise.
    pub(crate) raiser: Raiser,
    /// The class of its channels, if that is not [`PyChannel`] itself but a subclass.
    pub(crate) class: Option<Py<PyType>>,
    /// Whether its channels belong to event loops: nothing of theirs may wait, and there was room before something is sent.
    pub(crate) is_awaited: bool,
}

/// What items go through on their way to and from the encodings of farexec, if anything: an object with `encode` and `decode`.
pub(crate) struct Codec(OnceLock<Py<PyAny>>);

impl Codec {
    fn encode<'py>(&self, item: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.get().map(|codec| codec.bind(item.py()).call_method1("encode", (item,))).transpose()
    }

    pub(crate) fn decode<'py>(&self, item: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match self.0.get() {
            None => Ok(item),
            Some(codec) => codec.bind(item.py()).call_method1("decode", (item,)),
        }
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        Self(self.0.get().map_or_else(OnceLock::new, |codec| OnceLock::from(codec.clone_ref(py))))
    }
}

/// The codec of a gateway, which may be set while others look.
#[derive(Clone, Default)]
pub(crate) struct SharedCodec(Arc<Mutex<Option<Py<PyAny>>>>);

impl SharedCodec {
    pub(crate) fn set(&self, codec: Py<PyAny>) {
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(codec);
        drop(before);
    }

    fn get(&self, py: Python<'_>) -> Codec {
        let codec = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Codec(codec.as_ref().map_or_else(OnceLock::new, |codec| OnceLock::from(codec.clone_ref(py))))
    }
}

impl Home {
    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        let (registry, gateway) = (Arc::clone(&self.registry), self.gateway.clone());
        let greenlets = self.greenlets.as_ref().map(|greenlets| greenlets.clone_ref(py));
        let class = self.class.as_ref().map(|class| class.clone_ref(py));
        let (face, codec) = (self.face.clone_ref(py), self.codec.clone());
        let (raiser, is_awaited) = (self.raiser, self.is_awaited);
        Self { face, registry, gateway, greenlets, codec, raiser, class, is_awaited }
    }

    pub(crate) fn hub(&self) -> Option<&Hub> {
        self.greenlets.as_ref().map(|greenlets| &greenlets.hub)
    }

    /// The Python object of a channel, made if there is none.
    pub(crate) fn channel<'py>(&self, py: Python<'py>, channel: Channel) -> PyResult<Bound<'py, PyAny>> {
        let id = channel.id();
        if let Some(known) = self.registry.get(py, id) {
            return Ok(known);
        }
        let codec = self.registry.take_codec(id).unwrap_or_else(|| self.codec.get(py));
        self.make(py, channel, codec)
    }

    /// The Python object of a new channel whose items go through no codec.
    pub(crate) fn channel_without_codec<'py>(
        &self,
        py: Python<'py>,
        channel: Channel,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.make(py, channel, Codec(OnceLock::new()))
    }

    fn make<'py>(&self, py: Python<'py>, channel: Channel, codec: Codec) -> PyResult<Bound<'py, PyAny>> {
        let id = channel.id();
        let made = PyChannel { channel, home: self.clone_ref(py), codec };
        let object = match &self.class {
            None => Bound::new(py, made)?.into_any(),
            Some(class) => {
                MADE.set(Some(made));
                class.bind(py).call0()?
            }
        };
        self.registry.insert(id, PyWeakrefReference::new(&object)?.unbind());
        Ok(object)
    }
}

impl Resolver for Home {
    fn resolve<'py>(&self, py: Python<'py>, id: ChannelId) -> PyResult<Bound<'py, PyAny>> {
        match self.registry.get(py, id) {
            Some(known) => Ok(known),
            None => self.channel(py, self.gateway.channel(id)),
        }
    }
}

/// A two-way, ordered stream of items between code here and code at a worker.
///
/// Items are None, bool, int, float, complex, str, bytes, tuple, list, dict, set, frozenset and channels of the same gateway,
/// nested as you like; of exactly these types, so that nothing changes its type on the way.
///
/// Dropping the last reference closes the channel.
///
///     >>> import farexec
///     >>> with farexec.Group(["popen"]) as group:
///     ...     channel = group[0].remote_exec("for item in channel: channel.send(item * 2)")
///     ...     channel.send(21)
///     ...     channel.receive(timeout=20)
///     ...     channel.makefile("w", proxyclose=True).close()  # this side sends no more
///     ...     channel.waitclose()
///     ...     channel.isclosed()
///     42
///     True
///
/// A callback gets what arrives, and then the endmarker:
///
///     >>> received = []
///     >>> with farexec.Group(["popen"]) as group:
///     ...     channel = group[0].remote_exec("for number in range(3): channel.send(number)")
///     ...     channel.setcallback(received.append, endmarker="the end")
///     ...     channel.waitclose()
///     >>> received
///     [0, 1, 2, 'the end']
#[pyclass(name = "Channel", module = "farexec", weakref, frozen, subclass)]
pub(crate) struct PyChannel {
    pub(crate) channel: Channel,
    pub(crate) home: Home,
    codec: Codec,
}

impl PyChannel {
    /// Waits for the credit of one item.
    #[cold]
    fn reserve(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let reserved = waiting(py, self.home.hub(), timeout, |wait| self.channel.reserve(wait))?;
        reserved.map_err(|error| errors::send(py, self.home.raiser, error))
    }

    #[cold]
    fn send_in_time(&self, py: Python<'_>, item: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<()> {
        let channel = self.channel.clone();
        let room = working(py, self.home.hub(), timeout, move |wait| channel.finish_sending(wait))?;
        room.map_err(|error| errors::send(py, self.home.raiser, error))?;
        self.reserve(py, timeout)?;
        let sent = self.channel.start_sending(&PyItem::new(item, Some(&self.home)));
        sent.map(drop).map_err(|error| errors::send(py, self.home.raiser, error))
    }

    pub(crate) fn decode<'py>(&self, py: Python<'py>, payload: &Payload) -> PyResult<Bound<'py, PyAny>> {
        self.codec.decode(decode::payload(py, payload, &self.home)?)
    }
}

#[pymethods]
impl PyChannel {
    /// The number of the channel, the same at both ends.
    #[getter]
    fn id(&self) -> u32 {
        self.channel.id().number()
    }

    /// The gateway it belongs to.
    #[getter]
    fn gateway(&self, py: Python<'_>) -> Py<PyAny> {
        self.home.face.clone_ref(py)
    }

    /// Channels are made by gateways; only those can call this.
    #[new]
    fn new() -> PyResult<Self> {
        MADE.take().ok_or_else(|| {
            PyTypeError::new_err("channels are made by gateways: remote_exec() and newchannel() return them")
        })
    }

    /// Sends one item. It is on its way when this returns.
    ///
    /// It waits only if the worker is more than a mebibyte behind, or as many items as `max_pending` of the channel says. With `timeout`,
    /// a number of seconds, it waits no longer than that for room, and then sends nothing.
    ///
    /// Raises DumpError if a part of the item is of a type that cannot be sent, OSError if the channel is closed, TimeoutError if there
    /// was no room in time.
    #[pyo3(signature = (item, timeout=None))]
    fn send(&self, py: Python<'_>, item: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<()> {
        let encoded = self.codec.encode(item)?;
        if timeout.is_some() {
            return self.send_in_time(py, encoded.as_ref().unwrap_or(item), timeout);
        }
        if self.channel.is_limited() {
            self.reserve(py, None)?;
        }
        if let Ok(bytes) = encoded.as_ref().unwrap_or(item).cast_exact::<PyBytes>()
            && self.home.greenlets.is_none()
            && !self.home.is_awaited
            && !self.channel.copies_when_sending(bytes.as_bytes().len())
        {
            // They stay where they are as long as `bytes` is held, and never change.
            let bytes = bytes.as_bytes();
            let sent = blocking(py, None, |wait| self.channel.send_bytes(bytes, wait))?;
            return sent.map_err(|error| errors::send(py, self.home.raiser, error));
        }
        let item = PyItem::new(encoded.as_ref().unwrap_or(item), Some(&self.home));
        let is_full =
            self.channel.start_sending(&item).map_err(|error| errors::send(py, self.home.raiser, error))?;
        if is_full && !self.home.is_awaited {
            let channel = self.channel.clone();
            let result = working(py, self.home.hub(), None, move |wait| channel.finish_sending(wait))?;
            result.map_err(|error| errors::send(py, self.home.raiser, error))?;
        }
        Ok(())
    }

    /// Returns the next item; waits for it, at most `timeout` seconds.
    ///
    /// Raises RemoteError if the far end raised, EOFError if no more items come, TimeoutError if none came in time.
    #[pyo3(signature = (timeout=None))]
    fn receive<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        let payload = match self.channel.try_receive_payload() {
            Some(payload) => payload,
            None => waiting(py, self.home.hub(), timeout, |wait| self.channel.receive_payload(wait))?
                .map_err(|error| errors::receive(py, self.home.raiser, error, timeout))?,
        };
        self.decode(py, &payload)
    }

    fn __iter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.receive(py, None) {
            Ok(item) => Ok(Some(item)),
            Err(error) if error.is_instance_of::<pyo3::exceptions::PyEOFError>(py) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the next item, as the function `next` does.
    ///
    /// Raises StopIteration if no more come.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.__next__(py)?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    /// Has `callback` called with each item, those that wait already as well, and once with `endmarker`, if given, when there are no
    /// more.
    ///
    /// All callbacks run in one thread of their own (one greenlet of their own, in the execution models gevent and eventlet), in the order in which their items arrived; they should not take long. One that
    /// raises closes the channel with that error.
    ///
    /// Raises OSError if a callback or a receive queue takes the items already.
    #[pyo3(signature = (callback, endmarker=Endmarker::missing()))]
    fn setcallback(&self, py: Python<'_>, callback: Py<PyAny>, endmarker: Endmarker) -> PyResult<()> {
        let endmarker = endmarker.given(py)?;
        if let Some(greenlets) = &self.home.greenlets {
            greenlets.hub.bind(py).call_method1("serve", (&greenlets.calls,))?;
        }
        let call = callback::caller(callback, endmarker, self.home.clone_ref(py), self.codec.clone_ref(py));
        let text = format!("{} has callback already registered", self.channel);
        self.channel.set_reporting_callback(call).map_err(|_| PyOSError::new_err(text))
    }

    /// Returns a file-like object: mode "w" sends what is written to it, mode "r" reads text or bytes that arrive. With `proxyclose`,
    /// closing it closes the channel.
    #[pyo3(signature = (mode="w", proxyclose=false))]
    fn makefile<'py>(this: &Bound<'py, Self>, mode: &str, proxyclose: bool) -> PyResult<Bound<'py, PyAny>> {
        this.py().import("farexec._files")?.call_method1("make", (this, mode, proxyclose))
    }

    /// Closes the channel: nothing is received or sent any more, here or there. With `error`, a text, the far end sees a
    /// RemoteError.
    #[pyo3(signature = (error=None))]
    fn close(&self, error: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        match error {
            None => self.channel.close(),
            Some(error) => self.channel.close_with_error(&error.str()?.to_string_lossy()),
        }
        Ok(())
    }

    /// Waits until no more items can arrive, at most `timeout` seconds; if there is a callback, until it has had them all.
    ///
    /// Raises RemoteError if the far end closed the channel with an error that was not raised before, EOFError if its gateway ended
    /// without being asked to, TimeoutError.
    #[pyo3(signature = (timeout=None))]
    fn waitclose(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        waiting(py, self.home.hub(), timeout, |wait| self.channel.wait_close(wait))?.map_err(|error| {
            match error {
                farexec::ReceiveError::Wait(error) => errors::wait(py, self.home.raiser, error, || {
                    format!("the channel is not closed after {} seconds", timeout.unwrap_or_default())
                }),
                error => errors::receive(py, self.home.raiser, error, timeout),
            }
        })
    }

    /// Whether the channel is closed.
    fn isclosed(&self) -> bool {
        self.channel.is_closed()
    }

    /// Says how strings of the other major version of Python are taken on this channel; see `Gateway.reconfigure`.
    #[pyo3(signature = (py2str_as_py3str=true, py3str_as_py2str=false))]
    fn reconfigure(&self, py: Python<'_>, py2str_as_py3str: bool, py3str_as_py2str: bool) -> PyResult<()> {
        self.channel
            .reconfigure(py2str_as_py3str, py3str_as_py2str)
            .map_err(|error| errors::send(py, self.home.raiser, error))
    }

    /// Has items go through a codec from now on, at both ends; see `Gateway.setcodec`. What is on its way is not affected.
    ///
    /// Raises OSError if the channel has a codec already.
    fn setcodec<'py>(this: &Bound<'py, Self>, codec: &Bound<'py, PyAny>) -> PyResult<()> {
        let refused = || PyOSError::new_err(format!("{} has a codec already", this.get().channel));
        if this.get().codec.0.get().is_some() {
            return Err(refused());
        }
        let give = this.py().import("farexec._codecs")?.getattr("give")?;
        let codec = give.call1((&this.get().home.face, codec, this))?;
        this.get().codec.0.set(codec.unbind()).map_err(|_| refused())
    }

    /// Returns the error the channel was closed with, if it was not raised before; it counts as raised then.
    fn _getremoteerror<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let error = self.channel.take_remote_error();
        error.map(|error| errors::remote_object(py, self.home.raiser, &error)).transpose()
    }

    fn __repr__(&self) -> String {
        self.channel.to_string()
    }

    /// Programs keep channels where their gateways keep them: such rings are found by this.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.home.face)?;
        self.codec.0.get().map_or(Ok(()), |codec| visit.call(codec))
    }
}

impl Drop for PyChannel {
    fn drop(&mut self) {
        self.home.registry.forget(self.channel.id());
    }
}
