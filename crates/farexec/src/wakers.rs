//! Who is to be woken: the wakers of those who asked, were told "not yet", and will ask again.
//!
//! A waker is code of others: it may do anything, drop what holds channels included. So where locks are held, wakers are only gathered, and
//! woken once the outermost [`Deferral`] of the thread ends.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;

/// What tells one who asks again and again from others who may have the same waker: several futures of one task, say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

impl Ticket {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A copy asks on its own.
impl Clone for Ticket {
    fn clone(&self) -> Self {
        Self::new()
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    pub(crate) waker: &'a Waker,
    /// `None`: nobody will say that he asks no more.
    pub(crate) ticket: Option<&'a Ticket>,
}

/// Wakers, each of which is woken once.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    wakers: Vec<(Option<u64>, Waker)>,
    /// Counts, over several of these, those that are not empty.
    occupied: Option<Arc<AtomicUsize>>,
}

impl Wakers {
    /// None yet; as long as there are some, they count in `occupied`.
    pub(crate) fn counted_in(occupied: &Arc<AtomicUsize>) -> Self {
        Self { wakers: Vec::new(), occupied: Some(Arc::clone(occupied)) }
    }

    /// Has `asker` woken, next time.
    pub(crate) fn add(&mut self, asker: Asker<'_>) {
        let ticket = asker.ticket.map(|ticket| ticket.0);
        let known = self.wakers.iter_mut().find(|(known, waker)| match ticket {
            Some(_) => *known == ticket,
            None => known.is_none() && waker.will_wake(asker.waker),
        });
        match known {
            Some((_, waker)) => waker.clone_from(asker.waker),
            None => {
                if self.wakers.is_empty()
                    && let Some(occupied) = &self.occupied
                {
                    occupied.fetch_add(1, Ordering::SeqCst);
                }
                self.wakers.push((ticket, asker.waker.clone()));
            }
        }
    }

    /// Who had this ticket asks no more. Returns the waker, which is not to be dropped under a lock.
    #[must_use]
    pub(crate) fn remove(&mut self, ticket: &Ticket) -> Option<Waker> {
        let index = self.wakers.iter().position(|(known, _)| *known == Some(ticket.0))?;
        let (_, waker) = self.wakers.swap_remove(index);
        if self.wakers.is_empty() {
            self.vacate();
        }
        Some(waker)
    }

    #[inline]
    pub(crate) fn wake(&mut self) {
        if !self.wakers.is_empty() {
            self.wake_all();
        }
    }

    fn wake_all(&mut self) {
        self.vacate();
        let wakers = self.wakers.drain(..).map(|(_, waker)| waker);
        if DEFERRALS.get() == 0 {
            wakers.for_each(Waker::wake);
        } else {
            DEFERRED.with_borrow_mut(|deferred| deferred.extend(wakers));
        }
    }

    fn vacate(&self) {
        if let Some(occupied) = &self.occupied {
            occupied.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

thread_local! {
    static DEFERRALS: Cell<u32> = const { Cell::new(0) };
    static DEFERRED: RefCell<Vec<Waker>> = const { RefCell::new(Vec::new()) };
}

/// While there is one in a thread, it wakes nobody; what was to be woken is when the last one ends.
pub(crate) struct Deferral(());

/// To be called before locks are taken, so that it ends after they are given back.
pub(crate) fn deferred() -> Deferral {
    DEFERRALS.set(DEFERRALS.get() + 1);
    Deferral(())
}

impl Drop for Deferral {
    fn drop(&mut self) {
        DEFERRALS.set(DEFERRALS.get() - 1);
        if DEFERRALS.get() == 0 {
            wake_deferred();
        }
    }
}

#[inline]
fn wake_deferred() {
    // One that is woken may have others woken in turn.
    while let Some(waker) = DEFERRED.with_borrow_mut(Vec::pop) {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn counted() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), Waker::from(count))
    }

    #[test]
    fn two_who_share_a_waker_leave_one_by_one() {
        let (count, waker) = counted();
        let occupied = Arc::new(AtomicUsize::new(0));
        let mut wakers = Wakers::counted_in(&occupied);
        let (one, other) = (Ticket::new(), Ticket::new());
        for ticket in [&one, &other, &one] {
            wakers.add(Asker { waker: &waker, ticket: Some(ticket) });
        }
        assert!(wakers.remove(&one).is_some());
        assert!(wakers.remove(&one).is_none());
        assert_eq!(occupied.load(Ordering::SeqCst), 1);
        wakers.wake();
        wakers.wake();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert_eq!(occupied.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn who_has_no_ticket_is_known_by_the_waker() {
        let (count, waker) = counted();
        let mut wakers = Wakers::default();
        wakers.add(Asker { waker: &waker, ticket: None });
        wakers.add(Asker { waker: &waker, ticket: None });
        wakers.wake();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn nobody_is_woken_before_the_last_deferral_ends() {
        let (count, waker) = counted();
        let mut wakers = Wakers::default();
        wakers.add(Asker { waker: &waker, ticket: None });
        let outer = deferred();
        let inner = deferred();
        wakers.wake();
        drop(inner);
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
        drop(outer);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }
}
