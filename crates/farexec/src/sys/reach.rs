//! Whether the other end of a TCP connection can still be reached, as this end's system knows it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::net::sockopt;

/// Has the system ask the other one, after each `interval` in which nothing came, whether it is there: after `count` questions without an answer the connection ends
/// with an error. It does not ask while something sent waits to be acknowledged.
pub(crate) fn probe(socket: impl AsFd, interval: Duration, count: u32) -> io::Result<()> {
    sockopt::set_tcp_keepidle(&socket, interval)?;
    sockopt::set_tcp_keepintvl(&socket, interval)?;
    sockopt::set_tcp_keepcnt(&socket, count)?;
    Ok(sockopt::set_socket_keepalive(&socket, true)?)
}

/// For how long the other system has acknowledged nothing, if it owes an answer just now: to what was sent, or to the question whether it has room again.
///
/// The socket option that has the system watch this by itself (`TCP_USER_TIMEOUT`) also ends a connection to a process that is there, and reads nothing for so long.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "the state of a connection has no safe interface")]
pub(crate) fn unanswered(socket: BorrowedFd<'_>) -> Option<Duration> {
    use std::os::fd::AsRawFd;

    let mut info = std::mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut size = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).ok()?;
    // SAFETY: the system writes at most `size` bytes of what is `size` bytes large, and every bit pattern is a `tcp_info`, zeros included.
    let (status, info) = unsafe {
        let status = libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut size,
        );
        (status, info.assume_init())
    };
    let owes = status == 0 && (info.tcpi_unacked > 0 || info.tcpi_probes > 0);
    owes.then(|| Duration::from_millis(info.tcpi_last_ack_recv.into()))
}

/// Not known elsewhere: what is sent to a host that vanished is lost when the system gives up.
#[cfg(not(target_os = "linux"))]
pub(crate) fn unanswered(_socket: BorrowedFd<'_>) -> Option<Duration> {
    None
}
