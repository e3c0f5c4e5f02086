//! How it is noticed that a host is out of reach, so that nothing comes any more, not even the end of the connection (`keepalive=`).
//!
//! The systems at both ends, or `ssh` and the host's `sshd`, do the asking and the answering, so a worker that computes, is stopped, or reads nothing is none that vanished.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::limits::KEEPALIVE;
use crate::link::Link;
use crate::reactor::Reactor;
use crate::spec::Spec;

/// How often a host is asked whether it is there, and how often it may leave that unanswered: together no longer than it may be out of reach.
#[derive(Clone, Copy)]
struct Probes {
    interval: u64,
    count: u64,
}

impl Probes {
    /// `None` for no time at all, which means that nobody asks.
    fn within(limit: Duration) -> Option<Self> {
        let interval = limit.as_secs() / 4;
        (interval > 0).then(|| Self { interval, count: limit.as_secs() / interval - 1 })
    }

    fn interval(self) -> Duration {
        Duration::from_secs(self.interval)
    }
}

/// The options of an `ssh` that make its connection end when the host is out of reach, if the spec asks for that.
pub(super) fn asked_for(spec: &Spec) -> Vec<String> {
    spec.keepalive.map(options).unwrap_or_default()
}

/// Those, or the ones of a spec that says nothing, unless the user's configuration of `ssh` has its own.
pub(super) fn options_for(keepalive: Option<Duration>, arguments: &[String]) -> Vec<String> {
    match keepalive {
        Some(limit) => options(limit),
        None if is_configured(arguments) => Vec::new(),
        None => options(KEEPALIVE),
    }
}

fn options(limit: Duration) -> Vec<String> {
    let option = |name: &str, value: u64| ["-o".to_owned(), format!("{name}={value}")];
    let Some(Probes { interval, count }) = Probes::within(limit) else {
        return option("ServerAliveInterval", 0).to_vec();
    };
    [option("ServerAliveInterval", interval), option("ServerAliveCountMax", count)].concat()
}

/// Whether `ssh` with these arguments asks by itself. Only it knows what its configuration says of a host.
fn is_configured(arguments: &[String]) -> bool {
    let mut command = Command::new("ssh");
    // Debian's asks every 300 seconds by itself where nobody can be asked for a password, which is nobody's choice.
    command.args(["-G", "-o", "BatchMode=no"]).args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
    // One that cannot say it says why when it is to connect.
    let Ok(output) = command.output() else { return true };
    let said = String::from_utf8_lossy(&output.stdout);
    !said.lines().any(|line| line == "serveraliveinterval 0")
}

/// A connection of a gateway to a socket server, whose host may be out of reach for so long.
pub(super) struct Connection {
    limit: Duration,
    probes: Option<Probes>,
}

impl Connection {
    /// Has the systems ask each other while nothing is sent.
    pub(super) fn probe(socket: &TcpStream, spec: &Spec) -> io::Result<Self> {
        let limit = spec.keepalive.unwrap_or(KEEPALIVE);
        let probes = Probes::within(limit);
        if let Some(probes) = probes {
            let count = u32::try_from(probes.count).unwrap_or(u32::MAX);
            crate::sys::probe(socket, probes.interval(), count)?;
        }
        Ok(Self { limit, probes })
    }

    /// Has the reactor look whether what is sent is acknowledged, for as long as the connection is open.
    pub(super) fn watch(self, socket: Weak<OwnedFd>, link: &Arc<Link>) {
        if let Some(probes) = self.probes {
            let pause = probes.interval();
            let watched = Watched { limit: self.limit, pause, socket, link: Arc::downgrade(link) };
            watched.look_later(link.reactor(), false);
        }
    }
}

struct Watched {
    limit: Duration,
    pause: Duration,
    socket: Weak<OwnedFd>,
    link: Weak<Link>,
}

impl Watched {
    /// One look does not tell: a worker that has no room is asked whether it has some again, after longer and longer times, and the answer may be on its way.
    fn look_later(self, reactor: &Reactor, was_late: bool) {
        reactor.at(Instant::now() + self.pause, move |reactor| {
            let (Some(socket), Some(link)) = (self.socket.upgrade(), self.link.upgrade()) else { return };
            let is_late = crate::sys::unanswered(socket.as_fd()).is_some_and(|time| time >= self.limit);
            if is_late && was_late {
                let seconds = self.limit.as_secs();
                link.cut(format!("its host acknowledged nothing for {seconds} seconds (`keepalive=`)"));
            } else {
                drop((socket, link));
                self.look_later(reactor, is_late);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_questions_are_asked_within_the_limit() {
        for limit in 4..10_000 {
            let probes = Probes::within(Duration::from_secs(limit)).unwrap();
            assert!(probes.count >= 3);
            assert!(probes.interval * (probes.count + 1) <= limit);
        }
        assert!(Probes::within(Duration::ZERO).is_none());
    }

    #[test]
    fn a_spec_that_wants_no_questions_overrides_the_configuration() {
        assert_eq!(options(Duration::ZERO), ["-o", "ServerAliveInterval=0"]);
        assert_eq!(
            options(Duration::from_secs(60)),
            ["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3"]
        );
    }
}
