//! The twins of [`Channel`]'s calls.

use farexec_proto::encoding::{Emit, Encode, EncodeError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::asking::ask;
use super::streams::{ChannelSink, ChannelStream};
use crate::channel::{Channel, ReceiveError, SendError};
use crate::payload::Payload;
use crate::wakers::Ticket;

impl Channel {
    /// Sends an item, as [`send`](Self::send) does, once the worker is no more than a mebibyte behind.
    ///
    /// A future that is dropped before it is ready has sent nothing.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # futures::executor::block_on(async {
    /// let group = farexec::Group::new();
    /// let gateway = group.make_gateway_async("popen").await?;
    /// let channel = gateway.remote_exec("channel.send(channel.receive() + 1)")?;
    /// channel.send_async(&41).await?;
    /// assert_eq!(channel.receive_async::<i64>().await?, 42);
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SendError`]; nothing was sent then.
    pub async fn send_async<T: Serialize + ?Sized>(&self, item: &T) -> Result<(), SendError> {
        self.finish_sending_async().await?;
        self.reserve_async().await?;
        self.start_sending(&farexec_proto::serde::AsItem(item)).map(drop)
    }

    /// Sends bytes as one item, as [`send_bytes`](Self::send_bytes) does, once the worker is no more than a mebibyte behind; but they are copied.
    ///
    /// A future that is dropped before it is ready has sent nothing.
    ///
    /// # Errors
    /// [`SendError`]; nothing was sent then.
    pub async fn send_bytes_async(&self, bytes: &[u8]) -> Result<(), SendError> {
        self.finish_sending_async().await?;
        self.reserve_async().await?;
        self.start_sending(&Bytes(bytes)).map(drop)
    }

    /// Waits until the worker has taken enough of what was sent, as [`finish_sending`](Self::finish_sending) does.
    ///
    /// # Errors
    /// [`SendError`]
    pub async fn finish_sending_async(&self) -> Result<(), SendError> {
        ask(|ticket| self.forget_sender(ticket), |wait| self.finish_sending(wait)).await
    }

    /// Waits until an item could be sent without waiting: until the worker has taken enough of what was sent, and one more item may be,
    /// if that is limited.
    ///
    /// # Errors
    /// [`SendError`]
    pub async fn room_async(&self) -> Result<(), SendError> {
        self.finish_sending_async().await?;
        ask(|ticket| self.forget_asker(ticket), |wait| self.wait_for_credit(wait)).await
    }

    async fn reserve_async(&self) -> Result<(), SendError> {
        ask(|ticket| self.forget_asker(ticket), |wait| self.reserve(wait)).await
    }

    /// Receives the next item, as [`receive`](Self::receive) does.
    ///
    /// A future that is dropped before it is ready has taken nothing: the item stays for whoever receives next.
    ///
    /// # Errors
    /// [`ReceiveError`]
    pub async fn receive_async<T: DeserializeOwned>(&self) -> Result<T, ReceiveError> {
        Ok(self.receive_payload_async().await?.decode()?)
    }

    /// Receives the next item, not yet decoded, as [`receive_payload`](Self::receive_payload) does.
    ///
    /// # Errors
    /// [`ReceiveError`]
    pub async fn receive_payload_async(&self) -> Result<Payload, ReceiveError> {
        ask(|ticket| self.forget_asker(ticket), |wait| self.receive_payload(wait)).await
    }

    /// Waits until no more items can arrive, as [`wait_close`](Self::wait_close) does.
    ///
    /// # Errors
    /// As those of [`wait_close`](Self::wait_close).
    pub async fn wait_close_async(&self) -> Result<(), ReceiveError> {
        ask(|ticket| self.forget_asker(ticket), |wait| self.wait_close(wait)).await
    }

    /// The items that arrive, as a stream that ends with the channel.
    ///
    /// ```
    /// use futures::StreamExt;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = farexec::Group::new();
    /// let channel = group.make_gateway("popen")?.remote_exec("for n in range(100): channel.send(n)")?;
    /// let even = channel.stream::<u32>().filter_map(async |n| n.ok().filter(|n| n % 2 == 0));
    /// assert_eq!(futures::executor::block_on(even.count()), 50);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn stream<T: DeserializeOwned>(&self) -> ChannelStream<T> {
        ChannelStream::new(self)
    }

    /// Where items go that are sent, as a sink. Closing it says that this side sends no more.
    ///
    /// ```
    /// use futures::{SinkExt, StreamExt, stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = farexec::Group::new();
    /// let channel = group.make_gateway("popen")?.remote_exec("channel.send(sum(channel))")?;
    /// futures::executor::block_on(stream::iter(1..=100).map(Ok).forward(channel.sink::<u32>()))?; // which closes it
    /// assert_eq!(channel.receive::<u32>()?, 5050);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn sink<T: Serialize>(&self) -> ChannelSink<T> {
        ChannelSink::new(self)
    }

    pub(super) fn forget_asker(&self, ticket: &Ticket) {
        self.gateway().link().forget_asker(Some(self.inbox()), ticket);
    }

    pub(super) fn forget_sender(&self, ticket: &Ticket) {
        self.gateway().link().forget_sender(ticket);
    }
}

/// A bytes object.
struct Bytes<'a>(&'a [u8]);

impl Encode for Bytes<'_> {
    fn encode<E: Emit>(&self, emit: &mut E) -> Result<(), EncodeError> {
        emit.bytes(self.0)
    }
}
