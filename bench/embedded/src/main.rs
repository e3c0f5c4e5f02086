//! The case `call` with an interpreter in the program itself, by PyO3: a contender of `bench/run.py`.
//!
//! `cargo build --release --manifest-path bench/embedded/Cargo.toml --target-dir target`

#[allow(dead_code, reason = "there is no worker, and nothing to choose")]
#[path = "../../given.rs"]
mod given;

use given::{Given, print_figures, print_unavailable};
use pyo3::prelude::*;
use pyo3::types::PyModule;

fn main() -> PyResult<()> {
    let given = Given::read();
    if given.case != "call" {
        print_unavailable(&format!("the embedded interpreter has no case {}", given.case));
        return Ok(());
    }
    let nothing: Py<PyAny> = Python::attach(|py| {
        let module = PyModule::from_code(py, c"def nothing(): pass", c"nothing.py", c"nothing")?;
        PyResult::Ok(module.getattr("nothing")?.unbind())
    })?;
    // Attached anew for each call, as a program does that calls now and then.
    let seconds = given
        .sample(|| (0..given.size).try_for_each(|_| Python::attach(|py| nothing.call0(py).map(drop))))?;
    print_figures(&seconds, None);
    Ok(())
}
