//! Items as JSON, and JSON as items.
//!
//! What JSON has no word for is an object with one key that begins with `$`, and is read as what it was. Tuples and sets are
//! arrays, as people expect; with `typed` they are such objects too, so that every item is read as exactly what it was.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use farexec::Value;
use num_bigint::BigInt;
use serde_json::{Map, Number, Value as Json, json};

/// An item as JSON.
pub(crate) fn write(value: &Value, typed: bool) -> Json {
    let array = |items: &[Value]| Json::Array(items.iter().map(|item| write(item, typed)).collect());
    let object = |key: &str, contents: Json| Json::Object(Map::from_iter([(key.to_owned(), contents)]));
    let sequence = |key: &str, items: &[Value]| match typed {
        true => object(key, array(items)),
        false => array(items),
    };
    match value {
        Value::None => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) => json!(value),
        // The digits, however many: JSON sets no limit, though some who read it do.
        Value::BigInt(value) => {
            value.to_string().parse().map_or_else(|_| json!(value.to_string()), Json::Number)
        }
        Value::Float(value) => float(*value),
        Value::Complex(real, imaginary) => object("$complex", json!([float(*real), float(*imaginary)])),
        Value::Str(value) => json!(value),
        Value::Bytes(value) => object("$bytes", json!(BASE64.encode(value))),
        Value::List(items) => array(items),
        Value::Tuple(items) => sequence("$tuple", items),
        Value::Set(items) => sequence("$set", items),
        Value::FrozenSet(items) => sequence("$frozenset", items),
        Value::Dict(entries) => match as_object(entries, typed) {
            Some(entries) => Json::Object(entries),
            None => {
                let pair = |(key, value): &(Value, Value)| json!([write(key, typed), write(value, typed)]);
                object("$dict", Json::Array(entries.iter().map(pair).collect()))
            }
        },
        Value::Channel(id) => object("$channel", json!(id.number())),
    }
}

fn float(value: f64) -> Json {
    match Number::from_f64(value) {
        Some(number) => Json::Number(number),
        None => {
            json!({ "$float": if value.is_nan() { "nan" } else if value > 0.0 { "inf" } else { "-inf" } })
        }
    }
}

/// A dict as an object, if it can be one that is not read as something else.
fn as_object(entries: &[(Value, Value)], typed: bool) -> Option<Map<String, Json>> {
    let mut object = Map::new();
    for (key, value) in entries {
        let Value::Str(key) = key else { return None };
        object.insert(key.clone(), write(value, typed));
    }
    let is_tagged = object.len() == 1 && object.keys().all(|key| key.starts_with('$'));
    (!is_tagged).then_some(object)
}

/// JSON as an item.
pub(crate) fn read(json: Json) -> Result<Value, String> {
    Ok(match json {
        Json::Null => Value::None,
        Json::Bool(value) => Value::Bool(value),
        Json::Number(number) => read_number(&number)?,
        Json::String(text) => Value::Str(text),
        Json::Array(items) => Value::List(read_all(items)?),
        Json::Object(mut object) => {
            let tag = object.keys().next().filter(|key| object.len() == 1 && key.starts_with('$')).cloned();
            match tag.and_then(|tag| object.remove_entry(&tag)) {
                Some((tag, contents)) => read_tagged(&tag, contents)?,
                None => Value::Dict(
                    object
                        .into_iter()
                        .map(|(key, value)| Ok((Value::Str(key), read(value)?)))
                        .collect::<Result<_, String>>()?,
                ),
            }
        }
    })
}

fn read_all(items: Vec<Json>) -> Result<Vec<Value>, String> {
    items.into_iter().map(read).collect()
}

fn read_number(number: &Number) -> Result<Value, String> {
    let text = number.as_str();
    if let Ok(value) = text.parse::<BigInt>() {
        return Ok(Value::from(value));
    }
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(Value::Float(value)),
        _ => Err(format!("the number {text} is too large for a float")),
    }
}

fn read_tagged(tag: &str, contents: Json) -> Result<Value, String> {
    let wrong = |expected: &str| format!("{{\"{tag}\": ...}} has {expected} in it");
    let number = |json: Json| match read(json)? {
        Value::Float(value) => Ok(value),
        Value::Int(value) => Ok(value as f64),
        _ => Err(wrong("two numbers")),
    };
    match (tag, contents) {
        ("$bytes", Json::String(text)) => BASE64.decode(text).map(Value::Bytes).map_err(|_| wrong("base64")),
        ("$bytes", _) => Err(wrong("base64")),
        ("$tuple", Json::Array(items)) => Ok(Value::Tuple(read_all(items)?)),
        ("$set", Json::Array(items)) => Ok(Value::Set(read_all(items)?)),
        ("$frozenset", Json::Array(items)) => Ok(Value::FrozenSet(read_all(items)?)),
        ("$tuple" | "$set" | "$frozenset", _) => Err(wrong("an array")),
        ("$complex", Json::Array(parts)) => match <[Json; 2]>::try_from(parts) {
            Ok([real, imaginary]) => Ok(Value::Complex(number(real)?, number(imaginary)?)),
            Err(_) => Err(wrong("two numbers")),
        },
        ("$complex", _) => Err(wrong("two numbers")),
        ("$float", Json::String(name)) => match &*name {
            "nan" => Ok(Value::Float(f64::NAN)),
            "inf" => Ok(Value::Float(f64::INFINITY)),
            "-inf" => Ok(Value::Float(f64::NEG_INFINITY)),
            _ => Err(wrong("`nan`, `inf` or `-inf`")),
        },
        ("$float", _) => Err(wrong("`nan`, `inf` or `-inf`")),
        ("$dict", Json::Array(pairs)) => {
            let pair = |pair: Json| match pair {
                Json::Array(pair) => match <[Json; 2]>::try_from(pair) {
                    Ok([key, value]) => Ok((read(key)?, read(value)?)),
                    Err(_) => Err(wrong("pairs of a key and a value")),
                },
                _ => Err(wrong("pairs of a key and a value")),
            };
            pairs.into_iter().map(pair).collect::<Result<_, String>>().map(Value::Dict)
        }
        ("$dict", _) => Err(wrong("pairs of a key and a value")),
        _ => Err(format!(
            "an object with the only key \"{tag}\": known are $bytes, $tuple, $set, $frozenset, $complex, $float and $dict"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// One of each kind, nested.
    fn items() -> Vec<Value> {
        let text = |text: &str| Value::from(text);
        vec![
            Value::None,
            Value::Bool(true),
            Value::Int(-(1 << 40)),
            Value::BigInt(BigInt::from(7).pow(100)),
            Value::Float(1.5),
            Value::Float(1e300),
            Value::Float(-0.0),
            Value::Float(f64::NEG_INFINITY),
            Value::Complex(1.0, -2.5),
            text("ä\n\"\u{1f600}"),
            Value::Bytes(vec![0, 255, 10]),
            Value::List(vec![Value::Tuple(vec![Value::Int(1)]), Value::List(Vec::new())]),
            Value::Set(vec![Value::Int(1), Value::FrozenSet(vec![text("a")])]),
            Value::from([("a", 1), ("b", 2)]),
            Value::from([("$bytes", 1)]),
            Value::from([(1, "a"), (2, "b")]),
            Value::Dict(vec![(Value::Tuple(vec![Value::Int(1)]), Value::None)]),
        ]
    }

    #[test]
    fn typed_json_is_read_as_what_it_was() {
        for item in items() {
            let line = write(&item, true).to_string();
            assert!(!line.contains('\n'), "{line}");
            let again = read(serde_json::from_str(&line).unwrap()).unwrap();
            assert_eq!(again.to_string(), item.to_string(), "{line}");
            assert_eq!(again, item, "{line}");
        }
    }

    /// Any item, nested a few levels. What is compared is how Python would print it, since that tells apart 1, 1.0 and True, and nan from nan.
    fn any_item() -> impl Strategy<Value = Value> {
        let float = prop_oneof![any::<f64>(), Just(f64::INFINITY), Just(f64::NAN)];
        let leaf = prop_oneof![
            Just(Value::None),
            any::<bool>().prop_map(Value::Bool),
            any::<i128>().prop_map(Value::from),
            float.clone().prop_map(Value::Float),
            (float.clone(), float).prop_map(|(real, imaginary)| Value::Complex(real, imaginary)),
            any::<String>().prop_map(Value::from),
            "[$]?(bytes|tuple|set)".prop_map(Value::from),
            any::<Vec<u8>>().prop_map(Value::Bytes),
        ];
        leaf.prop_recursive(4, 32, 4, |item| {
            let items = prop::collection::vec(item.clone(), 0..4);
            let text = prop_oneof![any::<String>(), "[$](bytes|tuple|set|dict)"];
            prop_oneof![
                items.clone().prop_map(Value::List),
                items.clone().prop_map(Value::Tuple),
                items.clone().prop_map(Value::Set),
                items.prop_map(Value::FrozenSet),
                prop::collection::vec((item.clone(), item.clone()), 0..3).prop_map(Value::Dict),
                prop::collection::btree_map(text, item, 0..3).prop_map(|entries| {
                    Value::Dict(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_item_is_read_from_typed_json_as_what_it_was(item in any_item()) {
            // Keys of an item differ; those of a dict that is made up here may not.
            prop_assume!(has_different_keys(&item));
            let again = read(serde_json::from_str(&write(&item, true).to_string()).unwrap()).unwrap();
            prop_assert_eq!(again.to_string(), item.to_string());
        }
    }

    fn has_different_keys(item: &Value) -> bool {
        match item {
            Value::List(items) | Value::Tuple(items) | Value::Set(items) | Value::FrozenSet(items) => {
                items.iter().all(has_different_keys)
            }
            Value::Dict(entries) => {
                let keys: HashSet<String> = entries.iter().map(|(key, _)| key.to_string()).collect();
                keys.len() == entries.len()
                    && entries.iter().all(|(key, value)| has_different_keys(key) && has_different_keys(value))
            }
            _ => true,
        }
    }

    #[test]
    fn what_json_has_a_near_word_for_is_plain() {
        let line = |item: Value| write(&item, false).to_string();
        assert_eq!(line(Value::Tuple(vec![Value::Int(1), Value::None])), "[1,null]");
        assert_eq!(line(Value::Set(vec![Value::Int(1)])), "[1]");
        assert_eq!(line(Value::BigInt(BigInt::from(10).pow(30))), format!("1{}", "0".repeat(30)));
        assert_eq!(line(Value::Bytes(b"abc".to_vec())), r#"{"$bytes":"YWJj"}"#);
        assert_eq!(line(Value::Float(f64::NAN)), r#"{"$float":"nan"}"#);
        assert_eq!(line(Value::Float(2.0)), "2.0");
        assert_eq!(line(Value::from([(1, "a")])), r#"{"$dict":[[1,"a"]]}"#);
        assert_eq!(line(Value::from([("z", 1), ("a", 2)])), r#"{"z":1,"a":2}"#);
    }

    #[test]
    fn numbers_are_ints_or_floats_as_they_are_written() {
        let read = |text: &str| read(serde_json::from_str(text).unwrap());
        assert_eq!(read("1").unwrap().to_string(), "1");
        assert_eq!(read("1.0").unwrap().to_string(), "1.0");
        assert_eq!(read("-0").unwrap().to_string(), "0");
        assert_eq!(
            read("123456789012345678901234567890").unwrap().to_string(),
            "123456789012345678901234567890"
        );
        assert!(read("1e999").unwrap_err().contains("too large"));
    }

    #[test]
    fn objects_that_are_nearly_something_else_are_refused() {
        let error = |text: &str| read(serde_json::from_str(text).unwrap()).unwrap_err();
        assert!(error(r#"{"$bytes": "*"}"#).contains("base64"));
        assert!(error(r#"{"$typle": []}"#).contains("known are"));
        assert!(error(r#"{"$dict": [[1]]}"#).contains("pairs"));
        assert!(error(r#"{"$complex": [1]}"#).contains("two numbers"));
        assert!(error(r#"{"$float": "1"}"#).contains("nan"));
    }
}
