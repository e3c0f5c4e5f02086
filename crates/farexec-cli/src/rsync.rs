//! `farexec rsync`: a tree of files to any number of places.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use farexec::{
    Channel, Observer, Rsync, RsyncError, RsyncEvent, RsyncReport, Spec, Stop as Enough, Wait, WaitError,
};
use glob::Pattern;
use indicatif::ProgressBar;
use serde_json::json;

use crate::exit::{self, Failure, with_sources};
use crate::plan;
use crate::progress;
use crate::screen::Screen;
use crate::stop::Stop;
use crate::targets::{Setting, Workers, specs_of};

/// Makes directories at any number of places what one is here: only what changed is sent
///
/// A TARGET is SPEC:PATH; a path that is not absolute begins where its worker does. Each target has a line of JSON on standard output: the files and
/// bytes sent to it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farexec rsync ./site 'ssh=web[01-12]:/srv/site' --delete
  farexec rsync ./site web:/srv/site --exclude '*.pyc' --dry-run")]
pub(crate) struct Arguments {
    /// The directory or file to send
    source: PathBuf,

    /// Where to: a spec, a pattern or a name of the hosts file, a colon, and a path
    #[arg(value_name = "SPEC:PATH", required = true)]
    targets: Vec<String>,

    /// Delete what is there and not in the source
    #[arg(long)]
    delete: bool,

    /// Leave out what has such a name, or such a path below the source; may be given many times
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,

    #[command(flatten)]
    setting: Setting,
}

pub(crate) fn rsync(arguments: Arguments, python: &str) -> Result<u8, Failure> {
    let hosts = arguments.setting.load_hosts()?;
    let exclude = globs(&arguments.exclude)?;
    let (mut words, mut paths) = (Vec::new(), Vec::new());
    for target in &arguments.targets {
        let (word, path) = split(target)?;
        let count = specs_of(&[word.to_owned()], &hosts, python)?.len();
        paths.extend(std::iter::repeat_n(path, count));
        words.push(word.to_owned());
    }
    let specs = specs_of(&words, &hosts, python)?;
    let screen = Arc::new(Screen::new());
    if let Err(error) = std::fs::symlink_metadata(&arguments.source) {
        return Err(Failure::mistake(format!(
            "cannot read the source `{}`: {error}",
            arguments.source.display()
        )));
    }
    if arguments.setting.dry_run {
        return plan::show_with(&specs, Some(("path", &paths)), &screen);
    }
    let stop = Stop::listen().map_err(|error| Failure::new(exit::FAILED, error))?;
    let workers = Workers::start(specs.clone(), &screen, &stop)?;
    let mut rsync = Rsync::new(&arguments.source);
    let mut bars = Vec::new();
    for gateway in &workers.gateways {
        let number = specs.iter().position(|spec: &Spec| spec.id.as_deref() == Some(gateway.id()));
        let Some(path) = number.and_then(|number| paths.get(number)) else { continue };
        rsync = if arguments.delete { rsync.mirror_to(gateway, path) } else { rsync.to(gateway, path) };
        bars.push(progress::bytes(&screen, gateway.id()));
    }
    let mut watcher = Watcher { source: &arguments.source, exclude, bars };
    let is_asked = || stop.is_asked();
    let result = rsync.send_with(&mut watcher, &Wait::forever().unless(&is_asked));
    watcher.bars.iter().for_each(ProgressBar::finish_and_clear);
    workers.end(&stop);
    let code = tell(result, &workers, &screen)?.max(workers.code);
    screen.flush()?;
    Ok(if stop.is_asked() { exit::STOPPED } else { code })
}

/// The spec and the path of a target.
fn split(target: &str) -> Result<(&str, &str), Failure> {
    match target.rsplit_once(':') {
        Some((word, path)) if !word.is_empty() && !path.is_empty() => Ok((word, path)),
        _ => Err(Failure::mistake(format!(
            "`{target}` is no target: write SPEC:PATH, for instance `ssh=web01:/srv/site`"
        ))),
    }
}

fn globs(texts: &[String]) -> Result<Vec<Pattern>, Failure> {
    let glob = |text: &String| {
        Pattern::new(text).map_err(|error| Failure::mistake(format!("--exclude {text}: {}", error.msg)))
    };
    texts.iter().map(glob).collect()
}

/// Leaves out what is not wanted, and moves the bars.
struct Watcher<'a> {
    source: &'a Path,
    exclude: Vec<Pattern>,
    bars: Vec<ProgressBar>,
}

impl Observer for Watcher<'_> {
    fn wants(&mut self, path: &Path) -> Result<bool, Enough> {
        let below = path.strip_prefix(self.source).unwrap_or(path);
        let name = path.file_name().map(Path::new);
        let is_excluded =
            |glob: &Pattern| name.is_some_and(|name| glob.matches_path(name)) || glob.matches_path(below);
        Ok(below.as_os_str().is_empty() || !self.exclude.iter().any(is_excluded))
    }

    fn event(&mut self, target: usize, _: &Channel, event: RsyncEvent<'_>) -> Result<(), Enough> {
        if let Some(bar) = self.bars.get(target) {
            match event {
                RsyncEvent::Listed { bytes } => bar.set_length(bytes),
                RsyncEvent::Done { bytes, .. } => bar.inc(bytes),
                RsyncEvent::Finished => bar.finish(),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Writes what was done at each target, and says what was not. Returns the exit code.
fn tell(result: Result<RsyncReport, RsyncError>, workers: &Workers, screen: &Screen) -> Result<u8, Failure> {
    let (report, code) = match result {
        Ok(report) => (report, exit::DONE),
        Err(RsyncError::Incomplete { report, failures }) => {
            let mut code = exit::FAILED;
            for failure in failures {
                screen.error(failure.gateway.as_deref().unwrap_or("source"), &failure.to_string());
                let gateway =
                    workers.gateways.iter().find(|gateway| failure.gateway.as_deref() == Some(gateway.id()));
                if gateway.and_then(|gateway| gateway.end_reason()).is_some_and(|reason| !reason.is_orderly())
                {
                    code = exit::LOST;
                }
            }
            (report, code)
        }
        Err(RsyncError::Wait(WaitError::Interrupted)) => return Ok(exit::STOPPED),
        Err(error) => return Err(Failure::new(exit::FAILED, with_sources(&error))),
    };
    for (gateway, done) in workers.gateways.iter().zip(&report.targets) {
        screen.result(&json!({
            "gateway": gateway.id(),
            "files": done.files,
            "sent": done.sent,
            "reused": done.reused,
            "copied": done.copied,
            "deleted": done.deleted,
        }))?;
    }
    Ok(code)
}
