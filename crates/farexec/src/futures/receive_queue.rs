//! The twins of [`ReceiveQueue`]'s calls.

use super::asking::ask;
use crate::receive_queue::{QueueEvent, ReceiveQueue};
use crate::wait::WaitError;

impl ReceiveQueue {
    /// The next event, as long as one can still come; `None` when every channel has ended and nothing is left.
    ///
    /// A future that is dropped before it is ready has taken nothing.
    pub async fn next_event_async(&self) -> Option<QueueEvent> {
        // Who asks is neither interrupted nor out of time.
        ask(|ticket| self.forget(ticket), |wait| self.next_event(wait)).await.ok().flatten()
    }

    /// The next event, waiting even if every channel has ended.
    ///
    /// A future that is dropped before it is ready has taken nothing.
    ///
    /// # Errors
    /// None so far: nothing but dropping it ends this wait.
    pub async fn get_async(&self) -> Result<QueueEvent, WaitError> {
        ask(|ticket| self.forget(ticket), |wait| self.get(wait)).await
    }
}
