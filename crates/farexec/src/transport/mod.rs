//! Transports: how a worker is started and reached. Nothing outside this folder knows.

mod here;
mod keepalive;
mod process;
mod secret;
mod socket;
mod ssh;
mod tls;
mod via;

use std::sync::Arc;

use farexec_proto::control::Start;
use farexec_proto::handshake::PROTOCOL_VERSION;

use crate::bootstrap;
use crate::error::StartError;
use crate::gateway::Gateway;
use crate::interpreter::{self, Setting};
use crate::link::Link;
use crate::output::Outputs;
use crate::spec::{ExecModel, Native, Output, Spec, Transport};
use crate::template::Present;
use crate::timeline::Timeline;
use crate::wait::Wait;

pub use socket::SOCKET_SERVER;
pub(crate) use ssh::Masters;
pub(crate) use via::Bridge;

/// The interpreter of a spec that names none.
const DEFAULT_PYTHON: &str = "python3";

/// What says for specs that do not whether their workers may be native.
const NATIVE_VARIABLE: &str = "FAREXEC_NATIVE";

/// A worker on its way up.
pub(crate) struct Starting {
    pub(crate) link: Arc<Link>,
    /// What was run, for error messages.
    pub(crate) command: String,
    /// Where the worker is, if that is the address of a socket.
    pub(crate) address: Option<String>,
    /// What it runs in and with, if that is to be learned from its answer.
    pub(crate) interpreter: Option<(interpreter::Command, Setting)>,
}

/// What a start may need of the group it is for.
pub(crate) struct Surroundings<'a> {
    /// Finds a gateway that can be worked through, by its id.
    pub(crate) gateway: &'a dyn Fn(&str) -> Result<Gateway, StartError>,
    pub(crate) masters: &'a Masters,
    pub(crate) outputs: &'a Arc<Outputs>,
    /// The trace that the gateway is to be in.
    pub(crate) timeline: Option<Arc<Timeline>>,
    /// Waits for a worker that was started by the same command at the same time, if that has to say what the command starts.
    pub(crate) learn: &'a dyn Fn(&interpreter::Command),
    pub(crate) present: &'a Present,
    pub(crate) wait: Wait<'a>,
}

/// What a worker is started with, whatever starts it.
pub(crate) struct Order<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) id: &'a str,
    pub(crate) execmodel: ExecModel,
    pub(crate) outputs: &'a Arc<Outputs>,
}

/// Begins what several workers share, so that it goes on while the first are started.
pub(crate) fn prepare(specs: &[Spec], masters: &Masters) {
    for spec in specs {
        if let (Transport::Ssh(arguments), None) = (&spec.transport, &spec.via) {
            masters.prepare(&ssh::host(arguments, spec.ssh_config.as_deref(), spec.keepalive));
        }
    }
}

/// Starts the worker that a spec describes, without waiting for its answer.
pub(crate) fn start(order: &Order<'_>, surroundings: &Surroundings<'_>) -> Result<Starting, StartError> {
    let spec = order.spec;
    if let Transport::Socket(address) = &spec.transport {
        return socket::start(order, address.as_deref(), surroundings);
    }
    if let Some(relay) = &spec.via {
        let relay = helper(spec, "via", relay, surroundings)?;
        return via::start(order, &relay, far_command(spec, &keepalive::asked_for(spec))?);
    }
    match &spec.transport {
        Transport::Popen => here::start(order, python(spec)?, surroundings),
        Transport::Ssh(arguments) => {
            let host = ssh::host(arguments, spec.ssh_config.as_deref(), spec.keepalive);
            let options = surroundings.masters.wait_for(&host, &surroundings.wait)?;
            process::start_behind(order, far_command(spec, &options)?)
        }
        _ => process::start_behind(order, far_command(spec, &keepalive::asked_for(spec))?),
    }
}

/// The gateway whose worker is to do something for another one, beside what else it executes.
fn helper(spec: &Spec, key: &str, id: &str, surroundings: &Surroundings<'_>) -> Result<Gateway, StartError> {
    let gateway = (surroundings.gateway)(id)?;
    if gateway.spec().threads_none {
        let reason = format!(
            "`{id}` has `threads=none`, so it executes one thing at a time and cannot do this beside"
        );
        return Err(spec.bad(key, id, &reason).into());
    }
    Ok(gateway)
}

/// Says more about a worker that did not answer, where the transport knows more.
pub(crate) fn explain(spec: &Spec, error: StartError) -> StartError {
    match &spec.transport {
        Transport::Popen if spec.via.is_none() => error,
        Transport::Ssh(arguments) | Transport::VagrantSsh(arguments) => ssh::explain(arguments, spec, error),
        _ => process::explain(spec, error),
    }
}

/// A command that starts an interpreter, and what is shown of it in errors.
struct Command {
    words: Vec<String>,
    shown: String,
}

/// What runs the interpreter of a spec, with all its arguments. `options` are those of an `ssh`.
fn far_command(spec: &Spec, options: &[String]) -> Result<Command, StartError> {
    let mut interpreter = python_behind(spec)?;
    let shown = |words: &[String]| format!("`{} -c ...`", shell_words::join(words));
    interpreter.extend(["-c".to_owned(), bootstrap::STAGE_0.to_owned()]);
    let short = interpreter.len() - 2;
    Ok(match &spec.transport {
        Transport::Ssh(arguments) => {
            ssh::command("ssh", arguments, spec.ssh_config.as_deref(), options, &interpreter)
        }
        Transport::VagrantSsh(arguments) => {
            ssh::vagrant_command(arguments, spec.ssh_config.as_deref(), options, &interpreter)
        }
        Transport::Command(prefix) => Command {
            shown: shown(&[prefix, &interpreter[..short]].concat()),
            words: [prefix.as_slice(), &interpreter].concat(),
        },
        Transport::Popen | Transport::Socket(_) => {
            Command { shown: shown(&interpreter[..short]), words: interpreter }
        }
    })
}

impl Spec {
    /// What is run, or connected to, for a worker of this spec, as error messages show it. Nothing is done.
    ///
    /// ```
    /// let spec: farexec::Spec = "ssh=web01//python=python3.12".parse()?;
    /// assert_eq!(spec.command_line()?, "`ssh web01 'python3.12 -c ...'`");
    /// # Ok::<(), farexec::StartError>(())
    /// ```
    ///
    /// # Errors
    /// [`StartError::Spec`] if the interpreter is no command.
    pub fn command_line(&self) -> Result<String, StartError> {
        let here = self.via.is_none();
        Ok(match (&self.transport, &self.via, &self.installvia) {
            (Transport::Socket(address), _, relay) => match (address, relay) {
                (Some(address), None) => format!("a connection to {address}"),
                (_, relay) => {
                    format!("a connection to a server at {}", relay.as_deref().unwrap_or_default())
                }
            },
            (Transport::Popen, ..) if here => format!("`{} -c ...`", shell_words::join(python(self)?)),
            (Transport::Popen, via, _) if self.python.is_none() => {
                format!("the interpreter of {}", via.as_deref().unwrap_or_default())
            }
            (_, None, _) => far_command(self, &[])?.shown,
            (_, Some(relay), _) => format!("{} at {relay}", far_command(self, &[])?.shown),
        })
    }
}

/// The words of the interpreter, with `env` in front of them if there is something to set before it starts. The empty word stands for the
/// interpreter of the relay.
fn python_behind(spec: &Spec) -> Result<Vec<String>, StartError> {
    let mut words = match (&spec.python, &spec.transport) {
        (None, Transport::Popen) => vec![String::new()],
        _ => python(spec)?,
    };
    if !spec.env.is_empty() && spec.transport != Transport::Popen {
        let variables = spec.env.iter().map(|(name, value)| format!("{name}={value}"));
        let variables: Vec<String> = std::iter::once("env".to_owned()).chain(variables).collect();
        words = [variables, words].concat();
    }
    Ok(words)
}

/// The words of the interpreter.
fn python(spec: &Spec) -> Result<Vec<String>, StartError> {
    let python = spec.python.as_deref().unwrap_or(DEFAULT_PYTHON);
    shell_words::split(python).map_err(|error| spec.bad("python", python, &error).into())
}

/// What START says to a worker that this side cannot set up before it starts.
fn far_start(order: &Order<'_>) -> Result<Start, StartError> {
    let Order { spec, id, execmodel, .. } = *order;
    let native = spec.native.map_or_else(native_by_default, Ok)?;
    Ok(Start {
        protocol: PROTOCOL_VERSION,
        id: id.into(),
        execmodel: execmodel.name().into(),
        extension: bootstrap::extension(execmodel),
        stdout_null: spec.stdout == Output::Null,
        chdir: spec.chdir.clone(),
        // `env` in front of the interpreter sets them in time for it; a program that takes its place has only this.
        env: spec.env.iter().cloned().collect(),
        nice: spec.nice,
        dont_write_bytecode: spec.dont_write_bytecode,
        native: native != Native::No,
        push: native == Native::Push,
        preload: spec.preload.clone().unwrap_or_default(),
        threads: spec.threads_none.then(|| "none".into()),
        group: true,
        ..Start::default()
    })
}

/// Whether workers may be native whose spec does not say.
fn native_by_default() -> Result<Native, StartError> {
    match std::env::var(NATIVE_VARIABLE) {
        Ok(said) if !said.is_empty() => {
            said.parse().map_err(|reason: String| unusable(NATIVE_VARIABLE, &said, &reason))
        }
        _ => Ok(Native::default()),
    }
}

/// The error of a variable that says for all specs what none of them could say.
fn unusable(variable: &str, value: &str, reason: &str) -> StartError {
    let text = format!("the variable {variable} is `{value}`: {reason}");
    StartError::System(std::io::Error::new(std::io::ErrorKind::InvalidInput, text))
}

/// Sends what makes an interpreter a worker.
fn open(link: &Link, stage_1: &[u8], start: &Start) -> Result<(), StartError> {
    let opening = bootstrap::opening(stage_1, start)
        .map_err(|error| StartError::System(std::io::Error::other(error)))?;
    // A worker that cannot be told is gone, and whoever waits for its answer is told so.
    let _ = link.send_opening(&opening);
    Ok(())
}
