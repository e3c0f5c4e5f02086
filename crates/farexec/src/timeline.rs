//! The file that draws what workers did when, for <https://ui.perfetto.dev> and whoever else reads Chrome's format: what `FAREXEC_TRACE=PATH`
//! and [`Group::set_trace`](crate::Group::set_trace) ask for.
//!
//! Each gateway is a track with rows: its life, and one for each thing that it does one after the other. What happened is told by `work`;
//! here is how it is written. An event is a line that is written at once, so that the file has all that happened before a sudden end of the
//! program: the array of events is never closed, as the format allows. docs/OBSERVING.md has the events.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Value as Json, json};

use crate::sys;

/// The variable that asks for it. Workers do not get it: they would write over the file.
pub(crate) const VARIABLE: &str = "FAREXEC_TRACE";

/// The track of the program itself; those of gateways have the numbers after it.
const PROGRAM: u64 = 1;

/// A trace cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("the trace cannot be written to `{}`: {source}", .path.display())]
pub struct TraceError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// A file that is written, shared by all whose events it has.
#[derive(Debug)]
pub(crate) struct Timeline {
    path: PathBuf,
    /// `None` once it could not be written any more.
    out: Mutex<Option<Out>>,
    began: Instant,
    next: AtomicU64,
    generation: u32,
}

#[derive(Debug)]
struct Out {
    file: File,
    /// How long the file is, up to the end of the last event.
    length: u64,
}

/// The trace that the environment asks for, if it does: one for the program, from its first worker on. What is forked from the program
/// writes none.
pub(crate) fn of_program() -> Result<Option<Arc<Timeline>>, TraceError> {
    static OPENED: Mutex<Option<Arc<Timeline>>> = Mutex::new(None);
    let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) else { return Ok(None) };
    // In the child of a fork it may be held for ever, by a thread that the child does not have.
    let Some(mut opened) = OPENED.try_lock_for(crate::limits::MONITOR_PATIENCE) else { return Ok(None) };
    let timeline = match &*opened {
        Some(timeline) => Arc::clone(timeline),
        None => Arc::clone(opened.insert(Timeline::create(Path::new(&path))?)),
    };
    Ok(Some(timeline).filter(|timeline| timeline.is_ours()))
}

impl Timeline {
    /// Begins a file; what was there before is gone.
    pub(crate) fn create(path: &Path) -> Result<Arc<Self>, TraceError> {
        let failed = |source| TraceError { path: path.into(), source };
        let file = sys::create_unwaited(path).map_err(failed)?;
        if !sys::lock(&file).map_err(failed)? {
            let text =
                "another program, or another group of this one, writes its trace there: name another file";
            return Err(failed(io::Error::new(io::ErrorKind::ResourceBusy, text)));
        }
        // What is no regular file cannot be cut.
        if file.metadata().map_err(failed)?.is_file() {
            file.set_len(0).map_err(failed)?;
        }
        let words: Vec<_> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
        let name = json!({"name": format!("coordinator: {}", words.join(" "))});
        let first =
            json!({"ph": "M", "name": "process_name", "pid": PROGRAM, "tid": PROGRAM, "ts": 0, "args": name});
        let first = format!("[\n{first}");
        (&file).write_all(first.as_bytes()).map_err(failed)?;
        Ok(Arc::new(Self {
            path: path.into(),
            out: Mutex::new(Some(Out { file, length: first.len() as u64 })),
            began: Instant::now(),
            next: AtomicU64::new(PROGRAM + 1),
            generation: sys::generation(),
        }))
    }

    fn is_ours(&self) -> bool {
        self.generation == sys::generation()
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn write(&self, event: &Json) {
        if !self.is_ours() {
            return;
        }
        let line = format!(",\n{event}");
        let mut out = self.out.lock();
        let Some(Out { file, length }) = &mut *out else { return };
        // One call, so that the file ends with a whole event whenever the program is killed.
        let written = file.write_all(line.as_bytes());
        let Err(error) = written else {
            *length += line.len() as u64;
            return;
        };
        // What was written of it would keep the rest from being read.
        let _ = file.set_len(*length);
        *out = None;
        drop(out);
        tracing::warn!(path = %self.path.display(), %error, "the trace could not be written any more: what follows is not in it");
    }
}

/// Chrome's unit. Nanoseconds are kept, so that what follows upon something does not overlap with it.
fn microseconds(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1000.0
}

/// A gateway in the file. Its number is that of the row of its life as well.
#[derive(Clone, Debug)]
pub(crate) struct Track {
    timeline: Arc<Timeline>,
    number: u64,
}

/// One thing after the other, at one gateway: its row's number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row(u64);

impl Track {
    /// A new track.
    pub(crate) fn begin(timeline: Arc<Timeline>, name: &str) -> Self {
        let track = Self { number: timeline.number(), timeline };
        track.name("process_name", track.life(), name);
        track.name("thread_name", track.life(), "life");
        track
    }

    /// The row that tells of the gateway itself.
    pub(crate) fn life(&self) -> Row {
        Row(self.number)
    }

    /// Another row.
    pub(crate) fn row(&self, name: &str) -> Row {
        let row = Row(self.timeline.number());
        self.name("thread_name", row, name);
        row
    }

    fn name(&self, what: &str, Row(row): Row, name: &str) {
        let args = json!({"name": name});
        let event = json!({"ph": "M", "name": what, "pid": self.number, "tid": row, "ts": 0, "args": args});
        self.timeline.write(&event);
    }

    fn time(&self, at: Instant) -> f64 {
        microseconds(at.saturating_duration_since(self.timeline.began))
    }

    /// Something that has taken its time.
    pub(crate) fn span(
        &self,
        Row(row): Row,
        category: &str,
        name: &str,
        (from, to): (Instant, Instant),
        args: &Json,
    ) {
        let duration = microseconds(to.saturating_duration_since(from));
        self.timeline.write(&json!({
            "ph": "X", "cat": category, "name": name, "pid": self.number, "tid": row,
            "ts": self.time(from), "dur": duration, "args": args,
        }));
    }

    /// Something that happened to the gateway.
    pub(crate) fn instant(&self, name: &str, args: &Json) {
        let Row(row) = self.life();
        self.timeline.write(&json!({
            "ph": "i", "s": "p", "cat": "life", "name": name, "pid": self.number, "tid": row,
            "ts": self.time(Instant::now()), "args": args,
        }));
    }

    /// The number of what begins now, and others may go on beside; [`end`](Self::end) ends it.
    pub(crate) fn begin_beside(&self, category: &str, name: &str) -> u64 {
        let number = self.timeline.number();
        self.beside("b", category, name, number);
        number
    }

    /// What began under a number ends.
    pub(crate) fn end_beside(&self, category: &str, name: &str, number: u64) {
        self.beside("e", category, name, number);
    }

    fn beside(&self, phase: &str, category: &str, name: &str, number: u64) {
        let Row(row) = self.life();
        self.timeline.write(&json!({
            "ph": phase, "cat": category, "id": number, "name": name, "pid": self.number, "tid": row,
            "ts": self.time(Instant::now()),
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_an_array_but_for_its_end_at_any_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.json");
        std::fs::write(&path, "something that was there before").unwrap();
        let events = || {
            let text = std::fs::read_to_string(&path).unwrap();
            serde_json::from_str::<Vec<Json>>(&format!("{text}]")).unwrap()
        };
        let timeline = Timeline::create(&path).unwrap();
        assert_eq!(events().len(), 1);
        let track = Track::begin(Arc::clone(&timeline), "a \"name\"\n");
        let now = Instant::now();
        track.span(track.row("map"), "map", "task 0", (now, now + Duration::from_nanos(1_500)), &json!({}));
        let events = events();
        assert_eq!(events[1]["args"]["name"], "a \"name\"\n");
        let span = events.last().unwrap();
        assert_eq!((&span["dur"], &span["pid"]), (&json!(1.5), &events[1]["pid"]));
        assert_ne!(span["tid"], events[1]["tid"]);
    }

    #[test]
    fn a_file_is_one_traces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.json");
        let first = Timeline::create(&path).unwrap();
        let error = Timeline::create(&path).unwrap_err().to_string();
        assert!(error.contains("trace.json") && error.contains("name another file"), "{error}");
        drop(first);
        Timeline::create(&path).unwrap();
        let error = Timeline::create(&folder.path().join("no/trace.json")).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::NotFound);
    }
}
