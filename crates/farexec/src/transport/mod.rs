//! Transports: how a worker is started and reached. Nothing outside this folder knows.

mod popen;

use std::sync::Arc;

use crate::error::StartError;
use crate::link::Link;
use crate::spec::{ExecModel, Spec, Transport};

/// A worker on its way up.
pub(crate) struct Starting {
    pub(crate) link: Arc<Link>,
    /// What was run, for error messages.
    pub(crate) command: String,
}

/// Starts the worker that a spec describes, without waiting for its answer.
pub(crate) fn start(spec: &Spec, id: &str, execmodel: ExecModel) -> Result<Starting, StartError> {
    match &spec.transport {
        Transport::Popen => popen::start(spec, id, execmodel),
        Transport::Other(name) => {
            Err(StartError::Unsupported { spec: spec.to_string(), transport: name.clone() })
        }
    }
}
