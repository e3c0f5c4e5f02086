//! The twins of [`MultiChannel`]'s calls.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::asking::ask;
use crate::channel::{Channel, ReceiveError, SendError};
use crate::multichannel::MultiChannel;
use crate::payload::Payload;
use crate::wait::{Wait, WaitError};

impl MultiChannel {
    /// Sends the same item on each channel, as [`send_each`](Self::send_each) does: on each as soon as its worker has room.
    ///
    /// # Errors
    /// [`SendError`] of the first that failed; those after it were not tried.
    pub async fn send_each_async<T: Serialize + ?Sized>(&self, item: &T) -> Result<(), SendError> {
        for channel in self {
            channel.send_async(item).await?;
        }
        Ok(())
    }

    /// Receives one item from each channel, in the order of the channels, once each has one.
    ///
    /// A future that is dropped before it is ready has taken nothing.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # futures::executor::block_on(async {
    /// let group = farexec::Group::new();
    /// group.make_gateways_async(["popen"; 2]).await?;
    /// let channels = group.remote_exec("channel.send(channel.receive() + 1)")?;
    /// channels.send_each_async(&41).await?;
    /// assert_eq!(channels.receive_each_async::<i64>().await?, [42, 42]);
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ReceiveError`] of the first that failed; the items of the others stay where they are.
    pub async fn receive_each_async<T: DeserializeOwned>(&self) -> Result<Vec<T>, ReceiveError> {
        let payloads = self.receive_payloads_async().await?;
        payloads.iter().map(|payload| payload.decode().map_err(ReceiveError::from)).collect()
    }

    /// As [`receive_each_async`](Self::receive_each_async), not yet decoded.
    ///
    /// # Errors
    /// As there.
    pub async fn receive_payloads_async(&self) -> Result<Vec<Payload>, ReceiveError> {
        loop {
            for channel in self {
                channel.filled().await?;
            }
            match self.take_each() {
                // Somebody else has taken one meanwhile.
                Err(ReceiveError::Wait(_)) => {}
                result => return result,
            }
        }
    }

    /// Takes one item from each channel, or none from any.
    fn take_each(&self) -> Result<Vec<Payload>, ReceiveError> {
        let mut taken = Vec::with_capacity(self.len());
        for channel in self {
            match channel.receive_payload(&Wait::at_most(Duration::ZERO)) {
                Ok(payload) => taken.push(payload),
                Err(error) => {
                    for (channel, payload) in self.iter().zip(taken) {
                        channel.inbox().give_back(payload);
                    }
                    return Err(error);
                }
            }
        }
        Ok(taken)
    }

    /// Waits until no channel can receive any more, as [`wait_close`](Self::wait_close) does.
    ///
    /// # Errors
    /// After all have ended, the first remote error there was.
    pub async fn wait_close_async(&self) -> Result<(), ReceiveError> {
        let mut first = Ok(());
        for channel in self {
            first = first.and(channel.wait_close_async().await);
        }
        first
    }
}

impl Channel {
    /// Waits until `receive` would not wait.
    async fn filled(&self) -> Result<(), WaitError> {
        let (link, inbox) = (self.gateway().link(), self.inbox());
        let is_filled = || inbox.is_filled().then_some(());
        ask(|ticket| self.forget_asker(ticket), |wait| link.wait(Some(inbox), wait, is_filled)).await
    }
}
