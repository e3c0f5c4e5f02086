//! Arrays as items: their elements travel as bytes, in one piece, behind what NumPy calls their type and their shape.
//!
//! The far end needs nothing of farexec for it. The form is in docs/PROTOCOL.md. `codecs.py` makes arrays of NumPy of it there, if that is
//! asked for.

use std::fmt;
use std::marker::PhantomData;

use ndarray::{ArrayBase, Data, Dimension, IxDyn, OwnedRepr, RawData, RawDataClone};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

use farexec_proto::Value;

use crate::channel::{Channel, ReceiveError};
use crate::error::ExecError;
use crate::gateway::Gateway;
use crate::source::Source;
use crate::wait::Wait;

/// What gives a worker's channels a codec.
const CODECS: &str = include_str!("codecs.py");

mod sealed {
    /// What is read from bytes and written as bytes: any bits are a value.
    pub trait Bits: bytemuck::Pod {}
}

/// What arrays have that can be items: integers of up to 64 bits, and floating-point numbers.
pub trait Element: sealed::Bits {
    /// The type's name in NumPy, such as `<f8`.
    const DTYPE: &'static str;
}

macro_rules! elements {
    ($($element:ty: $little:literal $big:literal;)*) => {$(
        impl sealed::Bits for $element {}

        impl Element for $element {
            const DTYPE: &'static str = if cfg!(target_endian = "little") { $little } else { $big };
        }
    )*};
}

elements! {
    i8: "|i1" "|i1"; i16: "<i2" ">i2"; i32: "<i4" ">i4"; i64: "<i8" ">i8";
    u8: "|u1" "|u1"; u16: "<u2" ">u2"; u32: "<u4" ">u4"; u64: "<u8" ">u8";
    f32: "<f4" ">f4"; f64: "<f8" ">f8";
}

/// An array, or a view of one, as an item or a part of one: a tuple of its type's name, its shape, and the bytes of its elements, row by row.
///
/// It is sent and received in one copy, whatever it holds; a view whose elements are not side by side takes another. In Python it is an array of
/// NumPy, after [`Gateway::use_numpy`]. Without that, an array is sent as `(a.dtype.str, a.shape, a.tobytes())`, and an item becomes one by `numpy.frombuffer(data, dtype).reshape(shape)`.
///
/// ```
/// use farexec::ArrayItem;
/// use ndarray::{Array2, array};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let group = farexec::Group::new();
/// let gateway = group.make_gateway("popen")?;
/// let channel = gateway.remote_exec("
///     dtype, (rows, columns), data = channel.receive()
///     channel.send((dtype, (columns, rows), data))
/// ")?;
/// channel.send(&ArrayItem(array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]].view()))?;
///
/// let reshaped: Array2<f64> = channel.receive::<ArrayItem<_, _>>()?.0;
/// assert_eq!(reshaped, array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]);
/// # Ok(())
/// # }
/// ```
pub struct ArrayItem<S: RawData, D>(pub ArrayBase<S, D>);

impl<S: Data<Elem: Element>, D: Dimension> Serialize for ArrayItem<S, D> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        let standard = self.0.as_standard_layout();
        let elements = standard.as_slice().unwrap_or_default();
        (S::Elem::DTYPE, self.0.shape(), Bytes(bytemuck::cast_slice(elements))).serialize(serializer)
    }
}

impl<'de, A: Element, D: Dimension> Deserialize<'de> for ArrayItem<OwnedRepr<A>, D> {
    fn deserialize<Z: Deserializer<'de>>(deserializer: Z) -> Result<Self, Z::Error> {
        let (Dtype::<A>(_), shape, Elements(elements)) =
            <(Dtype<A>, Vec<usize>, Elements<A>)>::deserialize(deserializer)?;
        let (dimensions, count) = (shape.len(), elements.len());
        let array = ndarray::Array::from_shape_vec(IxDyn(&shape), elements).map_err(|_| {
            de::Error::custom(format_args!("an array of the shape {shape:?} does not have {count} elements"))
        })?;
        let array = array.into_dimensionality().map_err(|_| {
            let expected = D::NDIM.unwrap_or_default();
            de::Error::custom(format_args!(
                "an array of {dimensions} dimensions, where one of {expected} was to come"
            ))
        })?;
        Ok(Self(array))
    }
}

impl<S: RawDataClone, D: Clone> Clone for ArrayItem<S, D> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Data<Elem: PartialEq>, D: Dimension> PartialEq for ArrayItem<S, D> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<S: Data<Elem: fmt::Debug>, D: Dimension> fmt::Debug for ArrayItem<S, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Why a worker does not make arrays of NumPy of what it receives.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NumpyError {
    /// The gateway has ended.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// The worker has no NumPy, or ended.
    #[error("the worker cannot use NumPy: {0}")]
    Worker(#[from] ReceiveError),
}

impl Gateway {
    /// Has the code of the worker receive arrays of NumPy, and send them, where this side has [`ArrayItem`]s: on all channels that are made from
    /// now on.
    ///
    /// What it receives can only be read there. Arguments of [`remote_exec`](Self::remote_exec), and calls, are not affected. A worker that is a
    /// Rust program has arrays of its own, and is asked for nothing.
    ///
    /// ```no_run
    /// use farexec::ArrayItem;
    /// use ndarray::{Array2, array};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = farexec::Group::new();
    /// let gateway = group.make_gateway("popen//python=python3")?; // which has NumPy
    /// gateway.use_numpy()?;
    /// let channel = gateway.remote_exec("for matrix in channel: channel.send(matrix @ matrix.T)")?;
    /// channel.send(&ArrayItem(array![[1.0, 2.0], [3.0, 4.0]]))?;
    /// let product: Array2<f64> = channel.receive::<ArrayItem<_, _>>()?.0;
    /// assert_eq!(product, array![[5.0, 11.0], [11.0, 25.0]]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`NumpyError`]; then channels are as before.
    pub fn use_numpy(&self) -> Result<(), NumpyError> {
        match self.ask_to_use_numpy()? {
            Some(channel) => Ok(channel.wait_close(&Wait::forever())?),
            None => Ok(()),
        }
    }

    /// Does so, as [`use_numpy`](Self::use_numpy).
    ///
    /// # Errors
    /// [`NumpyError`]
    pub async fn use_numpy_async(&self) -> Result<(), NumpyError> {
        match self.ask_to_use_numpy()? {
            Some(channel) => Ok(channel.wait_close_async().await?),
            None => Ok(()),
        }
    }

    /// Asks a worker that is an interpreter; the channel ends when it has done it.
    fn ask_to_use_numpy(&self) -> Result<Option<Channel>, ExecError> {
        if self.hello().implementation == "rust" {
            return Ok(None);
        }
        let source = Source::text(CODECS).at("<farexec codecs>", 1).call("install");
        let source = source.with("kind", "numpy").with("content", Value::None).with("target", Value::None);
        self.remote_exec(source.beside()).map(Some)
    }
}

struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        serializer.serialize_bytes(self.0)
    }
}

struct Dtype<A>(PhantomData<A>);

impl<'de, A: Element> Deserialize<'de> for Dtype<A> {
    fn deserialize<Z: Deserializer<'de>>(deserializer: Z) -> Result<Self, Z::Error> {
        let name = String::deserialize(deserializer)?;
        if name == A::DTYPE {
            return Ok(Self(PhantomData));
        }
        Err(de::Error::custom(format_args!("an array of `{name}`, where one of `{}` was to come", A::DTYPE)))
    }
}

struct Elements<A>(Vec<A>);

impl<'de, A: Element> Deserialize<'de> for Elements<A> {
    fn deserialize<Z: Deserializer<'de>>(deserializer: Z) -> Result<Self, Z::Error> {
        deserializer.deserialize_bytes(OfBytes(PhantomData))
    }
}

struct OfBytes<A>(PhantomData<A>);

impl<A: Element> Visitor<'_> for OfBytes<A> {
    type Value = Elements<A>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        if !bytes.len().is_multiple_of(size_of::<A>()) {
            let message = format_args!("{} bytes are no whole number of `{}`", bytes.len(), A::DTYPE);
            return Err(E::custom(message));
        }
        // They may lie anywhere, elements not.
        Ok(Elements(bytemuck::pod_collect_to_vec(bytes)))
    }
}
