//! `farexec status`: what the workers of given specs are.

use std::sync::Arc;
use std::time::{Duration, Instant};

use farexec::{Gateway, Wait};
use serde_json::{Value as Json, json};

use crate::exit::{self, Failure};
use crate::plan;
use crate::screen::Screen;
use crate::stop::Stop;
use crate::table::Table;
use crate::targets::{Selection, Workers};

/// How often a round trip is measured; the median counts.
const ROUND_TRIPS: usize = 9;

/// How long a worker may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Shows what answers at given specs: interpreter, platform, process, round trip
///
/// A table at a terminal, JSON lines anywhere else.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farexec status 'ssh=web[01-12]'
  farexec status --hosts hosts.toml all | jq .python")]
pub(crate) struct Arguments {
    /// Specs, patterns or names of the hosts file: popen if there are none
    #[arg(value_name = "SPEC")]
    specs: Vec<String>,

    #[command(flatten)]
    selection: Selection,
}

pub(crate) fn status(arguments: &Arguments, python: &str) -> Result<u8, Failure> {
    let specs = arguments.selection.specs(&arguments.specs, "popen", python)?;
    let screen = Arc::new(Screen::new());
    if arguments.selection.setting.dry_run {
        return plan::show(&specs, &screen);
    }
    let stop = Stop::listen().map_err(|error| Failure::new(exit::FAILED, error))?;
    let workers = Workers::start(specs, &screen, &stop)?;
    let mut table =
        Table::new(vec!["gateway", "python", "executable", "platform", "pid", "worker", "round_trip_ms"]);
    let mut code = workers.code;
    for gateway in &workers.gateways {
        match row(gateway, &stop) {
            Ok(row) => table.row(row),
            Err(reason) => {
                code = code.max(exit::LOST);
                screen.error(gateway.id(), &reason);
            }
        }
    }
    workers.end(&stop);
    table.show(&screen)?;
    Ok(if stop.is_asked() { exit::STOPPED } else { code })
}

fn row(gateway: &Gateway, stop: &Stop) -> Result<Json, String> {
    let round_trip = round_trip(gateway, stop)?;
    let hello = gateway.hello();
    Ok(json!({
        "gateway": gateway.id(),
        "spec": gateway.spec().as_str(),
        "python": python(&hello),
        "executable": hello.executable,
        "platform": hello.platform,
        "pid": hello.pid,
        "cwd": hello.cwd,
        "worker": hello.worker,
        "round_trip_ms": (round_trip.as_secs_f64() * 1e6).round() / 1e3,
    }))
}

/// An interpreter's kind and version.
pub(crate) fn python(hello: &farexec::Hello) -> String {
    let version: Vec<String> = hello.version.iter().map(u32::to_string).collect();
    format!("{} {}", hello.implementation, version.join("."))
}

/// The median of several questions and answers.
pub(crate) fn round_trip(gateway: &Gateway, stop: &Stop) -> Result<Duration, String> {
    let is_asked = || stop.is_asked();
    let mut times = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let began = Instant::now();
        let wait = Wait::at_most(PATIENCE).unless(&is_asked);
        gateway.remote_status(&wait).map_err(|error| error.to_string())?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(times[ROUND_TRIPS / 2])
}
