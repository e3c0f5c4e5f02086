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

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Instant;

use farexec_proto::control::{ErrorReport, Hello, Status, Terminate};
use farexec_proto::encoding::{Encode, EncodeError, StringCoercion, dump, encode_item};
use farexec_proto::frame::{FrameReader, Kind};
use farexec_proto::handshake::MarkerScanner;
use farexec_proto::serde::AsItem;
use farexec_proto::session::{Event, Session, Side};
use farexec_proto::{ChannelId, Encoding, frame};
use parking_lot::{Mutex, MutexGuard};

use crate::end::{Cause, ChannelEnd, EndReason, RemoteError};
use crate::error::ExecError;
use crate::inbox::{Inbox, Wakers};
use crate::limits::{EXIT_AFTER_EOF, READ_CHUNK, READS_PER_TURN};
use crate::outbox::{Broken, Outbox};
use crate::reactor::{Reactor, Source, Standby};
use crate::supervisor::Supervisor;
use crate::sys::{self, Interest, Transfer, Waker, Woken};
use crate::trace;
use crate::wait::{Wait, WaitError};
use crate::watch::{Watch, Watched};

/// The connection to one worker.
pub(crate) struct Link {
    id: String,
    reactor: Arc<Reactor>,
    supervisor: Option<Arc<Supervisor>>,
    input: Arc<OwnedFd>,
    input_key: OnceLock<usize>,
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
    /// Channels whose items go to callbacks and receive queues: nobody's wait feeds them.
    consumers: Arc<AtomicUsize>,
    py2str_as_py3str: AtomicBool,
    /// Whether the worker reads the message encoding: Python 2 does not.
    reads_message: AtomicBool,
    asked_to_end: AtomicBool,
    /// The input has ended; it is only a matter of learning why.
    input_ended: AtomicBool,
    /// How a process exited that is not ours to wait for, as far as somebody told.
    far_exit: OnceLock<i32>,
    end: OnceLock<EndReason>,
}

#[derive(Debug, Default)]
struct Reading {
    scanner: MarkerScanner,
    answered: bool,
    frames: FrameReader,
}

/// What the worker said that belongs to no channel.
#[derive(Debug, Default)]
struct Answers {
    hello: Option<Hello>,
    statuses: VecDeque<Status>,
    status_requests: u64,
    status_replies: u64,
    chatter: Vec<u8>,
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
    static CHUNK: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_CHUNK]);
    /// What gets this thread out of a wait. `None` if the process has no descriptors left: then it naps instead.
    static WAKER: Option<Arc<Waker>> = Waker::new().ok().map(Arc::new);
}

impl Link {
    /// A connection at its beginning, served by the reactor.
    pub(crate) fn new(id: &str, pipes: Pipes, supervisor: Option<Arc<Supervisor>>) -> io::Result<Arc<Self>> {
        let reactor = Reactor::current()?;
        let input = Arc::new(pipes.input);
        let link = Arc::new(Self {
            id: id.into(),
            reactor: Arc::clone(&reactor),
            supervisor,
            input: Arc::clone(&input),
            input_key: OnceLock::new(),
            reading: Mutex::default(),
            outbox: Arc::new(Outbox::new(pipes.output)?),
            session: Mutex::new(Session::new(Side::Coordinator)),
            answers: Mutex::default(),
            unclaimed: Mutex::default(),
            waiters: Mutex::default(),
            wakers: Mutex::default(),
            reader: Mutex::default(),
            watch: Watch::default(),
            reads: AtomicU64::new(0),
            last_reads: AtomicU64::new(0),
            consumers: Arc::default(),
            py2str_as_py3str: AtomicBool::new(true),
            reads_message: AtomicBool::new(false),
            asked_to_end: AtomicBool::new(false),
            input_ended: AtomicBool::new(false),
            far_exit: OnceLock::new(),
            end: OnceLock::new(),
        });
        link.outbox.register(&reactor)?;
        let source = Arc::clone(&link);
        let key = reactor.add(input, Interest::Readable, move |_| source)?;
        let _ = link.input_key.set(key);
        if let Some(supervisor) = &link.supervisor {
            supervisor.watch(&reactor, Some(&link))?;
        }
        Ok(link)
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

    pub(crate) fn end(&self) -> Option<&EndReason> {
        self.end.get()
    }

    pub(crate) fn session(&self) -> MutexGuard<'_, Session<Arc<Inbox>>> {
        self.session.lock()
    }

    pub(crate) fn coercion(&self) -> StringCoercion {
        StringCoercion { py2str_as_py3str: self.py2str_as_py3str.load(Ordering::Relaxed) }
    }

    pub(crate) fn set_coercion(&self, coercion: StringCoercion) {
        self.py2str_as_py3str.store(coercion.py2str_as_py3str, Ordering::Relaxed);
    }

    /// A new channel of this side's.
    pub(crate) fn open_channel(&self) -> Arc<Inbox> {
        let mut session = self.session.lock();
        let (_, inbox) = session.open(|id| self.inbox(id));
        Arc::clone(inbox)
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

    fn keep_unclaimed(&self, inbox: &Arc<Inbox>) {
        if inbox.is_unclaimed() {
            self.unclaimed.lock().insert(inbox.id, Arc::clone(inbox));
        }
    }

    /// What is left of a channel that ended with nothing in it before anybody had a handle on it.
    fn closed_channel(&self, id: ChannelId) -> Arc<Inbox> {
        let inbox = self.inbox(id);
        inbox.close(match self.end.get() {
            Some(reason) => ChannelEnd::Gateway(reason.clone()),
            None => ChannelEnd::Closed,
        });
        inbox
    }

    fn inbox(&self, id: ChannelId) -> Arc<Inbox> {
        Arc::new(Inbox::new(id, self.coercion(), Arc::clone(&self.consumers)))
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
        if let Some(waker) = wait.waker() {
            match inbox {
                Some(inbox) => inbox.state().wakers.add(waker),
                None => self.wakers.lock().add(waker),
            }
            return ready().ok_or(WaitError::Pending);
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
            match sys::wait_readable(self.input.as_fd(), waker, wait.nap()) {
                Ok(Woken::Ready) => {
                    self.read_once(reading);
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
        let back = match self.watch.get() {
            Watched::Armed => false,
            Watched::StandingBy => self.consumers.load(Ordering::SeqCst) > 0,
            Watched::Parked => true,
        };
        if back {
            self.arm();
        }
    }

    /// Has the reactor read when something comes.
    fn arm(&self) {
        if self.input_ended.load(Ordering::SeqCst) {
            return;
        }
        self.watch.set(Watched::Armed);
        if let Some(key) = self.input_key.get() {
            self.reactor.rearm(*key, Interest::Readable);
        }
    }

    /// Reads what is there, once. Returns whether a thread that waits was woken.
    fn read_once(self: &Arc<Self>, reading: &mut Reading) -> bool {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let transfer = match reading.frames.direct() {
            Some(payload) => {
                let transfer = sys::read_spare(self.input.as_fd(), payload);
                (transfer, self.take_in(reading, &[]))
            }
            None => CHUNK.with_borrow_mut(|chunk| {
                let transfer = sys::read(self.input.as_fd(), chunk);
                let bytes = match transfer {
                    Ok(Transfer::Bytes(count)) => &chunk[..count],
                    _ => &[][..],
                };
                (transfer, self.take_in(reading, bytes))
            }),
        };
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
                    self.answers.lock().chatter = reading.scanner.chatter().to_vec();
                    self.give_up(Cause::Protocol(error.to_string()));
                    return true;
                }
            }
        }
        let mut replies = Vec::new();
        let mut woken = false;
        let mut session = self.session.lock();
        let broken = loop {
            let frame = match reading.frames.next(&mut bytes) {
                Ok(Some(frame)) => frame,
                Ok(None) => break None,
                Err(error) => break Some(error.to_string()),
            };
            if let Some(trace) = trace::active() {
                trace.received(&self.id, &frame);
            }
            let event = match session.receive(frame, |id| self.inbox(id), &mut replies) {
                Ok(event) => event,
                Err(error) => break Some(error.to_string()),
            };
            match event {
                Event::Item { channel, encoding, payload } => {
                    woken |= channel.deliver(encoding, payload.into_owned());
                }
                Event::ItemsEnded(inbox) => woken |= inbox.end_items(ChannelEnd::Closed),
                Event::Closed { channel, error, .. } => {
                    let end = match error {
                        Some((encoding, bytes)) => ChannelEnd::Error(remote_error(encoding, &bytes)),
                        None => ChannelEnd::Closed,
                    };
                    woken |= channel.close(end);
                    self.keep_unclaimed(&channel);
                }
                Event::Reconfigured { channel: Some(inbox), coercion, .. } => inbox.set_coercion(coercion),
                Event::Reconfigured { channel: None, coercion, .. } => self.set_coercion(coercion),
                Event::Hello(payload) => match decode_control(Encoding::Dump, &payload) {
                    Ok(hello) => {
                        let hello: Hello = hello;
                        self.reads_message.store(hello.reads_message, Ordering::Relaxed);
                        self.answers.lock().hello = Some(hello);
                        woken = true;
                        self.wake_waiters();
                    }
                    Err(error) => break Some(format!("its HELLO cannot be read: {error}")),
                },
                Event::Status(encoding, payload) => match decode_control(encoding, &payload) {
                    Ok(status) => {
                        let mut answers = self.answers.lock();
                        answers.status_replies += 1;
                        answers.statuses.push_back(status);
                        drop(answers);
                        woken = true;
                        self.wake_waiters();
                    }
                    Err(error) => break Some(format!("its status cannot be read: {error}")),
                },
                // The session lets the peer send only what a worker may.
                Event::Nothing
                | Event::Opened(_)
                | Event::Pong(_)
                | Event::Execute { .. }
                | Event::Start(_)
                | Event::StatusAsked
                | Event::Terminate(..) => {}
            }
        };
        drop(session);
        if !replies.is_empty() {
            if let Some(trace) = trace::active() {
                trace.sent(&self.id, &replies);
            }
            // A peer that cannot be answered is gone, and whoever reads will see it.
            let _ = self.outbox.send(&replies, &self.reactor);
        }
        if let Some(why) = broken {
            self.give_up(Cause::Protocol(why));
            return true;
        }
        woken
    }

    fn wake_waiters(&self) {
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

    // ---- sending ----

    /// Sends frames, or queues them behind what is queued. Returns whether so much waits that the caller should call
    /// [`wait_for_room`](Self::wait_for_room).
    #[inline]
    pub(crate) fn send(&self, frames: &[u8]) -> Result<bool, SendFailure> {
        if let Some(trace) = trace::active() {
            trace.sent(&self.id, frames);
        }
        self.send_bytes(frames)
    }

    /// Sends what makes an interpreter a worker.
    pub(crate) fn send_opening(&self, opening: &[u8]) -> Result<bool, SendFailure> {
        if let Some(trace) = trace::active() {
            trace.note(&self.id, &format!("the worker's source and Start, {} bytes", opening.len()));
        }
        self.send_bytes(opening)
    }

    fn send_bytes(&self, frames: &[u8]) -> Result<bool, SendFailure> {
        if let Some(end) = self.end.get() {
            return Err(SendFailure::Ended(end.clone()));
        }
        self.outbox.send(frames, &self.reactor).map_err(|Broken| match self.end.get() {
            Some(end) => SendFailure::Ended(end.clone()),
            None => SendFailure::Ended(self.broken()),
        })
    }

    /// The reason as far as it can be told before the reader has found out.
    fn broken(&self) -> EndReason {
        let pid = self.supervisor.as_ref().and_then(|supervisor| supervisor.pid());
        let why = "it takes nothing any more; why is being found out".to_owned();
        EndReason::new(&self.id, pid, Cause::ConnectionLost(why), Vec::new())
    }

    /// Encodes what this worker is to read.
    pub(crate) fn encode(&self, item: &impl Encode, out: &mut Vec<u8>) -> Result<Encoding, EncodeError> {
        if self.reads_message.load(Ordering::Relaxed) {
            return encode_item(item, out);
        }
        dump::encode(item, out)?;
        Ok(Encoding::Dump)
    }

    /// Waits until the worker has taken enough of what is queued for it.
    pub(crate) fn wait_for_room(&self, wait: &Wait<'_>) -> Result<(), SendFailure> {
        WAKER.with(|waker| {
            while self.outbox.is_above_high_water() {
                if let Some(end) = self.end.get() {
                    return Err(SendFailure::Ended(end.clone()));
                }
                self.outbox.flush_when_ready(waker.as_deref(), wait, &self.reactor)?;
            }
            Ok(())
        })
    }

    // ---- what is asked of the worker itself ----

    /// Who answered, once somebody has; `Err` if the gateway ended before.
    pub(crate) fn wait_hello(
        self: &Arc<Self>,
        wait: &Wait<'_>,
    ) -> Result<Result<Hello, EndReason>, WaitError> {
        self.wait(None, wait, || match &self.answers.lock().hello {
            Some(hello) => Some(Ok(hello.clone())),
            None => self.end.get().cloned().map(Err),
        })
    }

    /// What the worker's output began with and was no protocol.
    pub(crate) fn chatter(&self) -> Vec<u8> {
        self.answers.lock().chatter.clone()
    }

    /// How the worker is doing.
    pub(crate) fn status(self: &Arc<Self>, wait: &Wait<'_>) -> Result<Status, SendFailure> {
        let mut request = Vec::new();
        // In one go, so that the order of the requests is that of their numbers.
        let mut answers = self.answers.lock();
        let number = answers.status_requests;
        answers.status_requests += 1;
        self.session.lock().write_status_request(&mut request);
        let sent = self.send(&request);
        drop(answers);
        sent?;
        let found = self.wait(None, &wait.blocking(), || {
            let answers = self.answers.lock();
            if answers.status_replies > number {
                // Kept until the next one is asked for: others may wait for the same, or have given up waiting for theirs.
                let behind = usize::try_from(answers.status_replies - number).unwrap_or(usize::MAX);
                let index = answers.statuses.len().saturating_sub(behind);
                return Some(Ok(answers.statuses.get(index).cloned().unwrap_or_default()));
            }
            self.end.get().cloned().map(Err)
        })?;
        self.answers.lock().forget_statuses();
        found.map_err(SendFailure::Ended)
    }

    /// Asks the worker to end. `sweep`: what it started ends with it.
    pub(crate) fn ask_to_end(&self, terminate: Terminate, sweep: bool) {
        self.asked_to_end.store(true, Ordering::SeqCst);
        if sweep && let Some(supervisor) = &self.supervisor {
            supervisor.sweep_at_exit();
        }
        let mut out = Vec::new();
        let written = frame::write_with(&mut out, Kind::Terminate, ChannelId::GATEWAY, |out| {
            self.encode(&AsItem(&terminate), out).map_err(ExecError::from)
        });
        if written.is_ok() {
            // A worker that cannot be told is gone.
            let _ = self.send(&out);
        }
    }

    /// Waits until the gateway has ended.
    pub(crate) fn wait_end(self: &Arc<Self>, wait: &Wait<'_>) -> Result<EndReason, WaitError> {
        self.wait(None, wait, || self.end.get().cloned())
    }

    // ---- the end ----

    /// This side closes a channel, and tells the far end of the error, if there is one.
    pub(crate) fn close_channel(&self, id: ChannelId, error: Option<&ErrorReport>) {
        self.close_as(id, error, ChannelEnd::ClosedHere);
    }

    /// What takes a channel's items has failed: both ends are told.
    pub(crate) fn fail_channel(&self, id: ChannelId, error: &ErrorReport) {
        self.close_as(id, Some(error), ChannelEnd::Error(RemoteError::new(error.clone())));
    }

    fn close_as(&self, id: ChannelId, error: Option<&ErrorReport>, end: ChannelEnd) {
        let mut report = Vec::new();
        let encoded = error.and_then(|error| {
            self.encode(&AsItem(error), &mut report).ok().map(|encoding| (encoding, &report[..]))
        });
        let mut out = Vec::new();
        let closed = self.session.lock().close(id, encoded, &mut out);
        if let Some((inbox, _)) = closed {
            // A peer that cannot be told is gone.
            let _ = self.send(&out);
            inbox.close(end);
            self.nudge();
        }
    }

    /// This side will send no more on a channel.
    pub(crate) fn last_on_channel(&self, id: ChannelId) {
        let mut out = Vec::new();
        let closed = self.session.lock().last(id, &mut out);
        let _ = self.send(&out);
        if let Some(inbox) = closed {
            inbox.close(ChannelEnd::ClosedHere);
        }
    }

    fn process_is_gone(&self) -> bool {
        self.supervisor.as_ref().is_some_and(|supervisor| supervisor.has_exited())
    }

    /// The worker's process has exited: what it wrote is read, and then the gateway ends, even if something it started
    /// holds the pipe open.
    pub(crate) fn process_exited(self: &Arc<Self>) {
        if self.input_ended.load(Ordering::SeqCst) {
            self.finish(self.cause_of_exit());
            return;
        }
        match self.reading.try_lock() {
            Some(mut reading) => {
                self.read_the_rest(&mut reading);
                drop(reading);
                self.hand_back();
            }
            // It sees that the process is gone when it wakes, or when it gives the role back.
            None => self.nudge(),
        }
    }

    fn read_the_rest(self: &Arc<Self>, reading: &mut Reading) {
        while self.end.get().is_none()
            && !self.input_ended.load(Ordering::SeqCst)
            && sys::is_readable(self.input.as_fd())
        {
            self.read_once(reading);
        }
        self.keep_chatter(reading);
        self.input_ended.store(true, Ordering::SeqCst);
        self.finish(self.cause_of_exit());
    }

    fn keep_chatter(&self, reading: &Reading) {
        if !reading.answered {
            self.answers.lock().chatter = reading.scanner.chatter().to_vec();
        }
    }

    fn input_has_ended(self: &Arc<Self>) {
        if self.input_ended.swap(true, Ordering::SeqCst) {
            return;
        }
        match &self.supervisor {
            Some(supervisor) if !supervisor.has_exited() => {
                // The status comes within moments, and is the better reason.
                let link = Arc::clone(self);
                let supervisor = Arc::clone(supervisor);
                self.reactor.at(Instant::now() + EXIT_AFTER_EOF, move |reactor| {
                    if link.end.get().is_none() {
                        supervisor.kill(reactor);
                        let why = "it closed its connection, but its process goes on".to_owned();
                        link.finish(Cause::ConnectionLost(why));
                    }
                });
            }
            Some(_) => self.finish(self.cause_of_exit()),
            None if self.asked_to_end.load(Ordering::SeqCst) => self.finish(Cause::Asked),
            None => self.finish(match self.far_exit() {
                Some(code @ 0..) => Cause::Exited(code),
                Some(signal) => Cause::Signaled(-signal),
                None => Cause::ConnectionLost("the connection was closed by the far end".into()),
            }),
        }
    }

    /// How a process exited that is not ours to wait for, as Python's `subprocess` gives it.
    pub(crate) fn far_exit(&self) -> Option<i32> {
        self.far_exit.get().copied()
    }

    pub(crate) fn set_far_exit(&self, code: i32) {
        let _ = self.far_exit.set(code);
    }

    /// What carries the connection is gone.
    pub(crate) fn cut(self: &Arc<Self>, why: String) {
        if self.asked_to_end.load(Ordering::SeqCst) {
            self.finish(Cause::Asked);
        } else {
            self.finish(Cause::ConnectionLost(why));
        }
    }

    /// Ends a gateway whose process cannot be killed from here: its worker sees the end of the connection, and ends itself.
    pub(crate) fn hang_up(self: &Arc<Self>) {
        self.finish(Cause::Killed);
    }

    fn cause_of_exit(&self) -> Cause {
        let status = self.supervisor.as_ref().and_then(|supervisor| supervisor.exit_status());
        if self.supervisor.as_ref().is_some_and(|supervisor| supervisor.was_killed()) {
            return Cause::Killed;
        }
        if self.asked_to_end.load(Ordering::SeqCst) {
            return Cause::Asked;
        }
        match status.map(crate::supervisor::return_code) {
            Some(code @ 0..) => Cause::Exited(code),
            Some(signal) => Cause::Signaled(-signal),
            None => Cause::ConnectionLost("its process exited; how could not be learned".into()),
        }
    }

    /// Ends a gateway that is of no use any more, and its worker.
    fn give_up(self: &Arc<Self>, cause: Cause) {
        self.finish(cause);
        if let Some(supervisor) = &self.supervisor {
            supervisor.kill(&self.reactor);
        }
    }

    /// The gateway has ended. Everything that waits is told; only the first reason counts.
    fn finish(self: &Arc<Self>, cause: Cause) {
        self.input_ended.store(true, Ordering::SeqCst);
        let pid = self.supervisor.as_ref().and_then(|supervisor| supervisor.pid());
        let stderr = self.supervisor.as_ref().map(|supervisor| supervisor.last_words()).unwrap_or_default();
        let reason = EndReason::new(&self.id, pid, cause, stderr);
        if self.end.set(reason.clone()).is_err() {
            return;
        }
        if let Some(trace) = trace::active() {
            trace.note(&self.id, &reason.to_string());
        }
        if reason.is_orderly() {
            tracing::debug!(gateway = %self.id, "{reason}");
        } else {
            tracing::warn!(gateway = %self.id, "{reason}");
        }
        if let Some(key) = self.input_key.get() {
            self.reactor.remove(*key);
        }
        self.outbox.end(&self.reactor);
        if self.supervisor.is_none() {
            sys::hang_up(&self.input);
        }
        let mut session = self.session.lock();
        let channels: Vec<_> = session.lose().collect();
        channels.iter().for_each(|(inbox, _)| self.keep_unclaimed(inbox));
        drop(session);
        for (inbox, _) in channels {
            inbox.close(ChannelEnd::Gateway(reason.clone()));
        }
        self.nudge();
    }
}

impl Source for Link {
    fn ready(self: Arc<Self>, reactor: &Arc<Reactor>) {
        self.watch.set(Watched::StandingBy);
        let mut woken = true;
        if let Some(mut reading) = self.reading.try_lock() {
            woken = false;
            for _ in 0..READS_PER_TURN {
                if self.input_ended.load(Ordering::SeqCst) || !sys::is_readable(self.input.as_fd()) {
                    break;
                }
                woken |= self.read_once(&mut reading);
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
        if self.reading.try_lock().is_none() {
            self.watch.set(Watched::Parked);
            fence(Ordering::SeqCst);
            if self.reading.try_lock().is_none() {
                return false;
            }
        }
        self.arm();
        false
    }
}

impl Answers {
    fn forget_statuses(&mut self) {
        const KEPT: usize = 64;
        let excess = self.statuses.len().saturating_sub(KEPT);
        self.statuses.drain(..excess);
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

fn remote_error(encoding: Encoding, bytes: &[u8]) -> RemoteError {
    RemoteError::new(decode_control(encoding, bytes).unwrap_or_else(|error| ErrorReport {
        text: format!("the far end reported an error that cannot be read: {error}"),
        ..ErrorReport::default()
    }))
}

fn decode_control<T: serde::de::DeserializeOwned>(
    encoding: Encoding,
    bytes: &[u8],
) -> Result<T, farexec_proto::encoding::DecodeError> {
    farexec_proto::serde::from_payload(encoding, bytes, StringCoercion { py2str_as_py3str: true })
}
