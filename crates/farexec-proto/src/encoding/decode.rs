//! The reading side's way in, and why bytes cannot be decoded.

use std::fmt;

use super::build::{Build, BuildError, StringCoercion};
use super::path::{Path, Segment};
use super::{dump, message};
use crate::limits::{MAX_DECIMAL_DIGITS, MAX_NESTING};

/// How a payload is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// A closed subset of pickle, for everything without channels or complex numbers in it.
    Message,
    /// The format of stored data, without its version byte.
    Dump,
}

/// Makes an object of a payload.
///
/// ```
/// use farexec_proto::encoding::{StringCoercion, decode};
/// use farexec_proto::{Encoding, Value, ValueBuilder};
///
/// let coercion = StringCoercion::default();
/// let value = decode(Encoding::Message, b"\x80\x04]\x94(K\x01\x8c\x01ae.", coercion, &mut ValueBuilder)?;
/// assert_eq!(value, Value::List(vec![Value::Int(1), Value::from("a")]));
/// # Ok::<(), farexec_proto::encoding::DecodeError>(())
/// ```
///
/// # Errors
/// [`DecodeError`] if the bytes are not exactly one item, or the builder refuses a part of it.
pub fn decode<'p, B: Build<'p>>(
    encoding: Encoding,
    payload: &'p [u8],
    coercion: StringCoercion,
    builder: &mut B,
) -> Result<B::Object, DecodeError> {
    match encoding {
        Encoding::Message => message::decode(payload, builder),
        Encoding::Dump => dump::decode(payload, coercion, builder),
    }
}

/// Bytes are not an item, or not one of the kind that was asked for.
// One word, as `EncodeError` is.
pub struct DecodeError(Box<Inner>);

struct Inner {
    kind: DecodeErrorKind,
    offset: Option<usize>,
    path: Path,
}

/// What is wrong with a payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// It ends too early.
    #[error("the data ends where {0} should follow")]
    Truncated(&'static str),
    /// It goes on after its end.
    #[error("{0} bytes follow the end of the object")]
    Trailing(usize),
    /// It has a byte where an opcode should be, and is none.
    #[error("{0:#04x} is not an opcode")]
    UnknownOpcode(u8),
    /// It is a pickle that would run code.
    #[error("the stream tries to name code ({0}), which is never allowed")]
    NamesCode(&'static str),
    /// It is a pickle that does more than the message encoding may.
    #[error("the opcode {0} is not part of the message encoding")]
    NotPlainData(&'static str),
    /// It is of a later version of its format.
    #[error("version {0} of the format is not known")]
    Version(u8),
    /// Its opcodes do not make an object.
    #[error("{0}")]
    Malformed(&'static str),
    /// A length in it is negative.
    #[error("the length {0} is negative")]
    NegativeLength(i32),
    /// A long int in it is not decimal digits.
    #[error("an int that is not decimal digits")]
    NotDecimal,
    /// A long int in it has too many digits.
    #[error("an int of more than {MAX_DECIMAL_DIGITS} decimal digits")]
    IntTooLong,
    /// It is nested too deeply.
    #[error("containers nested more than {MAX_NESTING} levels deep")]
    TooDeep,
    /// It has a key of a dict, or an element of a set, that cannot be one.
    #[error("unhashable type: '{0}'")]
    Unhashable(&'static str),
    /// A string in it is not UTF-8; lone surrogates are not.
    #[error("a string that is not UTF-8")]
    NotUtf8,
    /// The object model cannot have a part of it.
    #[error(transparent)]
    Build(BuildError),
    /// It is another kind of item than was asked for.
    #[error("{0}")]
    Mismatch(String),
}

impl From<BuildError> for DecodeErrorKind {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::NotUtf8 => Self::NotUtf8,
            BuildError::Refused(_) => Self::Build(error),
        }
    }
}

impl DecodeError {
    /// An error about the bytes at that offset.
    #[cold]
    pub(crate) fn at(offset: usize, kind: DecodeErrorKind) -> Self {
        Self(Box::new(Inner { kind, offset: Some(offset), path: Path::default() }))
    }

    /// The bytes are an item, but not the one that was asked for.
    #[cold]
    pub(crate) fn mismatch(text: String) -> Self {
        let kind = DecodeErrorKind::Mismatch(text);
        Self(Box::new(Inner { kind, offset: None, path: Path::default() }))
    }

    #[cold]
    #[must_use]
    pub(crate) fn within(mut self, segment: Segment) -> Self {
        self.0.path.enclose(segment);
        self
    }

    /// What is wrong.
    #[must_use]
    pub fn kind(&self) -> &DecodeErrorKind {
        &self.0.kind
    }

    /// Where in the payload, if it is the bytes that are wrong.
    #[must_use]
    pub fn offset(&self) -> Option<usize> {
        self.0.offset
    }

    /// Which part of the item, if it is a good one of the wrong kind.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.offset {
            Some(offset) => write!(f, "cannot decode byte {offset}: {}", self.0.kind),
            None => write!(f, "cannot decode {}: {}", self.0.path, self.0.kind),
        }
    }
}

impl fmt::Debug for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, offset, path } = &*self.0;
        f.debug_struct("DecodeError").field("kind", kind).field("offset", offset).field("path", path).finish()
    }
}

impl PartialEq for DecodeError {
    fn eq(&self, other: &Self) -> bool {
        self.0.kind == other.0.kind && self.0.offset == other.0.offset && self.0.path == other.0.path
    }
}

impl std::error::Error for DecodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.kind {
            DecodeErrorKind::Build(error) => Some(error),
            _ => None,
        }
    }
}
