//! What the core has to say, for Python's logger `farexec`: its `tracing` events from the level WARN on, and from DEBUG on if the logger wants them.
//!
//! An event comes in any thread, with any lock held, so nothing is asked of the interpreter there: its text is queued, and a thread that
//! begins with the first event hands it to the logger. (Where greenlets wait, one of them does: the locks of handlers are the library's there, which
//! other threads may not wait for.) The end of the interpreter hands on what is left. What the logger wants is asked
//! whenever workers are about to start, when the interpreter's lock is at hand: an event that it does not want costs the look at a flag.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::ending;
use crate::green::{Greenlets, PyCalls};

/// Events that wait for the logger at most: who floods it loses the newest, and is told how many.
const MOST: usize = 1000;

/// How long the queue is waited for, which nobody holds for longer than it takes to put in an event.
const PATIENCE: Duration = Duration::from_millis(100);

/// The levels of `logging`.
const DEBUG: u32 = 10;
const INFO: u32 = 20;
const WARNING: u32 = 30;
const ERROR: u32 = 40;

/// The least level that the logger wants.
static WANTED: AtomicU32 = AtomicU32::new(WARNING);

static QUEUE: Mutex<Queue> = Mutex::new(Queue::of(0));
static FILLED: Condvar = Condvar::new();

/// What a greenlet hands events on through, in a program that has greenlets.
static CALLS: PyOnceLock<Py<PyCalls>> = PyOnceLock::new();

/// The function that it calls for that.
static HAND_ON: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

struct Queue {
    events: VecDeque<(u32, String)>,
    dropped: usize,
    has_thread: bool,
    /// Whether a greenlet is about to hand on what is here.
    is_seen_to: bool,
    /// The process that it is of: the child of a fork has neither its parent's events nor its thread.
    process: u32,
}

impl Queue {
    const fn of(process: u32) -> Self {
        Self { events: VecDeque::new(), dropped: 0, has_thread: false, is_seen_to: false, process }
    }
}

/// The end of `tracing` that is here.
struct Bridge;

/// Hands events on from now on, and asks what the logger wants.
pub(crate) fn listen(py: Python<'_>, greenlets: Option<&Greenlets>) -> PyResult<()> {
    if let Some(greenlets) = greenlets
        && CALLS.set(py, greenlets.calls.clone_ref(py)).is_ok()
    {
        greenlets.hub.bind(py).call_method1("serve", (&greenlets.calls,))?;
    }
    static SET: AtomicBool = AtomicBool::new(false);
    let level: u32 = logger(py)?.call_method0("getEffectiveLevel")?.extract()?;
    WANTED.store(level.min(WARNING), Ordering::Relaxed);
    if !SET.swap(true, Ordering::SeqCst) {
        // It is this module's own: nobody else sets one.
        let _ = tracing::subscriber::set_global_default(Bridge);
    }
    Ok(())
}

fn logger(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static LOGGER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let logger = LOGGER.get_or_try_init(py, || {
        Ok::<_, PyErr>(py.import("logging")?.call_method1("getLogger", ("farexec",))?.unbind())
    })?;
    Ok(logger.bind(py))
}

fn log(py: Python<'_>, level: u32, text: String) -> PyResult<()> {
    let logger = logger(py)?;
    // A program that has set up no log is not to find warnings on its standard error: what they are about is told by exceptions as well.
    if logger.call_method0("hasHandlers")?.is_truthy()? {
        logger.call_method1("log", (level, "%s", text))?;
    }
    Ok(())
}

fn level_of(level: Level) -> u32 {
    match level {
        Level::ERROR => ERROR,
        Level::WARN => WARNING,
        Level::INFO => INFO,
        _ => DEBUG,
    }
}

impl Subscriber for Bridge {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        level_of(*metadata.level()) >= WANTED.load(Ordering::Relaxed)
    }

    /// What is cached of an event: of those that the logger may come to want, nothing.
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if !metadata.is_event()
            || !metadata.target().starts_with("farexec")
            || *metadata.level() > Level::DEBUG
        {
            Interest::never()
        } else if level_of(*metadata.level()) >= WARNING {
            Interest::always()
        } else {
            Interest::sometimes()
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::DEBUG)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        // There are none: they are not enabled.
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        push(level_of(*event.metadata().level()), text.finish());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The text of an event: what it says, and then the fields that it does not say already.
#[derive(Default)]
struct Text {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Text {
    fn finish(mut self) -> String {
        let unsaid = self.fields.iter().filter(|(_, value)| !self.message.contains(value));
        let unsaid: Vec<String> = unsaid.map(|(name, value)| format!("{name}: {value}")).collect();
        if !unsaid.is_empty() {
            // To write to a text does not fail.
            let _ = write!(self.message, " ({})", unsaid.join(", "));
        }
        self.message
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            name => self.fields.push((name, text)),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

/// `None` in the child of a fork where it is held for ever, by a thread that the child does not have.
fn queue() -> Option<MutexGuard<'static, Queue>> {
    let deadline = Instant::now() + PATIENCE;
    let mut queue = loop {
        match QUEUE.try_lock() {
            Ok(queue) => break queue,
            Err(TryLockError::Poisoned(error)) => break error.into_inner(),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::yield_now(),
            Err(TryLockError::WouldBlock) => return None,
        }
    };
    let process = std::process::id();
    if queue.process != process {
        *queue = Queue::of(process);
    }
    Some(queue)
}

fn push(level: u32, text: String) {
    let Some(mut queue) = queue() else { return };
    if queue.events.len() >= MOST {
        queue.dropped += 1;
        return;
    }
    queue.events.push_back((level, text));
    if !queue.has_thread {
        // What is queued is handed on at the end, if there can be no thread.
        queue.has_thread = std::thread::Builder::new().name("farexec-log".into()).spawn(hand_on).is_ok();
    }
    drop(queue);
    FILLED.notify_one();
}

fn hand_on() {
    loop {
        let Some(mut waiting) = queue() else { return };
        while waiting.events.is_empty() || waiting.is_seen_to {
            waiting = FILLED.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        drop(waiting);
        if ending::attached(see_to_it).is_none() {
            return;
        }
    }
}

/// Hands on what is queued, or has it handed on.
fn see_to_it(py: Python<'_>) {
    let (Some(calls), Some(function)) = (CALLS.get(py), HAND_ON.get(py)) else {
        return hand_on_all(py);
    };
    if let Some(mut queue) = queue() {
        queue.is_seen_to = true;
    }
    calls.get().post(function.clone_ref(py), py.None());
}

/// Has what a greenlet calls at hand.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let function = wrap_pyfunction!(hand_on_here, module)?;
    let _ = HAND_ON.set(module.py(), function.into_any().unbind());
    Ok(())
}

#[pyfunction]
fn hand_on_here(py: Python<'_>, _argument: Bound<'_, PyAny>) {
    hand_on_all(py);
}

/// Gives the logger what is queued, one event after the other.
pub(crate) fn hand_on_all(py: Python<'_>) {
    if let Some(mut queue) = queue() {
        queue.is_seen_to = false;
    }
    loop {
        // Not locked while the logger is at it: what that does may have something to say as well.
        let (level, text) = {
            let Some(mut queue) = queue() else { return };
            match (queue.events.pop_front(), std::mem::take(&mut queue.dropped)) {
                (None, 0) => return,
                (None, dropped) => (WARNING, format!("{dropped} more events came too fast to be logged")),
                (Some(event), dropped) => {
                    queue.dropped = dropped;
                    event
                }
            }
        };
        if let Err(error) = log(py, level, text) {
            error.write_unraisable(py, None);
        }
    }
}
