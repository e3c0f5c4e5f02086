//! The bytes a reader reads: never past their end, and every error with its offset.

use super::build::Text;
use super::decode::{DecodeError, DecodeErrorKind};

pub(super) struct Input<'p> {
    bytes: &'p [u8],
    at: usize,
    opcode_at: usize,
}

impl<'p> Input<'p> {
    pub(super) fn new(bytes: &'p [u8]) -> Self {
        Self { bytes, at: 0, opcode_at: 0 }
    }

    /// The next opcode, which errors are about from then on.
    #[inline]
    pub(super) fn opcode(&mut self) -> Result<u8, DecodeError> {
        self.opcode_at = self.at;
        self.byte("an opcode")
    }

    #[inline]
    pub(super) fn byte(&mut self, expected: &'static str) -> Result<u8, DecodeError> {
        match self.bytes.get(self.at) {
            Some(byte) => {
                self.at += 1;
                Ok(*byte)
            }
            None => Err(self.truncated(expected)),
        }
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self, expected: &'static str) -> Result<[u8; N], DecodeError> {
        match self.rest().first_chunk::<N>() {
            Some(array) => {
                self.at += N;
                Ok(*array)
            }
            None => Err(self.truncated(expected)),
        }
    }

    #[inline]
    pub(super) fn take(&mut self, length: usize, expected: &'static str) -> Result<&'p [u8], DecodeError> {
        match self.rest().get(..length) {
            Some(bytes) => {
                self.at += length;
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
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Skips bytes that [`rest`](Self::rest) has shown.
    #[inline]
    pub(super) fn skip(&mut self, count: usize) {
        self.at += count;
    }

    /// Whether the opcode at hand is the first one.
    pub(super) fn at_start(&self) -> bool {
        self.opcode_at == 0
    }

    /// Makes sure that nothing is left.
    pub(super) fn finish(&self) -> Result<(), DecodeError> {
        match self.rest().len() {
            0 => Ok(()),
            left => Err(DecodeError::at(self.at, DecodeErrorKind::Trailing(left))),
        }
    }

    /// An error about the opcode at hand.
    #[cold]
    pub(super) fn error(&self, kind: impl Into<DecodeErrorKind>) -> DecodeError {
        DecodeError::at(self.opcode_at, kind.into())
    }

    #[cold]
    fn truncated(&self, expected: &'static str) -> DecodeError {
        DecodeError::at(self.bytes.len(), DecodeErrorKind::Truncated(expected))
    }
}
