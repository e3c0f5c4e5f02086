//! `Map`: the iterator that `Group.map` returns. It is driven by whoever asks for the next result.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use farexec::{
    ChannelId, Gateway, Map, MapError, MapOptions, MapResult, Progress, TaskError, Wait, WaitError,
};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyTuple};

use crate::call;
use crate::decode::Resolver;
use crate::encode::PyItem;
use crate::errors::{self, Raiser};
use crate::gateway::PyGateway;
use crate::green::Greenlets;
use crate::group::PyGroup;
use crate::waiting::waiting;
use crate::worker;

/// Results of a function at workers, as they are asked for.
#[pyclass(name = "Map", module = "farexec._native", frozen)]
pub(crate) struct PyMap {
    map: Mutex<State>,
    items: Py<PyIterator>,
    /// The `farexec.Group`, which is told of workers that took the place of others.
    face: Py<PyAny>,
    greenlets: Option<Greenlets>,
    /// Whether an error is a result like others, and not raised.
    returns_errors: bool,
    /// Is told of the progress.
    watcher: Option<Py<PyAny>>,
    /// The last of it that was told, for those who ask meanwhile.
    told: Mutex<Progress>,
}

/// For answers, in which channels mean nothing: they come from many gateways. It is a type of its own also because `loads` takes a tenth
/// more instructions for a record if its builder has a second user, and so is not compiled into it.
pub(crate) struct NoneForAll;

impl Resolver for NoneForAll {
    fn resolve<'py>(&self, _: Python<'py>, _: ChannelId) -> PyResult<Bound<'py, PyAny>> {
        Err(PyValueError::new_err("there is a channel in it, which means nothing in a result"))
    }
}

enum State {
    Idle(Box<Map>),
    /// Somebody advances it.
    Advancing,
    Over,
}

#[pymethods]
impl PyMap {
    /// Has the workers of a group call a function. `function`: (text, file, line, name), or (module, name).
    #[new]
    #[allow(clippy::too_many_arguments, reason = "called in one place, by name")]
    fn new(
        py: Python<'_>,
        group: &PyGroup,
        face: Py<PyAny>,
        function: &Bound<'_, PyTuple>,
        items: &Bound<'_, PyAny>,
        ordered: bool,
        star: bool,
        retries: u32,
        timeout: Option<f64>,
        prefetch: Option<usize>,
        replace: bool,
        returns_errors: bool,
        max_pending: Option<usize>,
        journal: Option<PathBuf>,
        total: Option<u64>,
        watcher: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let function = call::described(function)?;
        let mut options = MapOptions::default();
        options.ordered = ordered;
        options.star = star;
        options.retries = retries;
        options.prefetch = prefetch;
        options.replace = replace;
        options.max_pending = max_pending;
        options.journal = journal;
        options.timeout = timeout.map(seconds).transpose()?;
        let native = group.group.clone();
        let map = py.detach(move || Map::new(&native, &function, options));
        let mut map = map.map_err(|error| map_error(py, error))?;
        map.expect(total);
        let items = items.try_iter()?.unbind();
        let told = Mutex::new(map.progress());
        let map = Mutex::new(State::Idle(Box::new(map)));
        Ok(Self { map, items, face, greenlets: group.greenlets(py), returns_errors, watcher, told })
    }

    /// How far it is: now; or at most a moment ago, while somebody waits for the next result.
    #[getter]
    fn progress<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let now = match &*lock(&self.map) {
            State::Idle(map) => Some(map.progress()),
            State::Advancing | State::Over => None,
        };
        let progress = now.unwrap_or_else(|| lock(&self.told).clone());
        progress_object(py, &progress)
    }

    fn __iter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let hub = self.greenlets.as_ref().map(|greenlets| &greenlets.hub);
        match self.step(py, |map| waiting(py, hub, None, |wait| map.wait(wait)))? {
            Poll::Ready(result) => Ok(result),
            // What waits is never told so.
            Poll::Pending => Err(errors::interrupted(py)),
        }
    }
}

impl PyMap {
    /// The next result, if it is there; `None` if there are no more.
    pub(crate) fn poll(&self, py: Python<'_>, wait: &Wait<'_>) -> Poll<PyResult<Option<Py<PyAny>>>> {
        match self.step(py, |map| Ok(map.wait(wait))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(result)) => Poll::Ready(Ok(result.map(Bound::unbind))),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Advances until there is a result, or `wait` says that there is none yet.
    fn step<'py>(
        &self,
        py: Python<'py>,
        wait: impl FnMut(&mut Map) -> PyResult<Result<(), MapError>>,
    ) -> PyResult<Poll<Option<Bound<'py, PyAny>>>> {
        let mut state = lock(&self.map);
        let mut map = match std::mem::replace(&mut *state, State::Advancing) {
            State::Idle(map) => map,
            State::Advancing => {
                return Err(PyValueError::new_err(
                    "another thread, or the items, ask for the next result already",
                ));
            }
            State::Over => {
                *state = State::Over;
                return Ok(Poll::Ready(None));
            }
        };
        // Not held while code of others runs.
        drop(state);
        let result = self.advance(py, &mut map, wait);
        let next = if matches!(result, Ok(Poll::Ready(None))) { State::Over } else { State::Idle(map) };
        *lock(&self.map) = next;
        result
    }

    fn advance<'py>(
        &self,
        py: Python<'py>,
        map: &mut Map,
        mut wait: impl FnMut(&mut Map) -> PyResult<Result<(), MapError>>,
    ) -> PyResult<Poll<Option<Bound<'py, PyAny>>>> {
        loop {
            if let Some(result) = map.pop() {
                return self.result(py, result).map(|result| Poll::Ready(Some(result)));
            }
            self.fill(py, map)?;
            self.tell(py, map)?;
            if map.is_done() {
                return Ok(Poll::Ready(None));
            }
            map.dispatch();
            let waited = wait(map)?;
            adopt(py, &self.face, self.greenlets.as_ref(), map.replacements())?;
            match waited {
                Err(MapError::Wait(WaitError::Pending)) => return Ok(Poll::Pending),
                waited => waited.map_err(|error| map_error(py, error))?,
            }
        }
    }

    fn fill(&self, py: Python<'_>, map: &mut Map) -> PyResult<()> {
        let mut items = self.items.bind(py).clone();
        for _ in 0..map.room() {
            match items.next() {
                Some(item) => {
                    let item = item?;
                    map.put(&PyItem::new(&item, None)).map_err(|error| map_error(py, error))?;
                }
                None => {
                    map.no_more();
                    break;
                }
            }
        }
        Ok(())
    }

    /// Tells of the progress, if there is news.
    fn tell(&self, py: Python<'_>, map: &mut Map) -> PyResult<()> {
        let Some(progress) = map.news() else { return Ok(()) };
        lock(&self.told).clone_from(&progress);
        match &self.watcher {
            Some(watcher) => watcher.call1(py, (progress_object(py, &progress)?,)).map(drop),
            None => Ok(()),
        }
    }

    fn result<'py>(&self, py: Python<'py>, result: MapResult) -> PyResult<Bound<'py, PyAny>> {
        match outcome(py, result) {
            Err(error) if self.returns_errors => Ok(error.into_value(py).into_bound(py).into_any()),
            result => result,
        }
    }
}

/// Tells a `farexec.Group` of workers that took the place of others.
pub(crate) fn adopt(
    py: Python<'_>,
    face: &Py<PyAny>,
    greenlets: Option<&Greenlets>,
    replacements: Vec<(String, Gateway)>,
) -> PyResult<()> {
    for (old, gateway) in replacements {
        let id = gateway.id().to_owned();
        let spec = gateway.spec().to_string();
        let gateway = PyGateway::new(gateway, greenlets.map(|greenlets| greenlets.clone_ref(py)));
        face.bind(py).call_method1("_adopt", (old, gateway, spec, id))?;
    }
    Ok(())
}

/// What came of an item.
pub(crate) fn outcome<'py>(py: Python<'py>, result: MapResult) -> PyResult<Bound<'py, PyAny>> {
    match result.answer {
        Ok(payload) => call::result(py, &payload)?,
        Err(error) => Err(task_error(py, result.index, &error)),
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn progress_object<'py>(py: Python<'py>, progress: &Progress) -> PyResult<Bound<'py, PyAny>> {
    let workers = progress.workers.iter().map(|worker| {
        let seconds = (worker.start.as_secs_f64(), worker.wait.as_secs_f64(), worker.work.as_secs_f64());
        (
            &worker.id,
            worker.done,
            worker.failed,
            worker.running,
            seconds.0,
            seconds.1,
            seconds.2,
            worker.restarts,
        )
    });
    let workers: Vec<_> = workers.collect();
    let arguments = (progress.done, progress.failed, progress.running, progress.total, workers);
    py.import("farexec._progress")?.getattr("make")?.call1(arguments)
}

pub(crate) fn seconds(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| PyValueError::new_err(format!("a timeout is a number of seconds, not {seconds}")))
}

/// The error that a worker's answer describes.
pub(crate) fn remote_error(answer: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    let error = worker::report(answer.cast::<PyDict>()?)?.into();
    Ok(PyErr::from_value(errors::remote_object(answer.py(), Raiser::Package, &error)?))
}

fn task_error(py: Python<'_>, index: u64, error: &TaskError) -> PyErr {
    let class = match error {
        TaskError::TimedOut(_) => errors::timeout_error_class(py, Raiser::Package),
        TaskError::WorkersDied { .. } => errors::workers_died_class(py),
        _ => errors::load_error_class(py, Raiser::Package),
    };
    errors::exception(class, format!("no result for item {index}: {error}"))
}

pub(crate) fn map_error(py: Python<'_>, error: MapError) -> PyErr {
    match error {
        MapError::Function(error) => {
            errors::remote_object(py, Raiser::Package, &error).map_or_else(|error| error, PyErr::from_value)
        }
        MapError::Journal(error) => errors::exception(errors::journal_error_class(py), error.to_string()),
        MapError::Item { .. } => errors::dump_error(py, Raiser::Package, &error),
        MapError::Exec(error) => errors::execute(py, error),
        MapError::Wait(WaitError::Interrupted | WaitError::Pending) => errors::interrupted(py),
        MapError::NoWorkers(None) => PyRuntimeError::new_err("the group has no workers to do it"),
        other => errors::exception(errors::start_error_class(py), other.to_string()),
    }
}
