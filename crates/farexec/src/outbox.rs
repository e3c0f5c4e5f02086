//! What is to be sent: written at once where possible, else queued in order, and written by whoever comes first: the reactor when the pipe
//! has room, or a sender that was stopped because too much is queued. Where there is a ring ([`crate::sys::RingWriter`]), whole frames that fit go there; what
//! does not goes to the pipe, and everything behind it, until that has no queue and the reader has followed.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use farexec_proto::frame::{self, BELL, Kind};
use farexec_proto::{ChannelId, Encoding};
use parking_lot::Mutex;

use crate::limits::INTERRUPT_CHECK;
use crate::reactor::{Reactor, Source};
use crate::sys::{self, Interest, RingWriter, Transfer, Waker};
use crate::wait::{Wait, WaitError};
use crate::wakers::{self, Asker, Ticket, Wakers};

/// Small frames behind a full pipe are gathered in blocks of about this many bytes.
const BLOCK: usize = 64 << 10;

pub(crate) struct Outbox {
    output: Mutex<Option<Arc<OwnedFd>>>,
    key: OnceLock<usize>,
    /// Held by whoever writes a large frame from where it is: see [`send_in_place`](Self::send_in_place).
    in_place: Mutex<()>,
    queue: Mutex<Queue>,
    queued: AtomicUsize,
    /// How many bytes may be queued before who sends is to wait.
    high_water: usize,
    /// Of those who will look again when less is queued. Locked alone.
    wakers: Mutex<Wakers>,
}

#[derive(Debug, Default)]
struct Queue {
    blocks: VecDeque<Vec<u8>>,
    /// How much of the first block is written.
    written: usize,
    /// Whether the reactor will write when there is room.
    armed: bool,
    /// Frames that say nothing by themselves: they go in front of the next ones.
    preface: Vec<u8>,
    /// Whether somebody is writing a frame that is not in the queue: everything else goes behind it.
    is_in_place: bool,
    /// Whether the other end is gone: nothing is kept then.
    broken: bool,
    /// Whether nothing will be added.
    is_last: bool,
    output: Option<Arc<OwnedFd>>,
    /// Where frames go without a system call. Nothing is queued while the stream is there.
    ring: Option<RingWriter>,
}

/// The other end takes nothing any more. Why is found out by who reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Broken;

impl Outbox {
    pub(crate) fn new(output: OwnedFd, high_water: usize) -> io::Result<Self> {
        sys::set_nonblocking(&output)?;
        let output = Arc::new(output);
        Ok(Self {
            output: Mutex::new(Some(Arc::clone(&output))),
            key: OnceLock::new(),
            in_place: Mutex::default(),
            queue: Mutex::new(Queue { output: Some(output), ..Queue::default() }),
            queued: AtomicUsize::new(0),
            high_water,
            wakers: Mutex::default(),
        })
    }

    pub(crate) fn register(self: &Arc<Self>, reactor: &Arc<Reactor>) -> io::Result<()> {
        let Some(output) = self.output.lock().clone() else { return Ok(()) };
        let outbox = Arc::downgrade(self);
        let key = reactor.add(output, Interest::Nothing, |_| Arc::new(OutboxSource { outbox }))?;
        let _ = self.key.set(key);
        Ok(())
    }

    /// Takes frames that mean something only together with others: they are written with the next ones.
    pub(crate) fn send_with_next(&self, frames: &[u8]) -> Result<(), Broken> {
        let mut queue = self.queue.lock();
        if queue.broken {
            return Err(Broken);
        }
        queue.preface.extend_from_slice(frames);
        Ok(())
    }

    /// Writes frames, or queues them. Returns whether more is queued now than should be.
    #[inline]
    pub(crate) fn send(&self, frames: &[u8], reactor: &Reactor) -> Result<bool, Broken> {
        let mut queue = self.queue.lock();
        if queue.broken {
            return Err(Broken);
        }
        let mut whole;
        let mut rest = frames;
        if !queue.preface.is_empty() {
            whole = std::mem::take(&mut queue.preface);
            whole.extend_from_slice(frames);
            rest = &whole;
        }
        if queue.blocks.is_empty() && !queue.is_in_place {
            if queue.ring.is_some() && !rest.is_empty() && queue.put_into_ring(rest)? {
                return Ok(false);
            }
            while !rest.is_empty() {
                match queue.write(rest) {
                    Some(0) => break,
                    Some(count) => rest = &rest[count..],
                    None => return Err(Broken),
                }
            }
            if rest.is_empty() {
                return Ok(false);
            }
        }
        queue.append(rest);
        Ok(self.settle(&mut queue, reactor))
    }

    /// Writes a large frame, given in parts, from where it is, and waits until it is written. What of it is not written when the wait ends
    /// is queued.
    pub(crate) fn send_in_place(
        &self,
        parts: &[&[u8]],
        waker: Option<&Waker>,
        wait: &Wait<'_>,
        reactor: &Reactor,
    ) -> Result<Result<(), WaitError>, Broken> {
        let _in_place = self.in_place.lock();
        let mut queue = self.queue.lock();
        if queue.broken {
            return Err(Broken);
        }
        let preface = std::mem::take(&mut queue.preface);
        let mut rest: Vec<&[u8]> = [&[&preface[..]], parts].concat();
        if !queue.blocks.is_empty() {
            rest.iter().for_each(|part| queue.append(part));
            self.settle(&mut queue, reactor);
            return Ok(Ok(()));
        }
        queue.leave_ring();
        queue.is_in_place = true;
        let output = queue.output.clone();
        drop(queue);
        let result = output.as_ref().map_or(Err(Broken), |output| write_all(output, &mut rest, waker, wait));
        let mut queue = self.queue.lock();
        queue.is_in_place = false;
        if result.is_err() {
            queue.break_off();
            return result;
        }
        // What came meanwhile is behind it.
        for part in rest.iter().rev().filter(|part| !part.is_empty()) {
            queue.blocks.push_front(part.to_vec());
        }
        if queue.blocks.is_empty() {
            queue.end_if_last();
        } else {
            queue.flush();
            self.settle(&mut queue, reactor);
        }
        drop(queue);
        self.wake();
        result
    }

    /// Has what is sent go through a ring from now on, where it can. The reader has it already, or is told so by what is sent next.
    pub(crate) fn set_ring(&self, ring: RingWriter) {
        let mut queue = self.queue.lock();
        if !queue.broken {
            queue.ring = Some(ring);
        }
    }

    /// How many bytes are queued.
    pub(crate) fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queued.load(Ordering::Relaxed) == 0
    }

    /// The descriptor, unless there is none any more, or somebody holds it back: in a forked child that may be for ever.
    pub(crate) fn try_output(&self) -> Option<Arc<OwnedFd>> {
        self.output.try_lock()?.clone()
    }

    pub(crate) fn is_above_high_water(&self) -> bool {
        self.queued.load(Ordering::Relaxed) > self.high_water
    }

    /// Waits until the pipe has room, and writes.
    pub(crate) fn flush_when_ready(
        &self,
        waker: Option<&Waker>,
        wait: &Wait<'_>,
        reactor: &Reactor,
    ) -> Result<(), WaitError> {
        let Some(output) = self.output.lock().clone() else { return Ok(()) };
        wait.check()?;
        if self.queue.lock().is_in_place {
            drop(self.in_place.try_lock_for(wait.deaf_nap().unwrap_or(INTERRUPT_CHECK)));
            return Ok(());
        }
        // A broken pipe counts as writable; any other failure shows when writing.
        let _ = sys::wait_writable(output.as_fd(), waker, wait.nap());
        let mut queue = self.queue.lock();
        queue.flush();
        self.settle(&mut queue, reactor);
        drop(queue);
        self.wake();
        Ok(())
    }

    /// Whether more than so many bytes are queued, or than should be; `asker` is woken then when less are.
    pub(crate) fn asks_for_room(&self, asker: Asker<'_>, most: Option<usize>) -> bool {
        let most = most.unwrap_or(self.high_water);
        if self.queued.load(Ordering::SeqCst) <= most {
            return false;
        }
        self.wakers.lock().add(asker);
        if self.queued.load(Ordering::SeqCst) > most {
            return true;
        }
        if let Some(ticket) = asker.ticket {
            self.forget(ticket);
        }
        false
    }

    pub(crate) fn forget(&self, ticket: &Ticket) {
        let waker = self.wakers.lock().remove(ticket);
        drop(waker);
    }

    /// Has those look again who wait for room, unless there is none.
    pub(crate) fn wake(&self) {
        if !self.is_above_high_water() {
            let _wakes = wakers::deferred();
            self.wakers.lock().wake();
        }
    }

    /// Ends the sending side of a socket once all that is queued is written.
    pub(crate) fn end_when_empty(&self) {
        let mut queue = self.queue.lock();
        queue.is_last = true;
        queue.end_if_last();
    }

    /// Nothing will be sent any more.
    pub(crate) fn end(&self, reactor: &Reactor) {
        self.queue.lock().break_off();
        self.queued.store(0, Ordering::Relaxed);
        self.output.lock().take();
        if let Some(key) = self.key.get() {
            reactor.remove(*key);
        }
    }

    fn settle(&self, queue: &mut Queue, reactor: &Reactor) -> bool {
        let queued = queue.len();
        self.queued.store(queued, Ordering::Relaxed);
        if queued > 0
            && !queue.is_in_place
            && !queue.armed
            && let Some(key) = self.key.get()
        {
            queue.armed = true;
            reactor.rearm(*key, Interest::Writable);
        }
        queued > self.high_water
    }
}

impl Queue {
    fn len(&self) -> usize {
        self.blocks.iter().map(Vec::len).sum::<usize>() - self.written
    }

    /// Writes what it can: `Some(0)` if the pipe is full, `None` if the other end is gone.
    fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        let output = self.output.as_ref()?;
        match sys::write(output.as_fd(), bytes) {
            Ok(Transfer::Bytes(count)) => Some(count),
            Ok(Transfer::WouldBlock) => Some(0),
            Ok(Transfer::Ended) | Err(_) => {
                self.break_off();
                None
            }
        }
    }

    /// Puts frames into the ring, and rings if somebody waits. Returns `false` if they belong into the pipe, where everything goes then.
    #[inline]
    fn put_into_ring(&mut self, frames: &[u8]) -> Result<bool, Broken> {
        let Some(ring) = &mut self.ring else { return Ok(false) };
        if frames.len() >= RingWriter::LARGE || !ring.is_entered() && !self.enter_ring()? {
            self.leave_ring();
            return Ok(false);
        }
        match self.ring.as_mut().and_then(|ring| ring.put(frames)) {
            Some(false) => Ok(true),
            // Bells take so little of the pipe that it has room.
            Some(true) => self.write(&[BELL]).map(|_| true).ok_or(Broken),
            None => {
                self.leave_ring();
                Ok(false)
            }
        }
    }

    /// Has the stream continue in the ring, if the reader is ready for that and the pipe has room for what says so.
    fn enter_ring(&mut self) -> Result<bool, Broken> {
        if !self.ring.as_mut().is_some_and(RingWriter::enter) {
            return Ok(false);
        }
        let mut switch = Vec::new();
        frame::write(&mut switch, Kind::Switch, Encoding::Message, ChannelId::GATEWAY, &[]);
        // So little is written whole, or not at all.
        match self.write(&switch) {
            Some(0) => Ok(false),
            Some(_) => Ok(true),
            None => Err(Broken),
        }
    }

    fn leave_ring(&mut self) {
        if let Some(ring) = &mut self.ring {
            ring.leave();
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        match self.blocks.back_mut() {
            Some(last) if last.len() + bytes.len() <= BLOCK => last.extend_from_slice(bytes),
            _ => {
                let mut block = Vec::with_capacity(bytes.len().max(BLOCK));
                block.extend_from_slice(bytes);
                self.blocks.push_back(block);
            }
        }
    }

    fn flush(&mut self) {
        if self.is_in_place {
            return;
        }
        while let Some(block) = self.blocks.pop_front() {
            let written = self.written;
            match self.write(&block[written..]) {
                Some(count) if written + count == block.len() => self.written = 0,
                Some(count) => {
                    self.written += count;
                    self.blocks.push_front(block);
                    return;
                }
                None => return,
            }
        }
        self.end_if_last();
    }

    fn end_if_last(&self) {
        let is_empty = self.blocks.is_empty() && !self.is_in_place;
        if let (true, true, Some(output)) = (self.is_last, is_empty, &self.output) {
            sys::end_sending(output);
        }
    }

    fn break_off(&mut self) {
        *self = Self { broken: true, ..Self::default() };
    }
}

/// Writes parts, and takes off them what is written; `Ok(Err)` if the wait ended before.
fn write_all(
    output: &OwnedFd,
    parts: &mut Vec<&[u8]>,
    waker: Option<&Waker>,
    wait: &Wait<'_>,
) -> Result<Result<(), WaitError>, Broken> {
    loop {
        match sys::write_parts(output.as_fd(), parts) {
            Ok(Transfer::Bytes(mut count)) => {
                while let Some(first) = parts.first_mut() {
                    let taken = count.min(first.len());
                    *first = &first[taken..];
                    count -= taken;
                    if !first.is_empty() {
                        break;
                    }
                    parts.remove(0);
                }
                if parts.is_empty() {
                    return Ok(Ok(()));
                }
            }
            Ok(Transfer::WouldBlock) => {}
            Ok(Transfer::Ended) | Err(_) => return Err(Broken),
        }
        if let Err(error) = wait.check() {
            return Ok(Err(error));
        }
        // A broken pipe counts as writable; any other failure shows when writing.
        let _ = sys::wait_writable(output.as_fd(), waker, wait.nap());
    }
}

struct OutboxSource {
    outbox: Weak<Outbox>,
}

impl Source for OutboxSource {
    fn ready(self: Arc<Self>, reactor: &Arc<Reactor>) {
        let Some(outbox) = self.outbox.upgrade() else { return };
        let mut queue = outbox.queue.lock();
        queue.armed = false;
        queue.flush();
        outbox.settle(&mut queue, reactor);
        drop(queue);
        outbox.wake();
    }
}
