//! Workers over `ssh`, and one connection for all gateways of a group to the same host.
//!
//! The first gateway to a host starts a *master*: an `ssh` whose only purpose is the connection (OpenSSH's `ControlMaster`), which the gateways'
//! own `ssh` processes share. Its remote command is `cat` with its input held open by this process, so it ends when this process does,
//! however that ends. A host that refuses to share is reached by a connection for each gateway.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Command, keepalive};
use crate::end::Cause;
use crate::error::{HostFailure, StartError};
use crate::limits::START_TIMEOUT;
use crate::reactor::Reactor;
use crate::spec::Spec;
use crate::supervisor::{Shown, Supervisor, return_code};
use crate::sys;
use crate::wait::{Wait, WaitError};

/// The status that `ssh` exits with for failures of its own.
const OWN_FAILURE: i32 = 255;

/// How often a master is looked at that is connecting.
const LOOK: Duration = Duration::from_millis(2);

/// The command that runs `interpreter` at a host.
pub(super) fn command(
    program: &str,
    arguments: &[String],
    config: Option<&str>,
    options: &[String],
    interpreter: &[String],
) -> Command {
    let mut words = vec![program.to_owned()];
    words.extend_from_slice(options);
    words.extend(with_config(config));
    words.extend_from_slice(arguments);
    with_remote(words, interpreter)
}

/// `vagrant ssh MACHINE -- ARGUMENTS`.
pub(super) fn vagrant_command(
    arguments: &[String],
    config: Option<&str>,
    options: &[String],
    interpreter: &[String],
) -> Command {
    let (machine, rest) = arguments.split_at(1.min(arguments.len()));
    let mut words = vec!["vagrant".to_owned(), "ssh".to_owned()];
    words.extend_from_slice(machine);
    words.push("--".to_owned());
    words.extend_from_slice(options);
    words.extend(with_config(config));
    words.extend_from_slice(rest);
    with_remote(words, interpreter)
}

fn with_config(config: Option<&str>) -> Vec<String> {
    config.map(|path| vec!["-F".to_owned(), path.to_owned()]).unwrap_or_default()
}

/// The far end's shell splits one word into the interpreter's.
fn with_remote(mut words: Vec<String>, interpreter: &[String]) -> Command {
    let short = &interpreter[..interpreter.len().saturating_sub(1)];
    let shown = format!(
        "`{} {}`",
        shell_words::join(&words),
        shell_words::quote(&format!("{} ...", shell_words::join(short)))
    );
    words.push(shell_words::join(interpreter));
    Command { words, shown }
}

/// The masters of a group, by the hosts they lead to.
#[derive(Default)]
pub(crate) struct Masters(Mutex<HashMap<Host, Arc<Master>>>);

/// What `ssh` is to connect to, and how long that may be out of reach, if the spec says so.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Host {
    /// Of `ssh`, the configuration file and the host among them.
    arguments: Vec<String>,
    /// Those without the configuration file, for error messages.
    shown: Vec<String>,
    keepalive: Option<Duration>,
}

pub(super) fn host(arguments: &[String], config: Option<&str>, keepalive: Option<Duration>) -> Host {
    let with_file = [with_config(config), arguments.to_vec()].concat();
    Host { arguments: with_file, shown: arguments.to_vec(), keepalive }
}

impl Masters {
    /// Begins to connect to a host, unless that is done already.
    pub(super) fn prepare(&self, host: &Host) {
        let mut masters = self.0.lock();
        if masters.get(host).is_some_and(|master| !master.supervisor.has_exited()) {
            return;
        }
        match Master::start(host) {
            Ok(master) => drop(masters.insert(host.clone(), Arc::new(master))),
            // Each gateway has a connection of its own then, and says what is wrong if it cannot.
            Err(error) => tracing::debug!(%error, "no shared ssh connection"),
        }
    }

    /// The options of an `ssh` that is to use the connection to a host, once that is there; or one of its own, if the host does not share.
    pub(super) fn wait_for(&self, host: &Host, wait: &Wait<'_>) -> Result<Vec<String>, StartError> {
        let own = || keepalive::options_for(host.keepalive, &host.arguments);
        let Some(master) = self.0.lock().get(host).cloned() else { return Ok(own()) };
        let wait = wait.until(Instant::now() + START_TIMEOUT);
        loop {
            if master.socket.exists() {
                let path = format!("ControlPath={}", master.socket.display());
                return Ok(["-o", &path, "-o", "ControlMaster=no"].map(str::to_owned).to_vec());
            }
            if master.supervisor.has_exited() {
                self.0.lock().remove(host);
                let said = master.supervisor.last_words().join("\n");
                return match master.supervisor.exit_status().map(return_code) {
                    Some(OWN_FAILURE) => Err(failure(&host.shown, &master.shown, said)),
                    _ => Ok(own()),
                };
            }
            match wait.check() {
                Ok(()) => std::thread::sleep(LOOK),
                Err(WaitError::Interrupted | WaitError::Pending) => return Err(StartError::Interrupted),
                Err(WaitError::Timeout) => {
                    let chatter = master.supervisor.last_words().join("\n");
                    let command = master.shown.clone();
                    return Err(StartError::Timeout { command, timeout: START_TIMEOUT, chatter });
                }
            }
        }
    }

    /// Ends all connections.
    pub(crate) fn end(&self) {
        self.0.lock().clear();
    }
}

struct Master {
    supervisor: Arc<Supervisor>,
    socket: PathBuf,
    shown: String,
    /// As long as it is open, so is the connection.
    _input: OwnedFd,
    _folder: tempfile::TempDir,
}

/// Waits until there is no coordinator any more, and removes the folder of its connection.
const KEEPER: &str = r#"read -r _; rm -f -- "$0/s"; rmdir -- "$0""#;

impl Master {
    fn start(host: &Host) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("farexec-ssh-").tempdir()?;
        let socket = folder.path().join("s");
        let mut command = std::process::Command::new("ssh");
        command.arg("-o").arg(format!("ControlPath={}", socket.display()));
        command.args(["-o", "ControlMaster=yes", "-o", "ControlPersist=no"]);
        command
            .args(keepalive::options_for(host.keepalive, &host.arguments))
            .args(&host.arguments)
            .arg("cat");
        let (their_input, input) = sys::pipe()?;
        // Nothing is ever written to it, so any number may wait for its end.
        Self::keep(folder.path(), their_input.try_clone()?)?;
        let (stderr, their_stderr) = sys::pipe()?;
        let standard = [their_input, sys::null()?, their_stderr];
        let process = sys::spawn(&mut command, standard, sys::Start { asks: true, ..sys::Start::default() })?;
        drop(command);
        let supervisor = Arc::new(Supervisor::new(process, Some(stderr), Shown::Nowhere));
        supervisor.watch(&Reactor::current()?, None)?;
        let shown = format!("`ssh {}`", shell_words::join(&host.shown));
        Ok(Self { supervisor, socket, shown, _input: input, _folder: folder })
    }

    /// Has the folder go also if this process is killed.
    fn keep(folder: &Path, input: OwnedFd) -> io::Result<()> {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", KEEPER]).arg(folder);
        let standard = [input, sys::null()?, sys::null()?];
        let process = sys::spawn(&mut command, standard, sys::Start::default())?;
        Arc::new(Supervisor::new(process, None, Shown::Nowhere)).watch(&Reactor::current()?, None)
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.supervisor.kill_now();
    }
}

/// Tells apart why `ssh` did not bring a worker, in its own words.
pub(super) fn explain(arguments: &[String], spec: &Spec, error: StartError) -> StartError {
    match &error {
        StartError::NoAnswer { command, reason, chatter }
            if *reason.cause() == Cause::Exited(OWN_FAILURE) =>
        {
            failure(arguments, command, [reason.stderr().join("\n"), chatter.clone()].concat())
        }
        _ => super::process::explain(spec, error),
    }
}

fn failure(arguments: &[String], command: &str, said: String) -> StartError {
    let says = |texts: &[&str]| texts.iter().any(|text| said.contains(text));
    let kind = if says(&["Could not resolve hostname", "Name or service not known"]) {
        HostFailure::Unknown
    } else if says(&["Permission denied", "Too many authentication failures", "Authentication failed"]) {
        HostFailure::Denied
    } else if says(&["Host key verification failed", "REMOTE HOST IDENTIFICATION HAS CHANGED"]) {
        HostFailure::NotTrusted
    } else if says(&["Connection refused", "timed out", "No route to host", "Network is unreachable"]) {
        HostFailure::Unreachable
    } else {
        HostFailure::Other
    };
    let host = arguments.iter().rfind(|word| !word.starts_with('-')).cloned().unwrap_or_default();
    StartError::Host { kind, host, command: command.into(), said: said.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn the_remote_command_is_one_word() {
        let interpreter = owned(&["python3", "-c", "print(1)"]);
        let made = command("ssh", &owned(&["-p", "22", "me@host"]), Some("cfg"), &[], &interpreter);
        assert_eq!(made.words, ["ssh", "-F", "cfg", "-p", "22", "me@host", "python3 -c 'print(1)'"]);
        assert_eq!(made.shown, "`ssh -F cfg -p 22 me@host 'python3 -c ...'`");
    }

    #[test]
    fn vagrant_has_its_arguments_behind_two_dashes() {
        let interpreter = owned(&["python3", "-c", "x"]);
        let made = vagrant_command(&owned(&["box", "-v"]), None, &[], &interpreter);
        assert_eq!(made.words, ["vagrant", "ssh", "box", "--", "-v", "python3 -c x"]);
    }
}
