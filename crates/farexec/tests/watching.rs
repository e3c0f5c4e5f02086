//! Every order of steps in which threads that wait for items and the reactor can hand each other the reading of a gateway's input, tried by
//! loom: an item that has come is taken, and nobody sleeps on while it is there.
//!
//! The states and what follows from them are the crate's own (`watch.rs`). What stands around them here in small is `link.rs` (waiting,
//! reading, handing back, the reactor's turn and its second look) and the system: a pipe, and a poller that tells once of what it is armed for.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

mod atomic {
    pub(super) use loom::sync::atomic::{AtomicU8, Ordering, fence};
}
#[path = "../src/watch.rs"]
mod watch;

use std::collections::VecDeque;

use loom::sync::atomic::{AtomicUsize, Ordering, fence};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread::{self, Thread};
use watch::{Watch, Watched};

/// Whom an item is for.
type Inbox = usize;

const INBOXES: usize = 2;

/// What the system knows.
#[derive(Default)]
struct System {
    pipe: VecDeque<Inbox>,
    is_armed: bool,
    /// Whether the reactor has a second look to take, for which its timer wakes it.
    standing_by: bool,
    is_over: bool,
}

enum Woken {
    Readable,
    Timer,
    Over,
}

struct Link {
    system: Mutex<System>,
    changed: Condvar,
    /// Who holds it reads.
    reading: Mutex<()>,
    watch: Watch,
    reads: AtomicUsize,
    last_reads: AtomicUsize,
    /// Channels that feed a callback or a queue, for which no thread waits.
    consumers: AtomicUsize,
    waiters: Mutex<Vec<Thread>>,
    /// What has arrived for each, and the threads that wait for it.
    inboxes: Mutex<[(usize, Vec<Thread>); INBOXES]>,
    arrived: Condvar,
}

impl Link {
    fn new() -> Arc<Self> {
        let link = Arc::new(Self {
            system: Mutex::default(),
            changed: Condvar::new(),
            reading: Mutex::new(()),
            watch: Watch::default(),
            reads: AtomicUsize::new(0),
            last_reads: AtomicUsize::new(0),
            consumers: AtomicUsize::new(0),
            waiters: Mutex::default(),
            inboxes: Mutex::default(),
            arrived: Condvar::new(),
        });
        link.arm();
        link
    }

    // The system.

    fn write(&self, inbox: Inbox) {
        self.system.lock().unwrap().pipe.push_back(inbox);
        self.changed.notify_all();
    }

    fn wait_readable(&self) {
        let mut system = self.system.lock().unwrap();
        while system.pipe.is_empty() {
            system = self.changed.wait(system).unwrap();
        }
    }

    fn poll(&self) -> Woken {
        let mut system = self.system.lock().unwrap();
        loop {
            if system.is_armed && !system.pipe.is_empty() {
                system.is_armed = false;
                return Woken::Readable;
            }
            if std::mem::take(&mut system.standing_by) {
                return Woken::Timer;
            }
            if system.is_over {
                return Woken::Over;
            }
            system = self.changed.wait(system).unwrap();
        }
    }

    fn rearm(&self) {
        self.system.lock().unwrap().is_armed = true;
        self.changed.notify_all();
    }

    // A thread that waits.

    fn wait(&self, inbox: Inbox) {
        let ready = || self.inboxes.lock().unwrap()[inbox].0 > 0;
        if ready() || self.read_until(ready) {
            return;
        }
        self.inboxes.lock().unwrap()[inbox].1.push(thread::current());
        self.waiters.lock().unwrap().push(thread::current());
        fence(Ordering::SeqCst);
        while !ready() && !self.read_until(ready) {
            thread::park();
        }
        let is_other = |thread: &Thread| thread.id() != thread::current().id();
        self.inboxes.lock().unwrap()[inbox].1.retain(is_other);
        self.waiters.lock().unwrap().retain(is_other);
        self.hand_back();
    }

    fn read_until(&self, ready: impl Fn() -> bool) -> bool {
        let Ok(reading) = self.reading.try_lock() else { return false };
        while !ready() {
            self.wait_readable();
            self.read_once();
        }
        drop(reading);
        self.hand_back();
        true
    }

    /// Returns whether a thread that waits was woken.
    fn read_once(&self) -> bool {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let arrived = std::mem::take(&mut self.system.lock().unwrap().pipe);
        let mut inboxes = self.inboxes.lock().unwrap();
        let mut woken = false;
        for inbox in arrived {
            inboxes[inbox].0 += 1;
            for thread in &inboxes[inbox].1 {
                woken = true;
                thread.unpark();
            }
        }
        self.arrived.notify_all();
        woken
    }

    fn hand_back(&self) {
        fence(Ordering::SeqCst);
        if let Some(thread) = self.waiters.lock().unwrap().first() {
            thread.unpark();
            return;
        }
        if self.watch.wants_arming(|| false, || self.consumers.load(Ordering::SeqCst) > 0) {
            self.arm();
        }
    }

    fn arm(&self) {
        self.watch.set(Watched::Armed);
        self.rearm();
    }

    // The reactor.

    fn react(&self) {
        loop {
            match self.poll() {
                Woken::Readable => self.ready(),
                Woken::Timer => self.look(),
                Woken::Over => return,
            }
        }
    }

    fn ready(&self) {
        self.watch.set(Watched::StandingBy);
        let mut woken = true;
        if let Ok(reading) = self.reading.try_lock() {
            woken = self.read_once();
            drop(reading);
            fence(Ordering::SeqCst);
        }
        let waiter = self.waiters.lock().unwrap().first().cloned();
        if let Some(thread) = &waiter {
            thread.unpark();
        }
        if self.consumers.load(Ordering::SeqCst) == 0 && (woken || waiter.is_some()) {
            // `pause`, and armed again if somebody did meanwhile.
            if self.watch.get() == Watched::Armed {
                self.rearm();
            }
            self.system.lock().unwrap().standing_by = true;
        } else {
            self.arm();
            // It comes back at once until the thread that has the role has read.
            thread::yield_now();
        }
    }

    fn look(&self) {
        if self.watch.get() == Watched::Armed {
            return;
        }
        let reads = self.reads.load(Ordering::Relaxed);
        if self.last_reads.swap(reads, Ordering::Relaxed) != reads {
            self.system.lock().unwrap().standing_by = true;
            return;
        }
        if self.watch.stops_standing_by(|| self.reading.try_lock().is_ok()) {
            self.arm();
        }
    }
}

/// Threads that wait for an item each, while these are written and the reactor works; meanwhile a callback may be set. When nobody waits any
/// longer, one more is read all the same: it could be for a callback, or the end. Loom reports whoever waits for ever.
fn try_every_order(inboxes: &'static [Inbox], callback: bool) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(move || {
        let link = Link::new();
        let reactor = {
            let link = Arc::clone(&link);
            thread::spawn(move || link.react())
        };
        let waiting = inboxes.iter().map(|&inbox| {
            let link = Arc::clone(&link);
            thread::spawn(move || link.wait(inbox))
        });
        let waiting: Vec<_> = waiting.collect();
        for &inbox in inboxes {
            link.write(inbox);
        }
        if callback {
            link.consumers.fetch_add(1, Ordering::SeqCst);
            link.hand_back();
        }
        for thread in waiting {
            thread.join().unwrap();
        }
        let before = link.inboxes.lock().unwrap()[0].0;
        link.write(0);
        let mut arrived = link.inboxes.lock().unwrap();
        while arrived[0].0 == before {
            arrived = link.arrived.wait(arrived).unwrap();
        }
        drop(arrived);
        link.system.lock().unwrap().is_over = true;
        link.changed.notify_all();
        reactor.join().unwrap();
    });
}

#[test]
fn one_thread_waits() {
    try_every_order(&[0], false);
}

#[test]
fn a_callback_is_set_while_a_thread_waits() {
    try_every_order(&[0], true);
}

#[test]
fn two_threads_wait_for_items_of_their_own() {
    try_every_order(&[0, 1], false);
}
