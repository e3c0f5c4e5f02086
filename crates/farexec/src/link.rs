//! One gateway's connection: who reads it, who writes it, what becomes of what arrives.
//!
//! # The way of an item
//! `send` encodes in the caller's thread and calls [`Link::send`], which writes to the pipe at once if nothing is queued before it
//! ([`crate::outbox`]). What arrives is read by whoever holds the *reading role*: [`Link::read_once`] cuts it into frames, has the
//! session say what they mean, and puts items, still encoded, into their channel's [`Inbox`]. `receive` takes it from there and
//! decodes it.
//!
//! # Who reads
//! The thread that waits. [`Link::wait`] takes the role if it is free, and reads until what it waits for is there; a thread that finds
//! the role taken parks until its item or the role comes. Who gives the role back hands it to a parked thread, or to the
//! [`crate::reactor`], which reads for channels that nobody waits on ([`crate::watch`] is that agreement).
//!
//! # How it ends
//! By [`Link::finish`], once, whatever the reason; all that waits, every queue and every callback is told there.

mod answers;
mod asking;
mod ending;
mod ring;
mod sending;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::Thread;
use std::time::{Duration, Instant};

use farexec_proto::control::Terminate;
use farexec_proto::encoding::{StringCoercion, dump};
use farexec_proto::frame::FrameReader;
use farexec_proto::handshake::MarkerScanner;
use farexec_proto::limits::MAX_WORKER_CHANNELS;
use farexec_proto::serde::AsItem;
use farexec_proto::session::{Event, Session, Side, write_credit};
use farexec_proto::{ChannelId, Encoding};
use parking_lot::{Mutex, MutexGuard};

use crate::call::Lanes;
use crate::end::{Cause, ChannelEnd, EndReason};
use crate::inbox::{Inbox, SharedCoercion};
use crate::limits::{BREATH, LONGEST_GRACE, READ_CHUNK, READS_PER_TURN, SEND_HIGH_WATER};
use crate::monitor::Traffic;
use crate::outbox::Outbox;
use crate::pace::Pace;
use crate::payload::{keep_buffer, used_buffer};
use crate::reactor::{Reactor, Source, Standby};
use crate::supervisor::Supervisor;
use crate::sys::{self, Interest, Transfer, Waker, Woken};
use crate::trace;
use crate::wait::{Wait, WaitError};
use crate::wakers::{self, Wakers};
use crate::watch::{Watch, Watched};
use crate::work::Work;
use crate::worker::Duties;
use answers::{Answers, remote_error, terminate};
use ring::Ring;

/// The connection to one worker.
pub(crate) struct Link {
    id: String,
    reactor: Arc<Reactor>,
    supervisor: Option<Arc<Supervisor>>,
    /// What this side owes as a worker, if it is one.
    duties: Option<Arc<Duties>>,
    input: Arc<OwnedFd>,
    input_key: OnceLock<usize>,
    /// What there is beside the pipes, if there is.
    ring: Ring,
    /// The reading role: whoever holds it is the only one to read.
    reading: Mutex<Reading>,
    outbox: Arc<Outbox>,
    session: Mutex<Session<Arc<Inbox>>>,
    answers: Mutex<Answers>,
    /// Channels of the far end's that it closed with something in them before the item that mentions them was decoded.
    unclaimed: Mutex<HashMap<ChannelId, Arc<Inbox>>>,
    /// Threads that wait for something on this gateway while another reads.
    waiters: Mutex<Vec<Thread>>,
    /// Of those who will look again when something has happened that belongs to no channel.
    wakers: Mutex<Wakers>,
    /// Gets the thread that reads out of its wait.
    reader: Mutex<Option<Arc<Waker>>>,
    watch: Watch,
    /// Counts reads, so that the reactor can tell whether somebody reads.
    reads: AtomicU64,
    last_reads: AtomicU64,
    traffic: Traffic,
    /// What its worker does, if somebody watches.
    work: OnceLock<Arc<Work>>,
    /// How often this side has sent something since the last read, about.
    sent: AtomicU32,
    /// Channels whose items go to callbacks, receive queues and wakers: nobody's wait feeds them.
    consumers: Arc<AtomicUsize>,
    coercion: SharedCoercion,
    /// Whether the worker reads the message encoding: Python 2 does not.
    reads_message: AtomicBool,
    /// Whether the far end knows CREDIT, so that what may be sent ahead can be limited.
    knows_credit: AtomicBool,
    asked_to_end: AtomicBool,
    /// The input has ended; it is only a matter of learning why.
    input_ended: AtomicBool,
    /// The worker's process as it said, or 0.
    far_pid: AtomicU32,
    /// How a process exited that is not ours to wait for, as far as somebody told.
    far_exit: OnceLock<i32>,
    end: OnceLock<EndReason>,
    /// What calls go over.
    pub(crate) lanes: Lanes,
    /// Why the input ends, if whoever carries it knows.
    why_it_ends: OnceLock<String>,
    /// Whether every channel has been told of the end.
    all_told: AtomicBool,
    /// Which process made it; its child after a fork may not touch what both have.
    generation: u32,
    /// What such a child is told.
    inherited: OnceLock<EndReason>,
}

/// What a worker was asked for in what was just read.
#[derive(Default)]
struct Asked {
    executions: Vec<(Arc<Inbox>, Encoding, Vec<u8>)>,
    statuses: usize,
    to_end: Option<Terminate>,
}

#[derive(Debug, Default)]
struct Reading {
    scanner: MarkerScanner,
    answered: bool,
    frames: FrameReader,
    pace: Pace,
    stay: ring::Stay,
}

/// The two pipes of a connection, seen from this side.
pub(crate) struct Pipes {
    pub(crate) input: OwnedFd,
    pub(crate) output: OwnedFd,
}

/// A gateway that cannot be sent to any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendFailure {
    #[error("{0}")]
    Ended(EndReason),
    #[error("{0}")]
    Wait(#[from] WaitError),
}

thread_local! {
    /// Where what arrives is read to; shared by all gateways, since it is empty between two reads.
    static CHUNK: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(READ_CHUNK));
    /// What gets this thread out of a wait. `None` if the process has no descriptors left: then it naps instead.
    static WAKER: Option<Arc<Waker>> = Waker::new().ok().map(Arc::new);
}

/// Gives the calling thread what it waits with, which it else gets when it first waits: a worker has its descriptors from the beginning.
pub(crate) fn prepare_to_wait() {
    WAKER.with(|_| ());
}

impl Link {
    /// A coordinator's connection at its beginning, served by the reactor.
    pub(crate) fn new(id: &str, pipes: Pipes, supervisor: Option<Arc<Supervisor>>) -> io::Result<Arc<Self>> {
        let link = Self::connect(id, pipes, supervisor, None)?;
        link.start_reading();
        if let Some(supervisor) = &link.supervisor {
            supervisor.watch(&link.reactor, Some(&link))?;
        }
        Ok(link)
    }

    /// A worker's connection once START was read. Nothing else is before [`start_reading`](Self::start_reading).
    pub(crate) fn serving(id: &str, pipes: Pipes, duties: Arc<Duties>) -> io::Result<Arc<Self>> {
        let link = Self::connect(id, pipes, None, Some(duties))?;
        link.reading.lock().answered = true;
        Ok(link)
    }

    fn connect(
        id: &str,
        pipes: Pipes,
        supervisor: Option<Arc<Supervisor>>,
        duties: Option<Arc<Duties>>,
    ) -> io::Result<Arc<Self>> {
        let reactor = Reactor::current()?;
        let input = Arc::new(pipes.input);
        let side = if duties.is_some() { Side::Worker } else { Side::Coordinator };
        let consumers = Arc::default();
        // What a worker sent is not lost if it crashes.
        let high_water = if duties.is_some() { 0 } else { SEND_HIGH_WATER };
        let link = Arc::new(Self {
            id: id.into(),
            reactor: Arc::clone(&reactor),
            supervisor,
            duties,
            input: Arc::clone(&input),
            input_key: OnceLock::new(),
            ring: Ring::default(),
            reading: Mutex::default(),
            outbox: Arc::new(Outbox::new(pipes.output, high_water)?),
            session: Mutex::new(Session::new(side)),
            answers: Mutex::default(),
            unclaimed: Mutex::default(),
            waiters: Mutex::default(),
            wakers: Mutex::new(Wakers::counted_in(&consumers)),
            reader: Mutex::default(),
            watch: Watch::default(),
            reads: AtomicU64::new(0),
            last_reads: AtomicU64::new(0),
            traffic: Traffic::default(),
            work: OnceLock::new(),
            sent: AtomicU32::new(0),
            consumers,
            coercion: SharedCoercion::default(),
            // A coordinator learns it from the worker; a worker is told by the code that it executes.
            reads_message: AtomicBool::new(side == Side::Worker),
            knows_credit: AtomicBool::new(false),
            asked_to_end: AtomicBool::new(false),
            input_ended: AtomicBool::new(false),
            far_pid: AtomicU32::new(0),
            far_exit: OnceLock::new(),
            end: OnceLock::new(),
            lanes: Lanes::default(),
            why_it_ends: OnceLock::new(),
            all_told: AtomicBool::new(false),
            generation: sys::generation(),
            inherited: OnceLock::new(),
        });
        link.outbox.register(&reactor)?;
        let source = Arc::clone(&link);
        let key = reactor.add(input, Interest::Nothing, move |_| source)?;
        let _ = link.input_key.set(key);
        Ok(link)
    }

    /// Has the reactor read from now on, where nobody else does.
    pub(crate) fn start_reading(self: &Arc<Self>) {
        self.arm();
    }

    /// The trace, if there is one: a coordinator's has both directions, so workers write none.
    fn trace(&self) -> Option<&'static trace::Trace> {
        if self.duties.is_none() { trace::active() } else { None }
    }

    /// What went over it.
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// What its worker does, if somebody watches.
    pub(crate) fn work(&self) -> Option<&Arc<Work>> {
        self.work.get()
    }

    pub(crate) fn set_work(&self, work: Arc<Work>) {
        let work = self.work.get_or_init(|| work);
        // It may have answered, or ended, before anybody was to be told.
        if self.answers().has_hello() {
            work.started(self.worker_pid());
        }
        if let Some(reason) = self.end.get() {
            work.ended(reason);
        }
    }

    /// How many bytes wait for the far end to take them.
    pub(crate) fn queued(&self) -> usize {
        self.outbox.queued()
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn supervisor(&self) -> Option<&Arc<Supervisor>> {
        self.supervisor.as_ref()
    }

    pub(crate) fn reactor(&self) -> &Arc<Reactor> {
        &self.reactor
    }

    /// Why the connection has ended, once it has.
    pub(crate) fn end(&self) -> Option<&EndReason> {
        if self.generation != sys::generation() {
            return Some(
                self.inherited.get_or_init(|| EndReason::new(&self.id, None, Cause::Inherited, Vec::new())),
            );
        }
        self.end.get()
    }

    /// Whether it is that of the process that this one was forked from. Locks may be held for ever then.
    pub(crate) fn is_inherited(&self) -> bool {
        self.generation != sys::generation()
    }

    /// In the child of a fork: lets go of the descriptors, which are the parent's to close.
    pub(crate) fn let_go(&self) {
        for fd in [Some(Arc::clone(&self.input)), self.outbox.try_output()].into_iter().flatten() {
            if let Err(error) = sys::let_go(&*fd) {
                tracing::warn!(%error, "a forked process keeps its parent's connection open");
            }
        }
    }

    /// The connection, for as long as it is open.
    pub(crate) fn connection(&self) -> Weak<OwnedFd> {
        Arc::downgrade(&self.input)
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock()
    }

    pub(crate) fn session(&self) -> MutexGuard<'_, Session<Arc<Inbox>>> {
        self.session.lock()
    }

    pub(crate) fn coercion(&self) -> StringCoercion {
        self.coercion.get()
    }

    pub(crate) fn set_coercion(&self, coercion: StringCoercion) {
        self.coercion.set(coercion);
    }

    /// A new channel of this side's.
    pub(crate) fn open_channel(&self, max_pending: Option<u32>) -> Arc<Inbox> {
        let max_pending = max_pending.filter(|_| self.knows_credit.load(Ordering::Relaxed));
        let mut session = self.session.lock();
        let (_, inbox) = session.open(|id| self.inbox(id, max_pending));
        Arc::clone(inbox)
    }

    /// Tells the far end that an item which arrived was taken, if that is to be told.
    #[inline]
    pub(crate) fn item_taken(&self, inbox: &Inbox) {
        if let Some(flow) = inbox.flow()
            && let Some(items) = flow.took()
        {
            let mut out = Vec::new();
            write_credit(inbox.id, items, &mut out);
            // Who is gone needs no credit.
            let _ = self.send(&out);
        }
    }

    /// Takes back a channel that the far end was never told of.
    pub(crate) fn forget_channel(&self, id: ChannelId) {
        self.session.lock().close(id, None, &mut Vec::new());
    }

    /// The channel that an item mentions.
    pub(crate) fn mentioned_channel(&self, id: ChannelId) -> Arc<Inbox> {
        if let Some(inbox) = self.session.lock().channel(id) {
            return Arc::clone(inbox);
        }
        // What is forgotten by the session is put here under its lock.
        self.unclaimed.lock().remove(&id).unwrap_or_else(|| self.closed_channel(id))
    }

    /// Returns whether it could be kept, if it has to be.
    fn keep_unclaimed(&self, inbox: &Arc<Inbox>) -> bool {
        if !inbox.is_unclaimed() {
            return true;
        }
        let mut unclaimed = self.unclaimed.lock();
        unclaimed.insert(inbox.id, Arc::clone(inbox));
        unclaimed.len() <= MAX_WORKER_CHANNELS
    }

    /// What is left of a channel that ended with nothing in it before anybody had a handle on it.
    fn closed_channel(&self, id: ChannelId) -> Arc<Inbox> {
        let inbox = self.inbox(id, None);
        inbox.close(match self.end.get() {
            Some(reason) => ChannelEnd::Gateway(reason.clone()),
            None => ChannelEnd::Closed,
        });
        inbox
    }

    fn inbox(&self, id: ChannelId, max_pending: Option<u32>) -> Arc<Inbox> {
        Arc::new(Inbox::new(id, self.coercion(), Arc::clone(&self.consumers), max_pending))
    }

    /// A channel feeds a callback or a queue from now on.
    pub(crate) fn consumer_added(self: &Arc<Self>) {
        self.nudge();
        self.hand_back();
    }

    // ---- waiting and reading ----

    /// Waits until `ready` finds something, reading meanwhile if nobody else does. In `inbox` those who make it ready look for threads to
    /// wake, besides the link's own waiters. A wait that only polls never reads: the reactor does.
    pub(crate) fn wait<T>(
        self: &Arc<Self>,
        inbox: Option<&Inbox>,
        wait: &Wait<'_>,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<T, WaitError> {
        if let Some(found) = ready() {
            return Ok(found);
        }
        if let Some(asker) = wait.asker() {
            return self.ask(inbox, asker, ready);
        }
        if let Some(found) = self.read_until(wait, &mut ready)? {
            return Ok(found);
        }
        let registration = Registration::new(self, inbox);
        loop {
            if let Some(found) = ready() {
                return Ok(found);
            }
            if let Some(found) = self.read_until(wait, &mut ready)? {
                return Ok(found);
            }
            wait.check()?;
            registration.park(wait);
        }
    }

    /// Reads until `ready` finds something; `None` if somebody else reads, or there is nothing more to read.
    fn read_until<T>(
        self: &Arc<Self>,
        wait: &Wait<'_>,
        ready: &mut impl FnMut() -> Option<T>,
    ) -> Result<Option<T>, WaitError> {
        if self.input_ended.load(Ordering::SeqCst) {
            return Ok(None);
        }
        let Some(mut reading) = self.reading.try_lock() else { return Ok(None) };
        let result = WAKER.with(|waker| {
            self.reader.lock().clone_from(waker);
            self.read_with_role(&mut reading, waker.as_deref(), wait, ready)
        });
        self.reader.lock().take();
        drop(reading);
        self.hand_back();
        result
    }

    fn read_with_role<T>(
        self: &Arc<Self>,
        reading: &mut Reading,
        waker: Option<&Waker>,
        wait: &Wait<'_>,
        ready: &mut impl FnMut() -> Option<T>,
    ) -> Result<Option<T>, WaitError> {
        let mut reads = 0_usize;
        loop {
            if let Some(found) = ready() {
                return Ok(Some(found));
            }
            if self.input_ended.load(Ordering::SeqCst) {
                return Ok(None);
            }
            if self.process_is_gone() {
                self.read_the_rest(reading);
                continue;
            }
            if reading.pace.is_streaming() {
                std::thread::sleep(BREATH);
            }
            let in_ring = self.ring.has_bytes() || self.ring.listen();
            let woken = if in_ring {
                Ok(Woken::Ready)
            } else {
                sys::wait_readable(self.input.as_fd(), waker, wait.nap())
            };
            match woken {
                Ok(Woken::Ready) => {
                    self.read_once(reading, !in_ring);
                    // A worker that always has something to read would keep this thread for ever.
                    reads += 1;
                    if reads.is_multiple_of(READS_PER_TURN) {
                        if let Some(found) = ready() {
                            return Ok(Some(found));
                        }
                        wait.check()?;
                    }
                }
                Ok(Woken::Timeout | Woken::Signal | Woken::Waker) => {
                    if let Some(found) = ready() {
                        return Ok(Some(found));
                    }
                    wait.check()?;
                }
                Err(error) => self.finish(Cause::ConnectionLost(error.to_string())),
            }
        }
    }

    /// Gives the role, which is free, to a thread that waits, or sees to it that the reactor has it.
    fn hand_back(self: &Arc<Self>) {
        // Who registers as a waiter, or parks the watch, looks at the role afterwards; who frees the role looks for them
        // afterwards. One of the two sees the other.
        fence(Ordering::SeqCst);
        if self.process_is_gone() && self.end.get().is_none() && !self.input_ended.load(Ordering::SeqCst) {
            self.process_exited();
            return;
        }
        if let Some(thread) = self.waiters.lock().first() {
            thread.unpark();
            return;
        }
        let has_consumers = || self.consumers.load(Ordering::SeqCst) > 0;
        if self.watch.wants_arming(|| self.ring.has_bytes(), has_consumers) {
            self.arm();
        }
    }

    /// Has the reactor read when something comes.
    fn arm(self: &Arc<Self>) {
        if self.input_ended.load(Ordering::SeqCst) {
            return;
        }
        self.watch.set(Watched::Armed);
        if let Some(key) = self.input_key.get() {
            self.reactor.rearm(*key, Interest::Readable);
        }
        fence(Ordering::SeqCst);
        if self.ring.listen() {
            let link = Arc::clone(self);
            self.reactor.at(Instant::now(), move |reactor| link.ready(reactor));
        }
    }

    /// Who writes to the pipe need not wake the reactor while it stands by.
    fn unwatch(&self) {
        let Some(key) = self.input_key.get() else { return };
        self.reactor.pause(*key);
        // Who armed it meanwhile did so before that, or does it now.
        if self.watch.get() == Watched::Armed {
            self.reactor.rearm(*key, Interest::Readable);
        }
    }

    /// Reads what is there, once: from the pipe, which is readable then, or from the ring. Returns whether a thread that waits was woken.
    fn read_once(self: &Arc<Self>, reading: &mut Reading, is_readable: bool) -> bool {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if self.ring.is_entered() {
            return self.read_ring(reading, is_readable);
        }
        let transfer = match reading.frames.direct() {
            Some(room) => {
                let transfer = sys::read(self.input.as_fd(), room);
                if let Ok(Transfer::Bytes(count)) = transfer {
                    reading.frames.arrived(count);
                }
                (transfer, self.take_in(reading, &[]))
            }
            None => CHUNK.with_borrow_mut(|chunk| {
                chunk.clear();
                let transfer = sys::read_spare(self.input.as_fd(), chunk);
                let bytes = reading.stay.without_bells(chunk);
                (transfer, self.take_in(reading, bytes))
            }),
        };
        if reading.frames.wants_buffer() {
            if let Some(buffer) = used_buffer() {
                reading.frames.offer(buffer);
            }
        } else if let Some(buffer) = reading.frames.take_unused() {
            keep_buffer(buffer);
        }
        if let Ok(Transfer::Bytes(count)) = transfer.0 {
            self.count_read(reading, count);
        }
        match transfer {
            (Ok(Transfer::Bytes(_) | Transfer::WouldBlock), woken) => woken,
            (Ok(Transfer::Ended), _) => {
                self.keep_chatter(reading);
                self.input_has_ended();
                true
            }
            (Err(error), _) => {
                self.finish(Cause::ConnectionLost(error.to_string()));
                true
            }
        }
    }

    /// Has the session take in bytes that were read.
    fn take_in(self: &Arc<Self>, reading: &mut Reading, mut bytes: &[u8]) -> bool {
        if !reading.answered {
            match reading.scanner.scan(&mut bytes) {
                Ok(true) => reading.answered = true,
                Ok(false) => return false,
                Err(error) => {
                    self.answers.lock().set_chatter(reading.scanner.chatter());
                    self.give_up(Cause::Protocol(error.to_string()));
                    return true;
                }
            }
        }
        let mut replies = Vec::new();
        let mut woken = false;
        let mut asked = Asked::default();
        let mut ring_asked = None;
        let _wakes = wakers::deferred();
        let mut session = self.session.lock();
        let broken = loop {
            let frame = match reading.frames.next(&mut bytes) {
                Ok(Some(frame)) => frame,
                Ok(None) => break None,
                Err(error) => break Some(error.to_string()),
            };
            if let Some(trace) = self.trace() {
                trace.received(&self.id, &frame);
            }
            let event = match session.receive(frame, |id, credit| self.inbox(id, credit), &mut replies) {
                Ok(event) => event,
                Err(error) => break Some(error.to_string()),
            };
            match event {
                Event::Item { channel, encoding, payload } => {
                    // A worker takes its coordinator as it is.
                    if self.duties.is_none() && channel.flow().is_some_and(|flow| !flow.arrived()) {
                        break Some(format!(
                            "it sent more on channel {} than `max_pending` allows",
                            channel.id
                        ));
                    }
                    self.traffic.received_item();
                    woken |= channel.deliver(encoding, payload.into_owned());
                }
                Event::Credit { channel, items } => woken |= channel.add_credit(items),
                Event::ItemsEnded(inbox) => woken |= inbox.end_items(ChannelEnd::Closed),
                Event::Closed { channel, error, .. } => {
                    let end = match error {
                        Some((encoding, bytes)) => ChannelEnd::Error(remote_error(encoding, &bytes)),
                        None => ChannelEnd::Closed,
                    };
                    woken |= channel.close(end);
                    if !self.keep_unclaimed(&channel) {
                        break Some(format!("it closed {MAX_WORKER_CHANNELS} channels that nobody took"));
                    }
                }
                Event::Reconfigured { channel: Some(inbox), coercion } => inbox.set_coercion(coercion),
                Event::Reconfigured { channel: None, coercion } => self.set_coercion(coercion),
                Event::Hello(payload) => match self.take_hello(&payload, &mut replies) {
                    Ok(is_last) => woken |= is_last,
                    Err(why) => break Some(why),
                },
                Event::Status(encoding, payload) => match self.take_status(encoding, &payload) {
                    Ok(()) => woken = true,
                    Err(why) => break Some(why),
                },
                // The session lets each side send only what is its to send: these are for workers.
                Event::Execute { channel, encoding, request } => {
                    asked.executions.push((Arc::clone(channel), encoding, request.into_owned()));
                }
                Event::StatusAsked => asked.statuses += 1,
                Event::Terminate(encoding, payload) => match terminate(encoding, &payload) {
                    Ok(request) => {
                        asked.to_end = Some(request);
                        break None;
                    }
                    Err(error) => break Some(format!("its TERMINATE cannot be read: {error}")),
                },
                Event::Ring(encoding, payload) => ring_asked = Some((encoding, payload.into_owned())),
                Event::Switched => match self.enter_ring(reading, bytes) {
                    Ok(()) => break None,
                    Err(why) => break Some(why),
                },
                Event::Start(_) => break Some("it sent a second START".into()),
                Event::Nothing | Event::Opened(_) | Event::Pong(_) => {}
            }
        };
        if let (1.., Some(duties)) = (asked.statuses, &self.duties) {
            let status = duties.status(session.channel_count());
            let mut payload = Vec::new();
            if dump::encode(&AsItem(&status), &mut payload).is_ok() {
                (0..asked.statuses)
                    .for_each(|_| session.write_status(Encoding::Dump, &payload, &mut replies));
            }
        }
        drop(session);
        if let Some(duties) = &self.duties {
            for (inbox, encoding, request) in asked.executions {
                if duties.take_in(self, inbox, encoding, request) {
                    woken = true;
                    self.wake_waiters();
                }
            }
        }
        let broken = broken.or_else(|| self.send_replies(&replies));
        if let Some((encoding, payload)) = ring_asked {
            self.accept_ring(encoding, &payload);
        }
        if let Some(why) = broken {
            self.give_up(Cause::Protocol(why));
            return true;
        }
        if let Some(Terminate { grace }) = asked.to_end {
            let grace = Duration::try_from_secs_f64(grace.max(0.0)).unwrap_or(LONGEST_GRACE);
            self.finish_after(Cause::Asked, grace.min(LONGEST_GRACE));
            return true;
        }
        woken
    }

    fn wake_waiters(&self) {
        let _wakes = wakers::deferred();
        for thread in &*self.waiters.lock() {
            thread.unpark();
        }
        self.wakers.lock().wake();
    }

    /// Makes every thread that waits here look again: something changed that did not arrive from the far end.
    pub(crate) fn nudge(&self) {
        if let Some(waker) = &*self.reader.lock() {
            waker.wake();
        }
        self.wake_waiters();
    }
}

impl Source for Link {
    fn ready(self: Arc<Self>, reactor: &Arc<Reactor>) {
        if self.end.get().is_some() {
            self.watch_for_loss();
            return;
        }
        self.watch.set(Watched::StandingBy);
        let mut woken = true;
        if let Some(mut reading) = self.reading.try_lock() {
            woken = false;
            for _ in 0..READS_PER_TURN {
                if self.input_ended.load(Ordering::SeqCst) {
                    break;
                }
                let is_readable = sys::is_readable(self.input.as_fd());
                if !is_readable && !self.ring.has_bytes() {
                    break;
                }
                woken |= self.read_once(&mut reading, is_readable);
            }
            drop(reading);
            fence(Ordering::SeqCst);
            if self.process_is_gone() {
                self.process_exited();
            }
        }
        if self.end.get().is_some() {
            return;
        }
        let waiter = self.waiters.lock().first().cloned();
        if let Some(thread) = &waiter {
            thread.unpark();
        }
        if self.consumers.load(Ordering::SeqCst) == 0 && (woken || waiter.is_some()) {
            self.unwatch();
            reactor.stand_by(self);
        } else {
            self.arm();
        }
    }
}

impl Standby for Link {
    fn look(self: Arc<Self>, _reactor: &Arc<Reactor>) -> bool {
        if self.end.get().is_some() || self.watch.get() == Watched::Armed {
            return false;
        }
        let reads = self.reads.load(Ordering::Relaxed);
        if self.last_reads.swap(reads, Ordering::Relaxed) != reads {
            return true;
        }
        if self.watch.stops_standing_by(|| self.reading.try_lock().is_some()) {
            self.arm();
        }
        false
    }
}

/// A thread's place among those that wait for something on a link.
struct Registration<'a> {
    link: &'a Arc<Link>,
    inbox: Option<&'a Inbox>,
    thread: Thread,
}

impl<'a> Registration<'a> {
    fn new(link: &'a Arc<Link>, inbox: Option<&'a Inbox>) -> Self {
        let thread = std::thread::current();
        if let Some(inbox) = inbox {
            inbox.state().parked.push(thread.clone());
        }
        link.waiters.lock().push(thread.clone());
        fence(Ordering::SeqCst);
        Self { link, inbox, thread }
    }

    fn park(&self, wait: &Wait<'_>) {
        wait.park();
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        let is_other = |thread: &Thread| thread.id() != self.thread.id();
        if let Some(inbox) = self.inbox {
            inbox.state().parked.retain(is_other);
        }
        self.link.waiters.lock().retain(is_other);
        // The role may have been offered to this thread, which does not want it any more.
        self.link.hand_back();
    }
}
