//! How long a caller is willing to wait, and what may call it away.

use std::fmt;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::limits::{INTERRUPT_CHECK, SIGNAL_CHECK};
use crate::wakers::{Asker, Ticket};

/// How long a blocking call may wait: for ever, until a time, or until it is called away.
///
/// ```
/// use farexec::Wait;
/// use std::time::Duration;
///
/// let patient = Wait::forever();
/// let hasty = Wait::at_most(Duration::from_millis(50));
/// # let _ = (patient, hasty);
/// ```
#[derive(Clone, Copy, Default)]
pub struct Wait<'a> {
    deadline: Option<Instant>,
    interrupted: Option<&'a (dyn Fn() -> bool + Sync)>,
    /// Whether only signals interrupt it, which get the thread out of waiting on a descriptor.
    only_by_signals: bool,
    asker: Option<Asker<'a>>,
}

/// Why a wait ended without what it waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// The time was up.
    #[error("the time is up")]
    Timeout,
    /// The caller was called away.
    #[error("interrupted")]
    Interrupted,
    /// Not yet: the waker will be woken when it is worth another try.
    #[error("not yet")]
    Pending,
}

impl<'a> Wait<'a> {
    /// As long as it takes.
    #[must_use]
    pub fn forever() -> Self {
        Self::default()
    }

    /// This long from now.
    #[must_use]
    pub fn at_most(duration: Duration) -> Self {
        // What is too far away to be told is as good as for ever.
        Self { deadline: Instant::now().checked_add(duration), ..Self::default() }
    }

    /// Not at all: what would wait gives up with [`WaitError::Pending`], and `waker` is woken, once, when it is worth another try. It
    /// may be woken too often, never too rarely.
    ///
    /// For receiving from channels and queues, waiting for the end of a channel or a gateway, and for what else waits for nothing but the
    /// far end's doing. What has to be done in several steps (starting, terminating, sending trees, asking for a status) cannot be polled,
    /// and waits like [`forever`](Self::forever).
    ///
    /// ```
    /// use farexec::{ReceiveError, Wait, WaitError};
    /// use std::sync::Arc;
    /// use std::task::{Wake, Waker};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = farexec::Group::new();
    /// struct Ring(std::thread::Thread); // an event loop would be told instead
    ///
    /// impl Wake for Ring {
    ///     fn wake(self: Arc<Self>) {
    ///         self.0.unpark();
    ///     }
    /// }
    ///
    /// let channel = group.make_gateway("popen")?.remote_exec("channel.send(1)")?;
    /// let waker = Waker::from(Arc::new(Ring(std::thread::current())));
    /// let payload = loop {
    ///     match channel.receive_payload(&Wait::polling(&waker)) {
    ///         Err(ReceiveError::Wait(WaitError::Pending)) => std::thread::park(), // or does something else
    ///         received => break received?,
    ///     }
    /// };
    /// assert_eq!(payload.decode::<u8>()?, 1);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn polling(waker: &'a Waker) -> Self {
        Self { asker: Some(Asker { waker, ticket: None }), ..Self::default() }
    }

    /// The same for who will say, by the ticket, when he asks no more.
    pub(crate) fn polling_with(waker: &'a Waker, ticket: &'a Ticket) -> Self {
        Self { asker: Some(Asker { waker, ticket: Some(ticket) }), ..Self::default() }
    }

    /// For as long as `interrupted` says no. It is asked whenever a signal came, and several times a second.
    ///
    /// ```
    /// use farexec::{ReceiveError, Wait, WaitError};
    /// use std::sync::atomic::{AtomicBool, Ordering};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = farexec::Group::new();
    /// static STOPPED: AtomicBool = AtomicBool::new(false); // by a Ctrl-C, for instance
    /// let channel = group.make_gateway("popen")?.remote_exec("channel.receive()")?;
    /// std::thread::spawn(|| {
    ///     std::thread::sleep(Duration::from_millis(10));
    ///     STOPPED.store(true, Ordering::Relaxed);
    /// });
    /// let is_stopped = || STOPPED.load(Ordering::Relaxed);
    /// let received = channel.receive_payload(&Wait::forever().unless(&is_stopped));
    /// assert!(matches!(received, Err(ReceiveError::Wait(WaitError::Interrupted))));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn unless(self, interrupted: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Self { interrupted: Some(interrupted), ..self }
    }

    /// As [`unless`](Self::unless), for what only a signal to the calling thread changes: it is asked whenever a signal came, and beyond that
    /// only now and then.
    #[must_use]
    pub fn unless_signal(self, interrupted: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Self { interrupted: Some(interrupted), only_by_signals: true, ..self }
    }

    /// The same, but no longer than this from now.
    pub(crate) fn within(self, duration: Duration) -> Self {
        Instant::now().checked_add(duration).map_or(self, |deadline| self.until(deadline))
    }

    /// The same, but no longer than until `deadline`.
    pub(crate) fn until(self, deadline: Instant) -> Self {
        Self { deadline: Some(self.deadline.map_or(deadline, |known| known.min(deadline))), ..self }
    }

    /// The same, but really waiting.
    pub(crate) fn blocking(self) -> Self {
        Self { asker: None, ..self }
    }

    /// Who is to be woken, of a wait that does not wait.
    pub(crate) fn asker(&self) -> Option<Asker<'a>> {
        self.asker
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The longest nap on a descriptor until something has to be looked at; `None`: no limit.
    pub(crate) fn nap(&self) -> Option<Duration> {
        self.nap_of(if self.only_by_signals { SIGNAL_CHECK } else { INTERRUPT_CHECK })
    }

    /// The longest nap on something else, which no signal gets a thread out of.
    pub(crate) fn deaf_nap(&self) -> Option<Duration> {
        self.nap_of(INTERRUPT_CHECK)
    }

    fn nap_of(&self, check: Duration) -> Option<Duration> {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        match (left, self.interrupted) {
            (Some(left), Some(_)) => Some(left.min(check)),
            (None, Some(_)) => Some(check),
            (left, None) => left,
        }
    }

    /// Whether it is time to give up.
    pub(crate) fn check(&self) -> Result<(), WaitError> {
        if self.interrupted.is_some_and(|interrupted| interrupted()) {
            return Err(WaitError::Interrupted);
        }
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(WaitError::Timeout),
            _ => Ok(()),
        }
    }

    /// Puts the calling thread to rest until it is unparked or has something to look at.
    pub(crate) fn park(&self) {
        match self.deaf_nap() {
            Some(nap) => std::thread::park_timeout(nap),
            None => std::thread::park(),
        }
    }
}

impl fmt::Debug for Wait<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait")
            .field("deadline", &self.deadline)
            .field("interruptible", &self.interrupted.is_some())
            .finish()
    }
}
