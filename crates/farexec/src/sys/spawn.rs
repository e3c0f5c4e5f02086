//! How processes start: with the descriptors they are meant to have and no other, as leaders of process groups of their own.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::Pid;

use super::Process;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use super::posix_spawn::spawn as spawn_sharing;

/// A descriptor of this process that a child is to have, under the same number.
#[derive(Debug)]
pub(crate) struct Passed {
    pub(super) fd: OwnedFd,
    /// Number, device and inode: how the child finds and checks it.
    pub(crate) identity: [i64; 3],
}

/// A duplicate of this process's standard output, if that is open.
pub(crate) fn stdout() -> Option<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3).ok()
}

/// A descriptor as one for a child to have.
pub(crate) fn pass(fd: OwnedFd) -> Option<Passed> {
    // Far from the low numbers, which a child's interpreter uses for itself.
    const LOWEST: i32 = 64;
    let fd = rustix::io::fcntl_dupfd_cloexec(fd, LOWEST).ok()?;
    let stat = rustix::fs::fstat(&fd).ok()?;
    #[allow(clippy::cast_possible_wrap, reason = "compared as bits, by whoever asks the same system")]
    let identity = [i64::from(fd.as_raw_fd()), stat.st_dev as i64, stat.st_ino as i64];
    Some(Passed { fd, identity })
}

/// What a process starts with besides its command.
#[derive(Debug, Default)]
pub(crate) struct Start {
    /// Whether it stays in this process's group, where it may ask at the terminal; an interrupt from there is not for it then.
    pub(crate) asks: bool,
    /// Added to the niceness.
    pub(crate) nice: i32,
    /// A descriptor the child is to have.
    pub(crate) passed: Option<Passed>,
    /// Whether the command's variables are all that it is to have.
    pub(crate) has_its_environment: bool,
}

/// Starts a process with these standard descriptors and the one it is to have besides, as the leader of a process group of its own unless
/// it asks at the terminal.
pub(crate) fn spawn(command: &mut Command, standard: [OwnedFd; 3], start: Start) -> io::Result<Process> {
    let leads = !start.asks;
    let child = match spawn_sharing(command, &standard, &start) {
        Some(child) => child?,
        None => spawn_forking(command, standard, start)?,
    };
    // Since nobody else waits for it, the number stays its own until `Process::reap`.
    let pid =
        Pid::from_raw(child).ok_or_else(|| io::Error::other("the system gave an impossible process id"))?;
    Process::watch(pid, leads)
}

/// By a fork of this process: copying what maps its memory costs the more, the more there is.
#[allow(unsafe_code, reason = "what has to happen between fork and exec has no safe interface")]
fn spawn_forking(command: &mut Command, standard: [OwnedFd; 3], start: Start) -> io::Result<libc::pid_t> {
    let [input, output, error] = standard;
    command.stdin(input).stdout(output).stderr(error);
    let Start { asks, nice, passed, .. } = start;
    if !asks {
        command.process_group(0);
    }
    let prepare = move || {
        if asks {
            // SAFETY: a system call without memory of ours.
            unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
        }
        close_the_rest_on_exec();
        if let Some(passed) = &passed {
            rustix::io::fcntl_setfd(&passed.fd, rustix::io::FdFlags::empty())?;
        }
        if nice != 0 {
            rustix::process::nice(nice)?;
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls and allocates nothing.
    unsafe { command.pre_exec(prepare) };
    let child = command.spawn()?;
    libc::pid_t::try_from(child.id()).map_err(io::Error::other)
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
/// Nobody has done it yet for this system.
fn spawn_sharing(_: &Command, _: &[OwnedFd; 3], _: &Start) -> Option<io::Result<libc::pid_t>> {
    None
}

/// The first number that is none of a standard descriptor.
pub(super) const FIRST: libc::c_int = 3;

/// Marks every descriptor but the standard ones: a program may hold some, from a shell or a library of C, that nobody meant
/// for our children, where a pipe kept open would never be at its end.
#[allow(unsafe_code, reason = "there is no safe interface")]
fn close_the_rest_on_exec() {
    #[cfg(target_os = "linux")]
    {
        const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
        // SAFETY: a system call without memory of ours, on no descriptor's content.
        if unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_int::MAX, CLOSE_RANGE_CLOEXEC) } == 0
        {
            return;
        }
    }
    // Where the system has no such call, as Linux before 5.11: the numbers that are in use as a rule.
    for fd in FIRST..1024 {
        // SAFETY: as above; a number that is not open is an error without effect.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}
