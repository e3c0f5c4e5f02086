//! What the shell is told: the exit codes, in one place, and the errors that end the command.

use farexec::StartError;

/// Everything was done.
pub(crate) const DONE: u8 = 0;

/// Something raised, or was not done: an execution, an item, a path.
pub(crate) const FAILED: u8 = 1;

/// A mistake in the command line, the hosts file or the input.
pub(crate) const MISTAKE: u8 = 2;

/// A worker could not be started.
pub(crate) const NOT_STARTED: u8 = 3;

/// A worker died, or its connection was lost.
pub(crate) const LOST: u8 = 4;

/// Stopped by Ctrl-C, or a signal that asks to end: as shells have it, 128 and the number of SIGINT.
pub(crate) const STOPPED: u8 = 130;

/// Nobody reads the results any more: as shells have it, 128 and the number of SIGPIPE.
pub(crate) const UNREAD: u8 = 141;

/// The table that `--help` shows.
pub(crate) const TABLE: &str = "\
Exit codes (the highest that applies):
    0  everything was done
    1  something raised, or was not done: an execution, an item, a path
    2  a mistake in the command line, the hosts file or the input
    3  a worker could not be started
    4  a worker died, or its connection was lost
  130  stopped by Ctrl-C, or by a signal
  141  nobody reads the results any more";

/// Why the command ends: what is said, and the exit code.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Failure {
    pub(crate) code: u8,
    text: String,
}

impl Failure {
    pub(crate) fn new(code: u8, text: impl std::fmt::Display) -> Self {
        Self { code, text: text.to_string() }
    }

    /// Something that the user wrote cannot be.
    pub(crate) fn mistake(text: impl std::fmt::Display) -> Self {
        Self::new(MISTAKE, text)
    }

    /// What was not written, since nobody reads, or since the disk is full.
    pub(crate) fn unwritten(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::new(UNREAD, "nobody reads the results any more"),
            _ => Self::new(FAILED, format!("cannot write the results: {error}")),
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::new(start_code(&error), with_sources(&error))
    }
}

/// The code of a worker that could not be started.
pub(crate) fn start_code(error: &StartError) -> u8 {
    match error {
        StartError::Spec(_) | StartError::DuplicateId(_) | StartError::NoRelay { .. } => MISTAKE,
        StartError::Interrupted => STOPPED,
        _ => NOT_STARTED,
    }
}

/// An error and what caused it, in one text.
pub(crate) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
