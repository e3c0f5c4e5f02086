//! [`Value`] and [`ChannelId`] in serde's data model. Through this crate's own serializer and deserializer nothing is lost; other formats
//! see sets as sequences, complex numbers as pairs, and channels as their numbers.

use std::fmt;

use num_bigint::BigInt;
use serde::de::{self, Deserialize, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde::ser::{Serialize, SerializeTuple, Serializer};

use super::marker;
use crate::{ChannelId, Value};

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) => serializer.serialize_i64(*value),
            Self::BigInt(value) => big_int(value, serializer),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Complex(real, imaginary) => {
                serializer.serialize_newtype_struct(marker::COMPLEX, &(real, imaginary))
            }
            Self::Str(value) => serializer.serialize_str(value),
            Self::Bytes(value) => serializer.serialize_bytes(value),
            Self::Tuple(items) => {
                let mut tuple = serializer.serialize_tuple(items.len())?;
                items.iter().try_for_each(|item| tuple.serialize_element(item))?;
                tuple.end()
            }
            Self::List(items) => serializer.collect_seq(items),
            Self::Dict(entries) => serializer.collect_map(entries.iter().map(|(key, value)| (key, value))),
            Self::Set(items) => serializer.serialize_newtype_struct(marker::SET, items),
            Self::FrozenSet(items) => serializer.serialize_newtype_struct(marker::FROZEN_SET, items),
            Self::Channel(id) => id.serialize(serializer),
        }
    }
}

fn big_int<S: Serializer>(value: &BigInt, serializer: S) -> Result<S::Ok, S::Error> {
    if let Ok(value) = i128::try_from(value) {
        serializer.serialize_i128(value)
    } else if let Ok(value) = u128::try_from(value) {
        serializer.serialize_u128(value)
    } else {
        serializer.serialize_newtype_struct(marker::BIG_INT, &Bytes(&value.to_signed_bytes_le()))
    }
}

/// Bytes as such, where serde would make a sequence of a slice.
struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de> Deserialize<'de> for Value {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(marker::VALUE, ValueVisitor)
    }
}

/// What this crate's deserializer says an object is before it shows its contents, if serde has no word for it.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Kind {
    BigInt,
    Complex,
    Channel,
    Tuple,
    Set,
    FrozenSet,
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any item")
    }

    /// Any other format.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    /// This crate's own deserializer.
    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Value, A::Error> {
        let (kind, contents) = access.variant::<u8>()?;
        let items = |contents: A::Variant| contents.tuple_variant(0, ItemsVisitor);
        if kind == Kind::Tuple as u8 {
            items(contents).map(Value::Tuple)
        } else if kind == Kind::Set as u8 {
            items(contents).map(Value::Set)
        } else if kind == Kind::FrozenSet as u8 {
            items(contents).map(Value::FrozenSet)
        } else if kind == Kind::BigInt as u8 {
            contents.tuple_variant(0, BigIntVisitor).map(Value::from)
        } else if kind == Kind::Complex as u8 {
            contents.tuple_variant(2, ComplexVisitor)
        } else {
            contents.tuple_variant(0, ChannelVisitor).map(Value::Channel)
        }
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::None)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::Str(value))
    }

    fn visit_bytes<E: de::Error>(self, value: &[u8]) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_byte_buf<E: de::Error>(self, value: Vec<u8>) -> Result<Value, E> {
        Ok(Value::Bytes(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<Value, A::Error> {
        ItemsVisitor.visit_seq(access).map(Value::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut entries = Vec::with_capacity(sensible(access.size_hint()));
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Value::Dict(entries))
    }
}

struct ItemsVisitor;

impl<'de> Visitor<'de> for ItemsVisitor {
    type Value = Vec<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Vec<Value>, A::Error> {
        let mut items = Vec::with_capacity(sensible(access.size_hint()));
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(items)
    }
}

/// Other formats' hints may be claims.
fn sensible(hint: Option<usize>) -> usize {
    hint.unwrap_or(0).min(crate::limits::ELEMENT_PREALLOCATION)
}

struct BigIntVisitor;

impl Visitor<'_> for BigIntVisitor {
    type Value = BigInt;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes of an int")
    }

    fn visit_bytes<E: de::Error>(self, value: &[u8]) -> Result<BigInt, E> {
        Ok(BigInt::from_signed_bytes_le(value))
    }
}

struct ComplexVisitor;

impl<'de> Visitor<'de> for ComplexVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("two floats")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        match (access.next_element()?, access.next_element()?) {
            (Some(real), Some(imaginary)) => Ok(Value::Complex(real, imaginary)),
            _ => Err(de::Error::invalid_length(0, &self)),
        }
    }
}

impl Serialize for ChannelId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(marker::CHANNEL, &self.number())
    }
}

impl<'de> Deserialize<'de> for ChannelId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(marker::CHANNEL, ChannelVisitor)
    }
}

struct ChannelVisitor;

impl<'de> Visitor<'de> for ChannelVisitor {
    type Value = ChannelId;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a channel")
    }

    /// Any other format.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<ChannelId, D::Error> {
        u32::deserialize(deserializer).map(ChannelId::new)
    }

    /// This crate's own deserializer.
    fn visit_u32<E: de::Error>(self, number: u32) -> Result<ChannelId, E> {
        Ok(ChannelId::new(number))
    }
}
