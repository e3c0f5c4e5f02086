//! Gateways: the handle on one worker.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use farexec_proto::control::{Hello, Status, Terminate};
use farexec_proto::encoding::StringCoercion;
use farexec_proto::frame::Kind;
use farexec_proto::handshake::PROTOCOL_VERSION;
use farexec_proto::session::write_credit;
use farexec_proto::{ChannelId, Encoding, frame};

use crate::channel::Channel;
use crate::end::{Cause, EndReason};
use crate::error::{ExecError, GatewayError, StartError};
use crate::imports::Imports;
use crate::inbox::Inbox;
use crate::interpreter::{self, Setting};
use crate::limits::{GONE_AFTER_KILL, START_TIMEOUT};
use crate::link::{Link, SendFailure};
use crate::source::{Kwargs, Request, Source};
use crate::spec::{ExecModel, Spec, Transport};
use crate::supervisor::{self, NoWorker};
use crate::sys;
use crate::transport::{self, Order, Starting, Surroundings};
use crate::wait::{Wait, WaitError};
use crate::work::{Execution, Work};

/// One connection to one worker. Clones are handles on the same gateway.
///
/// Gateways are made by a [`Group`](crate::Group), which ends them.
///
/// ```
/// use farexec::Wait;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let group = farexec::Group::new();
/// let gateway = group.make_gateway("popen//id=first")?;
/// assert_eq!((gateway.id(), gateway.spec().to_string().as_str()), ("first", "popen//id=first"));
/// assert_eq!(gateway.hello().implementation, "cpython");
/// assert_eq!(gateway.call::<u32>("os:getpid", &())?, gateway.hello().pid);
///
/// gateway.exit();
/// let reason = gateway.wait(&Wait::forever())?;
/// assert!(reason.is_orderly() && !gateway.is_alive());
/// assert_eq!(gateway.return_code(), Some(0));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

struct Inner {
    link: Arc<Link>,
    spec: Spec,
    command: String,
    address: Option<String>,
    execmodel: ExecModel,
    interpreter: Option<(interpreter::Command, Setting)>,
    hello: OnceLock<Hello>,
    imports: Imports,
    /// The process that made it: in the child of a fork it is not the child's to end.
    process: u32,
}

/// A gateway as long as somebody has it.
pub(crate) struct WeakGateway(Weak<Inner>);

impl WeakGateway {
    pub(crate) fn upgrade(&self) -> Option<Gateway> {
        self.0.upgrade().map(Gateway)
    }
}

/// What came of ending a gateway.
///
/// ```
/// use farexec::Termination;
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let group = farexec::Group::new();
/// group.make_gateways(["popen//id=polite", "popen//id=busy"])?;
/// let _channel = group.gateways()[1].remote_exec("import signal\nwhile True: signal.pause()")?;
/// for (gateway, termination) in group.terminate(Duration::from_millis(200))? {
///     println!("{}: {termination:?}", gateway.id());
/// }
/// assert!(group.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Termination {
    /// The worker ended by itself.
    Ended,
    /// It was killed, with all it had started.
    Killed,
    /// It could not be killed: its process hangs in the operating system.
    Stuck,
}

impl Gateway {
    /// Starts a worker without waiting for its answer: [`wait_started`](Self::wait_started) does.
    pub(crate) fn start(
        spec: Spec,
        id: &str,
        execmodel: ExecModel,
        surroundings: &Surroundings<'_>,
    ) -> Result<Self, StartError> {
        let execmodel = spec.execmodel.unwrap_or(execmodel);
        let order = Order { spec: &spec, id, execmodel, outputs: surroundings.outputs };
        let began = Instant::now();
        let Starting { link, command, address, interpreter } = transport::start(&order, surroundings)?;
        if let Some(work) = Work::begin(id, began, surroundings.timeline.clone()) {
            link.set_work(work);
        }
        tracing::debug!(gateway = id, %spec, command, "worker started");
        Ok(Self(Arc::new(Inner {
            link,
            spec,
            command,
            address,
            execmodel,
            interpreter,
            hello: OnceLock::new(),
            imports: Imports::default(),
            process: sys::process_id(),
        })))
    }

    /// The gateway as its worker has it.
    pub(crate) fn serving(link: Arc<Link>, execmodel: ExecModel) -> Self {
        Self(Arc::new(Inner {
            link,
            spec: Spec::default(),
            command: String::new(),
            address: None,
            execmodel,
            interpreter: None,
            hello: OnceLock::new(),
            imports: Imports::default(),
            process: sys::process_id(),
        }))
    }

    pub(crate) fn downgrade(&self) -> WeakGateway {
        WeakGateway(Arc::downgrade(&self.0))
    }

    /// Waits for the worker's answer.
    pub(crate) fn wait_started(&self, began: Instant, wait: &Wait<'_>) -> Result<(), StartError> {
        let Inner { link, command, .. } = &*self.0;
        let command = || command.clone();
        let chatter = || String::from_utf8_lossy(&link.chatter()).into_owned();
        if self.0.hello.get().is_some() {
            return Ok(());
        }
        let wait = wait.until(began + START_TIMEOUT);
        let result = match link.wait_hello(&wait) {
            Ok(Ok(hello)) if hello.error.is_some() => {
                Err(StartError::Refused { command: command(), reason: hello.error.unwrap_or_default() })
            }
            Ok(Ok(hello)) if hello.protocol != PROTOCOL_VERSION => Err(StartError::Version {
                command: command(),
                theirs: hello.protocol,
                ours: PROTOCOL_VERSION,
            }),
            Ok(Ok(mut hello)) => {
                if let Some((interpreter, setting)) = &self.0.interpreter {
                    let pid = link.supervisor().and_then(|supervisor| supervisor.pid());
                    interpreter.learn(setting, pid, &hello);
                }
                hello.compiled = None;
                let _ = self.0.hello.set(hello);
                return Ok(());
            }
            Ok(Err(_)) if let Some(NoWorker::Refused(reason)) = self.no_worker() => {
                Err(StartError::Refused { command: command(), reason: reason.clone() })
            }
            Ok(Err(reason)) => {
                let error = StartError::NoAnswer { command: command(), reason, chatter: chatter() };
                Err(transport::explain(&self.0.spec, error))
            }
            Err(WaitError::Timeout) => {
                Err(StartError::Timeout { command: command(), timeout: START_TIMEOUT, chatter: chatter() })
            }
            Err(WaitError::Interrupted | WaitError::Pending) => Err(StartError::Interrupted),
        };
        self.kill();
        result
    }

    /// Why a template did not fork its worker, if so.
    fn no_worker(&self) -> Option<&NoWorker> {
        self.0.link.supervisor()?.no_worker()
    }

    /// Whether another start may do better, for the template that this one was to come from is gone.
    pub(crate) fn lost_its_template(&self) -> bool {
        matches!(self.no_worker(), Some(NoWorker::Lost))
    }

    /// Whether its worker will tell what this command starts.
    pub(crate) fn will_tell(&self, command: &interpreter::Command) -> bool {
        self.0.interpreter.as_ref().is_some_and(|(own, _)| own.is_like(command))
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.0.link
    }

    pub(crate) fn imports(&self) -> &Imports {
        &self.0.imports
    }

    /// What was run to reach it, for error messages.
    pub(crate) fn command(&self) -> &str {
        &self.0.command
    }

    /// The gateway's name in its group.
    #[must_use]
    pub fn id(&self) -> &str {
        self.0.link.id()
    }

    /// The address, `host:port`, of the socket server that the worker is behind, if it is behind one.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        self.0.address.as_deref()
    }

    /// The spec it was made from.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.0.spec
    }

    /// Who answered: the interpreter's version, executable, platform and so on, as they were at the start.
    #[must_use]
    pub fn hello(&self) -> Hello {
        self.0.hello.get().cloned().unwrap_or_default()
    }

    /// How the worker executes.
    #[must_use]
    pub fn execmodel(&self) -> ExecModel {
        self.0.execmodel
    }

    /// The process id of the worker.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.0.link.worker_pid()
    }

    /// How the worker's process exited, as Python's `subprocess` gives it (negative for a signal); `None` while it runs, and
    /// for workers whose processes are not ours to wait for.
    #[must_use]
    pub fn return_code(&self) -> Option<i32> {
        let link = &self.0.link;
        match link.supervisor() {
            Some(supervisor) => supervisor.exit_status().map(supervisor::return_code),
            None => link.far_exit(),
        }
    }

    /// Why the gateway ended, once it has.
    #[must_use]
    pub fn end_reason(&self) -> Option<&EndReason> {
        self.0.link.end()
    }

    /// Whether its worker is a process on this machine, which sees the files that this one sees.
    pub(crate) fn is_on_this_machine(&self) -> bool {
        self.0.spec.transport == Transport::Popen && self.relay().is_none()
    }

    /// The id of the gateway that it goes through, if it goes through one.
    pub(crate) fn relay(&self) -> Option<&str> {
        self.0.spec.via.as_deref()
    }

    /// Whether the gateway has not ended.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.0.link.end().is_none()
    }

    /// The number of channels that are not closed.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.0.link.session().channel_count()
    }

    /// Executes code at the worker; the channel connects to it. Errors of the code arrive on the channel.
    ///
    /// ```
    /// use farexec::Source;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = farexec::Group::new();
    /// let gateway = group.make_gateway("popen")?;
    /// let channel = gateway.remote_exec(Source::text("channel.send(a + b)").with("a", 1).with("b", 2))?;
    /// assert_eq!(channel.receive::<i64>()?, 3);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ExecError`]
    pub fn remote_exec(&self, source: impl Into<Source>) -> Result<Channel, ExecError> {
        self.execute(&source.into().request()?)
    }

    /// Executes code whose keyword arguments are of any object model.
    ///
    /// # Errors
    /// [`ExecError`]
    pub fn execute<K: Kwargs>(&self, request: &Request<'_, K>) -> Result<Channel, ExecError> {
        let link = &self.0.link;
        link.check_not_inherited()?;
        let inbox = link.open_channel(request.max_pending);
        if request.beside {
            // It is a part of farexec, to which strings are what they are.
            inbox.set_coercion(StringCoercion::DEFAULT);
        }
        let mut out = Vec::new();
        write_limit(&inbox, request.max_pending, &mut out);
        let written = frame::write_with(&mut out, Kind::Execute, inbox.id, |out| {
            link.encode(request, out).map_err(ExecError::from)
        });
        if let Err(error) = written {
            link.forget_channel(inbox.id);
            return Err(error);
        }
        if let Some(work) = link.work()
            && request.part.is_none()
        {
            inbox.set_execution(Execution::begin(work, request.name()));
        }
        if let Err(error) = link.send(&out) {
            link.forget_channel(inbox.id);
            return Err(error.into());
        }
        Ok(Channel::new(inbox, self.clone()))
    }

    /// A new channel, which the far end gets to know by an item that has it in it.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = farexec::Group::new();
    /// let gateway = group.make_gateway("popen")?;
    /// let execution = gateway.remote_exec("results = channel.receive(); results.send('by another way')")?;
    /// let results = gateway.new_channel()?;
    /// execution.send(&results.id())?;
    /// assert_eq!(results.receive::<String>()?, "by another way");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`GatewayError`] if the gateway has ended.
    pub fn new_channel(&self) -> Result<Channel, GatewayError> {
        self.new_limited_channel(None)
    }

    /// A new channel on which no more than `max_pending` items that were sent wait for their receiver, at either end: see
    /// [`Source::max_pending`].
    ///
    /// # Errors
    /// [`GatewayError`] if the gateway has ended.
    pub fn new_limited_channel(&self, max_pending: Option<u32>) -> Result<Channel, GatewayError> {
        self.0.link.check_not_inherited()?;
        let inbox = self.0.link.open_channel(max_pending);
        let mut out = Vec::new();
        write_limit(&inbox, max_pending, &mut out);
        frame::write(&mut out, Kind::Open, Encoding::Message, inbox.id, &[]);
        self.0.link.send_with_next(&out)?;
        Ok(Channel::new(inbox, self.clone()))
    }

    /// The channel that the far end sent as (part of) an item, by its number; if the far end has closed it
    /// already, what it sent before is still there.
    ///
    /// ```
    /// use farexec::ChannelId;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = farexec::Group::new();
    /// let gateway = group.make_gateway("popen")?;
    /// let execution = gateway.remote_exec("new = channel.gateway.newchannel(); channel.send(new); new.send(1)")?;
    /// let new = gateway.channel(execution.receive::<ChannelId>()?);
    /// assert_eq!(new.receive::<u8>()?, 1);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn channel(&self, id: ChannelId) -> Channel {
        Channel::new(self.0.link.mentioned_channel(id), self.clone())
    }

    /// How the worker is doing; answered even while it computes.
    ///
    /// ```
    /// use farexec::Wait;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = farexec::Group::new();
    /// let gateway = group.make_gateway("popen")?;
    /// let channel = gateway.remote_exec("channel.send('begun'); channel.receive()")?;
    /// assert_eq!(channel.receive::<String>()?, "begun");
    /// assert_eq!(gateway.remote_status(&Wait::forever())?.executing, 1);
    /// drop(channel);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`GatewayError`]
    pub fn remote_status(&self, wait: &Wait<'_>) -> Result<Status, GatewayError> {
        Ok(self.0.link.status(wait)?)
    }

    /// How Python 2 strings are taken here, and Python 3 strings there, on channels made from now on.
    ///
    /// # Errors
    /// [`GatewayError`] if the gateway has ended.
    pub fn reconfigure(&self, py2str_as_py3str: bool, py3str_as_py2str: bool) -> Result<(), GatewayError> {
        self.0.link.set_coercion(StringCoercion { py2str_as_py3str, py3str_as_py2str });
        let (link, id) = (&self.0.link, ChannelId::GATEWAY);
        Ok(send_reconfigure(link, id, py2str_as_py3str, py3str_as_py2str)?)
    }

    /// Asks the worker to end, and returns at once. Its group knows it until it starts others after that end.
    pub fn exit(&self) {
        if self.is_ours() {
            self.0.link.ask_to_end(self.farewell(), false);
        }
    }

    /// Waits until the worker has ended, and returns why.
    ///
    /// # Errors
    /// [`WaitError`]
    pub fn wait(&self, wait: &Wait<'_>) -> Result<EndReason, WaitError> {
        self.0.link.wait_end(wait)
    }

    /// Ends the worker and all it started, without asking.
    ///
    /// ```
    /// use farexec::{Cause, Wait};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = farexec::Group::new();
    /// let gateway = group.make_gateway("popen")?;
    /// gateway.kill();
    /// assert_eq!(gateway.wait(&Wait::forever())?.cause(), &Cause::Killed);
    /// # Ok(())
    /// # }
    /// ```
    pub fn kill(&self) {
        match self.0.link.supervisor() {
            _ if !self.is_ours() => {}
            Some(supervisor) => {
                supervisor.sweep_at_exit();
                supervisor.kill_now();
            }
            None => self.0.link.hang_up(),
        }
    }

    fn farewell(&self) -> Terminate {
        match self.0.spec.grace {
            Some(grace) => Terminate { grace: grace.as_secs_f64() },
            None => Terminate::default(),
        }
    }

    fn is_ours(&self) -> bool {
        self.0.process == sys::process_id()
    }

    /// First half of ending it: asks. `has_deadline`: what the worker started ends with it.
    pub(crate) fn begin_termination(&self, has_deadline: bool) {
        if self.is_ours() && self.is_alive() {
            self.0.link.ask_to_end(self.farewell(), has_deadline);
        }
    }

    /// Second half, once its time is up: kills it, with all it started.
    pub(crate) fn begin_kill(&self) {
        match self.0.link.supervisor() {
            _ if !self.is_ours() => {}
            Some(supervisor) => supervisor.kill(self.0.link.reactor()),
            None => self.0.link.hang_up(),
        }
    }

    /// What came of it.
    pub(crate) fn termination(&self) -> Termination {
        let end = self.0.link.wait_end(&Wait::at_most(GONE_AFTER_KILL));
        match end {
            Ok(reason) if *reason.cause() == Cause::Killed => Termination::Killed,
            Ok(_) => Termination::Ended,
            Err(_) => Termination::Stuck,
        }
    }
}

/// Appends how many items may be sent ahead on a channel that is opened next, if the far end knows of that.
fn write_limit(inbox: &Inbox, max_pending: Option<u32>, out: &mut Vec<u8>) {
    if let (Some(_), Some(items)) = (inbox.flow(), max_pending) {
        write_credit(inbox.id, items, out);
    }
}

pub(crate) fn send_reconfigure(
    link: &Link,
    id: ChannelId,
    py2str_as_py3str: bool,
    py3str_as_py2str: bool,
) -> Result<(), SendFailure> {
    let mut out = Vec::new();
    let payload = [u8::from(py2str_as_py3str), u8::from(py3str_as_py2str)];
    frame::write(&mut out, Kind::Reconfigure, Encoding::Message, id, &payload);
    link.send(&out).map(drop)
}

impl From<SendFailure> for ExecError {
    fn from(failure: SendFailure) -> Self {
        match failure {
            SendFailure::Ended(reason) => Self::Ended(reason),
            SendFailure::Wait(error) => Self::Wait(error),
        }
    }
}

impl From<SendFailure> for GatewayError {
    fn from(failure: SendFailure) -> Self {
        match failure {
            SendFailure::Ended(reason) => Self::Ended(reason),
            SendFailure::Wait(error) => Self::Wait(error),
        }
    }
}

impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let receiving = if self.is_alive() { "receive-live" } else { "not-receiving" };
        let channels = self.channel_count();
        let model = self.execmodel().name();
        write!(f, "<Gateway id='{}' {receiving}, {model} model, {channels} active channels>", self.id())
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for Gateway {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Gateway {}
