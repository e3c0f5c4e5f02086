//! The agreement between the reactor and the threads that read for themselves: who notices when something comes.

use std::sync::atomic::{AtomicU8, Ordering};

/// How the reactor stands to a gateway's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watched {
    /// It will be woken when something comes.
    Armed = 0,
    /// It was woken and found, or woke, a thread that reads. It looks again soon.
    StandingBy = 1,
    /// A thread sits waiting on the input. Whoever frees the reading role has to arm the reactor again.
    Parked = 2,
}

#[derive(Debug, Default)]
pub(crate) struct Watch(AtomicU8);

impl Watch {
    pub(crate) fn get(&self) -> Watched {
        match self.0.load(Ordering::SeqCst) {
            0 => Watched::Armed,
            1 => Watched::StandingBy,
            _ => Watched::Parked,
        }
    }

    pub(crate) fn set(&self, watched: Watched) {
        self.0.store(watched as u8, Ordering::SeqCst);
    }
}
