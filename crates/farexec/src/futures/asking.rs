//! Futures of what can be asked whether it is ready: each poll asks with a [`Wait`] that does not wait.

use std::future::poll_fn;
use std::task::{Context, Poll};

use crate::channel::{ReceiveError, SendError};
use crate::error::GatewayError;
use crate::map::{MapError, ResultError};
use crate::wait::{Wait, WaitError};
use crate::wakers::Ticket;

/// Errors that may say "not yet".
pub(super) trait NotYet {
    fn is_not_yet(&self) -> bool;
}

impl NotYet for WaitError {
    fn is_not_yet(&self) -> bool {
        *self == Self::Pending
    }
}

/// For errors that have a [`WaitError`] among them.
macro_rules! not_yet {
    ($($error:ident),+) => {$(
        impl NotYet for $error {
            fn is_not_yet(&self) -> bool {
                matches!(self, Self::Wait(WaitError::Pending))
            }
        }
    )+};
}

not_yet!(ReceiveError, SendError, GatewayError, MapError);

impl NotYet for ResultError {
    fn is_not_yet(&self) -> bool {
        matches!(self, Self::Map(error) if error.is_not_yet())
    }
}

/// What the answer is to whoever polls.
pub(super) fn to_poll<T, E: NotYet>(result: Result<T, E>) -> Poll<Result<T, E>> {
    match result {
        Err(error) if error.is_not_yet() => Poll::Pending,
        result => Poll::Ready(result),
    }
}

/// Asks `operation` until it is ready. `forget` is told by which ticket it asked, if the future is dropped before that.
pub(super) async fn ask<T, E: NotYet>(
    forget: impl Fn(&Ticket),
    mut operation: impl FnMut(&Wait<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let mut asking = Asking { ticket: Ticket::new(), is_waiting: false, forget };
    poll_fn(|context: &mut Context<'_>| {
        let result = to_poll(operation(&Wait::polling_with(context.waker(), &asking.ticket)));
        asking.is_waiting = result.is_pending();
        result
    })
    .await
}

struct Asking<F: Fn(&Ticket)> {
    ticket: Ticket,
    is_waiting: bool,
    forget: F,
}

impl<F: Fn(&Ticket)> Drop for Asking<F> {
    fn drop(&mut self) {
        if self.is_waiting {
            (self.forget)(&self.ticket);
        }
    }
}
