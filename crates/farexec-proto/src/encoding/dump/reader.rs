//! Reads the dump format: a stack machine without recursion.
//!
//! A list begins with its length and is filled index by index. Every known writer does so in order and to the end, and this
//! reader insists on it: then a list exists only when its elements do, so no memory is taken for a length that is merely claimed.

use num_bigint::BigInt;

use super::opcode;
use crate::ChannelId;
use crate::encoding::decode::{DecodeError, DecodeErrorKind};
use crate::encoding::emit::{as_word, trim};
use crate::encoding::input::Input;
use crate::encoding::stack::{Kind, Stack};
use crate::encoding::{Build, BuildError, StringCoercion, Text};
use crate::limits::{MAX_DECIMAL_DIGITS, MAX_NESTING};

/// Makes an object of a payload in the dump format (that is, without the version byte).
///
/// # Errors
/// [`DecodeError`] if the bytes are not exactly one item, or the builder refuses a part of it.
pub fn decode<'p, B: Build<'p>>(
    payload: &'p [u8],
    coercion: StringCoercion,
    builder: &mut B,
) -> Result<B::Object, DecodeError> {
    Reader::new(payload, coercion, builder).object()
}

/// Makes an object of stored data: what `execnet.loads` does.
///
/// ```
/// use farexec_proto::encoding::{StringCoercion, dump};
/// use farexec_proto::{Value, ValueBuilder};
///
/// let coercion = StringCoercion { py2str_as_py3str: false, py3str_as_py2str: false };
/// assert_eq!(dump::loads(b"\x02N\0\0\0\x02hiQ", coercion, &mut ValueBuilder)?, Value::from("hi"));
/// # Ok::<(), farexec_proto::encoding::DecodeError>(())
/// ```
///
/// # Errors
/// [`DecodeError`] if the bytes are not exactly one object of version 2 of the format, or the builder refuses a part of it.
pub fn loads<'p, B: Build<'p>>(
    data: &'p [u8],
    coercion: StringCoercion,
    builder: &mut B,
) -> Result<B::Object, DecodeError> {
    let mut reader = Reader::new(data, coercion, builder);
    match reader.input.byte("the version of the format")? {
        opcode::VERSION => reader.object(),
        version => Err(reader.input.error(DecodeErrorKind::Version(version))),
    }
}

struct Reader<'b, 'p, B: Build<'p>> {
    input: Input<'p>,
    stack: Stack<'b, 'p, B>,
    coercion: StringCoercion,
    /// The lists that are being filled, innermost last. Their elements are the objects on the stack from their base on.
    lists: Vec<List>,
    /// Whether the innermost list waits for its next index.
    awaits_index: bool,
}

struct List {
    base: usize,
    filled: usize,
    length: usize,
}

impl<'b, 'p, B: Build<'p>> Reader<'b, 'p, B> {
    fn new(bytes: &'p [u8], coercion: StringCoercion, builder: &'b mut B) -> Self {
        let stack = Stack::new(builder, bytes.len());
        Self { input: Input::new(bytes), stack, coercion, lists: Vec::new(), awaits_index: false }
    }

    fn object(mut self) -> Result<B::Object, DecodeError> {
        loop {
            if self.awaits_index {
                self.ints()?;
                self.index()?;
            }
            match self.input.opcode()? {
                opcode::INT | opcode::PY2_LONG => {
                    let value = self.word()?;
                    self.scalar(|builder| builder.int(value.into()))?;
                }
                opcode::SET_ITEM => self.set_item()?,
                code @ (opcode::STR | opcode::PY2_UNICODE) => {
                    let text = self.text()?;
                    if code == opcode::STR && self.coercion.py3str_as_py2str {
                        self.scalar(|builder| builder.bytes(text.as_bytes()))?;
                    } else {
                        self.scalar(|builder| builder.str(text))?;
                    }
                }
                opcode::BYTES => {
                    let length = self.length()?;
                    let bytes = self.input.take(length, "the bytes of a bytes object")?;
                    self.scalar(|builder| builder.bytes(bytes))?;
                }
                opcode::PY2_STR => self.py2_str()?,
                opcode::NONE => self.scalar(Build::none)?,
                opcode::TRUE => self.scalar(|builder| builder.bool(true))?,
                opcode::FALSE => self.scalar(|builder| builder.bool(false))?,
                opcode::FLOAT => {
                    let value = self.float()?;
                    self.scalar(|builder| builder.float(value))?;
                }
                opcode::COMPLEX => {
                    let (real, imaginary) = (self.float()?, self.float()?);
                    self.scalar(|builder| builder.complex(real, imaginary))?;
                }
                opcode::LONG_INT | opcode::PY2_LONG_LONG => self.decimal()?,
                opcode::CHANNEL => {
                    let number = u32::from_be_bytes(self.input.array("the number of a channel")?);
                    self.scalar(|builder| builder.channel(ChannelId::new(number)))?;
                }
                opcode::LIST => self.list()?,
                opcode::DICT => {
                    self.collect(Kind::Dict, 0)?;
                    self.key()?;
                }
                opcode::TUPLE => self.collect_counted(Kind::Tuple)?,
                opcode::SET => self.collect_counted(Kind::Set)?,
                opcode::FROZEN_SET => self.collect_counted(Kind::FrozenSet)?,
                opcode::END => return self.finish(),
                other => return Err(self.input.error(DecodeErrorKind::UnknownOpcode(other))),
            }
        }
    }

    #[inline]
    fn scalar(
        &mut self,
        build: impl FnOnce(&mut B) -> Result<B::Object, BuildError>,
    ) -> Result<(), DecodeError> {
        match build(self.stack.builder) {
            Ok(object) => {
                self.stack.push(object);
                Ok(())
            }
            Err(error) => Err(self.input.error(error)),
        }
    }

    #[inline]
    fn word(&mut self) -> Result<i32, DecodeError> {
        self.input.array("an operand of four bytes").map(i32::from_be_bytes)
    }

    #[inline]
    fn length(&mut self) -> Result<usize, DecodeError> {
        let length = self.word()?;
        usize::try_from(length).map_err(|_| self.input.error(DecodeErrorKind::NegativeLength(length)))
    }

    #[inline]
    fn text(&mut self) -> Result<Text<'p>, DecodeError> {
        let length = self.length()?;
        self.input.text(length)
    }

    /// The key of a dict's next entry, if it is a str that follows.
    #[inline]
    fn key(&mut self) -> Result<(), DecodeError> {
        let is_text = match self.input.rest().first() {
            Some(&opcode::STR) => !self.coercion.py3str_as_py2str,
            Some(&opcode::PY2_UNICODE) => true,
            _ => false,
        };
        if !is_text {
            return Ok(());
        }
        self.input.opcode()?;
        let text = self.text()?;
        self.scalar(|builder| builder.key(text))
    }

    #[inline]
    fn float(&mut self) -> Result<f64, DecodeError> {
        self.input.array("a float of eight bytes").map(f64::from_be_bytes)
    }

    fn py2_str(&mut self) -> Result<(), DecodeError> {
        let length = self.length()?;
        let bytes = self.input.take(length, "the bytes of a string")?;
        if !self.coercion.py2str_as_py3str {
            return self.scalar(|builder| builder.bytes(bytes));
        }
        if bytes.is_ascii() {
            return self.scalar(|builder| builder.str(Text::new(bytes)));
        }
        let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        self.scalar(|builder| builder.converted_str(text))
    }

    fn decimal(&mut self) -> Result<(), DecodeError> {
        let length = self.length()?;
        let text = self.input.take(length, "the digits of an int")?;
        let digits = text.strip_prefix(b"-").unwrap_or(text);
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(self.input.error(DecodeErrorKind::NotDecimal));
        }
        if digits.len() > MAX_DECIMAL_DIGITS {
            return Err(self.input.error(DecodeErrorKind::IntTooLong));
        }
        let value =
            BigInt::parse_bytes(text, 10).ok_or_else(|| self.input.error(DecodeErrorKind::NotDecimal))?;
        let bytes = value.to_signed_bytes_le();
        match as_word(trim(&bytes)) {
            Some(value) => self.scalar(|builder| builder.int(value)),
            None => self.scalar(|builder| builder.big_int(&bytes)),
        }
    }

    /// The head of a list.
    fn list(&mut self) -> Result<(), DecodeError> {
        let length = self.length()?;
        if length == 0 {
            return self.collect(Kind::List, 0);
        }
        if self.lists.len() == MAX_NESTING {
            return Err(self.input.error(DecodeErrorKind::TooDeep));
        }
        // An element has two opcodes, its index and an object of a byte at least: what is reserved is in proportion to what is there.
        self.stack.reserve(length.min(self.input.rest().len() / 7));
        self.lists.push(List { base: self.stack.len(), filled: 0, length });
        self.awaits_index = true;
        Ok(())
    }

    /// The next elements of a list that are ints, index and all, but not its last one: most of what long lists are made of.
    #[inline]
    fn ints(&mut self) -> Result<(), DecodeError> {
        let Some(list) = self.lists.last_mut() else { return Ok(()) };
        let mut rest = self.input.rest();
        while let Some((element, behind)) = rest.split_first_chunk()
            && let &[opcode::INT, p0, p1, p2, p3, opcode::INT, w0, w1, w2, w3, opcode::SET_ITEM] = element
            && u32::from_be_bytes([p0, p1, p2, p3]) as usize == list.filled
            && list.filled + 1 < list.length
        {
            let value = i32::from_be_bytes([w0, w1, w2, w3]);
            let object = self.stack.builder.int(value.into()).map_err(|error| self.input.error(error))?;
            self.stack.push(object);
            list.filled += 1;
            rest = behind;
        }
        self.input.go_on_with(rest);
        Ok(())
    }

    /// The index of a list's next element.
    #[inline]
    fn index(&mut self) -> Result<(), DecodeError> {
        if matches!(self.input.opcode()?, opcode::INT | opcode::PY2_LONG) {
            let index = self.length()?;
            if self.lists.last().is_some_and(|list| list.filled == index) {
                self.awaits_index = false;
                return Ok(());
            }
        }
        Err(self.input.error(DecodeErrorKind::Malformed("a list is not filled in order")))
    }

    /// The end of a list's element, or of an entry of a dict.
    #[inline]
    fn set_item(&mut self) -> Result<(), DecodeError> {
        let objects = self.stack.len();
        let Some(list) = self.lists.last_mut().filter(|list| list.base + list.filled + 1 == objects) else {
            let dict = self.base_of(3)?;
            self.stack.insert(dict + 1).map_err(|kind| self.input.error(kind))?;
            return self.key();
        };
        list.filled += 1;
        if list.filled < list.length {
            self.awaits_index = true;
            return Ok(());
        }
        let base = list.base;
        self.lists.pop();
        self.stack.collect(Kind::List, base).map_err(|kind| self.input.error(kind))
    }

    fn collect_counted(&mut self, kind: Kind) -> Result<(), DecodeError> {
        let count = self.length()?;
        self.collect(kind, count)
    }

    fn collect(&mut self, kind: Kind, count: usize) -> Result<(), DecodeError> {
        let base = self.base_of(count)?;
        self.stack.collect(kind, base).map_err(|kind| self.input.error(kind))
    }

    /// Where the topmost objects begin, if there are so many that are not elements of a list already.
    #[inline]
    fn base_of(&self, count: usize) -> Result<usize, DecodeError> {
        let floor = self.lists.last().map_or(0, |list| list.base + list.filled);
        match self.stack.len().checked_sub(count) {
            Some(base) if base >= floor => Ok(base),
            _ => Err(self.input.error(DecodeErrorKind::Malformed("too few objects on the stack"))),
        }
    }

    fn finish(mut self) -> Result<B::Object, DecodeError> {
        if !self.lists.is_empty() {
            return Err(self.input.error(DecodeErrorKind::Malformed("a list is not filled to its end")));
        }
        let object = self.stack.finish().map_err(|kind| self.input.error(kind))?;
        self.input.finish()?;
        Ok(object)
    }
}
