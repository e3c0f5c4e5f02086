//! The command `farexec`, for the package's console script.

use std::ffi::OsString;

use pyo3::prelude::*;

/// Runs the command and returns its exit code. `arguments` begin with its own name; `python` is the interpreter of workers on this machine
/// whose spec names none.
#[pyfunction]
pub(crate) fn command(py: Python<'_>, arguments: Vec<OsString>, python: &str) -> u8 {
    py.detach(|| farexec_cli::main(arguments, python))
}
