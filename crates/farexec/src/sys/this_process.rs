//! This process itself: its forks, its threads, its end.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// How often this process and those it descends from were forked since the driver began to count.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// Which process of a line of forks this is: it differs between a process and its child, and costs no system call.
#[allow(unsafe_code, reason = "there is no safe interface")]
pub(crate) fn generation() -> u32 {
    extern "C" fn count() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    static COUNTING: Once = Once::new();
    // SAFETY: the function only adds to a number, which is safe after a fork.
    COUNTING.call_once(|| unsafe {
        libc::pthread_atfork(None, None, Some(count));
    });
    FORKS.load(Ordering::Relaxed)
}

/// A thread of this process that can be interrupted by a signal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interruptible(libc::pthread_t);

impl Interruptible {
    /// The calling thread. It has to live as long as this is used: the main thread does.
    #[allow(unsafe_code, reason = "there is no safe interface")]
    pub(crate) fn this_thread() -> Self {
        // SAFETY: the call has no conditions.
        Self(unsafe { libc::pthread_self() })
    }

    /// Sends it the signal that an interrupt key sends.
    #[allow(unsafe_code, reason = "there is no safe interface")]
    pub(crate) fn interrupt(self) {
        // SAFETY: the thread lives, as `this_thread` demands.
        unsafe { libc::pthread_kill(self.0, libc::SIGINT) };
    }
}

/// The number of this process's session: 0 where its leader is outside of this process's namespace, as in a command that is run
/// in a container from without.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "the safe interface takes 0 for impossible")]
pub(crate) fn session() -> i32 {
    // SAFETY: the call has no condition.
    unsafe { libc::getsid(0) }
}

/// Ends this process with the status 1, whatever its threads do.
#[allow(unsafe_code, reason = "there is no safe interface")]
pub(crate) fn exit_at_once() {
    // SAFETY: the call does not return, and runs nothing of the program's.
    unsafe { libc::_exit(1) };
}

/// Ends this process and all others of its group, if it leads one.
pub(crate) fn kill_own_group() {
    let pid = rustix::process::getpid();
    if leads_group()
        && let Err(error) = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL)
    {
        tracing::debug!(%error, "could not end this process's group");
    }
}

/// In the child of a fork: lets go of a descriptor that is its parent's, whose number stays taken, since its owner here does
/// not know.
pub(crate) fn let_go(fd: impl std::os::fd::AsFd) -> std::io::Result<()> {
    use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    #[allow(unsafe_code, reason = "dup3 wants the descriptor that it replaces as an owned one")]
    // SAFETY: it is not dropped, so its owner stays the only one to close it.
    let mut taken = std::mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(fd.as_fd().as_raw_fd()) });
    Ok(rustix::io::dup3(&null, &mut taken, rustix::io::DupFlags::CLOEXEC)?)
}

/// Has a function called when this process ends by itself; one that is killed calls none. It may be called in the child of a fork.
#[allow(unsafe_code, reason = "there is no safe interface")]
pub(crate) fn at_exit(function: extern "C" fn()) {
    // SAFETY: it is a function of the program, or of a module that is never unloaded.
    unsafe { libc::atexit(function) };
}

/// The number of the user that this process acts for.
pub(crate) fn user_id() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether who is at the other end of a local connection is the same user.
#[cfg(target_os = "linux")]
pub(crate) fn peer_is_same_user(socket: &std::os::unix::net::UnixStream) -> bool {
    rustix::net::sockopt::socket_peercred(socket).is_ok_and(|peer| peer.uid.as_raw() == user_id())
}

/// Elsewhere the permissions of the socket have to do.
#[cfg(not(target_os = "linux"))]
pub(crate) fn peer_is_same_user(_: &std::os::unix::net::UnixStream) -> bool {
    true
}

/// The descriptors that this process has as standard input and output, which are nobody else's from now on: nothing comes from
/// standard input any more, and what is written to standard output goes to standard error.
pub(crate) fn take_standard_streams() -> std::io::Result<(OwnedFd, OwnedFd)> {
    const ABOVE_STANDARD: i32 = 3;
    let own = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, ABOVE_STANDARD);
    let (input, output) = (own(rustix::stdio::stdin())?, own(rustix::stdio::stdout())?);
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok((input, output))
}

/// What is written to standard output goes nowhere from now on.
pub(crate) fn silence_stdout() -> std::io::Result<()> {
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    Ok(rustix::stdio::dup2_stdout(null)?)
}

/// Sets environment variables. Only to be called before there is another thread.
#[allow(unsafe_code, reason = "reading the environment in another thread meanwhile would be a race")]
pub(crate) fn set_environment(variables: &std::collections::BTreeMap<String, String>) {
    for (name, value) in variables {
        // SAFETY: as the doc of `worker::serve` demands, there is no other thread.
        unsafe { std::env::set_var(name, value) };
    }
}

/// Adds to the niceness of this process.
pub(crate) fn add_niceness(niceness: i32) -> std::io::Result<()> {
    Ok(rustix::process::nice(niceness).map(drop)?)
}

/// Whether this process leads a process group.
pub(crate) fn leads_group() -> bool {
    process_group() == rustix::process::getpid().as_raw_pid()
}

/// The number of this process's group: 0 where its leader is outside of this process's namespace.
#[allow(unsafe_code, reason = "the safe interface takes 0 for impossible")]
fn process_group() -> i32 {
    // SAFETY: the call has no condition.
    unsafe { libc::getpgrp() }
}
