//! Writes the dump format.

use num_bigint::BigInt;

use super::opcode;
use crate::ChannelId;
use crate::encoding::emit::{Emit, Encode, all_or_nothing, as_word, trim};
use crate::encoding::{EncodeError, EncodeErrorKind};
use crate::limits::{MAX_DECIMAL_DIGITS, MAX_NESTING};

/// Appends an item in the dump format, as the payloads of frames have it: without the version byte.
///
/// ```
/// use farexec_proto::encoding::{StringCoercion, dump};
/// use farexec_proto::{Value, ValueBuilder};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut payload = Vec::new();
/// dump::encode(&Value::from(7), &mut payload)?;
/// assert_eq!(dump::decode(&payload, StringCoercion::DEFAULT, &mut ValueBuilder)?, Value::from(7));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`EncodeError`]; nothing is appended then.
pub fn encode(item: &(impl Encode + ?Sized), out: &mut Vec<u8>) -> Result<(), EncodeError> {
    all_or_nothing(out, |out| {
        item.encode(&mut Writer { out, depth: 0 })?;
        out.push(opcode::END);
        Ok(())
    })
}

/// Returns an object as bytes to be stored: what `execnet.dumps` returns.
///
/// ```
/// use farexec_proto::Value;
/// use farexec_proto::encoding::dump;
///
/// assert_eq!(dump::dumps(&Value::from("hi"))?, b"\x02N\0\0\0\x02hiQ");
/// # Ok::<(), farexec_proto::encoding::EncodeError>(())
/// ```
///
/// # Errors
/// [`EncodeError`] if a part of the object is not plain data.
pub fn dumps(item: &(impl Encode + ?Sized)) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::new();
    dumps_into(item, &mut bytes)?;
    Ok(bytes)
}

/// As [`dumps`], appending to a buffer that the caller has.
///
/// # Errors
/// [`EncodeError`]; nothing of use is in the buffer then.
pub fn dumps_into(item: &(impl Encode + ?Sized), out: &mut Vec<u8>) -> Result<(), EncodeError> {
    out.push(opcode::VERSION);
    encode(item, out)
}

/// The [`Emit`] of the dump format.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    depth: usize,
}

impl Writer<'_> {
    /// An opcode with an operand of four bytes.
    #[inline]
    fn word(&mut self, opcode: u8, operand: [u8; 4]) {
        let [b0, b1, b2, b3] = operand;
        self.out.extend_from_slice(&[opcode, b0, b1, b2, b3]);
    }

    #[inline]
    fn length(&mut self, opcode: u8, length: usize) -> Result<(), EncodeError> {
        let counted = i32::try_from(length).map_err(|_| EncodeErrorKind::TooLong(length))?;
        self.word(opcode, counted.to_be_bytes());
        Ok(())
    }

    #[inline]
    fn sized(&mut self, opcode: u8, bytes: &[u8]) -> Result<(), EncodeError> {
        self.length(opcode, bytes.len())?;
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    #[inline]
    fn begin(&mut self) -> Result<(), EncodeError> {
        if self.depth == MAX_NESTING {
            return Err(EncodeErrorKind::TooDeep.into());
        }
        self.depth += 1;
        Ok(())
    }

    #[inline]
    fn end(&mut self, opcode: u8, length: usize) -> Result<(), EncodeError> {
        self.depth -= 1;
        self.length(opcode, length)
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
        self.out.push(if value { opcode::TRUE } else { opcode::FALSE });
        Ok(())
    }

    #[inline]
    fn int(&mut self, value: i64) -> Result<(), EncodeError> {
        match i32::try_from(value) {
            Ok(value) => {
                self.word(opcode::INT, value.to_be_bytes());
                Ok(())
            }
            Err(_) => self.sized(opcode::LONG_INT, value.to_string().as_bytes()),
        }
    }

    fn big_int(&mut self, little_endian: &[u8]) -> Result<(), EncodeError> {
        // A byte is at least two digits: what is longer than that need not be converted to be refused.
        let bytes = trim(little_endian);
        if let Some(value) = as_word(bytes) {
            return self.int(value);
        }
        if bytes.len() > MAX_DECIMAL_DIGITS / 2 {
            return Err(EncodeErrorKind::IntTooLong.into());
        }
        let decimal = BigInt::from_signed_bytes_le(bytes).to_string();
        if decimal.trim_start_matches('-').len() > MAX_DECIMAL_DIGITS {
            return Err(EncodeErrorKind::IntTooLong.into());
        }
        self.sized(opcode::LONG_INT, decimal.as_bytes())
    }

    #[inline]
    fn float(&mut self, value: f64) -> Result<(), EncodeError> {
        let mut bytes = [opcode::FLOAT; 9];
        bytes[1..].copy_from_slice(&value.to_be_bytes());
        self.out.extend_from_slice(&bytes);
        Ok(())
    }

    fn complex(&mut self, real: f64, imaginary: f64) -> Result<(), EncodeError> {
        self.out.push(opcode::COMPLEX);
        self.out.extend_from_slice(&real.to_be_bytes());
        self.out.extend_from_slice(&imaginary.to_be_bytes());
        Ok(())
    }

    #[inline]
    fn str(&mut self, value: &str) -> Result<(), EncodeError> {
        self.sized(opcode::STR, value.as_bytes())
    }

    #[inline]
    fn bytes(&mut self, value: &[u8]) -> Result<(), EncodeError> {
        self.sized(opcode::BYTES, value)
    }

    fn channel(&mut self, id: ChannelId) -> Result<(), EncodeError> {
        self.word(opcode::CHANNEL, id.number().to_be_bytes());
        Ok(())
    }

    #[inline]
    fn begin_tuple(&mut self, _: usize) -> Result<(), EncodeError> {
        self.begin()
    }

    #[inline]
    fn end_tuple(&mut self, len: usize) -> Result<(), EncodeError> {
        self.end(opcode::TUPLE, len)
    }

    #[inline]
    fn begin_list(&mut self, len: usize) -> Result<(), EncodeError> {
        self.begin()?;
        self.length(opcode::LIST, len)?;
        // An index, a small int and the opcode that joins them.
        self.out.reserve(len.saturating_mul(11));
        Ok(())
    }

    #[inline]
    fn list_index(&mut self, index: usize) -> Result<(), EncodeError> {
        self.length(opcode::INT, index)
    }

    #[inline]
    fn list_item(&mut self) -> Result<(), EncodeError> {
        self.out.push(opcode::SET_ITEM);
        Ok(())
    }

    #[inline]
    fn list_int(&mut self, index: usize, value: i64) -> Result<(), EncodeError> {
        let (Ok(place), Ok(word)) = (i32::try_from(index), i32::try_from(value)) else {
            self.list_index(index)?;
            self.int(value)?;
            return self.list_item();
        };
        let ([p0, p1, p2, p3], [w0, w1, w2, w3]) = (place.to_be_bytes(), word.to_be_bytes());
        let element = [opcode::INT, p0, p1, p2, p3, opcode::INT, w0, w1, w2, w3, opcode::SET_ITEM];
        self.out.extend_from_slice(&element);
        Ok(())
    }

    #[inline]
    fn end_list(&mut self, _: usize) -> Result<(), EncodeError> {
        self.depth -= 1;
        Ok(())
    }

    fn begin_unsized_list(&mut self) -> Result<usize, EncodeError> {
        let begun = self.out.len();
        self.begin_list(0)?;
        Ok(begun)
    }

    fn end_unsized_list(&mut self, begun: usize, len: usize) -> Result<(), EncodeError> {
        let end = self.out.len();
        self.end(opcode::LIST, len)?;
        // The head was written with a length of 0; the right one goes over it.
        self.out.copy_within(end.., begun);
        self.out.truncate(end);
        Ok(())
    }

    #[inline]
    fn begin_dict(&mut self, _: usize) -> Result<(), EncodeError> {
        self.begin()?;
        self.out.push(opcode::DICT);
        Ok(())
    }

    #[inline]
    fn dict_entry(&mut self) -> Result<(), EncodeError> {
        self.out.push(opcode::SET_ITEM);
        Ok(())
    }

    #[inline]
    fn end_dict(&mut self, _: usize) -> Result<(), EncodeError> {
        self.depth -= 1;
        Ok(())
    }

    fn begin_set(&mut self, _: usize) -> Result<(), EncodeError> {
        self.begin()
    }

    fn end_set(&mut self, len: usize) -> Result<(), EncodeError> {
        self.end(opcode::SET, len)
    }

    fn begin_frozen_set(&mut self, _: usize) -> Result<(), EncodeError> {
        self.begin()
    }

    fn end_frozen_set(&mut self, len: usize) -> Result<(), EncodeError> {
        self.end(opcode::FROZEN_SET, len)
    }
}
