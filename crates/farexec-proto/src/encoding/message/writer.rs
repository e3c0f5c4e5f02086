//! Writes the message encoding.

use super::opcode;
use crate::ChannelId;
use crate::encoding::emit::{Emit, Encode, all_or_nothing, as_word, trim};
use crate::encoding::{EncodeError, EncodeErrorKind};
use crate::limits::{MAX_NESTING, MAX_PAYLOAD};

/// Appends an item in the message encoding.
///
/// ```
/// use farexec_proto::encoding::message;
/// use farexec_proto::{Value, ValueBuilder};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut payload = Vec::new();
/// message::encode(&Value::from("text"), &mut payload)?;
/// assert_eq!(message::decode(&payload, &mut ValueBuilder)?, Value::from("text"));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`EncodeError`]; of the kind [`EncodeErrorKind::NeedsDump`] if there is a channel or a complex number in the item. Nothing is
/// appended then.
pub fn encode(item: &(impl Encode + ?Sized), out: &mut Vec<u8>) -> Result<(), EncodeError> {
    all_or_nothing(out, |out| {
        out.extend_from_slice(&[opcode::PROTO, opcode::PROTOCOL]);
        item.encode(&mut Writer { out, depth: 0 })?;
        out.push(opcode::STOP);
        Ok(())
    })
}

/// What stands before and behind many bytes that are an item by themselves, for who sends them from where they are.
///
/// ```
/// use farexec_proto::encoding::message;
/// use farexec_proto::{Value, ValueBuilder};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bytes = vec![7; 100_000];
/// let (opening, closing) = message::around_bytes(bytes.len())?;
/// let payload = [&opening[..], &bytes, &closing].concat();
/// assert_eq!(message::decode(&payload, &mut ValueBuilder)?, Value::Bytes(bytes));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`EncodeErrorKind::TooLong`].
pub fn around_bytes(len: usize) -> Result<([u8; 5], [u8; 1]), EncodeError> {
    let length = u32::try_from(len).ok().filter(|_| len <= MAX_PAYLOAD);
    let [a, b, c, d] = length.ok_or(EncodeErrorKind::TooLong(len))?.to_le_bytes();
    Ok(([opcode::BINBYTES, a, b, c, d], [opcode::STOP]))
}

/// The [`Emit`] of the message encoding.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    depth: usize,
}

impl Writer<'_> {
    #[inline]
    fn begin(&mut self, opcodes: &[u8]) -> Result<(), EncodeError> {
        if self.depth == MAX_NESTING {
            return Err(EncodeErrorKind::TooDeep.into());
        }
        self.depth += 1;
        self.out.extend_from_slice(opcodes);
        Ok(())
    }

    #[inline]
    #[allow(clippy::unnecessary_wraps, reason = "the last expression of each of its callers")]
    fn end(&mut self, opcodes: &[u8]) -> Result<(), EncodeError> {
        self.depth -= 1;
        self.out.extend_from_slice(opcodes);
        Ok(())
    }

    /// A string of either kind, under the opcode for its length.
    #[inline]
    fn sized(&mut self, short: u8, long: u8, bytes: &[u8]) -> Result<(), EncodeError> {
        self.out.reserve(bytes.len() + 5);
        if let Ok(length) = u8::try_from(bytes.len()) {
            self.out.extend_from_slice(&[short, length]);
        } else {
            self.long_header(long, bytes.len())?;
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn long_header(&mut self, opcode: u8, length: usize) -> Result<(), EncodeError> {
        let counted = u32::try_from(length).ok().filter(|_| length <= MAX_PAYLOAD);
        let [b0, b1, b2, b3] = counted.ok_or(EncodeErrorKind::TooLong(length))?.to_le_bytes();
        self.out.extend_from_slice(&[opcode, b0, b1, b2, b3]);
        Ok(())
    }
}

impl Emit for Writer<'_> {
    #[inline]
    fn none(&mut self) -> Result<(), EncodeError> {
        self.out.push(opcode::NONE);
        Ok(())
    }

    #[inline]
    fn bool(&mut self, value: bool) -> Result<(), EncodeError> {
        self.out.push(if value { opcode::NEWTRUE } else { opcode::NEWFALSE });
        Ok(())
    }

    #[inline]
    fn int(&mut self, value: i64) -> Result<(), EncodeError> {
        if let Ok(value) = u8::try_from(value) {
            self.out.extend_from_slice(&[opcode::BININT1, value]);
        } else if let Ok(value) = u16::try_from(value) {
            let [b0, b1] = value.to_le_bytes();
            self.out.extend_from_slice(&[opcode::BININT2, b0, b1]);
        } else if let Ok(value) = i32::try_from(value) {
            let [b0, b1, b2, b3] = value.to_le_bytes();
            self.out.extend_from_slice(&[opcode::BININT, b0, b1, b2, b3]);
        } else {
            return self.big_int(&value.to_le_bytes());
        }
        Ok(())
    }

    fn big_int(&mut self, little_endian: &[u8]) -> Result<(), EncodeError> {
        let bytes = trim(little_endian);
        match as_word(bytes) {
            Some(value) if i32::try_from(value).is_ok() => self.int(value),
            _ => self.sized(opcode::LONG1, opcode::LONG4, bytes),
        }
    }

    #[inline]
    fn float(&mut self, value: f64) -> Result<(), EncodeError> {
        let mut bytes = [opcode::BINFLOAT; 9];
        bytes[1..].copy_from_slice(&value.to_be_bytes());
        self.out.extend_from_slice(&bytes);
        Ok(())
    }

    #[cold]
    fn complex(&mut self, _: f64, _: f64) -> Result<(), EncodeError> {
        Err(EncodeErrorKind::NeedsDump.into())
    }

    #[inline]
    fn str(&mut self, value: &str) -> Result<(), EncodeError> {
        self.sized(opcode::SHORT_BINUNICODE, opcode::BINUNICODE, value.as_bytes())
    }

    #[inline]
    fn bytes(&mut self, value: &[u8]) -> Result<(), EncodeError> {
        self.sized(opcode::SHORT_BINBYTES, opcode::BINBYTES, value)
    }

    #[cold]
    fn channel(&mut self, _: ChannelId) -> Result<(), EncodeError> {
        Err(EncodeErrorKind::NeedsDump.into())
    }

    #[inline]
    fn begin_tuple(&mut self, len: usize) -> Result<(), EncodeError> {
        self.begin(if len > 3 { &[opcode::MARK] } else { &[] })
    }

    #[inline]
    fn end_tuple(&mut self, len: usize) -> Result<(), EncodeError> {
        let opcode = match len {
            0 => opcode::EMPTY_TUPLE,
            1 => opcode::TUPLE1,
            2 => opcode::TUPLE2,
            3 => opcode::TUPLE3,
            _ => opcode::TUPLE,
        };
        self.end(&[opcode])
    }

    #[inline]
    fn begin_list(&mut self, len: usize) -> Result<(), EncodeError> {
        // Two bytes for each small int, not knowing better.
        self.out.reserve(len.min(MAX_PAYLOAD).saturating_mul(2));
        self.begin(if len == 0 { &[opcode::EMPTY_LIST] } else { &[opcode::EMPTY_LIST, opcode::MARK] })
    }

    #[inline]
    fn list_index(&mut self, _: usize) -> Result<(), EncodeError> {
        Ok(())
    }

    #[inline]
    fn list_item(&mut self) -> Result<(), EncodeError> {
        Ok(())
    }

    #[inline]
    fn end_list(&mut self, len: usize) -> Result<(), EncodeError> {
        self.end(if len == 0 { &[] } else { &[opcode::APPENDS] })
    }

    fn begin_unsized_list(&mut self) -> Result<usize, EncodeError> {
        self.begin(&[opcode::EMPTY_LIST, opcode::MARK])?;
        Ok(0)
    }

    fn end_unsized_list(&mut self, _: usize, _: usize) -> Result<(), EncodeError> {
        self.end(&[opcode::APPENDS])
    }

    #[inline]
    fn begin_dict(&mut self, len: usize) -> Result<(), EncodeError> {
        self.begin(if len == 0 { &[opcode::EMPTY_DICT] } else { &[opcode::EMPTY_DICT, opcode::MARK] })
    }

    #[inline]
    fn dict_entry(&mut self) -> Result<(), EncodeError> {
        Ok(())
    }

    #[inline]
    fn end_dict(&mut self, len: usize) -> Result<(), EncodeError> {
        self.end(if len == 0 { &[] } else { &[opcode::SETITEMS] })
    }

    fn begin_set(&mut self, len: usize) -> Result<(), EncodeError> {
        self.begin(if len == 0 { &[opcode::EMPTY_SET] } else { &[opcode::EMPTY_SET, opcode::MARK] })
    }

    fn end_set(&mut self, len: usize) -> Result<(), EncodeError> {
        self.end(if len == 0 { &[] } else { &[opcode::ADDITEMS] })
    }

    fn begin_frozen_set(&mut self, _: usize) -> Result<(), EncodeError> {
        self.begin(&[opcode::MARK])
    }

    fn end_frozen_set(&mut self, _: usize) -> Result<(), EncodeError> {
        self.end(&[opcode::FROZENSET])
    }
}
