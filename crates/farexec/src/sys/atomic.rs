//! What `handover.rs` is built on, by a name that its test gives to something else.

pub(super) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
