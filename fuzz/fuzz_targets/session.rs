//! Any sequence of frames from the peer and of calls from the owner, on both sides: a protocol error or an event, the end of
//! items told once for each channel, and nothing left behind when the gateway is lost.

#![no_main]

use std::borrow::Cow;
use std::cell::Cell;
use std::rc::Rc;

use arbitrary::Arbitrary;
use farexec_proto::frame::{Frame, Kind};
use farexec_proto::session::{Event, Session, Side};
use farexec_proto::{ChannelId, Encoding};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Step {
    Frame { kind: u8, dump: bool, channel: u8, payload: Vec<u8> },
    Open,
    Last { channel: u8 },
    Close { channel: u8, error: Option<Vec<u8>> },
}

/// How often the end of items was told, one for each channel.
type Ends = Rc<Cell<u32>>;

fn told(ends: &Ends) {
    ends.set(ends.get() + 1);
    assert_eq!(ends.get(), 1, "the end of items was told again");
}

fuzz_target!(|input: (bool, Vec<Step>)| {
    let (coordinator, steps) = input;
    let mut session = Session::<Ends>::new(if coordinator { Side::Coordinator } else { Side::Worker });
    let mut all: Vec<Ends> = Vec::new();
    let mut out = Vec::new();
    for step in steps {
        match step {
            Step::Frame { kind, dump, channel, payload } => {
                let Some(kind) = Kind::from_wire(kind) else { continue };
                let encoding = if dump { Encoding::Dump } else { Encoding::Message };
                let frame = Frame { kind, encoding, channel: ChannelId::new(channel.into()), payload: Cow::Owned(payload) };
                let attach = |_, _| {
                    all.push(Ends::default());
                    all[all.len() - 1].clone()
                };
                match session.receive(frame, attach, &mut out) {
                    Ok(Event::Item { channel, .. }) => assert_eq!(channel.get(), 0, "an item behind the end of items"),
                    Ok(Event::ItemsEnded(channel)) => told(channel),
                    Ok(Event::Closed { channel, items_end: true, .. }) => told(&channel),
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
            Step::Open => {
                let (id, ends) = session.open(|_| Ends::default());
                all.push(Rc::clone(ends));
                assert!(session.channel(id).is_some());
            }
            Step::Last { channel } => {
                if let Some(ends) = session.last(ChannelId::new(channel.into()), &mut out) {
                    assert_eq!(ends.get(), 1, "closed by LAST before the end of items");
                }
            }
            Step::Close { channel, error } => {
                let id = ChannelId::new(channel.into());
                let error = error.as_deref().map(|error| (Encoding::Message, error));
                if let Some((ends, true)) = session.close(id, error, &mut out) {
                    told(&ends);
                }
                assert!(session.channel(id).is_none());
            }
        }
    }
    for (ends, items_end) in session.lose() {
        if items_end {
            told(&ends);
        }
    }
    assert_eq!(session.channel_count(), 0);
    assert!(all.iter().all(|ends| ends.get() == 1 && Rc::strong_count(ends) == 1));
});
