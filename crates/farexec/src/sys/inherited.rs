//! What a child process has from this one besides its descriptors, for one that another process forks in our stead.

use std::io;

#[cfg(target_os = "linux")]
use rustix::process::{Resource, getpriority_process, getrlimit};

#[cfg(target_os = "linux")]
use super::{file_identity, this_process::session};

/// What a child that we started just now would have from us.
#[derive(Debug)]
pub(crate) struct Inherited {
    /// What no process can give to a child unless it has it itself: who it is, what it may do, what it sees. As text, to be compared.
    pub(crate) identity: String,
    pub(crate) umask: u32,
    /// The signals that are ignored, from bit 0 for signal 1.
    pub(crate) ignored: u64,
    pub(crate) nice: i32,
    /// Soft and hard limits, by their numbers.
    pub(crate) limits: [(u64, u64); 16],
    /// The processors it may run on, one bit each.
    pub(crate) processors: Vec<u8>,
}

/// Lines of `/proc/self/status` that are a process's identity.
#[cfg(target_os = "linux")]
const IDENTITY: [&str; 9] =
    ["Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp"];

/// What a process may see in its own way.
#[cfg(target_os = "linux")]
const NAMESPACES: [&str; 6] = ["mnt", "net", "user", "pid_for_children", "uts", "ipc"];

/// Limits in the order of their numbers.
#[cfg(target_os = "linux")]
const LIMITS: [Resource; 16] = [
    Resource::Cpu,
    Resource::Fsize,
    Resource::Data,
    Resource::Stack,
    Resource::Core,
    Resource::Rss,
    Resource::Nproc,
    Resource::Nofile,
    Resource::Memlock,
    Resource::As,
    Resource::Locks,
    Resource::Sigpending,
    Resource::Msgqueue,
    Resource::Nice,
    Resource::Rtprio,
    Resource::Rttime,
];

/// What a child of this thread would have.
#[cfg(target_os = "linux")]
pub(crate) fn inherited() -> io::Result<Inherited> {
    let status = std::fs::read_to_string("/proc/thread-self/status")?;
    let line = |name: &str| {
        let rest = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        rest.map(str::trim).ok_or_else(|| io::Error::other(format!("the system does not tell {name}")))
    };
    let parse = |text: &str, radix| u64::from_str_radix(text, radix).map_err(io::Error::other);
    let mut identity = String::new();
    for name in IDENTITY {
        identity.push_str(line(name).unwrap_or_default());
        identity.push('\n');
    }
    for name in NAMESPACES {
        let found = std::fs::read_link(format!("/proc/thread-self/ns/{name}")).unwrap_or_default();
        identity.push_str(&found.to_string_lossy());
    }
    identity.push_str(&format!("{} {:?}", session(), file_identity("/".as_ref())));
    let mut processors = Vec::new();
    // Groups of 32 bits, the lowest last.
    for group in line("Cpus_allowed")?.rsplit(',') {
        processors.extend_from_slice(&u32::try_from(parse(group, 16)?).unwrap_or(0).to_le_bytes());
    }
    Ok(Inherited {
        identity,
        umask: u32::try_from(parse(line("Umask")?, 8)?).unwrap_or(0),
        ignored: parse(line("SigIgn")?, 16)?,
        nice: getpriority_process(None)?,
        limits: LIMITS.map(|resource| {
            let limit = getrlimit(resource);
            (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX))
        }),
        processors,
    })
}

/// Nobody has found out yet how to learn that here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn inherited() -> io::Result<Inherited> {
    Err(io::ErrorKind::Unsupported.into())
}
