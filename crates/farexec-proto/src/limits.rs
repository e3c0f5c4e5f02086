//! Every limit of the protocol, in one place: its name, its unit, its reason.
//!
//! The encodings and the frames take theirs from here; how long things may last is not the protocol's business.

/// Containers within containers, in levels: deep enough for data, and shallow enough that code which walks an item by
/// recursion fits into a thread's stack of 2 MiB.
pub const MAX_NESTING: usize = 1000;

/// Length of one frame's payload, in bytes: the lengths of both encodings are signed 32-bit integers.
pub const MAX_PAYLOAD: usize = 0x7fff_ffff;

/// Length of an int that is written in decimal, in digits. Converting one takes time quadratic in its length: 0.1 seconds
/// at this one.
pub const MAX_DECIMAL_DIGITS: usize = 200_000;

/// What may stand on a worker's output before the marker, in bytes: login banners and the chatter of shells.
pub const CHATTER_LIMIT: usize = 256 * 1024;

/// What is reserved for a frame's payload on the strength of its announced length alone, in bytes. More is reserved as it
/// arrives. The reservation is of virtual memory: pages that stay unused cost nothing.
pub const PREALLOCATION: usize = 16 * 1024 * 1024;

/// What is reserved for the elements of a container on the strength of its announced count alone, in elements.
pub const ELEMENT_PREALLOCATION: usize = 1024;

/// What is missing of a payload before it is worth reading it straight into its own buffer, in bytes.
pub const DIRECT_READ: usize = 64 * 1024;

/// Payload of a PING, in bytes: it comes back in a PONG, so it must not cost much to answer.
pub const MAX_PING: usize = 64;

/// Channels that a worker may have open at once that it opened itself: each costs the coordinator some hundred bytes, and the worker ten.
pub const MAX_WORKER_CHANNELS: usize = 1 << 17;
