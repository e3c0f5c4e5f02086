//! Where a channel's items wait, still encoded, and where they go when somebody other than `receive` takes them.
//!
//! [`crate::link`] fills inboxes; [`crate::channel`] empties them. An inbox knows nothing of gateways.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread::Thread;

use farexec_proto::encoding::StringCoercion;
use farexec_proto::{ChannelId, Encoding};
use parking_lot::{Mutex, MutexGuard};

use crate::callback::Callback;
use crate::channel::Handle;
use crate::end::{ChannelEnd, RemoteError};
use crate::flow::Flow;
use crate::payload::Payload;
use crate::receive_queue::Feed;
use crate::transport::Bridge;
use crate::wakers::{self, Wakers};
use crate::work::Execution;

/// One channel's side of a gateway: shared between the session, which fills it, and the handles, which empty it.
pub(crate) struct Inbox {
    pub(crate) id: ChannelId,
    coercion: SharedCoercion,
    /// How many of the gateway's channels feed callbacks, queues and wakers: shared with its link, which reads for those.
    consumers: Arc<AtomicUsize>,
    /// How much may be sent ahead, if that is limited.
    flow: Option<Flow>,
    state: Mutex<State>,
}

/// A coercion that is changed while others look.
#[derive(Debug)]
pub(crate) struct SharedCoercion {
    py2str_as_py3str: AtomicBool,
    py3str_as_py2str: AtomicBool,
}

impl SharedCoercion {
    pub(crate) fn get(&self) -> StringCoercion {
        StringCoercion {
            py2str_as_py3str: self.py2str_as_py3str.load(Ordering::Relaxed),
            py3str_as_py2str: self.py3str_as_py2str.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn set(&self, coercion: StringCoercion) {
        self.py2str_as_py3str.store(coercion.py2str_as_py3str, Ordering::Relaxed);
        self.py3str_as_py2str.store(coercion.py3str_as_py2str, Ordering::Relaxed);
    }
}

impl From<StringCoercion> for SharedCoercion {
    fn from(StringCoercion { py2str_as_py3str, py3str_as_py2str }: StringCoercion) -> Self {
        Self {
            py2str_as_py3str: AtomicBool::new(py2str_as_py3str),
            py3str_as_py2str: AtomicBool::new(py3str_as_py2str),
        }
    }
}

impl Default for SharedCoercion {
    fn default() -> Self {
        StringCoercion::DEFAULT.into()
    }
}

pub(crate) struct State {
    /// What arrived and was not taken.
    pub(crate) items: VecDeque<Payload>,
    /// Why no more items will arrive, once that is so.
    pub(crate) end: Option<ChannelEnd>,
    /// Whether nothing can be sent either.
    pub(crate) closed: bool,
    /// The error the channel was closed with, until somebody was told.
    pub(crate) error: Option<RemoteError>,
    /// Whether this side said that it sends no more.
    pub(crate) said_last: bool,
    /// Whether the end of items has reached whoever takes the items.
    pub(crate) drained: bool,
    pub(crate) sink: Sink,
    /// The handle, as long as somebody has it.
    pub(crate) handle: Weak<Handle>,
    /// Threads that wait for this channel while another reads.
    pub(crate) parked: Vec<Thread>,
    /// Of those who will look again when something has come.
    pub(crate) wakers: Wakers,
    /// The execution that the channel is to, if somebody watches.
    execution: Option<Execution>,
}

/// Who takes the items.
#[derive(Clone, Debug)]
pub(crate) enum Sink {
    /// Whoever calls `receive`.
    Receive,
    /// A callback.
    Callback(Arc<Callback>),
    /// A receive queue.
    Queue(Feed),
    /// The connection of a gateway that this one carries.
    Bridge(Arc<Bridge>),
}

/// What a sink gets.
#[derive(Debug)]
pub(crate) enum Delivery {
    Item(Payload),
    End(ChannelEnd),
}

impl Inbox {
    pub(crate) fn new(
        id: ChannelId,
        coercion: StringCoercion,
        consumers: Arc<AtomicUsize>,
        max_pending: Option<u32>,
    ) -> Self {
        let state = State {
            items: VecDeque::new(),
            end: None,
            closed: false,
            error: None,
            said_last: false,
            drained: false,
            sink: Sink::Receive,
            handle: Weak::new(),
            parked: Vec::new(),
            wakers: Wakers::counted_in(&consumers),
            execution: None,
        };
        let (coercion, flow) = (SharedCoercion::from(coercion), max_pending.map(Flow::new));
        Self { id, coercion, consumers, flow, state: Mutex::new(state) }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Says to which execution the channel is, which is over when that is closed.
    pub(crate) fn set_execution(&self, execution: Execution) {
        self.state.lock().execution = Some(execution);
    }

    pub(crate) fn set_coercion(&self, coercion: StringCoercion) {
        self.coercion.set(coercion);
    }

    pub(crate) fn coercion(&self) -> StringCoercion {
        self.coercion.get()
    }

    /// An item arrived. Returns whether a thread that waited for it was woken.
    #[inline]
    pub(crate) fn deliver(self: &Arc<Self>, encoding: Encoding, bytes: Vec<u8>) -> bool {
        let payload = Payload::new(encoding, bytes, self.coercion());
        let mut state = self.state.lock();
        if let Sink::Receive = state.sink {
            state.items.push_back(payload);
            state.wake();
            return !state.parked.is_empty();
        }
        state.pass_on(self, Delivery::Item(payload))
    }

    /// How much may be sent ahead, if that is limited.
    #[inline]
    pub(crate) fn flow(&self) -> Option<&Flow> {
        self.flow.as_ref()
    }

    /// The far end takes so many more items. Returns whether a thread that waited for it was woken.
    pub(crate) fn add_credit(&self, items: u32) -> bool {
        let Some(flow) = &self.flow else { return false };
        flow.give(items);
        let mut state = self.state.lock();
        state.wake();
        !state.parked.is_empty()
    }

    /// Whether `receive` would find something to return, or to raise.
    pub(crate) fn is_filled(&self) -> bool {
        let state = self.state.lock();
        !state.items.is_empty() || state.end.is_some() || !matches!(state.sink, Sink::Receive)
    }

    /// Puts back an item that was taken, in front of the others.
    pub(crate) fn give_back(self: &Arc<Self>, payload: Payload) {
        if let Some(flow) = &self.flow {
            flow.put_back();
        }
        let _wakes = wakers::deferred();
        let mut state = self.state.lock();
        if let Sink::Receive = state.sink {
            state.items.push_front(payload);
            state.wake();
        } else {
            state.pass_on(self, Delivery::Item(payload));
        }
    }

    /// Whether something arrived that nobody could take so far: there was never a handle.
    pub(crate) fn is_unclaimed(&self) -> bool {
        let state = self.state.lock();
        let has_something = !state.items.is_empty() || state.error.is_some();
        has_something && matches!(state.sink, Sink::Receive) && state.handle.strong_count() == 0
    }

    /// No more items will arrive.
    pub(crate) fn end_items(self: &Arc<Self>, end: ChannelEnd) -> bool {
        let _wakes = wakers::deferred();
        let mut state = self.state.lock();
        if state.end.is_some() {
            return false;
        }
        if let ChannelEnd::Error(error) = &end {
            state.error = Some(error.clone());
        }
        state.end = Some(end.clone());
        state.drained = !matches!(state.sink, Sink::Callback(_));
        if !matches!(state.sink, Sink::Receive) {
            self.consumers.fetch_sub(1, Ordering::SeqCst);
        }
        state.wake();
        let woken = !state.parked.is_empty();
        state.pass_on(self, Delivery::End(end)) || woken
    }

    /// Nothing goes either way any more. An error is kept for whoever asks, even if the end of items was told before.
    pub(crate) fn close(self: &Arc<Self>, end: ChannelEnd) -> bool {
        let mut state = self.state.lock();
        state.closed = true;
        if state.end.is_some()
            && let ChannelEnd::Error(error) = &end
        {
            state.error = Some(error.clone());
        }
        let execution = state.execution.take();
        drop(state);
        drop(execution);
        self.end_items(end)
    }

    /// Everything that arrived has been handed to the callback, the end as well.
    pub(crate) fn set_drained(&self) {
        let _wakes = wakers::deferred();
        let mut state = self.state.lock();
        state.drained = true;
        state.wake();
    }

    /// Hands all that arrived, and all that will, to `sink`. Returns false if somebody else takes the items already.
    pub(crate) fn redirect(self: &Arc<Self>, sink: Sink) -> bool {
        let _wakes = wakers::deferred();
        let mut state = self.state.lock();
        if !matches!(state.sink, Sink::Receive) {
            return false;
        }
        state.drained = state.end.is_some() && !matches!(sink, Sink::Callback(_));
        if state.end.is_none() {
            self.consumers.fetch_add(1, Ordering::SeqCst);
        }
        state.sink = sink;
        for payload in std::mem::take(&mut state.items) {
            state.pass_on(self, Delivery::Item(payload));
        }
        if let Some(end) = state.end.clone() {
            state.pass_on(self, Delivery::End(end));
        }
        state.wake();
        true
    }
}

impl State {
    /// Whether this side may send.
    pub(crate) fn may_send(&self) -> bool {
        !self.closed && !self.said_last
    }

    fn pass_on(&self, inbox: &Arc<Inbox>, delivery: Delivery) -> bool {
        match &self.sink {
            Sink::Receive => false,
            Sink::Callback(callback) => {
                callback.push(inbox, delivery);
                false
            }
            Sink::Queue(feed) => {
                feed.push(delivery);
                false
            }
            Sink::Bridge(bridge) => {
                bridge.push(delivery);
                false
            }
        }
    }

    fn wake(&mut self) {
        for thread in &self.parked {
            thread.unpark();
        }
        self.wakers.wake();
    }
}
