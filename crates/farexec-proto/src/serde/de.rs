//! serde's deserializer over the nodes of an [`Arena`].

use num_bigint::BigInt;
use serde::de::value::{SeqDeserializer, U8Deserializer};
use serde::de::{
    self, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, Unexpected, VariantAccess,
    Visitor,
};

use super::arena::{Arena, Node, Nodes};
use super::marker;
use super::value::Kind;
use crate::encoding::{DecodeError, Segment};

impl de::Error for DecodeError {
    fn custom<T: std::fmt::Display>(text: T) -> Self {
        Self::mismatch(text.to_string())
    }
}

/// Reads one node.
#[derive(Clone, Copy)]
pub(super) struct NodeDeserializer<'a, 'p> {
    arena: &'a Arena<'p>,
    node: Node<'p>,
}

impl<'a, 'p> NodeDeserializer<'a, 'p> {
    pub(super) fn new(arena: &'a Arena<'p>, node: Node<'p>) -> Self {
        Self { arena, node }
    }

    /// The contents, of anything that has some in a row.
    fn items(&self) -> Option<Nodes<'a, 'p>> {
        match self.node {
            Node::Tuple(contents)
            | Node::List(contents)
            | Node::Set(contents)
            | Node::FrozenSet(contents) => Some(self.arena.contents(contents)),
            _ => None,
        }
    }

    fn visit_seq<V: Visitor<'p>>(self, items: Nodes<'a, 'p>, visitor: V) -> Result<V::Value, DecodeError> {
        let is_set = matches!(self.node, Node::Set(_) | Node::FrozenSet(_));
        let mut items = Items { arena: self.arena, nodes: items, index: 0, is_set };
        let value = visitor.visit_seq(&mut items)?;
        match items.nodes.len() {
            0 => Ok(value),
            left => Err(DecodeError::mismatch(format!("too many elements: {left} more than expected"))),
        }
    }

    fn visit_big_int<V: Visitor<'p>>(
        self,
        start: usize,
        end: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let value = BigInt::from_signed_bytes_le(self.arena.digits(start, end));
        if let Ok(value) = u64::try_from(&value) {
            visitor.visit_u64(value)
        } else if let Ok(value) = i128::try_from(&value) {
            visitor.visit_i128(value)
        } else if let Ok(value) = u128::try_from(&value) {
            visitor.visit_u128(value)
        } else {
            Err(de::Error::invalid_type(Unexpected::Other("int of more than 128 bits"), &visitor))
        }
    }

    fn visit_float<V: Visitor<'p>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.node {
            #[allow(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                reason = "that is checked"
            )]
            Node::Int(value) if value as f64 as i128 == i128::from(value) => visitor.visit_f64(value as f64),
            Node::Int(value) => {
                let unexpected = format!("int {value}, which no float is equal to");
                Err(de::Error::invalid_type(Unexpected::Other(&unexpected), &visitor))
            }
            Node::BigInt(..) => {
                Err(de::Error::invalid_type(Unexpected::Other("int of many digits"), &visitor))
            }
            _ => de::Deserializer::deserialize_any(self, visitor),
        }
    }
}

impl<'p> de::Deserializer<'p> for NodeDeserializer<'_, 'p> {
    type Error = DecodeError;

    #[inline]
    fn deserialize_any<V: Visitor<'p>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if let Some(items) = self.items() {
            return self.visit_seq(items, visitor);
        }
        match self.node {
            Node::None => visitor.visit_unit(),
            Node::Bool(value) => visitor.visit_bool(value),
            Node::Int(value) => visitor.visit_i64(value),
            Node::BigInt(start, end) => self.visit_big_int(start, end, visitor),
            Node::Float(value) => visitor.visit_f64(value),
            Node::Str(value) => visitor.visit_borrowed_str(value),
            Node::Text(index) => visitor.visit_str(self.arena.text(index)),
            Node::Bytes(value) => visitor.visit_borrowed_bytes(value),
            Node::Dict(contents) => {
                let mut entries =
                    Entries { nodes: self.arena.contents(contents), arena: self.arena, key: None };
                visitor.visit_map(&mut entries)
            }
            Node::Complex(..) => Err(de::Error::invalid_type(Unexpected::Other("complex number"), &visitor)),
            Node::Channel(_) => Err(de::Error::invalid_type(Unexpected::Other("channel"), &visitor)),
            // Handled above; there are no others.
            Node::Tuple(_) | Node::List(_) | Node::Set(_) | Node::FrozenSet(_) => visitor.visit_unit(),
        }
    }

    fn deserialize_f32<V: Visitor<'p>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.visit_float(visitor)
    }

    fn deserialize_f64<V: Visitor<'p>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.visit_float(visitor)
    }

    fn deserialize_option<V: Visitor<'p>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.node {
            Node::None => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'p>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.node {
            Node::Bytes(bytes) => visitor.visit_seq(Bytes(bytes.iter())),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'p>>(self, len: usize, visitor: V) -> Result<V::Value, DecodeError> {
        match self.node {
            Node::Bytes(bytes) if bytes.len() == len => visitor.visit_seq(Bytes(bytes.iter())),
            _ => self.deserialize_any(visitor),
        }
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'p>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match (name, self.node) {
            // What the other methods cannot tell apart goes by its kind.
            (
                marker::VALUE,
                Node::BigInt(..)
                | Node::Complex(..)
                | Node::Channel(_)
                | Node::Tuple(_)
                | Node::Set(_)
                | Node::FrozenSet(_),
            ) => visitor.visit_enum(self),
            (marker::VALUE, _) => self.deserialize_any(visitor),
            (marker::CHANNEL, Node::Channel(id)) => visitor.visit_u32(id.number()),
            (marker::CHANNEL, _) => Err(DecodeError::mismatch("not a channel".to_owned())),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_enum<V: Visitor<'p>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.node {
            Node::Str(_) | Node::Text(_) => visitor.visit_enum(Variant { name: self, contents: None }),
            Node::Dict(contents) => {
                let mut nodes = self.arena.contents(contents);
                match (nodes.next(), nodes.next(), nodes.next()) {
                    (Some(name), Some(value), None) => visitor.visit_enum(Variant {
                        name: Self::new(self.arena, name),
                        contents: Some(Self::new(self.arena, value)),
                    }),
                    _ => Err(DecodeError::mismatch("an enum is a dict of one entry".to_owned())),
                }
            }
            _ => Err(DecodeError::mismatch("an enum is a str, or a dict of one entry".to_owned())),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'p>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        <V: Visitor<'p>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 char str string bytes byte_buf unit unit_struct
        tuple_struct map struct identifier
    }
}

impl<'p> IntoDeserializer<'p, DecodeError> for NodeDeserializer<'_, 'p> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// The elements of a list, tuple or set.
struct Items<'a, 'p> {
    arena: &'a Arena<'p>,
    nodes: Nodes<'a, 'p>,
    index: usize,
    is_set: bool,
}

impl<'p> SeqAccess<'p> for Items<'_, 'p> {
    type Error = DecodeError;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'p>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let Some(node) = self.nodes.next() else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        match seed.deserialize(NodeDeserializer::new(self.arena, node)) {
            Ok(value) => Ok(Some(value)),
            Err(error) if self.is_set => Err(error.within(Segment::Element)),
            Err(error) => Err(error.within(Segment::Index(index))),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.nodes.len())
    }
}

/// Bytes, as a sequence of ints.
struct Bytes<'p>(std::slice::Iter<'p, u8>);

impl<'p> SeqAccess<'p> for Bytes<'p> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'p>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        self.0.next().map(|byte| seed.deserialize(U8Deserializer::new(*byte))).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

/// The entries of a dict.
struct Entries<'a, 'p> {
    arena: &'a Arena<'p>,
    nodes: Nodes<'a, 'p>,
    key: Option<Node<'p>>,
}

impl<'p> MapAccess<'p> for Entries<'_, 'p> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'p>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        self.key = self.nodes.next();
        let Some(key) = self.key else { return Ok(None) };
        let key = seed.deserialize(NodeDeserializer::new(self.arena, key));
        key.map(Some).map_err(|error| error.within(Segment::Key))
    }

    fn next_value_seed<V: DeserializeSeed<'p>>(&mut self, seed: V) -> Result<V::Value, DecodeError> {
        let Some(node) = self.nodes.next() else {
            return Err(DecodeError::mismatch("a key without a value".to_owned()));
        };
        seed.deserialize(NodeDeserializer::new(self.arena, node)).map_err(|error| {
            let key = self.key.map_or_else(String::new, |key| key_text(self.arena, key));
            error.within(Segment::Value(key))
        })
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.nodes.len() / 2)
    }
}

/// A key, as Python would print it.
fn key_text(arena: &Arena<'_>, key: Node<'_>) -> String {
    let value = <crate::Value as de::Deserialize>::deserialize(NodeDeserializer::new(arena, key));
    value.map_or_else(|_| "...".to_owned(), |key| key.to_string())
}

/// A variant of a Rust enum: its name, or a name and its contents.
struct Variant<'a, 'p> {
    name: NodeDeserializer<'a, 'p>,
    contents: Option<NodeDeserializer<'a, 'p>>,
}

impl<'a, 'p> EnumAccess<'p> for Variant<'a, 'p> {
    type Error = DecodeError;
    type Variant = VariantContents<'a, 'p>;

    fn variant_seed<T: DeserializeSeed<'p>>(
        self,
        seed: T,
    ) -> Result<(T::Value, VariantContents<'a, 'p>), DecodeError> {
        let name = seed.deserialize(self.name)?;
        let segment = || Segment::Value(key_text(self.name.arena, self.name.node));
        let contents = self.contents.map(|contents| (contents, segment()));
        Ok((name, VariantContents(contents)))
    }
}

/// What a variant has, and where it stands.
struct VariantContents<'a, 'p>(Option<(NodeDeserializer<'a, 'p>, Segment)>);

impl<'a, 'p> VariantContents<'a, 'p> {
    fn read<T>(
        self,
        read: impl FnOnce(NodeDeserializer<'a, 'p>) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let Some((contents, segment)) = self.0 else {
            return Err(DecodeError::mismatch("this variant of an enum has contents".to_owned()));
        };
        read(contents).map_err(|error| error.within(segment))
    }
}

impl<'p> VariantAccess<'p> for VariantContents<'_, 'p> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        match self.0 {
            None => Ok(()),
            Some((contents, segment)) => {
                de::Deserialize::deserialize(contents).map_err(|error: DecodeError| error.within(segment))
            }
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'p>>(self, seed: T) -> Result<T::Value, DecodeError> {
        self.read(|contents| seed.deserialize(contents))
    }

    fn tuple_variant<V: Visitor<'p>>(self, len: usize, visitor: V) -> Result<V::Value, DecodeError> {
        self.read(|contents| de::Deserializer::deserialize_tuple(contents, len, visitor))
    }

    fn struct_variant<V: Visitor<'p>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.read(|contents| de::Deserializer::deserialize_any(contents, visitor))
    }
}

/// How a [`Value`](crate::Value) reads a node: by its kind, then by its contents.
impl<'a, 'p> EnumAccess<'p> for NodeDeserializer<'a, 'p> {
    type Error = DecodeError;
    type Variant = Contents<'a, 'p>;

    #[inline]
    fn variant_seed<T: DeserializeSeed<'p>>(
        self,
        seed: T,
    ) -> Result<(T::Value, Contents<'a, 'p>), DecodeError> {
        let kind = match self.node {
            Node::BigInt(..) => Kind::BigInt,
            Node::Complex(..) => Kind::Complex,
            Node::Channel(_) => Kind::Channel,
            Node::Tuple(_) => Kind::Tuple,
            Node::Set(_) => Kind::Set,
            Node::FrozenSet(_) => Kind::FrozenSet,
            _ => return Err(DecodeError::mismatch("not an enum".to_owned())),
        };
        let kind: U8Deserializer<DecodeError> = (kind as u8).into_deserializer();
        Ok((seed.deserialize(kind)?, Contents(self)))
    }
}

/// The contents of a node whose kind is known.
pub(super) struct Contents<'a, 'p>(NodeDeserializer<'a, 'p>);

impl<'p> VariantAccess<'p> for Contents<'_, 'p> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'p>>(self, seed: T) -> Result<T::Value, DecodeError> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'p>>(self, _: usize, visitor: V) -> Result<V::Value, DecodeError> {
        let NodeDeserializer { arena, node } = self.0;
        match node {
            Node::BigInt(start, end) => visitor.visit_bytes(arena.digits(start, end)),
            Node::Complex(real, imaginary) => {
                visitor.visit_seq(SeqDeserializer::new([real, imaginary].into_iter()))
            }
            Node::Channel(id) => visitor.visit_u32(id.number()),
            _ => de::Deserializer::deserialize_any(self.0, visitor),
        }
    }

    fn struct_variant<V: Visitor<'p>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        de::Deserializer::deserialize_any(self.0, visitor)
    }
}
