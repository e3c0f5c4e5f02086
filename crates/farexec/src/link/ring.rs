//! The rings of a connection ([`crate::sys::RingWriter`] and its reader): when a coordinator offers them, and how who reads follows the
//! stream from the pipe into a ring and back. `docs/PROTOCOL.md` has the rule for that.
//!
//! Whoever begins to wait for the pipe to be readable has looked into the ring after saying so: [`Ring::listen`] is called by a thread
//! with the reading role, and by [`Link::arm`] for the reactor. A bell that one of them takes out of the pipe while the reactor waits as well is replaced by saying so again.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, OnceLock};

use farexec_proto::control;
use farexec_proto::encoding::dump;
use farexec_proto::frame::{self, BELL, Kind};
use farexec_proto::serde::AsItem;
use farexec_proto::{ChannelId, Encoding};
use parking_lot::Mutex;

use super::answers::decode_control;
use super::{CHUNK, Link, Reading};
use crate::end::Cause;
use crate::limits::STREAMED_SENDS;
use crate::sys::{self, Place, RingReader, Rings, Transfer};
use crate::watch::Watched;

/// What a connection has beside its pipes.
#[derive(Debug, Default)]
pub(super) struct Ring {
    reader: OnceLock<RingReader>,
    /// Whether the stream that is read is there. Only who has the reading role changes it.
    is_entered: AtomicBool,
    /// What was offered to the worker, until it is used; and the descriptor by which the worker finds it.
    offered: Mutex<Option<(Rings, OwnedFd)>>,
    was_offered: AtomicBool,
    /// Whether the worker said that it is native.
    pub(super) is_native: AtomicBool,
}

impl Ring {
    /// The ring, if the stream that is read is there.
    #[inline]
    fn entered(&self) -> Option<&RingReader> {
        if self.is_entered.load(Ordering::Relaxed) { self.reader.get() } else { None }
    }

    /// Whether the stream that is read is in the ring.
    #[inline]
    pub(super) fn is_entered(&self) -> bool {
        self.is_entered.load(Ordering::Relaxed)
    }

    /// Whether there is something to read in the ring.
    #[inline]
    pub(super) fn has_bytes(&self) -> bool {
        self.entered().is_some_and(RingReader::has_bytes)
    }

    /// Has the far end ring. Returns whether there is something already.
    #[inline]
    pub(super) fn listen(&self) -> bool {
        self.entered().is_some_and(RingReader::listen)
    }
}

/// What is known of the pipe's bytes around the stream's stay in the ring.
#[derive(Debug, Default)]
pub(super) struct Stay {
    /// What was read from the pipe behind the last SWITCH: bells, and perhaps what follows the ring.
    held: Vec<u8>,
    /// Whether bells may stand in the pipe before what follows the ring.
    bells: bool,
}

impl Stay {
    /// What follows the bells.
    #[inline]
    pub(super) fn without_bells<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if !self.bells {
            return bytes;
        }
        let bells = bytes.iter().take_while(|&&byte| byte == BELL).count();
        self.bells = bells == bytes.len();
        &bytes[bells..]
    }
}

impl Link {
    /// Reads once while the stream is in the ring. If the pipe is readable, so it was before this is called.
    pub(super) fn read_ring(self: &Arc<Self>, reading: &mut Reading, is_readable: bool) -> bool {
        let Some(ring) = self.ring.reader.get() else { return false };
        // Before the end is marked, only bells are written to the pipe, so one is there now, or the pipe's end.
        if is_readable && !ring.is_left() {
            let ended = match sys::read(self.input.as_fd(), &mut [0]) {
                Ok(Transfer::Bytes(_) | Transfer::WouldBlock) => false,
                Ok(Transfer::Ended) => true,
                Err(error) => {
                    self.finish(Cause::ConnectionLost(error.to_string()));
                    return true;
                }
            };
            if self.watch.get() == Watched::Armed {
                ring.listen();
            }
            // What was put there before the far end was gone counts.
            if ended && !ring.has_bytes() && !ring.is_left() {
                self.input_has_ended();
                return true;
            }
        }
        let woken = CHUNK.with_borrow_mut(|chunk| {
            chunk.clear();
            match ring.take(chunk) {
                Ok(0) => false,
                Ok(count) => {
                    self.count_read(reading, count);
                    self.take_in(reading, chunk)
                }
                Err(error) => {
                    self.give_up(Cause::Protocol(error.to_string()));
                    true
                }
            }
        });
        // What follows may have been read behind the SWITCH already: the pipe wakes nobody for it then, so it is not left for later.
        if self.end.get().is_some() || !ring.follow_out() {
            return woken;
        }
        self.ring.is_entered.store(false, Ordering::Relaxed);
        reading.stay.bells = true;
        let held = std::mem::take(&mut reading.stay.held);
        let bytes = reading.stay.without_bells(&held);
        self.take_in(reading, bytes) | woken
    }

    /// The stream goes on in the ring; `rest` is what was read behind the frame that says so. `Err`: why that cannot be.
    pub(super) fn enter_ring(&self, reading: &mut Reading, rest: &[u8]) -> Result<(), String> {
        if self.ring.is_entered() {
            return Err("it switched to the ring in the ring".into());
        }
        if let Some(((writer, reader), _)) = self.ring.offered.lock().take() {
            // It has not been set before: it is offered once.
            let _ = self.ring.reader.set(reader);
            self.outbox.set_ring(writer);
        }
        let Some(ring) = self.ring.reader.get() else {
            return Err("it switched to a ring that there is not".into());
        };
        reading.stay.held = rest.to_vec();
        self.ring.is_entered.store(true, Ordering::Relaxed);
        // Who arms the reactor looks afterwards whether the stream is in the ring. One of the two sees the other.
        fence(Ordering::SeqCst);
        if self.watch.get() == Watched::Armed {
            ring.listen();
        }
        Ok(())
    }

    /// So many bytes were read.
    #[inline]
    pub(super) fn count_read(&self, reading: &mut Reading, bytes: usize) {
        self.traffic.received(bytes);
        reading.pace.read(bytes, self.sent.swap(0, Ordering::Relaxed) > 0);
        if reading.pace.is_streaming() && self.may_offer() {
            self.offer_ring();
        }
    }

    #[inline]
    pub(super) fn count_sent(&self) {
        // Two who send at once may count as one.
        let sent = self.sent.load(Ordering::Relaxed).wrapping_add(1);
        self.sent.store(sent, Ordering::Relaxed);
        if sent == STREAMED_SENDS && self.may_offer() {
            self.offer_ring();
        }
    }

    /// Whether the worker is native, on this machine, and was not offered anything yet: it says of itself that it is the process that we know.
    fn may_offer(&self) -> bool {
        self.ring.is_native.load(Ordering::Relaxed)
            && !self.ring.was_offered.load(Ordering::Relaxed)
            && self.supervisor.as_ref().and_then(|supervisor| supervisor.pid())
                == Some(self.far_pid.load(Ordering::Relaxed))
    }

    #[cold]
    fn offer_ring(&self) {
        if self.ring.was_offered.swap(true, Ordering::SeqCst) {
            return;
        }
        let (rings, fd, place) = match sys::offer_rings() {
            Ok(made) => made,
            Err(error) => return tracing::debug!(gateway = %self.id, %error, "it goes without a ring"),
        };
        let Place { process, descriptor, device, inode } = place;
        let layout = control::Ring::LAYOUT;
        let offer = control::Ring { layout, pid: process, descriptor, file: (device, inode) };
        let (mut payload, mut out) = (Vec::new(), Vec::new());
        if dump::encode(&AsItem(&offer), &mut payload).is_err() {
            return;
        }
        frame::write(&mut out, Kind::Ring, Encoding::Dump, ChannelId::GATEWAY, &payload);
        // It may be used as soon as it is sent.
        *self.ring.offered.lock() = Some((rings, fd));
        if let Some(trace) = self.trace() {
            trace.sent(&self.id, &out);
        }
        // A worker that cannot be told is gone.
        let _ = self.outbox.send(&out, &self.reactor);
    }

    /// Maps what the coordinator offers, and says so, in the ring. If that cannot be, all stays as it is.
    pub(super) fn accept_ring(&self, encoding: Encoding, payload: &[u8]) {
        if self.duties.is_none() || self.ring.was_offered.swap(true, Ordering::SeqCst) {
            return;
        }
        let Ok(offer) = decode_control::<control::Ring>(encoding, payload) else { return };
        if offer.layout != control::Ring::LAYOUT {
            return;
        }
        let (device, inode) = offer.file;
        let place = Place { process: offer.pid, descriptor: offer.descriptor, device, inode };
        match sys::accept_rings(place) {
            Ok((writer, reader)) => {
                let _ = self.ring.reader.set(reader);
                self.outbox.set_ring(writer);
                let mut out = Vec::new();
                frame::write(&mut out, Kind::Ring, Encoding::Message, ChannelId::GATEWAY, &[]);
                // A coordinator that cannot be told is gone.
                let _ = self.outbox.send(&out, &self.reactor);
            }
            Err(error) => tracing::debug!(%error, "the offered ring cannot be used"),
        }
    }
}
