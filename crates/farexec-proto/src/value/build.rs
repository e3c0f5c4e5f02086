//! Reads values: [`ValueBuilder`], and [`Value::from_payload`].

use std::vec::Drain;

use num_bigint::BigInt;

use super::Value;
use crate::ChannelId;
use crate::encoding::{Build, BuildError, DecodeError, Encoding, StringCoercion, decode};

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
    fn str(&mut self, value: &'p str) -> Result<Value, BuildError> {
        Ok(Value::Str(value.to_owned()))
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

    fn extend_list(&mut self, list: &mut Value, items: Drain<'_, Value>) -> Result<(), BuildError> {
        if let Value::List(list) = list {
            list.extend(items);
        }
        Ok(())
    }

    fn extend_dict(&mut self, dict: &mut Value, entries: Drain<'_, Value>) -> Result<(), BuildError> {
        if let Value::Dict(dict) = dict {
            dict.extend(pairs(entries));
        }
        Ok(())
    }

    fn extend_set(&mut self, set: &mut Value, items: Drain<'_, Value>) -> Result<(), BuildError> {
        if let Value::Set(set) = set {
            set.extend(items);
        }
        Ok(())
    }
}

/// Keys and values by turns, as pairs. The reader sees to it that they come in pairs.
fn pairs(mut entries: Drain<'_, Value>) -> impl Iterator<Item = (Value, Value)> {
    let count = entries.len() / 2;
    (0..count).map_while(move |_| Some((entries.next()?, entries.next()?)))
}
