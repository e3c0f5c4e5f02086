//! Unix: pipes, and waiting on descriptors.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::pipe::{PipeFlags, pipe_with};

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

/// What takes everything, and gives nothing.
pub(crate) fn null() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, rustix::fs::Mode::empty())?)
}

/// Makes writes return instead of waiting.
pub(crate) fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    Ok(rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?)
}

/// Why a file's content is not this user's secret, if it is not.
pub(crate) fn why_not_private(file: impl AsFd) -> io::Result<Option<String>> {
    let status = rustix::fs::fstat(file)?;
    let mode = status.st_mode & 0o777;
    if mode & 0o077 != 0 {
        return Ok(Some(format!("others may read or write it (its mode is {mode:03o}): chmod 600 it")));
    }
    let owner = status.st_uid;
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Ok(Some(format!("it belongs to another user, with the number {owner}")));
    }
    Ok(None)
}

/// Two connected sockets.
pub(crate) fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (one, other) = std::os::unix::net::UnixStream::pair()?;
    Ok((one.into(), other.into()))
}

/// Writes to a socket what can be written without waiting, and hands descriptors over with the first byte of it.
pub(crate) fn send_with(socket: BorrowedFd<'_>, bytes: &[u8], passed: &[OwnedFd]) -> io::Result<Transfer> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_PASSED))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let passed: Vec<_> = passed.iter().map(AsFd::as_fd).collect();
    if !passed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&passed)) {
        return Err(io::Error::other("so many descriptors are not passed at once"));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    transfer(rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags))
}

/// Descriptors that can be handed over at once.
const MOST_PASSED: usize = 8;

/// The working directory as a descriptor, or another directory.
pub(crate) fn open_directory(path: Option<&Path>) -> io::Result<OwnedFd> {
    #[cfg(target_os = "linux")]
    let access = OFlags::PATH;
    #[cfg(not(target_os = "linux"))]
    let access = OFlags::RDONLY;
    let flags = access | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path.unwrap_or(Path::new(".")), flags, rustix::fs::Mode::empty())?)
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

/// Reads into `buffer`. Waits if the descriptor may wait and nothing is there: ask [`wait_readable`] first.
pub(crate) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Transfer> {
    transfer(rustix::io::read(fd, buffer))
}

/// As [`read`], behind what is in `buffer`, as far as that has room already: memory that nothing is read into is not touched.
pub(crate) fn read_spare(fd: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> io::Result<Transfer> {
    transfer(rustix::io::read(fd, spare_capacity(buffer)))
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
