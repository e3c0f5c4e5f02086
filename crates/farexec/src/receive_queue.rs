//! Receive queues: one queue fed by many channels, each item with the channel it came from.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::Thread;
use std::time::Instant;

use parking_lot::Mutex;

use crate::channel::Channel;
use crate::end::ChannelEnd;
use crate::inbox::{Delivery, Sink};
use crate::payload::Payload;
use crate::reactor::Reactor;
use crate::wait::{Wait, WaitError};
use crate::wakers::{self, Asker, Ticket, Wakers};

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
///
/// ```
/// use farexec::{Item, Wait};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let group = farexec::Group::new();
/// group.make_gateways(["popen"; 2])?;
/// let queue = group.remote_exec("channel.send(channel.receive())")?.receive_queue()?;
/// assert!(queue.get(&Wait::at_most(Duration::from_millis(1))).is_err());
///
/// for channel in queue.channels() {
///     channel.send("back")?;
/// }
/// let mut received = Vec::new();
/// for event in &queue {
///     match event.item {
///         Item::Data(payload) => received.push(payload.decode::<String>()?),
///         Item::End(reason) => assert_eq!(reason.to_string(), "closed by the far end"),
///     }
/// }
/// assert_eq!(received, ["back", "back"]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ReceiveQueue {
    shared: Arc<Shared>,
    channels: Arc<Vec<Channel>>,
    /// As a stream, this handle asks by it.
    pub(crate) ticket: Ticket,
}

/// Channels put into `state`; who takes has a batch of his own, so that the two seldom wait for each other. Locked in this order.
#[derive(Debug, Default)]
struct Shared {
    batch: Mutex<VecDeque<(usize, Delivery)>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    deliveries: VecDeque<(usize, Delivery)>,
    ended: usize,
    /// Whether somebody has something to say that is no delivery.
    nudged: bool,
    parked: Vec<Thread>,
    wakers: Wakers,
    /// When those are woken anyway who ask only until some time.
    timer: Option<Instant>,
}

/// What channels deliver, each with a number; more channels may be added at any time. For one taker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deliveries(Arc<Shared>);

impl Deliveries {
    /// Has what a channel receives, and its end, come here under this number.
    pub(crate) fn add(&self, channel: &Channel, index: usize) -> Result<(), AlreadyTaken> {
        channel.redirect(Sink::Queue(Feed { shared: Arc::clone(&self.0), index, ends: true }))
    }

    /// Has whoever waits look again.
    pub(crate) fn nudge(&self) {
        let _wakes = wakers::deferred();
        let mut state = self.0.state.lock();
        state.nudged = true;
        state.wake();
    }

    /// Waits until something is there, or was nudged, and takes all of it.
    pub(crate) fn take_all(&self, wait: &Wait<'_>) -> Result<VecDeque<(usize, Delivery)>, WaitError> {
        let taken = || {
            let mut state = self.0.state.lock();
            let nudged = std::mem::take(&mut state.nudged);
            (nudged || !state.deliveries.is_empty()).then(|| std::mem::take(&mut state.deliveries))
        };
        Shared::take(&self.0, wait, taken, |_| None)
    }
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
///
/// ```
/// use farexec::ReceiveError;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let group = farexec::Group::new();
/// let channel = group.make_gateway("popen")?.remote_exec("channel.send(1)")?;
/// let _queue = farexec::ReceiveQueue::new(vec![channel.clone()])?;
/// assert!(matches!(channel.receive::<u8>(), Err(ReceiveError::AlreadyTaken(_))));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the channel's items go to a callback or a receive queue already")]
pub struct AlreadyTaken;

impl Feed {
    pub(crate) fn push(&self, delivery: Delivery) {
        let mut state = self.shared.state.lock();
        if let Delivery::End(_) = delivery {
            state.ended += 1;
            if !self.ends {
                state.wake();
                return;
            }
        }
        state.deliveries.push_back((self.index, delivery));
        state.wake();
    }
}

impl State {
    fn has_news(&self) -> bool {
        self.nudged || !self.deliveries.is_empty()
    }

    /// Has all that wait look again: whoever is first may be on its way out.
    fn wake(&mut self) {
        self.parked.iter().for_each(Thread::unpark);
        self.wakers.wake();
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
    /// ```
    /// use farexec::{Item, ReceiveQueue, Wait};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = farexec::Group::new();
    /// let channel = group.make_gateway("popen")?.remote_exec("channel.send(1)")?;
    /// let queue = ReceiveQueue::without_ends(vec![channel])?;
    /// while let Some(event) = queue.next_event(&Wait::forever())? {
    ///     let Item::Data(payload) = event.item else { panic!("ends were not asked for") };
    ///     assert_eq!((event.index, payload.decode::<u8>()?), (0, 1));
    /// }
    /// assert!(queue.try_get().is_none());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`WaitError`] if nothing came in time.
    pub fn next_event(&self, wait: &Wait<'_>) -> Result<Option<QueueEvent>, WaitError> {
        Shared::take(
            &self.shared,
            wait,
            || self.try_get().map(Some),
            |state| (state.ended == self.channels.len()).then_some(None),
        )
    }

    /// The next event, waiting even if every channel has ended.
    ///
    /// # Errors
    /// [`WaitError`] if nothing came in time.
    pub fn get(&self, wait: &Wait<'_>) -> Result<QueueEvent, WaitError> {
        Shared::take(&self.shared, wait, || self.try_get(), |_| None)
    }

    /// The next event, if it is there.
    #[must_use]
    pub fn try_get(&self) -> Option<QueueEvent> {
        self.shared.pop().map(|delivery| self.event(delivery))
    }

    /// The number of events that are there.
    #[must_use]
    pub fn len(&self) -> usize {
        let batch = self.shared.batch.lock();
        batch.len() + self.shared.state.lock().deliveries.len()
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

    /// Who waited by asking does so no more.
    pub(crate) fn forget(&self, ticket: &Ticket) {
        let waker = self.shared.state.lock().wakers.remove(ticket);
        drop(waker);
    }

    fn make(channels: Vec<Channel>, ends: bool) -> Result<Self, AlreadyTaken> {
        let shared = Arc::new(Shared::default());
        for (index, channel) in channels.iter().enumerate() {
            channel.redirect(Sink::Queue(Feed { shared: Arc::clone(&shared), index, ends }))?;
        }
        Ok(Self { shared, channels: Arc::new(channels), ticket: Ticket::new() })
    }

    fn event(&self, (index, delivery): (usize, Delivery)) -> QueueEvent {
        let channel = self.channels[index].clone();
        let item = match delivery {
            Delivery::Item(payload) => {
                channel.item_taken();
                Item::Data(payload)
            }
            Delivery::End(end) => Item::End(end),
        };
        QueueEvent { index, channel, item }
    }
}

impl Shared {
    fn pop(&self) -> Option<(usize, Delivery)> {
        let mut batch = self.batch.lock();
        if batch.is_empty() {
            std::mem::swap(&mut *batch, &mut self.state.lock().deliveries);
        }
        batch.pop_front()
    }

    /// Waits until `found` finds something, or `over` says that nothing will come.
    fn take<T>(
        self: &Arc<Self>,
        wait: &Wait<'_>,
        mut found: impl FnMut() -> Option<T>,
        over: impl Fn(&State) -> Option<T>,
    ) -> Result<T, WaitError> {
        let me = std::thread::current();
        let mut registered = false;
        let result = loop {
            if let Some(found) = found() {
                break Ok(found);
            }
            let mut state = self.state.lock();
            if state.has_news() {
                continue;
            }
            if let Some(over) = over(&state) {
                drop(state);
                // What the last ones put in was taken into the batch of somebody else, perhaps.
                break found().map_or(Ok(over), Ok);
            }
            if let Some(asker) = wait.asker() {
                wait.check()?;
                self.ask(&mut state, asker, wait.deadline());
                return Err(WaitError::Pending);
            }
            if !registered {
                state.parked.push(me.clone());
                registered = true;
            }
            drop(state);
            if let Err(error) = wait.check() {
                break found().ok_or(error);
            }
            wait.park();
        };
        if registered {
            self.state.lock().parked.retain(|thread| thread.id() != me.id());
        }
        result
    }
}

impl Shared {
    /// Has `asker` woken by the next news, or when the time is up.
    fn ask(self: &Arc<Self>, state: &mut State, asker: Asker<'_>, deadline: Option<Instant>) {
        state.wakers.add(asker);
        let Some(deadline) = deadline else { return };
        if state.timer.is_some_and(|timer| timer <= deadline) {
            return;
        }
        // Without a reactor there is nothing that could come.
        let Ok(reactor) = Reactor::current() else { return };
        state.timer = Some(deadline);
        let shared = Arc::downgrade(self);
        reactor.at(deadline, move |_| {
            let Some(shared) = shared.upgrade() else { return };
            let _wakes = wakers::deferred();
            let mut state = shared.state.lock();
            state.timer = None;
            state.wakers.wake();
        });
    }
}

impl Drop for ReceiveQueue {
    fn drop(&mut self) {
        self.forget(&self.ticket);
    }
}

impl Iterator for &ReceiveQueue {
    type Item = QueueEvent;

    fn next(&mut self) -> Option<QueueEvent> {
        self.next_event(&Wait::forever()).ok().flatten()
    }
}
