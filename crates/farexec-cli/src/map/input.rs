//! The items of a map: lines of a file or of standard input, read by a thread of their own, since who gives them may take its time.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use farexec::Value;

use crate::exit::{self, Failure};
use crate::json;

/// Lines that are read ahead.
const AHEAD: usize = 4096;

/// What comes from the input.
pub(super) enum Line {
    /// An item, and the number of its line.
    Item(u64, Value),
    /// Something that is no item. Nothing comes after it.
    Mistake(String),
    /// That was all: so many items.
    End(u64),
}

/// The input.
pub(super) struct Input {
    lines: Receiver<Line>,
    /// One that was waited for.
    next: Option<Line>,
    /// How many lines wait to be taken.
    waiting: Arc<AtomicUsize>,
    total: Option<u64>,
}

impl Input {
    /// Begins to read a file, or standard input. `as_text`: lines are strings. `counts`: a file is looked at beforehand, to know how many items
    /// there are.
    pub(super) fn open(path: Option<&Path>, as_text: bool, counts: bool) -> Result<Self, Failure> {
        let unreadable = |error: io::Error| {
            let name = path.map_or("standard input".into(), |path| format!("`{}`", path.display()));
            Failure::mistake(format!("cannot read {name}: {error}"))
        };
        let source: Box<dyn BufRead + Send> = match path {
            Some(path) => Box::new(BufReader::new(File::open(path).map_err(unreadable)?)),
            None => Box::new(BufReader::new(io::stdin())),
        };
        let total = match path {
            Some(path) if counts && path.is_file() => Some(count(path).map_err(unreadable)?),
            _ => None,
        };
        let (sender, lines) = sync_channel(AHEAD);
        let waiting = Arc::new(AtomicUsize::new(0));
        let sender = Sender { lines: sender, waiting: Arc::clone(&waiting) };
        let thread = thread::Builder::new().name("farexec-input".into());
        thread
            .spawn(move || sender.read(source, as_text))
            .map_err(|error| Failure::new(exit::FAILED, error))?;
        Ok(Self { lines, next: None, waiting, total })
    }

    /// How many items there are, if that is known already.
    pub(super) fn total(&self) -> Option<u64> {
        self.total
    }

    /// How many lines there are to take, for who watches that.
    pub(super) fn waiting(&self) -> Waiting {
        Waiting(Arc::clone(&self.waiting))
    }

    /// The next line, if it is there.
    pub(super) fn next(&mut self) -> Option<Line> {
        let line = match self.next.take() {
            Some(line) => line,
            None => match self.lines.try_recv() {
                Ok(line) => line,
                Err(TryRecvError::Empty) => return None,
                // The thread says how it ends before it does.
                Err(TryRecvError::Disconnected) => return Some(Line::Mistake("the input is gone".into())),
            },
        };
        self.waiting.fetch_sub(1, Ordering::AcqRel);
        Some(line)
    }

    /// Waits for the next line, but no longer than this.
    pub(super) fn wait(&mut self, limit: Duration) {
        if self.next.is_none() {
            match self.lines.recv_timeout(limit) {
                Ok(line) => self.next = Some(line),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
    }
}

/// How many lines there are to take.
pub(super) struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    /// Whether there is one.
    pub(super) fn has_some(&self) -> bool {
        self.0.load(Ordering::Acquire) > 0
    }
}

struct Sender {
    lines: SyncSender<Line>,
    waiting: Arc<AtomicUsize>,
}

impl Sender {
    /// Sends each line, until there are no more or nobody takes them.
    fn read(&self, mut source: Box<dyn BufRead + Send>, as_text: bool) {
        let (mut number, mut items) = (0, 0);
        let mut line = Vec::new();
        loop {
            line.clear();
            number += 1;
            let read = source.read_until(b'\n', &mut line);
            let parsed = match read {
                Ok(0) => Line::End(items),
                Ok(_) => match parse(&line, as_text) {
                    Ok(None) => continue,
                    Ok(Some(item)) => Line::Item(number, item),
                    Err(why) => Line::Mistake(format!("line {number} of the input {why}")),
                },
                Err(error) => {
                    Line::Mistake(format!("the input cannot be read after line {}: {error}", number - 1))
                }
            };
            let goes_on = matches!(parsed, Line::Item(..));
            items += 1;
            // Before it is there, so that the number is never too small.
            self.waiting.fetch_add(1, Ordering::AcqRel);
            if self.lines.send(parsed).is_err() || !goes_on {
                return;
            }
        }
    }
}

/// The item in a line; `None` if the line is empty.
fn parse(line: &[u8], as_text: bool) -> Result<Option<Value>, String> {
    let text = std::str::from_utf8(line).map_err(|_| "is no UTF-8".to_owned())?;
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    if as_text {
        return Ok(Some(Value::from(text)));
    }
    if text.trim().is_empty() {
        return Ok(None);
    }
    let json = serde_json::from_str(text).map_err(|error| {
        let what = error.to_string();
        let what = what.split(" at line").next().unwrap_or(&what);
        format!("is no JSON: {what} at column {} (--lines takes lines as text)", error.column())
    })?;
    json::read(json).map(Some).map_err(|why| format!("is no item: {why}"))
}

fn count(path: &Path) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let (mut lines, mut ends, mut chunk) = (0, true, vec![0; 1 << 16]);
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(lines + u64::from(!ends)),
            read => {
                lines += chunk[..read].iter().filter(|&&byte| byte == b'\n').count() as u64;
                ends = chunk[read - 1] == b'\n';
            }
        }
    }
}
