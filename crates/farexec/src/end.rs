//! Why things end: gateways and channels.

use std::fmt;
use std::sync::Arc;

use farexec_proto::control::{ErrorReport, Frame};

use crate::sys;

/// Why a gateway ended. Cheap to clone.
///
/// ```
/// use farexec::{Cause, Wait};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let group = farexec::Group::new();
/// let gateway = group.make_gateway("popen")?;
/// let _channel = gateway.remote_exec("import os, sys; print('out of paper', file=sys.stderr, flush=True); os._exit(3)")?;
/// let reason = gateway.wait(&Wait::forever())?;
/// assert!(!reason.is_orderly());
/// assert_eq!(reason.stderr(), ["out of paper"]);
/// assert!(reason.to_string().contains("exited with status 3"), "{reason}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndReason(Arc<Reason>);

#[derive(Debug, PartialEq, Eq)]
struct Reason {
    gateway: String,
    pid: Option<u32>,
    cause: Cause,
    stderr: Vec<String>,
}

/// What ended a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// This side asked the worker to end, and it did.
    Asked,
    /// The worker's process exited with this status without being asked.
    Exited(i32),
    /// The worker's process was ended by this signal.
    Signaled(i32),
    /// The worker did not end by itself in time, and was killed.
    Killed,
    /// The connection broke, or was closed by the worker; how its process ended is not known.
    ConnectionLost(String),
    /// The worker sent what the protocol does not allow.
    Protocol(String),
    /// The gateway is that of the process which this one was forked from.
    Inherited,
}

impl EndReason {
    pub(crate) fn new(gateway: &str, pid: Option<u32>, cause: Cause, stderr: Vec<String>) -> Self {
        Self(Arc::new(Reason { gateway: gateway.into(), pid, cause, stderr }))
    }

    /// What ended the gateway.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.0.cause
    }

    /// The last lines the worker wrote to its standard error, oldest first.
    #[must_use]
    pub fn stderr(&self) -> &[String] {
        &self.0.stderr
    }

    /// Whether the end was wanted.
    #[must_use]
    pub fn is_orderly(&self) -> bool {
        self.0.cause == Cause::Asked
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reason { gateway, pid, cause, stderr } = &*self.0;
        write!(f, "worker {gateway}")?;
        if let Some(pid) = pid {
            write!(f, " (pid {pid})")?;
        }
        match cause {
            Cause::Asked => f.write_str(" ended as asked")?,
            Cause::Exited(status) => write!(f, " exited with status {status}")?,
            Cause::Signaled(number) => {
                write!(f, " was ended by {}", sys::signal_name(*number))?;
                if *number == 9 {
                    f.write_str(
                        "; if nobody killed it, the system may have been out of memory (see its log)",
                    )?;
                }
            }
            Cause::Killed => f.write_str(" did not end in time and was killed")?,
            Cause::ConnectionLost(why) => write!(f, " was lost: {why}")?,
            Cause::Protocol(why) => write!(f, " was given up: {why}")?,
            Cause::Inherited => {
                f.write_str(" belongs to the process that this one was forked from: make a gateway here")?;
            }
        }
        if !stderr.is_empty() && !self.is_orderly() {
            write!(f, "; its last words on standard error:\n{}", stderr.join("\n"))?;
        }
        Ok(())
    }
}

/// An exception, or another error, of the code at the far end of a channel.
///
/// Displays as what a person wants to read: for an exception the far end's traceback.
///
/// ```
/// use farexec::{Group, ReceiveError};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let group = Group::new();
/// let gateway = group.make_gateway("popen")?;
/// let channel = gateway.remote_exec("
///     try:
///         {}['x']
///     except KeyError as error:
///         raise ValueError('no x') from error
/// ")?;
/// let Err(ReceiveError::Remote(error)) = channel.receive::<()>() else { panic!() };
/// assert_eq!((error.type_name(), error.message()), ("ValueError", "no x"));
/// assert_eq!(error.frames()[0].text, "raise ValueError('no x') from error");
/// assert_eq!(error.cause().map(|cause| cause.type_name().to_owned()).as_deref(), Some("KeyError"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteError(Arc<Reported>);

#[derive(Debug, PartialEq, Eq)]
struct Reported {
    report: ErrorReport,
    cause: Option<RemoteError>,
}

impl RemoteError {
    pub(crate) fn new(mut report: ErrorReport) -> Self {
        let cause = report.cause.take().map(|cause| Self::new(*cause));
        Self(Arc::new(Reported { report, cause }))
    }

    /// The whole report as text: for an exception the formatted traceback, causes and notes included.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.report.text
    }

    /// The type of the exception, for instance `ZeroDivisionError` or `package.module.Error`; empty if there was none.
    #[must_use]
    pub fn type_name(&self) -> &str {
        &self.0.report.r#type
    }

    /// The exception's own message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.report.message
    }

    /// Where the exception came through, outermost first.
    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        &self.0.report.frames
    }

    /// What was added to the exception by `add_note`.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.0.report.notes
    }

    /// The exception that this one was raised from, or while handling. (It is no [`source`](std::error::Error::source), since this error's own
    /// text tells of it.)
    #[must_use]
    pub fn cause(&self) -> Option<&Self> {
        self.0.cause.as_ref()
    }
}

impl From<ErrorReport> for RemoteError {
    fn from(report: ErrorReport) -> Self {
        Self::new(report)
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().trim_end())
    }
}

impl std::error::Error for RemoteError {}

/// Why no more items come from a channel.
///
/// ```
/// use farexec::{ChannelEnd, ReceiveError};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let group = farexec::Group::new();
/// let gateway = group.make_gateway("popen")?;
/// let channel = gateway.remote_exec("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")?;
/// let Err(ReceiveError::End(ChannelEnd::Gateway(reason))) = channel.receive::<()>() else { panic!() };
/// assert!(reason.to_string().contains("SIGKILL"), "{reason}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChannelEnd {
    /// The far end closed it, or its execution ended.
    Closed,
    /// This side closed it.
    ClosedHere,
    /// The far end closed it with an error.
    Error(RemoteError),
    /// Its gateway ended.
    Gateway(EndReason),
}

impl fmt::Display for ChannelEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed by the far end"),
            Self::ClosedHere => f.write_str("closed by this side"),
            Self::Error(error) => error.fmt(f),
            Self::Gateway(reason) => reason.fmt(f),
        }
    }
}
