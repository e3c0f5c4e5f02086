//! How bytes in shared memory change hands: the words that both ends of one direction share, and nothing else of it.
//!
//! The stream is in the pipe or in the ring, and the pipe says first: behind a SWITCH in it, the stream is in the ring, until the ring's end
//! is marked as *left*; behind that it is in the pipe again. Each stay in the ring has at least one byte, so no two marks stand at the same
//! place. While the stream is in the ring, what the writer puts into the pipe is *bells*: bytes that say nothing but that there is something.
//!
//! A reader that begins to wait for the pipe says so first, and looks once more; a writer publishes first, and then looks whether it has to ring.
//! So one of the two sees the other. The word is taken back by the writer alone, right before it rings: whoever takes a bell out of the pipe that
//! others may wait for, too, says again that somebody listens.
//!
//! This file is compiled a second time by `tests/handover.rs`, which tries every order of steps.

use super::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// The lowest bit of a word: the stream goes on in the pipe behind this place.
const LEFT: u64 = 1;

/// What the two sides say of one direction; a place is the number of bytes before it, since the beginning.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Handover {
    writer: Line<AtomicU64>,
    reader: Line<AtomicU64>,
    listens: Line<AtomicU32>,
}

/// Keeps what one side writes off the cache lines that the other one does.
#[derive(Debug)]
#[repr(C, align(64))]
struct Line<T>(T);

/// How far the writer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) place: u64,
    pub(crate) is_left: bool,
}

impl End {
    fn word(self) -> u64 {
        self.place << 1 | if self.is_left { LEFT } else { 0 }
    }

    fn of(word: u64) -> Self {
        Self { place: word >> 1, is_left: word & LEFT != 0 }
    }
}

impl Handover {
    /// The stream is in the pipe, and both know it.
    pub(crate) fn new() -> Self {
        let listens = Line(AtomicU32::new(0));
        Self { writer: Line(AtomicU64::new(LEFT)), reader: Line(AtomicU64::new(LEFT)), listens }
    }

    // ---- the writer's ----

    /// Makes known how far the bytes reach that the reader may take. Returns whether to ring.
    pub(crate) fn publish(&self, end: End) -> bool {
        self.writer.0.store(end.word(), Ordering::Release);
        fence(Ordering::SeqCst);
        self.listens.0.load(Ordering::Relaxed) != 0 && self.listens.0.swap(0, Ordering::AcqRel) != 0
    }

    /// Makes known what needs no bell, since the pipe gets more than one right behind it.
    pub(crate) fn publish_quietly(&self, end: End) {
        self.writer.0.store(end.word(), Ordering::Release);
    }

    /// How far the reader has come, as it says.
    pub(crate) fn taken(&self) -> End {
        End::of(self.reader.0.load(Ordering::Acquire))
    }

    // ---- the reader's ----

    /// How far the writer has come, as it says.
    pub(crate) fn end(&self) -> End {
        End::of(self.writer.0.load(Ordering::Acquire))
    }

    /// Makes known how far the bytes were taken, and whether it is known that the stream goes on in the pipe.
    pub(crate) fn take_to(&self, end: End) {
        self.reader.0.store(end.word(), Ordering::Release);
    }

    /// Says that somebody begins to wait for the pipe. Returns what the writer has said by now.
    pub(crate) fn listen(&self) -> End {
        self.listens.0.store(1, Ordering::Release);
        fence(Ordering::SeqCst);
        self.end()
    }
}
