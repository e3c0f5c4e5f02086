//! Reads the message encoding: a stack machine that takes the opcodes of plain data and no others, without recursion.

use super::opcode;
use crate::encoding::decode::{DecodeError, DecodeErrorKind};
use crate::encoding::emit::{as_word, trim};
use crate::encoding::input::Input;
use crate::encoding::stack::{Kind, Stack};
use crate::encoding::{Build, BuildError};
use crate::limits::MAX_NESTING;

/// Makes an object of a payload in the message encoding.
///
/// # Errors
/// [`DecodeError`] if the bytes are not exactly one item, or the builder refuses a part of it.
pub fn decode<'p, B: Build<'p>>(payload: &'p [u8], builder: &mut B) -> Result<B::Object, DecodeError> {
    let stack = Stack::new(builder, payload.len());
    Reader { input: Input::new(payload), stack, marks: Vec::new() }.object()
}

struct Reader<'b, 'p, B: Build<'p>> {
    input: Input<'p>,
    stack: Stack<'b, 'p, B>,
    marks: Vec<Mark>,
}

#[derive(Clone, Copy)]
struct Mark {
    /// The number of objects below it.
    floor: usize,
    /// The empty container that would be the topmost of them. It is not made before its contents are there, so that it can be
    /// allocated at its length.
    pending: Option<Kind>,
    /// Where the contents of that container begin: below the mark, if some of them came before it. Python writes a thousand at a time.
    base: usize,
}

impl<'p, B: Build<'p>> Reader<'_, 'p, B> {
    fn object(mut self) -> Result<B::Object, DecodeError> {
        loop {
            match self.input.opcode()? {
                opcode::NONE => self.scalar(Build::none)?,
                opcode::NEWTRUE => self.scalar(|builder| builder.bool(true))?,
                opcode::NEWFALSE => self.scalar(|builder| builder.bool(false))?,
                opcode::BININT1 => {
                    let value = self.input.byte("an int of one byte")?;
                    self.scalar(|builder| builder.int(value.into()))?;
                }
                opcode::BININT2 => {
                    let value = u16::from_le_bytes(self.input.array("an int of two bytes")?);
                    self.scalar(|builder| builder.int(value.into()))?;
                }
                opcode::BININT => {
                    let value = i32::from_le_bytes(self.input.array("an int of four bytes")?);
                    self.scalar(|builder| builder.int(value.into()))?;
                }
                opcode::LONG1 => {
                    let length = self.short_length()?;
                    self.long(length)?;
                }
                opcode::LONG4 => {
                    let length = i32::from_le_bytes(self.input.array("the length of an int")?);
                    let counted = usize::try_from(length);
                    let length =
                        counted.map_err(|_| self.input.error(DecodeErrorKind::NegativeLength(length)))?;
                    self.long(length)?;
                }
                opcode::BINFLOAT => {
                    let value = f64::from_be_bytes(self.input.array("a float of eight bytes")?);
                    self.scalar(|builder| builder.float(value))?;
                }
                opcode::SHORT_BINUNICODE => {
                    let length = self.short_length()?;
                    self.text(length)?;
                }
                opcode::BINUNICODE => {
                    let length = self.length()?;
                    self.text(length)?;
                }
                opcode::BINUNICODE8 => {
                    let length = self.long_length()?;
                    self.text(length)?;
                }
                opcode::SHORT_BINBYTES => {
                    let length = self.short_length()?;
                    self.bytes(length)?;
                }
                opcode::BINBYTES => {
                    let length = self.length()?;
                    self.bytes(length)?;
                }
                opcode::BINBYTES8 => {
                    let length = self.long_length()?;
                    self.bytes(length)?;
                }
                opcode::MARK => self.mark(None)?,
                opcode::EMPTY_TUPLE => self.collect(Kind::Tuple, 0)?,
                opcode::TUPLE1 => self.collect(Kind::Tuple, 1)?,
                opcode::TUPLE2 => self.collect(Kind::Tuple, 2)?,
                opcode::TUPLE3 => self.collect(Kind::Tuple, 3)?,
                opcode::TUPLE => self.collect_marked(Kind::Tuple)?,
                opcode::FROZENSET => self.collect_marked(Kind::FrozenSet)?,
                opcode::EMPTY_LIST => self.empty(Kind::List)?,
                opcode::EMPTY_DICT => self.empty(Kind::Dict)?,
                opcode::EMPTY_SET => self.empty(Kind::Set)?,
                opcode::APPEND => self.extend(Kind::List, 1)?,
                opcode::SETITEM => self.insert()?,
                opcode::APPENDS => self.extend_marked(Kind::List)?,
                opcode::SETITEMS => self.extend_marked(Kind::Dict)?,
                opcode::ADDITEMS => self.extend_marked(Kind::Set)?,
                // Nothing refers back, so nothing need be kept.
                opcode::MEMOIZE => {}
                opcode::FRAME => self.frame()?,
                opcode::PROTO if self.input.at_start() => self.protocol()?,
                opcode::STOP => return self.finish(),
                other => return Err(self.refused(other)),
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

    fn long(&mut self, length: usize) -> Result<(), DecodeError> {
        let bytes = trim(self.input.take(length, "the bytes of an int")?);
        match as_word(bytes) {
            Some(value) => self.scalar(|builder| builder.int(value)),
            None => self.scalar(|builder| builder.big_int(bytes)),
        }
    }

    #[inline]
    fn text(&mut self, length: usize) -> Result<(), DecodeError> {
        let text = self.input.text(length)?;
        let filling = self.marks.last().filter(|mark| mark.pending == Some(Kind::Dict));
        if filling.is_some_and(|dict| (self.stack.len() - dict.floor).is_multiple_of(2)) {
            self.scalar(|builder| builder.key(text))
        } else {
            self.scalar(|builder| builder.str(text))
        }
    }

    #[inline]
    fn bytes(&mut self, length: usize) -> Result<(), DecodeError> {
        let bytes = self.input.take(length, "the bytes of a bytes object")?;
        self.scalar(|builder| builder.bytes(bytes))
    }

    #[inline]
    fn short_length(&mut self) -> Result<usize, DecodeError> {
        self.input.byte("a length of one byte").map(usize::from)
    }

    fn length(&mut self) -> Result<usize, DecodeError> {
        let length = u32::from_le_bytes(self.input.array("a length of four bytes")?);
        // What does not fit is longer than what follows.
        Ok(usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn long_length(&mut self) -> Result<usize, DecodeError> {
        let length = u64::from_le_bytes(self.input.array("a length of eight bytes")?);
        Ok(usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn mark(&mut self, pending: Option<Kind>) -> Result<(), DecodeError> {
        // Every mark becomes a level of nesting sooner or later.
        if self.marks.len() == MAX_NESTING {
            return Err(self.input.error(DecodeErrorKind::TooDeep));
        }
        let floor = self.stack.len();
        self.marks.push(Mark { floor, pending, base: floor });
        Ok(())
    }

    /// An empty list, dict or set, which the next opcodes fill.
    fn empty(&mut self, kind: Kind) -> Result<(), DecodeError> {
        let ([opcode::MARK, contents @ ..] | [opcode::MEMOIZE, opcode::MARK, contents @ ..]) =
            self.input.rest()
        else {
            let base = self.stack.len();
            return self.stack.collect(kind, base).map_err(|kind| self.input.error(kind));
        };
        self.input.go_on_with(contents);
        self.mark(Some(kind))
    }

    /// A tuple of the topmost objects.
    fn collect(&mut self, kind: Kind, count: usize) -> Result<(), DecodeError> {
        let base = self.base_of(count)?;
        self.stack.collect(kind, base).map_err(|kind| self.input.error(kind))
    }

    /// A tuple or frozenset of the objects above the mark.
    fn collect_marked(&mut self, kind: Kind) -> Result<(), DecodeError> {
        let mark = self.unmark()?;
        let result = self.stack.collect(kind, mark.floor).and_then(|()| match mark.pending {
            // The container below the mark has what it had before: it was not this that it waited for.
            Some(pending) => self.stack.slip_under(pending, mark.base),
            None => Ok(()),
        });
        result.map_err(|kind| self.input.error(kind))
    }

    /// Adds the topmost objects to the container below them.
    fn extend(&mut self, kind: Kind, count: usize) -> Result<(), DecodeError> {
        let container = self.base_of(count + 1)?;
        self.stack.extend(kind, container + 1).map_err(|kind| self.input.error(kind))
    }

    /// Adds a key and a value to the dict below them.
    fn insert(&mut self) -> Result<(), DecodeError> {
        let container = self.base_of(3)?;
        self.stack.insert(container + 1).map_err(|kind| self.input.error(kind))
    }

    /// Adds the objects above the mark to the container below it.
    fn extend_marked(&mut self, kind: Kind) -> Result<(), DecodeError> {
        let mark = self.unmark()?;
        let result = match mark.pending {
            Some(pending) if pending == kind => {
                if let [opcode::MARK, more @ ..] = self.input.rest()
                    && (kind != Kind::Dict || (self.stack.len() - mark.floor).is_multiple_of(2))
                {
                    self.input.go_on_with(more);
                    self.marks.push(Mark { floor: self.stack.len(), ..mark });
                    return Ok(());
                }
                self.stack.collect(kind, mark.base)
            }
            Some(_) => Err(DecodeErrorKind::Malformed("elements for a container of another kind")),
            None if mark.floor == self.floor() => {
                Err(DecodeErrorKind::Malformed("elements without a container"))
            }
            None => self.stack.extend(kind, mark.floor),
        };
        result.map_err(|kind| self.input.error(kind))
    }

    fn unmark(&mut self) -> Result<Mark, DecodeError> {
        self.marks.pop().ok_or_else(|| self.input.error(DecodeErrorKind::Malformed("there is no mark")))
    }

    /// Where the topmost objects begin, if there are so many above the mark.
    #[inline]
    fn base_of(&self, count: usize) -> Result<usize, DecodeError> {
        match self.stack.len().checked_sub(count) {
            Some(base) if base >= self.floor() => Ok(base),
            _ => Err(self.input.error(DecodeErrorKind::Malformed("too few objects on the stack"))),
        }
    }

    /// The number of objects below the topmost mark.
    #[inline]
    fn floor(&self) -> usize {
        self.marks.last().map_or(0, |mark| mark.floor)
    }

    fn frame(&mut self) -> Result<(), DecodeError> {
        let length = self.long_length()?;
        if length > self.input.rest().len() {
            return Err(self.input.error(DecodeErrorKind::Truncated("the rest of a frame")));
        }
        Ok(())
    }

    fn protocol(&mut self) -> Result<(), DecodeError> {
        match self.input.byte("the version of pickle")? {
            0..=opcode::PROTOCOL => Ok(()),
            version => Err(self.input.error(DecodeErrorKind::Version(version))),
        }
    }

    fn finish(mut self) -> Result<B::Object, DecodeError> {
        if !self.marks.is_empty() {
            return Err(self.input.error(DecodeErrorKind::Malformed("a mark is left at the end")));
        }
        let object = self.stack.finish().map_err(|kind| self.input.error(kind))?;
        self.input.finish()?;
        Ok(object)
    }

    #[cold]
    fn refused(&self, refused: u8) -> DecodeError {
        self.input.error(if refused == opcode::PROTO {
            DecodeErrorKind::Malformed("PROTO stands only at the start")
        } else if let Some(name) = opcode::names_code(refused) {
            DecodeErrorKind::NamesCode(name)
        } else if let Some(name) = opcode::not_plain_data(refused) {
            DecodeErrorKind::NotPlainData(name)
        } else {
            DecodeErrorKind::UnknownOpcode(refused)
        })
    }
}
