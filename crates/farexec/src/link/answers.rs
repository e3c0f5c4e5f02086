//! What a worker says that belongs to no channel: who it is, how it is doing; asking it for that, and what it is answered; and reading the
//! dictionaries that say it. A worker that says more than it was asked for, or asks without reading the answers, would have this side keep
//! ever more: it is cut off.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use farexec_proto::Encoding;
use farexec_proto::control::{ErrorReport, Hello, Status, Terminate};
use farexec_proto::encoding::{DecodeError, StringCoercion};

use super::{Link, SendFailure};
use crate::end::{EndReason, RemoteError};
use crate::extension;
use crate::limits::UNREAD_ANSWERS;
use crate::wait::{Wait, WaitError};

/// What was said so far.
#[derive(Debug, Default)]
pub(super) struct Answers {
    hello: Option<Hello>,
    statuses: VecDeque<Status>,
    status_requests: u64,
    status_replies: u64,
    /// Whether the worker has asked for the extension module.
    asked_extension: bool,
    /// Bytes of answers that were queued for the worker while it read nothing.
    unread: usize,
    /// What the worker's output began with and was no protocol.
    chatter: Vec<u8>,
}

impl Answers {
    pub(super) fn has_hello(&self) -> bool {
        self.hello.is_some()
    }

    pub(super) fn set_chatter(&mut self, chatter: &[u8]) {
        self.chatter = chatter.to_vec();
    }

    fn forget_statuses(&mut self) {
        const KEPT: usize = 64;
        let excess = self.statuses.len().saturating_sub(KEPT);
        self.statuses.drain(..excess);
    }
}

impl Link {
    /// Takes in who answers. Returns whether that is all: before, it may ask for the extension module, once.
    pub(super) fn take_hello(&self, payload: &[u8], replies: &mut Vec<u8>) -> Result<bool, String> {
        let hello: Hello = decode_control(Encoding::Dump, payload)
            .map_err(|error| format!("its HELLO cannot be read: {error}"))?;
        let mut answers = self.answers();
        if answers.hello.is_some() || (hello.asks_extension && answers.asked_extension) {
            return Err("it sent a second HELLO".into());
        }
        if hello.asks_extension {
            answers.asked_extension = true;
            extension::write_for(&hello, replies);
            return Ok(false);
        }
        self.reads_message.store(hello.reads_message, Ordering::Relaxed);
        self.knows_credit.store(hello.knows_credit, Ordering::Relaxed);
        self.far_pid.store(hello.pid, Ordering::Relaxed);
        self.ring.is_native.store(hello.worker == "native", Ordering::Relaxed);
        answers.hello = Some(hello);
        drop(answers);
        if let Some(work) = self.work() {
            work.started(self.worker_pid());
        }
        self.wake_waiters();
        Ok(true)
    }

    /// Takes in how the worker is doing.
    pub(super) fn take_status(&self, encoding: Encoding, payload: &[u8]) -> Result<(), String> {
        let status = decode_control(encoding, payload)
            .map_err(|error| format!("its status cannot be read: {error}"))?;
        let mut answers = self.answers();
        if answers.status_replies == answers.status_requests {
            return Err("it sent a status that nobody asked for".into());
        }
        answers.status_replies += 1;
        answers.statuses.push_back(status);
        drop(answers);
        self.wake_waiters();
        Ok(())
    }

    /// Sends what the protocol itself answers. Returns why the worker is to be cut off, if it is.
    pub(super) fn send_replies(&self, replies: &[u8]) -> Option<String> {
        if replies.is_empty() {
            return None;
        }
        if let Some(trace) = self.trace() {
            trace.sent(&self.id, replies);
        }
        let is_behind = self.outbox.is_above_high_water();
        // A peer that cannot be answered is gone, and whoever reads will see it.
        let _ = self.outbox.send(replies, &self.reactor);
        let mut answers = self.answers();
        // A worker trusts its coordinator.
        let counts = is_behind && self.duties.is_none();
        answers.unread = if counts { answers.unread + replies.len() } else { 0 };
        (answers.unread > UNREAD_ANSWERS).then(|| "it asks on and on, and reads no answer".into())
    }

    /// Who answered, once somebody has; `Err` if the gateway ended before.
    pub(crate) fn wait_hello(
        self: &Arc<Self>,
        wait: &Wait<'_>,
    ) -> Result<Result<Hello, EndReason>, WaitError> {
        self.wait(None, wait, || match &self.answers().hello {
            Some(hello) => Some(Ok(hello.clone())),
            None => self.end().cloned().map(Err),
        })
    }

    /// What the worker's output began with and was no protocol.
    pub(crate) fn chatter(&self) -> Vec<u8> {
        self.answers().chatter.clone()
    }

    /// How the worker is doing.
    pub(crate) fn status(self: &Arc<Self>, wait: &Wait<'_>) -> Result<Status, SendFailure> {
        self.answer(self.ask_status()?, &wait.blocking())
    }

    /// Asks how the worker is doing. Returns the number of the question.
    pub(crate) fn ask_status(&self) -> Result<u64, SendFailure> {
        self.check_not_inherited()?;
        let mut request = Vec::new();
        self.session().write_status_request(&mut request);
        // In one go, so that the order of the requests is that of their numbers. The session is locked before the answers, by who reads.
        let mut answers = self.answers();
        let number = answers.status_requests;
        answers.status_requests += 1;
        let sent = self.send(&request);
        drop(answers);
        sent?;
        Ok(number)
    }

    /// Waits for the answer to a question.
    pub(crate) fn answer(self: &Arc<Self>, number: u64, wait: &Wait<'_>) -> Result<Status, SendFailure> {
        let found = self.wait(None, wait, || {
            let answers = self.answers();
            if answers.status_replies > number {
                // Kept until the next one is asked for: others may wait for the same, or have given up waiting for theirs.
                let behind = usize::try_from(answers.status_replies - number).unwrap_or(usize::MAX);
                let index = answers.statuses.len().saturating_sub(behind);
                return Some(Ok(answers.statuses.get(index).cloned().unwrap_or_default()));
            }
            self.end().cloned().map(Err)
        })?;
        self.answers().forget_statuses();
        found.map_err(SendFailure::Ended)
    }
}

/// What a TERMINATE asks for.
pub(super) fn terminate(encoding: Encoding, payload: &[u8]) -> Result<Terminate, DecodeError> {
    if payload.is_empty() { Ok(Terminate::default()) } else { decode_control(encoding, payload) }
}

/// What a CLOSE_ERROR tells.
pub(super) fn remote_error(encoding: Encoding, bytes: &[u8]) -> RemoteError {
    RemoteError::new(decode_control(encoding, bytes).unwrap_or_else(|error| ErrorReport {
        text: format!("the far end reported an error that cannot be read: {error}"),
        ..ErrorReport::default()
    }))
}

/// One of the dictionaries that frames other than items carry.
pub(super) fn decode_control<T: serde::de::DeserializeOwned>(
    encoding: Encoding,
    bytes: &[u8],
) -> Result<T, DecodeError> {
    farexec_proto::serde::from_payload(encoding, bytes, StringCoercion::default())
}
