//! Progress bars, on standard error if that is a terminal: how much is done, how fast, how long it will take, and how the workers are.

mod pulse;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use farexec::{Gateway, Group, Spec, Transport};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::exit::{self, Failure};
use crate::screen::Screen;
use pulse::Pulse;

const WITH_TOTAL: &str = "{bar:30} {human_pos}/{human_len}  {rate}  {eta} left{msg}";
const WITHOUT_TOTAL: &str = "{spinner} {human_pos}  {rate}{msg}";
const WAITING: &str = "{spinner} {msg}  {elapsed}";
const STILL: &str = "{msg} ... ";
const BYTES: &str =
    "{prefix:>16} {bar:30} {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta} left";

/// How many workers are named one by one.
const NAMED: usize = 8;

/// A style, or indicatif's own if the template were wrong, which a test rules out.
fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let rate = |state: &ProgressState, text: &mut dyn fmt::Write| {
        // The bar is drawn without it then.
        let _ = write!(text, "{:.1}/s", state.per_sec());
    };
    style.progress_chars("#>-").with_key("rate", rate)
}

/// What is seen while something takes its time: what that is, and for how long already.
pub(crate) fn waiting(screen: &Screen, text: impl Into<Cow<'static, str>>) -> ProgressBar {
    let bar = screen.bars().add(ProgressBar::new_spinner().with_style(style(WAITING)).with_message(text));
    bar.enable_steady_tick(Progress::LOOK);
    bar
}

/// As [`waiting`], where one of these specs may have a program ask for a password at the same terminal: it is drawn once, and stands in
/// front of the question.
pub(crate) fn waiting_for(screen: &Screen, specs: &[Spec], text: String) -> ProgressBar {
    let may_ask = |spec: &Spec| !matches!(spec.transport, Transport::Popen | Transport::Socket(_));
    if !specs.iter().any(may_ask) {
        return waiting(screen, text);
    }
    let bar = screen.bars().add(ProgressBar::new_spinner().with_style(style(STILL)).with_message(text));
    bar.tick();
    bar
}

/// The first names of several, and how many more there are.
pub(crate) fn named(names: &[String]) -> String {
    let first = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first}, and {more} more"),
    }
}

/// A bar for bytes that go to one target.
pub(crate) fn bytes(screen: &Screen, name: &str) -> ProgressBar {
    let bar = screen.bars().add(ProgressBar::new(0).with_style(style(BYTES)).with_prefix(name.to_owned()));
    bar.enable_steady_tick(Progress::LOOK);
    bar
}

/// The bar of a map.
pub(crate) struct Progress {
    bar: ProgressBar,
    /// How the workers are, if somebody sees it.
    pulse: Option<Pulse>,
    /// What took the place of workers that died.
    replaced: HashMap<String, String>,
    shown: Option<Instant>,
}

impl Progress {
    /// How often it is looked how the workers are.
    pub(crate) const LOOK: Duration = Duration::from_millis(200);

    /// Begins to show how far the workers of a group are.
    pub(crate) fn begin(screen: &Screen, group: &Group) -> Result<Self, Failure> {
        let bar = screen.bars().add(ProgressBar::no_length().with_style(style(WITHOUT_TOTAL)));
        bar.enable_steady_tick(Self::LOOK);
        let pulse = if bar.is_hidden() { Ok(None) } else { Pulse::begin(group).map(Some) };
        let pulse = pulse.map_err(|error| Failure::new(exit::FAILED, error))?;
        Ok(Self { bar, pulse, replaced: HashMap::new(), shown: None })
    }

    /// Says how many items there are.
    pub(crate) fn expect(&self, total: Option<u64>) {
        if let Some(total) = total {
            self.bar.set_length(total);
            self.bar.set_style(style(WITH_TOTAL));
        }
    }

    /// Says how many items are done.
    pub(crate) fn finished(&self, count: u64) {
        self.bar.set_position(count);
    }

    /// Shows how the workers are and what each has done, now and then.
    pub(crate) fn show(
        &mut self,
        group: &Group,
        replacements: Vec<(String, Gateway)>,
        progress: impl FnOnce() -> farexec::Progress,
    ) {
        let has_news = !replacements.is_empty();
        self.replaced.extend(replacements.into_iter().map(|(old, new)| (new.id().to_owned(), old)));
        let is_time = self.shown.is_none_or(|shown| shown.elapsed() >= Self::LOOK);
        if let Some(pulse) = &self.pulse
            && (has_news || is_time)
        {
            self.bar.set_message(self.workers(&group.gateways(), pulse, &progress()));
            self.shown = Some(Instant::now());
        }
    }

    fn workers(&self, gateways: &[Gateway], pulse: &Pulse, progress: &farexec::Progress) -> String {
        let done: HashMap<&str, u64> =
            progress.workers.iter().map(|worker| (worker.id.as_str(), worker.done + worker.failed)).collect();
        let state = |gateway: &Gateway| {
            let mut state = format!("{} {}", gateway.id(), pulse.state(gateway));
            if let Some(old) = self.replaced.get(gateway.id()) {
                state.push_str(&format!(" (for {old})"));
            }
            match done.get(gateway.id()) {
                None | Some(0) => state,
                Some(done) => format!("{state}: {done}"),
            }
        };
        let states: Vec<String> = gateways.iter().map(state).collect();
        format!("\n{}", named(&states))
    }

    /// The work is done: the bar goes away.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_more_names_than_a_line_takes() {
        let names: Vec<String> = (0..10).map(|number| number.to_string()).collect();
        assert_eq!(named(&names), "0, 1, 2, 3, 4, 5, 6, 7, and 2 more");
        assert_eq!(named(&names[..2]), "0, 1");
    }

    #[test]
    fn the_templates_are_templates() {
        for template in [WITH_TOTAL, WITHOUT_TOTAL, WAITING, STILL, BYTES] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
