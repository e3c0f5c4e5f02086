//! Channels: the handle on a two-way stream of items between code here and code at a worker.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use farexec_proto::control::ErrorReport;
use farexec_proto::encoding::{DecodeError, Encode, EncodeError, StringCoercion, dump, encode_item, message};
use farexec_proto::frame::{Kind, PayloadTooLong};
use farexec_proto::{ChannelId, Encoding, frame};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::callback::{self, Callback};
use crate::end::{ChannelEnd, RemoteError};
use crate::gateway::Gateway;
use crate::inbox::{Inbox, Sink};
use crate::limits::SENT_IN_PLACE;
use crate::link::SendFailure;
use crate::payload::Payload;
use crate::receive_queue::{AlreadyTaken, Item};
use crate::wait::{Wait, WaitError};

/// A two-way, ordered stream of items. Clones are handles on the same channel; dropping the last one closes it.
///
/// ```
/// use farexec::{ReceiveError, Wait};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let group = farexec::Group::new();
/// let gateway = group.make_gateway("popen")?;
/// let channel = gateway.remote_exec("for item in channel: channel.send(item * 2)")?;
/// channel.send(&21)?;
/// assert_eq!(channel.receive::<i64>()?, 42);
///
/// let nothing = channel.receive_timeout::<i64>(Duration::from_millis(1));
/// assert!(matches!(nothing, Err(ReceiveError::Wait(_))));
///
/// channel.send("ab")?;
/// channel.end_sending(); // the loop over there ends
/// let rest: Vec<String> = channel.iter().collect::<Result<_, _>>()?;
/// assert_eq!(rest, ["abab"]);
/// channel.wait_close(&Wait::forever())?;
/// assert!(channel.is_closed());
/// assert_eq!(channel.end().map(|end| end.to_string()).as_deref(), Some("closed by the far end"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Channel(Arc<Handle>);

/// What the clones of a channel share: there is one at a time for each inbox.
pub(crate) struct Handle {
    inbox: Arc<Inbox>,
    gateway: Gateway,
}

/// Why an item was not sent.
///
/// ```
/// use farexec::SendError;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let group = farexec::Group::new();
/// let channel = group.make_gateway("popen")?.remote_exec("channel.receive()")?;
/// channel.close();
/// let Err(error @ SendError::Closed { .. }) = channel.send("too late") else { panic!() };
/// assert_eq!(error.to_string(), "cannot send to <Channel id=1 closed>: closed by this side");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// It is of a type that cannot be sent, or a part of it is.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// It is too long.
    #[error(transparent)]
    TooLong(#[from] PayloadTooLong),
    /// The channel is closed.
    #[error("cannot send to {channel}: {reason}")]
    Closed {
        /// The channel.
        channel: String,
        /// Why it is closed.
        reason: String,
    },
    /// The worker did not take in time what was sent before. This item is on its way all the same.
    #[error(transparent)]
    Wait(#[from] WaitError),
}

/// Why nothing was received.
///
/// ```
/// use farexec::ReceiveError;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let group = farexec::Group::new();
/// let channel = group.make_gateway("popen")?.remote_exec("channel.send({'a': [1, 'two']})")?;
/// let Err(ReceiveError::Decode(error)) = channel.receive::<std::collections::HashMap<String, Vec<u8>>>() else { panic!() };
/// assert_eq!(error.path().to_string(), "data['a'][1]");
/// assert!(matches!(channel.receive::<String>(), Err(ReceiveError::End(_))));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// No more items will come.
    #[error("no more items: {0}")]
    End(ChannelEnd),
    /// The far end closed the channel with an error. It is reported once, then it is an [`End`](Self::End).
    #[error(transparent)]
    Remote(RemoteError),
    /// The item is not what was asked for.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Nothing came in time.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// A callback or a receive queue takes the items.
    #[error(transparent)]
    AlreadyTaken(#[from] AlreadyTaken),
}

thread_local! {
    /// Where what is sent is encoded; empty between two sends.
    static FRAME: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A frame buffer larger than this is given back after use.
const KEPT_CAPACITY: usize = 1 << 20;

impl Channel {
    /// The channel whose items arrive in `inbox`.
    pub(crate) fn new(inbox: Arc<Inbox>, gateway: Gateway) -> Self {
        let mut state = inbox.state();
        if let Some(handle) = state.handle.upgrade() {
            return Self(handle);
        }
        let handle = Arc::new(Handle { inbox: Arc::clone(&inbox), gateway });
        state.handle = Arc::downgrade(&handle);
        Self(handle)
    }

    pub(crate) fn inbox(&self) -> &Arc<Inbox> {
        &self.0.inbox
    }

    /// The number of the channel, the same at both ends.
    #[must_use]
    pub fn id(&self) -> ChannelId {
        self.0.inbox.id
    }

    /// The gateway it belongs to.
    #[must_use]
    pub fn gateway(&self) -> &Gateway {
        &self.0.gateway
    }

    /// Sends an item: anything serde can write.
    ///
    /// It returns as soon as the item is on its way, and waits only if the worker is more than a mebibyte behind, or as many items as
    /// the channel was limited to.
    ///
    /// # Errors
    /// [`SendError`]; unless it is a [`SendError::Wait`], nothing was sent.
    pub fn send<T: Serialize + ?Sized>(&self, item: &T) -> Result<(), SendError> {
        self.reserve(&Wait::forever())?;
        let item = farexec_proto::serde::AsItem(item);
        if self.start_sending(&item)? { self.finish_sending(&Wait::forever()) } else { Ok(()) }
    }

    /// Sends an item once the far end has room for it, but waits no longer than `timeout` for that.
    ///
    /// ```
    /// use farexec::{SendError, Source};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = farexec::Group::new();
    /// let gateway = group.make_gateway("popen")?;
    /// let idle = gateway.remote_exec(Source::text("import time; time.sleep(60)").max_pending(1))?;
    /// idle.send("the one that may wait there")?;
    /// let refused = idle.send_timeout("another one", Duration::from_millis(1));
    /// assert!(matches!(refused, Err(SendError::Wait(_))));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SendError`]; nothing was sent then.
    pub fn send_timeout<T: Serialize + ?Sized>(&self, item: &T, timeout: Duration) -> Result<(), SendError> {
        let wait = Wait::at_most(timeout);
        self.finish_sending(&wait)?;
        self.reserve(&wait)?;
        self.start_sending(&farexec_proto::serde::AsItem(item)).map(drop)
    }

    /// Whether a sender that is too many items ahead waits: [`Source::max_pending`](crate::Source::max_pending).
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.0.inbox.flow().is_some()
    }

    /// Waits until one more item may be sent, if that is limited; then it has to be.
    ///
    /// # Errors
    /// [`SendError`]
    #[inline]
    pub fn reserve(&self, wait: &Wait<'_>) -> Result<(), SendError> {
        match self.0.inbox.flow() {
            None => Ok(()),
            Some(flow) => self.wait_until(|| flow.take(), wait),
        }
    }

    /// Gives back what was reserved for an item that is not sent.
    #[cold]
    pub(crate) fn unreserve(&self) {
        if let Some(flow) = self.0.inbox.flow() {
            flow.give(1);
        }
    }

    /// Waits until one more item may be sent, if that is limited.
    pub(crate) fn wait_for_credit(&self, wait: &Wait<'_>) -> Result<(), SendError> {
        match self.0.inbox.flow() {
            None => Ok(()),
            Some(flow) => self.wait_until(|| flow.has_credit(), wait),
        }
    }

    #[cold]
    fn wait_until(&self, is_ready: impl Fn() -> bool, wait: &Wait<'_>) -> Result<(), SendError> {
        let is_open = self.0.gateway.link().wait(Some(&self.0.inbox), wait, || {
            if self.0.inbox.state().closed {
                return Some(false);
            }
            is_ready().then_some(true)
        })?;
        if is_open { Ok(()) } else { Err(self.closed_error()) }
    }

    /// An item that arrived was taken by somebody else than [`receive`](Self::receive).
    pub(crate) fn item_taken(&self) {
        self.0.gateway.link().item_taken(&self.0.inbox);
    }

    /// Sends an item of any object model, without ever waiting. Returns whether so much is under way that the caller
    /// should wait ([`finish_sending`](Self::finish_sending)) before it sends more. On a channel that is limited,
    /// [`reserve`](Self::reserve) comes first.
    ///
    /// ```
    /// use farexec::{Value, Wait};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = farexec::Group::new();
    /// let channel = group.make_gateway("popen")?.remote_exec("channel.send(len(channel.receive()))")?;
    /// channel.reserve(&Wait::forever())?;
    /// if channel.start_sending(&Value::from(vec![Value::None, Value::from("text")]))? {
    ///     channel.finish_sending(&Wait::forever())?;
    /// }
    /// assert_eq!(channel.receive::<usize>()?, 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SendError`]; nothing was sent then.
    pub fn start_sending(&self, item: &impl Encode) -> Result<bool, SendError> {
        if self.is_inherited() || !self.0.inbox.state().may_send() {
            return Err(self.closed_error());
        }
        FRAME.with(|buffer| {
            // Encoding may run code of the caller's that sends on its own.
            let mut frames = buffer.take();
            let result = frame::write_with(&mut frames, Kind::Item, self.id(), |out| {
                self.encode(item, out).map_err(SendError::from)
            });
            let result =
                result.and_then(|()| self.0.gateway.link().send(&frames).map_err(|e| self.send_error(e)));
            if result.is_err() {
                self.unreserve();
            }
            frames.clear();
            if frames.capacity() <= KEPT_CAPACITY {
                buffer.replace(frames);
            }
            result
        })
    }

    /// Sends bytes as one item, from where they are, and waits until the system has taken them. For large items, which it saves a copy; see
    /// [`copies_when_sending`](Self::copies_when_sending).
    ///
    /// ```
    /// use farexec::Wait;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = farexec::Group::new();
    /// let channel = group.make_gateway("popen")?.remote_exec("channel.send(len(channel.receive()))")?;
    /// let image = vec![0_u8; 1 << 20];
    /// channel.send_bytes(&image, &Wait::forever())?;
    /// assert_eq!(channel.receive::<usize>()?, image.len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SendError`]; if it is a [`SendError::Wait`], the item is on its way all the same.
    pub fn send_bytes(&self, bytes: &[u8], wait: &Wait<'_>) -> Result<(), SendError> {
        if self.is_inherited() || !self.0.inbox.state().may_send() {
            return Err(self.closed_error());
        }
        let (opening, closing) = message::around_bytes(bytes.len())?;
        let payload = opening.len() + bytes.len() + closing.len();
        let header = frame::header_of_item(self.id(), payload)?;
        let sent = self.0.gateway.link().send_in_place(&[&header, &opening, bytes, &closing], wait);
        sent.map_err(|error| self.send_error(error))
    }

    /// Whether so many bytes are better sent by [`start_sending`](Self::start_sending): because they are few, or because the far end
    /// reads them in another encoding.
    #[must_use]
    pub fn copies_when_sending(&self, bytes: usize) -> bool {
        bytes < SENT_IN_PLACE || self.is_dumped()
    }

    /// Whether items are sent in the dump format: what strings are meant, only that tells.
    fn is_dumped(&self) -> bool {
        !self.0.gateway.link().reads_message() || self.0.inbox.coercion().py3str_as_py2str
    }

    fn encode(&self, item: &impl Encode, out: &mut Vec<u8>) -> Result<Encoding, EncodeError> {
        if self.is_dumped() {
            dump::encode(item, out)?;
            return Ok(Encoding::Dump);
        }
        encode_item(item, out)
    }

    /// Waits until the worker has taken enough of what was sent.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn finish_sending(&self, wait: &Wait<'_>) -> Result<(), SendError> {
        self.0.gateway.link().wait_for_room(wait).map_err(|error| self.send_error(error))
    }

    /// Receives the next item as any type serde can read; waits as long as it takes.
    ///
    /// # Errors
    /// [`ReceiveError`].
    pub fn receive<T: DeserializeOwned>(&self) -> Result<T, ReceiveError> {
        Ok(self.receive_payload(&Wait::forever())?.decode()?)
    }

    /// As [`receive`](Self::receive), but waits no longer than `timeout`.
    ///
    /// # Errors
    /// [`ReceiveError`].
    pub fn receive_timeout<T: DeserializeOwned>(&self, timeout: Duration) -> Result<T, ReceiveError> {
        Ok(self.receive_payload(&Wait::at_most(timeout))?.decode()?)
    }

    /// Receives the next item, not yet decoded.
    ///
    /// ```
    /// use farexec::Wait;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = farexec::Group::new();
    /// let channel = group.make_gateway("popen")?.remote_exec("channel.send(7); channel.send('seven')")?;
    /// for _ in 0..2 {
    ///     let payload = channel.receive_payload(&Wait::forever())?;
    ///     match payload.decode::<i64>() {
    ///         Ok(number) => assert_eq!(number, 7),
    ///         Err(_) => assert_eq!(payload.decode::<String>()?, "seven"),
    ///     }
    /// }
    /// assert!(channel.try_receive_payload().is_none());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ReceiveError`].
    pub fn receive_payload(&self, wait: &Wait<'_>) -> Result<Payload, ReceiveError> {
        self.check_not_inherited()?;
        let received = self.0.gateway.link().wait(Some(&self.0.inbox), wait, || {
            let mut state = self.0.inbox.state();
            if let Some(payload) = state.items.pop_front() {
                return Some(Ok(payload));
            }
            if !matches!(state.sink, Sink::Receive) {
                return Some(Err(AlreadyTaken.into()));
            }
            let end = state.end.clone()?;
            Some(Err(match state.error.take() {
                Some(error) => ReceiveError::Remote(error),
                None => ReceiveError::End(end),
            }))
        })?;
        if received.is_ok() {
            self.item_taken();
        }
        received
    }

    /// Receives the next item if it is there.
    #[must_use]
    pub fn try_receive_payload(&self) -> Option<Payload> {
        if self.is_inherited() {
            return None;
        }
        let payload = self.0.inbox.state().items.pop_front()?;
        self.item_taken();
        Some(payload)
    }

    /// An iterator over the items that ends with the channel.
    pub fn iter<T: DeserializeOwned>(&self) -> impl Iterator<Item = Result<T, ReceiveError>> + '_ {
        std::iter::from_fn(move || match self.receive() {
            Err(ReceiveError::End(_)) => None,
            result => Some(result),
        })
    }

    /// Has `callback` called with every item, those that wait already as well, and once with the end.
    ///
    /// All callbacks of a program run in one thread of their own, in the order in which their items arrived; they should not
    /// take long. An error, or a panic, closes the channel with that text.
    ///
    /// ```
    /// use farexec::Item;
    /// use std::sync::mpsc;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = farexec::Group::new();
    /// let channel = group.make_gateway("popen")?.remote_exec("for n in range(3): channel.send(n)")?;
    /// let (sender, results) = mpsc::channel();
    /// channel.set_callback(move |item| match item {
    ///     Item::Data(payload) => {
    ///         let number: u8 = payload.decode().map_err(|error| error.to_string())?;
    ///         sender.send(number).map_err(|error| error.to_string())
    ///     }
    ///     Item::End(_) => Ok(()), // the last call
    /// })?;
    /// assert_eq!(results.iter().take(3).collect::<Vec<_>>(), [0, 1, 2]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AlreadyTaken`].
    pub fn set_callback(
        &self,
        mut callback: impl FnMut(Item) -> Result<(), String> + Send + 'static,
    ) -> Result<(), AlreadyTaken> {
        self.set_reporting_callback(move |item| callback(item).map_err(callback::report))
    }

    /// The same for a callback whose errors say more than a text.
    ///
    /// # Errors
    /// [`AlreadyTaken`].
    pub fn set_reporting_callback(
        &self,
        callback: impl FnMut(Item) -> Result<(), ErrorReport> + Send + 'static,
    ) -> Result<(), AlreadyTaken> {
        let link = Arc::downgrade(self.0.gateway.link());
        self.redirect(Sink::Callback(Arc::new(Callback::new(Box::new(callback), link, self.id()))))
    }

    pub(crate) fn redirect(&self, sink: Sink) -> Result<(), AlreadyTaken> {
        if !self.0.inbox.redirect(sink) {
            return Err(AlreadyTaken);
        }
        self.0.gateway.link().consumer_added();
        Ok(())
    }

    /// Closes the channel: nothing is received or sent any more, here or there.
    pub fn close(&self) {
        self.0.gateway.link().close_channel(self.id(), None);
    }

    /// Says that this side sends no more: the far end's `receive` finds no more items then, and items still arrive from there.
    pub fn end_sending(&self) {
        self.0.inbox.state().said_last = true;
        self.0.gateway.link().last_on_channel(self.id());
    }

    /// Closes the channel with an error, which the far end's `receive` and `waitclose` raise.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = farexec::Group::new();
    /// let gateway = group.make_gateway("popen")?;
    /// let text = "
    ///     other = channel.receive()
    ///     try:
    ///         other.receive()
    ///     except other.RemoteError as error:
    ///         channel.send(str(error))
    /// ";
    /// let (channel, other) = (gateway.remote_exec(text)?, gateway.new_channel()?);
    /// channel.send(&other.id())?;
    /// other.close_with_error("out of paper");
    /// assert_eq!(channel.receive::<String>()?.trim(), "out of paper");
    /// # Ok(())
    /// # }
    /// ```
    pub fn close_with_error(&self, text: &str) {
        self.0.gateway.link().close_channel(self.id(), Some(&callback::report(text.into())));
    }

    /// Waits until no more items can arrive (and a callback has had them all).
    ///
    /// # Errors
    /// [`ReceiveError::Remote`] if the far end closed the channel with an error that nobody was told yet; [`ReceiveError::End`] if its
    /// gateway ended without being asked; [`ReceiveError::Wait`].
    pub fn wait_close(&self, wait: &Wait<'_>) -> Result<(), ReceiveError> {
        self.check_not_inherited()?;
        self.0.gateway.link().wait(Some(&self.0.inbox), wait, || {
            let mut state = self.0.inbox.state();
            (state.end.is_some() && state.drained).then(|| match (state.error.take(), &state.end) {
                (Some(error), _) => Err(ReceiveError::Remote(error)),
                (None, Some(end @ ChannelEnd::Gateway(reason))) if !reason.is_orderly() => {
                    Err(ReceiveError::End(end.clone()))
                }
                _ => Ok(()),
            })
        })?
    }

    /// Whether nothing can be sent any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_inherited() || self.0.inbox.state().closed
    }

    /// Whether no more items can arrive.
    #[must_use]
    pub fn is_receive_closed(&self) -> bool {
        self.0.inbox.state().end.is_some()
    }

    /// Why no more items arrive, once that is so.
    #[must_use]
    pub fn end(&self) -> Option<ChannelEnd> {
        self.0.inbox.state().end.clone()
    }

    /// The error that the far end closed the channel with, if nobody was told yet; it counts as told now.
    #[must_use]
    pub fn take_remote_error(&self) -> Option<RemoteError> {
        self.0.inbox.state().error.take()
    }

    /// How Python 2 strings that arrive on this channel are taken, and what the far end does with Python 3 strings.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn reconfigure(&self, py2str_as_py3str: bool, py3str_as_py2str: bool) -> Result<(), SendError> {
        self.0.inbox.set_coercion(StringCoercion { py2str_as_py3str, py3str_as_py2str });
        let link = self.0.gateway.link();
        crate::gateway::send_reconfigure(link, self.id(), py2str_as_py3str, py3str_as_py2str)
            .map_err(|error| self.send_error(error))
    }

    /// Whether it is that of the process that this one was forked from.
    fn is_inherited(&self) -> bool {
        self.0.gateway.link().is_inherited()
    }

    fn check_not_inherited(&self) -> Result<(), ReceiveError> {
        match self.0.gateway.link().end() {
            Some(reason) if self.is_inherited() => {
                Err(ReceiveError::End(ChannelEnd::Gateway(reason.clone())))
            }
            _ => Ok(()),
        }
    }

    fn closed_error(&self) -> SendError {
        let reason = match self.check_not_inherited() {
            Err(error) => error.to_string(),
            Ok(()) => match self.0.inbox.state().end.clone() {
                Some(end) => end.to_string(),
                None if self.0.inbox.state().said_last => "this side said that it sends no more".into(),
                None => "it is closed".into(),
            },
        };
        SendError::Closed { channel: self.to_string(), reason }
    }

    pub(crate) fn send_error(&self, failure: SendFailure) -> SendError {
        match failure {
            SendFailure::Ended(reason) => {
                SendError::Closed { channel: self.to_string(), reason: reason.to_string() }
            }
            SendFailure::Wait(error) => SendError::Wait(error),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let link = self.gateway.link();
        if link.is_inherited() {
            return;
        }
        let state = self.inbox.state();
        let (closed, has_callback) = (state.closed, matches!(state.sink, Sink::Callback(_)));
        drop(state);
        if closed {
            return;
        }
        // A callback goes on getting what the far end sends; without one, nobody could take it.
        if has_callback {
            link.last_on_channel(self.inbox.id);
        } else {
            link.close_channel(self.inbox.id, None);
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_closed() { "closed" } else { "open" };
        write!(f, "<Channel id={} {state}>", self.id())
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for Channel {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Channel {}
