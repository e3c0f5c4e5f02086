//! Items as bytes: two encodings, each written once for writing and once for reading, and neither bound to an object model.
//!
//! What is to be sent implements [`Encode`] by calling an [`Emit`], which is the writer of either encoding. What is to be
//! made of received bytes is said by a [`Build`], which the reader of either encoding calls. [`Value`](crate::Value) does
//! both; so do serde's traits through [`serde`](crate::serde), and Python objects in another crate.

mod build;
mod decode;
pub mod dump;
mod emit;
mod encode;
mod input;
pub mod message;
mod path;
mod stack;

pub use build::{Build, BuildError, StringCoercion, Text};
pub use decode::{DecodeError, DecodeErrorKind, Encoding, decode};
pub use emit::{Emit, Encode, encode_item};
pub use encode::{EncodeError, EncodeErrorKind};
pub use path::{Path, Segment};
