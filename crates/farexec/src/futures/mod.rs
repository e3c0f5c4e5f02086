//! Futures that need no particular runtime: the twins of the calls that block, and streams and sinks.
//!
//! [`asking`] makes a future of what can be asked whether it is ready, [`apart`] one of what takes several steps. The other modules have the
//! twins, each beside what it is the twin of: whoever changes the one call finds the other by its name.

mod apart;
mod asking;
mod channel;
mod gateway;
mod group;
mod multichannel;
mod receive_queue;
mod streams;

pub use streams::{ChannelSink, ChannelStream, ResultStream};
