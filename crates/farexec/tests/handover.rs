//! Every order of steps in which the two ends of a ring can meet, tried by loom on the code itself: nothing lost or out of order, nobody asleep
//! while there is something, and no byte of the stream taken for a bell.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

mod atomic {
    pub(super) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
}
#[path = "../src/sys/handover.rs"]
mod handover;

use std::collections::VecDeque;

use handover::{End, Handover};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

const BELL: u8 = 0xff;
const SWITCH: u8 = 0x81;

/// A pipe. Loom reports a deadlock if a reader waits for ever.
#[derive(Default)]
struct Pipe {
    bytes: Mutex<VecDeque<u8>>,
    written: Condvar,
}

impl Pipe {
    fn write(&self, byte: u8) {
        self.bytes.lock().unwrap().push_back(byte);
        self.written.notify_all();
    }

    fn wait_readable(&self) {
        let mut bytes = self.bytes.lock().unwrap();
        while bytes.is_empty() {
            bytes = self.written.wait(bytes).unwrap();
        }
    }

    fn read(&self) -> u8 {
        self.bytes.lock().unwrap().pop_front().unwrap()
    }

    fn read_all(&self) -> VecDeque<u8> {
        std::mem::take(&mut self.bytes.lock().unwrap())
    }
}

struct Connection {
    words: Handover,
    pipe: Pipe,
}

/// The writer's end. What is in the ring are its places, so the bytes themselves need no memory here.
struct Writer {
    connection: Arc<Connection>,
    end: End,
}

impl Writer {
    /// Returns whether the reader had followed, so that the stream is in the ring now.
    fn enter(&mut self) -> bool {
        if self.connection.words.taken() != self.end {
            return false;
        }
        self.end.is_left = false;
        self.connection.words.publish_quietly(self.end);
        self.connection.pipe.write(SWITCH);
        true
    }

    fn put(&mut self) {
        self.end.place += 1;
        if self.connection.words.publish(self.end) {
            self.connection.pipe.write(BELL);
        }
    }

    fn leave(&mut self, byte: u8) {
        self.end.is_left = true;
        self.connection.words.publish_quietly(self.end);
        self.connection.pipe.write(byte);
    }
}

/// What the reader took: bytes of the ring as `None`. From the pipe it reads all there is at once, and holds what stands behind a SWITCH.
fn read(connection: &Connection, count: usize) -> Vec<Option<u8>> {
    let Connection { words, pipe } = connection;
    let (mut found, mut in_ring, mut place, mut bells) = (Vec::new(), false, 0, false);
    let mut held = VecDeque::new();
    while found.len() < count {
        if !in_ring {
            if held.is_empty() {
                pipe.wait_readable();
                held = pipe.read_all();
            }
            match held.pop_front().unwrap() {
                BELL if bells => {}
                SWITCH => in_ring = true,
                byte => {
                    bells = false;
                    found.push(Some(byte));
                }
            }
            continue;
        }
        if words.end().place == place && words.listen().place == place {
            pipe.wait_readable();
            if !words.end().is_left {
                assert_eq!(pipe.read(), BELL);
            }
        }
        if words.end().place > place {
            place += 1;
            found.push(None);
            words.take_to(End { place, is_left: false });
        }
        let end = words.end();
        if end == (End { place, is_left: true }) {
            words.take_to(end);
            (in_ring, bells) = (false, true);
        }
    }
    found
}

/// Every order with so many interruptions at most, which finds what can be found, and ends.
fn model(steps: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(steps);
}

fn connect() -> (Writer, Arc<Connection>) {
    let connection = Arc::new(Connection { words: Handover::new(), pipe: Pipe::default() });
    let writer = Writer { connection: Arc::clone(&connection), end: End { place: 0, is_left: true } };
    (writer, connection)
}

#[test]
fn a_reader_that_begins_to_wait_is_told() {
    model(|| {
        let (mut writer, connection) = connect();
        let reader = thread::spawn(move || read(&connection, 2));
        assert!(writer.enter());
        writer.put();
        writer.put();
        assert_eq!(reader.join().unwrap(), [None, None]);
    });
}

#[test]
fn the_stream_goes_on_in_the_pipe() {
    model(|| {
        let (mut writer, connection) = connect();
        let reader = thread::spawn(move || read(&connection, 3));
        assert!(writer.enter());
        writer.put();
        writer.leave(1);
        writer.connection.pipe.write(2);
        assert_eq!(reader.join().unwrap(), [None, Some(1), Some(2)]);
    });
}

#[test]
fn the_stream_comes_back_when_the_reader_has_followed() {
    model(|| {
        let (mut writer, connection) = connect();
        let reader = thread::spawn(move || read(&connection, 3));
        assert!(writer.enter());
        writer.put();
        writer.leave(1);
        let last = if writer.enter() {
            writer.put();
            None
        } else {
            writer.connection.pipe.write(2);
            Some(2)
        };
        assert_eq!(reader.join().unwrap(), [None, Some(1), last]);
    });
}

/// The reactor waits for the pipe while a thread reads for itself: the thread takes its bell away, and has to say so again.
#[test]
fn a_bell_that_is_taken_away_rings_again() {
    model(|| {
        let (mut writer, connection) = connect();
        let reactor = Arc::clone(&connection);
        writer.enter();
        assert_eq!(connection.pipe.read(), SWITCH);
        // The reactor is armed and nothing is there.
        assert_eq!(connection.words.listen().place, 0);
        let thread = thread::spawn(move || {
            let Connection { words, pipe } = &*connection;
            pipe.wait_readable();
            assert_eq!(pipe.read(), BELL);
            words.listen();
            // It takes what it finds, and gives the role back: had it left something, it would have woken the reactor.
            words.end().place
        });
        writer.put();
        writer.put();
        if thread.join().unwrap() < 2 {
            reactor.pipe.wait_readable();
        }
    });
}
