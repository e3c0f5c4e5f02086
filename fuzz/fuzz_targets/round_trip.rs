//! Any value through both encodings and through serde, and back: it is the same, whichever way it went.

#![no_main]

use arbitrary::{Arbitrary, Result, Unstructured};
use farexec_proto::encoding::{StringCoercion, dump, encode_item};
use farexec_proto::{BigInt, ChannelId, Value, ValueBuilder};
use libfuzzer_sys::fuzz_target;

const COERCION: StringCoercion = StringCoercion { py2str_as_py3str: false, py3str_as_py2str: false };

fuzz_target!(|item: Item| {
    let Item(value) = item;
    let mut payload = Vec::new();
    let encoding = encode_item(&value, &mut payload).unwrap();
    same(&Value::from_payload(encoding, &payload, COERCION).unwrap(), &value);
    same(&farexec_proto::serde::from_payload(encoding, &payload, COERCION).unwrap(), &value);

    let dumped = dump::dumps(&value).unwrap();
    same(&dump::loads(&dumped, COERCION, &mut ValueBuilder).unwrap(), &value);

    let mut through_serde = Vec::new();
    assert_eq!(farexec_proto::serde::encode(&value, &mut through_serde).unwrap(), encoding);
    assert_eq!(through_serde, payload);
});

fn same(read: &Value, written: &Value) {
    // NaN is not equal to itself, but prints like itself.
    assert!(read == written || read.to_string() == written.to_string(), "{read} is not {written}");
}

#[derive(Debug)]
struct Item(Value);

impl<'a> Arbitrary<'a> for Item {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        value(bytes, 20, false).map(Self)
    }
}

/// A value of so many levels at most; `hashed` if Python must be able to hash it.
fn value(bytes: &mut Unstructured<'_>, levels: usize, hashed: bool) -> Result<Value> {
    let kinds = match (levels, hashed) {
        (0, _) => 8,
        (_, true) => 10,
        (_, false) => 13,
    };
    Ok(match bytes.int_in_range(0..=kinds)? {
        0 => Value::None,
        1 => Value::Bool(bytes.arbitrary()?),
        2 => Value::Int(bytes.arbitrary()?),
        3 => Value::Float(bytes.arbitrary()?),
        4 => Value::Complex(bytes.arbitrary()?, bytes.arbitrary()?),
        5 => Value::Str(bytes.arbitrary()?),
        6 => Value::Bytes(bytes.arbitrary()?),
        7 => Value::Channel(ChannelId::new(bytes.arbitrary()?)),
        8 => Value::from(BigInt::from_signed_bytes_le(bytes.arbitrary()?)),
        9 => Value::Tuple(items(bytes, levels - 1, hashed)?),
        10 => Value::FrozenSet(items(bytes, levels - 1, true)?),
        11 => Value::Set(items(bytes, levels - 1, true)?),
        12 => Value::List(items(bytes, levels - 1, false)?),
        _ => {
            let keys = items(bytes, levels - 1, true)?;
            let entry = |key| Ok((key, value(bytes, levels - 1, false)?));
            Value::Dict(keys.into_iter().map(entry).collect::<Result<_>>()?)
        }
    })
}

fn items(bytes: &mut Unstructured<'_>, levels: usize, hashed: bool) -> Result<Vec<Value>> {
    let count = bytes.int_in_range(0..=20)?;
    (0..count).map(|_| value(bytes, levels, hashed)).collect()
}
