//! What `handover.rs` and `watch.rs` are built on, by a name that their tests give to something else.

pub(crate) use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
