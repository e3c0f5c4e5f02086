//! Both encodings and serde as properties: whatever can be written is read back as it was, by either way into Rust; whatever is
//! read, however mutilated, is an item or a typed error, and never more than its bytes can pay for.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::vec::Drain;

use farexec_proto::encoding::{
    Build, BuildError, DecodeError, DecodeErrorKind, EncodeErrorKind, StringCoercion, Text, decode, dump,
    encode_item, message,
};
use farexec_proto::limits::MAX_NESTING;
use farexec_proto::{BigInt, ChannelId, Encoding, Value, ValueBuilder};
use proptest::prelude::*;

const COERCION: StringCoercion = StringCoercion::DEFAULT;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back(value in value()) {
        let mut payload = Vec::new();
        let encoding = encode_item(&value, &mut payload).unwrap();
        prop_assert_eq!(&Value::from_payload(encoding, &payload, COERCION).unwrap(), &value);

        let dumped = dump::dumps(&value).unwrap();
        prop_assert_eq!(&dump::loads(&dumped, COERCION, &mut ValueBuilder).unwrap(), &value);
    }

    #[test]
    fn serde_writes_and_reads_the_same(value in value()) {
        let (mut payload, mut through_serde) = (Vec::new(), Vec::new());
        let encoding = encode_item(&value, &mut payload).unwrap();
        prop_assert_eq!(farexec_proto::serde::encode(&value, &mut through_serde).unwrap(), encoding);
        prop_assert_eq!(&through_serde, &payload);
        let read: Value = farexec_proto::serde::from_payload(encoding, &payload, COERCION).unwrap();
        prop_assert_eq!(&read, &value);

        let dumped = dump::dumps(&value).unwrap();
        let read: Value = farexec_proto::serde::from_payload(Encoding::Dump, &dumped[1..], COERCION).unwrap();
        prop_assert_eq!(&read, &value);
    }

    #[test]
    fn a_dict_or_set_in_another_order_is_the_same(
        mut items in prop::collection::vec((key(), value()), 0..8),
        shift in any::<prop::sample::Index>(),
    ) {
        // Of equal keys the last one counts, so their order does matter.
        let mut seen = Vec::new();
        items.retain(|(key, _)| {
            let fresh = !seen.contains(key);
            seen.push(key.clone());
            fresh
        });
        let set = |items: &[(Value, Value)]| Value::Set(items.iter().map(|(key, _)| key.clone()).collect());
        let (dict, keys) = (Value::Dict(items.clone()), set(&items));
        let middle = if items.is_empty() { 0 } else { shift.index(items.len()) };
        items.rotate_left(middle);
        prop_assert_eq!(set(&items), keys);
        prop_assert_eq!(Value::Dict(items), dict);
    }

    #[test]
    fn nothing_mutilated_panics_or_makes_more_than_its_bytes(
        value in value(),
        dumped in any::<bool>(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..6),
    ) {
        let mut payload = Vec::new();
        let encoding = if dumped {
            dump::encode(&value, &mut payload).unwrap();
            Encoding::Dump
        } else {
            encode_item(&value, &mut payload).unwrap()
        };
        for (at, byte, how) in cuts {
            let at = at.index(payload.len());
            match how {
                0 => payload[at] = byte,
                1 => payload.insert(at, byte),
                2 if payload.len() > 1 => drop(payload.remove(at)),
                _ => payload.truncate(at.max(1)),
            }
        }
        read(encoding, &payload);
    }

    #[test]
    fn no_bytes_panic_or_make_more_than_themselves(
        payload in prop::collection::vec(
            prop_oneof![
                prop::sample::select(b"NKJMGXBCaesut)]}.(\x80\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\x90\x91\x94\x95".to_vec()),
                prop::sample::select(b"LRCFGHIDTANSMKJP@OEBQ\x00\x00\x00\x00\x01".to_vec()),
                any::<u8>(),
            ],
            0..200,
        ),
    ) {
        read(Encoding::Message, &payload);
        read(Encoding::Dump, &payload);
    }
}

/// Reads with everything there is. What is read has no more objects than the payload has bytes, and is written and read
/// as the same again.
fn read(encoding: Encoding, payload: &[u8]) {
    let mut objects = Counter(0);
    let counted = decode(encoding, payload, COERCION, &mut objects);
    assert!(objects.0 <= payload.len(), "{} objects of {} bytes", objects.0, payload.len());
    let typed = farexec_proto::serde::from_payload::<Value>(encoding, payload, COERCION);
    match Value::from_payload(encoding, payload, COERCION) {
        Ok(value) => {
            assert!(counted.is_ok());
            // NaN is not equal to itself, but prints like itself.
            assert_eq!(typed.unwrap().to_string(), value.to_string());
            let dumped = dump::dumps(&value).unwrap();
            let again = dump::loads(&dumped, COERCION, &mut ValueBuilder).unwrap();
            assert_eq!(again.to_string(), value.to_string());
        }
        Err(error) => {
            assert_eq!(counted.unwrap_err(), error);
            assert_eq!(typed.unwrap_err(), error);
            assert!(error.offset().unwrap() <= payload.len());
        }
    }
}

#[test]
fn nesting_is_bounded_both_ways_and_needs_little_stack() {
    type Nest = fn(Value) -> Value;
    let containers: [Nest; 4] = [
        |value| Value::List(vec![value]),
        |value| Value::Tuple(vec![value]),
        |value| Value::Dict(vec![(Value::None, value)]),
        |value| Value::FrozenSet(vec![value]),
    ];
    // A test's thread has the 2 MiB of stack that most threads have.
    for nest in containers {
        let hashable = |depth| (0..depth).fold(Value::from(1), |value, _| nest(value));
        let deepest = hashable(MAX_NESTING);
        let dumped = dump::dumps(&deepest).unwrap();
        let mut payload = Vec::new();
        assert_eq!(encode_item(&deepest, &mut payload).unwrap(), Encoding::Message);
        for (encoding, bytes) in [(Encoding::Message, &payload[..]), (Encoding::Dump, &dumped[1..])] {
            let value = Value::from_payload(encoding, bytes, COERCION).unwrap();
            assert_eq!(value, deepest);
            assert_eq!(value.to_string(), deepest.to_string());
            let typed: Value = farexec_proto::serde::from_payload(encoding, bytes, COERCION).unwrap();
            assert_eq!(typed, deepest);
        }
        assert_eq!(*dump::dumps(&nest(deepest)).unwrap_err().kind(), EncodeErrorKind::TooDeep);
    }
}

/// Python writes the contents of a container a thousand at a time, each time behind a mark; a mark behind a container can also begin a tuple or
/// frozenset beside it.
#[test]
fn what_python_writes_in_batches_is_one_container() {
    let ints = |values: &[i64]| values.iter().copied().map(Value::Int).collect::<Vec<_>>();
    let read = |payload: &[u8]| Value::from_payload(Encoding::Message, payload, COERCION);
    let pair = |key: &str, value: i64| (Value::from(key), Value::Int(value));
    let good: [(&[u8], Value); 6] = [
        (b"](K\x01K\x02e(K\x03e(K\x04K\x05e.", Value::List(ints(&[1, 2, 3, 4, 5]))),
        (
            b"](](K\x01K\x02e(K\x03K\x04K\x05K\x06te.",
            Value::List(vec![Value::List(ints(&[1, 2])), Value::Tuple(ints(&[3, 4, 5, 6]))]),
        ),
        (
            b"](](K\x01e(K\x02e(K\x03\x91e.",
            Value::List(vec![Value::List(ints(&[1, 2])), Value::FrozenSet(ints(&[3]))]),
        ),
        (
            b"}(\x8c\x01aK\x01u(\x8c\x01bK\x02\x8c\x01cK\x03u.",
            Value::Dict(vec![pair("a", 1), pair("b", 2), pair("c", 3)]),
        ),
        (b"\x8f(K\x01\x90(K\x02\x90.", Value::Set(ints(&[1, 2]))),
        (b"](](](Ne(NNNNt\x86e(K\x01ee.", {
            let inner =
                Value::Tuple(vec![Value::List(vec![Value::None]), Value::Tuple(vec![Value::None; 4])]);
            Value::List(vec![Value::List(vec![inner, Value::Int(1)])])
        }),
    ];
    for (payload, value) in good {
        assert_eq!(read(payload), Ok(value), "{payload:?}");
    }
    let bad: [&[u8]; 6] = [
        b"](Ne(\x85e.",       // a tuple of an element that is in the list already
        b"](Ne(Nu.",          // entries for a list
        b"}(Nu(Nu.",          // keys without values
        b"](Ne(N.",           // a mark is left
        b"\x8f(N\x90(]\x90.", // what cannot be hashed
        b"](Ne(Ntae.",        // an element for a tuple
    ];
    for payload in bad {
        assert!(read(payload).is_err(), "{payload:?}");
    }
}

/// Comparing in order, and then in any order, took time exponential in the depth.
#[test]
fn deep_values_that_differ_at_the_bottom_are_soon_told_apart() {
    let nested = |leaf: i64| {
        (0..MAX_NESTING).fold(Value::from(leaf), |value, level| match level % 2 {
            0 => Value::FrozenSet(vec![value, Value::None]),
            _ => Value::Dict(vec![(Value::from("a"), Value::None), (Value::from("b"), value)]),
        })
    };
    assert_eq!(nested(1), nested(1));
    assert_ne!(nested(1), nested(2));
}

#[test]
fn hostile_nesting_is_refused() {
    let nested = |start: &[u8], step: &[u8]| [start, &step.repeat(MAX_NESTING + 1)].concat();
    let messages = [
        nested(b"N", b"\x85"),
        nested(b"]", b"\x85"),
        nested(b"", b"("),
        nested(b"", b"]("),
        nested(b"", b"}(N"),
        nested(b"", b"]\x94("),
        [&b"]".repeat(MAX_NESTING + 1)[..], &b"a".repeat(MAX_NESTING)].concat(),
    ];
    for message in messages {
        assert_eq!(kind_of(Encoding::Message, &message), DecodeErrorKind::TooDeep, "{:?}", &message[..4]);
    }
    let dumps =
        [nested(b"L", b"@\0\0\0\x01"), nested(b"", b"K\0\0\0\x01F\0\0\0\0"), nested(b"L", b"E\0\0\0\x01")];
    for dump in dumps {
        assert_eq!(kind_of(Encoding::Dump, &dump), DecodeErrorKind::TooDeep, "{:?}", &dump[..4]);
    }
}

#[test]
fn errors_say_what_is_wrong() {
    use DecodeErrorKind::*;
    let messages: [(&[u8], DecodeErrorKind); 27] = [
        (b"", Truncated("an opcode")),
        (b"N", Truncated("an opcode")),
        (b"K", Truncated("an int of one byte")),
        (b"X\xff\xff\xff\xffab", Truncated("the bytes of a string")),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", Truncated("the bytes of a string")),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f", Truncated("the bytes of a bytes object")),
        (b"\x95\xff\0\0\0\0\0\0\0N.", Truncated("the rest of a frame")),
        (b"\x8b\xff\xff\xff\xff", NegativeLength(-1)),
        (b"N.N", Trailing(1)),
        (b"NN.", Malformed("the data ends with more than one object")),
        (b".", Malformed("the data ends without an object")),
        (b"N(.", Malformed("a mark is left at the end")),
        (b"t.", Malformed("there is no mark")),
        (b"\x85.", Malformed("too few objects on the stack")),
        (b"N(\x85.", Malformed("too few objects on the stack")),
        (b"(Ne.", Malformed("elements without a container")),
        (b"](N](ue.", Malformed("elements for a container of another kind")),
        (b"}(Nu.", Malformed("a key without a value")),
        (b"NNa.", Malformed("an element for something that is no such container")),
        (b"\x80\x05N.", Version(5)),
        (b"N\x80\x04.", Malformed("PROTO stands only at the start")),
        (b"cos\nsystem\n", NamesCode("GLOBAL")),
        (b"N\x93", NamesCode("STACK_GLOBAL")),
        (b"Nq\0", NotPlainData("BINPUT")),
        (b"\xff", UnknownOpcode(0xff)),
        (b"\x8c\x03\xed\xa0\x80.", NotUtf8),
        (b"\x8f(]\x90.", Unhashable("list")),
    ];
    for (payload, kind) in messages {
        assert_eq!(kind_of(Encoding::Message, payload), kind, "{payload:?}");
    }
    let dumps: [(&[u8], DecodeErrorKind); 16] = [
        (b"", Truncated("an opcode")),
        (b"F\0\0", Truncated("an operand of four bytes")),
        (b"K\x7f\xff\xff\xff", Truncated("an opcode")),
        (b"A\x7f\xff\xff\xff", Truncated("the bytes of a bytes object")),
        (b"N\xff\xff\xff\xff", NegativeLength(-1)),
        (b"@\x7f\xff\xff\xffQ", Malformed("too few objects on the stack")),
        (b"K\0\0\0\x01F\0\0\0\x01LPQ", Malformed("a list is not filled in order")),
        (b"K\0\0\0\x01Q", Malformed("a list is not filled in order")),
        (b"K\0\0\0\x01F\0\0\0\0Q", Malformed("a list is not filled to its end")),
        (b"LLLPQ", Malformed("an element for something that is no such container")),
        (b"H\0\0\0\x02 1Q", NotDecimal),
        (b"H\0\0\0\x01-Q", NotDecimal),
        (b"LQQ", Trailing(1)),
        (b"XQ", UnknownOpcode(b'X')),
        (b"JJLPQ", Unhashable("dict")),
        (b"JK\0\0\0\0@\0\0\0\x01LPQ", Unhashable("tuple with unhashable elements")),
    ];
    for (payload, kind) in dumps {
        assert_eq!(kind_of(Encoding::Dump, payload), kind, "{payload:?}");
    }
    let version = dump::loads(b"\x01LQ", COERCION, &mut ValueBuilder).unwrap_err();
    assert_eq!(version.to_string(), "cannot decode byte 0: version 1 of the format is not known");
    let long = [b"H\0\x10\0\0".to_vec(), vec![b'9'; 1 << 20]].concat();
    assert_eq!(kind_of(Encoding::Dump, &long), IntTooLong);
}

#[test]
fn what_python_cannot_hash_is_not_written() {
    let unhashable = Value::Tuple(vec![Value::from(1), Value::List(vec![])]);
    let set = Value::from([("x", Value::Set(vec![unhashable.clone()]))]);
    let error = dump::dumps(&set).unwrap_err();
    assert_eq!(error.to_string(), "cannot encode an element of data['x']: unhashable type: 'list'");
    let dict = Value::Dict(vec![(unhashable, Value::None)]);
    assert_eq!(
        dump::dumps(&dict).unwrap_err().to_string(),
        "cannot encode a key of data: unhashable type: 'list'"
    );
    assert!(farexec_proto::serde::to_value(&dict).is_err());
    assert!(farexec_proto::serde::to_value(&set).is_err());
}

#[test]
fn a_failed_item_leaves_nothing_behind() {
    let mut out = b"before".to_vec();
    let bad = Value::List(vec![Value::from(1), Value::Set(vec![Value::List(vec![])])]);
    assert!(encode_item(&bad, &mut out).is_err());
    assert!(message::encode(&Value::Complex(0.0, 1.0), &mut out).is_err());
    assert_eq!(out, b"before");
    assert_eq!(encode_item(&Value::Channel(ChannelId::new(7)), &mut out).unwrap(), Encoding::Dump);
    assert_eq!(out, b"beforeB\0\0\0\x07Q");
}

#[test]
fn ints_too_long_for_decimal_digits_travel_as_messages_only() {
    let long = Value::BigInt(BigInt::from(1) << 700_000);
    assert_eq!(*dump::dumps(&long).unwrap_err().kind(), EncodeErrorKind::IntTooLong);
    let mut payload = Vec::new();
    assert_eq!(encode_item(&long, &mut payload).unwrap(), Encoding::Message);
    assert_eq!(Value::from_payload(Encoding::Message, &payload, COERCION).unwrap(), long);
}

fn kind_of(encoding: Encoding, payload: &[u8]) -> DecodeErrorKind {
    let error: DecodeError = Value::from_payload(encoding, payload, COERCION).unwrap_err();
    error.kind().clone()
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        3 => key(),
        1 => (float(), float()).prop_map(|(re, im)| Value::Complex(re, im)),
        1 => any::<u32>().prop_map(|number| Value::Channel(ChannelId::new(number))),
    ];
    leaf.prop_recursive(5, 60, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Tuple),
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::List),
            prop::collection::vec((key(), inner), 0..6).prop_map(Value::Dict),
            prop::collection::vec(key(), 0..6).prop_map(Value::Set),
            prop::collection::vec(key(), 0..6).prop_map(Value::FrozenSet),
            prop::collection::vec(any::<u8>(), 0..300).prop_map(Value::from),
        ]
    })
}

fn key() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::None),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (-70_000..70_000i64).prop_map(Value::Int),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|b| Value::from(BigInt::from_signed_bytes_le(&b))),
        float().prop_map(Value::Float),
        any::<String>().prop_map(Value::Str),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Value::Bytes),
    ];
    leaf.prop_recursive(3, 8, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Tuple),
            prop::collection::vec(inner, 0..4).prop_map(Value::FrozenSet),
        ]
    })
}

/// All that are equal to themselves.
fn float() -> impl Strategy<Value = f64> {
    use prop::num::f64::{INFINITE, NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
    POSITIVE | NEGATIVE | NORMAL | SUBNORMAL | ZERO | INFINITE
}

/// Counts what it is asked to make.
struct Counter(usize);

impl Counter {
    #[allow(clippy::unnecessary_wraps, reason = "what all of its callers return")]
    fn one(&mut self) -> Result<(), BuildError> {
        self.0 += 1;
        Ok(())
    }
}

macro_rules! counts {
    ($($name:ident($($argument:ident: $type:ty),*);)*) => {
        impl<'p> Build<'p> for Counter {
            type Object = ();

            $(fn $name(&mut self, $($argument: $type),*) -> Result<(), BuildError> {
                $(let _ = $argument;)*
                self.one()
            })*

            fn str(&mut self, text: Text<'p>) -> Result<(), BuildError> {
                text.to_str()?;
                self.one()
            }

            fn append(&mut self, (): &mut (), (): ()) -> Result<(), BuildError> {
                Ok(())
            }

            fn insert(&mut self, (): &mut (), (): (), (): ()) -> Result<(), BuildError> {
                Ok(())
            }

            fn add(&mut self, (): &mut (), (): ()) -> Result<(), BuildError> {
                Ok(())
            }
        }
    };
}

counts! {
    none();
    bool(value: bool);
    int(value: i64);
    big_int(little_endian: &[u8]);
    float(value: f64);
    complex(real: f64, imaginary: f64);
    converted_str(value: String);
    bytes(value: &'p [u8]);
    channel(id: ChannelId);
    tuple(items: Drain<'_, ()>);
    list(items: Drain<'_, ()>);
    dict(entries: Drain<'_, ()>);
    set(items: Drain<'_, ()>);
    frozen_set(items: Drain<'_, ()>);
}
