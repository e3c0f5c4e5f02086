//! The extension module `farexec._native`: thin classes over the crate `farexec`, for the package `farexec` to build on.
//!
//! Two rules hold everywhere here. The interpreter's lock is released before anything waits, and is never asked for while a lock of
//! `farexec` is held. And whatever goes wrong becomes a Python exception (in `errors`).

mod aio;
mod call;
mod callback;
mod channel;
mod command;
mod cycle;
mod decode;
mod encode;
mod ending;
mod errors;
mod gateway;
mod green;
mod group;
mod logging;
mod map;
mod queue;
mod rsync;
mod serialize;
mod tasks;
mod waiting;
mod worker;

use pyo3::prelude::*;

#[pymodule]
#[pyo3(name = "_native")]
fn native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<channel::PyChannel>()?;
    module.add_class::<gateway::PyGateway>()?;
    module.add_class::<group::PyGroup>()?;
    module.add_class::<queue::PyReceiveQueue>()?;
    module.add_class::<green::PyCalls>()?;
    module.add_class::<aio::PyLoop>()?;
    module.add_class::<aio::PyOperation>()?;
    module.add_function(wrap_pyfunction!(serialize::dumps, module)?)?;
    module.add_function(wrap_pyfunction!(serialize::loads, module)?)?;
    module.add_function(wrap_pyfunction!(group::know_interpreter, module)?)?;
    module.add_function(wrap_pyfunction!(group::offer_extension, module)?)?;
    module.add_function(wrap_pyfunction!(group::parse_spec, module)?)?;
    module.add_function(wrap_pyfunction!(rsync::rsync, module)?)?;
    module.add_function(wrap_pyfunction!(command::command, module)?)?;
    module.add_class::<map::PyMap>()?;
    module.add_class::<tasks::PyTasks>()?;
    module.add_class::<call::PyRemoteFunction>()?;
    module.add_class::<worker::PyWorker>()?;
    ending::register(module)?;
    logging::register(module)?;
    module.add("WORKER_INTERFACE", worker::INTERFACE)?;
    module.add("NO_ENDMARKER", callback::no_endmarker(module.py())?)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    Ok(())
}
