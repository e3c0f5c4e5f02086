//! Conversions into [`Value`].

use num_bigint::BigInt;

use super::Value;
use crate::ChannelId;

macro_rules! from {
    ($($type:ty => $variant:expr;)*) => {
        $(
            impl From<$type> for Value {
                fn from(value: $type) -> Self {
                    $variant(value)
                }
            }
        )*
    };
}

from! {
    bool => Value::Bool;
    i8 => |value| Value::Int(i64::from(value));
    i16 => |value| Value::Int(i64::from(value));
    i32 => |value| Value::Int(i64::from(value));
    i64 => Value::Int;
    i128 => |value| Value::from(BigInt::from(value));
    u8 => |value| Value::Int(i64::from(value));
    u16 => |value| Value::Int(i64::from(value));
    u32 => |value| Value::Int(i64::from(value));
    u64 => |value| Value::from(BigInt::from(value));
    u128 => |value| Value::from(BigInt::from(value));
    f32 => |value| Value::Float(f64::from(value));
    f64 => Value::Float;
    char => |value| Value::Str(String::from(value));
    &str => |value: &str| Value::Str(value.to_owned());
    String => Value::Str;
    &[u8] => |value: &[u8]| Value::Bytes(value.to_vec());
    ChannelId => Value::Channel;
}

impl From<BigInt> for Value {
    /// An [`Int`](Value::Int), if it fits.
    fn from(value: BigInt) -> Self {
        i64::try_from(&value).map_or(Self::BigInt(value), Self::Int)
    }
}

impl From<()> for Value {
    fn from((): ()) -> Self {
        Self::None
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    /// A list.
    fn from(items: Vec<T>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}

impl<K: Into<Value>, V: Into<Value>, const N: usize> From<[(K, V); N]> for Value {
    /// A dict.
    fn from(entries: [(K, V); N]) -> Self {
        Self::Dict(entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}
