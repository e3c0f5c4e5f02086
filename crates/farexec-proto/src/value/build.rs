//! Reads values: [`ValueBuilder`], and [`Value::from_payload`].

use std::vec::Drain;

use num_bigint::BigInt;

use super::Value;
use crate::ChannelId;
use crate::encoding::{Build, BuildError, DecodeError, Encoding, StringCoercion, Text, decode};

impl Value {
    /// The item in a payload.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are not exactly one item.
    pub fn from_payload(
        encoding: Encoding,
        payload: &[u8],
        coercion: StringCoercion,
    ) -> Result<Self, DecodeError> {
        decode(encoding, payload, coercion, &mut ValueBuilder)
    }
}

/// Makes [`Value`]s of what a reader finds.
#[derive(Clone, Copy, Debug, Default)]
pub struct ValueBuilder;

impl<'p> Build<'p> for ValueBuilder {
    type Object = Value;

    #[inline]
    fn none(&mut self) -> Result<Value, BuildError> {
        Ok(Value::None)
    }

    #[inline]
    fn bool(&mut self, value: bool) -> Result<Value, BuildError> {
        Ok(Value::Bool(value))
    }

    #[inline]
    fn int(&mut self, value: i64) -> Result<Value, BuildError> {
        Ok(Value::Int(value))
    }

    fn big_int(&mut self, little_endian: &[u8]) -> Result<Value, BuildError> {
        Ok(Value::BigInt(BigInt::from_signed_bytes_le(little_endian)))
    }

    #[inline]
    fn float(&mut self, value: f64) -> Result<Value, BuildError> {
        Ok(Value::Float(value))
    }

    fn complex(&mut self, real: f64, imaginary: f64) -> Result<Value, BuildError> {
        Ok(Value::Complex(real, imaginary))
    }

    #[inline]
    fn str(&mut self, text: Text<'p>) -> Result<Value, BuildError> {
        text.to_str().map(|text| Value::Str(text.to_owned()))
    }

    fn converted_str(&mut self, value: String) -> Result<Value, BuildError> {
        Ok(Value::Str(value))
    }

    #[inline]
    fn bytes(&mut self, value: &'p [u8]) -> Result<Value, BuildError> {
        Ok(Value::Bytes(value.to_vec()))
    }

    fn channel(&mut self, id: ChannelId) -> Result<Value, BuildError> {
        Ok(Value::Channel(id))
    }

    fn tuple(&mut self, items: Drain<'_, Value>) -> Result<Value, BuildError> {
        Ok(Value::Tuple(items.collect()))
    }

    fn list(&mut self, items: Drain<'_, Value>) -> Result<Value, BuildError> {
        Ok(Value::List(items.collect()))
    }

    fn dict(&mut self, entries: Drain<'_, Value>) -> Result<Value, BuildError> {
        Ok(Value::Dict(pairs(entries).collect()))
    }

    fn set(&mut self, items: Drain<'_, Value>) -> Result<Value, BuildError> {
        Ok(Value::Set(items.collect()))
    }

    fn frozen_set(&mut self, items: Drain<'_, Value>) -> Result<Value, BuildError> {
        Ok(Value::FrozenSet(items.collect()))
    }

    #[inline]
    fn append(&mut self, list: &mut Value, item: Value) -> Result<(), BuildError> {
        if let Value::List(items) = list {
            items.push(item);
        }
        Ok(())
    }

    #[inline]
    fn insert(&mut self, dict: &mut Value, key: Value, value: Value) -> Result<(), BuildError> {
        if let Value::Dict(entries) = dict {
            entries.push((key, value));
        }
        Ok(())
    }

    fn add(&mut self, set: &mut Value, item: Value) -> Result<(), BuildError> {
        if let Value::Set(items) = set {
            items.push(item);
        }
        Ok(())
    }
}

/// Keys and values by turns, as pairs. The reader sees to it that they come in pairs.
fn pairs(mut entries: Drain<'_, Value>) -> impl Iterator<Item = (Value, Value)> {
    let count = entries.len() / 2;
    (0..count).map_while(move |_| Some((entries.next()?, entries.next()?)))
}
