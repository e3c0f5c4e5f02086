//! Why a worker did not start, and why what was asked of a gateway was not done.

use std::io;
use std::time::Duration;

use farexec_proto::encoding::EncodeError;
use farexec_proto::frame::PayloadTooLong;

use crate::end::{Cause, EndReason};
use crate::spec::SpecError;
use crate::wait::WaitError;

/// Why a gateway could not be made. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The spec is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The group has a gateway of that name.
    #[error("the group already has a gateway with the id `{0}`")]
    DuplicateId(String),
    /// The spec asks for something that this version cannot start.
    #[error("`{spec}`: this version of farexec has no transport `{transport}`; it starts workers by `popen`")]
    Unsupported {
        /// The spec.
        spec: String,
        /// What it asks for.
        transport: String,
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
    /// The caller was called away while the worker started.
    #[error("interrupted while a worker started")]
    Interrupted,
    /// The system refused something that every gateway needs.
    #[error("the system refused what a gateway needs")]
    System(#[from] io::Error),
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
