//! A poller that owns what it watches, so that no descriptor can be closed under it.
//!
//! One-shot: each readiness is told once, until it is asked for again. Built on the `polling` crate (epoll, kqueue).

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use polling::{Event, Events, PollMode};
use slab::Slab;

/// What is to be told about a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    Nothing,
    Readable,
    Writable,
}

/// One descriptor that became ready (or hung up, which counts as ready).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Readiness {
    pub(crate) key: usize,
}

#[derive(Debug)]
pub(crate) struct Poller {
    inner: polling::Poller,
    watched: Mutex<Slab<Watched>>,
}

#[derive(Debug)]
struct Watched {
    fd: Arc<OwnedFd>,
    /// Whether the system knows of it.
    is_registered: bool,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { inner: polling::Poller::new()?, watched: Mutex::default() })
    }

    /// Starts to watch a descriptor, and keeps it open until [`remove`](Self::remove).
    pub(crate) fn add(&self, fd: Arc<OwnedFd>, interest: Interest) -> io::Result<usize> {
        let mut watched = self.watched.lock();
        let entry = watched.vacant_entry();
        let key = entry.key();
        self.register(&fd, key, interest)?;
        entry.insert(Watched { fd, is_registered: true });
        Ok(key)
    }

    #[allow(
        unsafe_code,
        reason = "the polling crate leaves it to the caller that descriptors outlive their registration"
    )]
    fn register(&self, fd: &OwnedFd, key: usize, interest: Interest) -> io::Result<()> {
        // SAFETY: `watched` keeps the descriptor open, and `remove` deregisters it before letting go of it.
        unsafe { self.inner.add_with_mode(fd, event(key, interest), PollMode::Oneshot) }
    }

    /// Asks for one more readiness.
    pub(crate) fn rearm(&self, key: usize, interest: Interest) -> io::Result<()> {
        match self.watched.lock().get_mut(key) {
            Some(Watched { fd, is_registered: true }) => {
                self.inner.modify_with_mode(fd.as_fd(), event(key, interest), PollMode::Oneshot)
            }
            Some(Watched { fd, is_registered }) => {
                self.register(fd, key, interest)?;
                *is_registered = true;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Tells nothing more of a descriptor until it is asked for again, and takes it off the system's hands meanwhile: whoever writes to a pipe
    /// that is watched pays for that, whatever is to be told of it.
    pub(crate) fn pause(&self, key: usize) {
        if let Some(watched) = self.watched.lock().get_mut(key)
            && std::mem::take(&mut watched.is_registered)
        {
            self.deregister(&watched.fd);
        }
    }

    /// Stops watching a descriptor.
    pub(crate) fn remove(&self, key: usize) {
        let mut watched = self.watched.lock();
        if let Some(Watched { fd, is_registered: true }) = watched.try_remove(key) {
            self.deregister(&fd);
        }
    }

    fn deregister(&self, fd: &OwnedFd) {
        if let Err(error) = self.inner.delete(fd.as_fd()) {
            tracing::warn!(%error, "could not stop watching a descriptor");
        }
    }

    /// Waits until something is ready, [`wake`](Self::wake) is called, or the time is up; appends what is ready.
    pub(crate) fn wait(&self, ready: &mut Vec<Readiness>, timeout: Option<Duration>) -> io::Result<()> {
        let mut events = Events::with_capacity(NonZeroUsize::new(256).unwrap_or(NonZeroUsize::MIN));
        match self.inner.wait(&mut events, timeout) {
            Ok(_) => ready.extend(events.iter().map(|event| Readiness { key: event.key })),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Makes a thread in [`wait`](Self::wait) return.
    pub(crate) fn wake(&self) {
        if let Err(error) = self.inner.notify() {
            tracing::warn!(%error, "could not wake the reactor");
        }
    }
}

fn event(key: usize, interest: Interest) -> Event {
    match interest {
        Interest::Nothing => Event::none(key),
        Interest::Readable => Event::readable(key),
        Interest::Writable => Event::writable(key),
    }
}
