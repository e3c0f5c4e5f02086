//! The reading side's face: [`Build`], what makes objects of what the readers find.

use std::fmt;
use std::vec::Drain;

use crate::ChannelId;

/// Makes objects, of whatever object model, of what a reader finds in a payload that lives for `'p`.
///
/// Elements come as the drained end of the reader's stack, so that a list can be allocated once, at its length; those of a
/// dict are key, value, key, value. The reader has checked the nesting, and that keys and elements of sets are hashable in Python's
/// sense. Equal keys and elements come as often as they were sent: the last one counts, as in Python.
#[allow(clippy::missing_errors_doc, reason = "all methods: whatever the object model cannot have")]
pub trait Build<'p> {
    /// An object, complete or still to be extended.
    type Object;

    /// `None`.
    fn none(&mut self) -> Result<Self::Object, BuildError>;
    /// `True` or `False`.
    fn bool(&mut self, value: bool) -> Result<Self::Object, BuildError>;
    /// An int.
    fn int(&mut self, value: i64) -> Result<Self::Object, BuildError>;
    /// An int that does not fit into 64 bits, in two's complement, little-endian.
    fn big_int(&mut self, little_endian: &[u8]) -> Result<Self::Object, BuildError>;
    /// A float.
    fn float(&mut self, value: f64) -> Result<Self::Object, BuildError>;
    /// A complex number.
    fn complex(&mut self, real: f64, imaginary: f64) -> Result<Self::Object, BuildError>;
    /// A str.
    fn str(&mut self, text: Text<'p>) -> Result<Self::Object, BuildError>;
    /// A str that is a key of a dict, as far as the reader can tell. The same few come again and again, so it can be worth while
    /// to make each of them once.
    #[inline]
    fn key(&mut self, text: Text<'p>) -> Result<Self::Object, BuildError> {
        self.str(text)
    }
    /// A str that does not stand in the payload as it is: one of Python 2, beyond ASCII.
    fn converted_str(&mut self, value: String) -> Result<Self::Object, BuildError>;
    /// A bytes object.
    fn bytes(&mut self, value: &'p [u8]) -> Result<Self::Object, BuildError>;
    /// A channel.
    fn channel(&mut self, id: ChannelId) -> Result<Self::Object, BuildError>;

    /// A tuple.
    fn tuple(&mut self, items: Drain<'_, Self::Object>) -> Result<Self::Object, BuildError>;
    /// A list.
    fn list(&mut self, items: Drain<'_, Self::Object>) -> Result<Self::Object, BuildError>;
    /// A dict.
    fn dict(&mut self, entries: Drain<'_, Self::Object>) -> Result<Self::Object, BuildError>;
    /// A set.
    fn set(&mut self, items: Drain<'_, Self::Object>) -> Result<Self::Object, BuildError>;
    /// A frozenset.
    fn frozen_set(&mut self, items: Drain<'_, Self::Object>) -> Result<Self::Object, BuildError>;

    /// Room for the objects that are in no container yet, if the builder has some left over from an item before.
    #[inline]
    fn take_stack(&mut self) -> Vec<Self::Object> {
        Vec::new()
    }
    /// Gets that room back, with nothing in it.
    #[inline]
    fn keep_stack(&mut self, stack: Vec<Self::Object>) {
        drop(stack);
    }

    /// Appends to a list that [`list`](Self::list) made.
    fn append(&mut self, list: &mut Self::Object, item: Self::Object) -> Result<(), BuildError>;
    /// Adds an entry to a dict that [`dict`](Self::dict) made.
    fn insert(
        &mut self,
        dict: &mut Self::Object,
        key: Self::Object,
        value: Self::Object,
    ) -> Result<(), BuildError>;
    /// Adds an element to a set that [`set`](Self::set) made.
    fn add(&mut self, set: &mut Self::Object, item: Self::Object) -> Result<(), BuildError>;
}

/// The bytes of a string. Whether they are UTF-8 is for the builder to find out: most object models look for themselves, and once is
/// enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<'p>(&'p [u8]);

impl<'p> Text<'p> {
    #[inline]
    pub(super) fn new(bytes: &'p [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes, of which nothing is known.
    #[must_use]
    #[inline]
    pub fn as_bytes(self) -> &'p [u8] {
        self.0
    }

    /// The string.
    ///
    /// # Errors
    /// [`BuildError::NotUtf8`].
    #[inline]
    pub fn to_str(self) -> Result<&'p str, BuildError> {
        std::str::from_utf8(self.0).map_err(|_| BuildError::NotUtf8)
    }
}

/// The object model cannot have an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A [`Text`] is none; lone surrogates are not UTF-8.
    #[error("a string that is not UTF-8")]
    NotUtf8,
    /// What the object model says.
    #[error("{0}")]
    Refused(Box<str>),
}

impl BuildError {
    /// An error with that text.
    #[cold]
    pub fn new(text: impl fmt::Display) -> Self {
        Self::Refused(text.to_string().into())
    }
}

/// What becomes of strings that the dump format tells apart, and the other major version of Python does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StringCoercion {
    /// Whether a `str` of Python 2 (opcode `M`), which may have been text or bytes, becomes a str, decoded as latin-1; otherwise it becomes
    /// bytes.
    pub py2str_as_py3str: bool,
    /// Whether a `str` of Python 3 (opcode `N`) becomes what Python 2 calls `str`: bytes, in UTF-8.
    pub py3str_as_py2str: bool,
}

impl StringCoercion {
    /// Text is a str wherever it may be text.
    pub const DEFAULT: Self = Self { py2str_as_py3str: true, py3str_as_py2str: false };
}

impl Default for StringCoercion {
    fn default() -> Self {
        Self::DEFAULT
    }
}
