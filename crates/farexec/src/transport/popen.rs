//! Workers on this machine: an interpreter started as a child process, reached through its standard input and output.

use std::collections::BTreeMap;
use std::io;
use std::process::{Command, Stdio};
use std::sync::Arc;

use farexec_proto::control::Start;
use farexec_proto::handshake::PROTOCOL_VERSION;

use super::Starting;
use crate::bootstrap;
use crate::error::StartError;
use crate::link::{Link, Pipes};
use crate::spec::{ExecModel, Output, Spec, SpecError};
use crate::supervisor::Supervisor;
use crate::sys;

/// The interpreter of a spec that names none.
const DEFAULT_PYTHON: &str = "python3";

pub(crate) fn start(spec: &Spec, id: &str, execmodel: ExecModel) -> Result<Starting, StartError> {
    let words = words(spec)?;
    let (program, arguments) =
        words.split_first().map_or((DEFAULT_PYTHON, &[][..]), |(p, a)| (p.as_str(), a));
    let (their_input, output) = sys::large_pipe()?;
    let (input, their_output) = sys::large_pipe()?;
    let mut command = Command::new(program);
    command.args(arguments).arg("-c").arg(bootstrap::STAGE_0);
    command.stdin(their_input).stdout(their_output);
    command.envs(spec.env.iter().map(|(name, value)| (name, value)));
    if spec.dont_write_bytecode {
        command.env("PYTHONDONTWRITEBYTECODE", "1");
    }
    if let Some(directory) = &spec.chdir {
        std::fs::create_dir_all(directory).map_err(|source| {
            let source =
                io::Error::new(source.kind(), format!("cannot make the directory `{directory}`: {source}"));
            StartError::Spawn { command: shown(&words), source }
        })?;
        command.current_dir(directory);
    }
    let stderr = match spec.stderr {
        Output::Inherit => {
            let (ours, theirs) = sys::pipe()?;
            command.stderr(theirs);
            Some(ours)
        }
        Output::Null => {
            command.stderr(Stdio::null());
            None
        }
    };
    let passed = match spec.stdout {
        Output::Inherit => sys::pass_stdout(),
        Output::Null => {
            let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
            sys::pass(&null)
        }
    };
    let opening = bootstrap::opening(&Start {
        protocol: PROTOCOL_VERSION,
        id: id.into(),
        execmodel: spec.execmodel.unwrap_or(execmodel).name().into(),
        stdout: passed.as_ref().map(|passed| passed.identity),
        chdir: None,
        env: BTreeMap::new(),
        nice: None,
        dont_write_bytecode: spec.dont_write_bytecode,
        group: true,
    })
    .map_err(|error| StartError::System(io::Error::other(error)))?;
    let start = sys::Start { nice: spec.nice.unwrap_or(0), passed };
    let process = sys::spawn(&mut command, start).map_err(|source| failure(spec, program, &words, source))?;
    // With the command go our copies of the worker's ends: from here on, its end is the end of the pipes.
    drop(command);
    let supervisor = Arc::new(Supervisor::new(process, stderr));
    let link = Link::new(id, Pipes { input, output }, Some(supervisor))?;
    // A worker that cannot be told is gone, and whoever waits for its answer is told so.
    let _ = link.send(&opening);
    Ok(Starting { link, command: shown(&words) })
}

fn words(spec: &Spec) -> Result<Vec<String>, StartError> {
    let python = spec.python.as_deref().unwrap_or(DEFAULT_PYTHON);
    shell_words::split(python).map_err(|error| {
        StartError::Spec(SpecError::BadValue {
            key: "python".into(),
            value: python.into(),
            spec: spec.to_string(),
            reason: error.to_string(),
        })
    })
}

fn shown(words: &[String]) -> String {
    format!("`{} -c ...`", shell_words::join(words))
}

fn failure(spec: &Spec, program: &str, words: &[String], source: io::Error) -> StartError {
    let command = shown(words);
    let directory_is_missing = spec.chdir.as_ref().is_some_and(|path| !std::path::Path::new(path).is_dir());
    if source.kind() == io::ErrorKind::NotFound && !directory_is_missing {
        return StartError::NoInterpreter { program: program.into(), command, source };
    }
    StartError::Spawn { command, source }
}
