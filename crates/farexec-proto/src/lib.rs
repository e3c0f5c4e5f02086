//! What is said between a farexec coordinator and its workers: values, their encodings, frames and sessions.
//!
//! Nothing in this crate does any input or output, starts a thread or reads a clock: bytes go in and objects and events come
//! out, and the other way round. `docs/PROTOCOL.md` in the repository is the protocol in words.

#![forbid(unsafe_code)]

pub mod control;
pub mod encoding;
pub mod frame;
pub mod handshake;
pub mod limits;
pub mod serde;
pub mod session;
pub mod transition;

mod channel_id;
mod channel_map;
mod value;

pub use channel_id::ChannelId;
pub use encoding::Encoding;
pub use num_bigint::BigInt;
pub use value::{Value, ValueBuilder};
