//! Writes values: [`Encode`] for [`Value`].

use super::Value;
use crate::encoding::{Emit, Encode, EncodeError, Segment};

impl Encode for Value {
    fn encode<E: Emit>(&self, emit: &mut E) -> Result<(), EncodeError> {
        match self {
            Self::None => emit.none(),
            Self::Bool(value) => emit.bool(*value),
            Self::Int(value) => emit.int(*value),
            Self::BigInt(value) => emit.big_int(&value.to_signed_bytes_le()),
            Self::Float(value) => emit.float(*value),
            Self::Complex(real, imaginary) => emit.complex(*real, *imaginary),
            Self::Str(value) => emit.str(value),
            Self::Bytes(value) => emit.bytes(value),
            Self::Channel(id) => emit.channel(*id),
            Self::List(items) => list(items, emit),
            Self::Tuple(items) => tuple(items, emit),
            Self::Dict(entries) => dict(entries, emit),
            Self::Set(items) => {
                emit.begin_set(items.len())?;
                elements(items, emit)?;
                emit.end_set(items.len())
            }
            Self::FrozenSet(items) => {
                emit.begin_frozen_set(items.len())?;
                elements(items, emit)?;
                emit.end_frozen_set(items.len())
            }
        }
    }
}

fn list<E: Emit>(items: &[Value], emit: &mut E) -> Result<(), EncodeError> {
    emit.begin_list(items.len())?;
    for (index, item) in items.iter().enumerate() {
        if let Value::Int(value) = item {
            emit.list_int(index, *value)?;
            continue;
        }
        emit.list_index(index)?;
        item.encode(emit).map_err(|error| error.at_index(index))?;
        emit.list_item()?;
    }
    emit.end_list(items.len())
}

fn tuple<E: Emit>(items: &[Value], emit: &mut E) -> Result<(), EncodeError> {
    emit.begin_tuple(items.len())?;
    for (index, item) in items.iter().enumerate() {
        item.encode(emit).map_err(|error| error.at_index(index))?;
    }
    emit.end_tuple(items.len())
}

fn dict<E: Emit>(entries: &[(Value, Value)], emit: &mut E) -> Result<(), EncodeError> {
    emit.begin_dict(entries.len())?;
    for (key, value) in entries {
        hashable(key).and_then(|()| key.encode(emit)).map_err(|error| error.within(Segment::Key))?;
        value.encode(emit).map_err(|error| error.at_key(key.to_string()))?;
        emit.dict_entry()?;
    }
    emit.end_dict(entries.len())
}

fn elements<E: Emit>(items: &[Value], emit: &mut E) -> Result<(), EncodeError> {
    for item in items {
        hashable(item).and_then(|()| item.encode(emit)).map_err(|error| error.within(Segment::Element))?;
    }
    Ok(())
}

/// Python could not make a key of it: better said to who sends it than to who receives it.
fn hashable(value: &Value) -> Result<(), EncodeError> {
    let kind = match value {
        Value::List(_) => "list",
        Value::Dict(_) => "dict",
        Value::Set(_) => "set",
        Value::Tuple(items) => return items.iter().try_for_each(hashable),
        _ => return Ok(()),
    };
    Err(EncodeError::custom(format_args!("unhashable type: '{kind}'")))
}
