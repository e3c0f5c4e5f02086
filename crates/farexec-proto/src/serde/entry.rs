//! The ways in: a Rust type to a payload or a [`Value`], and back.

use serde::de::{Deserialize, DeserializeOwned};
use serde::ser::Serialize;

use super::arena::Arena;
use super::de::NodeDeserializer;
use super::ser::ItemSerializer;
use crate::Value;
use crate::encoding::{
    DecodeError, Emit, Encode, EncodeError, Encoding, StringCoercion, decode, encode_item,
};

/// Anything that serde can serialize, as something that can be encoded.
#[derive(Clone, Copy, Debug)]
pub struct AsItem<'a, T: ?Sized>(pub &'a T);

impl<T: Serialize + ?Sized> Encode for AsItem<'_, T> {
    fn encode<E: Emit>(&self, emit: &mut E) -> Result<(), EncodeError> {
        self.0.serialize(ItemSerializer::new(emit))
    }
}

/// Appends an item; says in which encoding.
///
/// ```
/// use farexec_proto::encoding::StringCoercion;
/// use farexec_proto::serde::{encode, from_payload};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut payload = Vec::new();
/// let encoding = encode(&(1, "one"), &mut payload)?;
/// let item: (u8, &str) = from_payload(encoding, &payload, StringCoercion::DEFAULT)?;
/// assert_eq!(item, (1, "one"));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`EncodeError`]; nothing is appended then.
pub fn encode<T: Serialize + ?Sized>(item: &T, out: &mut Vec<u8>) -> Result<Encoding, EncodeError> {
    encode_item(&AsItem(item), out)
}

/// The item in a payload, as a type that may borrow strings and bytes from it.
///
/// # Errors
/// [`DecodeError`] if the bytes are not exactly one item, or it is not a `T`; the error says which part of it is not.
pub fn from_payload<'p, T: Deserialize<'p>>(
    encoding: Encoding,
    payload: &'p [u8],
    coercion: StringCoercion,
) -> Result<T, DecodeError> {
    let mut arena = Arena::default();
    let root = decode(encoding, payload, coercion, &mut arena)?;
    T::deserialize(NodeDeserializer::new(&arena, root))
}

/// A Rust value as a [`Value`].
///
/// ```
/// use farexec_proto::Value;
/// use farexec_proto::serde::{from_value, to_value};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let value = to_value(&vec![Some(1), None])?;
/// assert_eq!(value, Value::List(vec![1.into(), Value::None]));
/// assert_eq!(from_value::<Vec<Option<u8>>>(&value)?, [Some(1), None]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`EncodeError`] if a part of it cannot be sent.
pub fn to_value<T: Serialize + ?Sized>(item: &T) -> Result<Value, EncodeError> {
    let mut payload = Vec::new();
    let encoding = encode(item, &mut payload)?;
    // What was just written is readable.
    Value::from_payload(encoding, &payload, NO_PYTHON_2).map_err(EncodeError::custom)
}

/// A [`Value`] as a Rust value.
///
/// # Errors
/// [`DecodeError`] if it is not a `T`; the error says which part of it is not.
pub fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, DecodeError> {
    let mut payload = Vec::new();
    let encoding =
        encode_item(value, &mut payload).map_err(|error| DecodeError::mismatch(error.to_string()))?;
    from_payload(encoding, &payload, NO_PYTHON_2)
}

impl Value {
    /// This value as a Rust value.
    ///
    /// ```
    /// use farexec_proto::Value;
    ///
    /// let value = Value::from([("a", 1), ("b", 2)]);
    /// let map: std::collections::BTreeMap<String, u8> = value.decode()?;
    /// assert_eq!(map["b"], 2);
    /// # Ok::<(), farexec_proto::encoding::DecodeError>(())
    /// ```
    ///
    /// # Errors
    /// [`DecodeError`] if it is not a `T`; the error says which part of it is not.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        from_value(self)
    }
}

/// Nothing that is written here is a string of Python 2.
const NO_PYTHON_2: StringCoercion = StringCoercion { py2str_as_py3str: false, py3str_as_py2str: false };
