//! The dump format: byte for byte what execnet stores, so that data written by either is read by both. Section 5 of
//! `docs/PROTOCOL.md`.

mod opcode;
mod reader;
mod writer;

pub use reader::{decode, loads};
pub use writer::{Writer, dumps, dumps_into, encode};
