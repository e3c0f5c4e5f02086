//! Any bytes as a stream: the frames, or the error, are the same however the stream is cut into chunks.

#![no_main]

use farexec_proto::frame::{FrameError, FrameReader, Kind};
use farexec_proto::{ChannelId, Encoding};
use libfuzzer_sys::fuzz_target;

type Whole = (Kind, Encoding, ChannelId, Vec<u8>);

fn frames<'a>(chunks: impl Iterator<Item = &'a [u8]>, directly: bool) -> (Vec<Whole>, Option<FrameError>) {
    let mut reader = FrameReader::default();
    let mut found = Vec::new();
    for mut chunk in chunks {
        if directly && let Some(room) = reader.direct() {
            let (taken, rest) = chunk.split_at(room.len().min(chunk.len()));
            room[..taken.len()].copy_from_slice(taken);
            reader.arrived(taken.len());
            chunk = rest;
        }
        loop {
            match reader.next(&mut chunk) {
                Ok(Some(frame)) => found.push((frame.kind, frame.encoding, frame.channel, frame.payload.into_owned())),
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
        assert!(chunk.is_empty());
    }
    (found, None)
}

fuzz_target!(|data: &[u8]| {
    let Some((&size, stream)) = data.split_first() else { return };
    let whole = frames(std::iter::once(stream), false);
    let size = usize::from(size).max(1);
    assert_eq!(frames(stream.chunks(size), false), whole);
    assert_eq!(frames(stream.chunks(size), true), whole);
});
