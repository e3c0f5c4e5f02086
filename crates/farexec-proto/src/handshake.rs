//! What comes before the first frame: finding the marker in whatever a login, a shell or an interpreter printed before it.
//!
//! Section 1 of `docs/PROTOCOL.md`. After the marker the stream belongs to [`crate::frame`].

use crate::limits::CHATTER_LIMIT;

/// What a worker writes before its first frame.
pub const MARKER: &[u8; 11] = b"\x00\xfeFAREXEC\xfe\x00";

/// Version of the protocol that this crate speaks.
pub const PROTOCOL_VERSION: u32 = 1;

/// Skips everything up to the [`MARKER`], and keeps it.
///
/// ```
/// use farexec_proto::handshake::{MARKER, MarkerScanner};
///
/// let mut scanner = MarkerScanner::default();
/// let mut input = &b"Welcome to example.org\n\x00\xfeFAREXEC\xfe\x00rest"[..];
/// assert!(scanner.scan(&mut input)?);
/// assert_eq!(input, b"rest");
/// assert_eq!(scanner.chatter(), b"Welcome to example.org\n");
/// # Ok::<(), farexec_proto::handshake::TooMuchChatter>(())
/// ```
#[derive(Debug, Default)]
pub struct MarkerScanner {
    seen: Vec<u8>,
    found: bool,
}

/// The marker did not come within the first [`CHATTER_LIMIT`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no farexec worker answered within the first {CHATTER_LIMIT} bytes of output")]
pub struct TooMuchChatter;

impl MarkerScanner {
    /// Takes bytes off the front of `input`; returns whether the marker ended what was taken.
    ///
    /// # Errors
    /// [`TooMuchChatter`] if it is time to give up.
    pub fn scan(&mut self, input: &mut &[u8]) -> Result<bool, TooMuchChatter> {
        while !self.found {
            let Some((byte, rest)) = input.split_first() else { return Ok(false) };
            *input = rest;
            self.seen.push(*byte);
            if self.seen.ends_with(MARKER) {
                self.seen.truncate(self.seen.len() - MARKER.len());
                self.found = true;
            } else if self.seen.len() > CHATTER_LIMIT {
                return Err(TooMuchChatter);
            }
        }
        Ok(true)
    }

    /// What stood before the marker, or all that came as long as it has not come.
    #[must_use]
    pub fn chatter(&self) -> &[u8] {
        &self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marker_is_found_in_any_chunking() {
        let stream = [b"\x00\xfe\x00\xfeFAR chatter ", &MARKER[..], b"frames"].concat();
        for cut in 1..stream.len() {
            let mut scanner = MarkerScanner::default();
            let mut rest = Vec::new();
            for chunk in stream.chunks(cut) {
                let mut input = chunk;
                if scanner.scan(&mut input).unwrap() {
                    rest.extend_from_slice(input);
                }
            }
            assert_eq!(
                (scanner.chatter(), &rest[..]),
                (&b"\x00\xfe\x00\xfeFAR chatter "[..], &b"frames"[..])
            );
        }
    }

    #[test]
    fn endless_chatter_is_given_up() {
        let mut scanner = MarkerScanner::default();
        assert_eq!(scanner.scan(&mut &vec![b'x'; CHATTER_LIMIT + 1][..]), Err(TooMuchChatter));
    }
}
