//! serde's serializer over an [`Emit`].

use serde::ser::{self, Serialize};

use super::marker;
use crate::ChannelId;
use crate::encoding::{Emit, EncodeError, Segment};

impl ser::Error for EncodeError {
    fn custom<T: std::fmt::Display>(text: T) -> Self {
        Self::custom(text)
    }
}

/// Writes one item.
pub(super) struct ItemSerializer<'e, E> {
    emit: &'e mut E,
    meaning: Meaning<'e>,
    /// Whether it is to be a key or an element of a set, and so must be hashable in Python's sense.
    hashed: bool,
}

/// What the next call stands for.
enum Meaning<'e> {
    Itself,
    /// Bytes are a big int.
    BigInt,
    /// A tuple of two floats is a complex number.
    Complex,
    /// One of those floats, and where it belongs.
    Part(&'e mut f64),
    /// A sequence is a set or frozenset.
    Sequence(Shape),
    /// An integer is the number of a channel.
    Channel,
}

#[derive(Clone, Copy)]
enum Shape {
    List,
    UnsizedList(usize),
    Tuple,
    Set,
    FrozenSet,
}

impl<'e, E: Emit> ItemSerializer<'e, E> {
    pub(super) fn new(emit: &'e mut E) -> Self {
        Self { emit, meaning: Meaning::Itself, hashed: false }
    }

    fn hashed(emit: &'e mut E) -> Self {
        Self { emit, meaning: Meaning::Itself, hashed: true }
    }

    fn must_not_be_hashed(&self, kind: &str) -> Result<(), EncodeError> {
        if self.hashed { Err(EncodeError::custom(format_args!("unhashable type: '{kind}'"))) } else { Ok(()) }
    }

    /// The dict of one entry that a variant with contents is.
    fn variant(&mut self, name: &str) -> Result<(), EncodeError> {
        self.must_not_be_hashed("dict")?;
        self.emit.begin_dict(1)?;
        self.emit.str(name)
    }

    fn items(self, shape: Shape, len: usize) -> Result<Items<'e, E>, EncodeError> {
        match shape {
            Shape::List | Shape::UnsizedList(_) => self.must_not_be_hashed("list"),
            Shape::Set => self.must_not_be_hashed("set"),
            Shape::Tuple | Shape::FrozenSet => Ok(()),
        }?;
        let Self { emit, hashed, .. } = self;
        let shape = match shape {
            Shape::List => emit.begin_list(len).map(|()| shape),
            Shape::UnsizedList(_) => emit.begin_unsized_list().map(Shape::UnsizedList),
            Shape::Tuple => emit.begin_tuple(len).map(|()| shape),
            Shape::Set => emit.begin_set(len).map(|()| shape),
            Shape::FrozenSet => emit.begin_frozen_set(len).map(|()| shape),
        }?;
        Ok(Items { emit, shape, hashed, index: 0, parts: None, variant: None })
    }
}

impl<'e, E: Emit> ser::Serializer for ItemSerializer<'e, E> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Items<'e, E>;
    type SerializeTuple = Items<'e, E>;
    type SerializeTupleStruct = Items<'e, E>;
    type SerializeTupleVariant = Items<'e, E>;
    type SerializeMap = Entries<'e, E>;
    type SerializeStruct = Entries<'e, E>;
    type SerializeStructVariant = Entries<'e, E>;

    #[inline]
    fn serialize_bool(self, value: bool) -> Result<(), EncodeError> {
        self.emit.bool(value)
    }

    #[inline]
    fn serialize_i8(self, value: i8) -> Result<(), EncodeError> {
        self.emit.int(value.into())
    }

    #[inline]
    fn serialize_i16(self, value: i16) -> Result<(), EncodeError> {
        self.emit.int(value.into())
    }

    #[inline]
    fn serialize_i32(self, value: i32) -> Result<(), EncodeError> {
        self.emit.int(value.into())
    }

    #[inline]
    fn serialize_i64(self, value: i64) -> Result<(), EncodeError> {
        self.emit.int(value)
    }

    fn serialize_i128(self, value: i128) -> Result<(), EncodeError> {
        self.emit.big_int(&value.to_le_bytes())
    }

    #[inline]
    fn serialize_u8(self, value: u8) -> Result<(), EncodeError> {
        self.emit.int(value.into())
    }

    #[inline]
    fn serialize_u16(self, value: u16) -> Result<(), EncodeError> {
        self.emit.int(value.into())
    }

    #[inline]
    fn serialize_u32(self, value: u32) -> Result<(), EncodeError> {
        match self.meaning {
            Meaning::Channel => self.emit.channel(ChannelId::new(value)),
            _ => self.emit.int(value.into()),
        }
    }

    #[inline]
    fn serialize_u64(self, value: u64) -> Result<(), EncodeError> {
        match i64::try_from(value) {
            Ok(value) => self.emit.int(value),
            Err(_) => self.serialize_u128(value.into()),
        }
    }

    fn serialize_u128(self, value: u128) -> Result<(), EncodeError> {
        // One byte more, for the sign.
        let mut bytes = [0; 17];
        bytes[..16].copy_from_slice(&value.to_le_bytes());
        self.emit.big_int(&bytes)
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result<(), EncodeError> {
        self.emit.float(value.into())
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<(), EncodeError> {
        match self.meaning {
            Meaning::Part(part) => {
                *part = value;
                Ok(())
            }
            _ => self.emit.float(value),
        }
    }

    fn serialize_char(self, value: char) -> Result<(), EncodeError> {
        self.emit.str(value.encode_utf8(&mut [0; 4]))
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<(), EncodeError> {
        self.emit.str(value)
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<(), EncodeError> {
        match self.meaning {
            Meaning::BigInt => self.emit.big_int(value),
            _ => self.emit.bytes(value),
        }
    }

    fn serialize_none(self) -> Result<(), EncodeError> {
        self.emit.none()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), EncodeError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), EncodeError> {
        self.emit.none()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), EncodeError> {
        self.emit.none()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, name: &'static str) -> Result<(), EncodeError> {
        self.emit.str(name)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        let meaning = match name {
            marker::BIG_INT => Meaning::BigInt,
            marker::COMPLEX => Meaning::Complex,
            marker::CHANNEL => Meaning::Channel,
            marker::SET => Meaning::Sequence(Shape::Set),
            marker::FROZEN_SET => Meaning::Sequence(Shape::FrozenSet),
            _ => Meaning::Itself,
        };
        value.serialize(Self { meaning, ..self })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        mut self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        self.variant(name)?;
        value.serialize(ItemSerializer::new(self.emit)).map_err(|error| error.at_key(field(name)))?;
        self.emit.dict_entry()?;
        self.emit.end_dict(1)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Items<'e, E>, EncodeError> {
        match (&self.meaning, len) {
            (Meaning::Sequence(shape), Some(len)) => {
                let shape = *shape;
                self.items(shape, len)
            }
            (_, Some(len)) => self.items(Shape::List, len),
            (_, None) => self.items(Shape::UnsizedList(0), 0),
        }
    }

    fn serialize_tuple(self, len: usize) -> Result<Items<'e, E>, EncodeError> {
        match self.meaning {
            Meaning::Complex => Ok(Items {
                emit: self.emit,
                shape: Shape::Tuple,
                hashed: false,
                index: 0,
                parts: Some([0.0; 2]),
                variant: None,
            }),
            _ => self.items(Shape::Tuple, len),
        }
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<Items<'e, E>, EncodeError> {
        self.items(Shape::Tuple, len)
    }

    fn serialize_tuple_variant(
        mut self,
        _: &'static str,
        _: u32,
        name: &'static str,
        len: usize,
    ) -> Result<Items<'e, E>, EncodeError> {
        self.variant(name)?;
        Ok(Items { variant: Some(name), ..self.items(Shape::Tuple, len)? })
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Entries<'e, E>, EncodeError> {
        // Any length but 0 stands for an unknown one.
        let len = len.unwrap_or(2);
        self.must_not_be_hashed("dict")?;
        self.emit.begin_dict(len)?;
        Ok(Entries { emit: self.emit, len, variant: None })
    }

    fn serialize_struct(self, _: &'static str, len: usize) -> Result<Entries<'e, E>, EncodeError> {
        self.serialize_map(Some(len))
    }

    fn serialize_struct_variant(
        mut self,
        _: &'static str,
        _: u32,
        name: &'static str,
        len: usize,
    ) -> Result<Entries<'e, E>, EncodeError> {
        self.variant(name)?;
        Ok(Entries { variant: Some(name), ..self.serialize_map(Some(len))? })
    }
}

/// Writes the elements of a list, tuple or set.
pub(super) struct Items<'e, E> {
    emit: &'e mut E,
    shape: Shape,
    hashed: bool,
    index: usize,
    /// Of a complex number, which is not a container after all.
    parts: Option<[f64; 2]>,
    variant: Option<&'static str>,
}

impl<E: Emit> Items<'_, E> {
    #[inline]
    fn item<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), EncodeError> {
        if let (Shape::List, false) = (self.shape, self.hashed) {
            return self.list_item(item);
        }
        self.other_item(item)
    }

    /// The most frequent case on its own.
    #[inline]
    fn list_item<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), EncodeError> {
        let index = self.index;
        self.index += 1;
        self.emit.list_index(index)?;
        item.serialize(ItemSerializer::new(self.emit)).map_err(|error| error.at_index(index))?;
        self.emit.list_item()
    }

    fn other_item<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), EncodeError> {
        if let Some(parts) = &mut self.parts {
            let part =
                parts.get_mut(self.index).ok_or_else(|| EncodeError::custom("not a complex number"))?;
            self.index += 1;
            return item.serialize(ItemSerializer {
                emit: self.emit,
                meaning: Meaning::Part(part),
                hashed: false,
            });
        }
        let index = self.index;
        self.index += 1;
        match self.shape {
            Shape::List | Shape::UnsizedList(_) => {
                self.emit.list_index(index)?;
                self.serialize(item, Segment::Index(index))?;
                self.emit.list_item()
            }
            Shape::Tuple => self.serialize(item, Segment::Index(index)),
            Shape::Set | Shape::FrozenSet => self.serialize(item, Segment::Element),
        }
    }

    #[inline]
    fn serialize<T: Serialize + ?Sized>(&mut self, item: &T, segment: Segment) -> Result<(), EncodeError> {
        let hashed = self.hashed || matches!(self.shape, Shape::Set | Shape::FrozenSet);
        let serializer = ItemSerializer { emit: self.emit, meaning: Meaning::Itself, hashed };
        item.serialize(serializer).map_err(|error| {
            let error = error.within(segment);
            self.variant.map(field).into_iter().fold(error, EncodeError::at_key)
        })
    }

    fn close(self) -> Result<(), EncodeError> {
        match (self.parts, self.shape) {
            (Some([real, imaginary]), _) => return self.emit.complex(real, imaginary),
            (None, Shape::List) => self.emit.end_list(self.index),
            (None, Shape::UnsizedList(begun)) => self.emit.end_unsized_list(begun, self.index),
            (None, Shape::Tuple) => self.emit.end_tuple(self.index),
            (None, Shape::Set) => self.emit.end_set(self.index),
            (None, Shape::FrozenSet) => self.emit.end_frozen_set(self.index),
        }?;
        close_variant(self.emit, self.variant)
    }
}

/// Writes the entries of a dict.
pub(super) struct Entries<'e, E> {
    emit: &'e mut E,
    len: usize,
    variant: Option<&'static str>,
}

impl<E: Emit> Entries<'_, E> {
    #[inline]
    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), EncodeError> {
        self.emit.str(name)?;
        value.serialize(ItemSerializer::new(self.emit)).map_err(|error| {
            let error = error.at_key(field(name));
            self.variant.map(field).into_iter().fold(error, EncodeError::at_key)
        })?;
        self.emit.dict_entry()
    }

    fn close(self) -> Result<(), EncodeError> {
        self.emit.end_dict(self.len)?;
        close_variant(self.emit, self.variant)
    }
}

fn close_variant<E: Emit>(emit: &mut E, variant: Option<&'static str>) -> Result<(), EncodeError> {
    if variant.is_some() {
        emit.dict_entry()?;
        emit.end_dict(1)?;
    }
    Ok(())
}

/// The name of a field, as Python would print it as a key.
fn field(name: &str) -> String {
    format!("'{name}'")
}

impl<E: Emit> ser::SerializeSeq for Items<'_, E> {
    type Ok = ();
    type Error = EncodeError;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), EncodeError> {
        self.item(item)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.close()
    }
}

impl<E: Emit> ser::SerializeTuple for Items<'_, E> {
    type Ok = ();
    type Error = EncodeError;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), EncodeError> {
        self.item(item)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.close()
    }
}

impl<E: Emit> ser::SerializeTupleStruct for Items<'_, E> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), EncodeError> {
        self.item(item)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.close()
    }
}

impl<E: Emit> ser::SerializeTupleVariant for Items<'_, E> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), EncodeError> {
        self.item(item)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.close()
    }
}

impl<E: Emit> ser::SerializeMap for Entries<'_, E> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), EncodeError> {
        key.serialize(ItemSerializer::hashed(self.emit)).map_err(|error| error.within(Segment::Key))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        // The key came on its own, and is gone by now.
        value.serialize(ItemSerializer::new(self.emit)).map_err(|error| error.at_key("..."))?;
        self.emit.dict_entry()
    }

    fn serialize_entry<K: Serialize + ?Sized, V: Serialize + ?Sized>(
        &mut self,
        key: &K,
        value: &V,
    ) -> Result<(), EncodeError> {
        key.serialize(ItemSerializer::hashed(self.emit)).map_err(|error| error.within(Segment::Key))?;
        value.serialize(ItemSerializer::new(self.emit)).map_err(|error| {
            let key = super::to_value(key).map_or_else(|_| "...".to_owned(), |key| key.to_string());
            error.at_key(key)
        })?;
        self.emit.dict_entry()
    }

    fn end(self) -> Result<(), EncodeError> {
        self.close()
    }
}

impl<E: Emit> ser::SerializeStruct for Entries<'_, E> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        self.field(name, value)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.close()
    }
}

impl<E: Emit> ser::SerializeStructVariant for Entries<'_, E> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        self.field(name, value)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.close()
    }
}
