//! The type itself; its abilities are in the neighbouring modules.

use num_bigint::BigInt;

use crate::ChannelId;

/// Any item that can be sent: Python's plain data types, and channels.
///
/// Two values are equal if they are of the same type and content; for dicts and sets the order does not matter. It prints as
/// Python would print it.
///
/// ```
/// use farexec_proto::Value;
///
/// let value = Value::Tuple(vec![Value::from(1), Value::from("it's"), Value::None]);
/// assert_eq!(value.to_string(), r#"(1, "it's", None)"#);
/// ```
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// `None`.
    #[default]
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An int of 64 bits.
    Int(i64),
    /// An int that needs more. One that does not is equal to an [`Int`](Self::Int), and is received as one.
    BigInt(BigInt),
    /// A float.
    Float(f64),
    /// A complex number: real part, imaginary part.
    Complex(f64, f64),
    /// A str.
    Str(String),
    /// A bytes object.
    Bytes(Vec<u8>),
    /// A tuple.
    Tuple(Vec<Value>),
    /// A list.
    List(Vec<Value>),
    /// A dict: its keys and values, in order.
    Dict(Vec<(Value, Value)>),
    /// A set.
    Set(Vec<Value>),
    /// A frozenset.
    FrozenSet(Vec<Value>),
    /// A channel.
    Channel(ChannelId),
}
