//! Any bytes as any Rust type, from either encoding: read, or refused with a typed error; what is read is written and read as the same
//! again.

#![no_main]

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use farexec_proto::encoding::StringCoercion;
use farexec_proto::{ChannelId, Encoding, Value};
use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize};

const COERCION: StringCoercion = StringCoercion::DEFAULT;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    dumped: bool,
    payload: &'a [u8],
}

fuzz_target!(|input: Input| {
    let encoding = if input.dumped { Encoding::Dump } else { Encoding::Message };
    let value = Value::from_payload(encoding, input.payload, COERCION);
    let typed = farexec_proto::serde::from_payload::<Value>(encoding, input.payload, COERCION);
    match (&value, typed) {
        (Ok(value), Ok(typed)) => assert_eq!(typed.to_string(), value.to_string()),
        (Err(error), Err(typed)) => assert_eq!(typed, *error),
        (value, typed) => panic!("{value:?} is not {typed:?}"),
    }
    // So short are the keys that no fuzzer takes long to find them.
    if let Ok(node) = farexec_proto::serde::from_payload::<Node>(encoding, input.payload, COERCION) {
        let again: Node = farexec_proto::serde::to_value(&node).unwrap().decode().unwrap();
        assert_eq!(format!("{again:?}"), format!("{node:?}"));
    }
});

#[derive(Debug, Serialize, Deserialize)]
enum Node {
    A,
    B(Vec<Node>),
    C(Box<(Node, Option<Node>)>),
    D {
        a: i64,
        b: String,
        #[serde(default)]
        c: BTreeMap<String, Node>,
    },
    E(f64, char),
    F(u128),
    G(Value),
    H(ChannelId),
    I(Vec<u8>),
    J(()),
}
