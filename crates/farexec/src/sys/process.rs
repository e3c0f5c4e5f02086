//! Processes and their groups: how they exit, and signals to them. `sys/spawn.rs` starts them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use super::is_readable;

/// A child process, or one that a child of ours forked for us, and the process group that it leads if it leads one.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    leads: bool,
    exited: Arc<OwnedFd>,
    /// Becomes readable when the process has exited that forked it: until then it stays a zombie after its exit, unless that is told to reap it.
    parent: Option<Arc<OwnedFd>>,
}

impl Process {
    #[cfg(target_os = "linux")]
    pub(super) fn watch(pid: Pid, leads: bool) -> io::Result<Self> {
        let exited = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
        Ok(Self { pid, leads, exited: Arc::new(exited), parent: None })
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn watch(pid: Pid, leads: bool) -> io::Result<Self> {
        let (exited, alive) = super::pipe()?;
        std::thread::Builder::new().name("farexec-wait".into()).spawn(move || {
            let wait = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while rustix::process::waitid(WaitId::Pid(pid), wait) == Err(Errno::INTR) {}
            drop(alive);
        })?;
        Ok(Self { pid, leads, exited: Arc::new(exited), parent: None })
    }

    /// A process that leads a group, and that the process behind `parent` forked and has not reaped.
    pub(crate) fn forked(pid: u32, parent: Arc<OwnedFd>) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("this is no process id"))?;
        let process = Self { parent: Some(Arc::clone(&parent)), ..Self::watch(pid, true)? };
        // Only as long as its parent is there was the number its own while it was looked up.
        match is_readable(parent.as_fd()) {
            true => Err(io::Error::other("the process that forked it is gone")),
            false => Ok(process),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Becomes readable when the process has exited.
    pub(crate) fn exited(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.exited)
    }

    /// How the process exited, if it has; it stays a zombie, so its number cannot mean another. `Err`: somebody else in
    /// this program waited for it, or the process is gone that forked it.
    pub(crate) fn status(&self) -> io::Result<Option<ExitStatus>> {
        let Some(parent) = &self.parent else { return self.waitid(WaitIdOptions::NOWAIT) };
        if !is_readable(self.exited.as_fd()) {
            return Ok(None);
        }
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        if is_readable(parent.as_fd()) {
            return Err(io::Error::other("the process that forked it is gone"));
        }
        let status = stat.split_ascii_whitespace().next_back().and_then(|field| field.parse().ok());
        Ok(status.map(ExitStatus::from_raw))
    }

    /// Lets go of the exited process, if that is ours to do.
    pub(crate) fn reap(&self) {
        if self.parent.is_none()
            && let Err(error) = self.waitid(WaitIdOptions::empty())
        {
            tracing::debug!(pid = self.pid(), %error, "a worker was waited for by somebody else");
        }
    }

    fn waitid(&self, extra: WaitIdOptions) -> io::Result<Option<ExitStatus>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | extra;
        let Some(status) = rustix::process::waitid(WaitId::Pid(self.pid), options)? else { return Ok(None) };
        const CORE_DUMPED: i32 = 0x80;
        Ok(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Some(ExitStatus::from_raw((code & 0xff) << 8)),
            (None, Some(signal)) if status.dumped() => Some(ExitStatus::from_raw(signal | CORE_DUMPED)),
            (None, Some(signal)) => Some(ExitStatus::from_raw(signal)),
            (None, None) => None,
        })
    }

    /// Asks the whole group to end (`SIGTERM`).
    pub(crate) fn terminate_group(&self) {
        self.signal_group(Signal::TERM);
    }

    /// Ends the whole group (`SIGKILL`).
    pub(crate) fn kill_group(&self) {
        self.signal_group(Signal::KILL);
    }

    fn signal_group(&self, signal: Signal) {
        let result = match (&self.parent, self.leads) {
            (None, true) => rustix::process::kill_process_group(self.pid, signal),
            (None, false) => rustix::process::kill_process(self.pid, signal),
            (Some(parent), _) => match signal_group_of(&self.exited, signal) {
                Ok(()) => Ok(()),
                Err(_) if !is_readable(parent.as_fd()) => {
                    rustix::process::kill_process_group(self.pid, signal)
                }
                Err(_) => signal_process(&self.exited, signal),
            },
        };
        match result {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => {
                tracing::debug!(pid = self.pid(), %error, "could not signal a worker's process group")
            }
        }
    }
}

/// Signals the group of the process that a descriptor of the system stands for, whatever its number means by now (Linux 6.9).
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "there is no safe interface yet")]
fn signal_group_of(process: &OwnedFd, signal: Signal) -> Result<(), Errno> {
    const PROCESS_GROUP: libc::c_uint = 1 << 2;
    let (process, signal) = (process.as_raw_fd(), signal.as_raw());
    let information = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a system call without memory of ours.
    match unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process, signal, information, PROCESS_GROUP) } {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)),
    }
}

#[cfg(target_os = "linux")]
fn signal_process(process: &OwnedFd, signal: Signal) -> Result<(), Errno> {
    rustix::process::pidfd_send_signal(process, signal)
}

#[cfg(not(target_os = "linux"))]
fn signal_group_of(_: &OwnedFd, _: Signal) -> Result<(), Errno> {
    Err(Errno::NOSYS)
}

#[cfg(not(target_os = "linux"))]
fn signal_process(_: &OwnedFd, _: Signal) -> Result<(), Errno> {
    Err(Errno::NOSYS)
}

/// The words that a running process was started with, if the system tells.
pub(crate) fn arguments_of(pid: u32) -> Option<Vec<String>> {
    let content = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = content.strip_suffix(b"\0")?.split(|&byte| byte == 0);
    words.map(|word| String::from_utf8(word.to_vec()).ok()).collect()
}

/// The environment that a running process was started with, if the system tells.
pub(crate) fn environment_of(pid: u32) -> Option<BTreeMap<OsString, OsString>> {
    let content = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let variables = content.split(|&byte| byte == 0).filter_map(|variable| {
        let middle = variable.iter().skip(1).position(|&byte| byte == b'=')? + 1;
        let (name, value) = (&variable[..middle], &variable[middle + 1..]);
        Some((OsString::from_vec(name.to_vec()), OsString::from_vec(value.to_vec())))
    });
    Some(variables.collect())
}

/// The name of a signal, as `SIGKILL`.
pub(crate) fn signal_name(number: i32) -> String {
    const NAMES: [(Signal, &str); 14] = [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::ILL, "SIGILL"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::TERM, "SIGTERM"),
        (Signal::XCPU, "SIGXCPU"),
        (Signal::SYS, "SIGSYS"),
    ];
    NAMES
        .iter()
        .find(|(signal, _)| signal.as_raw() == number)
        .map_or_else(|| format!("signal {number}"), |(_, name)| format!("signal {number} ({name})"))
}
