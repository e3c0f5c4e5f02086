//! Streams and sinks: a channel's items one way and the other, the events of a receive queue, the results of a map.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::stream::{FusedStream, Stream};
use futures_sink::Sink;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::asking::to_poll;
use crate::channel::{Channel, ReceiveError, SendError};
use crate::map::{ResultError, Results};
use crate::receive_queue::{QueueEvent, ReceiveQueue};
use crate::wait::Wait;
use crate::wakers::Ticket;

/// The items that arrive on a channel, as a stream that ends with it. Made by [`Channel::stream`].
///
/// ```
/// use futures::TryStreamExt;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # futures::executor::block_on(async {
/// let group = farexec::Group::new();
/// let gateway = group.make_gateway_async("popen").await?;
/// let channel = gateway.remote_exec("for number in range(4): channel.send(number)")?;
/// let numbers: Vec<_> = channel.stream::<i64>().try_collect().await?;
/// assert_eq!(numbers, [0, 1, 2, 3]);
/// # Ok(())
/// # })
/// # }
/// ```
///
/// An error of the far end's code is the last but the end; an item that cannot be decoded is an error, and others follow.
#[derive(Debug)]
pub struct ChannelStream<T> {
    channel: Channel,
    ticket: Ticket,
    is_over: bool,
    item: PhantomData<fn() -> T>,
}

impl<T> ChannelStream<T> {
    pub(super) fn new(channel: &Channel) -> Self {
        Self { channel: channel.clone(), ticket: Ticket::new(), is_over: false, item: PhantomData }
    }
}

impl<T: DeserializeOwned> Stream for ChannelStream<T> {
    type Item = Result<T, ReceiveError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let wait = Wait::polling_with(context.waker(), &self.ticket);
        match ready!(to_poll(self.channel.receive_payload(&wait))) {
            Ok(payload) => Poll::Ready(Some(payload.decode().map_err(ReceiveError::from))),
            Err(ReceiveError::End(_)) => {
                self.is_over = true;
                Poll::Ready(None)
            }
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }
}

impl<T: DeserializeOwned> FusedStream for ChannelStream<T> {
    fn is_terminated(&self) -> bool {
        self.is_over
    }
}

impl<T> Drop for ChannelStream<T> {
    fn drop(&mut self) {
        self.channel.forget_asker(&self.ticket);
    }
}

/// Where items go that are sent on a channel, as a sink. Made by [`Channel::sink`].
///
/// It is ready as long as the worker is no more than a mebibyte behind, and flushed when all that was sent on the gateway has been handed to
/// the system. Closing it says that this side sends no more: the far end finds the end of items, and its items still arrive.
///
/// ```
/// use futures::{SinkExt, StreamExt, TryStreamExt, stream};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # futures::executor::block_on(async {
/// let group = farexec::Group::new();
/// let gateway = group.make_gateway_async("popen").await?;
/// let channel = gateway.remote_exec("for item in channel: channel.send(item * 2)")?;
/// let (sent, doubled) = futures::join!(
///     stream::iter(0..3).map(Ok).forward(channel.sink()),
///     channel.stream::<i64>().try_collect::<Vec<_>>(),
/// );
/// sent?;
/// assert_eq!(doubled?, [0, 2, 4]);
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Debug)]
pub struct ChannelSink<T> {
    channel: Channel,
    ticket: Ticket,
    /// Whether the next item has its credit.
    is_reserved: bool,
    item: PhantomData<fn(T)>,
}

impl<T> ChannelSink<T> {
    pub(super) fn new(channel: &Channel) -> Self {
        Self { channel: channel.clone(), ticket: Ticket::new(), is_reserved: false, item: PhantomData }
    }
}

impl<T: Serialize> Sink<T> for ChannelSink<T> {
    type Error = SendError;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let wait = Wait::polling_with(context.waker(), &self.ticket);
        let mut ready = self.channel.finish_sending(&wait);
        if !self.is_reserved {
            ready = ready.and_then(|()| self.channel.reserve(&wait));
            self.is_reserved = ready.is_ok();
        }
        to_poll(ready)
    }

    fn start_send(mut self: Pin<&mut Self>, item: T) -> Result<(), SendError> {
        self.is_reserved = false;
        self.channel.start_sending(&farexec_proto::serde::AsItem(&item)).map(drop)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let wait = Wait::polling_with(context.waker(), &self.ticket);
        let flushed = self.channel.gateway().link().wait_written(&wait);
        to_poll(flushed.map_err(|failure| self.channel.send_error(failure)))
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.channel.end_sending();
        self.poll_flush(context)
    }
}

impl<T> Drop for ChannelSink<T> {
    fn drop(&mut self) {
        if self.is_reserved {
            self.channel.unreserve();
        }
        self.channel.forget_sender(&self.ticket);
        self.channel.forget_asker(&self.ticket);
    }
}

/// The events that are there and come, until every channel has ended.
///
/// ```
/// use farexec::{Group, Item};
/// use futures::StreamExt;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # futures::executor::block_on(async {
/// let group = Group::new();
/// group.make_gateways_async(["popen"; 2]).await?;
/// let mut queue = group.remote_exec("channel.send(21)")?.receive_queue()?;
/// let mut sum = 0;
/// while let Some(event) = queue.next().await {
///     if let Item::Data(payload) = event.item {
///         sum += payload.decode::<i64>()?;
///     }
/// }
/// assert_eq!(sum, 42);
/// # Ok(())
/// # })
/// # }
/// ```
impl Stream for ReceiveQueue {
    type Item = QueueEvent;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<QueueEvent>> {
        match self.next_event(&Wait::polling_with(context.waker(), &self.ticket)) {
            Ok(event) => Poll::Ready(event),
            // There is no other reason than that nothing is there yet.
            Err(_) => Poll::Pending,
        }
    }
}

/// The results of a map, as a stream. Made by [`Results::stream`].
///
/// Nothing happens but while it is polled: items are taken, and given to workers, by whoever waits for the next result.
///
/// ```
/// use farexec::{Function, Group, MapOptions};
/// use futures::TryStreamExt;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # futures::executor::block_on(async {
/// let group = Group::new();
/// group.make_gateways_async(["popen"; 2]).await?;
/// let function = Function::Imported { module: "math".into(), call: "factorial".into() };
/// let results = group.map::<_, u64>(&function, 0..5, MapOptions::default())?.stream();
/// assert_eq!(results.try_collect::<Vec<_>>().await?, [1, 1, 2, 6, 24]);
/// # Ok(())
/// # })
/// # }
/// ```
pub struct ResultStream<I, T>(Results<I, T>);

impl<I: Iterator<Item: Serialize>, T: DeserializeOwned> Results<I, T> {
    /// The results as a stream.
    #[must_use]
    pub fn stream(self) -> ResultStream<I, T> {
        ResultStream(self)
    }
}

impl<I: Iterator<Item: Serialize> + Unpin, T: DeserializeOwned> Stream for ResultStream<I, T> {
    type Item = Result<T, ResultError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        to_poll(self.0.advance(&Wait::polling(context.waker()))).map(Result::transpose)
    }
}
