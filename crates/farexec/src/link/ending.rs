//! How a connection ends: asked to, by the exit of its process, or by losing it. All of it leads to `finish`, once.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use farexec_proto::ChannelId;
use farexec_proto::control::Terminate;
use farexec_proto::frame::{self, Kind};
use farexec_proto::serde::AsItem;

use super::{Link, Reading};
use crate::end::{Cause, ChannelEnd, EndReason};
use crate::error::ExecError;
use crate::limits::EXIT_AFTER_EOF;
use crate::supervisor;
use crate::sys::{self, Interest, Transfer};
use crate::wait::{Wait, WaitError};

impl Link {
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

    /// Whether it was asked to end, from here or by whoever started this worker.
    pub(crate) fn was_asked_to_end(&self) -> bool {
        self.asked_to_end.load(Ordering::SeqCst)
    }

    /// Waits until the gateway has ended, and all its channels have been told.
    pub(crate) fn wait_end(self: &Arc<Self>, wait: &Wait<'_>) -> Result<EndReason, WaitError> {
        self.wait(None, wait, || {
            self.all_told.load(Ordering::SeqCst).then(|| self.end.get().cloned()).flatten()
        })
    }

    pub(super) fn process_is_gone(&self) -> bool {
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

    pub(super) fn read_the_rest(self: &Arc<Self>, reading: &mut Reading) {
        while self.end.get().is_none() && !self.input_ended.load(Ordering::SeqCst) {
            let is_readable = sys::is_readable(self.input.as_fd());
            if !is_readable && !self.ring.has_bytes() {
                break;
            }
            self.read_once(reading, is_readable);
        }
        self.keep_chatter(reading);
        self.input_ended.store(true, Ordering::SeqCst);
        self.finish(self.cause_of_exit());
    }

    pub(super) fn keep_chatter(&self, reading: &Reading) {
        if !reading.answered {
            self.answers.lock().set_chatter(reading.scanner.chatter());
        }
    }

    pub(super) fn input_has_ended(self: &Arc<Self>) {
        if self.input_ended.swap(true, Ordering::SeqCst) {
            return;
        }
        match &self.supervisor {
            Some(supervisor) if !supervisor.has_exited() => {
                // The status comes within moments, and is the better reason.
                let link = Arc::downgrade(self);
                self.reactor.at(Instant::now() + EXIT_AFTER_EOF, move |reactor| {
                    if let Some(link) = link.upgrade()
                        && link.end.get().is_none()
                    {
                        if let Some(supervisor) = &link.supervisor {
                            supervisor.kill(reactor);
                        }
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
                None => Cause::ConnectionLost(match self.why_it_ends.get() {
                    Some(why) => why.clone(),
                    None => "the connection was closed by the far end".into(),
                }),
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

    /// Says why the end of the input is about to come, which itself does not say it.
    pub(crate) fn explain_end(&self, why: String) {
        let _ = self.why_it_ends.set(why);
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
        match status.map(supervisor::return_code) {
            Some(code @ 0..) => Cause::Exited(code),
            Some(signal) => Cause::Signaled(-signal),
            None => Cause::ConnectionLost("its process exited; how could not be learned".into()),
        }
    }

    /// Of a worker that was asked to end: whether its coordinator is still there.
    pub(super) fn watch_for_loss(self: &Arc<Self>) {
        let (Some(duties), Some(key)) = (&self.duties, self.input_key.get()) else { return };
        let mut ignored = [0; 4096];
        match sys::read(self.input.as_fd(), &mut ignored) {
            Ok(Transfer::Bytes(_) | Transfer::WouldBlock) => self.reactor.rearm(*key, Interest::Readable),
            Ok(Transfer::Ended) | Err(_) => {
                self.reactor.remove(*key);
                duties.is_left_alone(self);
            }
        }
    }

    /// Ends a gateway that is of no use any more, and its worker.
    pub(super) fn give_up(self: &Arc<Self>, cause: Cause) {
        self.finish(cause);
        if let Some(supervisor) = &self.supervisor {
            supervisor.kill(&self.reactor);
        }
    }

    /// The gateway has ended. Everything that waits is told; only the first reason counts.
    pub(super) fn finish(self: &Arc<Self>, cause: Cause) {
        self.finish_after(cause, Duration::ZERO);
    }

    /// The same; what a worker executes has so long to end if it was asked to.
    pub(super) fn finish_after(self: &Arc<Self>, cause: Cause, grace: Duration) {
        self.input_ended.store(true, Ordering::SeqCst);
        let pid = self.worker_pid();
        let stderr = self.supervisor.as_ref().map(|supervisor| supervisor.last_words()).unwrap_or_default();
        let reason = EndReason::new(&self.id, pid, cause, stderr);
        if self.end.set(reason.clone()).is_err() {
            return;
        }
        if let Some(trace) = self.trace() {
            trace.note(&self.id, &reason.to_string());
        }
        if let Some(work) = self.work() {
            work.ended(&reason);
        }
        match reason.cause() {
            Cause::Asked => tracing::debug!(gateway = %self.id, "{reason}"),
            // Whoever has it killed is told what comes of that.
            Cause::Killed => tracing::info!(gateway = %self.id, "{reason}"),
            _ => tracing::warn!(gateway = %self.id, "{reason}"),
        }
        let is_asked_worker = self.duties.is_some() && reason.is_orderly();
        match self.input_key.get() {
            // Its coordinator may still be lost, and with it whoever would end what does not end by itself.
            Some(key) if is_asked_worker => self.reactor.rearm(*key, Interest::Readable),
            Some(key) => self.reactor.remove(*key),
            None => {}
        }
        // What a worker was still sending when it was asked to end is on its way.
        if !is_asked_worker {
            self.outbox.end(&self.reactor);
            if self.supervisor.is_none() {
                sys::hang_up(&self.input);
            }
        }
        self.outbox.wake();
        let mut session = self.session.lock();
        let channels: Vec<_> = session.lose().collect();
        for (inbox, _) in &channels {
            self.keep_unclaimed(inbox);
        }
        drop(session);
        for (inbox, _) in channels {
            inbox.close(ChannelEnd::Gateway(reason.clone()));
        }
        self.lanes.clear();
        self.all_told.store(true, Ordering::SeqCst);
        if let Some(duties) = &self.duties {
            duties.see_to_the_end(self, reason.cause(), grace);
        }
        self.nudge();
    }
}
