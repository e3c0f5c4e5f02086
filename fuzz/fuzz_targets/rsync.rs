//! A worker that answers anything to a coordinator that sends it a tree of files: the coordinator reports or fails, and comes to an end.

#![no_main]

use std::path::Path;

use arbitrary::Arbitrary;
use farexec::{Group, Rsync, RsyncError, Wait, WaitError};
use farexec_fuzz::{HANG, Part, answer, play};
use farexec_proto::encoding::encode_item;
use farexec_proto::frame::{self, Kind};
use farexec_proto::{ChannelId, Encoding, Value};
use libfuzzer_sys::fuzz_target;

/// What is sent: small files, large ones, and directories.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../python");

/// Stands in the code that a target executes.
const CUE: &[u8] = b"def receive(channel, destination";

#[derive(Arbitrary, Debug)]
enum Answer {
    Need(Vec<u8>),
    Sums { number: u8, block: i64, length: i64, sums: Vec<u8> },
    /// With what an honest target would say of a block size.
    ProperSums { number: u8, blocks: u8, last: u16 },
    Listed,
    Done(Vec<u8>),
    Failed(i64, String),
    End(i64),
    Other(String, Vec<i64>),
    Raw(Vec<u8>),
    Last,
    Close,
}

fn packed(numbers: Vec<u8>) -> Value {
    Value::Bytes(numbers.into_iter().flat_map(|number| u32::from(number).to_le_bytes()).collect())
}

impl Answer {
    fn write(self, out: &mut Vec<u8>) {
        let id = ChannelId::new(1);
        let (what, rest) = match self {
            Self::Need(numbers) => ("need", vec![packed(numbers)]),
            Self::Sums { number, block, length, sums } => {
                ("sums", vec![i64::from(number).into(), block.into(), length.into(), Value::Bytes(sums)])
            }
            Self::ProperSums { number, blocks, last } => {
                let length = i64::from(blocks) * 16384 + i64::from(last) % 16384;
                let count = usize::from(blocks) + usize::from(last % 16384 > 0);
                ("sums", vec![i64::from(number).into(), 16384.into(), length.into(), Value::Bytes(vec![blocks; count * 20])])
            }
            Self::Listed => ("listed", vec![]),
            Self::Done(numbers) => ("done", vec![packed(numbers)]),
            Self::Failed(number, text) => ("failed", vec![number.into(), Value::Str(text)]),
            Self::End(deleted) => ("end", vec![deleted.into()]),
            Self::Other(ref what, ref rest) => (what.as_str(), rest.iter().map(|&number| number.into()).collect()),
            Self::Raw(bytes) => return frame::write(out, Kind::Item, Encoding::Message, id, &bytes),
            Self::Last => return frame::write(out, Kind::Last, Encoding::Message, id, &[]),
            Self::Close => return frame::write(out, Kind::Close, Encoding::Message, id, &[]),
        };
        let item = Value::List(std::iter::once(Value::Str(what.into())).chain(rest).collect());
        let mut payload = Vec::new();
        if encode_item(&item, &mut payload).is_ok() {
            frame::write(out, Kind::Item, Encoding::Message, id, &payload);
        }
    }
}

fuzz_target!(|answers: Vec<Answer>| {
    let mut then = Vec::new();
    answers.into_iter().for_each(|answer| answer.write(&mut then));
    let group = Group::new();
    let gateway = play(&group, Part { first: answer(), cue: CUE, then }).unwrap();
    let rsync = Rsync::new(Path::new(SOURCE)).to(&gateway, "/nowhere");
    if let Err(RsyncError::Wait(WaitError::Timeout)) = rsync.send_with(&mut (), &Wait::at_most(HANG)) {
        panic!("it does not come to an end");
    }
    group.terminate(HANG).unwrap();
});
