//! `farexec run`: code once at each worker, its results as JSON lines.

use std::sync::Arc;

use farexec::{ChannelEnd, Item, QueueEvent, ReceiveQueue, RemoteError, Value, Wait};
use serde_json::json;

use crate::code::{self, Code};
use crate::exit::{self, Failure, with_sources};
use crate::json;
use crate::plan;
use crate::progress;
use crate::screen::Screen;
use crate::stop::Stop;
use crate::targets::{Selection, Workers};

/// Runs a file, text or a function on any number of workers
///
/// Results are what the code sends on `channel`, or what a function returns; they are JSON lines on standard output. What workers print comes
/// to standard error, behind the name of its worker. A worker that cannot be reached, and code that raises, do not keep the others from
/// going on.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "farexec run [OPTIONS] FILE[:FUNCTION] [SPEC]...\n       farexec run [OPTIONS] MODULE:FUNCTION [SPEC]...\n       farexec run [OPTIONS] -c TEXT [SPEC]..."
)]
#[command(after_help = "\
Examples:
  farexec run -c 'import os; channel.send(os.cpu_count())' 'ssh=web[01-12]'
  farexec run platform:node ssh=web01 ssh=web02 --tag
  farexec run deploy.py:deploy --arg release=v1.2 --on web     (a name of the hosts file)")]
pub(crate) struct Arguments {
    /// What to run, unless -c says it, and then specs: popen if there are none
    #[arg(value_name = "CODE|SPEC")]
    words: Vec<String>,

    /// Python text, in which `channel` is a global name
    #[arg(short = 'c', long = "code", value_name = "TEXT", allow_hyphen_values = true)]
    text: Option<String>,

    /// A keyword argument of the function, or else a global name; the value is JSON, or text if it is none
    #[arg(long = "arg", short = 'a', value_name = "NAME=VALUE", value_parser = code::argument)]
    arguments: Vec<(String, Value)>,

    /// Write each result as {"gateway": ..., "result": ...}
    #[arg(long)]
    tag: bool,

    /// Write tuples and sets so that they can be told from lists
    #[arg(long)]
    typed: bool,

    #[command(flatten)]
    selection: Selection,
}

pub(crate) fn run(arguments: Arguments, python: &str) -> Result<u8, Failure> {
    let Arguments { words, text, arguments, tag, typed, selection } = arguments;
    let (code, words) = match (text, words.split_first()) {
        (Some(text), _) => (Code::text(&text, arguments), &words[..]),
        (None, Some((code, specs))) => (Code::named(code, arguments)?, specs),
        (None, None) => {
            let what =
                "there is nothing to run: name a file, FILE:FUNCTION or MODULE:FUNCTION, or give text by -c";
            return Err(Failure::mistake(what));
        }
    };
    let specs = selection.specs(words, "popen", python)?;
    let screen = Arc::new(Screen::new());
    if selection.setting.dry_run {
        return plan::show(&specs, &screen);
    }
    if let Some(note) = &code.note {
        screen.say(note);
    }
    let stop = Stop::listen().map_err(|error| Failure::new(exit::FAILED, error))?;
    let workers = Workers::start(specs, &screen, &stop)?;
    let result =
        execute(&workers, &code, &Lines { screen: &screen, tag, typed, answers: code.answers }, &stop);
    workers.end(&stop);
    let code = result?.max(workers.code);
    screen.flush()?;
    Ok(if stop.is_asked() { exit::STOPPED } else { code })
}

/// Executes the code everywhere and writes what comes, until every execution has ended or Ctrl-C is pressed. Returns the exit code.
fn execute(workers: &Workers, code: &Code, lines: &Lines<'_>, stop: &Stop) -> Result<u8, Failure> {
    let mut worst = exit::DONE;
    let mut channels = Vec::new();
    for gateway in &workers.gateways {
        match gateway.remote_exec(code.source.clone()) {
            Ok(channel) => channels.push(channel),
            // It has ended in the meantime.
            Err(error) => {
                worst = exit::LOST;
                lines.screen.error(gateway.id(), &with_sources(&error));
            }
        }
    }
    let queue = ReceiveQueue::new(channels).map_err(|error| Failure::new(exit::FAILED, error))?;
    let is_asked = || stop.is_asked();
    let mut running: Vec<String> =
        queue.channels().iter().map(|channel| channel.gateway().id().to_owned()).collect();
    let waiting = progress::waiting(lines.screen, "");
    loop {
        if queue.is_empty() {
            lines.screen.flush()?;
            waiting.set_message(format!("waiting for {}", progress::named(&running)));
        }
        match queue.next_event(&Wait::forever().unless(&is_asked)) {
            Ok(Some(event)) => {
                worst = worst.max(lines.write(&event)?);
                if let Item::End(_) = event.item {
                    running.retain(|id| id != event.channel.gateway().id());
                }
            }
            Ok(None) | Err(_) => {
                waiting.finish_and_clear();
                return Ok(worst);
            }
        }
    }
}

/// Whether a script ended itself by `sys.exit()`, as many do.
fn is_ordinary_exit(error: &RemoteError) -> bool {
    error.type_name() == "SystemExit" && matches!(error.message(), "" | "0" | "None")
}

/// How results are written.
struct Lines<'a> {
    screen: &'a Screen,
    tag: bool,
    typed: bool,
    answers: bool,
}

impl Lines<'_> {
    /// Writes a result, or says what went wrong. Returns the exit code for it.
    fn write(&self, event: &QueueEvent) -> Result<u8, Failure> {
        let gateway = event.channel.gateway().id();
        let (code, text) = match &event.item {
            Item::Data(payload) => match payload.value() {
                Ok(value) => match self.answer(value) {
                    Ok(result) => {
                        self.result(gateway, &result)?;
                        return Ok(exit::DONE);
                    }
                    Err(text) => (exit::FAILED, text),
                },
                Err(error) => (exit::FAILED, format!("a result cannot be read: {error}")),
            },
            Item::End(ChannelEnd::Error(error)) if is_ordinary_exit(error) => return Ok(exit::DONE),
            Item::End(ChannelEnd::Error(error)) => (exit::FAILED, error.text().to_owned()),
            Item::End(ChannelEnd::Gateway(reason)) => (exit::LOST, reason.to_string()),
            Item::End(_) => return Ok(exit::DONE),
        };
        self.screen.flush()?;
        self.screen.error(gateway, &text);
        Ok(code)
    }

    /// The result in an item, or the traceback.
    fn answer(&self, value: Value) -> Result<Value, String> {
        match value {
            value if !self.answers => Ok(value),
            Value::Tuple(mut results) if results.len() == 1 => Ok(results.remove(0)),
            Value::Dict(entries) => Err(entries
                .into_iter()
                .find_map(|(key, value)| match (key, value) {
                    (Value::Str(key), Value::Str(text)) if key == "text" => Some(text),
                    _ => None,
                })
                .unwrap_or_default()),
            other => Err(format!("no answer: {other}")),
        }
    }

    fn result(&self, gateway: &str, result: &Value) -> Result<(), Failure> {
        let result = json::write(result, self.typed);
        match self.tag {
            true => self.screen.result(&json!({ "gateway": gateway, "result": result })),
            false => self.screen.result_of(gateway, &result),
        }
    }
}
