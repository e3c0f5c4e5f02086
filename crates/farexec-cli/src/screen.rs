//! Who writes where: results to standard output, everything that people read to standard error, in whole lines, around the progress
//! bars if there are any.

use std::collections::HashMap;
use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal as _, Stdout, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anstyle::{AnsiColor, Reset, Style};
use farexec::{OutputLine, OutputStream};
use indicatif::{MultiProgress, ProgressDrawTarget};

use crate::exit::Failure;

/// The colours that gateways are told apart by.
const COLORS: [AnsiColor; 6] = [
    AnsiColor::Cyan,
    AnsiColor::Green,
    AnsiColor::Magenta,
    AnsiColor::Yellow,
    AnsiColor::Blue,
    AnsiColor::BrightBlack,
];

/// Standard output and standard error, shared by all that write.
pub(crate) struct Screen {
    bars: MultiProgress,
    results: Mutex<BufWriter<Stdout>>,
    /// Whether a person looks at the results.
    results_are_read: bool,
    gateways: Mutex<Gateways>,
}

#[derive(Default)]
struct Gateways {
    styles: HashMap<String, Style>,
    width: usize,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let can_move = std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        let drawn = if can_move { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self {
            bars: MultiProgress::with_draw_target(drawn),
            results: Mutex::new(BufWriter::new(io::stdout())),
            results_are_read: io::stdout().is_terminal(),
            gateways: Mutex::default(),
        }
    }

    /// Where progress bars are drawn: nowhere, unless standard error is a terminal that can move its cursor.
    pub(crate) fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Whether results go to a terminal.
    pub(crate) fn results_are_read(&self) -> bool {
        self.results_are_read
    }

    /// Says which gateways there are, so that their names line up, each in a colour of its own.
    pub(crate) fn set_gateways(&self, ids: &[String]) {
        let mut gateways = lock(&self.gateways);
        gateways.width = ids.iter().map(|id| id.chars().count()).max().unwrap_or(0);
        gateways.styles = ids
            .iter()
            .zip(COLORS.iter().cycle())
            .map(|(id, color)| (id.clone(), color.on_default()))
            .collect();
    }

    /// A result for who reads standard output. It is there at once if somebody may be looking.
    pub(crate) fn result(&self, line: &dyn Display) -> Result<(), Failure> {
        let write = || {
            let mut results = lock(&self.results);
            writeln!(results, "{line}")?;
            if self.results_are_read { results.flush() } else { Ok(()) }
        };
        let written = if self.results_are_read { self.bars.suspend(write) } else { write() };
        written.map_err(|error| Failure::unwritten(&error))
    }

    /// A result of a gateway: at a terminal behind its name, if there are several.
    pub(crate) fn result_of(&self, gateway: &str, line: &dyn Display) -> Result<(), Failure> {
        if self.results_are_read && lock(&self.gateways).styles.len() > 1 {
            let (name, plain) = self.name(gateway);
            return self.styled_result(&format_args!("{name}{plain} {line}"));
        }
        self.result(line)
    }

    /// A result for people, with styles in it, which are taken out where they are not wanted.
    pub(crate) fn styled_result(&self, line: &dyn Display) -> Result<(), Failure> {
        self.result(&String::from_utf8_lossy(&styled(line, &io::stdout())))
    }

    /// Hands on what results there are.
    pub(crate) fn flush(&self) -> Result<(), Failure> {
        lock(&self.results).flush().map_err(|error| Failure::unwritten(&error))
    }

    /// A line that a worker printed.
    pub(crate) fn output(&self, line: &OutputLine) {
        let (name, plain) = self.name(&line.gateway);
        let dim = match line.stream {
            OutputStream::Stdout => Style::new(),
            OutputStream::Stderr => Style::new().dimmed(),
        };
        self.say(&format_args!("{name}{plain} {dim}{}{plain}", line.text));
    }

    /// What went wrong at a gateway, each line behind its name.
    pub(crate) fn error(&self, gateway: &str, text: &str) {
        let (name, plain) = self.name(gateway);
        let red = AnsiColor::Red.on_default();
        let lines: Vec<String> =
            text.trim_end().lines().map(|line| format!("{name}{plain} {red}{line}{plain}")).collect();
        self.say(&lines.join("\n"));
    }

    /// A line for people.
    pub(crate) fn say(&self, line: &dyn Display) {
        let text = styled(&format_args!("{line}\n"), &io::stderr());
        // In one piece, so that it is whole whoever else writes there; nobody can be told that it was not written.
        self.bars.suspend(|| drop(io::stderr().write_all(&text)));
    }

    /// The name of a gateway as it stands in front of its lines, and what ends its colour.
    fn name(&self, gateway: &str) -> (String, Reset) {
        let gateways = lock(&self.gateways);
        let style = gateways.styles.get(gateway).copied().unwrap_or_default();
        let padding = gateways.width.saturating_sub(gateway.chars().count());
        (format!("{style}[{gateway}]{:padding$}", ""), Reset)
    }
}

/// A text as it is to be written to a stream: without its styles, if they are not wanted there.
pub(crate) fn styled(text: &dyn Display, stream: &impl anstream::stream::RawStream) -> Vec<u8> {
    let mut writer = anstream::AutoStream::new(Vec::new(), anstream::AutoStream::choice(stream));
    // Memory takes everything.
    let _ = write!(writer, "{text}");
    writer.into_inner()
}

/// The contents, also after a thread panicked that had them: they are whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
