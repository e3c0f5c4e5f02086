//! Multichannels: the channels of one execution on many gateways.

use std::ops::Index;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::channel::{Channel, ReceiveError, SendError};
use crate::receive_queue::{AlreadyTaken, ReceiveQueue};
use crate::wait::Wait;

/// Several channels as one.
///
/// ```
/// use farexec::Wait;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let group = farexec::Group::new();
/// group.make_gateways(["popen"; 3])?;
/// let channels = group.remote_exec("channel.send(channel.receive() + 1)")?;
/// for (number, channel) in (10..).zip(&channels) {
///     channel.send(&number)?;
/// }
/// assert_eq!(channels.receive_each::<i64>()?, [11, 12, 13]);
/// channels.wait_close(&Wait::forever())?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct MultiChannel {
    channels: Vec<Channel>,
}

impl MultiChannel {
    /// These channels as one.
    #[must_use]
    pub fn new(channels: Vec<Channel>) -> Self {
        Self { channels }
    }

    /// The channels.
    #[must_use]
    pub fn channels(&self) -> &[Channel] {
        &self.channels
    }

    /// The number of channels.
    #[must_use]
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// Whether there are no channels.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// The channels, one after the other.
    pub fn iter(&self) -> std::slice::Iter<'_, Channel> {
        self.channels.iter()
    }

    /// Sends the same item on each channel.
    ///
    /// # Errors
    /// [`SendError`] of the first that failed; those after it were not tried.
    pub fn send_each<T: Serialize + ?Sized>(&self, item: &T) -> Result<(), SendError> {
        self.channels.iter().try_for_each(|channel| channel.send(item))
    }

    /// Receives one item from each channel, in the order of the channels.
    ///
    /// # Errors
    /// [`ReceiveError`] of the first that failed.
    pub fn receive_each<T: DeserializeOwned>(&self) -> Result<Vec<T>, ReceiveError> {
        self.channels.iter().map(Channel::receive).collect()
    }

    /// One queue of all that the channels receive, each item with its channel.
    ///
    /// # Errors
    /// [`AlreadyTaken`] if the items of one of them go to another queue or a callback already.
    pub fn receive_queue(&self) -> Result<ReceiveQueue, AlreadyTaken> {
        ReceiveQueue::new(self.channels.clone())
    }

    /// Waits until no channel can receive any more.
    ///
    /// # Errors
    /// After all have ended, the first remote error there was; or [`ReceiveError::Wait`].
    pub fn wait_close(&self, wait: &Wait<'_>) -> Result<(), ReceiveError> {
        let mut first = Ok(());
        for channel in &self.channels {
            match channel.wait_close(wait) {
                Err(ReceiveError::Wait(error)) => return Err(error.into()),
                result => first = first.and(result),
            }
        }
        first
    }
}

impl Index<usize> for MultiChannel {
    type Output = Channel;

    fn index(&self, index: usize) -> &Channel {
        &self.channels[index]
    }
}

impl<'a> IntoIterator for &'a MultiChannel {
    type Item = &'a Channel;
    type IntoIter = std::slice::Iter<'a, Channel>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
