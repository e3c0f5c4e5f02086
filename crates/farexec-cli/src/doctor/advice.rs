//! What can be done about a failure.

use farexec::{HostFailure, StartError};

/// The oldest interpreters that workers run in.
pub(super) const OLDEST: &str = "workers run in CPython 2.7, 3.6 and newer, and in PyPy 3";

/// About a name that has no address.
pub(super) fn unknown_host(name: &str) -> String {
    format!(
        "look for a slip in `{name}`; a name that only ssh knows belongs into ~/.ssh/config, or the file of `ssh_config=`"
    )
}

/// About a host that does not take connections.
pub(super) fn unreachable(error: &std::io::Error, address: &str) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => {
            format!(
                "the machine is there, and nothing listens at {address}: is the server running, and is it this port?"
            )
        }
        std::io::ErrorKind::TimedOut => {
            format!("nothing answers at {address}: is the machine up, and does a firewall let you through?")
        }
        _ => format!(
            "there is no way to {address} from here: is the network up, and is a VPN or a jump host missing?"
        ),
    }
}

/// About what `ssh` says when it fails.
pub(super) fn ssh(said: &str) -> String {
    let says = |texts: &[&str]| texts.iter().any(|text| said.contains(text));
    if says(&["Permission denied", "Too many authentication failures", "Authentication failed"]) {
        "the host does not take this key or this user: name them as in `ssh=-i KEY USER@HOST`, or load the key by ssh-add; \
         the log of its sshd says why"
    } else if says(&["Host key verification failed", "REMOTE HOST IDENTIFICATION HAS CHANGED"]) {
        "the host's key is not one that is known here: run the command by hand once and compare the fingerprint; \
         if the host was set up anew, forget the old key by `ssh-keygen -R HOST`"
    } else if says(&["not available", "nologin"]) {
        "the account has no shell: name another user, or have the administrator give it one"
    } else {
        "run the command by hand, with `-v` behind `ssh`, to see where it stops"
    }
    .into()
}

/// About an interpreter that is not found.
pub(super) fn no_interpreter(python: &str) -> String {
    format!(
        "name an interpreter that is there, with its whole path if need be (`python=/usr/bin/python3`): `{python}` is on no path, \
         and over ssh the path is that of a shell which is not a login shell"
    )
}

/// About a worker that could not be started.
pub(super) fn start(error: &StartError) -> String {
    match error {
        StartError::Host { kind: HostFailure::Denied, host, .. } if host.contains(':') => {
            "the server has another secret: name the file with its secret by `secret_file=`, or set FAREXEC_SECRET".into()
        }
        StartError::Host { said, .. } => ssh(said),
        StartError::NoProgram { program, .. } => format!("install `{program}`, or name it with its whole path"),
        StartError::NoInterpreter { program, .. } => no_interpreter(program),
        StartError::Refused { reason, .. } => refused(reason),
        StartError::Spawn { source, .. } => refused(&source.to_string()),
        StartError::NoAnswer { .. } => {
            "the process ended before it was a worker: its last words say why; run the command by hand with `-c 'print(1)'`".into()
        }
        StartError::Timeout { .. } => "something waits: for a password, or in a start-up file; run the command by hand".into(),
        StartError::Version { .. } => "bring both sides to the same version of farexec, or say `native=no`".into(),
        StartError::System(_) => "what the system says is the reason".into(),
        StartError::NoRelay { .. } => "examine the relay before it: `farexec doctor RELAY-SPEC//id=ID SPEC//via=ID`".into(),
        _ => "change the spec as the error says".into(),
    }
}

/// About what a worker could not set up.
fn refused(reason: &str) -> String {
    if reason.contains("Read-only file system") {
        "the disk is read-only: name a directory by `chdir=` that is there, or on another disk (/tmp, /dev/shm)"
    } else if reason.contains("Permission denied") {
        "the user may not go there: name another directory by `chdir=`"
    } else if reason.contains("No module named") {
        "install the module there, or take it out of `preload=`"
    } else if reason.contains("No space left") {
        "the disk is full: name a directory on another one by `chdir=`"
    } else {
        "change the part of the spec that the reason is about"
    }
    .into()
}
