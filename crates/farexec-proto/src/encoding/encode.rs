//! Why an item cannot be encoded, and where in it the reason is.

use std::fmt;

use super::path::{Path, Segment};
use crate::limits::{MAX_DECIMAL_DIGITS, MAX_NESTING, MAX_PAYLOAD};

/// An item, or a part of it, cannot be encoded.
///
/// ```
/// use farexec_proto::encoding::EncodeError;
///
/// let error = EncodeError::unsupported("Foo").at_index(3).at_key("'x'");
/// assert_eq!(error.to_string(), "cannot encode data['x'][3]: object of type `Foo`");
/// ```
// One word, so that the result of each of an encoder's many small calls stays in a register.
pub struct EncodeError(Box<Inner>);

struct Inner {
    kind: EncodeErrorKind,
    path: Path,
}

/// What is wrong with the part of an item that cannot be encoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeErrorKind {
    /// It is an object of another type than the plain data types.
    #[error("object of type `{0}`")]
    Unsupported(String),
    /// It is nested too deeply, or contains itself.
    #[error("containers nested more than {MAX_NESTING} levels deep")]
    TooDeep,
    /// It is a string with lone surrogates.
    #[error("a string that has no UTF-8 form, because of lone surrogates in it")]
    Surrogates,
    /// It is an int with more digits than the dump format may have.
    #[error("an int of more than {MAX_DECIMAL_DIGITS} decimal digits")]
    IntTooLong,
    /// It has more bytes or elements than can be counted.
    #[error("length of {0}, where {MAX_PAYLOAD} is the limit")]
    TooLong(usize),
    /// The message encoding has no place for it; [`encode_item`](super::encode_item) takes the dump format then.
    #[error("channels and complex numbers have no place in the message encoding")]
    NeedsDump,
    /// What the object's own code said.
    #[error("{0}")]
    Custom(String),
}

impl EncodeError {
    /// An error about the object at hand.
    #[cold]
    pub fn new(kind: EncodeErrorKind) -> Self {
        Self(Box::new(Inner { kind, path: Path::default() }))
    }

    /// The object at hand is of a type that is not plain data.
    #[cold]
    pub fn unsupported(type_name: impl Into<String>) -> Self {
        Self::new(EncodeErrorKind::Unsupported(type_name.into()))
    }

    /// The same error about an object whose type has that name, which was not known before.
    #[cold]
    #[must_use]
    pub fn of_type(mut self, type_name: impl Into<String>) -> Self {
        self.0.kind = EncodeErrorKind::Unsupported(type_name.into());
        self
    }

    /// Anything else that keeps the object at hand from being encoded.
    #[cold]
    pub fn custom(text: impl fmt::Display) -> Self {
        Self::new(EncodeErrorKind::Custom(text.to_string()))
    }

    /// The same error, seen from the list or tuple around.
    #[cold]
    #[must_use]
    pub fn at_index(self, index: usize) -> Self {
        self.within(Segment::Index(index))
    }

    /// The same error, seen from the dict around; `key` as Python would print it.
    #[cold]
    #[must_use]
    pub fn at_key(self, key: impl Into<String>) -> Self {
        self.within(Segment::Value(key.into()))
    }

    /// The same error, seen from the container around.
    #[cold]
    #[must_use]
    pub fn within(mut self, segment: Segment) -> Self {
        self.0.path.enclose(segment);
        self
    }

    /// What is wrong.
    #[must_use]
    pub fn kind(&self) -> &EncodeErrorKind {
        &self.0.kind
    }

    /// The part that it is about.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

impl From<EncodeErrorKind> for EncodeError {
    fn from(kind: EncodeErrorKind) -> Self {
        Self::new(kind)
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot encode {}: {}", self.0.path, self.0.kind)
    }
}

impl fmt::Debug for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncodeError").field("kind", &self.0.kind).field("path", &self.0.path).finish()
    }
}

impl PartialEq for EncodeError {
    fn eq(&self, other: &Self) -> bool {
        self.0.kind == other.0.kind && self.0.path == other.0.path
    }
}

impl std::error::Error for EncodeError {}
