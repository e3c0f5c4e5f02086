//! How fast items come, so that a thread which waits for them can let some come together.
//!
//! A reader that is faster than the sender is woken for every item, and to wake it costs the sender more than the item does. So while
//! items stream in one direction only, the reader takes a breath before it waits again. Who sends in between, as in a round trip, is
//! waiting for an answer, and never takes one.

use std::time::Instant;

use crate::limits::{PACED_READS, READ_TOGETHER, STREAMING_RATE};

/// What is known of the last reads of one connection.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Reads since `began`, and bytes.
    reads: u32,
    bytes: usize,
    began: Option<Instant>,
    last: usize,
    is_streaming: bool,
}

impl Pace {
    /// So many bytes were read; `has_sent`: something was sent since the read before.
    #[inline]
    pub(crate) fn read(&mut self, bytes: usize, has_sent: bool) {
        if has_sent {
            *self = Self::default();
            return;
        }
        self.last = bytes;
        self.bytes += bytes;
        self.reads += 1;
        if self.reads >= PACED_READS {
            self.look();
        }
    }

    /// Whether to let items come together before waiting for the next.
    #[inline]
    pub(crate) fn is_streaming(&self) -> bool {
        self.is_streaming && self.last < READ_TOGETHER
    }

    fn look(&mut self) {
        let now = Instant::now();
        if let Some(began) = self.began {
            let microseconds = now.duration_since(began).as_micros();
            self.is_streaming = self.bytes as u128 * 1000 >= STREAMING_RATE * microseconds;
        }
        (self.reads, self.bytes, self.began) = (0, 0, Some(now));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn many_items_in_one_direction_are_a_stream() {
        let mut pace = Pace::default();
        (0..2 * PACED_READS).for_each(|_| pace.read(1000, false));
        assert!(pace.is_streaming());
        pace.read(READ_TOGETHER, false);
        assert!(!pace.is_streaming());
    }

    #[test]
    fn round_trips_are_none() {
        let mut pace = Pace::default();
        (0..10 * PACED_READS).for_each(|_| pace.read(1000, true));
        assert!(!pace.is_streaming());
    }

    #[test]
    fn slow_items_are_none() {
        let mut pace = Pace::default();
        for _ in 0..3 {
            (0..PACED_READS).for_each(|_| pace.read(1, false));
            pace.began = pace.began.and_then(|began| began.checked_sub(Duration::from_secs(1)));
        }
        assert!(!pace.is_streaming());
    }
}
