//! The life of one channel as one table: every state, everything that can happen in it, and what follows.
//!
//! [`crate::session`] keeps a [`State`] for each channel and changes it through [`next`] only.
//!
//! ```text
//!                     local Last                 peer Last, peer Close, local Close, Lost
//!        ┌──────────▶ ReceiveOnly ───────────────────────────────────────────┐
//!        │                                                                    ▼
//!      Open ───────── peer Close, local Close, Lost ──────────────────────▶ Closed
//!        │                                                                    ▲
//!        └──────────▶ SendOnly ──────────────────────────────────────────────┘
//!                     peer Last                  local Last, local Close, peer Close, Lost
//! ```

use crate::frame::Kind;

/// How a channel stands, seen from this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Items go both ways.
    Open,
    /// The peer will send no more items.
    SendOnly,
    /// This side said that it will send no more items.
    ReceiveOnly,
    /// Nothing goes either way.
    Closed,
}

/// What can happen to a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// This side will send no more, but still receives.
    LocalLast,
    /// This side is done with the channel.
    LocalClose,
    /// The peer said LAST.
    PeerLast,
    /// The peer said CLOSE or CLOSE_ERROR.
    PeerClose,
    /// The gateway ended.
    Lost,
}

/// What follows from an [`Input`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state afterwards.
    pub state: State,
    /// The frame that tells the peer (for [`Input::LocalClose`] it may carry an error instead).
    pub say: Option<Kind>,
    /// Whether no more items will arrive, and this is when that became so.
    pub items_end: bool,
}

const fn to(state: State, say: Option<Kind>, items_end: bool) -> Transition {
    Transition { state, say, items_end }
}

/// The table.
///
/// ```
/// use farexec_proto::frame::Kind;
/// use farexec_proto::transition::{Input, State, next};
///
/// let said = next(State::Open, Input::LocalLast);
/// assert_eq!((said.state, said.say, said.items_end), (State::ReceiveOnly, Some(Kind::Last), false));
/// assert_eq!(next(said.state, Input::PeerLast).state, State::Closed);
/// ```
#[must_use]
pub const fn next(state: State, input: Input) -> Transition {
    use Input::{LocalClose, LocalLast, Lost, PeerClose, PeerLast};
    use State::{Closed, Open, ReceiveOnly, SendOnly};
    match (state, input) {
        (Open, LocalLast) => to(ReceiveOnly, Some(Kind::Last), false),
        (Open, LocalClose) => to(Closed, Some(Kind::Close), true),
        (Open, PeerLast) => to(SendOnly, None, true),
        (Open, PeerClose | Lost) => to(Closed, None, true),

        (SendOnly, LocalLast) => to(Closed, Some(Kind::Last), false),
        (SendOnly, LocalClose) => to(Closed, Some(Kind::Close), false),
        (SendOnly, PeerLast) => to(SendOnly, None, false),
        (SendOnly, PeerClose | Lost) => to(Closed, None, false),

        (ReceiveOnly, LocalLast) => to(ReceiveOnly, None, false),
        (ReceiveOnly, LocalClose) => to(Closed, Some(Kind::Close), true),
        (ReceiveOnly, PeerLast | PeerClose | Lost) => to(Closed, None, true),

        (Closed, _) => to(Closed, None, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 4] = [State::Open, State::SendOnly, State::ReceiveOnly, State::Closed];
    const INPUTS: [Input; 5] =
        [Input::LocalLast, Input::LocalClose, Input::PeerLast, Input::PeerClose, Input::Lost];

    /// An end that is told twice, or never, is a result that is lost or an endmarker too many.
    #[test]
    fn every_road_to_closed_tells_the_end_of_items_exactly_once() {
        fn walk(state: State, told: bool, depth: usize) {
            assert!(state != State::Closed || told, "closed without an end of items");
            if depth == 0 {
                return;
            }
            for input in INPUTS {
                let Transition { state, items_end, .. } = next(state, input);
                assert!(!(told && items_end), "end of items told twice");
                walk(state, told || items_end, depth - 1);
            }
        }
        walk(State::Open, false, 6);
    }

    #[test]
    fn losing_the_gateway_closes_everything_and_says_nothing() {
        for state in STATES {
            let Transition { state, say, .. } = next(state, Input::Lost);
            assert_eq!((state, say), (State::Closed, None));
        }
    }

    #[test]
    fn nothing_is_said_on_what_the_peer_did() {
        for state in STATES {
            for input in [Input::PeerLast, Input::PeerClose] {
                assert_eq!(next(state, input).say, None);
            }
        }
    }
}
