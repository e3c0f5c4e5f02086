//! The message encoding: a closed subset of pickle, which Python writes and reads at the speed of C. Section 4 of
//! `docs/PROTOCOL.md`.

mod opcode;
mod reader;
mod writer;

pub use reader::decode;
pub use writer::{Writer, around_bytes, encode};
