//! `farexec top`: what a running program's workers are doing, as a screen, a page, a table, or lines of JSON.
//!
//! [`snapshot`] has what a program tells and what follows from two tellings, [`timeline`] what follows from many, [`draw`] the screen,
//! [`web`] the page.

mod draw;
mod snapshot;
mod timeline;
mod web;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use farexec::monitor::{Program, programs};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use crate::exit::{self, Failure, with_sources};
use crate::screen::Screen;
use crate::stop::Stop;
use draw::View;
use snapshot::{COLUMNS, History, Row};

/// How often it is looked whether a key was pressed, or the command is to end.
const GLANCE: Duration = Duration::from_millis(50);

/// Shows what the workers of a running program are doing
///
/// The program has to be started with FAREXEC_MONITOR=1 in its environment, by the same user. At a terminal, a screen: q or Ctrl-C ends
/// it, s sorts by the next column, r the other way round. JSON lines anywhere else. With --web, a page for a browser on this machine.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farexec top                                        of a program started with FAREXEC_MONITOR=1
  farexec top --once
  farexec top --web                                  writes the address of a page
  farexec top --json 4711 | jq '.groups[].gateways[].state'")]
pub(crate) struct Arguments {
    /// The process id of the program; needed if there are several
    #[arg(value_name = "PID")]
    pid: Option<u32>,

    /// The socket of the program, if its FAREXEC_MONITOR names one
    #[arg(long, value_name = "PATH", conflicts_with = "pid")]
    socket: Option<PathBuf>,

    /// Show one table, or with --json one line, and end
    #[arg(long)]
    once: bool,

    /// Write one line of JSON for each look
    #[arg(long)]
    json: bool,

    /// Show a page to a browser on this machine, and write its address, which nobody can guess
    #[arg(long, conflicts_with_all = ["once", "json"])]
    web: bool,

    /// The port of the page; any free one if there is none
    #[arg(long, value_name = "PORT", requires = "web")]
    port: Option<u16>,

    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: Duration,
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "it is no number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|interval| (0.05..=86400.0).contains(&interval.as_secs_f64()))
        .ok_or_else(|| "it has to be between 0.05 and 86400 seconds".to_owned())
}

pub(crate) fn top(arguments: &Arguments) -> Result<u8, Failure> {
    let program = match &arguments.socket {
        Some(path) => Program::at(path),
        None => find(arguments.pid)?,
    };
    let screen = Screen::new();
    if arguments.web {
        return web::serve(arguments, &program, &screen);
    }
    if arguments.json || !(arguments.once || screen.results_are_read()) {
        return lines(arguments, &program, &screen);
    }
    if arguments.once {
        let mut history = History::default();
        history.take(&ask(&program)?)?;
        return table(&history.rows(), &screen);
    }
    watch(arguments, &program)
}

/// The program that is meant.
fn find(pid: Option<u32>) -> Result<Program, Failure> {
    let mut found = programs().map_err(|error| Failure::new(exit::FAILED, with_sources(&error)))?;
    if let Some(pid) = pid {
        return found.into_iter().find(|program| program.pid() == Some(pid)).ok_or_else(|| {
            Failure::mistake(format!(
                "process {pid} tells nothing: a program does if it is started with FAREXEC_MONITOR=1, by the same user, \
                 once it has made a gateway"
            ))
        });
    }
    match found.pop() {
        None => Err(Failure::mistake(
            "there is no program to look at: start one with FAREXEC_MONITOR=1 in its environment; it can be found once it \
             has made a gateway",
        )),
        Some(program) if found.is_empty() => Ok(program),
        Some(program) => {
            found.push(program);
            let names = found.iter().filter_map(|program| {
                let command = program.snapshot().ok().and_then(|line| snapshot::command(&line));
                Some(format!("\n  {}  {}", program.pid()?, command.unwrap_or_default()))
            });
            let names: String = names.collect();
            Err(Failure::mistake(format!("there are several programs; say which by its process id:{names}")))
        }
    }
}

fn ask(program: &Program) -> Result<String, Failure> {
    program.snapshot().map_err(|error| Failure::new(exit::LOST, with_sources(&error)))
}

/// Waits; returns whether the command is to go on.
fn pause(interval: Duration, stop: &Stop) -> bool {
    let until = Instant::now() + interval;
    while !stop.is_asked() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(GLANCE));
    }
    false
}

fn lines(arguments: &Arguments, program: &Program, screen: &Screen) -> Result<u8, Failure> {
    let stop = Stop::listen().map_err(|error| Failure::new(exit::FAILED, error))?;
    let mut line = ask(program)?;
    loop {
        screen.result(&line)?;
        screen.flush()?;
        if arguments.once || !pause(arguments.interval, &stop) {
            return Ok(if stop.is_asked() { exit::STOPPED } else { exit::DONE });
        }
        // The end of the program is the end of what there is to see.
        let Ok(next) = program.snapshot() else { return Ok(exit::DONE) };
        line = next;
    }
}

fn table(rows: &[Row], screen: &Screen) -> Result<u8, Failure> {
    let head: Vec<String> = COLUMNS.iter().map(|column| column.name.to_owned()).collect();
    let lines: Vec<Vec<String>> = std::iter::once(head).chain(rows.iter().map(Row::cells)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    for line in &lines {
        let padded: Vec<String> =
            line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        screen.result(&padded.join("  ").trim_end())?;
    }
    screen.flush()?;
    Ok(exit::DONE)
}

/// Shows the screen until a key ends it, or the program does. The terminal is as it was afterwards, also after a panic.
fn watch(arguments: &Arguments, program: &Program) -> Result<u8, Failure> {
    let first = ask(program)?;
    let stop = Stop::listen().map_err(|error| Failure::new(exit::FAILED, error))?;
    let terminal =
        ratatui::try_init().map_err(|error| Failure::new(exit::FAILED, format!("no screen: {error}")))?;
    let result = show(arguments, program, &first, terminal, &stop);
    ratatui::restore();
    result
}

fn show(
    arguments: &Arguments,
    program: &Program,
    first: &str,
    mut terminal: ratatui::DefaultTerminal,
    stop: &Stop,
) -> Result<u8, Failure> {
    let broken = |error: std::io::Error| Failure::unwritten(&error);
    let mut history = History::default();
    history.take(first)?;
    let mut view = View::default();
    let mut next = Instant::now() + arguments.interval;
    loop {
        terminal.draw(|frame| draw::draw(frame, &history, &view)).map_err(broken)?;
        loop {
            if stop.is_asked() {
                return Ok(exit::STOPPED);
            }
            let left = next.saturating_duration_since(Instant::now());
            if left.is_zero() {
                match program.snapshot() {
                    Ok(line) => history.take(&line)?,
                    Err(_) => history.ended = true,
                }
                next = Instant::now() + arguments.interval;
                break;
            }
            if !event::poll(left.min(GLANCE)).map_err(broken)? {
                continue;
            }
            match event::read().map_err(broken)? {
                Event::Key(key) if key.kind == KeyEventKind::Release => continue,
                Event::Key(key) => match key.code {
                    KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                        return Ok(exit::STOPPED);
                    }
                    KeyCode::Char('q') | KeyCode::Esc => return Ok(exit::DONE),
                    KeyCode::Char('s') => view.sort = (view.sort + 1) % COLUMNS.len(),
                    KeyCode::Char('r') => view.reversed = !view.reversed,
                    KeyCode::Down => view.first = view.first.saturating_add(1),
                    KeyCode::Up => view.first = view.first.saturating_sub(1),
                    _ => continue,
                },
                Event::Resize(..) => {}
                _ => continue,
            }
            view.first = view.first.min(history.rows().len().saturating_sub(1));
            break;
        }
    }
}
