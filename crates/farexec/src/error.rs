//! Why a worker did not start, and why what was asked of a gateway was not done.

use std::io;
use std::time::Duration;

use farexec_proto::encoding::EncodeError;
use farexec_proto::frame::PayloadTooLong;

use crate::end::{Cause, EndReason};
use crate::spec::SpecError;
use crate::timeline::TraceError;
use crate::wait::WaitError;

/// Why a gateway could not be made. Nothing of it is left running.
///
/// ```
/// use farexec::StartError;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let group = farexec::Group::new();
/// let Err(error @ StartError::NoAnswer { .. }) = group.make_gateway("popen//python=sh -c 'exit 3'") else { panic!() };
/// assert!(error.to_string().contains("exited with status 3"), "{error}");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The spec is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The group has a gateway of that name.
    #[error("the group already has a gateway with the id `{0}`")]
    DuplicateId(String),
    /// The group has no gateway of that name to work through.
    #[error("`{spec}` goes through a gateway `{id}`, which the group does not have")]
    NoRelay {
        /// The spec.
        spec: String,
        /// The gateway it names.
        id: String,
    },
    /// The host could not be reached, or did not let us in.
    #[error("{kind} `{host}`: {said} (tried: {command})")]
    Host {
        /// What it was that failed.
        kind: HostFailure,
        /// The host.
        host: String,
        /// The command tried.
        command: String,
        /// What `ssh`, or the system, said.
        said: String,
    },
    /// There is no such program to reach a worker by.
    #[error("there is no program `{program}` (tried to run: {command}): is it installed?")]
    NoProgram {
        /// The program that is missing.
        program: String,
        /// The command tried.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// There is no such program.
    #[error(
        "there is no interpreter `{program}` (tried to run: {command}): name one that exists by `python=`"
    )]
    NoInterpreter {
        /// The program that is missing.
        program: String,
        /// The command tried.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// The system did not start the process.
    #[error("could not start {command}")]
    Spawn {
        /// The command tried.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// The process started, and ended without answering as a worker: no Python, or a Python that cannot run.
    #[error("{command} is no interpreter that works: {reason}{}", quote(.chatter))]
    NoAnswer {
        /// The command tried.
        command: String,
        /// How it ended, with the last lines of its standard error.
        reason: EndReason,
        /// What it printed.
        chatter: String,
    },
    /// The process runs, and does not answer.
    #[error("{command} did not answer as a worker within {} seconds{}", .timeout.as_secs(), quote(.chatter))]
    Timeout {
        /// The command tried.
        command: String,
        /// How long it had.
        timeout: Duration,
        /// What it printed.
        chatter: String,
    },
    /// The worker answered, and could not set itself up as the spec asks.
    #[error("the worker started by {command} could not set itself up: {reason}")]
    Refused {
        /// The command tried.
        command: String,
        /// What it said.
        reason: String,
    },
    /// The worker speaks a version of the protocol that this side does not.
    #[error(
        "the worker started by {command} speaks version {theirs} of the protocol, this side version {ours}"
    )]
    Version {
        /// The command tried.
        command: String,
        /// The worker's version.
        theirs: u32,
        /// Our version.
        ours: u32,
    },
    /// The trace that `FAREXEC_TRACE` asks for cannot be written.
    #[error("FAREXEC_TRACE asks for a trace")]
    Trace(#[from] TraceError),
    /// The caller was called away while the worker started.
    #[error("interrupted while a worker started")]
    Interrupted,
    /// All gateways of the group were ended while the worker started.
    #[error("the group was terminated while a worker started")]
    Terminated,
    /// The system refused something that every gateway needs.
    #[error("the system refused what a gateway needs")]
    System(#[from] io::Error),
}

/// What kept us from a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostFailure {
    /// Nobody knows the name.
    Unknown,
    /// Nothing answers there.
    Unreachable,
    /// It answers with a key that is not the known one.
    NotTrusted,
    /// It does not let us in.
    Denied,
    /// Something else.
    Other,
}

impl std::fmt::Display for HostFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unknown => "no such host",
            Self::Unreachable => "cannot reach host",
            Self::NotTrusted => "host key not trusted:",
            Self::Denied => "not let in by host",
            Self::Other => "no connection to host",
        })
    }
}

fn quote(chatter: &str) -> String {
    let text = chatter.trim();
    if text.is_empty() { String::new() } else { format!("; it printed:\n{text}") }
}

impl StartError {
    /// Whether the worker's process ended by itself while starting, and by what.
    #[must_use]
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Self::NoAnswer { reason, .. } => Some(reason.cause()),
            _ => None,
        }
    }
}

/// Why an execution was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// A keyword argument cannot be sent.
    #[error("keyword arguments: {0}")]
    Arguments(#[from] EncodeError),
    /// Source and arguments together are too long.
    #[error(transparent)]
    TooLong(#[from] PayloadTooLong),
    /// The gateway has ended.
    #[error("cannot execute: {0}")]
    Ended(EndReason),
    /// The source could not be read.
    #[error("cannot read the source file `{path}`")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The worker did not take in time what was sent before.
    #[error(transparent)]
    Wait(#[from] WaitError),
}

/// Why a question to a gateway was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// The gateway has ended.
    #[error("{0}")]
    Ended(EndReason),
    /// No answer came in time.
    #[error(transparent)]
    Wait(#[from] WaitError),
}
