//! Python callbacks: called from farexec's callback thread.

use farexec::proto::control::ErrorReport;
use farexec::{Frame, Item};
use pyo3::Borrowed;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::IntoPyDict;

use crate::channel::{Codec, Home};
use crate::decode;
use crate::ending;

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
) -> impl FnMut(Item) -> Result<(), ErrorReport> + Send {
    let mut callback = Some(callback);
    move |item| {
        let result = ending::attached(|py| {
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
            let argument = argument.map_err(|error| describe(py, &error))?;
            match (argument, &home.greenlets) {
                (None, _) => Ok(()),
                (Some(argument), None) => {
                    function.call1(py, (argument,)).map(drop).map_err(|error| describe(py, &error))
                }
                (Some(argument), Some(greenlets)) => {
                    let called = greenlets.calls.get().call(py, function, argument);
                    called.map_err(|text| ErrorReport { text, ..ErrorReport::default() })
                }
            }
        });
        result.unwrap_or(Ok(()))
    }
}

/// What is told of an exception.
fn describe(py: Python<'_>, error: &PyErr) -> ErrorReport {
    describe_with(py, error, MOST_CAUSES, true)
}

/// Of an exception, as many causes as worker.py tells of.
const MOST_CAUSES: u32 = 10;

/// The same, with so many causes; `whole`: its text tells of them, too.
fn describe_with(py: Python<'_>, error: &PyErr, causes: u32, whole: bool) -> ErrorReport {
    let value = error.value(py);
    let text = || -> PyResult<String> {
        let exception = (error.get_type(py), value, error.traceback(py));
        let chain = [("chain", whole)].into_py_dict(py)?;
        let lines = py.import("traceback")?.call_method("format_exception", exception, Some(&chain))?;
        Ok(lines.extract::<Vec<String>>()?.concat())
    };
    let frames = || -> PyResult<Vec<Frame>> {
        let frames = py.import("traceback")?.call_method1("extract_tb", (error.traceback(py),))?;
        let described = frames.try_iter()?.map(|frame| {
            let frame = frame?;
            let line = frame.getattr("lineno")?.extract::<Option<u32>>()?.unwrap_or_default();
            let text = frame.getattr("line")?.extract::<Option<String>>()?.unwrap_or_default();
            let (file, function) = (frame.getattr("filename")?.extract()?, frame.getattr("name")?.extract()?);
            Ok(Frame { file, line, function, text })
        });
        described.collect()
    };
    let notes = || -> PyResult<Vec<String>> {
        match value.getattr_opt("__notes__")? {
            Some(notes) => {
                notes.try_iter()?.map(|note| Ok(note?.str()?.to_string_lossy().into_owned())).collect()
            }
            None => Ok(Vec::new()),
        }
    };
    let cause = || -> PyResult<Option<Box<ErrorReport>>> {
        let mut cause = value.getattr("__cause__")?;
        if cause.is_none() && !value.getattr("__suppress_context__")?.is_truthy()? {
            cause = value.getattr("__context__")?;
        }
        let is_told = causes > 0 && !cause.is_none();
        let describe = || Box::new(describe_with(py, &PyErr::from_value(cause), causes - 1, false));
        Ok(is_told.then(describe))
    };
    let name = error.get_type(py).fully_qualified_name().map(|name| name.to_string());
    ErrorReport {
        text: text().unwrap_or_else(|_| error.to_string()),
        r#type: name.unwrap_or_default(),
        message: value.str().map(|text| text.to_string_lossy().into_owned()).unwrap_or_default(),
        frames: frames().unwrap_or_default(),
        notes: notes().unwrap_or_default().into(),
        cause: cause().unwrap_or_default(),
    }
}
