//! Workers in interpreters on this machine: forked from a template, or started. What the spec asks for is there when the worker's process
//! begins, either way.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use farexec_proto::control::Start;

use super::process::{launch, shown, take_printed};
use super::{Order, Starting, Surroundings, far_start, open, unusable};
use crate::error::StartError;
use crate::interpreter::{self, Setting};
use crate::link::{Link, Pipes};
use crate::spec::{self, Output, Spec, StartMode};
use crate::supervisor::Supervisor;
use crate::sys;
use crate::template::{self, Template};

/// What decides for a spec that does not say how its worker starts.
const START_VARIABLE: &str = "FAREXEC_START";

/// What is imported for a spec that does not say what.
const PRELOAD_VARIABLE: &str = "FAREXEC_PRELOAD";

pub(super) fn start(
    order: &Order<'_>,
    words: Vec<String>,
    surroundings: &Surroundings<'_>,
) -> Result<Starting, StartError> {
    let spec = order.spec;
    let command = format!("`{} -c ...`", shell_words::join(&words));
    let preload = preload(spec)?;
    let setting = Setting::new(spec);
    if let Some(directory) = &setting.directory {
        std::fs::create_dir_all(directory).map_err(|source| {
            let directory = directory.display();
            let source =
                io::Error::new(source.kind(), format!("cannot make the directory `{directory}`: {source}"));
            StartError::Spawn { command: command.clone(), source }
        })?;
    }
    let mut interpreter = interpreter::Command::new(words, &setting);
    let mut forks = start_mode(spec)? == StartMode::Template;
    if forks && interpreter.is_unknown() {
        (surroundings.learn)(&interpreter);
        interpreter = interpreter.again(&setting);
    }
    forks = forks && interpreter.identity().is_some();
    let start = Start { chdir: None, nice: None, preload: preload.clone(), ..far_start(order)? };
    let (stdout, printed) = stdout(spec)?;
    if forks {
        match template::find(&interpreter, &setting, &preload, spec.nice.unwrap_or(0), surroundings.present) {
            Ok((template, state)) => {
                let start = Start { preload: Vec::new(), stdout_null: false, ..start };
                return fork(order, &template, &state, command, start, (stdout, printed));
            }
            Err(error) => tracing::debug!(command, %error, "no template: an interpreter is started"),
        }
    }
    let passed = stdout.and_then(sys::pass);
    let start = Start { stdout: passed.as_ref().map(|passed| passed.identity), stdout_null: false, ..start };
    let process = sys::Start { nice: spec.nice.unwrap_or(0), passed, asks: false, has_its_environment: true };
    let opening = (&*interpreter.stage_1(), &start);
    let starting = launch(order, interpreter.command(&setting), command, process, opening, printed)?;
    Ok(Starting { interpreter: Some((interpreter, setting)), ..starting })
}

fn fork(
    order: &Order<'_>,
    template: &Arc<Template>,
    state: &[u8],
    command: String,
    start: Start,
    (stdout, printed): (Option<OwnedFd>, Option<OwnedFd>),
) -> Result<Starting, StartError> {
    let (their_input, output) = sys::large_pipe()?;
    let (input, their_output) = sys::large_pipe()?;
    let (stderr, their_stderr) = match order.spec.stderr {
        Output::Null => (None, sys::null()?),
        Output::Inherit | Output::Forward => {
            let (ours, theirs) = sys::pipe()?;
            (Some(ours), theirs)
        }
    };
    let stdout = stdout.map_or_else(|| their_stderr.try_clone(), Ok)?;
    let directory = sys::open_directory(order.spec.chdir.as_deref().map(AsRef::as_ref))?;
    let supervisor = Arc::new(Supervisor::forked(template, stderr, shown(order)));
    let link = Link::new(order.id, Pipes { input, output }, Some(Arc::clone(&supervisor)))?;
    take_printed(order, printed, &supervisor, &link)?;
    template.fork(state, [their_input, their_output, stdout, their_stderr, directory], &supervisor);
    open(&link, &[], &start)?;
    Ok(Starting { link, command, address: None, interpreter: None })
}

/// What the worker's standard output is to be, and the end of it that is read here, if one is.
fn stdout(spec: &Spec) -> io::Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    Ok(match spec.stdout {
        Output::Inherit => (sys::stdout(), None),
        Output::Null => (Some(sys::null()?), None),
        Output::Forward => {
            let (ours, theirs) = sys::pipe()?;
            (Some(theirs), Some(ours))
        }
    })
}

fn start_mode(spec: &Spec) -> Result<StartMode, StartError> {
    match (spec.start, std::env::var(START_VARIABLE)) {
        (Some(mode), _) => Ok(mode),
        (None, Ok(name)) if !name.is_empty() => {
            name.parse().map_err(|reason: String| unusable(START_VARIABLE, &name, &reason))
        }
        _ => Ok(StartMode::Template),
    }
}

fn preload(spec: &Spec) -> Result<Vec<String>, StartError> {
    match (&spec.preload, std::env::var(PRELOAD_VARIABLE)) {
        (Some(modules), _) => Ok(modules.clone()),
        (None, Ok(names)) => {
            spec::module_names(&names).map_err(|reason| unusable(PRELOAD_VARIABLE, &names, reason))
        }
        _ => Ok(Vec::new()),
    }
}
