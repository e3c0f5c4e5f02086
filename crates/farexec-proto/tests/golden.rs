//! Golden vectors: what execnet 2.1.2 and CPython's pickle have written is read as they would read it and, in the dump format, written
//! back byte for byte; and what this crate writes is what they were seen to read. `golden/make.py` made the former and checks the latter.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use farexec_proto::encoding::{DecodeError, DecodeErrorKind, StringCoercion, dump, encode_item, message};
use farexec_proto::{BigInt, Encoding, Value, ValueBuilder};

const TO_BYTES: StringCoercion = StringCoercion { py2str_as_py3str: false, py3str_as_py2str: false };
const TO_STR: StringCoercion = StringCoercion::DEFAULT;

#[test]
fn what_execnet_wrote_is_read_and_written_back() {
    let vectors: Vec<_> = vectors().filter(|vector| vector.who == "execnet").collect();
    assert!(vectors.len() > 60);
    for vector in vectors {
        let value = dump::loads(&vector.bytes, TO_BYTES, &mut ValueBuilder).expect(vector.name);
        assert_eq!(compared(&value, vector.text), vector.text, "{}", vector.name);
        assert_eq!(dump::dumps(&value).expect(vector.name), vector.bytes, "{}", vector.name);
        let typed: Value = farexec_proto::serde::from_payload(Encoding::Dump, &vector.bytes[1..], TO_BYTES)
            .expect(vector.name);
        assert_eq!(typed.to_string(), value.to_string(), "{}", vector.name);
    }
}

#[test]
fn what_pickle_wrote_is_read() {
    let vectors: Vec<_> = vectors().filter(|vector| vector.who == "pickle").collect();
    assert!(vectors.len() > 120);
    for vector in vectors {
        match message::decode(&vector.bytes, &mut ValueBuilder) {
            Ok(value) => {
                assert_eq!(compared(&value, vector.text), vector.text, "{}", vector.name);
                let typed: Value =
                    farexec_proto::serde::from_payload(Encoding::Message, &vector.bytes, TO_BYTES)
                        .expect(vector.name);
                assert_eq!(typed.to_string(), value.to_string(), "{}", vector.name);
            }
            // Protocol 3 had no opcodes for sets, and called for them instead.
            Err(error) => {
                assert!(vector.name.ends_with("_3"), "{}: {error}", vector.name);
                assert_eq!(*error.kind(), DecodeErrorKind::NamesCode("GLOBAL"), "{}", vector.name);
            }
        }
    }
}

#[test]
fn what_python_2_wrote_is_read_as_asked_for() {
    let mut count = 0;
    for vector in vectors().filter(|vector| vector.who.starts_with("py2")) {
        let coercion = if vector.who == "py2_str" { TO_STR } else { TO_BYTES };
        let value = dump::loads(&vector.bytes, coercion, &mut ValueBuilder).expect(vector.name);
        assert_eq!(value.to_string(), vector.text, "{} {}", vector.who, vector.name);
        let typed: Value =
            farexec_proto::serde::from_payload(Encoding::Dump, &vector.bytes[1..], coercion).expect("reads");
        assert_eq!(typed, value, "{} {}", vector.who, vector.name);
        count += 1;
    }
    assert_eq!(count, 14);
}

#[test]
fn no_pickle_that_names_code_is_read() {
    let mut count = 0;
    for vector in vectors().filter(|vector| vector.who == "code") {
        let error = message::decode(&vector.bytes, &mut ValueBuilder).expect_err(vector.name);
        assert!(matches!(error.kind(), DecodeErrorKind::NamesCode(_)), "{}: {error}", vector.name);
        count += 1;
    }
    assert_eq!(count, 7);
}

/// Also with the memory of a reader that believes every claim in mind: each vector has lengths in it that are cut off.
#[test]
fn no_beginning_of_a_vector_is_a_vector() {
    for vector in vectors().filter(|vector| vector.who != "code" && vector.bytes.len() < 3000) {
        for end in 0..vector.bytes.len() {
            let start = &vector.bytes[..end];
            let result: Result<Value, DecodeError> = if vector.who == "pickle" {
                message::decode(start, &mut ValueBuilder)
            } else {
                dump::loads(start, TO_STR, &mut ValueBuilder)
            };
            let error = result.expect_err(vector.name);
            let kind = error.kind();
            assert!(
                matches!(kind, DecodeErrorKind::Truncated(_) | DecodeErrorKind::NamesCode(_)),
                "{} up to {end}: {error}",
                vector.name
            );
        }
    }
}

#[test]
fn what_is_written_is_what_python_was_seen_to_read() {
    let known: BTreeMap<(&str, &str), Vec<u8>> = include_str!("golden/written.txt")
        .lines()
        .map(|line| {
            let mut columns = line.split('\t');
            let mut next = || columns.next().expect("a column");
            ((next(), next()), unpack(next()))
        })
        .collect();
    for (encoding, name, bytes) in written() {
        assert_eq!(known.get(&(encoding, &name)), Some(&bytes), "{encoding} {name}");
    }
}

/// `cargo test --test golden -- --ignored --nocapture | grep '^message\|^dump' > tests/golden/written.txt`, then
/// `make.py check`.
#[test]
#[ignore = "prints the vectors that make.py checks"]
fn print_what_is_written() {
    for (encoding, name, bytes) in written() {
        println!("{encoding}\t{name}\t{}", pack(&bytes));
    }
}

/// Every object of the vectors, as this crate writes it, in the encoding it is sent in; and what execnet fails to write.
fn written() -> Vec<(&'static str, String, Vec<u8>)> {
    let read = vectors().filter(|vector| vector.who == "execnet").map(|vector| {
        let value = dump::loads(&vector.bytes, TO_BYTES, &mut ValueBuilder).expect(vector.name);
        (vector.name.to_owned(), value)
    });
    let huge = -BigInt::from(3).pow(400);
    let smallest = [
        ("int32_min_and_1", Value::Int(-(1 << 31) - 1)),
        ("int64_min", Value::Int(i64::MIN)),
        ("int_minus_huge", Value::BigInt(huge)),
    ];
    let mut written = Vec::new();
    for (name, value) in smallest {
        written.push(("dump", name.to_owned(), dump::dumps(&value).expect(name)));
        written.push(("message", name.to_owned(), encoded(&value).1));
    }
    for (name, value) in read {
        if let (Encoding::Message, bytes) = encoded(&value) {
            written.push(("message", name, bytes));
        }
    }
    written
}

fn encoded(value: &Value) -> (Encoding, Vec<u8>) {
    let mut bytes = Vec::new();
    let encoding = encode_item(value, &mut bytes).expect("encodes");
    (encoding, bytes)
}

struct Vector {
    who: &'static str,
    name: &'static str,
    bytes: Vec<u8>,
    text: &'static str,
}

fn vectors() -> impl Iterator<Item = Vector> {
    include_str!("golden/vectors.txt").lines().map(|line| {
        let mut columns = line.split('\t');
        let mut next = || columns.next().expect("a column");
        Vector { who: next(), name: next(), bytes: unpack(next()), text: next() }
    })
}

/// The value's text, or its digest, whichever is to be compared.
fn compared(value: &Value, with: &str) -> String {
    let text = value.to_string();
    if !with.starts_with('#') {
        return text;
    }
    let (a, b) = text.bytes().fold((1u32, 0u32), |(a, b), byte| {
        let a = (a + u32::from(byte)) % 65521;
        (a, (b + a) % 65521)
    });
    format!("#{} {}", text.len(), b << 16 | a)
}

fn unpack(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, piece) in text.split(['(', ')']).enumerate() {
        if index % 2 == 0 {
            let digits = piece.as_bytes().chunks(2);
            bytes.extend(digits.map(|pair| byte(std::str::from_utf8(pair).expect("digits"))));
        } else {
            let (digits, count) = piece.split_once('*').expect("a run");
            bytes.extend(std::iter::repeat_n(byte(digits), count.parse().expect("a count")));
        }
    }
    bytes
}

fn byte(digits: &str) -> u8 {
    u8::from_str_radix(digits, 16).expect("hexadecimal digits")
}

fn pack(bytes: &[u8]) -> String {
    let runs = bytes.chunk_by(|a, b| a == b);
    runs.map(|run| match run.len() {
        64.. => format!("({:02x}*{})", run[0], run.len()),
        length => format!("{:02x}", run[0]).repeat(length),
    })
    .collect()
}
