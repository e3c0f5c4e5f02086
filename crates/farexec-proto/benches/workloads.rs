//! Work for `bench/instructions.py` to count the instructions of: `workloads NAME COUNT` does one kind of work so often.
//!
//! Nothing is timed. Each kind of work is always the same, so that its instructions are.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here is no workload")]

use std::hint::black_box;

use farexec_proto::encoding::{StringCoercion, dump, encode_item};
use farexec_proto::frame::{self, FrameReader, Kind};
use farexec_proto::session::{Event, Session, Side};
use farexec_proto::{ChannelId, Encoding, Value, ValueBuilder, serde as items};
use serde::{Deserialize, Serialize};

const COERCION: StringCoercion = StringCoercion::DEFAULT;

/// Elements of the list of ints.
const INTS: i64 = 1000;

/// Frames in the stream that is cut, and items that a session receives.
const FRAMES: u32 = 1000;

/// Bytes that a read gives, so that frames are cut anywhere.
const READ: usize = 4096;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, count] = &arguments[..] else { panic!("usage: workloads NAME COUNT") };
    let work = workload(name);
    for _ in 0..count.parse::<u32>().unwrap() {
        work();
    }
}

fn workload(name: &str) -> Box<dyn Fn()> {
    match name {
        "message-ints" => message(Value::List((0..INTS).map(Value::Int).collect())),
        "message-record" => message(record(7)),
        "dump-ints" => dumped(Value::List((0..INTS).map(Value::Int).collect())),
        "dump-record" => dumped(record(7)),
        "serde-record" => serde_record(),
        "frames" => frames(),
        "session" => session(),
        _ => panic!("there is no workload {name:?}"),
    }
}

/// What `bench/farexec_bench/cases/serialization.py` has as a record.
fn record(number: i64) -> Value {
    Value::from([
        ("id", Value::Int(number)),
        ("name", Value::from(format!("record {number}").as_str())),
        ("score", Value::Float(3.5)),
        ("tags", Value::Tuple(vec![Value::from("a"), Value::from(format!("b{number}").as_str())])),
        ("done", Value::Bool(true)),
    ])
}

fn message(item: Value) -> Box<dyn Fn()> {
    Box::new(move || {
        let mut payload = Vec::new();
        let encoding = encode_item(black_box(&item), &mut payload).unwrap();
        black_box(Value::from_payload(encoding, black_box(&payload), COERCION).unwrap());
    })
}

fn dumped(item: Value) -> Box<dyn Fn()> {
    Box::new(move || {
        let data = dump::dumps(black_box(&item)).unwrap();
        black_box(dump::loads(black_box(&data), COERCION, &mut ValueBuilder).unwrap());
    })
}

#[derive(Serialize, Deserialize)]
struct Record {
    id: i64,
    name: String,
    score: f64,
    tags: (String, String),
    done: bool,
}

fn serde_record() -> Box<dyn Fn()> {
    let record: Record = record(7).decode().unwrap();
    Box::new(move || {
        let mut payload = Vec::new();
        let encoding = items::encode(black_box(&record), &mut payload).unwrap();
        black_box(items::from_payload::<Record>(encoding, black_box(&payload), COERCION).unwrap());
    })
}

/// The bytes of frames with small items on one channel.
fn stream(channel: ChannelId) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..FRAMES {
        let payload = number.to_le_bytes();
        frame::write(&mut bytes, Kind::Item, Encoding::Message, channel, &payload);
    }
    bytes
}

fn frames() -> Box<dyn Fn()> {
    let bytes = stream(ChannelId::new(1));
    Box::new(move || {
        let mut reader = FrameReader::default();
        let mut found = 0;
        for mut read in black_box(&bytes).chunks(READ) {
            while let Some(frame) = reader.next(&mut read).unwrap() {
                black_box(frame);
                found += 1;
            }
        }
        assert_eq!(found, FRAMES);
    })
}

fn session() -> Box<dyn Fn()> {
    let first = ChannelId::new(1);
    let bytes = stream(first);
    Box::new(move || {
        let mut session = Session::new(Side::Coordinator);
        assert_eq!(session.open(|_| ()).0, first);
        let (mut reader, mut input, mut out) = (FrameReader::default(), black_box(&bytes[..]), Vec::new());
        let mut received = 0;
        while let Some(frame) = reader.next(&mut input).unwrap() {
            if let Event::Item { payload, .. } =
                session.receive(black_box(frame), |_, _| (), &mut out).unwrap()
            {
                black_box(payload);
                received += 1;
            }
        }
        assert_eq!(received, FRAMES);
    })
}
