//! `farexec doctor`: why a spec cannot be reached, step by step, from the name of its host to the first result.
//!
//! [`Examination`] runs the steps and tells each as soon as it is over. Which steps there are before the worker itself is
//! [`approach`]'s, those from its start on are [`health`]'s; what can be done about a failure is [`advice`]'s.

mod advice;
mod approach;
mod commands;
mod health;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Reset, Style};
use farexec::{Group, Spec, Wait};
use serde_json::json;

use crate::exit::{self, Failure};
use crate::plan;
use crate::progress;
use crate::screen::Screen;
use crate::stop::Stop;
use crate::targets::{self, Selection};

/// Finds out why workers cannot be started: each step with its time, the command it ran, and what to do if it failed
///
/// Lines for people at a terminal, JSON lines anywhere else. Specs are examined one after the other; one may go through those before it (via=).
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farexec doctor ssh=web01
  farexec doctor popen//python=python2.7
  farexec doctor ssh=gate//id=gate ssh=inner//via=gate")]
pub(crate) struct Arguments {
    /// Specs, patterns or names of the hosts file: popen if there are none
    #[arg(value_name = "SPEC")]
    specs: Vec<String>,

    #[command(flatten)]
    selection: Selection,
}

pub(crate) fn doctor(arguments: &Arguments, python: &str) -> Result<u8, Failure> {
    let specs = arguments.selection.specs(&arguments.specs, "popen", python)?;
    let screen = Arc::new(Screen::new());
    if arguments.selection.setting.dry_run {
        return plan::show(&specs, &screen);
    }
    let stop = Stop::listen().map_err(|error| Failure::new(exit::FAILED, error))?;
    let ids: Vec<String> = specs.iter().filter_map(|spec| spec.id.clone()).collect();
    screen.set_gateways(&ids);
    let group = targets::group(&screen);
    let mut code = exit::DONE;
    for mut spec in specs {
        targets::forward_output(&mut spec);
        let mut examination = Examination { spec, screen: &screen, stop: &stop, group: &group };
        code = code.max(examination.run()?);
        if stop.is_asked() {
            break;
        }
    }
    let is_pressed = || stop.is_pressed();
    // What has not ended by then ends with this process.
    let _ = group.terminate_with(&Wait::at_most(group.exit_timeout()).unless(&is_pressed), true);
    screen.flush()?;
    Ok(if stop.is_asked() { exit::STOPPED } else { code })
}

/// What came of a step.
enum Found {
    /// All is well.
    Well(String),
    /// It works, but for something that may matter.
    Strange { said: String, to_do: String },
    /// It does not work.
    Bad { said: String, to_do: String, code: u8 },
}

impl Found {
    fn bad(said: impl Into<String>, to_do: impl Into<String>) -> Self {
        Self::Bad { said: said.into(), to_do: to_do.into(), code: exit::NOT_STARTED }
    }

    fn strange(said: impl Into<String>, to_do: impl Into<String>) -> Self {
        Self::Strange { said: said.into(), to_do: to_do.into() }
    }
}

/// The steps for one spec.
struct Examination<'a> {
    spec: Spec,
    screen: &'a Screen,
    stop: &'a Stop,
    group: &'a Group,
}

/// A step did not go well, or Ctrl-C was pressed: none follows. With the exit code.
struct Over(u8);

impl Examination<'_> {
    /// Returns the exit code.
    fn run(&mut self) -> Result<u8, Failure> {
        if self.screen.results_are_read() {
            let id = self.spec.id.as_deref().unwrap_or_default();
            self.screen.result(&format_args!("{id}  {}", self.spec))?;
        }
        let steps = |this: &mut Self| -> Result<(), Over> {
            approach::steps(this)?;
            health::steps(this)
        };
        let result = steps(self);
        self.screen.flush()?;
        Ok(result.err().map_or(exit::DONE, |Over(code)| code))
    }

    /// Takes a step and tells what came of it: `ran` is the command, if there is one.
    fn step<T>(
        &self,
        name: &str,
        ran: Option<&str>,
        step: impl FnOnce() -> (Found, Option<T>),
    ) -> Result<Option<T>, Over> {
        if self.stop.is_asked() {
            return Err(Over(exit::STOPPED));
        }
        let began = Instant::now();
        let waiting = progress::waiting_for(self.screen, std::slice::from_ref(&self.spec), name.to_owned());
        let (found, result) = step();
        waiting.finish_and_clear();
        let code = match found {
            Found::Bad { code, .. } => Some(code),
            _ => None,
        };
        self.tell(name, ran, began.elapsed(), &found).map_err(|failure| Over(failure.code))?;
        match code {
            Some(code) => Err(Over(code)),
            None => Ok(result),
        }
    }

    /// Something that came to light in a step, beside what it was about.
    fn remark(&self, name: &str, found: &Found) -> Result<(), Over> {
        self.tell(name, None, Duration::ZERO, found).map_err(|failure| Over(failure.code))
    }

    fn tell(&self, name: &str, ran: Option<&str>, took: Duration, found: &Found) -> Result<(), Failure> {
        let (state, color, said, to_do) = match found {
            Found::Well(said) => ("ok", AnsiColor::Green, said, None),
            Found::Strange { said, to_do } => ("strange", AnsiColor::Yellow, said, Some(to_do)),
            Found::Bad { said, to_do, .. } => ("FAILED", AnsiColor::Red, said, Some(to_do)),
        };
        let ms = (took.as_secs_f64() * 1e4).round() / 10.0;
        if !self.screen.results_are_read() {
            return self.screen.result(&json!({
                "gateway": self.spec.id,
                "step": name,
                "state": state.to_lowercase(),
                "ms": ms,
                "said": said,
                "ran": ran,
                "to_do": to_do,
            }));
        }
        let (color, dim, plain) = (color.on_default().bold(), Style::new().dimmed(), Reset);
        let indented = |text: &str| text.trim().replace('\n', "\n           ");
        self.screen.styled_result(&format_args!(
            "  {color}{state:7}{plain}  {name:12} {ms:8.1} ms  {}",
            indented(said)
        ))?;
        if let Some(ran) = ran {
            self.screen.styled_result(&format_args!("           {dim}ran: {ran}{plain}"))?;
        }
        if let Some(to_do) = to_do {
            self.screen.result(&format_args!("           to do: {}", indented(to_do)))?;
        }
        Ok(())
    }
}
