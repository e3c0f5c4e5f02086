//! Receive queues: one queue fed by many channels, each item with the channel it came from.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::Thread;

use parking_lot::Mutex;

use crate::channel::Channel;
use crate::end::ChannelEnd;
use crate::inbox::{Delivery, Sink, Wakers};
use crate::payload::Payload;
use crate::wait::{Wait, WaitError};

/// What a queue or a callback gets.
#[derive(Clone, Debug)]
pub enum Item {
    /// An item, not yet decoded.
    Data(Payload),
    /// The channel ended, for whatever reason. Comes exactly once, last.
    End(ChannelEnd),
}

/// One item out of a [`ReceiveQueue`].
#[derive(Clone, Debug)]
pub struct QueueEvent {
    /// The position of the channel among those the queue was made of.
    pub index: usize,
    /// The channel that the item came from.
    pub channel: Channel,
    /// The item, or the end of the channel.
    pub item: Item,
}

/// One queue fed by several channels. Any number of threads may take from it.
///
/// Iterating takes events until every channel has ended.
#[derive(Clone, Debug)]
pub struct ReceiveQueue {
    shared: Arc<Shared>,
    channels: Arc<Vec<Channel>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    deliveries: VecDeque<(usize, Delivery)>,
    ended: usize,
    parked: Vec<Thread>,
    wakers: Wakers,
}

/// The end of a queue that a channel feeds.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    shared: Arc<Shared>,
    index: usize,
    /// Whether the end of the channel goes into the queue.
    ends: bool,
}

/// A channel whose items somebody takes already: another queue, or a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the channel's items go to a callback or a receive queue already")]
pub struct AlreadyTaken;

impl Feed {
    pub(crate) fn push(&self, delivery: Delivery) {
        let mut state = self.shared.state.lock();
        if let Delivery::End(_) = delivery {
            state.ended += 1;
            if !self.ends {
                state.parked.iter().for_each(Thread::unpark);
                state.wakers.wake();
                return;
            }
        }
        state.deliveries.push_back((self.index, delivery));
        state.wakers.wake();
        if let Some(thread) = state.parked.first() {
            thread.unpark();
        }
        if state.parked.len() > 1 {
            // Whoever is at the front may be on its way out; all of them look again.
            state.parked.iter().skip(1).for_each(Thread::unpark);
        }
    }
}

impl ReceiveQueue {
    /// A queue of everything that these channels receive from now on, and of what waits in them.
    ///
    /// # Errors
    /// [`AlreadyTaken`] if the items of one of them go elsewhere; then none of them was touched before it.
    pub fn new(channels: Vec<Channel>) -> Result<Self, AlreadyTaken> {
        Self::make(channels, true)
    }

    /// As [`new`](Self::new), without the ends of channels.
    ///
    /// # Errors
    /// [`AlreadyTaken`]
    pub fn without_ends(channels: Vec<Channel>) -> Result<Self, AlreadyTaken> {
        Self::make(channels, false)
    }

    /// The next event, as long as one can still come; `None` when every channel has ended and nothing is left.
    ///
    /// # Errors
    /// [`WaitError`] if nothing came in time.
    pub fn next_event(&self, wait: &Wait<'_>) -> Result<Option<QueueEvent>, WaitError> {
        self.take(wait, |queue, state| match state.deliveries.pop_front() {
            Some(delivery) => Some(Some(queue.event(delivery))),
            None if state.ended == queue.channels.len() => Some(None),
            None => None,
        })
    }

    /// The next event, waiting even if every channel has ended.
    ///
    /// # Errors
    /// [`WaitError`] if nothing came in time.
    pub fn get(&self, wait: &Wait<'_>) -> Result<QueueEvent, WaitError> {
        self.take(wait, |queue, state| state.deliveries.pop_front().map(|delivery| queue.event(delivery)))
    }

    /// The next event, if it is there.
    #[must_use]
    pub fn try_get(&self) -> Option<QueueEvent> {
        let delivery = self.shared.state.lock().deliveries.pop_front();
        delivery.map(|delivery| self.event(delivery))
    }

    /// The number of events that are there.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.state.lock().deliveries.len()
    }

    /// Whether no event is there just now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The channels that feed the queue.
    #[must_use]
    pub fn channels(&self) -> &[Channel] {
        &self.channels
    }

    fn make(channels: Vec<Channel>, ends: bool) -> Result<Self, AlreadyTaken> {
        let shared = Arc::new(Shared::default());
        for (index, channel) in channels.iter().enumerate() {
            channel.redirect(Sink::Queue(Feed { shared: Arc::clone(&shared), index, ends }))?;
        }
        Ok(Self { shared, channels: Arc::new(channels) })
    }

    fn event(&self, (index, delivery): (usize, Delivery)) -> QueueEvent {
        let item = match delivery {
            Delivery::Item(payload) => Item::Data(payload),
            Delivery::End(end) => Item::End(end),
        };
        QueueEvent { index, channel: self.channels[index].clone(), item }
    }

    fn take<T>(
        &self,
        wait: &Wait<'_>,
        mut ready: impl FnMut(&Self, &mut State) -> Option<T>,
    ) -> Result<T, WaitError> {
        let me = std::thread::current();
        let mut registered = false;
        loop {
            let mut state = self.shared.state.lock();
            let found = ready(self, &mut state);
            let verdict = match found {
                Some(_) => Ok(()),
                None => wait.check(),
            };
            if let (None, Some(waker)) = (&found, wait.waker()) {
                state.wakers.add(waker);
                return Err(WaitError::Pending);
            }
            if found.is_some() || verdict.is_err() {
                if registered {
                    state.parked.retain(|thread| thread.id() != me.id());
                }
                drop(state);
                verdict?;
                if let Some(found) = found {
                    return Ok(found);
                }
                continue;
            }
            if !registered {
                state.parked.push(me.clone());
                registered = true;
            }
            drop(state);
            wait.park();
        }
    }
}

impl Iterator for &ReceiveQueue {
    type Item = QueueEvent;

    fn next(&mut self) -> Option<QueueEvent> {
        self.next_event(&Wait::forever()).ok().flatten()
    }
}
