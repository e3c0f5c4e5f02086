//! Frames: how messages are cut out of, and put into, a byte stream.
//!
//! [`FrameReader`] takes bytes as they arrive, in any chunking, and gives back whole [`Frame`]s; [`write()`] and
//! [`write_with`] append one frame to a buffer. What a frame *means* is the business of [`crate::session`].
//! The layout is section 2 of `docs/PROTOCOL.md`.

use std::borrow::Cow;

use crate::limits::{DIRECT_READ, MAX_PAYLOAD, PREALLOCATION};
use crate::{ChannelId, Encoding};

/// Bytes of a frame before its payload.
pub const HEADER_LENGTH: usize = 10;

const ENCODING_FLAG: u8 = 1;

/// A byte in a pipe while the stream is in the ring: it says that there is something. No frame begins with it.
pub const BELL: u8 = 0xff;

/// What a frame is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Coordinator to worker, first of all: how to set up.
    Start = 0x01,
    /// Worker to coordinator, first of all: who answers.
    Hello = 0x02,
    /// Coordinator to worker, in answer to a HELLO that asks for it: the extension module, or nothing.
    Extension = 0x03,
    /// Coordinator to worker: execute code, talking over a new channel.
    Execute = 0x10,
    /// One item on a channel.
    Item = 0x11,
    /// A channel that the sender made.
    Open = 0x12,
    /// The sender will send no more on the channel, but still receives.
    Last = 0x13,
    /// The sender is done with the channel.
    Close = 0x14,
    /// The sender is done with the channel because of an error.
    CloseError = 0x15,
    /// How Python 2 and 3 strings are coerced.
    Reconfigure = 0x16,
    /// Coordinator to worker: how are you?
    Status = 0x20,
    /// Worker to coordinator: the answer.
    StatusReply = 0x21,
    /// Are you there?
    Ping = 0x22,
    /// The answer, with the bytes of the ping.
    Pong = 0x23,
    /// Coordinator to worker: end.
    Terminate = 0x30,
    /// How many more items the sender takes on the channel. Who does not know it is never sent it.
    Credit = 0x80,
    /// Coordinator to worker: memory that both can map, for rings. Worker to coordinator: it is mapped.
    Ring = 0x81,
    /// From here on the stream is in the ring.
    Switch = 0x82,
}

impl Kind {
    const ALL: [Self; 18] = [
        Self::Start,
        Self::Hello,
        Self::Extension,
        Self::Execute,
        Self::Item,
        Self::Open,
        Self::Last,
        Self::Close,
        Self::CloseError,
        Self::Reconfigure,
        Self::Status,
        Self::StatusReply,
        Self::Ping,
        Self::Pong,
        Self::Terminate,
        Self::Credit,
        Self::Ring,
        Self::Switch,
    ];

    /// The kind with this number on the wire, if this version of the protocol has one.
    #[must_use]
    pub fn from_wire(number: u8) -> Option<Self> {
        // Looked up, since a chain of comparisons is a fifth of what it costs to cut a frame from a stream.
        static BY_NUMBER: [Option<Kind>; 256] = {
            let mut table = [None; 256];
            let mut index = 0;
            while index < Kind::ALL.len() {
                table[Kind::ALL[index] as usize] = Some(Kind::ALL[index]);
                index += 1;
            }
            table
        };
        BY_NUMBER[usize::from(number)]
    }
}

/// One message, its payload borrowed from the bytes it arrived in where it lay there whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is about.
    pub kind: Kind,
    /// How the payload is encoded, where the kind has an encoded payload.
    pub encoding: Encoding,
    /// The channel it belongs to; number 0 for the gateway itself.
    pub channel: ChannelId,
    /// The payload.
    pub payload: Cow<'a, [u8]>,
}

/// What can be wrong with a byte stream before any meaning is looked at. Each is the peer's fault and ends the gateway.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A kind this version does not know and may not skip.
    #[error(
        "unknown frame kind {0:#04x}: the stream is corrupt, or the peer speaks another version of the protocol"
    )]
    UnknownKind(u8),
    /// A payload that is announced to be longer than any may be.
    #[error("a frame announces a payload of {0} bytes, more than the limit of {MAX_PAYLOAD}")]
    TooLong(u64),
}

/// The payload that was to be sent is longer than a frame can carry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the encoded item has {0} bytes, more than the {MAX_PAYLOAD} that one message may have: send it in parts"
)]
pub struct PayloadTooLong(pub usize);

#[derive(Clone, Copy, Debug)]
struct Header {
    /// `None`: a kind from 0x80 on that we do not know and skip.
    kind: Option<Kind>,
    encoding: Encoding,
    channel: ChannelId,
    length: usize,
}

impl Header {
    fn parse(bytes: [u8; HEADER_LENGTH]) -> Result<Self, FrameError> {
        let [number, flags, c0, c1, c2, c3, l0, l1, l2, l3] = bytes;
        let kind = Kind::from_wire(number);
        if kind.is_none() && number < 0x80 {
            return Err(FrameError::UnknownKind(number));
        }
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        if u64::from(length) > MAX_PAYLOAD as u64 {
            return Err(FrameError::TooLong(u64::from(length)));
        }
        let encoding = if flags & ENCODING_FLAG == 0 { Encoding::Message } else { Encoding::Dump };
        let channel = ChannelId::new(u32::from_le_bytes([c0, c1, c2, c3]));
        Ok(Self { kind, encoding, channel, length: length as usize })
    }

    fn frame(self, payload: Cow<'_, [u8]>) -> Option<Frame<'_>> {
        let Self { kind, encoding, channel, .. } = self;
        Some(Frame { kind: kind?, encoding, channel, payload })
    }
}

/// Cuts a byte stream into frames.
///
/// ```
/// use farexec_proto::frame::{self, FrameReader, Kind};
/// use farexec_proto::{ChannelId, Encoding};
///
/// let mut bytes = Vec::new();
/// frame::write(&mut bytes, Kind::Ping, Encoding::Message, ChannelId::GATEWAY, b"hi");
/// let mut reader = FrameReader::default();
/// let mut input = &bytes[..5];
/// assert_eq!(reader.next(&mut input)?, None); // not yet
/// let mut input = &bytes[5..];
/// assert_eq!(&*reader.next(&mut input)?.unwrap().payload, b"hi");
/// # Ok::<(), frame::FrameError>(())
/// ```
#[derive(Debug, Default)]
pub struct FrameReader {
    /// The first bytes of a header that did not arrive whole.
    partial: [u8; HEADER_LENGTH],
    partial_length: usize,
    /// A payload that did not arrive whole.
    under_way: Option<Partial>,
    /// A buffer for the next large payload.
    spare: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Partial {
    header: Header,
    /// As long as memory was taken so far; what has not arrived of it is zeros, or anything.
    buffer: Vec<u8>,
    arrived: usize,
}

impl Partial {
    fn missing(&self) -> usize {
        self.header.length - self.arrived
    }

    /// The room for what is missing, more of it if there is none. At most doubled: a peer gets memory for what it sent, not for
    /// what it says it will send.
    fn room(&mut self) -> &mut [u8] {
        if self.arrived == self.buffer.len() {
            let more = self.missing().min(self.arrived.max(DIRECT_READ));
            self.buffer.reserve_exact(more);
            self.buffer.resize(self.arrived + more, 0);
        }
        let end = self.buffer.len().min(self.header.length);
        &mut self.buffer[self.arrived..end]
    }

    /// Takes the bytes off the front of `input` that belong to it.
    fn take(&mut self, input: &mut &[u8]) {
        while !input.is_empty() && self.missing() > 0 {
            let room = self.room();
            let (taken, rest) = input.split_at(room.len().min(input.len()));
            room[..taken.len()].copy_from_slice(taken);
            self.arrived += taken.len();
            *input = rest;
        }
    }
}

impl FrameReader {
    /// Takes bytes off the front of `input` and returns the next frame, or `None` if all of `input` was taken and the
    /// frame is not complete. Call it until it returns `None`.
    ///
    /// # Errors
    /// [`FrameError`] if the stream is no sequence of frames. The reader is of no use afterwards.
    #[inline]
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Frame<'a>>, FrameError> {
        loop {
            if let Some(mut partial) = self.under_way.take() {
                partial.take(input);
                if partial.missing() > 0 {
                    self.under_way = Some(partial);
                    return Ok(None);
                }
                let Partial { header, mut buffer, .. } = partial;
                buffer.truncate(header.length);
                match header.frame(Cow::Owned(buffer)) {
                    Some(frame) => return Ok(Some(frame)),
                    None => continue,
                }
            }
            let Some(header) = self.header(input)? else { return Ok(None) };
            if let Some((payload, rest)) = input.split_at_checked(header.length) {
                *input = rest;
                match header.frame(Cow::Borrowed(payload)) {
                    Some(frame) => return Ok(Some(frame)),
                    None => continue,
                }
            }
            let mut partial = Partial { header, buffer: self.buffer(header.length), arrived: 0 };
            partial.take(input);
            self.under_way = Some(partial);
            return Ok(None);
        }
    }

    /// Room for a large payload that is under way: bytes may be put at its front, and told by [`arrived`](Self::arrived),
    /// instead of being given to [`next`](Self::next), so that they are not copied. `None` if little is missing, or nothing.
    pub fn direct(&mut self) -> Option<&mut [u8]> {
        let partial = self.under_way.as_mut()?;
        if partial.missing() < DIRECT_READ {
            return None;
        }
        Some(partial.room())
    }

    /// So many bytes were put at the front of what [`direct`](Self::direct) gave.
    pub fn arrived(&mut self, count: usize) {
        if let Some(partial) = &mut self.under_way {
            partial.arrived = (partial.arrived + count).min(partial.buffer.len());
        }
    }

    /// Whether a large payload is under way, and the next one has no buffer yet: see [`offer`](Self::offer).
    #[must_use]
    pub fn wants_buffer(&self) -> bool {
        self.spare.is_none()
            && self.under_way.as_ref().is_some_and(|partial| partial.missing() >= DIRECT_READ)
    }

    /// Takes back what was offered and is not used: no large payload is under way behind which another one may follow.
    pub fn take_unused(&mut self) -> Option<Vec<u8>> {
        if self.under_way.as_ref().is_some_and(|partial| partial.header.length >= DIRECT_READ) {
            return None;
        }
        self.spare.take()
    }

    /// Has the next large payload arrive in this buffer, if it is about as long: fresh memory costs as much as filling it.
    pub fn offer(&mut self, buffer: Vec<u8>) {
        self.spare = Some(buffer);
    }

    fn buffer(&mut self, length: usize) -> Vec<u8> {
        if length >= DIRECT_READ
            && let Some(mut buffer) = self.spare.take_if(|spare| spare.capacity() / 2 <= length)
        {
            buffer.resize(buffer.capacity(), 0);
            return buffer;
        }
        vec![0; length.min(PREALLOCATION)]
    }

    /// Whether the stream stands between two frames.
    #[must_use]
    pub fn is_between_frames(&self) -> bool {
        self.partial_length == 0 && self.under_way.is_none()
    }

    #[inline]
    fn header(&mut self, input: &mut &[u8]) -> Result<Option<Header>, FrameError> {
        if self.partial_length == 0
            && let Some((header, rest)) = input.split_first_chunk::<HEADER_LENGTH>()
        {
            *input = rest;
            return Header::parse(*header).map(Some);
        }
        let (taken, rest) = input.split_at((HEADER_LENGTH - self.partial_length).min(input.len()));
        self.partial[self.partial_length..][..taken.len()].copy_from_slice(taken);
        self.partial_length += taken.len();
        *input = rest;
        if self.partial_length < HEADER_LENGTH {
            return Ok(None);
        }
        self.partial_length = 0;
        Header::parse(self.partial).map(Some)
    }
}

/// Appends a frame whose payload is at hand and known to be short enough.
///
/// Payloads longer than [`MAX_PAYLOAD`] are for [`write_with`]; here they would be a bug in the caller.
pub fn write(out: &mut Vec<u8>, kind: Kind, encoding: Encoding, channel: ChannelId, payload: &[u8]) {
    debug_assert!(payload.len() <= MAX_PAYLOAD, "payload of {} bytes", payload.len());
    out.reserve(HEADER_LENGTH + payload.len());
    out.extend_from_slice(&header(kind, encoding, channel, payload.len()));
    out.extend_from_slice(payload);
}

/// Appends a frame whose payload `encode` writes in place. On an error `out` is left as it was.
///
/// # Errors
/// What `encode` returns, or [`PayloadTooLong`].
#[inline]
pub fn write_with<E: From<PayloadTooLong>>(
    out: &mut Vec<u8>,
    kind: Kind,
    channel: ChannelId,
    encode: impl FnOnce(&mut Vec<u8>) -> Result<Encoding, E>,
) -> Result<(), E> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_LENGTH]);
    let result = encode(out).and_then(|encoding| {
        let length = out.len() - start - HEADER_LENGTH;
        if length > MAX_PAYLOAD { Err(PayloadTooLong(length).into()) } else { Ok((encoding, length)) }
    });
    match result {
        Ok((encoding, length)) => {
            out[start..][..HEADER_LENGTH].copy_from_slice(&header(kind, encoding, channel, length));
            Ok(())
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

/// The header of an item in the message encoding whose payload is written by the caller.
///
/// # Errors
/// [`PayloadTooLong`].
pub fn header_of_item(channel: ChannelId, length: usize) -> Result<[u8; HEADER_LENGTH], PayloadTooLong> {
    if length > MAX_PAYLOAD {
        return Err(PayloadTooLong(length));
    }
    Ok(header(Kind::Item, Encoding::Message, channel, length))
}

#[inline]
fn header(kind: Kind, encoding: Encoding, channel: ChannelId, length: usize) -> [u8; HEADER_LENGTH] {
    let flags = match encoding {
        Encoding::Message => 0,
        Encoding::Dump => ENCODING_FLAG,
    };
    let [c0, c1, c2, c3] = channel.number().to_le_bytes();
    #[allow(clippy::cast_possible_truncation, reason = "callers keep to MAX_PAYLOAD, which fits")]
    let [l0, l1, l2, l3] = (length as u32).to_le_bytes();
    [kind as u8, flags, c0, c1, c2, c3, l0, l1, l2, l3]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(reader: &mut FrameReader, mut input: &[u8]) -> Result<Vec<Frame<'static>>, FrameError> {
        let mut found = Vec::new();
        while let Some(frame) = reader.next(&mut input)? {
            found.push(Frame { payload: Cow::Owned(frame.payload.into_owned()), ..frame });
        }
        assert!(input.is_empty());
        Ok(found)
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_frames(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20),
            cuts in proptest::collection::vec(1usize..64, 1..40),
        ) {
            let mut bytes = Vec::new();
            for (number, payload) in payloads.iter().enumerate() {
                write(&mut bytes, Kind::Item, Encoding::Dump, ChannelId::new(number as u32), payload);
            }
            let mut reader = FrameReader::default();
            let mut got = Vec::new();
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, tail) = rest.split_at((*cut).min(rest.len()));
                got.extend(frames(&mut reader, chunk).unwrap());
                rest = tail;
            }
            prop_assert!(reader.is_between_frames());
            prop_assert_eq!(got.len(), payloads.len());
            for (number, (frame, payload)) in got.iter().zip(&payloads).enumerate() {
                prop_assert_eq!(frame.channel, ChannelId::new(number as u32));
                prop_assert_eq!(&*frame.payload, &payload[..]);
                prop_assert_eq!(frame.encoding, Encoding::Dump);
            }
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = FrameReader::default();
            let mut input = &bytes[..];
            while let Ok(Some(_)) = reader.next(&mut input) {}
        }
    }

    #[test]
    fn large_payloads_are_read_in_place() {
        let payload: Vec<u8> = (0..1_000_000u32).map(|n| n as u8).collect();
        let mut bytes = Vec::new();
        write(&mut bytes, Kind::Item, Encoding::Message, ChannelId::new(1), &payload);
        write(&mut bytes, Kind::Close, Encoding::Message, ChannelId::new(1), b"");
        let mut reader = FrameReader::default();
        let mut input = &bytes[..100];
        assert_eq!(reader.next(&mut input), Ok(None));
        let mut at = 100;
        while let Some(room) = reader.direct() {
            let count = room.len().min(70_000);
            room[..count].copy_from_slice(&bytes[at..at + count]);
            reader.arrived(count);
            at += count;
        }
        let mut input = &bytes[at..];
        assert_eq!(reader.next(&mut input).unwrap().unwrap().payload, payload);
        assert_eq!(reader.next(&mut input).unwrap().unwrap().kind, Kind::Close);
    }

    #[test]
    fn a_buffer_is_used_again() {
        let mut bytes = Vec::new();
        for filler in [1, 2] {
            write(&mut bytes, Kind::Item, Encoding::Message, ChannelId::new(1), &[filler; 100_000]);
        }
        let mut reader = FrameReader::default();
        let mut input = &bytes[..10_000];
        assert_eq!(reader.next(&mut input), Ok(None));
        assert!(reader.wants_buffer());
        let buffer = vec![9; 150_000];
        let memory = buffer.as_ptr();
        reader.offer(buffer);
        assert!(!reader.wants_buffer());
        let mut input = &bytes[10_000..];
        assert_eq!(reader.next(&mut input).unwrap().unwrap().payload, [1; 100_000].as_slice());
        let mut halves = [&input[..50_000], &input[50_000..]];
        assert_eq!(reader.next(&mut halves[0]), Ok(None));
        let payload = reader.next(&mut halves[1]).unwrap().unwrap().payload.into_owned();
        assert_eq!((payload.as_ptr(), &payload[..]), (memory, [2; 100_000].as_slice()));
        reader.offer(payload);
        assert_eq!(reader.take_unused().map(|buffer| buffer.as_ptr()), Some(memory));
    }

    #[test]
    fn a_claim_alone_takes_bounded_memory() {
        let mut bytes = header(Kind::Item, Encoding::Message, ChannelId::new(1), MAX_PAYLOAD).to_vec();
        bytes.extend_from_slice(b"little");
        let mut reader = FrameReader::default();
        assert_eq!(reader.next(&mut &bytes[..]), Ok(None));
        assert!(reader.direct().unwrap().len() <= PREALLOCATION);
    }

    #[test]
    fn unknown_kinds_are_refused_or_skipped_by_their_number() {
        let mut low = header(Kind::Ping, Encoding::Message, ChannelId::GATEWAY, 0);
        low[0] = 0x7f;
        assert_eq!(FrameReader::default().next(&mut &low[..]), Err(FrameError::UnknownKind(0x7f)));
        let mut high = header(Kind::Ping, Encoding::Message, ChannelId::GATEWAY, 3).to_vec();
        high[0] = 0xfe;
        high.extend_from_slice(b"abc");
        write(&mut high, Kind::Ping, Encoding::Message, ChannelId::GATEWAY, b"x");
        assert_eq!(frames(&mut FrameReader::default(), &high).unwrap().len(), 1);
    }

    #[test]
    fn an_error_while_encoding_leaves_no_trace() {
        let mut out = b"before".to_vec();
        let result = write_with(&mut out, Kind::Item, ChannelId::new(1), |out| {
            out.extend_from_slice(b"half");
            Err(PayloadTooLong(0))
        });
        assert_eq!((result, &out[..]), (Err(PayloadTooLong(0)), &b"before"[..]));
    }
}
