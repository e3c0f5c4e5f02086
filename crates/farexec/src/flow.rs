//! Back-pressure on one channel: how many items each side may send ahead of what the other has taken.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

/// One side of a channel on which that is limited.
#[derive(Debug)]
pub(crate) struct Flow {
    window: u32,
    /// How many items this side may send now.
    credit: AtomicU32,
    /// How many that arrived were taken since the far end was told.
    taken: AtomicI64,
    /// How many more the far end may send, as far as it was told.
    allowed: AtomicI64,
}

impl Flow {
    pub(crate) fn new(window: u32) -> Self {
        Self {
            window,
            credit: AtomicU32::new(window),
            taken: AtomicI64::new(0),
            allowed: AtomicI64::new(window.into()),
        }
    }

    /// An item has arrived. Returns whether the far end was allowed to send it.
    pub(crate) fn arrived(&self) -> bool {
        self.allowed.fetch_sub(1, Ordering::SeqCst) > 0
    }

    /// Takes the credit of one item, if there is any.
    pub(crate) fn take(&self) -> bool {
        let less = |credit: u32| credit.checked_sub(1);
        self.credit.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
    }

    /// Whether this side may send an item.
    pub(crate) fn has_credit(&self) -> bool {
        self.credit.load(Ordering::SeqCst) > 0
    }

    /// The far end takes so many more.
    pub(crate) fn give(&self, items: u32) {
        let more = |credit: u32| Some(credit.saturating_add(items));
        let _ = self.credit.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
    }

    /// An item that arrived was taken. Returns how many more the far end is to be told of, if it is time: once half of what may wait
    /// is taken, so that it need not be told of each.
    pub(crate) fn took(&self) -> Option<u32> {
        let taken = self.taken.fetch_add(1, Ordering::SeqCst) + 1;
        if taken < self.window.div_ceil(2).into() {
            return None;
        }
        let items = u32::try_from(self.taken.swap(0, Ordering::SeqCst)).ok().filter(|taken| *taken > 0)?;
        self.allowed.fetch_add(items.into(), Ordering::SeqCst);
        Some(items)
    }

    /// An item that was taken is put back.
    pub(crate) fn put_back(&self) {
        self.taken.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back_whatever_the_window() {
        for window in 1..20 {
            let (sender, receiver) = (Flow::new(window), Flow::new(window));
            let (mut sent, mut waiting) = (0, 0);
            while sent < 1000 {
                while sender.take() {
                    sent += 1;
                    waiting += 1;
                    assert!(receiver.arrived());
                }
                assert!(waiting <= window && waiting > 0);
                waiting -= 1;
                if let Some(items) = receiver.took() {
                    sender.give(items);
                }
            }
        }
    }

    #[test]
    fn one_more_than_allowed_is_seen() {
        let flow = Flow::new(2);
        assert_eq!([flow.arrived(), flow.arrived(), flow.arrived()], [true, true, false]);
    }
}
