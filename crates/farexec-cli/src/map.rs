//! `farexec map`: a function for many items, JSON lines in and JSON lines out.

mod input;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use farexec::{
    Function, JournalError, Map, MapError, MapOptions, MapResult, TaskError, Value, Wait, WaitError,
};
use serde_json::{Value as Json, json};

use crate::code;
use crate::exit::{self, Failure};
use crate::json;
use crate::plan;
use crate::progress::Progress;
use crate::screen::Screen;
use crate::stop::Stop;
use crate::table::Table;
use crate::targets::{Selection, Workers};
use input::{Input, Line};

/// How long to wait for input at a time while no worker has anything to do, so that Ctrl-C is noticed.
const INPUT_CHECK: Duration = Duration::from_millis(50);

/// Calls a function with each item of the input, on any number of workers
///
/// Each line of the input is a JSON value; each line of the output is the result for one, in the order of the input. Items go to whatever
/// worker has room; those of a worker that dies go to another one, and each result comes once.
///
/// Ctrl-C once: no further items are begun, and those that workers have been given are finished. Twice: ends at once.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "farexec map [OPTIONS] FILE:FUNCTION [SPEC]...\n       farexec map [OPTIONS] MODULE:FUNCTION [SPEC]...\n       farexec map [OPTIONS] -c EXPRESSION [SPEC]..."
)]
#[command(after_help = "\
Examples:
  seq 1000 | farexec map math:factorial
  farexec map thumbnails.py:make 'ssh=web[01-12]*4' --input images.jsonl --unordered --tag
  ls | farexec map --lines --import os.path -c 'os.path.getsize(item)'")]
pub(crate) struct Arguments {
    /// The function, unless -c is given, and then specs: as many of popen as there are processors if there are none
    #[arg(value_name = "FUNCTION|SPEC")]
    words: Vec<String>,

    /// A Python expression with `item` in it instead of a function
    #[arg(short = 'c', long = "code", value_name = "EXPRESSION", allow_hyphen_values = true)]
    text: Option<String>,

    /// A module that the expression of -c needs; may be given many times
    #[arg(long = "import", short = 'm', value_name = "MODULE", requires = "text")]
    modules: Vec<String>,

    /// Where the items come from [default: standard input]
    #[arg(long, short = 'i', value_name = "FILE")]
    input: Option<PathBuf>,

    /// Each line of the input is text, and not JSON
    #[arg(long)]
    lines: bool,

    /// Each item is a list of the function's arguments
    #[arg(long)]
    star: bool,

    /// Write results as they come, and not in the order of their items
    #[arg(long)]
    unordered: bool,

    /// Write each result as {"index": ..., "result": ...}; the first item has the index 0
    #[arg(long)]
    tag: bool,

    /// Write tuples and sets so that they can be told from lists
    #[arg(long)]
    typed: bool,

    /// How often an item is given to another worker after the one that was at it died
    #[arg(long, value_name = "NUMBER", default_value_t = 3)]
    retries: u32,

    /// Seconds that one item may take before its worker is ended and replaced
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,

    /// How many items a worker has at a time [default: as many as it does in some milliseconds]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    prefetch: Option<u16>,

    /// A file that keeps the results: a run that was cut off goes on with what is missing
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,

    /// What an item without a result means
    #[arg(long, value_name = "WHAT", default_value = "stop")]
    on_error: OnError,

    /// Say in the end what each worker has done, and how it spent its time
    #[arg(long)]
    insights: bool,

    #[command(flatten)]
    selection: Selection,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OnError {
    /// No further items are begun
    Stop,
    /// It is told, and the others go on
    Skip,
    /// A line {"$error": ...} stands in the place of the result
    Line,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.filter(|seconds| !seconds.is_zero()).ok_or_else(|| format!("`{text}` is no number of seconds"))
}

pub(crate) fn map(arguments: Arguments, python: &str) -> Result<u8, Failure> {
    let (function, words) = function(&arguments)?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let specs = arguments.selection.specs(words, &format!("popen*{processors}"), python)?;
    let screen = Arc::new(Screen::new());
    if arguments.selection.setting.dry_run {
        return plan::show(&specs, &screen);
    }
    let is_seen = !screen.bars().is_hidden();
    let input = Input::open(arguments.input.as_deref(), arguments.lines, is_seen)?;
    let stop = Stop::listen().map_err(|error| Failure::new(exit::FAILED, error))?;
    let workers = Workers::start(specs, &screen, &stop)?;
    let result = Running::begin(&arguments, &function, &workers, &screen, input)
        .and_then(|mut running| running.work(&stop));
    workers.end(&stop);
    let code = result?.max(workers.code);
    screen.flush()?;
    Ok(if stop.is_asked() { exit::STOPPED } else { code })
}

fn function(arguments: &Arguments) -> Result<(Function, &[String]), Failure> {
    match (&arguments.text, arguments.words.split_first()) {
        (Some(text), _) => Ok((code::expression(text, &arguments.modules)?, &arguments.words)),
        (None, Some((word, specs))) => Ok((code::function(word)?, specs)),
        (None, None) => {
            let what =
                "there is no function: name FILE:FUNCTION or MODULE:FUNCTION, or give an expression by -c";
            Err(Failure::mistake(what))
        }
    }
}

/// A map on its way.
struct Running<'a> {
    map: Map,
    input: Input,
    workers: &'a Workers,
    screen: &'a Screen,
    progress: Progress,
    on_error: OnError,
    tag: bool,
    typed: bool,
    insights: bool,
    /// Whether no further items are begun.
    drains: bool,
    begun: u64,
    finished: u64,
    code: u8,
}

impl<'a> Running<'a> {
    fn begin(
        arguments: &Arguments,
        function: &Function,
        workers: &'a Workers,
        screen: &'a Screen,
        input: Input,
    ) -> Result<Self, Failure> {
        let mut options = MapOptions::default();
        options.ordered = !arguments.unordered;
        options.star = arguments.star;
        options.retries = arguments.retries;
        options.timeout = arguments.timeout;
        options.prefetch = arguments.prefetch.map(usize::from);
        options.journal.clone_from(&arguments.journal);
        let map = Map::new(&workers.group, function, options).map_err(failure)?;
        let progress = Progress::begin(screen, &workers.group)?;
        progress.expect(input.total());
        let Arguments { on_error, tag, typed, insights, .. } = *arguments;
        let (drains, begun, finished, code) = (false, 0, 0, exit::DONE);
        Ok(Self {
            map,
            input,
            workers,
            screen,
            progress,
            on_error,
            tag,
            typed,
            insights,
            drains,
            begun,
            finished,
            code,
        })
    }

    /// Works until every item that was begun has a result, or Ctrl-C is pressed twice. Returns the exit code.
    fn work(&mut self, stop: &Stop) -> Result<u8, Failure> {
        loop {
            while let Some(result) = self.map.pop() {
                self.finished += 1;
                self.progress.finished(self.finished);
                self.write(result)?;
            }
            if stop.is_asked() && !self.drains {
                self.screen.say(&"finishing what workers have been given; press Ctrl-C again to end at once");
                self.drain();
            }
            if stop.is_pressed() {
                return Ok(exit::STOPPED);
            }
            self.fill()?;
            if self.map.is_done() {
                self.progress.end();
                self.tell_insights()?;
                return Ok(self.code);
            }
            self.map.dispatch();
            let replacements = self.map.replacements();
            self.progress.show(&self.workers.group, replacements, || self.map.progress());
            if self.begun == self.finished {
                self.screen.flush()?;
                self.input.wait(INPUT_CHECK);
                continue;
            }
            self.wait(stop)?;
        }
    }

    /// Says what each worker has done, for people, if that is asked for.
    fn tell_insights(&self) -> Result<(), Failure> {
        if !self.insights {
            return Ok(());
        }
        self.screen.flush()?;
        let seconds = |time: Duration| format!("{:.3}", time.as_secs_f64());
        let mut table = Table::new(vec!["gateway", "done", "failed", "restarts", "start", "wait", "work"]);
        for worker in self.map.progress().workers {
            table.row(json!({
                "gateway": worker.id,
                "done": worker.done,
                "failed": worker.failed,
                "restarts": worker.restarts,
                "start": seconds(worker.start),
                "wait": seconds(worker.wait),
                "work": seconds(worker.work),
            }));
        }
        table.lines().iter().for_each(|line| self.screen.say(line));
        Ok(())
    }

    fn drain(&mut self) {
        self.drains = true;
        self.map.no_more();
    }

    /// Puts in what workers have room for and the input has.
    fn fill(&mut self) -> Result<(), Failure> {
        while !self.drains && self.map.room() > 0 {
            match self.input.next() {
                Some(Line::Item(number, item)) => match self.map.put(&item) {
                    Ok(()) => self.begun += 1,
                    Err(error @ MapError::Item { .. }) => {
                        self.refuse(&format!("line {number} of the input: {error}"))
                    }
                    Err(error) => return Err(failure(error)),
                },
                Some(Line::Mistake(text)) => self.refuse(&text),
                Some(Line::End(total)) => {
                    self.progress.expect(Some(total));
                    self.drain();
                }
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// The input is not what it should be: what was begun is finished, and nothing after it is begun.
    fn refuse(&mut self, text: &str) {
        self.code = self.code.max(exit::MISTAKE);
        self.screen.say(&format_args!("farexec: {text}"));
        self.drain();
    }

    /// Waits for results, for input that there is room for, or for Ctrl-C.
    fn wait(&mut self, stop: &Stop) -> Result<(), Failure> {
        self.screen.flush()?;
        let takes = !self.drains && self.map.room() > 0;
        let (waiting, drains) = (self.input.waiting(), self.drains);
        let is_news = || stop.is_pressed() || (stop.is_asked() && !drains) || (takes && waiting.has_some());
        match self.map.wait(&Wait::at_most(Progress::LOOK).unless(&is_news)) {
            Ok(())
            | Err(MapError::Wait(WaitError::Timeout | WaitError::Interrupted | WaitError::Pending)) => Ok(()),
            Err(error) => Err(failure(error)),
        }
    }

    fn write(&mut self, result: MapResult) -> Result<(), Failure> {
        let index = result.index;
        let error = match result.decode::<Value>() {
            Ok(value) => return self.line(index, "result", json::write(&value, self.typed)),
            Err(error) => error,
        };
        self.code = self.code.max(match error {
            TaskError::WorkersDied { .. } => exit::LOST,
            _ => exit::FAILED,
        });
        if self.on_error == OnError::Line {
            return self.line(index, "$error", describe(&error));
        }
        self.screen.flush()?;
        self.screen.say(&format_args!("farexec: no result for item {index}: {error}"));
        if self.on_error == OnError::Stop && !self.drains {
            self.drain();
        }
        Ok(())
    }

    /// A line of the output: a result as it is, unless it is to be tagged.
    fn line(&self, index: u64, key: &str, contents: Json) -> Result<(), Failure> {
        match (self.tag, key) {
            (true, "$error") => self.screen.result(&json!({ "index": index, "error": contents })),
            (true, _) => self.screen.result(&json!({ "index": index, key: contents })),
            (false, "$error") => self.screen.result(&json!({ key: contents })),
            (false, _) => self.screen.result(&contents),
        }
    }
}

fn describe(error: &TaskError) -> Json {
    match error {
        TaskError::Raised(error) => {
            json!({ "type": error.type_name(), "message": error.message(), "traceback": error.text() })
        }
        TaskError::WorkersDied { .. } => json!({ "type": "WorkersDied", "message": error.to_string() }),
        TaskError::TimedOut(_) => json!({ "type": "TimeoutError", "message": error.to_string() }),
        other => json!({ "type": "Error", "message": other.to_string() }),
    }
}

fn failure(error: MapError) -> Failure {
    let code = match error {
        MapError::NoWorkers(_) | MapError::Exec(_) => exit::LOST,
        MapError::Journal(JournalError::File { .. }) => exit::FAILED,
        MapError::Journal(_) => exit::MISTAKE,
        _ => exit::FAILED,
    };
    Failure::new(code, error)
}
