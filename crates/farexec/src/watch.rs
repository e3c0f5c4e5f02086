//! The agreement between the reactor and the threads that read for themselves: who notices when something comes.

use super::atomic::{AtomicU8, Ordering, fence};

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

    /// Whether the reactor has to be armed by who has freed the reading role, and found no thread that waits for it.
    pub(crate) fn wants_arming(
        &self,
        is_silent: impl FnOnce() -> bool,
        has_consumers: impl FnOnce() -> bool,
    ) -> bool {
        match self.get() {
            // What comes without a sound wakes nobody.
            Watched::Armed => is_silent(),
            Watched::StandingBy => has_consumers(),
            Watched::Parked => true,
        }
    }

    /// Nobody has read since the reactor last looked. Returns whether it has to be armed; otherwise a thread sits waiting, and whoever
    /// frees the role will arm it.
    pub(crate) fn stops_standing_by(&self, is_free: impl Fn() -> bool) -> bool {
        if is_free() {
            return true;
        }
        self.set(Watched::Parked);
        fence(Ordering::SeqCst);
        is_free()
    }
}
