//! The bytes a reader reads: never past their end, and every error with its offset.

use super::build::Text;
use super::decode::{DecodeError, DecodeErrorKind};

pub(super) struct Input<'p> {
    /// What was not read yet.
    rest: &'p [u8],
    length: usize,
    /// The length of `rest` before the opcode at hand: offsets are counted from the end, since only errors ask for them.
    left_at_opcode: usize,
}

impl<'p> Input<'p> {
    pub(super) fn new(bytes: &'p [u8]) -> Self {
        Self { rest: bytes, length: bytes.len(), left_at_opcode: bytes.len() }
    }

    /// The next opcode, which errors are about from then on.
    #[inline]
    pub(super) fn opcode(&mut self) -> Result<u8, DecodeError> {
        self.left_at_opcode = self.rest.len();
        self.byte("an opcode")
    }

    #[inline]
    pub(super) fn byte(&mut self, expected: &'static str) -> Result<u8, DecodeError> {
        self.array(expected).map(|[byte]| byte)
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self, expected: &'static str) -> Result<[u8; N], DecodeError> {
        match self.rest.split_first_chunk::<N>() {
            Some((array, rest)) => {
                self.rest = rest;
                Ok(*array)
            }
            None => Err(self.truncated(expected)),
        }
    }

    #[inline]
    pub(super) fn take(&mut self, length: usize, expected: &'static str) -> Result<&'p [u8], DecodeError> {
        match self.rest.split_at_checked(length) {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(bytes)
            }
            None => Err(self.truncated(expected)),
        }
    }

    #[inline]
    pub(super) fn text(&mut self, length: usize) -> Result<Text<'p>, DecodeError> {
        self.take(length, "the bytes of a string").map(Text::new)
    }

    /// What was not read yet.
    #[inline]
    pub(super) fn rest(&self) -> &'p [u8] {
        self.rest
    }

    /// Goes on with the end of what [`rest`](Self::rest) has shown.
    #[inline]
    pub(super) fn go_on_with(&mut self, rest: &'p [u8]) {
        self.rest = rest;
    }

    /// Whether the opcode at hand is the first one.
    pub(super) fn at_start(&self) -> bool {
        self.left_at_opcode == self.length
    }

    /// Makes sure that nothing is left.
    pub(super) fn finish(&self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(DecodeError::at(self.length - left, DecodeErrorKind::Trailing(left))),
        }
    }

    /// An error about the opcode at hand.
    #[cold]
    pub(super) fn error(&self, kind: impl Into<DecodeErrorKind>) -> DecodeError {
        DecodeError::at(self.length - self.left_at_opcode, kind.into())
    }

    #[cold]
    fn truncated(&self, expected: &'static str) -> DecodeError {
        DecodeError::at(self.length, DecodeErrorKind::Truncated(expected))
    }
}
