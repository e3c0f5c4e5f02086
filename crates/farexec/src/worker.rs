//! The far end of a gateway, if that is this process: a Rust program becomes a worker by [`serve`], with the functions of a [`Registry`].
//!
//! Below that, a [`Worker`] has the same connection as a coordinator, with the other side of the session; this module adds what only a
//! worker does: it takes in executions and says who runs them, answers how it is doing, and sees to its own end. It does not know what
//! an execution is written in: that is its owner's, `worker.py` in an interpreter, or [`serve`].

mod program;
mod registry;

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use farexec_proto::control::{ErrorReport, Hello, Status};
use farexec_proto::encoding::{Encode, EncodeError, StringCoercion, dump};
use farexec_proto::frame::{self, Kind};
use farexec_proto::handshake::MARKER;
use farexec_proto::serde::AsItem;
use farexec_proto::{ChannelId, Encoding};
use parking_lot::Mutex;
use serde::Deserialize;

use crate::callback;
use crate::channel::{Channel, SendError};
use crate::end::Cause;
use crate::gateway::{Gateway, WeakGateway};
use crate::inbox::Inbox;
use crate::limits::{GRACE_CUT_OFF, LAST_GRACE, LAST_GRACE_CUT_OFF, PATIENCE};
use crate::link::{self, Link, Pipes};
use crate::payload::Payload;
use crate::spec::ExecModel;
use crate::sys::{self, Interruptible};
use crate::wait::{Wait, WaitError};

pub use program::{ServeError, serve};
pub use registry::Registry;

/// A worker that this process is: its end of the connection to its coordinator.
#[derive(Clone)]
pub struct Worker {
    gateway: Gateway,
    duties: Arc<Duties>,
}

/// What a worker is told about itself.
pub struct WorkerSettings {
    /// The gateway's name.
    pub id: String,
    /// How it executes: one at a time, or further ones beside the first.
    pub execmodel: ExecModel,
    /// Whether it leads a process group, which ends with it if its coordinator is gone.
    pub group: bool,
    /// Runs an execution in a thread of its own. It is called from whichever thread reads, and must not wait.
    pub run_beside: Box<dyn Fn(Execution) -> io::Result<()> + Send + Sync>,
}

/// Something to execute.
#[derive(Debug)]
pub struct Execution {
    /// The channel that connects to who asked for it.
    pub channel: Channel,
    /// What to execute: a dict, as `docs/PROTOCOL.md` lists it.
    pub request: Payload,
    /// Whether it is a part of farexec itself, and not of its user's: its items go through no codec.
    pub is_part: bool,
}

/// What a [`Worker`] and its link share.
pub(crate) struct Duties {
    settings: WorkerSettings,
    main: Interruptible,
    gateway: OnceLock<WeakGateway>,
    state: Mutex<State>,
    /// Whether the coordinator is gone since it asked for the end.
    is_left_alone: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Whether the main thread has something to execute.
    main_is_busy: bool,
    for_main: VecDeque<Execution>,
    /// Executions that wait for the main thread, but not for long.
    patient: VecDeque<Execution>,
    /// How many were handed to somebody and have not ended.
    executing: u64,
}

/// What is of interest here of a request; the rest is for who executes.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Request {
    beside: bool,
    part: String,
}

impl Worker {
    /// The worker's end of a connection whose START has been read. The calling thread is the main thread, the one
    /// that calls [`next`](Self::next).
    ///
    /// # Errors
    /// What the system says if there are no descriptors or threads left.
    pub fn new(input: OwnedFd, output: OwnedFd, settings: WorkerSettings) -> io::Result<Self> {
        let (id, execmodel) = (settings.id.clone(), settings.execmodel);
        link::prepare_to_wait();
        let duties = Arc::new(Duties {
            settings,
            main: Interruptible::this_thread(),
            gateway: OnceLock::new(),
            state: Mutex::default(),
            is_left_alone: AtomicBool::new(false),
        });
        let link = Link::serving(&id, Pipes { input, output }, Arc::clone(&duties))?;
        let gateway = Gateway::serving(Arc::clone(&link), execmodel);
        let _ = duties.gateway.set(gateway.downgrade());
        Ok(Self { gateway, duties })
    }

    /// The gateway, for channels of its own.
    #[must_use]
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Answers the coordinator: says who this is, behind what stands before its first frame unless one was sent already. What the
    /// coordinator asks for is taken in from now on.
    ///
    /// # Errors
    /// [`EncodeError`] if it cannot be said. A coordinator that is gone is no error here: the worker has ended then.
    pub fn say_hello(&self, hello: &Hello, is_first: bool) -> Result<(), EncodeError> {
        let mut payload = Vec::new();
        dump::encode(&AsItem(hello), &mut payload)?;
        let mut out = if is_first { MARKER.to_vec() } else { Vec::new() };
        frame::write(&mut out, Kind::Hello, Encoding::Dump, ChannelId::GATEWAY, &payload);
        let _ = self.link().send(&out);
        self.link().start_reading();
        Ok(())
    }

    /// Waits for something that the main thread is to execute; `None` if no more comes.
    ///
    /// # Errors
    /// [`WaitError`]
    pub fn next(&self, wait: &Wait<'_>) -> Result<Option<Execution>, WaitError> {
        let link = self.link();
        link.wait(None, wait, || {
            if self.was_cut_off() {
                return Some(None);
            }
            if let Some(execution) = self.duties.state.lock().for_main.pop_front() {
                return Some(Some(execution));
            }
            link.end().is_some().then_some(None)
        })
    }

    /// An execution has ended. It is said before its channel is closed, so that whoever sees that end finds this worker free.
    pub fn has_executed(&self, in_main: bool) {
        let mut state = self.duties.state.lock();
        state.executing = state.executing.saturating_sub(1);
        if in_main {
            match state.patient.pop_front() {
                Some(execution) if self.is_alive() => state.hand_to_main(execution),
                _ => state.main_is_busy = false,
            }
        }
        drop(state);
        if !self.is_alive() {
            self.link().nudge();
        }
    }

    /// Closes the channel of an execution, with what went wrong if something did.
    pub fn close(&self, channel: &Channel, error: Option<&ErrorReport>) {
        self.link().close_channel(channel.id(), error);
    }

    /// Waits until everything that was handed out has ended.
    ///
    /// # Errors
    /// [`WaitError`]
    pub fn wait_idle(&self, wait: &Wait<'_>) -> Result<(), WaitError> {
        self.link().wait(None, wait, || (self.duties.state.lock().executing == 0).then_some(()))
    }

    /// Waits until the system has taken all that was sent, or the coordinator is gone.
    ///
    /// # Errors
    /// [`WaitError`]
    pub fn flush(&self, wait: &Wait<'_>) -> Result<(), WaitError> {
        self.link().flush(wait)
    }

    /// Sends an item on a channel that may have been closed by the end of this worker: its coordinator listens until the process
    /// exits. Returns whether it could be sent.
    ///
    /// # Errors
    /// [`SendError`] if the item cannot be encoded.
    pub fn send_last_words(&self, channel: &Channel, item: &impl Encode) -> Result<bool, SendError> {
        let mut frames = Vec::new();
        frame::write_with(&mut frames, Kind::Item, channel.id(), |out| {
            self.link().encode(item, out).map_err(SendError::from)
        })?;
        Ok(self.link().send_last_words(&frames))
    }

    /// Whether the coordinator has not ended this worker.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.link().end().is_none()
    }

    /// Whether the coordinator is gone.
    #[must_use]
    pub fn was_cut_off(&self) -> bool {
        let is_left_alone = self.duties.is_left_alone.load(Ordering::SeqCst);
        is_left_alone || self.link().end().is_some_and(|reason| !reason.is_orderly())
    }

    /// In the child of a fork: the connection is the parent's, and the child has none.
    pub fn forget(&self) {
        self.link().let_go();
    }

    fn link(&self) -> &Arc<Link> {
        self.gateway.link()
    }
}

impl State {
    fn hand_to_main(&mut self, execution: Execution) {
        self.main_is_busy = true;
        self.executing += 1;
        self.for_main.push_back(execution);
    }
}

impl Duties {
    /// Takes in an execution: for the main thread if that is free, else for a thread of its own. Returns whether the main thread has
    /// something to do now.
    pub(crate) fn take_in(
        self: &Arc<Self>,
        link: &Arc<Link>,
        inbox: Arc<Inbox>,
        encoding: Encoding,
        bytes: Vec<u8>,
    ) -> bool {
        let Some(gateway) = self.gateway.get().and_then(WeakGateway::upgrade) else { return false };
        let request = Payload::new(encoding, bytes, StringCoercion::DEFAULT);
        // What cannot be read is told by who executes it.
        let Request { beside, part } = request.decode().unwrap_or_default();
        if beside {
            inbox.set_coercion(StringCoercion::DEFAULT);
        }
        let channel = Channel::new(inbox, gateway);
        let execution = Execution { channel, request, is_part: beside || !part.is_empty() };
        let mut state = self.state.lock();
        if !beside && !state.main_is_busy {
            state.hand_to_main(execution);
            return true;
        }
        if !beside && self.settings.execmodel == ExecModel::MainThreadOnly {
            let id = execution.channel.id();
            state.patient.push_back(execution);
            drop(state);
            let (duties, link) = (Arc::clone(self), Arc::clone(link));
            let reactor = Arc::clone(link.reactor());
            reactor.at(Instant::now() + PATIENCE, move |_| duties.lose_patience(&link, id));
            return false;
        }
        state.executing += 1;
        drop(state);
        let channel = execution.channel.clone();
        if let Err(error) = (self.settings.run_beside)(execution) {
            let mut state = self.state.lock();
            state.executing = state.executing.saturating_sub(1);
            drop(state);
            refuse(link, channel.id(), &format!("cannot start another thread: {error}"));
        }
        false
    }

    /// What was executed before may be about to end, if its channel was closed; if it waits for this one, it would do so for ever.
    fn lose_patience(&self, link: &Link, id: ChannelId) {
        let mut state = self.state.lock();
        let Some(index) = state.patient.iter().position(|execution| execution.channel.id() == id) else {
            return;
        };
        let execution = state.patient.remove(index);
        drop(state);
        refuse(
            link,
            id,
            "an execution is running, and a worker of the main_thread_only model runs one at a time: waiting would be a \
             deadlock",
        );
        drop(execution);
    }

    /// How this worker is doing.
    pub(crate) fn status(&self, channels: usize) -> Status {
        let state = self.state.lock();
        Status {
            channels: channels as u64,
            executing: state.executing,
            queued: state.patient.len() as u64,
            execmodel: self.settings.execmodel.name().into(),
            cwd: std::env::current_dir().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default(),
        }
    }

    /// The connection has ended: this process ends within a time.
    pub(crate) fn see_to_the_end(self: &Arc<Self>, link: &Arc<Link>, cause: &Cause, grace: Duration) {
        self.state.lock().patient.clear();
        match cause {
            Cause::Asked => self.exit_within(link, grace, LAST_GRACE, false),
            _ => self.exit_within(link, GRACE_CUT_OFF, LAST_GRACE_CUT_OFF, self.settings.group),
        }
    }

    /// The coordinator is gone after it has asked for the end.
    pub(crate) fn is_left_alone(self: &Arc<Self>, link: &Arc<Link>) {
        self.is_left_alone.store(true, Ordering::SeqCst);
        self.exit_within(link, GRACE_CUT_OFF, LAST_GRACE_CUT_OFF, self.settings.group);
    }

    /// Interrupts what does not end by itself, and then exits, whatever still runs.
    fn exit_within(self: &Arc<Self>, link: &Link, grace: Duration, last_grace: Duration, group: bool) {
        let duties = Arc::clone(self);
        let now = Instant::now();
        link.reactor().at(now + grace, move |_| {
            if duties.state.lock().main_is_busy {
                duties.main.interrupt();
            }
        });
        link.reactor().at(now + grace + last_grace, move |_| {
            if group {
                sys::kill_own_group();
            }
            sys::exit_at_once();
        });
    }
}

fn refuse(link: &Link, id: ChannelId, why: &str) {
    link.close_channel(id, Some(&callback::report(why.into())));
}
