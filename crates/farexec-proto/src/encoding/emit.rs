//! The writing side's two faces: [`Encode`], what can be written, and [`Emit`], what writes it.

use super::decode::Encoding;
use super::encode::{EncodeError, EncodeErrorKind};
use super::{dump, message};
use crate::ChannelId;

/// What can be written in either encoding, by describing itself to an [`Emit`].
pub trait Encode {
    /// Describes the object: exactly one scalar, or one container from its `begin` to its `end`.
    ///
    /// # Errors
    /// [`EncodeError`] if a part of the object is not plain data. Add each container's segment while it passes.
    fn encode<E: Emit>(&self, emit: &mut E) -> Result<(), EncodeError>;
}

impl<T: Encode + ?Sized> Encode for &T {
    fn encode<E: Emit>(&self, emit: &mut E) -> Result<(), EncodeError> {
        (**self).encode(emit)
    }
}

/// The writer of either encoding.
///
/// A container is its `begin`, its contents, its `end`; both are given the exact number of elements or entries.
///
/// | container | contents |
/// | --- | --- |
/// | tuple, set, frozenset | each element |
/// | list | for each element: [`list_index`](Self::list_index), the element, [`list_item`](Self::list_item); or, for an int, [`list_int`](Self::list_int) |
/// | dict | for each entry: the key, the value, [`dict_entry`](Self::dict_entry) |
///
/// ```
/// use farexec_proto::encoding::{Emit, Encode, EncodeError, dump};
///
/// struct Point(i64, i64);
///
/// impl Encode for Point {
///     fn encode<E: Emit>(&self, emit: &mut E) -> Result<(), EncodeError> {
///         emit.begin_tuple(2)?;
///         emit.int(self.0)?;
///         emit.int(self.1)?;
///         emit.end_tuple(2)
///     }
/// }
///
/// assert_eq!(dump::dumps(&Point(1, 2))?, b"\x02F\0\0\0\x01F\0\0\0\x02@\0\0\0\x02Q");
/// # Ok::<(), EncodeError>(())
/// ```
#[allow(
    clippy::missing_errors_doc,
    reason = "all methods: nested too deeply, too long, or for the other encoding"
)]
pub trait Emit {
    /// `None`.
    fn none(&mut self) -> Result<(), EncodeError>;
    /// `True` or `False`.
    fn bool(&mut self, value: bool) -> Result<(), EncodeError>;
    /// An int.
    fn int(&mut self, value: i64) -> Result<(), EncodeError>;
    /// An int of any size, in two's complement, little-endian. It may be longer than need be.
    fn big_int(&mut self, little_endian: &[u8]) -> Result<(), EncodeError>;
    /// A float.
    fn float(&mut self, value: f64) -> Result<(), EncodeError>;
    /// A complex number.
    fn complex(&mut self, real: f64, imaginary: f64) -> Result<(), EncodeError>;
    /// A str.
    fn str(&mut self, value: &str) -> Result<(), EncodeError>;
    /// A bytes object.
    fn bytes(&mut self, value: &[u8]) -> Result<(), EncodeError>;
    /// A channel.
    fn channel(&mut self, id: ChannelId) -> Result<(), EncodeError>;

    /// Begins a tuple.
    fn begin_tuple(&mut self, len: usize) -> Result<(), EncodeError>;
    /// Ends a tuple.
    fn end_tuple(&mut self, len: usize) -> Result<(), EncodeError>;

    /// Begins a list.
    fn begin_list(&mut self, len: usize) -> Result<(), EncodeError>;
    /// Announces the element of that index.
    fn list_index(&mut self, index: usize) -> Result<(), EncodeError>;
    /// An element of the list is complete.
    fn list_item(&mut self) -> Result<(), EncodeError>;
    /// The element of that index, an int, in one call for three: long lists are mostly of ints.
    #[inline]
    fn list_int(&mut self, index: usize, value: i64) -> Result<(), EncodeError> {
        self.list_index(index)?;
        self.int(value)?;
        self.list_item()
    }
    /// Ends a list.
    fn end_list(&mut self, len: usize) -> Result<(), EncodeError>;
    /// Begins a list whose length shows at its end. Returns what [`end_unsized_list`](Self::end_unsized_list) wants back.
    fn begin_unsized_list(&mut self) -> Result<usize, EncodeError>;
    /// Ends a list begun by [`begin_unsized_list`](Self::begin_unsized_list).
    fn end_unsized_list(&mut self, begun: usize, len: usize) -> Result<(), EncodeError>;

    /// Begins a dict. If the number of entries is not known, any number but 0 will do, at both ends.
    fn begin_dict(&mut self, len: usize) -> Result<(), EncodeError>;
    /// An entry of the dict, its key and its value, is complete.
    fn dict_entry(&mut self) -> Result<(), EncodeError>;
    /// Ends a dict.
    fn end_dict(&mut self, len: usize) -> Result<(), EncodeError>;

    /// Begins a set.
    fn begin_set(&mut self, len: usize) -> Result<(), EncodeError>;
    /// Ends a set.
    fn end_set(&mut self, len: usize) -> Result<(), EncodeError>;

    /// Begins a frozenset.
    fn begin_frozen_set(&mut self, len: usize) -> Result<(), EncodeError>;
    /// Ends a frozenset.
    fn end_frozen_set(&mut self, len: usize) -> Result<(), EncodeError>;
}

/// Appends an item in the message encoding or, if it has a channel or a complex number in it, in the dump format; says in
/// which.
///
/// ```
/// use farexec_proto::encoding::encode_item;
/// use farexec_proto::{Encoding, Value};
///
/// let mut payload = Vec::new();
/// assert_eq!(encode_item(&Value::Int(1), &mut payload)?, Encoding::Message);
/// assert_eq!(encode_item(&Value::Complex(0.0, 1.0), &mut payload)?, Encoding::Dump);
/// # Ok::<(), farexec_proto::encoding::EncodeError>(())
/// ```
///
/// # Errors
/// [`EncodeError`]; nothing is appended then.
pub fn encode_item(item: &(impl Encode + ?Sized), out: &mut Vec<u8>) -> Result<Encoding, EncodeError> {
    match message::encode(item, out) {
        Ok(()) => Ok(Encoding::Message),
        Err(error) if *error.kind() == EncodeErrorKind::NeedsDump => {
            dump::encode(item, out)?;
            Ok(Encoding::Dump)
        }
        Err(error) => Err(error),
    }
}

/// Appends what `write` writes, or nothing if it fails.
pub(super) fn all_or_nothing(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    let result = write(out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// The bytes of an int without those that only repeat its sign.
pub(super) fn trim(mut little_endian: &[u8]) -> &[u8] {
    while let [rest @ .., below, top] = little_endian {
        let redundant = (*top == 0 && *below < 0x80) || (*top == 0xff && *below >= 0x80);
        if !redundant {
            break;
        }
        little_endian = &little_endian[..rest.len() + 1];
    }
    little_endian
}

/// A trimmed int as a machine word, if it fits.
pub(super) fn as_word(little_endian: &[u8]) -> Option<i64> {
    let negative = little_endian.last().is_some_and(|top| *top >= 0x80);
    let mut word = [if negative { 0xff } else { 0 }; 8];
    word.get_mut(..little_endian.len())?.copy_from_slice(little_endian);
    Some(i64::from_le_bytes(word))
}
