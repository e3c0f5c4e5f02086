//! Workers behind child processes of this one: programs that run an interpreter somewhere else, and pass its input and output on. What such a
//! process has in common with an interpreter that is started here (`transport/here`) is here too.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::Arc;

use farexec_proto::control::Start;

use super::{Order, Starting, far_start, open};
use crate::bootstrap;
use crate::end::Cause;
use crate::error::StartError;
use crate::link::{Link, Pipes};
use crate::output::{Lines, OutputStream, PipeOutput};
use crate::spec::{Output, Spec};
use crate::supervisor::{Shown, Supervisor};
use crate::sys;
use crate::{monitor, timeline};

/// Starts a program that runs an interpreter. What the spec asks for is done by the worker, before anything is executed.
pub(super) fn start_behind(order: &Order<'_>, far: super::Command) -> Result<Starting, StartError> {
    let opening = (&*bootstrap::plain(), &far_start(order)?);
    launch(order, command(&far.words), far.shown, sys::Start::default(), opening, None)
}

fn command(words: &[String]) -> Command {
    let (program, arguments) = words.split_first().map_or(("", &[][..]), |(p, a)| (p.as_str(), a));
    let mut command = Command::new(program);
    command.env_remove(monitor::VARIABLE).env_remove(timeline::VARIABLE);
    command.args(arguments);
    command
}

/// Starts a process whose standard input and output are the connection.
pub(super) fn launch(
    order: &Order<'_>,
    mut command: Command,
    command_shown: String,
    process: sys::Start,
    (stage_1, start): (&[u8], &Start),
    printed: Option<OwnedFd>,
) -> Result<Starting, StartError> {
    let (their_input, output) = sys::large_pipe()?;
    let (input, their_output) = sys::large_pipe()?;
    let is_here = start.stdout.is_some() || order.spec.transport == crate::spec::Transport::Popen;
    // What runs an interpreter elsewhere says on its standard error why it could not.
    let (stderr, their_stderr) = if order.spec.stderr != Output::Null || !is_here {
        let (ours, theirs) = sys::pipe()?;
        (Some(ours), theirs)
    } else {
        (None, sys::null()?)
    };
    let process = sys::spawn(&mut command, [their_input, their_output, their_stderr], process)
        .map_err(|source| failure(order.spec, &command, &command_shown, source))?;
    // With the command go our copies of the worker's ends: from here on, its end is the end of the pipes.
    drop(command);
    let supervisor = Arc::new(Supervisor::new(process, stderr, shown(order)));
    let link = Link::new(order.id, Pipes { input, output }, Some(Arc::clone(&supervisor)))?;
    take_printed(order, printed, &supervisor, &link)?;
    open(&link, stage_1, start)?;
    Ok(Starting { link, command: command_shown, address: None, interpreter: None })
}

/// Has the lines come here that a worker prints to a pipe of ours.
pub(super) fn take_printed(
    order: &Order<'_>,
    printed: Option<OwnedFd>,
    supervisor: &Supervisor,
    link: &Link,
) -> io::Result<()> {
    if let Some(printed) = printed {
        let lines = Lines::new(order.outputs, order.id, OutputStream::Stdout);
        supervisor.set_stdout(PipeOutput::watch(printed, lines, link.reactor())?);
    }
    Ok(())
}

/// What becomes of the standard error of a worker whose process is on this machine.
pub(super) fn shown(order: &Order<'_>) -> Shown {
    match order.spec.stderr {
        Output::Inherit => Shown::Here,
        Output::Null => Shown::Nowhere,
        Output::Forward => Shown::Lines(Lines::new(order.outputs, order.id, OutputStream::Stderr)),
    }
}

fn failure(spec: &Spec, command: &Command, shown: &str, source: io::Error) -> StartError {
    let directory_is_missing = command.get_current_dir().is_some_and(|path| !path.is_dir());
    let program = command.get_program().to_string_lossy().into_owned();
    if source.kind() == io::ErrorKind::NotFound && !directory_is_missing {
        return match spec.transport {
            crate::spec::Transport::Popen => {
                StartError::NoInterpreter { program, command: shown.into(), source }
            }
            _ => StartError::NoProgram { program, command: shown.into(), source },
        };
    }
    StartError::Spawn { command: shown.into(), source }
}

/// The error of a program that found no interpreter to run says so.
pub(super) fn explain(spec: &Spec, error: StartError) -> StartError {
    let StartError::NoAnswer { command, reason, chatter } = error else { return error };
    let python = super::python(spec).ok().and_then(|words| words.into_iter().next()).unwrap_or_default();
    let why = match reason.cause() {
        Cause::ConnectionLost(why) => why.as_str(), // a relay's words among others
        _ => "",
    };
    let said = [&reason.stderr().join("\n"), &*chatter, why].concat();
    let name = python.rsplit('/').next().unwrap_or_default();
    let is_missing = said.lines().any(|line| {
        let line = line.to_lowercase();
        line.contains(&name.to_lowercase()) && (line.contains("not found") || line.contains("no such file"))
    });
    if matches!(reason.cause(), Cause::Exited(127)) || is_missing {
        let source = io::Error::new(io::ErrorKind::NotFound, said.trim().to_owned());
        return StartError::NoInterpreter { program: python, command, source };
    }
    StartError::NoAnswer { command, reason, chatter }
}
