//! Rust types through serde: the table of `farexec_proto::serde`, both ways, and errors that say where.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet, HashMap};

use farexec_proto::encoding::{DecodeError, StringCoercion};
use farexec_proto::serde::{encode, from_payload, to_value};
use farexec_proto::{BigInt, ChannelId, Encoding, Value};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

const COERCION: StringCoercion = StringCoercion::DEFAULT;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Point,
    Circle(f64),
    Box(f64, f64),
    Text { text: String, at: (i8, i8) },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Wrapper(u16);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    flag: bool,
    byte: u8,
    large: u64,
    huge: u128,
    low: i128,
    half: f32,
    letter: char,
    name: String,
    none: Option<u8>,
    some: Option<Box<Everything>>,
    unit: (),
    nothing: Unit,
    wrapper: Wrapper,
    array: [u8; 3],
    pair: (i8, String),
    list: Vec<Shape>,
    names: BTreeSet<String>,
    map: BTreeMap<i32, Vec<f64>>,
    tuples: HashMap<(u8, u8), Value>,
    channel: ChannelId,
    value: Value,
}

fn everything() -> Everything {
    Everything {
        flag: true,
        byte: 255,
        large: u64::MAX,
        huge: u128::MAX,
        low: i128::MIN,
        half: 0.5,
        letter: 'ß',
        name: "näme".into(),
        none: None,
        some: None,
        unit: (),
        nothing: Unit,
        wrapper: Wrapper(7),
        array: [1, 2, 3],
        pair: (-1, "x".into()),
        list: vec![
            Shape::Point,
            Shape::Circle(1.0),
            Shape::Box(1.0, 2.0),
            Shape::Text { text: "t".into(), at: (1, 2) },
        ],
        names: ["b".into(), "a".into()].into(),
        map: [(1, vec![]), (-2, vec![1.5])].into(),
        tuples: [((1, 2), Value::Set(vec![Value::None]))].into(),
        channel: ChannelId::new(3),
        value: Value::Tuple(vec![Value::Complex(1.0, 2.0), Value::FrozenSet(vec![])]),
    }
}

#[test]
fn rust_types_come_back_as_they_went() {
    let inner = everything();
    let item = Everything { some: Some(Box::new(inner.clone())), ..inner };
    let mut payload = Vec::new();
    assert_eq!(encode(&item, &mut payload).unwrap(), Encoding::Dump);
    assert_eq!(from_payload::<Everything>(Encoding::Dump, &payload, COERCION).unwrap(), item);

    let list = item.list;
    payload.clear();
    assert_eq!(encode(&list, &mut payload).unwrap(), Encoding::Message);
    assert_eq!(from_payload::<Vec<Shape>>(Encoding::Message, &payload, COERCION).unwrap(), list);
}

#[test]
fn rust_types_are_what_the_table_says() {
    let cases: [(Value, &str); 20] = [
        (to_value(&true).unwrap(), "True"),
        (to_value(&u64::MAX).unwrap(), "18446744073709551615"),
        (to_value(&i128::MIN).unwrap(), "-170141183460469231731687303715884105728"),
        (to_value(&0.5f32).unwrap(), "0.5"),
        (to_value(&'x').unwrap(), "'x'"),
        (to_value(&()).unwrap(), "None"),
        (to_value(&Unit).unwrap(), "None"),
        (to_value(&Some(Wrapper(1))).unwrap(), "1"),
        (to_value(&None::<u8>).unwrap(), "None"),
        (to_value(&(1, "a")).unwrap(), "(1, 'a')"),
        (to_value(&[1, 2]).unwrap(), "(1, 2)"),
        (to_value(&vec![1, 2]).unwrap(), "[1, 2]"),
        (to_value(&BTreeMap::from([("a", 1)])).unwrap(), "{'a': 1}"),
        (to_value(&Shape::Point).unwrap(), "'Point'"),
        (to_value(&Shape::Circle(1.0)).unwrap(), "{'Circle': 1.0}"),
        (to_value(&Shape::Box(1.0, 2.0)).unwrap(), "{'Box': (1.0, 2.0)}"),
        (
            to_value(&Shape::Text { text: "t".into(), at: (1, 2) }).unwrap(),
            "{'Text': {'text': 't', 'at': (1, 2)}}",
        ),
        (to_value(&ChannelId::new(5)).unwrap(), "<Channel id=5>"),
        (to_value(&Value::Complex(0.0, 1.0)).unwrap(), "1j"),
        (to_value(&Unsized(3)).unwrap(), "([0, [], 2], {0: {}, 2: 2}, 1j)"),
    ];
    for (value, text) in cases {
        assert_eq!(value.to_string(), text);
    }
}

/// Sequences and maps that do not know their lengths, in the dump format (because of the complex number).
struct Unsized(u8);

impl Serialize for Unsized {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::{SerializeMap, SerializeSeq, SerializeTuple};

        struct Seq(u8);
        impl Serialize for Seq {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut seq = serializer.serialize_seq(None)?;
                for number in 0..self.0 {
                    if number == 1 {
                        seq.serialize_element(&Seq(0))?
                    } else {
                        seq.serialize_element(&number)?
                    }
                }
                seq.end()
            }
        }
        struct Map(u8);
        impl Serialize for Map {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(None)?;
                for number in (0..self.0).step_by(2) {
                    map.serialize_key(&number)?;
                    if number == 0 { map.serialize_value(&Map(0))? } else { map.serialize_value(&number)? }
                }
                map.end()
            }
        }
        let mut tuple = serializer.serialize_tuple(3)?;
        tuple.serialize_element(&Seq(self.0))?;
        tuple.serialize_element(&Map(self.0))?;
        tuple.serialize_element(&Value::Complex(0.0, 1.0))?;
        tuple.end()
    }
}

#[test]
fn reading_is_lenient_where_nothing_gets_lost() {
    let ints = vec![Value::from(1), Value::from(2)];
    let sequences = [Value::List(ints.clone()), Value::Tuple(ints.clone()), Value::Set(ints.clone())];
    for value in sequences {
        assert_eq!(value.decode::<Vec<u8>>().unwrap(), [1, 2]);
        assert_eq!(value.decode::<(u8, i64)>().unwrap(), (1, 2));
        assert_eq!(value.decode::<BTreeSet<f64Bits>>().unwrap().len(), 2);
    }
    assert_eq!(Value::from(&b"ab"[..]).decode::<Vec<u8>>().unwrap(), b"ab");
    assert_eq!(Value::from(&b"ab"[..]).decode::<[u8; 2]>().unwrap(), *b"ab");
    assert_eq!(Value::from(1i64 << 52).decode::<f64>().unwrap(), 4_503_599_627_370_496.0);
    assert_eq!(Value::from(5u128 << 64).decode::<u128>().unwrap(), 5 << 64);
    assert_eq!(Value::None.decode::<Option<u8>>().unwrap(), None);
    assert_eq!(Value::None.decode::<()>().unwrap(), ());
    let unknown = Value::from([("unit", Value::None), ("more", Value::Complex(0.0, 1.0))]);
    assert_eq!(unknown.decode::<Small>().unwrap(), Small { unit: () });
    assert_eq!(
        Value::from(BigInt::from(1) << 200).decode::<Value>().unwrap(),
        Value::BigInt(BigInt::from(1) << 200)
    );
}

#[allow(non_camel_case_types, reason = "it stands for a primitive type")]
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct f64Bits(u64);

impl<'de> Deserialize<'de> for f64Bits {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        f64::deserialize(deserializer).map(|value| Self(value.to_bits()))
    }
}

#[derive(Debug, PartialEq, Deserialize)]
struct Small {
    unit: (),
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only its failure to be read matters")]
struct Strict {
    jobs: Vec<Job>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[allow(dead_code, reason = "only its failure to be read matters")]
struct Job {
    env: BTreeMap<String, u8>,
    shape: Option<Shape>,
}

#[test]
fn errors_say_where() {
    fn error<T: DeserializeOwned + std::fmt::Debug>(value: &Value) -> String {
        value.decode::<T>().unwrap_err().to_string()
    }
    let job = |env: Value, shape: Value| {
        Value::from([("jobs", vec![Value::from([("env", env), ("shape", shape)])])])
    };
    let cases: [(String, &str); 12] = [
        (
            error::<Strict>(&job(Value::from([("A", "x")]), Value::None)),
            "data['jobs'][0]['env']['A']: invalid type: string \"x\", expected u8",
        ),
        (
            error::<Strict>(&job(Value::from([(1, 1)]), Value::None)),
            "a key of data['jobs'][0]['env']: invalid type: integer `1`, expected a string",
        ),
        (
            error::<Strict>(&job(Value::Dict(vec![]), Value::from([("Box", vec![1.0])]))),
            "data['jobs'][0]['shape']['Box']: invalid length 1, expected tuple variant Shape::Box with 2 elements",
        ),
        (
            error::<Strict>(&job(Value::Dict(vec![]), Value::from("Square"))),
            "data['jobs'][0]['shape']: unknown variant `Square`, expected one of `Point`, `Circle`, `Box`, `Text`",
        ),
        (
            error::<Strict>(&job(Value::Dict(vec![]), Value::from("Circle"))),
            "data['jobs'][0]['shape']: this variant of an enum has contents",
        ),
        (error::<Strict>(&Value::from([("job", 1)])), "a key of data: unknown field `job`, expected `jobs`"),
        (error::<(u8,)>(&Value::from(vec![1, 2])), "data: too many elements: 1 more than expected"),
        (
            error::<Vec<u8>>(&Value::Set(vec![Value::from(256)])),
            "an element of data: invalid value: integer `256`, expected u8",
        ),
        (
            error::<f64>(&Value::from(i64::MAX)),
            "data: invalid type: int 9223372036854775807, which no float is equal to, expected f64",
        ),
        (error::<u8>(&Value::Complex(0.0, 1.0)), "data: invalid type: complex number, expected u8"),
        (error::<ChannelId>(&Value::from(1)), "data: not a channel"),
        (error::<u8>(&Value::from(1.0)), "data: invalid type: floating point `1.0`, expected u8"),
    ];
    for (error, text) in cases {
        assert_eq!(error, format!("cannot decode {text}"));
    }
}

#[test]
fn strings_are_borrowed_from_the_payload() {
    let payload = b"](\x8c\x02abC\x01xe.";
    let (text, bytes): (&str, &[u8]) = from_payload(Encoding::Message, payload, COERCION).unwrap();
    assert!(payload.as_ptr_range().contains(&text.as_ptr()));
    assert_eq!((text, bytes), ("ab", &b"x"[..]));
}

#[test]
fn containers_filled_in_parts_are_read_whole() {
    // Batches, as Python's pickler makes them, with other containers in between.
    let payload = b"](K\x01](K\x02eeK\x03a(K\x04](K\x05ee.";
    type Nested = (u8, Vec<u8>, u8, u8, Vec<u8>);
    let read: Result<Nested, DecodeError> = from_payload(Encoding::Message, payload, COERCION);
    assert_eq!(read.unwrap(), (1, vec![2], 3, 4, vec![5]));
    let payload = b"}(K\x01](K\x02euK\x03](K\x04es(K\x05]u.";
    let read: BTreeMap<u8, Vec<u8>> = from_payload(Encoding::Message, payload, COERCION).unwrap();
    assert_eq!(read, BTreeMap::from([(1, vec![2]), (3, vec![4]), (5, vec![])]));
}

#[test]
fn keys_that_python_cannot_hash_are_not_written() {
    let error = to_value(&vec![BTreeMap::from([(vec![1], 1)])]).unwrap_err();
    assert_eq!(error.to_string(), "cannot encode a key of data[0]: unhashable type: 'list'");
    let error = to_value(&BTreeMap::from([((1, Shape::Circle(1.0).to_key()), 1)])).unwrap_err();
    assert_eq!(error.to_string(), "cannot encode (a key of data)[1]: unhashable type: 'dict'");
}

impl Shape {
    fn to_key(&self) -> ShapeKey {
        ShapeKey(self.clone())
    }
}

#[derive(Serialize)]
struct ShapeKey(Shape);

impl PartialEq for ShapeKey {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for ShapeKey {}

impl PartialOrd for ShapeKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ShapeKey {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}
