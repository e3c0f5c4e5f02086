//! Python callbacks: called from farexec's callback thread.

use farexec::Item;
use pyo3::Borrowed;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::channel::{Codec, Home};
use crate::decode;

/// What stands for no endmarker, so that any object, None included, can be one.
pub(crate) fn no_endmarker(py: Python<'_>) -> PyResult<Py<PyAny>> {
    static MARKER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let marker =
        MARKER.get_or_try_init(py, || py.import("builtins")?.call_method0("object").map(Bound::unbind))?;
    Ok(marker.clone_ref(py))
}

/// An argument that may be missing, and may be any object, None included.
pub(crate) struct Endmarker(Option<Py<PyAny>>);

impl Endmarker {
    pub(crate) fn missing() -> Self {
        Self(None)
    }

    /// The endmarker that was given, if one was.
    pub(crate) fn given(self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let none = no_endmarker(py)?;
        Ok(self.0.filter(|endmarker| !endmarker.is(&none)))
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Endmarker {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self(Some(object.to_owned().unbind())))
    }
}

/// What farexec calls for a Python callback.
pub(crate) fn caller(
    callback: Py<PyAny>,
    endmarker: Option<Py<PyAny>>,
    home: Home,
    codec: Codec,
) -> impl FnMut(Item) -> Result<(), String> + Send {
    let mut callback = Some(callback);
    move |item| {
        // At the end of the interpreter there is nothing to call any more.
        let result = Python::try_attach(|py| {
            let is_end = matches!(item, Item::End(_));
            // After the end it is let go of here, where that may run code.
            let Some(function) =
                (if is_end { callback.take() } else { callback.as_ref().map(|known| known.clone_ref(py)) })
            else {
                return Ok(());
            };
            let argument = match &item {
                Item::Data(payload) => decode::payload(py, payload, &home)
                    .and_then(|item| codec.decode(item))
                    .map(|item| Some(item.unbind())),
                Item::End(_) => Ok(endmarker.as_ref().map(|endmarker| endmarker.clone_ref(py))),
            };
            let argument = argument.map_err(|error| traceback(py, &error))?;
            match (argument, &home.greenlets) {
                (None, _) => Ok(()),
                (Some(argument), None) => {
                    function.call1(py, (argument,)).map(drop).map_err(|error| traceback(py, &error))
                }
                (Some(argument), Some(greenlets)) => greenlets.calls.get().call(py, function, argument),
            }
        });
        result.unwrap_or(Ok(()))
    }
}

fn traceback(py: Python<'_>, error: &PyErr) -> String {
    let format = || -> PyResult<String> {
        let lines = py.import("traceback")?.call_method1("format_exception", (error.value(py),))?;
        Ok(lines.extract::<Vec<String>>()?.concat())
    };
    format().unwrap_or_else(|_| error.to_string())
}
