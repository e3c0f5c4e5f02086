//! The number of a channel, the same at both ends of a gateway.

use std::fmt;

/// The number of a channel. The coordinator makes odd ones, the worker even ones; 0 is the gateway itself.
///
/// ```
/// use farexec_proto::ChannelId;
///
/// assert_eq!(ChannelId::new(3).number(), 3);
/// assert_eq!(ChannelId::GATEWAY.to_string(), "0");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(u32);

impl ChannelId {
    /// What frames that concern no channel carry.
    pub const GATEWAY: Self = Self(0);

    /// The channel of that number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl From<u32> for ChannelId {
    fn from(number: u32) -> Self {
        Self(number)
    }
}

impl From<ChannelId> for u32 {
    fn from(id: ChannelId) -> Self {
        id.0
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
