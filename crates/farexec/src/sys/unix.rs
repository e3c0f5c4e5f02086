//! Unix: pipes, waiting on descriptors, processes and their groups.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

/// Bytes that a gateway's pipes hold where the system allows it: a sender of large items is seldom stopped then.
const PIPE_BYTES: usize = 1 << 20;

/// A pipe whose ends no child process inherits: (read end, write end).
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC)?)
}

/// A pipe that holds as much as the system lets it.
pub(crate) fn large_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let ends = pipe()?;
    #[cfg(target_os = "linux")]
    if rustix::pipe::fcntl_setpipe_size(&ends.0, PIPE_BYTES).is_err() {
        tracing::debug!("the system's limit on pipe sizes is reached");
    }
    Ok(ends)
}

/// Makes writes return instead of waiting.
pub(crate) fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    Ok(rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?)
}

/// Two connected sockets.
pub(crate) fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (one, other) = std::os::unix::net::UnixStream::pair()?;
    Ok((one.into(), other.into()))
}

/// Ends a connection both ways, whoever else has a descriptor of it.
pub(crate) fn hang_up(socket: impl AsFd) {
    if let Err(error) = rustix::net::shutdown(socket, rustix::net::Shutdown::Both) {
        tracing::debug!(%error, "a connection had ended already");
    }
}

/// Says that nothing more will be sent on a connection.
pub(crate) fn end_sending(socket: impl AsFd) {
    if let Err(error) = rustix::net::shutdown(socket, rustix::net::Shutdown::Write) {
        tracing::debug!(%error, "a connection had ended already");
    }
}

/// What came of reading or writing without waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transfer {
    /// So many bytes moved.
    Bytes(usize),
    /// Nothing can move just now.
    WouldBlock,
    /// The other end is closed.
    Ended,
}

fn transfer(result: Result<usize, Errno>) -> io::Result<Transfer> {
    match result {
        Ok(0) => Ok(Transfer::Ended),
        Ok(count) => Ok(Transfer::Bytes(count)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(Transfer::WouldBlock),
        Err(Errno::PIPE | Errno::CONNRESET) => Ok(Transfer::Ended),
        Err(error) => Err(error.into()),
    }
}

/// Reads into `buffer`. Waits if the descriptor may wait and nothing is there: ask [`Watch`] first.
pub(crate) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Transfer> {
    transfer(rustix::io::read(fd, buffer))
}

/// Writes what can be written without waiting; the descriptor is non-blocking.
pub(crate) fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<Transfer> {
    transfer(rustix::io::write(fd, bytes))
}

/// Writes what can be written of several buffers without waiting; the descriptor is non-blocking.
pub(crate) fn write_parts(fd: BorrowedFd<'_>, parts: &[&[u8]]) -> io::Result<Transfer> {
    let parts: Vec<io::IoSlice<'_>> = parts.iter().map(|part| io::IoSlice::new(part)).collect();
    transfer(rustix::io::writev(fd, &parts))
}

/// Gets a thread out of waiting on descriptors.
#[derive(Debug)]
pub(crate) struct Waker {
    read: OwnedFd,
    write: OwnedFd,
}

impl Waker {
    pub(crate) fn new() -> io::Result<Self> {
        let (read, write) = pipe()?;
        set_nonblocking(&read)?;
        set_nonblocking(&write)?;
        Ok(Self { read, write })
    }

    /// Makes the present or the next wait with this waker return at once.
    pub(crate) fn wake(&self) {
        // A full pipe is a wake-up that is under way already.
        let _ = rustix::io::write(&self.write, &[1]);
    }

    fn reset(&self) {
        let mut bytes = [0; 64];
        while matches!(rustix::io::read(&self.read, &mut bytes), Ok(64)) {}
    }
}

/// Why a wait on a descriptor ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// The descriptor is ready, or its other end is closed.
    Ready,
    /// The [`Waker`] was used.
    Waker,
    /// The time is up.
    Timeout,
    /// A signal came.
    Signal,
}

/// Waits until `fd` can be read.
pub(crate) fn wait_readable(
    fd: BorrowedFd<'_>,
    waker: Option<&Waker>,
    timeout: Option<Duration>,
) -> io::Result<Woken> {
    wait(fd, PollFlags::IN, waker, timeout)
}

/// Waits until `fd` can be written.
pub(crate) fn wait_writable(
    fd: BorrowedFd<'_>,
    waker: Option<&Waker>,
    timeout: Option<Duration>,
) -> io::Result<Woken> {
    wait(fd, PollFlags::OUT, waker, timeout)
}

/// Whether something can be read just now.
pub(crate) fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1..))
}

/// The longest nap of a thread that nothing can wake.
const NAP_WITHOUT_WAKER: Duration = Duration::from_millis(5);

fn wait(
    fd: BorrowedFd<'_>,
    flags: PollFlags,
    waker: Option<&Waker>,
    timeout: Option<Duration>,
) -> io::Result<Woken> {
    let main = PollFd::from_borrowed_fd(fd, flags);
    let Some(waker) = waker else {
        let nap = timeout.map_or(NAP_WITHOUT_WAKER, |timeout| timeout.min(NAP_WITHOUT_WAKER));
        return match poll(&mut [main], Timespec::try_from(nap).ok().as_ref()) {
            Ok(0) => Ok(Woken::Timeout),
            Ok(_) => Ok(Woken::Ready),
            Err(Errno::INTR) => Ok(Woken::Signal),
            Err(error) => Err(error.into()),
        };
    };
    let mut fds = [main, PollFd::new(&waker.read, PollFlags::IN)];
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    match poll(&mut fds, timeout.as_ref()) {
        Ok(0) => Ok(Woken::Timeout),
        Ok(_) if !fds[1].revents().is_empty() => {
            let ready = !fds[0].revents().is_empty();
            waker.reset();
            Ok(if ready { Woken::Ready } else { Woken::Waker })
        }
        Ok(_) => Ok(Woken::Ready),
        Err(Errno::INTR) => Ok(Woken::Signal),
        Err(error) => Err(error.into()),
    }
}

/// A descriptor of this process that a child is to have, under the same number.
#[derive(Debug)]
pub(crate) struct Passed {
    fd: OwnedFd,
    /// Number, device and inode: how the child finds and checks it.
    pub(crate) identity: [i64; 3],
}

/// A duplicate of this process's standard output for a child to write to, if there is one.
pub(crate) fn pass_stdout() -> Option<Passed> {
    pass(rustix::stdio::stdout())
}

/// A duplicate of a descriptor for a child to have, if it is open.
pub(crate) fn pass(fd: impl AsFd) -> Option<Passed> {
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
}

/// Starts a process that has none of our descriptors but its standard ones and the one it is to have, as the leader of a
/// process group of its own unless it asks at the terminal.
#[allow(unsafe_code, reason = "what has to happen between fork and exec has no safe interface")]
pub(crate) fn spawn(command: &mut Command, start: Start) -> io::Result<Process> {
    let Start { asks, nice, passed } = start;
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
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("the system gave an impossible process id"))?;
    // Since nobody else waits for it, the number stays its own until `Process::reap`.
    drop(child);
    Process::watch(pid, !asks)
}

/// Marks every descriptor but the standard ones: a program may hold some, from a shell or a library of C, that nobody meant
/// for our children, where a pipe kept open would never be at its end.
#[allow(unsafe_code, reason = "there is no safe interface")]
fn close_the_rest_on_exec() {
    const FIRST: libc::c_int = 3;
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

/// A child process, and the process group that it leads if it leads one.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    leads: bool,
    exited: Arc<OwnedFd>,
}

impl Process {
    #[cfg(target_os = "linux")]
    fn watch(pid: Pid, leads: bool) -> io::Result<Self> {
        let exited = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
        Ok(Self { pid, leads, exited: Arc::new(exited) })
    }

    #[cfg(not(target_os = "linux"))]
    fn watch(pid: Pid, leads: bool) -> io::Result<Self> {
        let (exited, alive) = pipe()?;
        std::thread::Builder::new().name("farexec-wait".into()).spawn(move || {
            let wait = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while rustix::process::waitid(WaitId::Pid(pid), wait) == Err(Errno::INTR) {}
            drop(alive);
        })?;
        Ok(Self { pid, leads, exited: Arc::new(exited) })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Becomes readable when the process has exited.
    pub(crate) fn exited(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.exited)
    }

    /// How the process exited, if it has; it stays a zombie, so its number cannot mean another. `Err`: somebody else in
    /// this program waited for it.
    pub(crate) fn status(&self) -> io::Result<Option<ExitStatus>> {
        self.waitid(WaitIdOptions::NOWAIT)
    }

    /// Lets go of the exited process.
    pub(crate) fn reap(&self) {
        if let Err(error) = self.waitid(WaitIdOptions::empty()) {
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
        let result = match self.leads {
            true => rustix::process::kill_process_group(self.pid, signal),
            false => rustix::process::kill_process(self.pid, signal),
        };
        match result {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => {
                tracing::debug!(pid = self.pid(), %error, "could not signal a worker's process group")
            }
        }
    }
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

/// The number of this process: it changes in the child of a fork.
pub(crate) fn process_id() -> u32 {
    std::process::id()
}

/// Keeps signals away from the calling thread, so that they reach the program's own.
#[allow(unsafe_code, reason = "signal masks have no safe interface")]
pub(crate) fn block_signals() {
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the first call fills the set, the second reads it and changes this thread's mask.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), std::ptr::null_mut());
    }
}
