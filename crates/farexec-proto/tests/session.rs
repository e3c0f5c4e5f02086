//! Two sessions against each other over a simulated link that cuts the bytes anywhere and delays them: whatever both sides do, items arrive in
//! order and once, every channel that one side closes ends at the other, exactly once, and nothing is left over.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use farexec_proto::frame::{self, FrameReader, Kind};
use farexec_proto::session::{Event, ProtocolError, Session, Side};
use farexec_proto::{ChannelId, Encoding};
use proptest::prelude::*;

/// What an owner attaches to a channel: what came of it.
#[derive(Debug, Default)]
struct Log {
    items: Vec<Vec<u8>>,
    item_ends: usize,
    closes: usize,
    error: Option<Vec<u8>>,
}

type Attached = Rc<RefCell<Log>>;

struct End {
    session: Session<Attached>,
    reader: FrameReader,
    outgoing: VecDeque<u8>,
    logs: HashMap<ChannelId, Attached>,
    sent: HashMap<ChannelId, Vec<Vec<u8>>>,
    opened: Vec<ChannelId>,
}

impl End {
    fn new(side: Side) -> Self {
        Self {
            session: Session::new(side),
            reader: FrameReader::default(),
            outgoing: VecDeque::new(),
            logs: HashMap::new(),
            sent: HashMap::new(),
            opened: Vec::new(),
        }
    }

    fn open(&mut self) {
        let (id, log) = self.session.open(|_| Attached::default());
        self.logs.insert(id, Rc::clone(log));
        self.opened.push(id);
        let mut out = Vec::new();
        frame::write(&mut out, Kind::Open, Encoding::Message, id, &[]);
        self.outgoing.extend(out);
    }

    /// Sends an item on a channel that is still known, as a driver does that has not seen its end yet.
    fn send(&mut self, id: ChannelId, item: &[u8]) {
        let mut out = Vec::new();
        frame::write(&mut out, Kind::Item, Encoding::Message, id, item);
        self.outgoing.extend(out);
        self.sent.entry(id).or_default().push(item.to_vec());
    }

    fn last(&mut self, id: ChannelId) {
        let mut out = Vec::new();
        if let Some(log) = self.session.last(id, &mut out) {
            log.borrow_mut().closes += 1;
        }
        self.outgoing.extend(out);
    }

    fn close(&mut self, id: ChannelId, error: Option<&[u8]>) {
        let mut out = Vec::new();
        let error = error.map(|error| (Encoding::Dump, error));
        if let Some((log, items_end)) = self.session.close(id, error, &mut out) {
            let mut log = log.borrow_mut();
            log.closes += 1;
            log.item_ends += usize::from(items_end);
        }
        self.outgoing.extend(out);
    }

    fn take_in(&mut self, bytes: &[u8]) -> Result<(), ProtocolError> {
        let mut input = bytes;
        let mut replies = Vec::new();
        while let Some(frame) = self.reader.next(&mut input)? {
            let id = frame.channel;
            let logs = &mut self.logs;
            let attach = |id, _| Rc::clone(logs.entry(id).or_default());
            match self.session.receive(frame, attach, &mut replies)? {
                Event::Item { channel, payload, .. } => channel.borrow_mut().items.push(payload.into_owned()),
                Event::ItemsEnded(log) => log.borrow_mut().item_ends += 1,
                Event::Opened(_) => self.opened.push(id),
                Event::Closed { channel, error, items_end } => {
                    let mut log = channel.borrow_mut();
                    log.closes += 1;
                    log.item_ends += usize::from(items_end);
                    log.error = error.map(|(_, bytes)| bytes.into_owned());
                }
                _ => {}
            }
        }
        self.outgoing.extend(replies);
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Open(bool),
    Send(bool, usize, Vec<u8>),
    Last(bool, usize),
    Close(bool, usize, Option<Vec<u8>>),
    Deliver(bool, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let side = any::<bool>;
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        1 => side().prop_map(Step::Open),
        4 => (side(), 0usize..6, bytes()).prop_map(|(side, index, bytes)| Step::Send(side, index, bytes)),
        1 => (side(), 0usize..6).prop_map(|(side, index)| Step::Last(side, index)),
        1 => (side(), 0usize..6, proptest::option::of(bytes())).prop_map(|(side, index, error)| Step::Close(side, index, error)),
        6 => (side(), 1usize..50).prop_map(|(side, count)| Step::Deliver(side, count)),
    ]
}

fn deliver(from: &mut End, to: &mut End, count: usize) {
    let count = count.min(from.outgoing.len());
    let bytes: Vec<u8> = from.outgoing.drain(..count).collect();
    to.take_in(&bytes).unwrap();
}

fn drain(here: &mut End, there: &mut End) {
    while !(here.outgoing.is_empty() && there.outgoing.is_empty()) {
        deliver(here, there, 7);
        deliver(there, here, 11);
    }
}

proptest! {
    // Failures are shrunk and printed; nothing is written beside the sources.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_doubled_or_reordered(steps in proptest::collection::vec(step(), 0..120)) {
        let mut here = End::new(Side::Coordinator);
        let mut there = End::new(Side::Worker);
        for step in steps {
            let (side, index) = match &step {
                Step::Open(side) | Step::Deliver(side, _) => (*side, 0),
                Step::Send(side, index, _) | Step::Last(side, index) | Step::Close(side, index, _) => (*side, *index),
            };
            let (end, other) = if side { (&mut here, &mut there) } else { (&mut there, &mut here) };
            let id = end.opened.get(index).copied();
            match (step, id) {
                (Step::Open(_), _) => end.open(),
                (Step::Deliver(_, count), _) => deliver(end, other, count),
                (Step::Send(_, _, item), Some(id)) => end.send(id, &item),
                (Step::Last(..), Some(id)) => end.last(id),
                (Step::Close(_, _, error), Some(id)) => end.close(id, error.as_deref()),
                (_, None) => {}
            }
        }
        drain(&mut here, &mut there);
        let mut closed: Vec<ChannelId> = here.logs.keys().chain(there.logs.keys()).copied().collect();
        closed.sort();
        closed.dedup();
        for id in closed {
            here.close(id, None);
        }
        drain(&mut here, &mut there);
        for (end, other) in [(&here, &there), (&there, &here)] {
            for (id, log) in &end.logs {
                let log = log.borrow();
                let sent = other.sent.get(id).map(Vec::as_slice).unwrap_or_default();
                prop_assert!(sent.starts_with(&log.items), "{id}: {:?} of {sent:?}", log.items);
                prop_assert_eq!(log.item_ends, 1, "{} ended {} times", id, log.item_ends);
            }
        }
        prop_assert_eq!((here.session.channel_count(), there.session.channel_count()), (0, 0));
    }

    #[test]
    fn no_byte_stream_makes_a_session_panic(
        side in any::<bool>(),
        bytes in proptest::collection::vec(prop_oneof![0u8..4, 0x10u8..0x17, 0x20u8..0x24, any::<u8>()], 0..200),
    ) {
        let mut end = End::new(if side { Side::Coordinator } else { Side::Worker });
        end.open();
        let _ = end.take_in(&bytes);
    }
}

fn single(kind: Kind, id: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::write(&mut bytes, kind, Encoding::Message, ChannelId::new(id), payload);
    bytes
}

#[test]
fn what_only_the_other_side_may_do_is_refused() {
    for kind in [Kind::Start, Kind::Execute, Kind::Status, Kind::Terminate] {
        let error = End::new(Side::Coordinator).take_in(&single(kind, 2, &[])).unwrap_err();
        assert_eq!(error, ProtocolError::WrongSide { side: "worker", kind });
    }
    for kind in [Kind::Hello, Kind::StatusReply] {
        assert!(End::new(Side::Worker).take_in(&single(kind, 0, &[])).is_err());
    }
    assert!(
        End::new(Side::Coordinator).take_in(&single(Kind::Open, 3, &[])).is_err(),
        "odd numbers are ours"
    );
    assert!(End::new(Side::Coordinator).take_in(&single(Kind::Open, 0, &[])).is_err());
    let twice = [single(Kind::Open, 2, &[]), single(Kind::Open, 2, &[])].concat();
    assert!(End::new(Side::Coordinator).take_in(&twice).is_err());
    assert!(End::new(Side::Coordinator).take_in(&single(Kind::Reconfigure, 0, &[2, 0])).is_err());
    assert!(End::new(Side::Coordinator).take_in(&single(Kind::Ping, 0, &[0; 65])).is_err());
}

#[test]
fn a_ping_is_answered_with_its_own_bytes() {
    let mut end = End::new(Side::Worker);
    end.take_in(&single(Kind::Ping, 0, b"abc")).unwrap();
    assert_eq!(end.outgoing, single(Kind::Pong, 0, b"abc"));
}

#[test]
fn losing_the_gateway_ends_every_channel_once() {
    let mut end = End::new(Side::Coordinator);
    end.open();
    end.open();
    end.take_in(&single(Kind::Last, 1, &[])).unwrap();
    let ends: Vec<bool> = end.session.lose().map(|(_, items_end)| items_end).collect();
    assert_eq!(ends.iter().filter(|&&end| end).count(), 1, "one of the two had told its end before");
    assert_eq!(end.session.channel_count(), 0);
}

#[test]
fn credit_in_front_of_an_opening_is_its_channels_and_later_adds_to_it() {
    let mut session = Session::new(Side::Worker);
    let receive = |session: &mut Session<Option<u32>>, kind, id: u32, payload: &[u8]| {
        let mut bytes = Vec::new();
        frame::write(&mut bytes, kind, Encoding::Message, ChannelId::new(id), payload);
        let frame = FrameReader::default().next(&mut &bytes[..])?.unwrap();
        session.receive(frame, |_, credit| credit, &mut Vec::new()).map(|event| match event {
            Event::Credit { channel, items } => (*channel, Some(items)),
            Event::Opened(channel) | Event::Execute { channel, .. } => (*channel, None),
            Event::Nothing => (None, None),
            other => panic!("{other:?}"),
        })
    };
    let mut receive = |kind, id, payload: &[u8]| receive(&mut session, kind, id, payload);
    let five = 5u32.to_le_bytes();
    assert_eq!(receive(Kind::Credit, 1, &five).unwrap(), (None, None));
    assert_eq!(receive(Kind::Open, 1, b"").unwrap(), (Some(5), None));
    assert_eq!(receive(Kind::Open, 3, b"").unwrap(), (None, None));
    assert_eq!(receive(Kind::Credit, 1, &five).unwrap(), (Some(5), Some(5)));
    assert_eq!(receive(Kind::Credit, 7, &five).unwrap(), (None, None));
    assert_eq!(receive(Kind::Execute, 5, b"N.").unwrap(), (None, None));
    assert_eq!(receive(Kind::Execute, 7, b"N.").unwrap(), (None, None), "it was of what came next");
    assert_eq!(receive(Kind::Credit, 1, b"abc"), Err(ProtocolError::BadPayload(Kind::Credit, 3)));
    assert_eq!(receive(Kind::Credit, 1, &[0; 4]), Err(ProtocolError::BadPayload(Kind::Credit, 4)));
}
