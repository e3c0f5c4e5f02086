//! The names by which [`Value`](crate::Value) and [`ChannelId`](crate::ChannelId) tell this crate's serializer and deserializer what serde's data model has no
//! word for. Other formats see a newtype struct, and what is in it.

pub(super) const VALUE: &str = "$farexec::Value";
pub(super) const BIG_INT: &str = "$farexec::BigInt";
pub(super) const COMPLEX: &str = "$farexec::Complex";
pub(super) const SET: &str = "$farexec::Set";
pub(super) const FROZEN_SET: &str = "$farexec::FrozenSet";
pub(super) const CHANNEL: &str = "$farexec::Channel";
