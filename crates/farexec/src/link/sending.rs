//! What this side sends: frames, at once or behind what is queued, and what closes a channel. What becomes of them is [`crate::outbox`]'s.

use std::sync::atomic::Ordering;

use farexec_proto::control::ErrorReport;
use farexec_proto::encoding::{Encode, EncodeError, dump, encode_item};
use farexec_proto::serde::AsItem;
use farexec_proto::{ChannelId, Encoding};

use super::{Link, SendFailure, WAKER};
use crate::end::{Cause, ChannelEnd, EndReason, RemoteError};
use crate::outbox::Broken;
use crate::wait::{Wait, WaitError};

impl Link {
    /// Sends frames, or queues them behind what is queued. Returns whether so much waits that the caller should call
    /// [`wait_for_room`](Self::wait_for_room).
    #[inline]
    pub(crate) fn send(&self, frames: &[u8]) -> Result<bool, SendFailure> {
        if let Some(trace) = self.trace() {
            trace.sent(&self.id, frames);
        }
        self.send_bytes(frames)
    }

    /// Sends frames together with the next ones: those that mean something only together with others.
    pub(crate) fn send_with_next(&self, frames: &[u8]) -> Result<(), SendFailure> {
        if let Some(end) = self.end() {
            return Err(SendFailure::Ended(end.clone()));
        }
        if let Some(trace) = self.trace() {
            trace.sent(&self.id, frames);
        }
        self.outbox.send_with_next(frames).map_err(|Broken| self.send_failure())
    }

    fn send_failure(&self) -> SendFailure {
        SendFailure::Ended(self.end.get().cloned().unwrap_or_else(|| self.broken()))
    }

    /// Sends one frame, given in parts, from where it is, and waits until it is written.
    pub(crate) fn send_in_place(&self, parts: &[&[u8]], wait: &Wait<'_>) -> Result<(), SendFailure> {
        if let Some(end) = self.end() {
            return Err(SendFailure::Ended(end.clone()));
        }
        if let Some(trace) = self.trace() {
            trace.sent(&self.id, &parts.concat());
        }
        self.traffic.sent_in_place(parts);
        self.count_sent();
        let sent =
            WAKER.with(|waker| self.outbox.send_in_place(parts, waker.as_deref(), wait, &self.reactor));
        Ok(sent.map_err(|Broken| self.send_failure())??)
    }

    /// Whether the worker reads the message encoding.
    pub(crate) fn reads_message(&self) -> bool {
        self.reads_message.load(Ordering::Relaxed)
    }

    /// Sends what makes an interpreter a worker.
    pub(crate) fn send_opening(&self, opening: &[u8]) -> Result<bool, SendFailure> {
        if let Some(trace) = self.trace() {
            trace.note(&self.id, &format!("the worker's source and Start, {} bytes", opening.len()));
        }
        self.send_bytes(opening)
    }

    fn send_bytes(&self, frames: &[u8]) -> Result<bool, SendFailure> {
        if let Some(end) = self.end() {
            return Err(SendFailure::Ended(end.clone()));
        }
        self.traffic.sent(frames);
        self.count_sent();
        self.outbox.send(frames, &self.reactor).map_err(|Broken| self.send_failure())
    }

    /// As the worker knows itself; what brings one from elsewhere, `ssh` for instance, is another process.
    pub(crate) fn worker_pid(&self) -> Option<u32> {
        match self.far_pid.load(Ordering::Relaxed) {
            0 => self.supervisor.as_ref().and_then(|supervisor| supervisor.pid()),
            said => Some(said),
        }
    }

    /// The reason as far as it can be told before the reader has found out.
    fn broken(&self) -> EndReason {
        let pid = self.worker_pid();
        let why = "it takes nothing any more; why is being found out".to_owned();
        EndReason::new(&self.id, pid, Cause::ConnectionLost(why), Vec::new())
    }

    /// Encodes what this worker is to read.
    pub(crate) fn encode(&self, item: &impl Encode, out: &mut Vec<u8>) -> Result<Encoding, EncodeError> {
        if self.reads_message() {
            return encode_item(item, out);
        }
        dump::encode(item, out)?;
        Ok(Encoding::Dump)
    }

    /// Waits until the worker has taken enough of what is queued for it.
    pub(crate) fn wait_for_room(&self, wait: &Wait<'_>) -> Result<(), SendFailure> {
        if let Some(asker) = wait.asker() {
            return self.ask_for_room(asker, None);
        }
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

    /// Whether anything can be asked of it by this process.
    pub(crate) fn check_not_inherited(&self) -> Result<(), SendFailure> {
        match self.end() {
            Some(reason) if self.is_inherited() => Err(SendFailure::Ended(reason.clone())),
            _ => Ok(()),
        }
    }

    /// Sends frames whether or not the connection counts as ended: a worker that was asked to end may have last words.
    pub(crate) fn send_last_words(&self, frames: &[u8]) -> bool {
        !self.is_inherited() && self.outbox.send(frames, &self.reactor).is_ok()
    }

    /// Waits until all that was sent is written.
    pub(crate) fn flush(&self, wait: &Wait<'_>) -> Result<(), WaitError> {
        WAKER.with(|waker| {
            while !self.is_inherited() && !self.outbox.is_empty() {
                self.outbox.flush_when_ready(waker.as_deref(), wait, &self.reactor)?;
            }
            Ok(())
        })
    }

    // ---- closing ----

    /// This side closes a channel, and tells the far end of the error, if there is one.
    pub(crate) fn close_channel(&self, id: ChannelId, error: Option<&ErrorReport>) {
        self.close_as(id, error, ChannelEnd::ClosedHere);
    }

    /// What takes a channel's items has failed: both ends are told.
    pub(crate) fn fail_channel(&self, id: ChannelId, error: &ErrorReport) {
        self.close_as(id, Some(error), ChannelEnd::Error(RemoteError::new(error.clone())));
    }

    fn close_as(&self, id: ChannelId, error: Option<&ErrorReport>, end: ChannelEnd) {
        if self.is_inherited() {
            return;
        }
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
        if self.is_inherited() {
            return;
        }
        let mut out = Vec::new();
        let closed = self.session.lock().last(id, &mut out);
        let _ = self.send(&out);
        if let Some(inbox) = closed {
            inbox.close(ChannelEnd::ClosedHere);
        }
    }
}
