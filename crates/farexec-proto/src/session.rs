//! The session: what frames mean. One for each gateway and side, the same machine in a coordinator and in a worker.
//!
//! Frames in, [`Event`]s out; calls in, bytes out. A session has no IO and keeps no items: an item is handed to the owner in the
//! event, still encoded, together with what the owner attached to its channel. The life of a single channel is the
//! table in [`crate::transition`]; cutting bytes into frames is [`crate::frame`]'s; what comes before the first frame is
//! [`crate::handshake`]'s.

use std::borrow::Cow;
use std::collections::hash_map::Entry;

use crate::channel_map::ChannelMap;
use crate::encoding::StringCoercion;
use crate::frame::{self, Frame, Kind};
use crate::limits::{MAX_PING, MAX_WORKER_CHANNELS};
use crate::transition::{self, Input, State};
use crate::{ChannelId, Encoding};

/// Which end of the gateway a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Makes gateways, asks for executions; its own channels have odd numbers.
    Coordinator,
    /// Executes; its own channels have even numbers.
    Worker,
}

impl Side {
    /// Whether channels of this number are the peer's to open.
    fn is_given_by_peer(self, id: ChannelId) -> bool {
        match self {
            Self::Coordinator => id.number().is_multiple_of(2),
            Self::Worker => id.number() % 2 == 1,
        }
    }
}

/// One end of a gateway. `C` is what the owner attaches to each channel: where its items go.
///
/// ```
/// use farexec_proto::frame::FrameReader;
/// use farexec_proto::session::{Event, Session, Side};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (mut here, mut there) = (Session::new(Side::Coordinator), Session::new(Side::Worker));
/// let (id, _) = here.open(|_| "what this side keeps for the channel");
/// let mut bytes = Vec::new();
/// farexec_proto::frame::write(&mut bytes, farexec_proto::frame::Kind::Execute, farexec_proto::Encoding::Message, id, b"N.");
/// here.close(id, None, &mut bytes);
///
/// let (mut reader, mut input, mut answers) = (FrameReader::default(), &bytes[..], Vec::new());
/// let request = reader.next(&mut input)?.ok_or("a frame is there")?;
/// assert!(matches!(there.receive(request, |_, _| "that side's", &mut answers)?, Event::Execute { .. }));
/// let close = reader.next(&mut input)?.ok_or("another one is there")?;
/// assert!(matches!(there.receive(close, |_, _| "not asked for", &mut answers)?, Event::Closed { .. }));
/// assert_eq!((here.channel_count(), there.channel_count()), (0, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Session<C> {
    side: Side,
    next_channel: u32,
    channels: ChannelMap<Channel<C>>,
    /// What the peer said of the channel that it opens next.
    early_credit: Option<(ChannelId, u32)>,
    /// How many of them the peer opened.
    of_peer: usize,
}

#[derive(Debug)]
struct Channel<C> {
    state: State,
    attached: C,
}

/// What a frame turned out to mean.
#[derive(Debug, PartialEq)]
pub enum Event<'a, 's, C> {
    /// Nothing for the owner: it crossed a CLOSE on its way, or was answered already.
    Nothing,
    /// An item arrived.
    Item {
        /// What is attached to its channel.
        channel: &'s C,
        /// How the payload is encoded.
        encoding: Encoding,
        /// The item.
        payload: Cow<'a, [u8]>,
    },
    /// No more items will arrive on this channel; it can still be sent on.
    ItemsEnded(&'s C),
    /// The channel is closed and forgotten here.
    Closed {
        /// What was attached to it.
        channel: C,
        /// The error that the peer closed it with, still encoded.
        error: Option<(Encoding, Cow<'a, [u8]>)>,
        /// Whether the end of its items comes with it, and was not told before.
        items_end: bool,
    },
    /// The peer made a channel.
    Opened(&'s C),
    /// The peer takes this many more items on a channel.
    Credit {
        /// What is attached to it.
        channel: &'s C,
        /// How many more.
        items: u32,
    },
    /// The coordinator asks for an execution on a new channel.
    Execute {
        /// What was attached to the new channel.
        channel: &'s C,
        /// How the request is encoded.
        encoding: Encoding,
        /// The request: a dict, as `docs/PROTOCOL.md` lists it.
        request: Cow<'a, [u8]>,
    },
    /// How strings are coerced on a channel, or on all of the gateway.
    Reconfigured {
        /// What is attached to the channel, `None` for the gateway.
        channel: Option<&'s C>,
        /// The rule.
        coercion: StringCoercion,
    },
    /// How to set up (worker only): [`crate::control::Start`].
    Start(Cow<'a, [u8]>),
    /// Who answers (coordinator only): [`crate::control::Hello`].
    Hello(Cow<'a, [u8]>),
    /// The worker's status is asked for (worker only); answer with [`Session::write_status`].
    StatusAsked,
    /// The oldest open request for a status is answered: [`crate::control::Status`].
    Status(Encoding, Cow<'a, [u8]>),
    /// A ping of ours is answered.
    Pong(Cow<'a, [u8]>),
    /// The coordinator wants this worker to end (worker only): [`crate::control::Terminate`], or empty.
    Terminate(Encoding, Cow<'a, [u8]>),
    /// The coordinator offers memory for rings: [`crate::control::Ring`]; or the worker has mapped it, and the payload says nothing.
    Ring(Encoding, Cow<'a, [u8]>),
    /// From the next byte on the stream is in the ring.
    Switched,
}

/// What a peer may not do. Its fault, and the end of the gateway.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A frame that only the other side may send.
    #[error("the {side} sent a {kind:?} frame, which only the other side may send")]
    WrongSide {
        /// Who sent it.
        side: &'static str,
        /// What was sent.
        kind: Kind,
    },
    /// A channel number that the peer may not give to a new channel.
    #[error("the peer opened channel {0}, a number that {1}")]
    BadChannel(ChannelId, &'static str),
    /// A worker opened more channels than one may have open ([`MAX_WORKER_CHANNELS`]).
    #[error("the worker opened more than {0} channels, and closed none")]
    TooManyChannels(usize),
    /// A payload of a fixed form has another.
    #[error("a {0:?} frame has a payload of {1} bytes, which it cannot have")]
    BadPayload(Kind, usize),
    /// The stream is not a sequence of frames.
    #[error(transparent)]
    Frame(#[from] frame::FrameError),
}

/// Appends that this side takes so many more items on a channel; in front of the frame that opens one, how many items each side may
/// send ahead on it.
pub fn write_credit(id: ChannelId, items: u32, out: &mut Vec<u8>) {
    frame::write(out, Kind::Credit, Encoding::Message, id, &items.to_le_bytes());
}

impl<C> Session<C> {
    /// A session at its beginning.
    #[must_use]
    pub fn new(side: Side) -> Self {
        let next_channel = match side {
            Side::Coordinator => 1,
            Side::Worker => 2,
        };
        Self { side, next_channel, channels: ChannelMap::default(), of_peer: 0, early_credit: None }
    }

    /// The number of channels that are not closed.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    /// What is attached to a channel, unless it is closed or unknown.
    #[must_use]
    pub fn channel(&self, id: ChannelId) -> Option<&C> {
        self.channels.get(&id).map(|channel| &channel.attached)
    }

    /// Takes in one frame of the peer. `attach` makes what belongs to a channel that the frame opens, and is told how many items each
    /// side may send ahead on it, if that is limited; what the protocol itself answers (a PING) is appended to `out`.
    ///
    /// # Errors
    /// [`ProtocolError`] if the peer broke the protocol; the gateway is to be ended.
    #[inline]
    pub fn receive<'a, 's>(
        &'s mut self,
        frame: Frame<'a>,
        attach: impl FnOnce(ChannelId, Option<u32>) -> C,
        out: &mut Vec<u8>,
    ) -> Result<Event<'a, 's, C>, ProtocolError> {
        let Frame { kind, encoding, channel: id, payload } = frame;
        if kind == Kind::Item {
            return Ok(match self.channels.get(&id) {
                Some(Channel { state: State::Open | State::ReceiveOnly, attached }) => {
                    Event::Item { channel: attached, encoding, payload }
                }
                _ => Event::Nothing,
            });
        }
        self.check_sender(kind)?;
        match kind {
            Kind::Item => Ok(Event::Nothing),
            Kind::Execute => {
                let channel = self.accept(id, attach)?;
                Ok(Event::Execute { channel, encoding, request: payload })
            }
            Kind::Open => self.accept(id, attach).map(Event::Opened),
            Kind::Last => Ok(self.peer(id, Input::PeerLast, None)),
            Kind::Close => Ok(self.peer(id, Input::PeerClose, None)),
            Kind::CloseError => Ok(self.peer(id, Input::PeerClose, Some((encoding, payload)))),
            Kind::Reconfigure => match payload[..] {
                [py2 @ (0 | 1), py3 @ (0 | 1)] => {
                    let channel = self.channels.get(&id).map(|channel| &channel.attached);
                    if channel.is_none() && id != ChannelId::GATEWAY {
                        return Ok(Event::Nothing);
                    }
                    let coercion = StringCoercion { py2str_as_py3str: py2 == 1, py3str_as_py2str: py3 == 1 };
                    Ok(Event::Reconfigured { channel, coercion })
                }
                _ => Err(ProtocolError::BadPayload(kind, payload.len())),
            },
            Kind::Start => Ok(Event::Start(payload)),
            Kind::Hello => Ok(Event::Hello(payload)),
            // Its receiver takes it off the stream before there is a session.
            Kind::Extension => Ok(Event::Nothing),
            Kind::Status => Ok(Event::StatusAsked),
            Kind::StatusReply => Ok(Event::Status(encoding, payload)),
            Kind::Ping if payload.len() > MAX_PING => Err(ProtocolError::BadPayload(kind, payload.len())),
            Kind::Ping => {
                frame::write(out, Kind::Pong, Encoding::Message, ChannelId::GATEWAY, &payload);
                Ok(Event::Nothing)
            }
            Kind::Pong => Ok(Event::Pong(payload)),
            Kind::Terminate => Ok(Event::Terminate(encoding, payload)),
            Kind::Credit => {
                let items = payload[..].try_into().map(u32::from_le_bytes).ok().filter(|items| *items > 0);
                let items = items.ok_or(ProtocolError::BadPayload(kind, payload.len()))?;
                match self.channels.get(&id) {
                    Some(channel) => return Ok(Event::Credit { channel: &channel.attached, items }),
                    None => self.early_credit = Some((id, items)),
                }
                Ok(Event::Nothing)
            }
            Kind::Ring => Ok(Event::Ring(encoding, payload)),
            Kind::Switch if !payload.is_empty() => Err(ProtocolError::BadPayload(kind, payload.len())),
            Kind::Switch => Ok(Event::Switched),
        }
    }

    /// Makes a channel of this side's. Its frame (OPEN, or the EXECUTE that the caller writes) is to be sent before anything else on it.
    pub fn open(&mut self, attach: impl FnOnce(ChannelId) -> C) -> (ChannelId, &C) {
        let id = loop {
            let id = ChannelId::new(self.next_channel);
            // The sequence starts again after two thousand million channels, among them perhaps some still open.
            self.next_channel = match self.next_channel.checked_add(2) {
                Some(next) if next <= i32::MAX as u32 => next,
                _ => 2 - self.next_channel % 2,
            };
            if !self.channels.contains_key(&id) {
                break id;
            }
        };
        let channel = Channel { state: State::Open, attached: attach(id) };
        (id, &self.channels.entry(id).or_insert(channel).attached)
    }

    /// This side sends no more on the channel: appends what tells the peer.
    /// Returns what was attached if that closed the channel.
    pub fn last(&mut self, id: ChannelId, out: &mut Vec<u8>) -> Option<C> {
        self.local(id, Input::LocalLast, None, out).map(|(channel, _)| channel)
    }

    /// This side is done with the channel: appends what tells the peer, with an error (an encoded [`crate::control::ErrorReport`]) if there is one.
    /// Returns what was attached, and whether the end of its items comes with it; `None` if it was closed already.
    pub fn close(
        &mut self,
        id: ChannelId,
        error: Option<(Encoding, &[u8])>,
        out: &mut Vec<u8>,
    ) -> Option<(C, bool)> {
        self.local(id, Input::LocalClose, error, out)
    }

    /// The gateway ended: forgets every channel. Returns what was attached to each, and whether the end of its items
    /// comes with this.
    pub fn lose(&mut self) -> impl Iterator<Item = (C, bool)> + use<C> {
        self.of_peer = 0;
        std::mem::take(&mut self.channels).into_values().map(|Channel { state, attached }| {
            let transition = transition::next(state, Input::Lost);
            (attached, transition.items_end)
        })
    }

    /// Appends a request for the worker's status.
    pub fn write_status_request(&self, out: &mut Vec<u8>) {
        frame::write(out, Kind::Status, Encoding::Message, ChannelId::GATEWAY, &[]);
    }

    /// Appends the answer to one [`Event::StatusAsked`].
    pub fn write_status(&self, encoding: Encoding, status: &[u8], out: &mut Vec<u8>) {
        frame::write(out, Kind::StatusReply, encoding, ChannelId::GATEWAY, status);
    }

    fn check_sender(&self, kind: Kind) -> Result<(), ProtocolError> {
        let only_from = match kind {
            Kind::Start | Kind::Extension | Kind::Execute | Kind::Status | Kind::Terminate => {
                Side::Coordinator
            }
            Kind::Hello | Kind::StatusReply => Side::Worker,
            _ => return Ok(()),
        };
        if only_from == self.side {
            let side = match self.side {
                Side::Coordinator => "worker",
                Side::Worker => "coordinator",
            };
            return Err(ProtocolError::WrongSide { side, kind });
        }
        Ok(())
    }

    fn accept(
        &mut self,
        id: ChannelId,
        attach: impl FnOnce(ChannelId, Option<u32>) -> C,
    ) -> Result<&C, ProtocolError> {
        if !self.side.is_given_by_peer(id) || id == ChannelId::GATEWAY {
            return Err(ProtocolError::BadChannel(id, "is not the peer's to give"));
        }
        match self.channels.entry(id) {
            Entry::Occupied(_) => Err(ProtocolError::BadChannel(id, "is in use")),
            Entry::Vacant(_) if self.side == Side::Coordinator && self.of_peer >= MAX_WORKER_CHANNELS => {
                Err(ProtocolError::TooManyChannels(MAX_WORKER_CHANNELS))
            }
            Entry::Vacant(vacant) => {
                self.of_peer += 1;
                let credit = self.early_credit.take().and_then(|(of, items)| (of == id).then_some(items));
                Ok(&vacant.insert(Channel { state: State::Open, attached: attach(id, credit) }).attached)
            }
        }
    }

    fn peer<'a>(
        &mut self,
        id: ChannelId,
        input: Input,
        error: Option<(Encoding, Cow<'a, [u8]>)>,
    ) -> Event<'a, '_, C> {
        let Entry::Occupied(mut entry) = self.channels.entry(id) else { return Event::Nothing };
        let transition = transition::next(entry.get().state, input);
        if transition.state == State::Closed {
            let channel = entry.remove().attached;
            self.of_peer -= usize::from(self.side.is_given_by_peer(id));
            return Event::Closed { channel, error, items_end: transition.items_end };
        }
        entry.get_mut().state = transition.state;
        match transition.items_end {
            true => Event::ItemsEnded(&entry.into_mut().attached),
            false => Event::Nothing,
        }
    }

    fn local(
        &mut self,
        id: ChannelId,
        input: Input,
        error: Option<(Encoding, &[u8])>,
        out: &mut Vec<u8>,
    ) -> Option<(C, bool)> {
        let Entry::Occupied(mut entry) = self.channels.entry(id) else { return None };
        let transition = transition::next(entry.get().state, input);
        match (transition.say, error) {
            (Some(Kind::Close), Some((encoding, error))) => {
                frame::write(out, Kind::CloseError, encoding, id, error);
            }
            (Some(kind), _) => frame::write(out, kind, Encoding::Message, id, &[]),
            (None, _) => {}
        }
        if transition.state == State::Closed {
            let channel = entry.remove().attached;
            self.of_peer -= usize::from(self.side.is_given_by_peer(id));
            return Some((channel, transition.items_end));
        }
        entry.get_mut().state = transition.state;
        None
    }
}
