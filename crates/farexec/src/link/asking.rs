//! Waiting by asking: who may not block is told "not yet", and leaves a waker where what he waits for will be noticed.
//!
//! He never reads: the reactor does, as it does for callbacks, so as long as there are wakers it is to be woken by the next byte.

use std::sync::Arc;

use super::{Link, SendFailure};
use crate::inbox::Inbox;
use crate::wait::{Wait, WaitError};
use crate::wakers::{Asker, Ticket};
use crate::watch::Watched;

impl Link {
    /// What `ready` finds; if that is nothing, the asker is woken when it is worth another try.
    pub(super) fn ask<T>(
        self: &Arc<Self>,
        inbox: Option<&Inbox>,
        asker: Asker<'_>,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<T, WaitError> {
        match inbox {
            Some(inbox) => inbox.state().wakers.add(asker),
            None => self.wakers.lock().add(asker),
        }
        // Who blocks, and read for himself, may have left the reactor standing by.
        if self.watch.get() != Watched::Armed {
            self.hand_back();
        }
        let found = ready();
        if let (Some(_), Some(ticket)) = (&found, asker.ticket) {
            self.forget_asker(inbox, ticket);
        }
        found.ok_or(WaitError::Pending)
    }

    /// Who waited by asking does so no more.
    pub(crate) fn forget_asker(&self, inbox: Option<&Inbox>, ticket: &Ticket) {
        let waker = match inbox {
            Some(inbox) => inbox.state().wakers.remove(ticket),
            None => self.wakers.lock().remove(ticket),
        };
        drop(waker);
    }

    /// Whether all that was sent is handed to the system, for who asks.
    pub(crate) fn wait_written(&self, wait: &Wait<'_>) -> Result<(), SendFailure> {
        match wait.asker() {
            Some(asker) => self.ask_for_room(asker, Some(0)),
            None => Ok(self.flush(wait)?),
        }
    }

    /// Whether no more than so many bytes are queued, or than should be; if not, the asker is woken when it is worth another try.
    pub(super) fn ask_for_room(&self, asker: Asker<'_>, most: Option<usize>) -> Result<(), SendFailure> {
        if !self.outbox.asks_for_room(asker, most) {
            return Ok(());
        }
        match self.end.get() {
            Some(end) => Err(SendFailure::Ended(end.clone())),
            None => Err(WaitError::Pending.into()),
        }
    }

    /// Who asked for room does so no more.
    pub(crate) fn forget_sender(&self, ticket: &Ticket) {
        self.outbox.forget(ticket);
    }
}
