//! An item that arrived, still encoded: it is decoded by who takes it, when they take it.

use farexec_proto::encoding::{Build, DecodeError, StringCoercion, decode};
use farexec_proto::limits::DIRECT_READ;
use farexec_proto::{Encoding, Value};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;

use crate::limits::KEPT_BUFFERS;

/// Buffers of large payloads that were taken, for the next ones: fresh memory costs as much as filling it.
static BUFFERS: Mutex<Buffers> = Mutex::new(Buffers { buffers: Vec::new(), bytes: 0 });

struct Buffers {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

/// A buffer for a large payload, if one was left.
pub(crate) fn used_buffer() -> Option<Vec<u8>> {
    let mut kept = BUFFERS.lock();
    let buffer = kept.buffers.pop()?;
    kept.bytes -= buffer.capacity();
    Some(buffer)
}

/// Keeps the memory of a large payload for another one, if there is not enough of it.
pub(crate) fn keep_buffer(buffer: Vec<u8>) {
    let mut kept = BUFFERS.lock();
    if kept.bytes + buffer.capacity() <= KEPT_BUFFERS {
        kept.bytes += buffer.capacity();
        kept.buffers.push(buffer);
    }
}

/// One received item, not yet decoded.
///
/// ```
/// use farexec::{Value, Wait};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let group = farexec::Group::new();
/// let channel = group.make_gateway("popen")?.remote_exec("channel.send((1, 'one'))")?;
/// let payload = channel.receive_payload(&Wait::forever())?;
/// assert_eq!(payload.decode::<(u8, String)>()?, (1, "one".into()));
/// assert_eq!(payload.value()?, Value::Tuple(vec![1.into(), "one".into()]));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    encoding: Encoding,
    bytes: Vec<u8>,
    coercion: StringCoercion,
}

impl Drop for Payload {
    fn drop(&mut self) {
        if self.bytes.capacity() >= DIRECT_READ {
            keep_buffer(std::mem::take(&mut self.bytes));
        }
    }
}

impl Payload {
    pub(crate) fn new(encoding: Encoding, bytes: Vec<u8>, coercion: StringCoercion) -> Self {
        Self { encoding, bytes, coercion }
    }

    /// The item as any type that serde can read.
    ///
    /// # Errors
    /// [`DecodeError`] if the item is something else (the error says where in it), or its bytes are no item.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        farexec_proto::serde::from_payload(self.encoding, &self.bytes, self.coercion)
    }

    /// The item as it is.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are no item.
    pub fn value(&self) -> Result<Value, DecodeError> {
        Value::from_payload(self.encoding, &self.bytes, self.coercion)
    }

    /// The item in any other object model.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are no item, or `builder` refuses a part of it.
    pub fn build<'p, B: Build<'p>>(&'p self, builder: &mut B) -> Result<B::Object, DecodeError> {
        decode(self.encoding, &self.bytes, self.coercion, builder)
    }

    /// How strings of Python 2 in it are taken.
    pub(crate) fn coercion(&self) -> StringCoercion {
        self.coercion
    }

    /// How the bytes are encoded.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The bytes of the item.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
