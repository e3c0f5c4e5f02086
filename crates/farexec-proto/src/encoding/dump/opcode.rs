//! The opcodes of the dump format, named after what they put on the stack.

pub(super) const NONE: u8 = b'L';
pub(super) const TRUE: u8 = b'R';
pub(super) const FALSE: u8 = b'C';
pub(super) const INT: u8 = b'F';
pub(super) const PY2_LONG: u8 = b'G';
pub(super) const LONG_INT: u8 = b'H';
pub(super) const PY2_LONG_LONG: u8 = b'I';
pub(super) const FLOAT: u8 = b'D';
pub(super) const COMPLEX: u8 = b'T';
pub(super) const BYTES: u8 = b'A';
pub(super) const STR: u8 = b'N';
pub(super) const PY2_UNICODE: u8 = b'S';
pub(super) const PY2_STR: u8 = b'M';
pub(super) const LIST: u8 = b'K';
pub(super) const DICT: u8 = b'J';
pub(super) const SET_ITEM: u8 = b'P';
pub(super) const TUPLE: u8 = b'@';
pub(super) const SET: u8 = b'O';
pub(super) const FROZEN_SET: u8 = b'E';
pub(super) const CHANNEL: u8 = b'B';
pub(super) const END: u8 = b'Q';

/// The first byte of stored data.
pub(super) const VERSION: u8 = 2;
